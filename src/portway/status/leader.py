"""Leads, or waits to lead: one replica writes statuses and infrastructure, all of them serve proxies.

The decisions are `lease.py`'s. Besides asking every two seconds a candidate watches the Lease, so that one that is
given up finds its next holder within milliseconds; without the right to watch, within two seconds.

Whoever acts as leader does so inside the coroutine that is handed in: it is cancelled the moment that leadership ends,
before the Lease can be anybody else's, and a clean end gives the Lease up only after that. `is_leader` looks at the
clock and not at a flag: a process that was stopped for a minute answers right at its first instruction.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Final, Protocol, final

import msgspec
import structlog

from portway.kubernetes.errors import ApiError, ApiUnreachable
from portway.kubernetes.paths import resource_path
from portway.kubernetes.watch_lines import MALFORMED
from portway.status.lease import (
    Held,
    LeaseSettings,
    Move,
    Observer,
    new_lease,
    read_lease,
    released_lease,
    written_lease,
)
from portway.status.raw import Raw, as_map, decoded

log = structlog.get_logger(__name__)

RELEASE_S: Final = 2.0
"""Longest wait for giving it up at the end; after that it ends by itself."""


Work = Callable[[], Coroutine[None, None, None]]


class LeaseApi(Protocol):
    """What is asked of an `ApiClient`."""

    async def get(self, path: str, params: Mapping[str, str] = ..., /) -> bytes: ...

    async def create(self, path: str, body: bytes, /) -> bytes: ...

    async def replace(self, path: str, body: bytes, /) -> bytes: ...

    def stream(self, path: str, params: Mapping[str, str], /) -> AsyncIterator[bytes]: ...


class LeaderStatistics(msgspec.Struct, frozen=True, kw_only=True):
    is_leader: bool
    holder: str
    """Empty: nobody, or not known."""
    address: str
    """Where the holder hears the other replicas; empty: nowhere."""
    transitions: int
    failures: int
    """Attempts to take or renew without success, in a row."""


class _WatchEvent(msgspec.Struct, frozen=True, rename={"lease": "object"}):
    type: str
    lease: dict[str, object]


def now_with_sleep() -> float:
    """Seconds, never going back, and going on while the machine is suspended: a laptop that wakes up leads no more."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@final
