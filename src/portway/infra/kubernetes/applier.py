"""Makes fleets in the cluster what they are to be.

Every replica of the control plane knows what is wanted and what is there, and says of each fleet what was observed; one
of them, the leader, writes (`run`), and asks right before each write whether it still leads. It writes nothing that is
there already, and deletes only

- what carries our controller's label and names a fleet that nobody wants, once the sources have said all that they
  have (`complete`), and after a while: a class that is written anew is gone for a moment. Then its owner is looked for
  once more, as what we have read may be of before (`owners.py`);
- what a fleet that somebody wants has too much, such as a budget that was taken back.

A fleet that is held (its Gateway or parameters make no sense just now) is left as it is, whatever it is, but for what
its pods cannot do without. Objects go with their Gateway by owner references without our help.

Each fleet is worked on by itself, several at a time; what fails is tried again with growing pauses, and its reason
stands in the status of the Gateway. So is an object that somebody else keeps changing (`contests`). What makes the
pods of many fleets anew goes to a few at a time (`rolls`); what the owner of a fleet says, and a first installation,
waits for nobody.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Final, Protocol, final

import msgspec
import structlog

from portway.infra.kubernetes.addresses import needs_nodes, observe
from portway.infra.kubernetes.agenda import Agenda
from portway.infra.kubernetes.contests import Contests, say_contested, say_removed
from portway.infra.kubernetes.data_plane import DataPlane
from portway.infra.kubernetes.inventory import Inventory
from portway.infra.kubernetes.looking import Reader, look, path_of
from portway.infra.kubernetes.manifests import (
    DAEMON_SET,
    DEPLOYMENT,
    DISPENSABLE,
    RESOURCES,
    Manifest,
    Ref,
    manifests_of,
    needs_of_pods,
)
from portway.infra.kubernetes.names import MANAGER, fleet_name_of
from portway.infra.kubernetes.reconciling import Act, Settled, Step, Update, shown_of, steps_of
from portway.infra.kubernetes.rolls import ALL, Rolls
from portway.infra.kubernetes.seen import INITIAL_MANAGER, Seen, read_seen
from portway.infra.kubernetes.service import on_nodes
from portway.infra.kubernetes.workload import joined_parameters
from portway.kubernetes.backoff import Backoff
from portway.kubernetes.errors import ApiError, ApiUnreachable
from portway.model.fleet import Fleet, ObservedFleet, is_of_gateway
from portway.objects.fleets_v1alpha1 import WorkloadType

log = structlog.get_logger(__name__)

WORKERS: Final = 8
"""Fleets that are worked on at once: a hundred are made in some seconds, and the API server does other work, too."""
LINGER: Final = timedelta(seconds=30)
"""How long objects of a fleet that nobody wants any more stay."""
RETRY: Final = (0.5, 60.0)
"""First and longest pause in seconds after a failure; a refused object stays refused until somebody edits it."""


class Writer(Reader, Protocol):
    """What is needed of `portway.kubernetes.client.ApiClient`."""

    async def apply(self, path: str, body: bytes, *, manager: str, force: bool = True) -> bytes: ...

    async def delete(self, path: str, *, uid: str = "", propagation: str = "Background") -> None: ...


class NotOurs(Exception):
    """An object of another owner has the name of one of ours. The message says which, and what to do."""


class Unknown(Exception):
    """What there is of a kind cannot be found out. The message says why, and what to do."""


class NotLeading(Exception):
    """Another replica may lead by now: nothing is written any more."""


class ApplierStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What was done."""

    fleets: int
    """Wanted."""
    held: int
    failed: Mapping[str, str]
    """Reasons by fleet."""
    applied: int
    deleted: int
    waiting: int
    """Fleets that are to be looked at now."""
    updating: int
    """Fleets whose proxies are being made anew."""
    to_update: int
    """Fleets that follow after these."""


Publish = Callable[[str, ObservedFleet], None]
"""Gets a fleet's name and what is known of it: for the engine's input `OBSERVED_FLEET`."""


