"""What is to be said about objects as proxies answer, with work in proportion to what moved.

An object that all proxies hold is settled: that a virtual host which it shares with a thousand others is sent again
because of one of those is none of its business, nor that a proxy comes that has to read everything first. It is judged
again when there is another report about it, when a proxy refuses something that it needs, or when something that it
needs is overdue: connected proxies do not hold it after 20 s, or a minute if there is a reason. What is not settled is
judged again with each answer about what it needs.

A generation of a Gateway comes with the routes that it finds: it is not settled before they are. Routes that come later
are none of its business; they have a condition of their own.

Pure: the shell (`service.py`) tells what happened and when, and asks for judgements in slices.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Final, NamedTuple, Protocol, final

import msgspec

from portway.model.condition import ObjectReport
from portway.model.names import TableKey
from portway.model.resource import ResourceDelta, ResourceKey, ResourceType
from portway.objects.verdict import ObjectKey
from portway.status.programmed import Part, needs_of, used_by, with_programmed, with_route
from portway.status.tally import Need, Tally, Wanted, add_tallies, is_complete, take_tally
from portway.xds.fleet import FleetState
from portway.xds.messages import Acceptance, Outcome, Refusal
from portway.xds.snapshot import route_configuration_of

PATIENCE: Final = timedelta(minutes=1)
"""How long what has a reason may take: proxies that come have all to read, those that lost their control plane take up
to half a minute to find the next one, and a wait for a cluster is bounded in `xds/ordering.py`."""

LAG: Final = timedelta(seconds=20)
"""After that a connected proxy that was sent something and does not answer is said to lag. Envoy acknowledges within
milliseconds, on a machine that is short of CPU within seconds. Well below the 40 s after which one that hangs is
disconnected (`xds/server.py`): else it would never show."""

NEEDED: Final = frozenset({ResourceType.LISTENER, ResourceType.SECRET, ResourceType.VIRTUAL_HOST})
"""Types that something may be waiting for (`programmed.needs_of`)."""


NEVER: Final = float("-inf")


class Subject(NamedTuple):
    """An object that there is something to say about."""

    report: ObjectReport
    """As the compiler made it."""
    generation: int
    uid: str


class _First(NamedTuple):
    """When a generation of a Gateway was judged first; `NEVER`: it is settled."""

    generation: int
    uid: str
    at: float


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A judgement; perhaps the same as the last one about the object."""

    report: ObjectReport
    """`Programmed` included."""
    generation: int
    uid: str
    has_needs: bool
    """Whether proxies have to hold anything for it."""
    lacking: Mapping[Part, Tally]
    """Of the parts that our own proxies do not hold all of: what we say to the leader."""

    @property
    def key(self) -> ObjectKey:
        return self.report.object


class Others(Protocol):
    """What the proxies of other replicas hold."""

    def tallies(self, key: ObjectKey, generation: int, part: Part, fleets: tuple[str, ...]) -> Iterable[Tally]:
        """One per replica with proxies of these fleets; nothing from the others."""
        ...


class JudgeStatistics(msgspec.Struct, frozen=True, kw_only=True):
    subjects: int
    dirty: int
    """To be judged (again)."""
    waiting: int
    """Objects that not every proxy holds."""
    unanswered: int
    """Resources that not every proxy has acknowledged."""


