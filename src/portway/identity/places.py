"""Where Nodes are, as the API server says: for proxies that cannot know it themselves.

API servers from 1.35 on copy the zone of a Node to its pods, where a proxy reads it. For older ones the control plane
looks it up when a proxy asks for a certificate: one small question for each Node, instead of following all of them.

Source: Kubernetes, "Well-Known Labels", `topology.kubernetes.io/zone`; KEP-4742.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol, final

import msgspec
import structlog

from portway.identity.messages import Place
from portway.kubernetes.errors import ApiError, ApiUnreachable, ConnectionProblem
from portway.kubernetes.paths import resource_path

ZONE: Final = "topology.kubernetes.io/zone"
REGION: Final = "topology.kubernetes.io/region"
REMEMBERED: Final = 3600.0
"""Seconds for which a Node's place is believed: a Node of the same name may be another one."""
ASKED_AGAIN: Final = 60.0
"""... and that it has none: the cloud's controller labels a new Node somewhat later."""
MOST: Final = 10_000
"""Nodes that are remembered."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Reads(Protocol):
    """What is needed of `portway.kubernetes.client.ApiClient`."""

    async def get(self, path: str, params: Mapping[str, str]) -> bytes: ...


class _Meta(msgspec.Struct, frozen=True):
    labels: Mapping[str, str] = {}


class _Node(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()


class _Nodes(msgspec.Struct, frozen=True):
    items: tuple[_Node, ...] = ()


@final
class Places:
    """Asks the API server where a Node is.

    Args:
        client: its user must be allowed to list `nodes`.
        clock: seconds, never going back.
    """

    def __init__(self, client: Reads, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[str, tuple[Place, float]] = {}
        self._told = ""

    async def of(self, node: str) -> Place:
        """Where a Node is; empty if it has no such label, or nobody can be asked: no certificate depends on it."""
        place, until = self._known.get(node, (Place(), 0.0))
        if not node or self._clock() < until:
            return place
        try:
            place = await self._ask(node)
        except (ApiError, ApiUnreachable, ConnectionProblem, msgspec.MsgspecError) as error:
            if str(error) != self._told:
                self._told = str(error)
                log.warning("zones of Nodes cannot be read", problem=self._told)
            return place
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[node] = place, self._clock() + (REMEMBERED if place.zone else ASKED_AGAIN)
        return place

    async def _ask(self, node: str) -> Place:
        # A list of one: Nodes may be listed anyway, for the addresses of fleets, and `get` would be another right.
        params = {"fieldSelector": f"metadata.name={node}"}
        found = msgspec.json.decode(await self._client.get(resource_path("", "v1", "nodes"), params), type=_Nodes)
        labels = found.items[0].metadata.labels if found.items else {}
        return Place(zone=labels.get(ZONE, ""), region=labels.get(REGION, ""))
