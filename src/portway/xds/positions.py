"""How far a control plane has read its sources, so that no proxy is taken back in time by a replica that lags.

Versions of resources are digests: two replicas give the same content the same version, and neither can tell which of
two is newer. So each fleet has a *marker* beside its resources: a cluster whose endpoints (there are none) always have
the position of the sources as their version. A proxy that reconnects reports the versions that it holds, wherever it
connects to, and so tells how far the replica was that it had last; nothing in the proxy takes part in that.

    the marker changes with each change of the fleet, and goes with endpoints, which pass whatever else is under way:
    a proxy may hold a marker whose change it has not got yet (it waits for nothing then), hardly ever the reverse
    a replica that has seen as much     answers at once
    one that has not                    hears the proxy out and says nothing until it has; soon it lists anew what it
                                        lacks, and after a while it sends the proxy away, to look for another replica

What was listed since somebody showed a newer position is all there is, whatever its version: etcd may have been
restored to an older state, and then the past is right. Time alone proves nothing: a replica without the API server may
be behind for hours. Only kinds that both know are compared (either may be a version older). Source of the order:
KEP-5504, resource versions of one kind are integers that grow. Design: `docs/design/replicas.md`.
"""

from collections.abc import Mapping
from typing import NamedTuple, final

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


class Shown(NamedTuple):
    """The newest version of a kind that some proxy had and we did not."""

    version: int
    since: float
    """When we heard of it first."""


@final
class Reading:
    """How far one replica has read its sources, beside what proxies show of it."""

    def __init__(self) -> None:
        self.reached: Position | None = None
        """Up to where all has been handed out; `None`: nobody has said so yet."""
        self._as_of: Mapping[str, float] = {}
        self._shown: dict[str, Shown] = {}

    def reach(self, position: Position, as_of: Mapping[str, float]) -> None:
        """All that comes from up to there is handed out.

        Args:
            as_of: by kind, a time of which all that there was is known, since it was asked for after that.
        """
        self.reached = position
        self._as_of = as_of

    def hear(self, theirs: Position, now: float) -> None:
        """A proxy has that position."""
        for kind, version in theirs.items():
            shown = self._shown.get(kind)
            # An older version than one that was shown before is known as soon as that one is.
            if version > (self.reached or theirs).get(kind, version) and (shown is None or shown.version < version):
                self._shown[kind] = Shown(version, now)

    def awaited(self, theirs: Position) -> dict[str, Shown]:
        """What we have to know before we may speak to a proxy that has that position, which has been heard."""
        reached = theirs if self.reached is None else self.reached
        return {
            kind: shown
            for kind, shown in self._shown.items()
            if theirs.get(kind, 0) > reached.get(kind, shown.version)
            and self._as_of.get(kind, float("-inf")) < shown.since
        }


@final
class Admission:
    """Whether a replica may speak to one proxy yet. Asked until it says yes.

    Args:
        marker: `None`: sources have no positions, so there is nothing to compare.
        patience: seconds; so long a proxy that has more than we is kept waiting.
    """

    def __init__(self, marker: Marker | None, reading: Reading, now: float, patience: float) -> None:
        self._marker = marker
        self._reading = reading
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

    def is_granted(self, now: float) -> bool:
        """Whether everything that the proxy may have is known here."""
        if self._marker is None:
            return True
        if self._theirs is None:
            return now >= self._connected_at + HEARD_WITHIN_S
        if self._reading.reached is None:
            return not self._theirs
        self._reading.hear(self._theirs, now)
        return not self.awaited

    @property
    def awaited(self) -> dict[str, Shown]:
        """By kind, what the proxy, or one before it, has seen and we have not."""
        return {} if self._theirs is None else self._reading.awaited(self._theirs)

    def due(self) -> float | None:
        """When the proxy is to be heard, or to be sent away; `None`: there is nothing to wait for."""
        if self._theirs is None:
            return self._connected_at + HEARD_WITHIN_S
        return self._connected_at + self._patience if self.awaited else None

    def is_over(self, now: float) -> bool:
        """Whether the proxy has waited long enough."""
        due = self.due()
        return self._theirs is not None and due is not None and now >= due
