"""What each of many may still ask for, when all of them together are no bound that is fair.

Each has credit: a request takes one, and time gives it back. Rules without a clock.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar, final

K = TypeVar("K", bound=Hashable)


@final
class Credits(Generic[K]):
    """Those of all who asked lately."""

    def __init__(self, *, burst: int, interval_s: float, remembered: int) -> None:
        """
        Args:
            burst: requests of one of them at once.
            interval_s: afterwards, one in so many seconds.
            remembered: of so many it is known what they asked for, the latest ones.
        """
        self._burst = burst
        self._interval = interval_s
        self._remembered = remembered
        self._spent: OrderedDict[K, float] = OrderedDict()
        """When each would have all its credit again."""

    def take(self, who: K, now: float) -> float:
        """One request. Returns 0, or in how many seconds there may be one."""
        due = max(now, self._spent.get(who, 0.0)) + self._interval
        wait = due - now - self._interval * self._burst
        if wait > 0:
            return wait
        self._spent[who] = due
        self._spent.move_to_end(who)
        while len(self._spent) > self._remembered:
            self._spent.popitem(last=False)
        return 0.0

    def give_back(self, who: K) -> None:
        """The last request costs nothing."""
        if who in self._spent:
            self._spent[who] -= self._interval
