"""Which object's status is written next, and when.

Per object only the latest statement is kept, so a slow API server makes fewer and larger writes, never a longer line.
What somebody waits for goes first: a Gateway before a route, a new generation before news about an old one. What is
about to be said better, once proxies have answered, waits for that for a moment: one write instead of two, and none
while the configuration that it is about is on its way. An object
that is written again and again (a Gateway to which a thousand routes attach) is written at once the first time, and
then at intervals that grow while news go on coming.

Pure: time is an argument.
"""

import heapq
from datetime import timedelta
from enum import IntEnum
from typing import Final, final

import msgspec

from portway.objects.verdict import ObjectKey
from portway.status.merge import Statement

LEAST_S: Final = 0.001
"""Shortest wait: a clock need not tell what is less, and it would be waited for again and again."""
PAUSE: Final = timedelta(milliseconds=25)
"""Between two writes of one object."""
LONGEST_PAUSE: Final = timedelta(milliseconds=400)
"""... while news about it go on coming. A thousand routes within five seconds are some twenty writes of their Gateway,
and its `attachedRoutes` is right half a second after the last of them."""


class Urgency(IntEnum):
    """Who goes first."""

    HEAD = 0
    """Classes, Gateways and ListenerSets: few, and everybody waits for them."""
    ANSWER = 1
    """A generation of which nothing is said yet."""
    NEWS = 2
    """Something else about a generation."""
    CHECK = 3
    """Perhaps nothing: what was written is looked at."""


HEADS: Final = frozenset({"GatewayClass", "Gateway", "ListenerSet"})


SETTLE: Final = timedelta(milliseconds=100)
"""For which a statement that may soon be a better one waits: proxies of a Gateway with 3,000 routes answer within half
of it on a machine that has time."""


def is_settled(statement: Statement, written: Statement | None) -> bool:
    """Whether nothing better is to be expected soon.

    It is for what is provisional; and for a Gateway that is written already, since a route that attaches seldom comes
    alone, and is on its way to the proxies just now.

    Args:
        written: the last one about the object that is known to have been written.
    """
    if statement.key.kind in HEADS:
        return written is None or (written.uid, written.generation) != (statement.uid, statement.generation)
    return not any(one.provisional for parent in statement.report.parents for one in parent.conditions)


def urgency_of(statement: Statement, written: Statement | None) -> Urgency:
    """How urgent a statement is.

    Args:
        written: the last one about the object that is known to have been written.
    """
    if statement.key.kind in HEADS:
        return Urgency.HEAD
    if written is None or (written.uid, written.generation) != (statement.uid, statement.generation):
        return Urgency.ANSWER
    return Urgency.NEWS


class Entry(msgspec.Struct):
    """One object's place in the line."""

    statement: Statement
    urgency: Urgency
    is_queued: bool = False
    is_under_way: bool = False
    changed: bool = False
    """Whether another statement came while one was under way."""
    not_before: float = 0.0
    settles_at: float = 0.0
    """Until then something better may come."""
    pause: float = 0.0
    done_at: float = 0.0
    attempts: int = 0
    """Failed in a row."""

    @property
    def due(self) -> float:
        return max(self.not_before, self.settles_at)


class QueueStatistics(msgspec.Struct, frozen=True, kw_only=True):
    waiting: int
    under_way: int
    coalesced: int
    """Statements that were replaced by newer ones before they were written."""


