"""What stands in statuses is looked at: when a writer begins, after an outage, and every now and then.

Kind by kind, page by page: one request for a hundred objects, and it finds entries of ours that a former life left
behind, which no reading of single objects would.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Final, NamedTuple, Protocol, final

import msgspec

from portway.kubernetes.errors import ApiError, ApiUnreachable
from portway.kubernetes.pages import pages
from portway.objects.kinds import KINDS, Kind
from portway.objects.verdict import ObjectKey
from portway.status.ledger import WRITTEN_KINDS, Ledger
from portway.status.merge import Statement
from portway.status.queue import LEAST_S
from portway.status.raw import Raw, as_map, as_text, decoded
from portway.status.references import HAVE_PARENTS
from portway.status.served import ServedVersions
from portway.status.troubles import Troubles

PAGE: Final = 100
"""Objects a request: some 300 KB of routes, which take a few milliseconds to take apart."""
LOOK_S: Final = 1.0
"""Within which much news makes the statuses be listed: they are not read one by one."""
TURN: Final = 20
"""Objects that are merged before others have their turn: a millisecond's worth."""


class Reading(Protocol):
    async def get(self, path: str, params: Mapping[str, str] = ..., /) -> bytes: ...


@final
class Audit:
    """That of one writer; what has to be written it puts into the ledger."""

    def __init__(
        self,
        api: Reading,
        served: ServedVersions,
        ledger: Ledger,
        troubles: Troubles,
        *,
        namespaces: Sequence[str],
        every: timedelta,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        """
        Args:
            namespaces: where namespaced objects are; empty: everywhere.
            every: give or take a tenth.
            clock, chance: as for `StatusWriter`.
        """
        self._api = api
        self._served = served
        self._ledger = ledger
        self._troubles = troubles
        self._namespaces = tuple(namespaces)
        self._every = every.total_seconds()
        self._clock = clock
        self._chance = chance
        self._at = 0.0
        self._spared = 0
        self._overtaken: set[ObjectKey] = set()
        """Attended to since the last list was asked for."""
        self.is_under_way = False
        """Also before it has begun: what stands there is not known."""
        self.is_comparing = False
        """Whether what waits is looked at, as most of it may not have to be written."""
        self.listed = 0
        """Objects that were read with others."""

    def began(self) -> None:
        """`run` follows: all is looked at first."""
        self._at = 0.0
        self.is_under_way = True

    def ended(self) -> None:
        """`run` is cancelled."""
        self.is_under_way = False

    def soon(self) -> None:
        """Look at all within `LOOK_S`."""
        self._at = 0.0

    def overtaken(self, key: ObjectKey) -> None:
        """Somebody has just tried to write an object: what a list that is under way says of it may be the past, since
        all its pages are as of when it began."""
        self._overtaken.add(key)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.is_under_way = True
            await self._look()
            self.is_under_way = False
            self._at = self._clock() + self._every * (0.9 + self._chance() / 5)
            may_help = True
            while self._at > self._clock():
                self._ledger.count_news()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(LOOK_S, max(LEAST_S, self._at - self._clock()))):
                        await self._ledger.much_news.wait()
                may_help = not self._ledger.much_news.is_set() or (may_help and await self._compare())

    async def _compare(self) -> bool:
        """Look what of much news stands there already; whether that was most of it.

        A new leader hears of the proxies when it has looked at the statuses already. To read thousands of objects one
        by one, of which none is to be written, would take all its writes for a while.
        """
        spared = self._spared
        self.is_comparing = True
        try:
            await self._look()
        finally:
            self.is_comparing = False
        return self._spared - spared > len(self._ledger.queue)

    async def _look(self) -> None:
        for kind in map(KINDS.__getitem__, sorted(WRITTEN_KINDS)):
            for namespace in (self._namespaces if kind.namespaced else ()) or ("",):
                wanted = [one for key, one in self._ledger.wanted.items() if _is_in(key, kind, namespace)]
                # Entries of ours that a former life left behind can be told from others only where they name us.
                if not wanted or (kind.name not in HAVE_PARENTS and not any(one.says_something for one in wanted)):
                    continue
                try:
                    await self._look_at(kind, namespace)
                except (ApiError, ApiUnreachable) as error:
                    self._one_by_one(wanted, is_long=self._troubles.list_failed(error, kind, namespace))

    def _one_by_one(self, wanted: Iterable[Statement], *, is_long: bool) -> None:
        """These could not be listed.

        Args:
            is_long: nobody will list them soon, so whatever we know of them is to be looked at.
        """
        for statement in wanted:
            if not is_long:
                self._ledger.put(statement)
            elif not self._ledger.queue.holds(statement.key):
                self._ledger.lose(statement.key)
                self._ledger.put_anew(statement)

    async def _look_at(self, kind: Kind, namespace: str) -> None:
        for version in range(len(kind.versions), 0, -1):
            try:
                return await self._look_at_version(kind, namespace)
            except ApiError as error:
                if not self._served.refused(kind, error) or version == 1:
                    raise
        return None

    async def _look_at_version(self, kind: Kind, namespace: str) -> None:
        number = 0
        path, api_version = self._served.collection(kind, namespace), self._served.api_version(kind)
        self._overtaken.clear()
        async for key, current in _list_objects(self._api, kind, path):
            number += 1
            if number % TURN == 0:
                await asyncio.sleep(0)
            statement = self._ledger.wanted.get(key)
            is_past = key in self._overtaken or self._ledger.queue.is_under_way(key)
            if statement is not None and not is_past:
                self._compare_one(statement, {"apiVersion": api_version, "kind": kind.name, **current})
        self.listed += number

    def _compare_one(self, statement: Statement, current: Raw) -> None:
        is_waiting = self._ledger.queue.holds(statement.key)
        merged = self._ledger.merged(current, statement)
        if merged.status is None:
            if not merged.is_stale:
                self._ledger.note_written(statement)
                self._ledger.queue.drop(statement.key)
                self._spared += is_waiting
        elif not is_waiting:
            self._ledger.remember(statement.key, msgspec.json.encode(current))
            self._ledger.put_anew(statement)


class _Listed(NamedTuple):
    key: ObjectKey
    raw: Raw
    """The whole object; without `apiVersion` and `kind`, as lists have it."""


async def _list_objects(api: Reading, kind: Kind, path: str) -> AsyncIterator[_Listed]:
    """Every object of a collection.

    Raises:
        ApiError, ApiUnreachable: also in the middle, such as 410 when a listing takes too long.
    """
    async for page in pages(api.get, path, {}, size=PAGE):
        for item in page.items or ():
            raw = decoded(path, item)
            metadata = as_map(raw.get("metadata"))
            yield _Listed(ObjectKey(kind.name, as_text(metadata.get("namespace")), as_text(metadata.get("name"))), raw)
        await asyncio.sleep(0)


def _is_in(key: ObjectKey, kind: Kind, namespace: str) -> bool:
    return key.kind == kind.name and namespace in ("", key.namespace)
