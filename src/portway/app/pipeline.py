"""The loop between sources and proxies: change sets in, resources out.

Work is done in slices, so that a bulk change holds up neither an acknowledgement nor the next endpoint; between two
slices everything else has its turn. Nothing is published before all sources have reported what exists and all of it is
compiled: a proxy never sees half a world.
"""

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol, TypeVar, cast, final

import msgspec
import structlog

from portway.app import collector
from portway.app.compiler import REPORTS
from portway.app.complaints import Complaints
from portway.envoy.outputs import OUTPUTS
from portway.incremental import AnyOutput, Delta, Engine, Failure
from portway.model.condition import ObjectReport, Reported
from portway.model.fleet import Fleet
from portway.model.names import HostKey, SocketKey, TableKey
from portway.model.resource import Resource, ResourceDelta, ResourceKey, ResourceType
from portway.objects.verdict import ObjectKey, Severity
from portway.store import Input, Source
from portway.translate.fleets import FLEETS_OUT

log = structlog.get_logger(__name__)

SLICE = timedelta(milliseconds=5)
"""Longest time for which compiling holds the event loop: an acknowledgement or endpoint change waits no longer."""

IDLE = timedelta(seconds=1)
"""Without work for so long, there is time to tidy up."""

CATCH_UP = timedelta(seconds=5)
"""Longest wait for a moment without work: the reports of 50,000 objects take half of it."""

ABSORBED = timedelta(milliseconds=100)
"""After this time proxies have made a route theirs."""

ASK_AGAIN = timedelta(seconds=2)
"""Pause before a port that could not be had is asked about again."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Publish = Callable[[str, ResourceDelta], None]
"""Gives a fleet's changes to whoever serves it."""


def fleet_of(key: Hashable) -> str:
    """The fleet that a key of Envoy's outputs is about."""
    match key:
        case HostKey():
            return key.table.fleet
        case SocketKey() | TableKey():
            return key.fleet
        case (str(fleet), _):
            return fleet
    raise TypeError(f"{key!r} names no fleet")


class Ports(Protocol):
    """Who knows which sockets can be had."""

    def look(self) -> bool:
        """Ask about what is newly wanted; True if an input of the engine changed."""
        ...

    async def look_again(self) -> bool:
        """Ask about what could not be had; True if an input of the engine changed."""
        ...

    def doubt(self) -> None:
        """What could be had cannot: ask about everything at the next look."""
        ...

    @property
    def has_problems(self) -> bool: ...


class Positions(Protocol):
    """Who tells proxies how far the sources were read. No call may block."""

    def announce(self) -> None:
        """The engine has been given all that was read: what is handed out from now on may follow from it."""
        ...

    def reach(self) -> None:
        """All that follows from what the engine was given has been handed out."""
        ...


class Follower(Protocol):
    """Who wants to know what comes out of the engine besides resources. No call may block."""

    def reported(self, changed: Mapping[ObjectKey, Reported], removed: Iterable[ObjectKey]) -> None:
        """There is something else to say about objects, or the same about another generation of them."""
        ...

    def fleets_changed(self, changed: Mapping[str, Fleet], removed: frozenset[str]) -> None:
        """Fleets are to be otherwise; nobody wants others any more."""
        ...

    def published(self, fleet: str, delta: ResourceDelta) -> None:
        """A fleet's resources have changed."""
        ...

    def completed(self) -> None:
        """All that is declared has been compiled and handed out for the first time."""
        ...


class PipelineStatistics(msgspec.Struct, frozen=True, kw_only=True):
    synced: bool
    change_sets: int
    published: int
    """Resources given to fleets so far, removals included."""
    reports: int
    last_compile_ms: float
    """From a change set's arrival to its last resource."""