@final
class WriteQueue:
    """Statements that wait to be written."""

    def __init__(self, *, pause: timedelta = PAUSE, longest: timedelta = LONGEST_PAUSE) -> None:
        self._pause = pause.total_seconds()
        self._longest = longest.total_seconds()
        self._entries: dict[ObjectKey, Entry] = {}
        self._ready: list[tuple[int, int, ObjectKey]] = []
        self._later: list[tuple[float, int, ObjectKey]] = []
        self._number = 0
        self._coalesced = 0

    def __len__(self) -> int:
        return sum(entry.is_queued or entry.is_under_way for entry in self._entries.values())

    def statistics(self) -> QueueStatistics:
        entries = self._entries.values()
        return QueueStatistics(
            waiting=sum(entry.is_queued for entry in entries),
            under_way=sum(entry.is_under_way for entry in entries),
            coalesced=self._coalesced,
        )

    def put(self, statement: Statement, urgency: Urgency, now: float, *, settle: float = 0.0) -> None:
        """This is to be said about the object, whatever was to be said before.

        Args:
            settle: seconds in which something better may be put, since the first that was put; 0: this is it.
        """
        key = statement.key
        entry = self._entries.get(key)
        is_waiting = entry is not None and (entry.is_queued or entry.changed)
        if entry is None:
            entry = self._entries[key] = Entry(statement, urgency)
        elif entry.is_queued or entry.is_under_way:
            self._coalesced += 1
            entry.changed = entry.is_under_way
            urgency = min(urgency, entry.urgency) if entry.is_queued else urgency
        settles_at = min(now + settle, entry.settles_at) if is_waiting else now + settle
        is_raised = urgency < entry.urgency or settles_at < entry.settles_at
        entry.statement, entry.urgency, entry.settles_at, entry.attempts = statement, urgency, settles_at, 0
        if not entry.is_under_way and (is_raised or not entry.is_queued):
            self._enqueue(key, entry, now)

    def drop(self, key: ObjectKey) -> None:
        """There is nothing to be said about the object any more."""
        self._entries.pop(key, None)

    def holds(self, key: ObjectKey) -> bool:
        """Whether something waits or is under way about the object."""
        entry = self._entries.get(key)
        return entry is not None and (entry.is_queued or entry.is_under_way)

    def is_under_way(self, key: ObjectKey) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry.is_under_way

    def is_urgent(self, now: float) -> bool:
        """Whether a Gateway, or something like it, is next."""
        self._ripen(now)
        return bool(self._ready) and self._ready[0][0] == Urgency.HEAD

    def take(self, now: float) -> Statement | None:
        """The next statement whose time has come; it is under way until `done` or `failed`."""
        self._ripen(now)
        while self._ready:
            urgency, _, key = heapq.heappop(self._ready)
            entry = self._entries.get(key)
            # An entry may stand in line several times, once for each urgency and time that it had.
            if entry is not None and entry.is_queued and entry.urgency == urgency and entry.due <= now:
                entry.is_queued, entry.is_under_way, entry.changed = False, True, False
                return entry.statement
        return None

    def _ripen(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            _, number, key = heapq.heappop(self._later)
            entry = self._entries.get(key)
            if entry is not None and entry.is_queued:
                heapq.heappush(self._ready, (entry.urgency, number, key))

    def next_at(self) -> float | None:
        """When `take` may return something; `None`: not before the next `put`, `done` or `failed`."""
        if self._ready:
            return 0.0
        return self._later[0][0] if self._later else None

    def done(self, key: ObjectKey, now: float, *, wrote: bool) -> None:
        """The statement under way is written, or needed no write."""
        entry = self._entries.get(key)
        if entry is None:
            return
        entry.is_under_way = False
        entry.attempts = 0
        if wrote:
            hurried = entry.changed or now - entry.done_at < 2 * entry.pause
            entry.pause = min(self._longest, max(self._pause, entry.pause * 1.5)) if hurried else self._pause
            entry.done_at = now
            entry.not_before = now + entry.pause
        if entry.changed:
            self._enqueue(key, entry, now)
        elif not wrote and entry.not_before <= now:
            del self._entries[key]

    def attempts(self, key: ObjectKey) -> int:
        """How often in a row the statement under way has failed."""
        entry = self._entries.get(key)
        return 0 if entry is None else entry.attempts

    def failed(self, key: ObjectKey, now: float, wait: float) -> None:
        """The statement under way could not be written; after so many seconds it is tried again, or the newer one that
        came meanwhile."""
        entry = self._entries.get(key)
        if entry is None:
            return
        entry.is_under_way = False
        entry.not_before = now + wait
        entry.attempts += 1
        self._enqueue(key, entry, now)

    def clear(self) -> None:
        """Nothing is to be written any more."""
        self._entries.clear()
        self._ready.clear()
        self._later.clear()

    def tidy(self, now: float) -> None:
        """Forget objects that have been quiet; to be called now and then."""
        quiet = [key for key, entry in self._entries.items() if _is_quiet(entry, now)]
        for key in quiet:
            del self._entries[key]

    def _enqueue(self, key: ObjectKey, entry: Entry, now: float) -> None:
        entry.is_queued = True
        self._number += 1
        if entry.due <= now:
            heapq.heappush(self._ready, (entry.urgency, self._number, key))
        else:
            heapq.heappush(self._later, (entry.due, self._number, key))


def _is_quiet(entry: Entry, now: float) -> bool:
    return not entry.is_queued and not entry.is_under_way and now - entry.done_at > 2 * entry.pause


@final
class TokenBucket:
    """A rate with some room for bursts."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        """
        Args:
            rate: tokens per second.
            burst: at most so many at once.
        """
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> float:
        """Take a token. Returns 0, or, if there is none, in how many seconds there will be one."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return (1.0 - self._tokens) / self._rate
        self._tokens -= 1.0
        return 0.0
