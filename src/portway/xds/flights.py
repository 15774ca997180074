"""Responses under way to one proxy: how much of each type may be, and how large each.

While a response of a type is unanswered, changes of that type wait and merge: a burst costs the proxy one rebuild
instead of many, and a lone change goes at once. The window is per type, so endpoints pass everything else.
"""

from collections.abc import Mapping
from typing import final

import msgspec

from portway.model.resource import Resource, ResourceType

MEBIBYTE = 1 << 20
OVERHEAD_BYTES = 160  # of one resource in a response: type URL twice over, version, name lengths; rounded up


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """The size of one response of a type; one resource always fits."""

    resources: int = 1000
    size_bytes: int = 2 * MEBIBYTE
    """Half of what a gRPC library takes by default, should something other than Envoy listen."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much may be under way to one proxy."""

    chunk: Chunk = Chunk()
    virtual_hosts: Chunk = Chunk(resources=25_000, size_bytes=16 * MEBIBYTE)
    """Of virtual hosts. Larger, since Envoy rebuilds the whole route configuration for each response: twenty chunks of
    1,000 cost it ten times the time of one of 20,000. Envoy's own client has no limit."""
    clusters_patience: float = 0.1
    """Seconds after which an unanswered response of clusters no longer keeps back the next: Envoy withholds the
    answer for up to 15 s (endpoints) or a minute (DNS) while one of them is warming."""
    patience: float = 10.0
    """The same for other types, which Envoy answers as soon as it has read them: several rebuilds of 20,000 rich
    hosts."""
    size_bytes: int = 64 * MEBIBYTE
    """Of all unanswered responses; beyond, only endpoints go."""

    def chunk_of(self, kind: ResourceType) -> Chunk:
        """The size of one response of that type."""
        return self.virtual_hosts if kind is ResourceType.VIRTUAL_HOST else self.chunk

    def patience_of(self, kind: ResourceType) -> float:
        """How long an unanswered response of that type keeps back the next; seconds."""
        return self.clusters_patience if kind is ResourceType.CLUSTER else self.patience


def wire_size_bytes(resource: Resource) -> int:
    """What a resource adds to a response; an upper bound good enough for limits."""
    return len(resource.body) + len(resource.key.name) + OVERHEAD_BYTES


class Flight(msgspec.Struct, frozen=True, kw_only=True):
    """One response that the proxy has not answered."""

    nonce: int
    type: ResourceType
    resources: tuple[Resource, ...]
    removed: tuple[str, ...]
    size_bytes: int
    sent_at: float
    last_chance: bool = False
    """Whether a refusal of a single resource is the last word, see `isolation.py`."""


@final
class Flights:
    """The unanswered responses to one proxy, by nonce."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_nonce: dict[int, Flight] = {}
        self._of_type: Mapping[ResourceType, dict[int, Flight]] = {kind: {} for kind in ResourceType}
        self.size_bytes = 0
        """Of all of them."""

    def __len__(self) -> int:
        return len(self._by_nonce)

    def of_type(self, kind: ResourceType) -> int:
        """How many responses of that type are unanswered."""
        return len(self._of_type[kind])

    def add(self, flight: Flight) -> None:
        """A response is on its way."""
        self._by_nonce[flight.nonce] = flight
        self._of_type[flight.type][flight.nonce] = flight
        self.size_bytes += flight.size_bytes

    def answer(self, nonce: str) -> Flight | None:
        """Take out the response that was answered; `None`: no such one is under way."""
        flight = self._by_nonce.pop(int(nonce), None) if nonce.isascii() and nonce.isdigit() else None
        if flight is not None:
            del self._of_type[flight.type][flight.nonce]
            self.size_bytes -= flight.size_bytes
        return flight

    def opens_at(self, kind: ResourceType, now: float) -> float | None:
        """When the next response of this type may go: `now` or later; `None`: only after an answer."""
        if kind is not ResourceType.ENDPOINTS and self.size_bytes >= self._limits.size_bytes:
            return None
        under_way = self._of_type[kind]
        if not under_way:
            return now
        latest = under_way[next(reversed(under_way))]
        return max(now, latest.sent_at + self._limits.patience_of(kind))