@final
class Pipeline:
    """Feeds an engine from sources and hands on what comes out."""

    def __init__(
        self,
        engine: Engine,
        sources: Sequence[Source],
        publish: Publish,
        *,
        mark_synced: Callable[[str], None],
        fleets: Sequence[str],
        followers: Sequence[Follower] = (),
        positions: Positions | None = None,
        ports: Ports | None = None,
        doubt: Callable[[], str] = lambda: "",
        on_doubt: Callable[[str], None] = lambda reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            publish: called with a fleet and its changes; must not block.
            mark_synced: called once per fleet when its first configuration is complete.
            fleets: those that exist even with nothing to serve; others come and go with what is declared.
            followers: get what is no proxy's business.
            positions: where proxies may come from other replicas.
            ports: asked which sockets can be had whenever the engine has settled.
            doubt: why what the sources reported at first is not to be believed (a folder that is not there); empty: it
                is. Asked until the first configuration is handed out; meanwhile nothing is.
            on_doubt: called once if there is such a doubt.
        """
        self.engine = engine
        self.reports: dict[ObjectKey, ObjectReport] = {}
        self._complaints = Complaints(engine.store)
        self._sources = sources
        self._publish = publish
        self._mark_synced = mark_synced
        self._fleets = set(fleets)
        self._followers = followers
        self._positions = positions
        self._ports = ports
        self._doubt = doubt
        self._on_doubt = on_doubt
        self._doubted = False
        self._clock = clock
        self._work = asyncio.Event()
        self._is_busy = False
        self._handed_out = -math.inf
        self._awaited = set(range(len(sources)))
        self._synced = asyncio.Event()
        self._names: dict[tuple[AnyOutput, Hashable], ResourceKey] = {}
        self._change_sets = self._published = 0
        self._since = 0.0
        self._took = 0.0
        self._failed: frozenset[Failure] = frozenset()

    def statistics(self) -> PipelineStatistics:
        return PipelineStatistics(
            synced=self._synced.is_set(),
            change_sets=self._change_sets,
            published=self._published,
            reports=len(self.reports),
            last_compile_ms=self._took * 1000,
        )

    def verdict_counts(self) -> dict[Severity, int]:
        """How many verdicts of each severity there are on objects and files."""
        counts = dict.fromkeys(Severity, 0)
        for report in self.reports.values():
            for verdict in report.verdicts:
                counts[verdict.severity] += 1
        for finding in self.engine.store.findings():
            counts[finding.verdict.severity] += 1
        return counts

    @property
    def is_synced(self) -> bool:
        return self._synced.is_set()

    @property
    def is_busy(self) -> bool:
        """Whether something is being compiled that proxies wait for, or they have just got it: among thousands of hosts
        Envoy takes tens of milliseconds to make it its own."""
        return self._is_busy or self._clock() < self._handed_out + ABSORBED.total_seconds()

    async def wait_synced(self) -> None:
        """Until the first configuration has been handed out."""
        await self._synced.wait()

    async def settle(self) -> None:
        """Until nothing waits to be compiled; what comes of it is handed out as always. When this returns the engine
        is settled, and stays so until its caller waits for something."""
        while not self._slice():  # noqa: ASYNC110 - nothing is waited for
            await asyncio.sleep(0)

    async def caught_up(self) -> None:
        """Until all that has been reported is compiled and handed out, `reports` included; not for ever."""
        until = self._clock() + CATCH_UP.total_seconds()
        while (self._is_busy or self._work.is_set()) and self._clock() < until:  # noqa: ASYNC110 - it waits for nobody
            await asyncio.sleep(0)

    def set_input(self, source: Input[K, V], key: K, value: V) -> None:
        """Set an input of the engine that comes from no source, and have what follows from it handed out."""
        self.engine.set(source, key, value)
        self._wake()

    def doubt_ports(self) -> None:
        """A proxy refused a listener: look again whether its port can be had."""
        if self._ports is not None:
            self._ports.doubt()
            self._work.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number, source in enumerate(self._sources):
                tasks.create_task(self._follow(number, source))
            tasks.create_task(self._compile())
            tasks.create_task(self._ask_again())

    async def _follow(self, number: int, source: Source) -> None:
        async for change in source.changes():
            self.engine.apply(change)
            if self._positions is not None:
                self._positions.announce()
            for item, findings in change.findings.items():
                self._complaints.found(item, findings)
            self._change_sets += 1
            if change.synced:
                self._awaited.discard(number)
            self._wake()
            # A source that reads without waiting must not keep the compiler from its turn.
            await asyncio.sleep(0)

    def _wake(self) -> None:
        if not self._work.is_set():
            self._since = self._clock()
            self._work.set()

    async def _compile(self) -> None:
        while True:
            await self._wait_for_work()
            self._work.clear()
            self._is_busy = True
            # While a source reads, a route that comes before its Service would be compiled twice.
            finished = bool(self._awaited)
            while not finished:
                finished = self._slice()
                if self._is_compiled() and self._ports_changed():
                    finished = False  # a listener whose port is somebody else's must not leave
                elif self._synced.is_set() or (self._is_compiled() and self._is_believed()):
                    self._hand_out(self.engine.take())
                    if not self._synced.is_set():
                        self._first()
                await asyncio.sleep(0)
            self._is_busy = False
            self._reach()
            self._took = self._clock() - self._since
            log.debug("change compiled", took_ms=round(self._took * 1000, 3))
            self._report_failures()
            self._complaints.say()

    def _is_compiled(self) -> bool:
        """Whether there is a configuration. What there is to say about objects may come while proxies read it."""
        return self._synced.is_set() or (not self._awaited and self.engine.is_settled(OUTPUTS))

    async def _wait_for_work(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE.total_seconds()):
                await self._work.wait()
                return
        if self._synced.is_set():
            collector.tidy()
        await self._work.wait()

    def _report_failures(self) -> None:
        """Each once, not again with every change that has nothing to do with it."""
        failures = self.engine.failures()
        for failure in failures:
            if failure not in self._failed:
                log.error("query failed", query=failure.name, key=str(failure.key), error=failure.error)
        self._failed = frozenset(failures)

    def _is_believed(self) -> bool:
        reason = self._doubt()
        if reason:
            self.disbelieve(reason)
        return not reason

    def disbelieve(self, reason: str) -> None:
        """What the sources say is not all there is, or they say nothing. Counts until the first configuration."""
        if not self._doubted and not self._synced.is_set():
            self._doubted = True
            self._on_doubt(reason)

    def _ports_changed(self) -> bool:
        return self._ports is not None and self._ports.look()

    def _reach(self) -> None:
        if self._positions is not None and self._synced.is_set() and not self._is_busy and not self._work.is_set():
            self._positions.reach()

    async def _ask_again(self) -> None:
        """A port that could not be had may be free by now; a source may have read on and found nothing."""
        while True:
            await asyncio.sleep(ASK_AGAIN.total_seconds())
            self._reach()
            if self._ports is not None and self._ports.has_problems and await self._ports.look_again():
                self._work.set()

    def _slice(self) -> bool:
        ends = self._clock() + SLICE.total_seconds()
        while self.engine.step():
            if self._clock() > ends:
                return False
        return True

    def _first(self) -> None:
        if self._positions is not None:
            self._positions.reach()
        for fleet in sorted(self._fleets):
            self._mark_synced(fleet)
        self._synced.set()
        collector.keep_all()
        log.info("configuration compiled", objects=sum(self.engine.store.statistics().objects.values()))
        for follower in self._followers:
            follower.completed()

    def _hand_out(self, delta: Delta) -> None:
        changed: dict[str, list[Resource]] = {}
        removed: dict[str, list[ResourceKey]] = {}
        for output in OUTPUTS:
            values, gone = delta.of_any(output)
            for key, value in values.items():
                resource = cast("Resource", value)
                self._names[output, key] = resource.key
                changed.setdefault(fleet_of(key), []).append(resource)
            for key in gone:
                name = self._names.pop((output, key), None)
                if name is not None:
                    removed.setdefault(fleet_of(key), []).append(name)
        fleets, unwanted = delta.of(FLEETS_OUT)
        # A fleet is told when there is something for it, and at first also that there is nothing.
        told = (changed.keys() | removed.keys() | fleets.keys()) - self._fleets
        new = told if self._synced.is_set() else frozenset[str]()
        self._fleets |= told
        for fleet in sorted((changed.keys() | removed.keys() | new) if self._synced.is_set() else self._fleets):
            sent = ResourceDelta(changed=tuple(changed.get(fleet, ())), removed=tuple(removed.get(fleet, ())))
            self._published += len(sent.changed) + len(sent.removed)
            keys = itertools.chain((resource.key for resource in sent.changed), sent.removed)
            if any(key.type is ResourceType.VIRTUAL_HOST for key in keys):
                self._handed_out = self._clock()
            self._publish(fleet, sent)
            for follower in self._followers:
                follower.published(fleet, sent)
        for fleet in sorted(new):
            self._mark_synced(fleet)
        self._fleets -= unwanted
        if fleets or unwanted:
            for follower in self._followers:
                follower.fleets_changed(fleets, unwanted)
        self._learn(*delta.of(REPORTS))

    def _learn(self, changed: Mapping[ObjectKey, Reported], removed: frozenset[ObjectKey]) -> None:
        for key, reported in changed.items():
            self.reports[key] = reported.report
            self._complaints.reported(reported.report)
        for key in removed:
            self.reports.pop(key, None)
            self._complaints.forgotten(key)
        if changed or removed:
            for follower in self._followers:
                follower.reported(changed, removed)
