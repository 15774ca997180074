"""Writes statements into the status of objects: read, merge, replace with the resource version that was read; of a new
route without reading (`first.py`).

It runs while we are the leader, in a task of its own, and is fed by calls that only note what is wanted. What it wrote
it remembers, so a statement that says the same costs nothing; what it found when it began, after an outage, and every
now and then, it learns by listing a kind page by page, which is one request for a hundred objects and finds entries of
ours that a former life left behind. Server-side apply is no way: it cannot tell our entries in an atomic list from
others, and it may leave half an entry behind when a listener goes.

An object that is gone is dropped; a conflict is read again; what the server refuses for good (422) waits for another
statement; everything else is tried again, later and later, and never before the server's own `Retry-After`.
"""

import asyncio
import contextlib
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, final

import msgspec
import structlog

from portway.kubernetes.client import JSON_PATCH
from portway.kubernetes.errors import ApiError, ApiUnreachable
from portway.kubernetes.paths import resource_path
from portway.objects.kinds import KINDS, Kind
from portway.objects.verdict import ObjectKey
from portway.status.audit import list_objects
from portway.status.first import OTHERWISE, first_status, may_be_first
from portway.status.merge import Merged, Statement, merge
from portway.status.outage import PATIENT, Outage, concerns_all
from portway.status.queue import LONGEST_PAUSE, PAUSE, SETTLE, TokenBucket, Urgency, WriteQueue, is_settled, urgency_of
from portway.status.raw import Raw
from portway.status.references import HAVE_PARENTS

log = structlog.get_logger(__name__)

