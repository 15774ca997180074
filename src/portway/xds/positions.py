"""How far a control plane has read its sources, so that no proxy is taken back in time by a replica that lags.

Versions of resources are digests: two replicas give the same content the same version, and neither can tell which of
two is newer. So each fleet has a *marker* beside its resources: a cluster whose endpoints (there are none) always have
the position of the sources as their version. A proxy that reconnects reports the versions that it holds, wherever it
connects to, and so tells how far the replica was that it had last; nothing in the proxy takes part in that.

    the marker changes with each change of the fleet, and goes with endpoints, which pass whatever else is under way:
    a proxy may hold a marker whose change it has not got yet (it waits for nothing then), hardly ever the reverse
    a replica that has seen as much     answers at once
    one that has not                    hears the proxy out and says nothing until it has, or has waited long enough

The wait is bounded, since etcd may have been restored to an older state: then the past is right. Only kinds that both
know are compared (either may be a version older). Source of the order: KEP-5504, resource versions of one kind are
integers that grow. Design: `docs/design/replicas.md`.
"""

from collections.abc import Mapping
from typing import final

import msgspec

from portway.model.resource import Resource, ResourceKey, ResourceType
from portway.xds.messages import Request

Position = Mapping[str, int]
"""By kind of object, the highest resource version of which something may have come."""

HEARD_WITHIN_S = 2.0
"""Envoy sends the first requests of all types one after the other; one that holds the marker and does not say in which
version by then does not say it at all."""


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """The two resources of a fleet that carry its position."""

    cluster: Resource
    endpoints: Resource
    """Its version is replaced by the position, its body stays: to Envoy nothing ever changes."""

    @property
    def keys(self) -> tuple[ResourceKey, ResourceKey]:
        return self.cluster.key, self.endpoints.key

    def at(self, position: Position) -> tuple[Resource, Resource]:
        """Both, as they are sent now."""
        version = encode_position(position)
        return self.cluster, msgspec.structs.replace(self.endpoints, version=version)


def encode_position(position: Position) -> str:
    """As a version: `kind=12,other=34`, sorted. Kinds hold neither `=` nor a comma."""
    return ",".join(f"{kind}={version}" for kind, version in sorted(position.items()))


def decode_position(text: str) -> dict[str, int]:
    """The inverse; parts that cannot be read, as a later Portway may write them, are left out."""
    found: dict[str, int] = {}
    for part in text.split(","):
        kind, _, version = part.partition("=")
        if kind and version.isascii() and version.isdigit():
            found[kind] = int(version)
    return found


def covers(ours: Position, theirs: Position) -> bool:
    """Whether we have seen at least as much, of the kinds that both know."""
    return all(ours[kind] >= version for kind, version in theirs.items() if kind in ours)


@final
class Admission:
    """Whether a replica may speak to one proxy yet. Asked until it says yes.

    Args:
        marker: `None`: sources have no positions, so there is nothing to compare.
        patience: seconds; so long a proxy that has more than we is kept waiting.
    """

    def __init__(self, marker: Marker | None, now: float, patience: float) -> None:
        self._marker = marker
        self._connected_at = now
        self._patience = patience
        self._theirs: Position | None = None

    def hear(self, request: Request) -> None:
        """Take in what one of the first requests says about the proxy's position."""
        if self._marker is None or request.nonce:
            return
        cluster, endpoints = self._marker.keys
        if request.type is ResourceType.ENDPOINTS:
            self._theirs = decode_position(request.versions.get(endpoints.name, ""))
        elif request.type is ResourceType.CLUSTER and cluster.name not in request.versions:
            self._theirs = {}  # a new one

    def is_granted(self, reached: Position | None, now: float) -> bool:
        """Whether everything that the proxy may have is known here, or it waited long enough."""
        if self._marker is None or reached is None:
            return True
        if self._theirs is None:
            return now >= self._connected_at + HEARD_WITHIN_S
        return covers(reached, self._theirs) or now >= self._connected_at + self._patience

    def due(self, now: float) -> float | None:
        """When to ask again although nothing happened; `None`: that time has gone."""
        wait = HEARD_WITHIN_S if self._theirs is None else self._patience
        due = self._connected_at + wait
        return due if due > now else None

    def lacking(self, reached: Position | None) -> dict[str, int]:
        """Of the kinds of which the proxy has seen more than we, its position."""
        ours = reached or {}
        return {kind: version for kind, version in (self._theirs or {}).items() if ours.get(kind, version) < version}
