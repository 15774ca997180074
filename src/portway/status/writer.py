"""Writes statements into the status of objects: read, merge, replace with the resource version that was read; of a new
route without reading (`first.py`).

It runs while we are the leader, in a task of its own, and is fed by calls that only note what is wanted (`ledger.py`);
what stands there already, the audit looks at. Server-side apply is no way: it cannot tell our entries in an atomic list
from others, and it may leave half an entry behind when a listener goes.

An object that is gone is dropped; a conflict is read again; what the server refuses for good (422) waits for another
statement; everything else is tried again, later and later, and never before the server's own `Retry-After`.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, final

import msgspec
import structlog

from portway.kubernetes.client import JSON_PATCH
from portway.kubernetes.errors import ApiError, ApiUnreachable
from portway.objects.kinds import KINDS
from portway.objects.verdict import ObjectKey
from portway.status.audit import Audit
from portway.status.first import OTHERWISE, may_be_first
from portway.status.ledger import Ledger
from portway.status.merge import Statement
from portway.status.queue import LEAST_S, LONGEST_PAUSE, PAUSE, SETTLE, TokenBucket, WriteQueue
from portway.status.raw import Raw, decoded
from portway.status.served import ServedVersions
from portway.status.troubles import Troubles

log = structlog.get_logger(__name__)

CONFLICTS: Final = 5
"""Conflicts in a row before an object's turn is over: somebody else is writing it again and again."""
BUSY_S: Final = 0.02
"""Between two writes of routes while configuration is being made; each takes some 1.5 ms of ours."""


class Api(Protocol):
    """What is asked of an `ApiClient`."""

    async def get(self, path: str, params: Mapping[str, str] = ..., /) -> bytes: ...

    async def replace(self, path: str, body: bytes, /) -> bytes: ...

    async def patch(self, path: str, body: bytes, *, content_type: str) -> bytes: ...


class WriterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How hard the API server may be worked."""

    writes_per_second: int = 200
    """Most; after a pause as many at once."""
    parallel: int = 8
    """Requests under way at once."""
    pause: timedelta = PAUSE
    longest_pause: timedelta = LONGEST_PAUSE
    settle: timedelta = SETTLE
    heard: timedelta = timedelta(0)
    """So long after a start other replicas may have proxies of which we have not heard: nothing becomes `Programmed`
    then."""
    audit: timedelta = timedelta(minutes=10)
    """All that we wrote is looked at again after this time: somebody may have changed it, an older state of etcd may
    have been restored."""


class WriterStatistics(msgspec.Struct, frozen=True, kw_only=True):
    is_writing: bool
    wanted: int
    """Statements that there are."""
    waiting: int
    coalesced: int
    reads: int
    """Objects that were read one by one."""
    listed: int
    """Objects that were read with others."""
    writes: int
    unchanged: int
    """Statements that needed no write."""
    conflicts: int
    refused: int
    """Writes that the server does not take."""
    failed: int
    """Requests without success, to be tried again."""


@final
class StatusWriter:
    """Keeps the status of objects as it is wanted, while `run` runs."""

    def __init__(
        self,
        api: Api,
        *,
        controller: str,
        namespaces: Sequence[str] = (),
        settings: WriterSettings | None = None,
        may_write: Callable[[], bool] = lambda: True,
        is_busy: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] | None = None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            api: of the cluster that the objects come from.
            controller: our `controllerName`.
            namespaces: where namespaced objects are; empty: everywhere.
            may_write: asked before each write: a process that was stopped for a while may have lost its leadership
                without knowing it yet.
            is_busy: whether configuration is being made that proxies wait for. Statuses of routes then take a tenth of
                the time that they would take otherwise; those of Gateways are few and go on.
            clock: seconds, never going back; by default the event loop's.
            wall: the time of day, for `lastTransitionTime`.
            chance: from 0 to 1.
        """
        self._api = api
        self._settings = settings or WriterSettings()
        self._may_write = may_write
        self._is_busy = is_busy
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._queue = WriteQueue(pause=self._settings.pause, longest=self._settings.longest_pause)
        self._troubles = Troubles(self._clock, chance)
        self._ledger = Ledger(
            controller, self._queue, self._troubles, settle=self._settings.settle, clock=self._clock, wall=wall
        )
        self._served = ServedVersions()
        self._audit = Audit(
            api,
            self._served,
            self._ledger,
            self._troubles,
            namespaces=namespaces,
            every=self._settings.audit,
            clock=self._clock,
            chance=chance,
        )
        self._is_running = False
        self._may_patch = True
        self._reads = self._writes = self._unchanged = self._conflicts = self._refused = 0

    def statistics(self) -> WriterStatistics:
        queue = self._queue.statistics()
        return WriterStatistics(
            is_writing=self._is_running,
            wanted=len(self._ledger.wanted),
            waiting=queue.waiting + queue.under_way,
            coalesced=queue.coalesced,
            reads=self._reads,
            listed=self._audit.listed,
            writes=self._writes,
            unchanged=self._unchanged,
            conflicts=self._conflicts,
            refused=self._refused,
            failed=self._troubles.failed,
        )

    # What is wanted.

    def want(self, statement: Statement) -> None:
        """This is to be said about an object, instead of what was to be said before. Returns at once."""
        if self._ledger.want(statement) and self._is_running:
            self._ledger.put(statement)

    def forget(self, key: ObjectKey) -> None:
        """The object is gone."""
        self._ledger.forget(key)

    def check(self) -> None:
        """Look at what stands there soon, whatever was written: the API server was away, and may have come back with an
        older state. Called by whoever notices; the writer itself does only while it has something to write."""
        self._audit.soon()

    async def drained(self) -> None:
        """Until all that is wanted is written, while `run` runs."""
        while self._audit.is_under_way or len(self._queue):  # noqa: ASYNC110 - asked at the end of a process, and by tests
            await asyncio.sleep(0.005)

    # Writing.

    async def run(self) -> None:
        """Write until cancelled; then nothing is written any more, and what is under way is broken off."""
        heard = self._settings.heard.total_seconds()
        self._ledger.began(self._clock() + heard)
        self._troubles.began()
        self._audit.began()
        self._may_patch = True
        self._is_running = True
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._audit.run())
                tasks.create_task(self._hear(heard))
                await self._dispatch(tasks)
        finally:
            self._is_running = False
            self._audit.ended()

    async def _hear(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._ledger.heard()

    async def _dispatch(self, tasks: asyncio.TaskGroup) -> None:
        rate = self._settings.writes_per_second
        bucket = TokenBucket(rate, rate, self._clock())
        room = asyncio.Semaphore(self._settings.parallel)
        while True:
            await self._wait_for_work()
            if (self._audit.is_comparing or self._is_busy()) and not self._queue.is_urgent(self._clock()):
                await asyncio.sleep(BUSY_S)
            await room.acquire()
            wait = bucket.take(self._clock())
            if wait > 0:
                room.release()
                await asyncio.sleep(max(LEAST_S, wait))
                continue
            statement = self._queue.take(self._clock())
            if statement is None:
                room.release()
                continue
            tasks.create_task(self._attend(statement, room))

    async def _wait_for_work(self) -> None:
        while True:
            now = self._clock()
            at = self._queue.next_at()
            if at is not None:
                at = max(at, self._troubles.outage.until)
                if at <= now:
                    return
            self._ledger.awake.clear()
            try:
                async with asyncio.timeout(None if at is None else max(LEAST_S, at - now)):
                    await self._ledger.awake.wait()
            except TimeoutError:
                self._queue.tidy(self._clock())

    async def _attend(self, statement: Statement, room: asyncio.Semaphore) -> None:
        key = statement.key
        try:
            wrote = await self._write(statement)
        except (ApiError, ApiUnreachable) as error:
            self._note_failure(statement, error)
        except Exception:  # one object that nobody foresaw must not end the status of all others
            self._troubles.failed += 1
            log.exception("status could not be made", object=str(key))
            self._queue.done(key, self._clock(), wrote=False)
        else:
            if self._troubles.outage.succeeded():
                self.check()  # who was away for some time may have come back with an older state
            self._queue.done(key, self._clock(), wrote=wrote)
        finally:
            self._audit.overtaken(key)
            room.release()
            self._ledger.awake.set()

    async def _write(self, statement: Statement) -> bool:
        """Whether something was written."""
        path, api_version = self._served.object(statement.key), self._served.api_version(KINDS[statement.key.kind])
        if self._may_be_first(statement) and await self._write_first(path, statement):
            return True
        conflicts = 0
        while True:
            known = self._ledger.recall(statement.key, api_version)
            current = known or await self._read(path)
            merged = self._ledger.merged(current, statement)
            if merged.is_stale and known is not None:
                continue  # what is known is a former object of this name
            if merged.status is None:
                self._unchanged += 1
                if not merged.is_stale:
                    self._ledger.note_written(statement)
                return False
            if not self._may_write():
                return False
            body = msgspec.json.encode({**current, "status": merged.status})
            try:
                answer = await self._api.replace(f"{path}/status", body)
            except ApiError as error:
                conflicts += 1
                if error.status != 409 or conflicts >= CONFLICTS:
                    raise
                self._conflicts += 1
                continue
            self._wrote(statement, path, answer)
            return True

    def _may_be_first(self, statement: Statement) -> bool:
        # What was there before us is listed first, with what others said of it.
        return (
            not self._audit.is_under_way
            and self._may_patch
            and self._ledger.is_new(statement.key)
            and may_be_first(statement)
            and self._may_write()
        )

    async def _write_first(self, path: str, statement: Statement) -> bool:
        """Whether it was written; if not, somebody has spoken of the object, or it is not the one that is meant."""
        patch = self._ledger.first(statement)
        if patch is None:
            return False
        try:
            answer = await self._api.patch(f"{path}/status", patch, content_type=JSON_PATCH)
        except ApiError as error:
            if error.status not in OTHERWISE:
                raise
            self._may_patch = error.status != 403
            self._conflicts += 1
            return False
        self._wrote(statement, path, answer)
        return True

    def _wrote(self, statement: Statement, path: str, answer: bytes) -> None:
        decoded(path, answer)  # else it was no API server that took it
        self._writes += 1
        self._ledger.note_written(statement)
        self._ledger.remember(statement.key, answer)

    async def _read(self, path: str) -> Raw:
        self._reads += 1
        return decoded(path, await self._api.get(path))

    def _note_failure(self, statement: Statement, error: ApiError | ApiUnreachable) -> None:
        key, now = statement.key, self._clock()
        match error:
            case ApiError(status=404) if not self._served.refused(KINDS[key.kind], error):
                self._ledger.lose(key)
            case ApiError(status=400 | 413 | 422):
                self._refused += 1
                log.error("status is not taken", object=str(key), problem=str(error))
                self._queue.done(key, now, wrote=False)
            case _:
                wait = self._troubles.write_failed(error, self._queue.attempts(key), key)
                self._queue.failed(key, now, wait)
