"""Whose turn it is to have all pods of a fleet made anew.

A new image, another setting of all proxies or of a class means a rolling update of many fleets. All at once they want
room for as many pods more, and a version that does not start would be everywhere. So a few fleets are updated at a
time; the next one follows when one is done, or has got no further for a while.

There is a line for what concerns all fleets, and one for each thing that some fleets share by their owners' will: what
the owner of one fleet says waits for nobody but those that have it from the same place. Pure.

Source: Kubernetes, "Deployments", `progressDeadlineSeconds`, whose default is `DEADLINE`.
"""

from collections import defaultdict
from typing import Final, final

import msgspec

from portway.infra.kubernetes.seen import Seen

AT_ONCE: Final = 3
"""Fleets at least of one line that are updated at a time."""
SHARE: Final = 10
"""... or one of so many: a thousand fleets take no longer than a hundred."""
DEADLINE: Final = 600.0
"""Seconds without progress after which an update counts as stuck."""
ALL: Final = ""
"""The line of what concerns all fleets, and of what began nobody knows why."""


class _Turn(msgspec.Struct):
    line: str
    since: float
    """When it got as far as it is."""
    best: int = -1
    """The furthest that it got: pods that are new, and pods that are ready."""
    is_started: bool = False


@final
class Rolls:
    """Who has a turn, who waits for one, who got stuck. Times are seconds, never going back."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}
        self._waiting: dict[str, str] = {}
        """By fleet, in which line."""
        self._stuck: dict[str, None] = {}

    def clear(self) -> None:
        for each in (self._turns, self._waiting, self._stuck):
            each.clear()

    @property
    def rolling(self) -> int:
        return len(self._turns)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def is_waiting(self, fleet: str) -> bool:
        return fleet in self._waiting

    def is_stuck(self, fleet: str) -> bool:
        return fleet in self._stuck

    def take(self, fleet: str, fleets: int, now: float, line: str = ALL) -> bool:
        """Whether a fleet may be updated now (`started` or `forget` follows); if not, it stands in line.

        Args:
            fleets: how many there are in all.
        """
        turn = self._turns.get(fleet)
        if (turn is None or turn.line not in (ALL, line)) and self._room(fleets)[line] <= 0:
            self._waiting[fleet] = line
            return False
        self._waiting.pop(fleet, None)
        self._turns[fleet] = _Turn(line=line if turn is None or turn.line != ALL else ALL, since=now)
        return True

    def started(self, fleet: str, now: float) -> None:
        """It is being updated, whoever began that."""
        self._stuck.pop(fleet, None)
        turn = self._turns.get(fleet)
        self._turns[fleet] = _Turn(line=ALL if turn is None else turn.line, since=now, is_started=True)

    def look(self, fleet: str, there: Seen | None, now: float) -> bool:
        """Look at a fleet's workload; returns whether its turn has ended by that.

        Args:
            there: `None`: there is none any more.
        """
        turn = self._turns.get(fleet)
        if turn is not None and not turn.is_started:
            return False  # what is there is the former version
        if there is None or (not there.is_rolling and there.ready >= there.wanted):
            self._stuck.pop(fleet, None)
            return self._turns.pop(fleet, None) is not None
        if turn is None:
            return False
        if there.updated + there.ready > turn.best:
            turn.best, turn.since = there.updated + there.ready, now
        elif now >= turn.since + DEADLINE:
            del self._turns[fleet]
            self._stuck[fleet] = None
            return True
        return False

    def deadline(self, fleet: str) -> float | None:
        """When to look at a fleet again at the latest."""
        turn = self._turns.get(fleet)
        return None if turn is None else turn.since + DEADLINE

    def leave(self, fleet: str) -> None:
        """It need not wait."""
        self._waiting.pop(fleet, None)

    def forget(self, fleet: str) -> None:
        """Nothing is known of it any more."""
        for each in (self._turns, self._waiting, self._stuck):
            each.pop(fleet, None)

    def next(self, fleets: int) -> list[str]:
        """Those in line for whom there is room."""
        found, room = [], self._room(fleets) if self._waiting else {}
        for name, line in self._waiting.items():
            if room[line] > 0:
                room[line] -= 1
                found.append(name)
        return found

    def _room(self, fleets: int) -> dict[str, int]:
        """By line, how many more may be updated."""
        room = defaultdict[str, int](lambda: max(AT_ONCE, fleets // SHARE))
        for turn in self._turns.values():
            room[turn.line] -= 1
        return room
