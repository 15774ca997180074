"""When the proxies of a replica that cannot read its sources look for another replica.

What such a replica knows stays as it was: its proxies go on with backends that may be gone meanwhile, while other
replicas know better. It cannot know whether there are any. So it ends each stream now and then, and the proxy comes
again, to whichever replica its Service chooses: to one that reads, where it stays, or back.

    at first   some seconds after the sources were lost: an API server that restarts is no reason
    then       the pauses grow with the time for which the sources are lost: where no replica can read, nobody gains
               anything by coming again
    always     at random within the pause, and so that few come in a moment: each names the versions of all that it has

With one of two replicas cut off, half of its proxies have found the other one after 10 s, nine in ten after 30 s, 99 of
100 after 90 s; where none can read, a proxy comes 27 times in the first hour. Design: `docs/design/replicas.md`.
"""

import random
from collections.abc import Callable, Hashable, Iterable
from typing import Final, Generic, TypeVar, final

SHORTEST: Final = 5.0
"""Seconds that a proxy may stay at least; a new one has read everything by then."""
LONGEST: Final = 300.0
"""Seconds that it may stay at most, but for `GAP`."""
GAP: Final = 0.1
"""Seconds from one proxy to the next, on average: to read and compare the versions that it names takes 35 ms of CPU for
9,000 of them (3,000 routes)."""

S = TypeVar("S", bound=Hashable)
"""Whatever stands for a stream."""


@final
class Drift(Generic[S]):
    """Which streams are to end. Pure: time is an argument, in seconds of a clock that never goes back."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        """
        Args:
            chance: from 0 to 1.
        """
        self._chance = chance
        self._since: float | None = None
        self._leaves_at: dict[S, float] = {}
        self._sent = 0

    @property
    def sent(self) -> int:
        """Streams that were due since the sources were lost."""
        return self._sent

    def due(self, streams: Iterable[S], now: float) -> list[S]:
        """Those that are to end now, each once. Asked again and again while the sources cannot be read.

        Args:
            streams: all that are open.
        """
        if self._since is None:
            self._since = now
        lost_for = now - self._since
        there = list(streams)
        self._leaves_at = {
            one: self._leaves_at[one] if one in self._leaves_at else now + self._stay(lost_for, len(there))
            for one in there
        }
        found = [one for one, leaves_at in self._leaves_at.items() if leaves_at <= now]
        self._leaves_at.update(dict.fromkeys(found, float("inf")))
        self._sent += len(found)
        return found

    def end(self) -> None:
        """The sources can be read: whoever is here stays."""
        self._since = None
        self._leaves_at = {}
        self._sent = 0

    def _stay(self, lost_for: float, streams: int) -> float:
        """Seconds for which one of so many streams may stay: at first 5 to 10, then a quarter to a half of the time for
        which the sources are lost."""
        least = min(max(lost_for / 4, SHORTEST), LONGEST / 2)
        return least + self._chance() * max(least, GAP * streams)