async def _nobody(fleet: str) -> bool:
    return False


@final
class FleetApplier:
    """Fleets as they are wanted, and as they are. Everything but `run` may be called on any replica."""

    def __init__(
        self,
        client: Writer,
        inventory: Inventory,
        plane: DataPlane,
        publish: Publish,
        *,
        clock: Callable[[], float] = time.monotonic,
        linger: timedelta = LINGER,
        may_write: Callable[[], bool] = lambda: True,
        is_certain: Callable[[str], bool] = lambda fleet: True,
        is_asked_for: Callable[[str], Awaitable[bool]] = _nobody,
    ) -> None:
        """
        Args:
            publish: called when something else is known of a fleet; must not block.
            may_write: asked before each write: a process that was stopped for a while may have lost its leadership
                without knowing it yet.
            is_certain: whether everything has been read by which a fleet could be wanted. One that is not wanted stays
                until then.
            is_asked_for: whether the API server itself says that a fleet is wanted, of which we know nobody who wants
                it; asked before it goes. What this raises is a reason to let it stay for now.
        """
        self._client = client
        self._inventory = inventory
        self._plane = plane
        self._publish = publish
        self._clock = clock
        self._linger = linger.total_seconds()
        self._may_write = may_write
        self._is_certain = is_certain
        self._is_asked_for = is_asked_for
        self._wanted: dict[str, Fleet] = {}
        self._is_complete = False
        self._published: dict[str, ObservedFleet] = {}
        self._failed: dict[str, str] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._settled: dict[Ref, Settled] = {}
        self._contests = Contests()
        self._disputed: dict[str, dict[Ref, str]] = {}
        """By fleet, what somebody else keeps changing, and how that is said."""
        self._elsewhere: set[str] = set()
        """Fleets that another Portway has made."""
        self._rolls = Rolls()
        self._agenda = Agenda(clock)
        self._unwanted_since: dict[str, float] = {}
        self._kept: set[str] = set()
        """Fleets that nobody wants as far as we have read, and that are asked for all the same."""
        self._applied = self._deleted = 0
        inventory.subscribe(self._touched)

    def statistics(self) -> ApplierStatistics:
        return ApplierStatistics(
            fleets=len(self._wanted),
            held=sum(bool(fleet.held) for fleet in self._wanted.values()),
            failed={name: said for name in self._wanted if (said := self._problem(name))},
            applied=self._applied,
            deleted=self._deleted,
            waiting=len(self._agenda),
            updating=self._rolls.rolling,
            to_update=self._rolls.waiting,
        )

    @property
    def needs_nodes(self) -> bool:
        """Whether some fleet's addresses are those of Nodes."""
        return any(map(needs_nodes, self._wanted.values()))

    def want(self, changed: Mapping[str, Fleet], removed: Collection[str] = ()) -> None:
        """What the engine's output `FLEETS_OUT` says: fleets that are to be otherwise, names of those nobody wants."""
        for name, fleet in changed.items():
            self._wanted[name] = fleet
            self._unwanted_since.pop(name, None)
            self._kept.discard(name)
            self._observe(name)
        for name in removed:
            if (former := self._wanted.pop(name, None)) is not None:
                self._forget(former)
        self._agenda.wake((*changed, *removed))

    def _forget(self, fleet: Fleet) -> None:
        for known in (self._published, self._failed, self._disputed, self._backoffs):
            known.pop(fleet.name, None)
        self._elsewhere.discard(fleet.name)
        self._rolls.forget(fleet.name)
        for resource in RESOURCES:
            ref = Ref(resource, fleet.namespace, fleet_name_of(fleet.owner))
            self._settled.pop(ref, None)
            self._contests.forget(ref)

    def complete(self) -> None:
        """All sources have said what they have: from now on a fleet that is not wanted is wanted by nobody."""
        self._is_complete = True
        self._agenda.wake(self._inventory.fleets() - self._wanted.keys())

    def use_plane(self, plane: DataPlane) -> None:
        """What all proxies have in common has changed: another image, new authorities."""
        if plane != self._plane:
            self._plane = plane
            self._agenda.wake(self._wanted)

    async def run(self) -> None:
        """Write until cancelled: only while this replica leads. Another one may have written meanwhile, so nothing is
        taken for known; and of what another one does from then on, nothing is said."""
        self._forget_work()
        for name, fleet in self._wanted.items():
            if (there := self._workload(fleet)) is not None and there.is_rolling:
                self._rolls.started(name, self._clock())
        self._agenda.wake(self._inventory.fleets() | self._wanted.keys())
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(WORKERS):
                    tasks.create_task(self._worker())
        finally:
            self._forget_work()

    def _forget_work(self) -> None:
        for known in (self._settled, self._backoffs, self._failed, self._disputed, self._unwanted_since):
            known.clear()
        self._elsewhere.clear()
        for one in (self._agenda, self._contests, self._rolls):
            one.clear()

    # What is known.

    def _touched(self, fleets: frozenset[str] | None, *, is_work: bool) -> None:
        names = self._wanted.keys() | self._inventory.fleets() if fleets is None else fleets
        for name in names:
            self._follow_update(name)
            self._observe(name)
        self._agenda.wake(self._rolls.next(len(self._wanted)))
        if is_work:
            self._agenda.wake(names)

    def _problem(self, name: str) -> str:
        """Why a fleet's objects are not as they should be."""
        said = [self._failed.get(name, ""), *self._disputed.get(name, {}).values()]
        if self._rolls.is_stuck(name) and (there := self._workload(self._wanted[name])) is not None:
            said.append(
                f"{there.ref} got no further with its update: {there.updated} of {there.wanted} proxies are new, "
                f"{there.ready} are ready"
            )
        return "; ".join(filter(None, said))

    def _workload(self, fleet: Fleet) -> Seen | None:
        is_daemon_set = joined_parameters(fleet).workload_type is WorkloadType.DAEMON_SET
        ref = Ref(DAEMON_SET if is_daemon_set else DEPLOYMENT, fleet.namespace, fleet_name_of(fleet.owner))
        return self._inventory.of_fleet(fleet.name).get(ref)

    def _observe(self, name: str) -> None:
        fleet = self._wanted.get(name)
        if fleet is None:
            return
        nodes, pods = (self._inventory.nodes, self._inventory.pods) if needs_nodes(fleet) else ((), ())
        there, waiting = self._inventory.of_fleet(name), self._rolls.is_waiting(name)
        elsewhere = name in self._elsewhere
        found = observe(fleet, there, nodes, pods, self._problem(name), waiting=waiting, elsewhere=elsewhere)
        if self._published.get(name) != found:
            self._published[name] = found
            self._publish(name, found)

    # What is done.

    async def _worker(self) -> None:
        while True:
            async with self._agenda.next() as name:
                await self._attend(name)

    async def _attend(self, name: str) -> None:
        try:
            await self._reconcile(name)
        except NotLeading:
            # Whoever cancels us is about to. Should we lead after all, it remains to be done.
            self._agenda.wake_at(name, self._clock() + RETRY[0])
            return
        except (ApiError, ApiUnreachable, NotOurs, Unknown, msgspec.MsgspecError) as error:
            # `error` is the API server's word, or ours about somebody else's object; it says what to do.
            self._try_again(name, error)
            if isinstance(error, ApiError) and error.is_of_ending_namespace and is_of_gateway(name):
                return  # its Gateway goes with it, in a moment
            if self._failed.get(name) != str(error):
                log.warning("fleet not as it should be", fleet=name, problem=str(error))
            self._failed[name] = str(error)
        except Exception as error:  # one fleet that nobody foresaw must not end all others, here and at the next leader
            self._try_again(name, error)
            problem = f"a mistake of Portway's own, {type(error).__name__}: {error}; its log says where"
            if self._failed.get(name) != problem:
                log.exception("fleet could not be made", fleet=name)
            self._failed[name] = problem
        else:
            self._backoffs.pop(name, None)
            self._failed.pop(name, None)
        self._follow_update(name)
        self._observe(name)
        self._agenda.wake(self._rolls.next(len(self._wanted)))

    def _try_again(self, name: str, error: Exception) -> None:
        wait = self._backoffs.setdefault(name, Backoff(first=RETRY[0], longest=RETRY[1])).failed(error)
        self._agenda.wake_at(name, self._clock() + wait)

    async def _reconcile(self, name: str) -> None:
        fleet = self._wanted.get(name)
        self._rolls.leave(name)
        if fleet is None:
            await self._remove(name)
            return
        # As it is now: of what becomes known while we look, nobody has looked who has its name.
        known, unlisted = self._inventory.of_fleet(name), dict(self._inventory.unlisted)
        if fleet.held and not known:
            return
        wanted = needs_of_pods(fleet, self._plane) if fleet.held else manifests_of(fleet, self._plane)
        if fleet.held:
            known = {manifest.ref: known[manifest.ref] for manifest in wanted if manifest.ref in known}
        there, foreign = await look(
            self._client, wanted, known, controller=self._inventory.controller, fleet=name, unlisted=unlisted
        )
        problems: list[NotOurs | ApiError] = [NotOurs(one.reason) for one in foreign.values()]
        self._elsewhere.discard(name)
        if not all(ref.resource in DISPENSABLE for ref in foreign):
            if any(one.of_portway for one in foreign.values()):
                self._elsewhere.add(name)
            raise problems[0]
        free = [manifest for manifest in wanted if manifest.ref not in foreign]
        steps = steps_of(free, there, self._settled, unlisted=unlisted, waits_for_successor=not on_nodes(fleet))
        disputed = await self._take_steps(steps, fleet, {manifest.ref: manifest for manifest in free}, problems)
        await self._say_disputed(fleet, disputed)
        if problems:
            raise problems[0]
        for manifest in wanted:
            if reason := unlisted.get(manifest.ref.resource):
                raise Unknown(reason)

    async def _take_steps(
        self,
        steps: Sequence[Step],
        fleet: Fleet,
        by_ref: Mapping[Ref, Manifest],
        problems: list[NotOurs | ApiError],
    ) -> Mapping[Ref, Manifest | None]:
        """Do what may be done now; returns what is disputed and has to wait.

        Args:
            problems: gets why something is refused that proxies can be made without.
        """
        disputed: dict[Ref, Manifest | None] = {}
        written = set[Ref]()
        for step in steps:
            if step.act is not Act.APPLY and self._rolls.is_waiting(fleet.name):
                continue  # what belongs to the new pods, or is still needed by the former ones
            manifest = None if step.act is Act.DELETE else by_ref.get(step.ref)
            wish = b"" if manifest is None else manifest.body
            due = self._contests.due(step.ref, wish, now := self._clock())
            if due > now and step.ref not in written:
                disputed[step.ref] = manifest
                self._agenda.wake_at(fleet.name, due)
                continue
            try:
                if step.update is None:
                    await self._do(step, fleet, manifest)
                elif not await self._update(step, fleet, manifest):
                    continue
            except ApiError as error:
                if step.ref.resource not in DISPENSABLE:
                    raise
                problems.append(error)
                continue
            if step.ref not in written:
                written.add(step.ref)
                self._contests.wrote(step.ref, wish, self._clock())
        return disputed

    async def _update(self, step: Step, fleet: Fleet, manifest: Manifest | None) -> bool:
        """Have the proxies of a fleet made anew, if it is its turn."""
        line = ALL if step.update is Update.SHARED else str(fleet.own_source or fleet.name)
        if not self._rolls.take(fleet.name, len(self._wanted), self._clock(), line):
            return False
        try:
            await self._do(step, fleet, manifest)
        except BaseException:
            self._rolls.forget(fleet.name)
            raise
        self._rolls.started(fleet.name, self._clock())
        log.info(
            "fleet is being updated", fleet=fleet.name, beside=self._rolls.rolling - 1, waiting=self._rolls.waiting
        )
        return True

    def _follow_update(self, name: str) -> None:
        """Look how far the update of a fleet has come."""
        fleet = self._wanted.get(name)
        there = None if fleet is None else self._workload(fleet)
        if self._rolls.look(name, there, self._clock()):
            if self._rolls.is_stuck(name):
                log.warning("fleet got stuck in its update", fleet=name, problem=self._problem(name))
            else:
                log.info("fleet updated", fleet=name, waiting=self._rolls.waiting)
        if (when := self._rolls.deadline(name)) is not None:
            self._agenda.wake_at(name, when)

    async def _say_disputed(self, fleet: Fleet, disputed: Mapping[Ref, Manifest | None]) -> None:
        """Find out who changes what; forget what has not been changed for a while."""
        known = self._disputed.setdefault(fleet.name, {})
        for ref in known.keys() - disputed.keys():
            if (calm := self._contests.calm_at(ref)) > self._clock():
                self._agenda.wake_at(fleet.name, calm)
            else:
                del known[ref]
        for ref in disputed.keys() - known.keys():
            manifest = disputed[ref]
            try:
                answer = await self._client.get(path_of(ref))
                said = say_contested(manifest, self._settled.get(ref), answer) if manifest else say_removed(ref)
            except ApiError as error:
                if error.status != 404:
                    raise
                said = say_removed(ref)
            if said:
                known[ref] = said
                log.warning("object disputed", fleet=fleet.name, problem=said)
        if not known:
            self._disputed.pop(fleet.name, None)

    async def _do(self, step: Step, fleet: Fleet, manifest: Manifest | None) -> None:
        path = path_of(step.ref)
        if step.act is Act.DELETE or manifest is None:
            await self._delete(step.ref, step.uid)
            log.info("object deleted", object=str(step.ref), fleet=fleet.name)
            return
        self._make_sure()
        manager = MANAGER if step.act is Act.APPLY else INITIAL_MANAGER
        answer = await self._client.apply(path, step.body, manager=manager)
        self._applied += 1
        log.debug("object applied", object=str(step.ref), fleet=fleet.name)
        seen = read_seen(step.ref.resource, answer)
        if step.act is Act.APPLY:
            self._settled[step.ref] = Settled(body=manifest.body, shown=shown_of(manifest, seen))
        self._inventory.wrote(seen)

    async def _remove(self, name: str) -> None:
        """Delete what is there of a fleet that nobody wants, if it is certain and after a while."""
        there = self._inventory.of_fleet(name)
        if not there:
            self._unwanted_since.pop(name, None)
            self._kept.discard(name)
            return
        if not self._is_complete:
            return
        if not self._is_certain(name):
            self._unwanted_since.pop(name, None)
            self._agenda.wake_at(name, self._clock() + self._linger)
            return
        since = self._unwanted_since.setdefault(name, self._clock())
        if (rest := since + self._linger - self._clock()) > 0:
            self._agenda.wake_at(name, self._clock() + rest)
            return
        if await self._is_asked_for(name):
            self._unwanted_since[name] = self._clock()
            self._agenda.wake_at(name, self._clock() + self._linger)
            if name not in self._kept:
                self._kept.add(name)
                log.warning("fleet stays", fleet=name, problem="its owner is there, and has not been heard of")
            return
        objects = sorted(there.items(), reverse=True)
        for ref, seen in objects:
            if name in self._wanted:  # again, while we asked and deleted
                return
            await self._delete(ref, seen.uid)
        self._kept.discard(name)
        log.info("fleet deleted", fleet=name, objects=len(objects))

    async def _delete(self, ref: Ref, uid: str) -> None:
        self._make_sure()
        await self._client.delete(path_of(ref), uid=uid)
        self._deleted += 1
        self._settled.pop(ref, None)
        self._inventory.forget(ref)

    def _make_sure(self) -> None:
        """Right before a write: a request sent is a request done.

        Raises:
            NotLeading: it must not be sent.
        """
        if not self._may_write():
            raise NotLeading