class Elector:
    """One candidate for one Lease."""

    def __init__(
        self,
        api: LeaseApi,
        *,
        namespace: str,
        name: str,
        identity: str,
        address: str = "",
        labels: Mapping[str, str] | None = None,
        settings: LeaseSettings | None = None,
        is_informed: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = now_with_sleep,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            namespace: of the Lease; the control plane's own.
            name: of the Lease; one per controller, so that two in one cluster never meet.
            identity: unique in each life of each replica: the pod's name and something random.
            address: where we hear other replicas while we lead (`host:port`); empty: nowhere.
            labels: of a Lease that we make.
            is_informed: whether we know how things are; asked of who does not lead. Whoever has just got the API
                server back would write what he knew before. Then others may lead first; if nobody does for a Lease's
                duration, we do.
            clock: seconds, never going back.
            wall: the time of day; only for people who read the Lease.
            chance: from 0 to 1.
        """
        self._api = api
        self._namespace = namespace
        self._collection = resource_path("coordination.k8s.io", "v1", "leases", namespace)
        self._name = name
        self._path = f"{self._collection}/{name}"
        self._identity = identity
        self._address = address
        self._labels = dict(labels or {})
        self._settings = settings or LeaseSettings()
        self._clock = clock
        self._wall = wall
        self._chance = chance
        self._observer = Observer(identity, self._settings)
        self._lease: Raw | None = None
        self._leads_until = 0.0
        self._is_informed = is_informed
        self._free_since: float | None = None
        """Since when we could lead, and do not, as we are not informed."""
        self._holds = False
        self._failures = 0
        self._stirred = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def is_leader(self) -> bool:
        """Whether we lead at this moment."""
        return self._holds and self._clock() < self._leads_until

    @property
    def held(self) -> Held:
        """Who holds the Lease, as far as we know."""
        return self._observer.held

    async def changed(self, since: Held) -> None:
        """Until the holder, or its address, is another one than that."""
        while (self.held.holder, self.held.address) == (since.holder, since.address):
            self._changed.clear()
            await self._changed.wait()

    def statistics(self) -> LeaderStatistics:
        return LeaderStatistics(
            is_leader=self.is_leader,
            holder=self.held.holder,
            address=self.held.address,
            transitions=self.held.transitions,
            failures=self._failures,
        )

    async def run(self, lead: Work) -> None:
        """Compete until cancelled.

        Args:
            lead: runs while we lead and is cancelled when that ends; then again when we lead again. If it returns, the
                Lease is kept all the same.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch())
                while True:
                    await self._acquire()
                    log.info("leading", lease=f"{self._namespace}/{self._name}", identity=self._identity)
                    await self._lead(lead)
                    log.warning("not leading any more", holder=self.held.holder, failures=self._failures)
        finally:
            await self._release()

    async def _lead(self, lead: Work) -> None:
        """Until we do not lead any more."""
        async with asyncio.TaskGroup() as tasks:
            leading = tasks.create_task(lead())
            try:
                await self._renew_for_ever()
            finally:
                leading.cancel()

    async def _acquire(self) -> None:
        while not await self._attempt_within(self._settings.renew_within.total_seconds()):
            await self._wait(until=self._observer.ends_at if self._observer.held.holder else None)

    async def _renew_for_ever(self) -> None:
        """Until the Lease is lost or could not be renewed in time."""
        while self.is_leader:
            await self._wait(until=self._leads_until)
            left = self._leads_until - self._clock()
            if left <= 0:
                break
            await self._attempt_within(left)
        self._holds = False

    async def _attempt_within(self, seconds: float) -> bool:
        """As `_attempt`. A request that hangs, as in a network that is cut, must not be all that we do."""
        try:
            async with asyncio.timeout(seconds):
                return await self._attempt()
        except TimeoutError:
            self._failed(TimeoutError(f"no answer within {seconds:.1f} s"))
            return False

    async def _wait(self, until: float | None) -> None:
        """Until the next attempt: some time, or at once where the Lease was seen to change hands."""
        seconds = self._settings.retry.total_seconds() * (0.9 + 0.2 * self._chance())
        if until is not None and until > self._clock():
            seconds = min(seconds, max(0.01, until - self._clock()))
        self._stirred.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stirred.wait()

    async def _attempt(self) -> bool:
        """Take or renew the Lease. Whether we hold it."""
        began = self._clock()
        try:
            lease = self._lease
            if not self._holds or lease is None:
                lease = await self._read()
                if self._is_for_others(self._saw(lease)):
                    return False
            lease = await self._write(lease, written_lease(lease, self._identity, self._address, *self._stamp()))
        except (ApiError, ApiUnreachable) as error:
            self._lease = self._free_since = None
            self._failed(error)
            if isinstance(error, ApiError) and error.status in (404, 409) and self._holds:
                # Somebody else has written it: who holds it is seen at the next attempt, at once.
                self._stirred.set()
                with contextlib.suppress(ApiError, ApiUnreachable):
                    self._holds = self._saw(await self._read()) is Move.RENEW
            return False
        self._failures = 0
        self._lease = lease
        self._saw(lease)
        self._leads_until = began + self._settings.renew_within.total_seconds()
        self._holds = True
        return True

    def _is_for_others(self, move: Move) -> bool:
        """Whether somebody else leads, or may lead first."""
        # Who leads already knows no less than when it began: a renewal that fails is no reason to give up.
        if move is Move.WAIT or self.is_leader or self._is_informed():
            self._free_since = None
            return move is Move.WAIT
        if self._free_since is None:
            self._free_since = self._clock()
        return self._clock() < self._free_since + self._settings.duration.total_seconds()

    def _stamp(self) -> tuple[LeaseSettings, datetime]:
        return self._settings, self._wall()

    async def _read(self) -> Raw:
        try:
            return decoded(self._path, await self._api.get(self._path))
        except ApiError as error:
            if error.status != 404:
                raise
        return new_lease(self._namespace, self._name, self._labels)

    async def _write(self, before: Raw, lease: Raw) -> Raw:
        body = msgspec.json.encode(lease)
        is_new = not as_map(before.get("metadata")).get("resourceVersion")
        answer = await (self._api.create(self._collection, body) if is_new else self._api.replace(self._path, body))
        return decoded(self._path, answer)

    def _saw(self, lease: Raw) -> Move:
        before = self.held
        # As of now, not of when it was asked for: an answer may take longer than the Lease lasts, and its holder has
        # renewed it meanwhile.
        move = self._observer.saw(lease, self._clock())
        if (self.held.holder, self.held.address) != (before.holder, before.address):
            self._changed.set()
        return move

    def _failed(self, error: Exception) -> None:
        if isinstance(error, ApiError) and error.status == 409:
            return  # another candidate was quicker
        self._failures += 1
        if self._failures == 1:
            log.warning("lease cannot be had", lease=f"{self._namespace}/{self._name}", problem=str(error))

    async def _watch(self) -> None:
        """Look at the Lease as it changes; only to be quicker."""
        while True:
            try:
                async for line in self._api.stream(self._collection, {"fieldSelector": f"metadata.name={self._name}"}):
                    self._noticed(msgspec.json.decode(line, type=_WatchEvent))
            except (ApiError, ApiUnreachable, *MALFORMED) as error:
                log.debug("watch of the lease ended", problem=str(error))
            await asyncio.sleep(self._settings.retry.total_seconds() * (1 + self._chance()))

    def _noticed(self, event: _WatchEvent) -> None:
        if event.type not in ("ADDED", "MODIFIED", "DELETED") or self._holds:
            return
        lease = {} if event.type == "DELETED" else event.lease
        if self._saw(lease) is not Move.WAIT:
            self._stirred.set()

    async def _release(self) -> None:
        """Give it up, if we hold it."""
        lease, held = self._lease, self._holds
        self._holds = False
        if not held or lease is None or read_lease(lease).holder != self._identity:
            return
        try:
            async with asyncio.timeout(RELEASE_S):
                await self._write(lease, released_lease(lease, self._wall()))
        except (ApiError, ApiUnreachable, TimeoutError) as error:
            log.info("lease is not given up, it ends by itself", problem=str(error))
