"""What owners of objects are told by Events, and how often.

An Event is for what somebody must know who does not look at conditions: something that was asked for is not done (an
error verdict, such as a lost conflict), or a proxy refuses it. Each is told when it appears; that it is still so is
what conditions are for. The name of an Event follows from what it says, so a restart, or another leader, says nothing
twice.

Pure; `events.py` writes them.

Source: Kubernetes, `events.k8s.io/v1`; client-go's limits for Events.
"""

from collections import OrderedDict, deque
from hashlib import blake2b
from typing import Final, final

import msgspec

from portway.model.condition import Condition, ObjectReport
from portway.objects.verdict import ObjectKey, Severity
from portway.status.programmed import PROGRAMMED, ROUTE_PROGRAMMED
from portway.status.queue import TokenBucket

MOST_AT_ONCE: Final = 5
"""New findings about one object that are told one by one; of more it is said how many there are."""
MOST_WAITING: Final = 1_000
"""Events that wait to be written. What does not fit is left out: conditions tell it, too."""
RATE: Final = 10.0
"""Events per second, all objects together."""
BURST: Final = 50
OBJECT_RATE: Final = 1 / 60
"""... and of one object: an owner who repairs and breaks it again and again."""
OBJECT_BURST: Final = 15
BUCKETS: Final = 1_000
"""Objects whose rate is known."""
NOTE_BYTES: Final = 1_024
"""Longest note that the API takes."""
REASON: Final = 128


class News(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that an owner must know."""

    object: ObjectKey
    uid: str
    reason: str
    note: str

    @property
    def name(self) -> str:
        """Of the Event: follows from its content."""
        said = "\0".join((self.uid, self.reason, self.note)).encode()
        return f"{self.object.name[:200].rstrip('.-')}.{blake2b(said, digest_size=8).hexdigest()}"


class NewsStatistics(msgspec.Struct, frozen=True, kw_only=True):
    objects: int
    """With something that is wrong now."""
    waiting: int
    left_out: int
    """For want of room or because an object has too many."""


@final
class NewsDesk:
    """Knows what is wrong with each object, and so what is new."""

    def __init__(self) -> None:
        self._wrong: dict[ObjectKey, frozenset[tuple[str, str]]] = {}
        self._waiting: deque[News] = deque()
        self._buckets: OrderedDict[ObjectKey, TokenBucket] = OrderedDict()
        self._all: TokenBucket | None = None
        self._left_out = 0

    def statistics(self) -> NewsStatistics:
        return NewsStatistics(objects=len(self._wrong), waiting=len(self._waiting), left_out=self._left_out)

    def judged(self, report: ObjectReport, uid: str, now: float) -> None:
        """So it is with an object now.

        Args:
            report: `Programmed` included.
            uid: of the object; empty: it is no object of the cluster.
            now: seconds, never going back.
        """
        key = report.object
        wrong = dict.fromkeys(_findings(report)) if report.ours else {}
        before = self._wrong.get(key, frozenset())
        if wrong:
            self._wrong[key] = frozenset(wrong)
        else:
            self._wrong.pop(key, None)
        new = [one for one in wrong if one not in before]
        if not new or not uid:
            return
        if len(new) > MOST_AT_ONCE:
            more = len(new) - MOST_AT_ONCE + 1
            new = [*new[: MOST_AT_ONCE - 1], ("MoreFindings", f"{more} more findings; its conditions name them")]
        for reason, note in new:
            self._tell(News(object=key, uid=uid, reason=reason[:REASON], note=_cut(note)), now)

    def forgotten(self, key: ObjectKey) -> None:
        """There is no such object any more."""
        self._wrong.pop(key, None)
        self._buckets.pop(key, None)

    def take(self, now: float) -> News | None:
        """The next Event whose time has come."""
        if not self._waiting:
            return None
        if self._all is None:
            self._all = TokenBucket(RATE, BURST, now)
        return self._waiting.popleft() if self._all.take(now) == 0 else None

    def again(self, news: News) -> None:
        """It could not be written."""
        self._waiting.appendleft(news)

    @property
    def is_idle(self) -> bool:
        return not self._waiting

    def _tell(self, news: News, now: float) -> None:
        bucket = self._buckets.get(news.object)
        if bucket is None:
            bucket = self._buckets[news.object] = TokenBucket(OBJECT_RATE, OBJECT_BURST, now)
        self._buckets.move_to_end(news.object)
        while len(self._buckets) > BUCKETS:
            self._buckets.popitem(last=False)
        if len(self._waiting) >= MOST_WAITING or bucket.take(now) > 0:
            self._left_out += 1
            return
        self._waiting.append(news)


def _findings(report: ObjectReport) -> list[tuple[str, str]]:
    """Reason and text of all that is wrong."""
    found = [(each.reason, each.text) for each in report.verdicts if each.severity is Severity.ERROR]
    listeners = ((f"listener {one.name}: ", one.conditions) for one in report.listeners)
    parents = ((f"{one.parent}: ", one.conditions) for one in report.parents)
    for place, conditions in (("", report.conditions), *listeners, *parents):
        found += [("Refused", place + each.message) for each in conditions if _is_refused(each)]
    return found


def _is_refused(condition: Condition) -> bool:
    """Proxies say no; what could not be served anyway is a verdict already."""
    is_ours = condition.type in (PROGRAMMED, ROUTE_PROGRAMMED)
    return is_ours and not condition.status and condition.reason == "Invalid" and "a proxy refuses" in condition.message


def _cut(note: str) -> str:
    data = note.encode()
    return note if len(data) <= NOTE_BYTES else f"{data[: NOTE_BYTES - 3].decode(errors='ignore')}..."
