"""How much is done for whoever comes to a door that is open to every pod: by address, for nobody has shown who it is.

Rules without sockets and clocks:

- An address has so many connections at most; one more is closed, and comes again. All together have so many: then the
  address that has most gives its oldest one up for who comes next, who waits if each has one.
- An address has credit, which a request gives back unless its token is refused. So tokens that are made up cost the API
  server a few reviews, and proxies behind one address (NAT, a Node) get what they want: who has shown a good token is
  bounded as the pod that it is (`issuer.py`).
"""

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar, final

import msgspec

V = TypeVar("V", bound=Hashable)


class VisitorLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much."""

    connections: int = 256
    """Each takes some 350 KB, most of it asyncio's buffer for TLS."""
    per_address: int = 16
    lifetime_s: float = 15.0
    """Of a connection, from its first packet to the answer; proxies wait for 10 s."""
    reading_s: float = 5.0
    """For the request's body."""
    credit: int = 16
    """Requests of an address whose tokens may be refused, or that may be under way, at once."""
    credit_s: float = 10.0
    """Afterwards, one in so many seconds."""
    addresses: int = 10_000
    """How many are remembered, the latest ones."""


@final
class Visits(Generic[V]):
    """The connections that are open, oldest first."""

    def __init__(self, limits: VisitorLimits) -> None:
        self._limits = limits
        self._open: dict[V, str] = {}

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, visit: V, address: str) -> None:
        self._open[visit] = address

    def end(self, visit: V) -> None:
        self._open.pop(visit, None)

    def has_enough(self, address: str) -> bool:
        """Whether that address gets no more."""
        return sum(one == address for one in self._open.values()) >= self._limits.per_address

    @property
    def is_full(self) -> bool:
        """Whether one has to go before another comes."""
        return len(self._open) >= self._limits.connections

    def to_go(self) -> V | None:
        """Who; `None`: nobody has more than one."""
        (greedy, most), *_ = Counter(self._open.values()).most_common(1)
        return next(visit for visit, one in self._open.items() if one == greedy) if most > 1 else None
