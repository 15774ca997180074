"""Status as a whole: what happens comes in, statements go to the writer, claims to the leader, news to the desk.

Every replica judges, in a task of its own and a little at a time, so that one which begins to lead knows all at once.
The calls by which others tell what happened only note it: they never wait, and cost the pipeline an append.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, final

import msgspec

from portway.model.condition import Reported
from portway.model.resource import Resource, ResourceDelta, ResourceKey
from portway.objects.verdict import ObjectKey
from portway.status.judge import Judge, Judged, JudgeStatistics
from portway.status.merge import LoadBalancerAddress, Statement
from portway.status.news import NewsDesk
from portway.status.replicas import Claim, Replicas, Teller
from portway.status.writer import StatusWriter, WriterStatistics
from portway.xds.fleet import FleetState
from portway.xds.messages import Outcome

if TYPE_CHECKING:
    from portway.status.exchange import Exchange  # late: aiohttp takes 0.3 s

TURN: Final = 40
"""Objects that are judged before others have their turn: a millisecond's worth."""
NOTES: Final = 300
"""Notes that are taken in before others have their turn."""
LOOK_S: Final = 0.5
"""How often proxies that came or went, and what is overdue, are looked for."""

Addresses = Callable[[ObjectKey], tuple[LoadBalancerAddress, ...] | None]
"""Where an Ingress of ours is served; `None`: not known (yet), so nothing is said."""


class ServiceStatistics(msgspec.Struct, frozen=True, kw_only=True):
    notes: int
    """That wait to be taken in."""
    judge: JudgeStatistics
    writer: WriterStatistics


Note = tuple[str, Resource | ResourceKey | Outcome] | Reported | ObjectKey


@final
class StatusService:
    """Judges what is reported and acknowledged. `run` in every replica; `StatusWriter.run` in the leader."""

    def __init__(
        self,
        fleets: Callable[[], Mapping[str, FleetState]],
        writer: StatusWriter,
        *,
        replicas: Replicas | None = None,
        teller: Teller | None = None,
        desk: NewsDesk | None = None,
        addresses: Addresses = lambda key: None,
        is_certain: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """
        Args:
            fleets: the proxies that are connected to us, by fleet.
            writer: gets every statement; it writes while it runs.
            replicas: what other replicas say; `None`: there are none.
            teller: gets what we say to the leader.
            desk: gets what owners must know.
            addresses: of Ingresses.
            is_certain: whether an object that is not ours for all we know is not ours. Until then what was said of it
                before us is not taken back.
            clock: seconds, never going back; by default the event loop's.
        """
        self._fleets = fleets
        self._writer = writer
        self._teller = teller
        self._desk = desk
        self._addresses = addresses
        self._is_certain = is_certain
        self._doubtful: dict[ObjectKey, Statement] = {}
        """Of objects that may be ours all the same."""
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._judge = Judge(fleets, replicas)
        self._notes: deque[Note] = deque()
        self._awake = asyncio.Event()
        self._exchange: Exchange | None = None

    def use(self, exchange: "Exchange") -> None:
        """Tell the leader over this."""
        self._exchange = exchange

    def statistics(self) -> ServiceStatistics:
        return ServiceStatistics(
            notes=len(self._notes), judge=self._judge.statistics(), writer=self._writer.statistics()
        )

    # What happens. Each call returns at once.

    def reported(self, reported: Iterable[Reported], removed: Iterable[ObjectKey] = ()) -> None:
        """There are new reports, or the generation of objects has moved; objects are gone."""
        self._notes.extend(reported)
        self._notes.extend(removed)
        self._awake.set()

    def published(self, fleet: str, delta: ResourceDelta) -> None:
        """A fleet shall hold something else; beside `DiscoveryServer.apply`."""
        self._notes.extend((fleet, resource) for resource in delta.changed)
        self._notes.extend((fleet, key) for key in delta.removed)
        self._awake.set()

    def answered(self, fleet: str, proxy: str, outcome: Outcome) -> None:
        """For `DiscoveryServer(on_outcome=...)`."""
        del proxy
        self._notes.append((fleet, outcome))
        self._awake.set()

    def others_said(self, keys: Iterable[ObjectKey]) -> None:
        """For `Exchange(on_heard=...)`."""
        self._judge.others_said(keys)
        self._awake.set()

    def others_changed(self) -> None:
        """For `Exchange(on_change=...)`."""
        self._judge.others_changed()
        self._awake.set()

    # Judging.

    async def run(self) -> None:
        """Judge until cancelled."""
        look_at = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._awake.wait()
            self._awake.clear()
            await self._take_notes()
            if self._clock() >= look_at:
                look_at = self._clock() + LOOK_S
                self._judge.look(self._clock())
                self._say_certain()
            while not self._judge.is_idle:
                for judged in self._judge.judge(self._clock(), TURN):
                    self._say(judged)
                await asyncio.sleep(0)
            self._tell()

    def _tell(self) -> None:
        # After judging: what proxies that have just come lack is known before anybody hears of them.
        if self._teller is not None:
            self._teller.count({name: len(state.sessions) for name, state in self._fleets().items()})
        if self._exchange is not None:
            self._exchange.news()

    async def _take_notes(self) -> None:
        number = 0
        while self._notes:
            self._take(self._notes.popleft())
            number += 1
            if number % NOTES == 0:
                await asyncio.sleep(0)

    def _take(self, note: Note) -> None:
        match note:
            case Reported():
                self._judge.reported(note.report, note.generation, note.uid)
            case ObjectKey():
                self._forget(note)
            case (str(fleet), Resource() as resource):
                self._judge.published(fleet, ResourceDelta(changed=(resource,)), self._clock())
            case (str(fleet), ResourceKey() as key):
                self._judge.published(fleet, ResourceDelta(removed=(key,)), self._clock())
            case (str(fleet), outcome):
                self._judge.answered(fleet, outcome)

    def _forget(self, key: ObjectKey) -> None:
        self._judge.forgotten(key)
        self._writer.forget(key)
        self._doubtful.pop(key, None)
        if self._teller is not None:
            self._teller.forget(key)
        if self._desk is not None:
            self._desk.forgotten(key)

    def _say(self, judged: Judged) -> None:
        if self._desk is not None:
            self._desk.judged(judged.report, judged.uid, self._clock())
        if self._teller is not None and judged.has_needs:
            self._teller.claim(Claim(object=judged.key, generation=judged.generation, lacking=judged.lacking))
        if not judged.generation:
            return
        statement = self._statement(judged)
        if judged.report.ours or self._is_certain():
            self._doubtful.pop(judged.key, None)
            self._writer.want(statement)
        else:
            self._doubtful[judged.key] = statement

    def _say_certain(self) -> None:
        if self._doubtful and self._is_certain():
            for statement in self._doubtful.values():
                self._writer.want(statement)
            self._doubtful.clear()

    def _statement(self, judged: Judged) -> Statement:
        # Only what is written: a verdict, or a socket, that changes nothing there makes no new statement.
        said = msgspec.structs.replace(judged.report, verdicts=(), serving=())
        is_ingress = judged.key.kind == "Ingress" and judged.report.ours
        return Statement(
            report=msgspec.structs.replace(said, conditions=()) if is_ingress else said,
            generation=judged.generation,
            uid=judged.uid,
            load_balancer=self._addresses(judged.key) if is_ingress else None,
        )
