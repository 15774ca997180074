"""What owners of objects are told by Events, and how often.

An Event is for what somebody must know who does not look at conditions: something that was asked for is not done (an
error verdict, such as a lost conflict), or a proxy refuses it. Each is told when it appears; that it is still so is
what conditions are for, and by how many proxies it is refused is no news. What is mended before its turn is told to
nobody: replicas that do not lead keep what is wrong now, for the day on which they do. The name of an Event follows
from what it says, so a restart, or another leader, says nothing twice.

Pure; `events.py` writes them.

Source: Kubernetes, `events.k8s.io/v1`; client-go's limits for Events.
"""

import re
from collections import OrderedDict
from hashlib import blake2b
from typing import Final, NamedTuple, final

import msgspec

from portway.model.condition import Condition, ObjectReport
from portway.objects.verdict import ObjectKey, Severity
from portway.status.programmed import PROGRAMMED, ROUTE_PROGRAMMED
from portway.status.queue import TokenBucket

MOST_AT_ONCE: Final = 5
"""New findings about one object that are told one by one; of more it is said how many there are."""
MOST_WAITING: Final = 1_000
"""Objects with Events that wait to be written. What does not fit is left out: conditions tell it, too."""
MORE: Final = "MoreFindings"
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
_COUNTS: Final = re.compile(r"\d+ of \d+ proxies [a-z ]+(?:, \d+ [a-z ]+)?(?:; )?")
"""How far the proxies are: changes with each of them, and what is said stays the same."""


class Fact(NamedTuple):
    """What tells one thing that is wrong with an object from another."""

    reason: str
    note: str
    """Without numbers of proxies."""


class News(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that an owner must know."""

    object: ObjectKey
    uid: str
    reason: str
    note: str

    @property
    def fact(self) -> Fact:
        return _fact(self.reason, self.note)

    @property
    def name(self) -> str:
        """Of the Event: follows from its content."""
        said = "\0".join((self.uid, *self.fact)).encode()
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
        self._wrong: dict[ObjectKey, frozenset[Fact]] = {}
        self._waiting: OrderedDict[ObjectKey, list[News]] = OrderedDict()
        self._buckets: OrderedDict[ObjectKey, TokenBucket] = OrderedDict()
        self._all: TokenBucket | None = None
        self._left_out = 0

    def statistics(self) -> NewsStatistics:
        waiting = sum(map(len, self._waiting.values()))
        return NewsStatistics(objects=len(self._wrong), waiting=waiting, left_out=self._left_out)

    def judged(self, report: ObjectReport, uid: str, now: float) -> None:
        """So it is with an object now.

        Args:
            report: `Programmed` included.
            uid: of the object; empty: it is no object of the cluster.
            now: seconds, never going back.
        """
        key = report.object
        wrong = {_fact(*one): one for one in _findings(report)} if report.ours else {}
        before = self._wrong.get(key, frozenset())
        if wrong:
            self._wrong[key] = frozenset(wrong)
        else:
            self._wrong.pop(key, None)
        self._wait_for(key, [one for one in self._waiting.get(key, ()) if self._is_so(one)])
        new = [one for fact, one in wrong.items() if fact not in before]
        if not new or not uid:
            return
        if len(new) > MOST_AT_ONCE:
            more = len(new) - MOST_AT_ONCE + 1
            new = [*new[: MOST_AT_ONCE - 1], (MORE, f"{more} more findings; its conditions name them")]
        for reason, note in new:
            self._tell(News(object=key, uid=uid, reason=reason, note=note), now)

    def forgotten(self, key: ObjectKey) -> None:
        """There is no such object any more."""
        self._wrong.pop(key, None)
        self._waiting.pop(key, None)
        self._buckets.pop(key, None)

    def take(self, now: float) -> News | None:
        """The next Event whose time has come."""
        if not self._waiting:
            return None
        if self._all is None:
            self._all = TokenBucket(RATE, BURST, now)
        if self._all.take(now) > 0:
            return None
        key, (first, *others) = next(iter(self._waiting.items()))
        self._wait_for(key, others)
        return first

    def again(self, news: News) -> None:
        """It could not be written."""
        if self._is_so(news):
            self._wait_for(news.object, [news, *self._waiting.get(news.object, ())])
            self._waiting.move_to_end(news.object, last=False)

    @property
    def is_idle(self) -> bool:
        return not self._waiting

    def _is_so(self, news: News) -> bool:
        """Whether it is still so."""
        wrong = self._wrong.get(news.object, frozenset())
        return news.fact in wrong or (news.reason == MORE and len(wrong) > MOST_AT_ONCE)

    def _wait_for(self, key: ObjectKey, news: list[News]) -> None:
        if news:
            self._waiting[key] = news
        else:
            self._waiting.pop(key, None)

    def _tell(self, news: News, now: float) -> None:
        bucket = self._buckets.get(news.object)
        if bucket is None:
            bucket = self._buckets[news.object] = TokenBucket(OBJECT_RATE, OBJECT_BURST, now)
        self._buckets.move_to_end(news.object)
        while len(self._buckets) > BUCKETS:
            self._buckets.popitem(last=False)
        waiting = self._waiting.get(news.object, [])
        if (not waiting and len(self._waiting) >= MOST_WAITING) or bucket.take(now) > 0:
            self._left_out += 1
            return
        self._wait_for(news.object, [*waiting, news])


def _findings(report: ObjectReport) -> list[tuple[str, str]]:
    """Reason and text of all that is wrong, as they fit into an Event."""
    found = [(each.reason, each.text) for each in report.verdicts if each.severity is Severity.ERROR]
    listeners = ((f"listener {one.name}: ", one.conditions) for one in report.listeners)
    parents = ((f"{one.parent}: ", one.conditions) for one in report.parents)
    for place, conditions in (("", report.conditions), *listeners, *parents):
        found += [("Refused", place + each.message) for each in conditions if _is_refused(each)]
    return [(reason[:REASON], _cut(note)) for reason, note in found]


def _fact(reason: str, note: str) -> Fact:
    return Fact(reason, _COUNTS.sub("", note))


def _is_refused(condition: Condition) -> bool:
    """Proxies say no; what could not be served anyway is a verdict already."""
    is_ours = condition.type in (PROGRAMMED, ROUTE_PROGRAMMED)
    return is_ours and not condition.status and condition.reason == "Invalid" and "a proxy refuses" in condition.message


def _cut(note: str) -> str:
    data = note.encode()
    return note if len(data) <= NOTE_BYTES else f"{data[: NOTE_BYTES - 3].decode(errors='ignore')}..."
