"""Keeps the acknowledged configuration on disk up to date, beside the traffic: what proxies accept is gathered and
written at most once a second, in a thread. What cannot be written now (a full disk) is tried again; nobody waits for
it, and traffic is not touched.

Proxies drop endpoints, secrets and route configurations by themselves, without a word; a proxy that died acknowledges
nothing. So what is no longer wanted is removed after a while without acknowledgement: else the file would keep the
private keys of deleted Secrets for ever.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import final

import structlog

from portway.app.snapshot import SnapshotFile, SnapshotUnwritable
from portway.model.resource import Resource, ResourceDelta, ResourceKey
from portway.xds.messages import Acceptance, Outcome

log = structlog.get_logger(__name__)

PAUSE = timedelta(seconds=1)
TRY_AGAIN = timedelta(seconds=10)
"""After a failure."""
FORGET = timedelta(minutes=10)
"""After which what is no longer wanted goes. Longer than a proxy may go on with it: the grace of clusters and the
draining of listeners; what is wanted again after that is sent, and acknowledged, again."""

Changes = dict[str, dict[ResourceKey, Resource | None]]
"""By fleet; `None`: to be removed."""


@final
class Recorder:
    """Takes outcomes in (`note`), writes them while `run` runs, and the rest in `flush`.

    Args:
        everything: what the proxies of a fleet serve, for a file that was lost.
    """

    def __init__(
        self,
        file: SnapshotFile,
        everything: Callable[[str], Iterable[Resource]],
        *,
        pause: timedelta = PAUSE,
        try_again: timedelta = TRY_AGAIN,
        forget: timedelta = FORGET,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = file
        self._everything = everything
        self._pause = pause
        self._try_again = try_again
        self._forget = forget
        self._clock = clock
        self._pending: Changes = {}
        self._unwanted: OrderedDict[tuple[str, ResourceKey], float] = OrderedDict()
        """When each is to be removed; in this order."""
        self._writing: Changes = {}
        """What is being written, or could not be: to say it twice is harmless."""
        self._failing = ""
        self._event = asyncio.Event()

    def note(self, fleet: str, proxy: str, outcome: Outcome) -> None:
        """For `DiscoveryServer(on_outcome=...)`. Coalescing: the last state of each resource counts."""
        del proxy  # on one machine a fleet has one proxy, and during a hot restart both get the same
        if not isinstance(outcome, Acceptance):
            return
        pending = self._pending.setdefault(fleet, {})
        for resource in outcome.resources:
            pending[resource.key] = resource
        for name in outcome.removed:
            pending[ResourceKey(outcome.type, name)] = None
        self._event.set()

    def follow(self, fleet: str, delta: ResourceDelta) -> None:
        """A fleet shall hold something else from now on."""
        for resource in delta.changed:
            self._unwanted.pop((fleet, resource.key), None)
        due = self._clock() + self._forget.total_seconds()
        for key in delta.removed:
            self._unwanted.pop((fleet, key), None)
            self._unwanted[fleet, key] = due
        if delta.removed:
            self._event.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wait()
            await asyncio.sleep(self._pause.total_seconds())
            self._event.clear()
            self._gather()
            self._learn(await asyncio.to_thread(self._write, self._writing))
            if self._failing:
                await asyncio.sleep(self._try_again.total_seconds())
                self._event.set()

    def flush(self) -> None:
        """Write what is left; blocking."""
        self._gather()
        self._learn(self._write(self._writing))

    async def _wait(self) -> None:
        """Until there is something to write."""
        due = next(iter(self._unwanted.values()), None)
        try:
            async with asyncio.timeout(None if due is None else max(0.0, due - self._clock())):
                await self._event.wait()
        except TimeoutError:
            return

    def _gather(self) -> None:
        taken, self._pending = self._pending, {}
        now = self._clock()
        while self._unwanted:
            (fleet, key), due = next(iter(self._unwanted.items()))
            if due > now:
                break
            del self._unwanted[fleet, key]
            taken.setdefault(fleet, {})[key] = None
        for fleet, changes in taken.items():
            self._writing.setdefault(fleet, {}).update(changes)

    def _write(self, changes: Changes) -> SnapshotUnwritable | None:
        for fleet, resources in changes.items():
            changed = [resource for resource in resources.values() if resource is not None]
            removed = [key for key, resource in resources.items() if resource is None]
            try:
                self._file.write(fleet, changed, removed)
            except SnapshotUnwritable as error:
                return error
        return None

    def _learn(self, problem: SnapshotUnwritable | None) -> None:
        """What became of the write; each trouble is reported once."""
        if problem is None:
            if self._failing:
                log.info("acknowledged configuration is written again")
            self._failing = ""
            self._writing = {}
            return
        if problem.lost:
            for fleet, changes in self._writing.items():
                served: dict[ResourceKey, Resource | None] = {one.key: one for one in self._everything(fleet)}
                self._writing[fleet] = served | changes
        if str(problem) != self._failing:
            self._failing = str(problem)
            log.error(
                "acknowledged configuration cannot be written, a restart without sources would serve an older one",
                problem=self._failing,
            )