WRITTEN_KINDS: Final = HAVE_PARENTS | {"GatewayClass", "Gateway", "ListenerSet", "Ingress", "Backend", "UpstreamPolicy"}
"""Kinds that have a status of ours."""
CONFLICTS: Final = 5
"""Conflicts in a row before an object's turn is over: somebody else is writing it again and again."""
KNOWN: Final = 256
"""Objects that are remembered as they were written, so that the next write of the same object needs no reading."""
MANY: Final = 100
"""Objects of which there is news within `LOOK_S`: they are listed, not read one by one."""
LOOK_S: Final = 1.0
TURN: Final = 20
"""Objects that are merged before others have their turn: a millisecond's worth."""
BUSY_S: Final = 0.02
"""Between two writes of routes while configuration is being made; each takes some 1.5 ms of ours."""
LONGEST_WAIT: Final = timedelta(seconds=10)
"""... of an object that fails again and again, such as by an admission webhook; the first is a hundredth of it."""
MOST_TOLD: Final = 1_000
"""Things that are said only once. More at once is no log that anybody reads."""
FORBIDDEN_AGAIN: Final = timedelta(minutes=1)
"""RBAC is mended by people."""


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
        self._controller = controller
        self._namespaces = tuple(namespaces)
        self._settings = settings or WriterSettings()
        self._may_write = may_write
        self._is_busy = is_busy
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._wall = wall
        self._chance = chance
        self._queue = WriteQueue(pause=self._settings.pause, longest=self._settings.longest_pause)
        self._wanted: dict[ObjectKey, Statement] = {}
        self._written: dict[ObjectKey, Statement] = {}
        self._known: OrderedDict[ObjectKey, Raw] = OrderedDict()
        self._awake = asyncio.Event()
        self._is_running = self._is_auditing = False
        self._is_comparing = False
        self._news = self._spared = 0
        self._much_news = asyncio.Event()
        self._may_patch = True
        self._outage = Outage(chance)
        self._audit_at = 0.0
        self._told: set[str] = set()
        self._reads = self._listed = self._writes = self._unchanged = 0
        self._conflicts = self._refused = self._failed = 0

    def statistics(self) -> WriterStatistics:
        queue = self._queue.statistics()
        return WriterStatistics(
            is_writing=self._is_running,
            wanted=len(self._wanted),
            waiting=queue.waiting + queue.under_way,
            coalesced=queue.coalesced,
            reads=self._reads,
            listed=self._listed,
            writes=self._writes,
            unchanged=self._unchanged,
            conflicts=self._conflicts,
            refused=self._refused,
            failed=self._failed,
        )

    # What is wanted.

    def want(self, statement: Statement) -> None:
        """This is to be said about an object, instead of what was to be said before. Returns at once."""
        key = statement.key
        if key.kind not in WRITTEN_KINDS or self._wanted.get(key) == statement:
            return
        self._wanted[key] = statement
        if self._is_running:
            self._put(statement)

    def forget(self, key: ObjectKey) -> None:
        """The object is gone."""
        self._wanted.pop(key, None)
        self._lose(key)

    def check(self) -> None:
        """Look at what stands there soon, whatever was written: the API server was away, and may have come back with an
        older state. Called by whoever notices; the writer itself does only while it has something to write."""
        self._audit_at = 0.0

    def _put(self, statement: Statement) -> None:
        written = self._written.get(statement.key)
        if written == statement and not self._queue.holds(statement.key):
            return
        if written is None and not says_something(statement):
            return  # what a former life left behind is the audit's business
        settle = 0.0 if is_settled(statement, written) else self._settings.settle.total_seconds()
        urgency = urgency_of(statement, written)
        self._queue.put(statement, urgency, self._clock(), settle=settle)
        self._news += urgency is Urgency.NEWS
        if self._news >= MANY:
            self._much_news.set()
        self._awake.set()

    def _lose(self, key: ObjectKey) -> None:
        self._queue.drop(key)
        self._written.pop(key, None)
        self._known.pop(key, None)

    async def drained(self) -> None:
        """Until all that is wanted is written, while `run` runs."""
        while self._is_auditing or len(self._queue):  # noqa: ASYNC110 - asked at the end of a process, and by tests
            await asyncio.sleep(0.005)

    # Writing.

    async def run(self) -> None:
        """Write until cancelled; then nothing is written any more, and what is under way is broken off."""
        self._written.clear()
        self._known.clear()
        self._queue.clear()
        self._told.clear()
        self._may_patch = True
        self._audit_at = 0.0
        self._outage.began()
        self._is_running = self._is_auditing = True
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._audit_for_ever())
                await self._dispatch(tasks)
        finally:
            self._is_running = self._is_auditing = False

    async def _dispatch(self, tasks: asyncio.TaskGroup) -> None:
        rate = self._settings.writes_per_second
        bucket = TokenBucket(rate, rate, self._clock())
        room = asyncio.Semaphore(self._settings.parallel)
        while True:
            await self._wait_for_work()
            if (self._is_comparing or self._is_busy()) and not self._queue.is_urgent(self._clock()):
                await asyncio.sleep(BUSY_S)
            await room.acquire()
            wait = bucket.take(self._clock())
            if wait > 0:
                room.release()
                await asyncio.sleep(wait)
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
                at = max(at, self._outage.until)
                if at <= now:
                    return
            self._awake.clear()
            try:
                async with asyncio.timeout(None if at is None else at - now):
                    await self._awake.wait()
            except TimeoutError:
                self._queue.tidy(self._clock())

    async def _attend(self, statement: Statement, room: asyncio.Semaphore) -> None:
        key = statement.key
        try:
            wrote = await self._write(statement)
        except (ApiError, ApiUnreachable) as error:
            self._note_failure(statement, error)
        except Exception:  # one object that nobody foresaw must not end the status of all others
            self._failed += 1
            log.exception("status could not be made", object=str(key))
            self._queue.done(key, self._clock(), wrote=False)
        else:
            if self._outage.succeeded():
                self.check()  # who was away for some time may have come back with an older state
            self._queue.done(key, self._clock(), wrote=wrote)
        finally:
            room.release()
            self._awake.set()

    async def _write(self, statement: Statement) -> bool:
        """Whether something was written."""
        path = path_of(statement.key)
        if self._may_be_first(statement) and await self._write_first(path, statement):
            return True
        conflicts = 0
        while True:
            known = self._known.pop(statement.key, None)
            current = known or await self._read(path)
            merged = self._merge(current, statement)
            if merged.is_stale and known is not None:
                continue  # what is known is a former object of this name
            if merged.status is None:
                self._unchanged += 1
                if not merged.is_stale:
                    self._note_written(statement)
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
            self._wrote(statement, _decoded(path, answer))
            return True

    def _may_be_first(self, statement: Statement) -> bool:
        # What was there before us is listed first, with what others said of it.
        return (
            not self._is_auditing
            and self._may_patch
            and statement.key not in self._written
            and statement.key not in self._known
            and may_be_first(statement)
            and self._may_write()
        )

    async def _write_first(self, path: str, statement: Statement) -> bool:
        """Whether it was written; if not, somebody has spoken of the object, or it is not the one that is meant."""
        merged, patch = first_status(statement, controller=self._controller, now=self._now())
        if merged.status is None:
            return False
        self._tell_left_out(statement, merged)
        try:
            answer = await self._api.patch(f"{path}/status", patch, content_type=JSON_PATCH)
        except ApiError as error:
            if error.status not in OTHERWISE:
                raise
            self._may_patch = error.status != 403
            self._conflicts += 1
            return False
        self._wrote(statement, _decoded(path, answer))
        return True

    def _wrote(self, statement: Statement, current: Raw) -> None:
        self._writes += 1
        self._note_written(statement)
        self._remember(statement.key, current)

    def _now(self) -> str:
        return self._wall().strftime("%Y-%m-%dT%H:%M:%SZ")

    async def _read(self, path: str) -> Raw:
        self._reads += 1
        return _decoded(path, await self._api.get(path))

    def _merge(self, current: Raw, statement: Statement) -> Merged:
        merged = merge(
            current,
            statement,
            controller=self._controller,
            now=self._now(),
            before=self._written.get(statement.key),
        )
        self._tell_left_out(statement, merged)
        return merged

    def _tell_left_out(self, statement: Statement, merged: Merged) -> None:
        for left_out in merged.left_out:
            self._tell(
                f"{statement.key}: {left_out}", "no room in the status", object=str(statement.key), what=left_out
            )

    def _note_written(self, statement: Statement) -> None:
        if says_something(statement):
            self._written[statement.key] = statement
        else:
            self._written.pop(statement.key, None)

    def _remember(self, key: ObjectKey, current: Raw) -> None:
        self._known[key] = current
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)

    # What goes wrong.

    def _note_failure(self, statement: Statement, error: ApiError | ApiUnreachable) -> None:
        key, now = statement.key, self._clock()
        if isinstance(error, ApiError) and error.status == 404:
            self._lose(key)
            return
        if isinstance(error, ApiError) and error.status in (400, 413, 422):
            self._refused += 1
            log.error("status is not taken", object=str(key), problem=str(error))
            self._queue.done(key, now, wrote=False)
            return
        self._failed += 1
        self._queue.failed(key, now, self._wait_after(error, self._queue.attempts(key), key))

    def _wait_after(self, error: ApiError | ApiUnreachable, attempts: int, key: ObjectKey) -> float:
        """Seconds until the object's next turn."""
        if concerns_all(error):
            self._outage.failed(error, self._clock())
            return 0.0
        if isinstance(error, ApiError) and error.status == 403:
            plural = KINDS[key.kind].plural
            self._tell(f"{error.verb} {plural}", "statuses cannot be written", resource=plural, problem=str(error))
            return FORBIDDEN_AGAIN.total_seconds() * (0.5 + self._chance())
        if attempts == PATIENT:
            log.error("status could not be written", object=str(key), problem=str(error), attempts=attempts)
        return LONGEST_WAIT.total_seconds() * min(1.0, 0.01 * 2.0 ** min(attempts, 10)) * (0.5 + self._chance() / 2)

    def _tell(self, once: str, event: str, **said: str) -> None:
        if once not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(once)
            log.error(event, **said)

    # What stands there.

    async def _audit_for_ever(self) -> None:
        while True:
            self._is_auditing = True
            await self._audit()
            self._is_auditing = False
            self._audit_at = self._clock() + self._settings.audit.total_seconds() * (0.9 + self._chance() / 5)
            may_help = True
            while self._audit_at > self._clock():
                self._news = 0
                self._much_news.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(LOOK_S, self._audit_at - self._clock())):
                        await self._much_news.wait()
                may_help = not self._much_news.is_set() or (may_help and await self._compare())

    async def _compare(self) -> bool:
        """Look what of much news stands there already; whether that was most of it.

        A new leader hears of the proxies when it has looked at the statuses already. To read thousands of objects one
        by one, of which none is to be written, would take all its writes for a while.
        """
        spared = self._spared
        self._is_comparing = True
        try:
            await self._audit()
        finally:
            self._is_comparing = False
        return self._spared - spared > len(self._queue)

    async def _audit(self) -> None:
        for kind in map(KINDS.__getitem__, sorted(WRITTEN_KINDS)):
            for namespace in (self._namespaces if kind.namespaced else ()) or ("",):
                wanted = [one for key, one in self._wanted.items() if _is_in(key, kind, namespace)]
                # Entries of ours that a former life left behind can be told from others only where they name us.
                if not wanted or (kind.name not in HAVE_PARENTS and not any(map(says_something, wanted))):
                    continue
                try:
                    await self._audit_place(kind, namespace)
                except (ApiError, ApiUnreachable) as error:
                    self._audit_failed(error, kind, namespace, wanted)

    def _audit_failed(
        self, error: ApiError | ApiUnreachable, kind: Kind, namespace: str, wanted: Iterable[Statement]
    ) -> None:
        """Then one by one."""
        self._failed += 1
        if concerns_all(error):
            self._outage.failed(error, self._clock())
        is_forbidden = isinstance(error, ApiError) and error.status == 403
        if is_forbidden:
            said = {"resource": kind.plural, "namespace": namespace, "problem": str(error)}
            self._tell(f"list {kind.plural} {namespace}", "statuses cannot be listed, so they are read singly", **said)
        for statement in wanted:
            if not is_forbidden:
                self._put(statement)
            elif not self._queue.holds(statement.key):
                # Nobody will list them soon: whatever we know of them is to be looked at.
                self._lose(statement.key)
                self._queue.put(statement, urgency_of(statement, None), self._clock())
                self._awake.set()

    async def _audit_place(self, kind: Kind, namespace: str) -> None:
        number = 0
        async for key, current in list_objects(self._api, kind, namespace):
            number += 1
            if number % TURN == 0:
                await asyncio.sleep(0)
            statement = self._wanted.get(key)
            if statement is None or self._queue.is_under_way(key):
                continue
            is_waiting = self._queue.holds(key)
            merged = self._merge(current, statement)
            if merged.status is None:
                if not merged.is_stale:
                    self._note_written(statement)
                    self._queue.drop(key)
                    self._spared += is_waiting
            elif not is_waiting:
                self._written.pop(key, None)
                self._remember(key, {"apiVersion": kind.api_versions[0], "kind": kind.name, **current})
                self._queue.put(statement, urgency_of(statement, None), self._clock())
                self._awake.set()
        self._listed += number


def _decoded(path: str, body: bytes) -> Raw:
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise ApiUnreachable(f"{path}: the answer is no object ({error}); is this an API server?") from error


def _is_in(key: ObjectKey, kind: Kind, namespace: str) -> bool:
    return key.kind == kind.name and namespace in ("", key.namespace)


def says_something(statement: Statement) -> bool:
    """Whether we say anything about the object; else what we said before, if anything, is taken back."""
    if statement.key.kind == "Ingress":
        return statement.report.ours and statement.load_balancer is not None
    return statement.report.ours


def path_of(key: ObjectKey) -> str:
    """Path of an object in the version that we read."""
    kind = KINDS[key.kind]
    return resource_path(kind.group, kind.versions[0], kind.plural, key.namespace, key.name)
