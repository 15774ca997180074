"""How much those who show a certificate may ask of a discovery server.

Whoever owns a Gateway can take its proxies' certificate and speak to us with it, so a certificate opens one fleet's
configuration and not our memory. Bounded are

- streams, of an identity and of an identity at one address (one proxy has one, or more while it is replaced or has died
  without a word: 40 s), first requests that are being read, and the time that a first request takes;
- names and versions that are kept for a fleet's streams beyond what it has, and their length. Some are in order: what
  was removed while a proxy was away it still reports, until it is told;
- names that are let go of: only what was asked for can be;
- what a proxy says of itself, and of what it refuses: that is kept, too, for as long as it is refused.

A Unix socket shows no certificate: whoever can open it may do as they like.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Protocol, TypeVar, final

import msgspec

K = TypeVar("K")
Identities = tuple[bytes, ...]


class CrowdLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much."""

    streams: int = 2000
    """Of an identity: a fleet may have a proxy on each Node."""
    streams_at_address: int = 256
    """Of an identity at one address, which may be that of a Node for all that comes from it."""
    first_requests: int = 4
    """Of an identity, read at once; each may be of `server.MAX_REQUEST_BYTES`. More wait."""
    first_request_s: float = 20.0
    """How long one may take. Envoy holds requests for clusters back while one warms, for up to 15 s."""
    names: int = 100_000
    """Of a fleet, in all its streams, beyond twice the resources that it has."""
    name_bytes: int = 1024
    """A name, or a version, of a request on average. Ours have 600 at most."""
    other_bytes: int = 64 * 1024
    """What else is in a request: a proxy describes itself, and what it can do, in some 10 KB."""
    dropped: int = 1000
    """Names that a request may let go of beyond those that are kept."""
    node_characters: int = 512
    """Of what a proxy calls itself, its fleet and its zone. A Gateway with its namespace has 325."""


class TooMuch(Exception):
    """A stream that asks for more than that. The message is for the proxy's log."""


class Listener(Protocol):
    """What is needed of a `Session`."""

    @property
    def names_kept(self) -> int: ...


@final
class Crowd:
    """Who is there."""

    def __init__(self, limits: CrowdLimits) -> None:
        self._limits = limits
        self._streams: Counter[Identities] = Counter()
        self._at_address: Counter[tuple[Identities, str]] = Counter()
        self._turns: dict[Identities, asyncio.Semaphore] = {}

    @contextlib.contextmanager
    def stream(self, identities: Identities, address: str) -> Iterator[None]:
        """One stream, for as long as it is open.

        Args:
            address: with a port, as gRPC writes it.

        Raises:
            TooMuch: there are enough already.
        """
        if not identities:
            yield
            return
        place = (identities, address.rpartition(":")[0])
        if self._streams[identities] >= self._limits.streams:
            raise TooMuch(f"{self._limits.streams} streams are open with this certificate's names already")
        if self._at_address[place] >= self._limits.streams_at_address:
            raise TooMuch(f"{self._limits.streams_at_address} streams are open from this address already")
        self._streams[identities] += 1
        self._at_address[place] += 1
        try:
            yield
        finally:
            _less(self._streams, identities)
            _less(self._at_address, place)
            if identities not in self._streams:
                self._turns.pop(identities, None)

    @contextlib.asynccontextmanager
    async def first_request(self, identities: Identities) -> AsyncIterator[None]:
        """While the first request of a stream is read. Raises TooMuch: it did not come in time."""
        if not identities:
            yield
            return
        async with self._turns.setdefault(identities, asyncio.Semaphore(self._limits.first_requests)):
            try:
                async with asyncio.timeout(self._limits.first_request_s):
                    yield
            except TimeoutError as error:
                raise TooMuch(f"no request came within {self._limits.first_request_s:g} s") from error

    def check_node(self, *names: str) -> None:
        """Whether a proxy may be called so. Raises TooMuch."""
        if any(len(name) > self._limits.node_characters for name in names):
            raise TooMuch(f"a name of the node has more than {self._limits.node_characters} characters")

    def check_size(self, size_bytes: int, names: int) -> None:
        """Whether a request that mentions so many names and versions may be that large. Raises TooMuch."""
        if size_bytes > names * self._limits.name_bytes + self._limits.other_bytes:
            raise TooMuch(f"a request of {size_bytes:,} bytes mentions {names:,} names only")

    def check_dropped(self, asking: Listener, names: int) -> None:
        """Whether a stream may let go of so many names at once. Raises TooMuch."""
        if names > asking.names_kept + self._limits.dropped:
            raise TooMuch(f"a request lets go of {names:,} names, more than were asked for")

    def check_names(self, asking: Listener, more: int, fleet: Iterable[Listener], resources: int) -> None:
        """Whether a stream may have more names and versions kept.

        Args:
            fleet: all streams of its fleet.
            resources: how many the fleet has.

        Raises:
            TooMuch: it may not.
        """
        usual = 2 * resources
        own = asking.names_kept + more - usual
        if own <= 0:
            return
        others = sum(max(0, one.names_kept - usual) for one in fleet if one is not asking)
        if own + others > self._limits.names:
            raise TooMuch(
                f"the fleet has {resources} resources, and its proxies name {own + others} more than they could have"
            )


def _less(counts: Counter[K], key: K) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