@final
class Judge:
    """Knows the reports, and whom an answer concerns."""

    def __init__(
        self,
        fleets: Callable[[], Mapping[str, FleetState]],
        others: Others | None = None,
        *,
        patience: timedelta = PATIENCE,
        lag: timedelta = LAG,
    ) -> None:
        """
        Args:
            fleets: our own proxies, by fleet.
            others: those of other replicas; `None`: nobody's.
        """
        self._fleets = fleets
        self._others = others
        self._patience = patience.total_seconds()
        self._lag = lag.total_seconds()
        self._subjects: dict[ObjectKey, Subject] = {}
        self._dirty: dict[ObjectKey, None] = {}
        self._hosts: dict[ObjectKey, dict[Wanted, None]] = {}
        self._origins: dict[Wanted, tuple[ObjectKey, ...]] = {}
        self._users: dict[Wanted, set[ObjectKey]] = {}
        self._waiters: dict[Wanted, set[ObjectKey]] = {}
        self._waits: dict[ObjectKey, frozenset[Wanted]] = {}
        self._since: dict[Wanted, float] = {}
        self._hosts_of: dict[tuple[str, str], dict[Wanted, None]] = {}
        """By fleet and table: the virtual hosts in `_since`."""
        self._told: set[Wanted] = set()
        self._firsts: dict[ObjectKey, _First] = {}
        self._sessions: dict[str, tuple[object, ...]] = {}
        self._review: dict[str, float] = {}

    def statistics(self) -> JudgeStatistics:
        return JudgeStatistics(
            subjects=len(self._subjects),
            dirty=len(self._dirty),
            waiting=len(self._waits),
            unanswered=len(self._since),
        )

    # What happened.

    def reported(self, report: ObjectReport, generation: int, uid: str) -> None:
        """There is a new report about an object, or about another generation of it."""
        key = report.object
        self._unuse(key)
        self._subjects[key] = Subject(report, generation, uid)
        for wanted in used_by(report):
            self._users.setdefault(wanted, set()).add(key)
        self._dirty[key] = None

    def forgotten(self, key: ObjectKey) -> None:
        """There is no such object any more."""
        self._unuse(key)
        self._subjects.pop(key, None)
        self._dirty.pop(key, None)
        self._firsts.pop(key, None)
        self._wait(key, frozenset())

    def published(self, fleet: str, delta: ResourceDelta, now: float) -> None:
        """A fleet shall hold something else. Who shares an unchanged host with others is not looked at again."""
        for resource in delta.changed:
            if resource.key.type not in NEEDED:
                continue
            wanted = Wanted(fleet, resource.key)
            self._expect_no_more(wanted)
            self._expect(wanted, now)
            if resource.key.type is ResourceType.VIRTUAL_HOST:
                self._contribute(wanted, resource.origins)
        for key in delta.removed:
            wanted = Wanted(fleet, key)
            self._expect_no_more(wanted)
            self._contribute(wanted, ())

    def answered(self, fleet: str, outcome: Outcome) -> None:
        """A proxy has said something."""
        match outcome:
            case Acceptance() if outcome.type in NEEDED:
                for resource in outcome.resources:
                    self._acknowledged(Wanted(fleet, resource.key))
                for name in outcome.removed:
                    self._acknowledged(Wanted(fleet, ResourceKey(outcome.type, name)))
            case Refusal():
                for key in self._concerned(Wanted(fleet, outcome.key)):
                    self._dirty[key] = None
            case _:
                pass

    def others_said(self, keys: Iterable[ObjectKey]) -> None:
        """Other replicas have news about these objects."""
        self._dirty.update((key, None) for key in keys if key in self._subjects)

    def others_changed(self) -> None:
        """A replica, or one of its proxies, came or went."""
        self._dirty.update((key, None) for key in self._waits)

    def look(self, now: float) -> None:
        """Look whether proxies came or went, and whether something is overdue; to be called every second or so."""
        fleets = self._fleets()
        for name in self._sessions.keys() - fleets.keys():
            del self._sessions[name]
            self._review.pop(name, None)
        for name, state in fleets.items():
            if state.sessions != self._sessions.get(name, ()):
                self._sessions[name] = state.sessions
                self._review.setdefault(name, now + self._patience)
                for wanted, keys in self._waiters.items():
                    if wanted.fleet == name:
                        self._dirty.update((key, None) for key in keys)
        for name, at in tuple(self._review.items()):
            if at <= now:
                del self._review[name]
                self._look_all_over(name, at - self._patience)
        self._look_for_overdue(now)

    # Judging.

    @property
    def is_idle(self) -> bool:
        return not self._dirty

    def judge(self, now: float, most: int) -> list[Judged]:
        """The next few judgements.

        Args:
            now: as in the other calls.
            most: at most so many.
        """
        fleets = self._fleets()
        found: list[Judged] = []
        while self._dirty and len(found) < most:
            key = next(iter(self._dirty))
            del self._dirty[key]
            found.append(self._judge(self._subjects[key], fleets, now))
        return found

    def _judge(self, subject: Subject, fleets: Mapping[str, FleetState], now: float) -> Judged:
        report, key = subject.report, subject.report.object
        needs = needs_of(report, self._hosts.get(key, ()))
        if report.listeners:
            needs |= self._with_first_routes(subject, needs, fleets, now)
        own = {part: self._tally(need, fleets, now) for part, need in needs.items()}
        tallies = {part: self._with_others(subject, part, needs[part], tally) for part, tally in own.items()}
        lacking = [needs[part] for part, tally in tallies.items() if not is_complete(tally)]
        if not lacking and key in self._firsts:
            self._firsts[key] = self._firsts[key]._replace(at=NEVER)
        self._wait(key, frozenset(wanted for need in lacking for wanted in (*need.wanted, *need.because)))
        return Judged(
            report=with_programmed(report, tallies, fleets, terse=True),
            generation=subject.generation,
            uid=subject.uid,
            has_needs=bool(needs),
            lacking={
                part: tuple(one for one in tally if one.proxies)
                for part, tally in own.items()
                if any(one.proxies and not one.is_complete for one in tally)
            },
        )

    def _with_first_routes(
        self, subject: Subject, needs: Mapping[Part, Need], fleets: Mapping[str, FleetState], now: float
    ) -> dict[Part, Need]:
        """What the Gateway as a whole needs, until its generation is settled once."""
        key = subject.report.object
        first = self._firsts.get(key)
        if first is None or (first.generation, first.uid) != (subject.generation, subject.uid):
            first = self._firsts[key] = _First(subject.generation, subject.uid, now)
        return {
            part: with_route(needs[part], self._first_route(serving.table, first.at, fleets))
            for number, serving in enumerate(subject.report.serving)
            if (part := f"serving/{number}") in needs and serving.table is not None
        }

    def _first_route(self, table: TableKey, until: float, fleets: Mapping[str, FleetState]) -> Wanted | None:
        """The virtual host of a table that is awaited longest, if it was wanted by then. One that is refused is its
        routes' own trouble."""
        found, held = None, []
        for wanted in self._hosts_of.get((table.fleet, table.name), ()):
            if self._since[wanted] > until:
                break
            state = fleets.get(wanted.fleet)
            progress = None if state is None else state.progress((wanted.key,))
            if progress is not None and progress.complete:
                held.append(wanted)
            elif progress is None or not progress.refusals:
                found = wanted
                break
        for wanted in held:
            self._expect_no_more(wanted)
        return found

    def _tally(self, need: Need, fleets: Mapping[str, FleetState], now: float) -> Tally:
        tally = take_tally(need, fleets)
        if is_complete(tally):
            return tally
        late = {
            wanted.fleet
            for wanted in need.wanted
            if self._is_late(wanted, now, fleets) and not _is_held(wanted, fleets)
        }
        return tuple(
            msgspec.structs.replace(one, overdue=True) if one.fleet in late and not one.is_complete else one
            for one in tally
        )

    def _with_others(self, subject: Subject, part: Part, need: Need, own: Tally) -> Tally:
        if self._others is None:
            return own
        fleets = tuple(dict.fromkeys(wanted.fleet for wanted in need.wanted))
        told = self._others.tallies(subject.report.object, subject.generation, part, fleets)
        return add_tallies((own, *told))

    # Whom something concerns.

    def _acknowledged(self, wanted: Wanted) -> None:
        if wanted in self._since and _is_held(wanted, self._fleets()):
            self._expect_no_more(wanted)
        for key in self._waiters.get(wanted, ()):
            self._dirty[key] = None

    def _concerned(self, wanted: Wanted) -> Iterator[ObjectKey]:
        for key in (*self._origins.get(wanted, ()), *self._users.get(wanted, ())):
            if key in self._subjects:
                yield key

    def _contribute(self, wanted: Wanted, origins: tuple[ObjectKey, ...]) -> None:
        before = self._origins.get(wanted, ())
        if before == origins:
            return
        if origins:
            self._origins[wanted] = origins
        else:
            del self._origins[wanted]
        for key in set(before).symmetric_difference(origins):
            hosts = self._hosts.setdefault(key, {})
            if wanted in hosts:
                del hosts[wanted]
            else:
                hosts[wanted] = None
            if not hosts:
                del self._hosts[key]
            if key in self._subjects:
                self._dirty[key] = None

    def _unuse(self, key: ObjectKey) -> None:
        subject = self._subjects.get(key)
        for wanted in () if subject is None else used_by(subject.report):
            users = self._users.get(wanted)
            if users is not None:
                users.discard(key)
                if not users:
                    del self._users[wanted]

    def _wait(self, key: ObjectKey, now: frozenset[Wanted]) -> None:
        before = self._waits.pop(key, frozenset())
        for wanted in before - now:
            waiters = self._waiters[wanted]
            waiters.discard(key)
            if not waiters:
                del self._waiters[wanted]
        for wanted in now - before:
            self._waiters.setdefault(wanted, set()).add(key)
        if now:
            self._waits[key] = now

    # What is awaited.

    def _expect(self, wanted: Wanted, since: float) -> None:
        self._since[wanted] = since
        if wanted.key.type is ResourceType.VIRTUAL_HOST:
            self._hosts_of.setdefault(_table(wanted), {})[wanted] = None

    def _expect_no_more(self, wanted: Wanted) -> None:
        self._told.discard(wanted)
        if self._since.pop(wanted, None) is None or wanted.key.type is not ResourceType.VIRTUAL_HOST:
            return
        hosts = self._hosts_of[_table(wanted)]
        del hosts[wanted]
        if not hosts:
            del self._hosts_of[_table(wanted)]

    def _look_all_over(self, fleet: str, since: float) -> None:
        """Some time ago proxies came or went: what they do not hold since then is awaited since then."""
        fleets = self._fleets()
        for wanted in (*self._origins, *self._users):
            if wanted.fleet == fleet and wanted not in self._since and not _is_held(wanted, fleets):
                self._expect(wanted, since)

    def _look_for_overdue(self, now: float) -> None:
        fleets = self._fleets()
        late = [wanted for wanted in self._since if self._is_late(wanted, now, fleets)]
        for wanted in late:
            if _is_held(wanted, fleets):
                self._expect_no_more(wanted)
            elif wanted not in self._told:
                self._told.add(wanted)
                self._dirty.update((key, None) for key in (*self._concerned(wanted), *self._waiters.get(wanted, ())))

    def _is_late(self, wanted: Wanted, now: float, fleets: Mapping[str, FleetState]) -> bool:
        """Whether it has been awaited for too long."""
        waited = now - self._since.get(wanted, now)
        if waited < self._lag or waited >= self._patience:
            return waited >= self._patience
        state = fleets.get(wanted.fleet)
        progress = None if state is None else state.progress((wanted.key,))
        return progress is not None and progress.proxies > 0 and not progress.held_back


def _table(host: Wanted) -> tuple[str, str]:
    return host.fleet, route_configuration_of(host.key.name)


def _is_held(wanted: Wanted, fleets: Mapping[str, FleetState]) -> bool:
    state = fleets.get(wanted.fleet)
    return state is not None and state.progress((wanted.key,)).complete
