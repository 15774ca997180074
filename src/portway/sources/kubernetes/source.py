"""The source: follows all collections, decodes what they report, hands out change sets.

An object goes from the bytes of a watch straight into its struct. One that the server accepted and we refuse (stored
under the rules of an older CRD) is reported as a finding; the version that was served before stays, as it does for a
file with an error. A class that is deleted counts as there for a while: it is often made anew in the next moment (`helm
upgrade`, GitOps), and until then all that it stands for would be nobody's. Who refers to a Secret that is not in memory
is held back until it has been fetched, for a moment: else every new Gateway would first be told that its certificate
does not exist.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple, final

import msgspec

from portway.kubernetes.client import ApiClient
from portway.kubernetes.errors import ApiError
from portway.kubernetes.events import Event, EventType, ReflectorStatistics, State
from portway.kubernetes.reflector import DOUBT, Reflector
from portway.objects.kinds import KINDS, Kind
from portway.objects.parsing import parse_json
from portway.objects.verdict import ObjectKey
from portway.sources.kubernetes import said
from portway.sources.kubernetes.batch import Batch
from portway.sources.kubernetes.demand import Demand, References
from portway.sources.kubernetes.material import Material
from portway.sources.kubernetes.recovery import Recovery
from portway.sources.kubernetes.scope import MATERIAL, Followed, followed
from portway.store import ChangeSet, Stored

HOLD: Final = 2.0
"""Seconds for which an object waits for the Secrets that it refers to."""
CLASSES: Final = frozenset({"GatewayClass", "IngressClass"})
LINGER: Final = 30.0
"""Seconds for which a class that is deleted counts as there."""
LOAD_OBJECTS: Final = 3_000
"""In one change set of the first load, about."""
TELL_AFTER: Final = 5
"""Failures in a row, some seconds, after which it is said that the server cannot be reached."""
LOOK_AGAIN: Final = 1.0
"""Seconds between two looks whether it can be reached again."""

MakeReflector = Callable[[Followed], Reflector]


class KubernetesStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the source has done; for a progress line, metrics and `status`."""

    server: str
    collections: tuple[ReflectorStatistics, ...]
    objects: int
    """Handed out and there now."""
    refused: int
    """Objects that the server has and we do not understand, and collections that cannot be read."""
    wanted: int
    """Secrets and ConfigMaps that somebody refers to."""
    held: int
    """Objects that wait for one of these."""
    change_sets: int
    last_change: float
    """Unix time of the last change set; 0 before the first."""
    synced: bool
    missing: tuple[str, ...]
    """Kinds that the cluster does not have, sorted."""
    error: str
    """Why the server cannot be followed now; empty: it can."""


class Awaited(NamedTuple):
    """A collection, or an object, that has not been read yet."""

    name: str
    """As `Followed` writes it: `Secret`, `Secret in shop`, `Secret shop/tls`."""
    error: str
    """Why it could not be the last time; empty: it is being read."""


class _Held(msgspec.Struct, frozen=True):
    stored: Stored
    references: frozenset[ObjectKey]
    until: float


@final
class KubernetesSource:
    """One cluster. `changes` may be iterated once.

    Args:
        client: stays its owner's, who closes it.
        kinds: those that are followed.
        namespaces: empty: all.
        label_selector: see `scope`.
        references: who refers to Secrets and ConfigMaps. Without any, none of these are reported.
        linger: seconds for which a class that is deleted counts as there.
        doubt: seconds for which a collection that we may not read, and never have read, is waited for at first.
        make_reflector: for tests.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        client: ApiClient,
        *,
        kinds: Iterable[Kind] = KINDS.values(),
        namespaces: Sequence[str] = (),
        label_selector: str = "",
        references: References = References(),  # noqa: B008 - frozen
        linger: float = LINGER,
        doubt: float = DOUBT,
        make_reflector: MakeReflector | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._server = client.connection.server
        self._clock = clock
        self._wall_clock = wall_clock
        make = make_reflector or partial(_make_reflector, client, doubt)
        collections = followed(kinds, namespaces, label_selector)
        self._plain = {one: make(one) for one in collections if one.kind.name not in MATERIAL}
        self._demand = Demand(references)
        self._material = [
            Material(client, one, make=make, is_wanted=self._demand.is_wanted, report=self._report, forget=self._forget)
            for one in collections
            if one.kind.name in MATERIAL
        ]
        self._referring = [one for one in self._plain if one.kind.name in references.kinds]
        self._batch = Batch()
        self._recovery = Recovery(lambda: (one for _, one in self._followed()), clock)
        self._objects: set[ObjectKey] = set()
        self._held: dict[ObjectKey, _Held] = {}
        self._linger = linger
        self._leaving: dict[ObjectKey, float] = {}
        """Classes that are deleted, and until when they count as there."""
        self._settled: set[Followed] = set()
        """Plain collections of which everything has been reported once, or of which there is nothing to report."""
        self._read: set[Followed] = set()
        """Collections of which all that there is has been listed, be it that there is no such kind."""
        self._missing: set[Followed] = set()
        self._forbidden: set[Followed] = set()
        self._all_referring = asyncio.Event()
        self._work = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._is_synced = False
        self._is_unreachable = False
        self._change_sets = 0
        self._last_change = 0.0
        self._handed_out: dict[str, int] = {}

    def statistics(self) -> KubernetesStatistics:
        """Cost: the number of collections."""
        reflectors = (*self._plain.values(), *(one.reflector for one in self._material))
        found = tuple(one.statistics() for one in reflectors)
        return KubernetesStatistics(
            server=self._server,
            collections=found,
            objects=len(self._objects),
            refused=self._batch.said,
            wanted=len(self._demand.wanted),
            held=len(self._held),
            change_sets=self._change_sets,
            last_change=self._last_change,
            synced=self._is_synced,
            missing=tuple(sorted({one.kind.name for one in self._missing})),
            error=next((one.error for one in found if one.state is State.FAILING), ""),
        )

    def awaited(self) -> list[Awaited]:
        """What it is not synced for; what waits for others to be read is not asked for yet, and not among it.

        Cost: the number of collections, and of wanted objects where each has a watch of its own.
        """
        if self._is_synced:
            return []
        found = [(one, reflector.error) for one, reflector in self._plain.items() if one not in self._settled]
        if self._all_referring.is_set():
            found += (waiting for material in self._material for waiting in material.awaited())
        return [Awaited(str(one), error) for one, error in found]

    @property
    def is_current(self) -> bool:
        """Whether all collections are followed: none waits to be tried again. Cost: their number."""
        return not any(reflector.is_failing for _, reflector in self._followed())

    @property
    def is_cut_off(self) -> bool:
        """Whether nothing can be read: of all kinds that are there and that we may read, each waits to be tried again.
        A kind that fails alone is a matter of its own. Cost: the number of collections."""
        there = [one for kind, one in self._plain.items() if kind not in self._missing and kind not in self._forbidden]
        return bool(there) and all(reflector.is_failing for reflector in there)

    def has_read(self, kind: str, namespace: str | None = None) -> bool:
        """Whether all objects of a kind have been listed once, so that one which is not known does not exist.

        Args:
            namespace: where, of which none has been read that is not followed; `None`: wherever it is followed.
        """
        asked = [
            one for one in self._plain if one.kind.name == kind and namespace in (one.namespace or namespace, None)
        ]
        return bool(asked) and self._read.issuperset(asked)

    def forbidden(self) -> frozenset[Followed]:
        """Collections that we may not read. Secrets and ConfigMaps that may be read one by one are not among them."""
        return frozenset(self._forbidden)

    def newest(self) -> dict[str, int]:
        """By kind, the newest version of an object that has been read: what is handed out may follow from it.

        Cost: the number of collections.
        """
        found: dict[str, int] = {}
        for collection, reflector in self._followed():
            kind = collection.kind.name
            found[kind] = max(found.get(kind, 0), reflector.newest)
        return {kind: version for kind, version in found.items() if version}

    def handed_out(self) -> dict[str, int]:
        """By kind, up to which version all that happened has been handed out. Cost: the number of collections."""
        if len(self._batch) or not self._is_synced:
            return self._handed_out
        found: dict[str, int] = {}
        for collection, reflector in self._followed():
            kind, version = collection.kind.name, max(reflector.read_up_to, reflector.newest)
            found[kind] = min(found.get(kind, version), version)
        # What is asked for one by one, since it may not be listed, has no position.
        self._handed_out = {kind: version for kind, version in found.items() if version}
        return self._handed_out

    def as_of(self) -> dict[str, float]:
        """By kind, a time, by the monotonic clock, after which the server was asked for all that there is; it has been
        handed out. Cost: the number of collections."""
        if len(self._batch) or not self._is_synced:
            return {}
        found: dict[str, float] = {}
        for collection, reflector in self._followed():
            kind = collection.kind.name
            found[kind] = min(found.get(kind, reflector.as_of), reflector.as_of)
        return found

    def list_since(self, kind: str, version: int, time: float) -> None:
        """Somebody has seen that version of an object of a kind: list what has not come so far, unless it was asked for
        since then. Its watch may hang."""
        for collection, reflector in self._followed():
            if collection.kind.name == kind and max(reflector.read_up_to, reflector.newest) < version:
                reflector.list_since(time)

    def _followed(self) -> Iterator[tuple[Followed, Reflector]]:
        yield from self._plain.items()
        for material in self._material:
            yield material.collection, material.reflector

    async def changes(self) -> AsyncGenerator[ChangeSet, None]:
        """As `portway.store.Source` says. One consumer, once."""
        # Not a TaskGroup of this generator: it would belong to the task that happens to ask first, and the next
        # question may come from another one. `_run` has a task of its own, which ends with this generator.
        running = asyncio.get_running_loop().create_task(self._run(), name="kubernetes source")
        running.add_done_callback(lambda _: self._work.set())
        try:
            while True:
                await self._wait()
                if running.done():
                    running.result()  # raises what ended it: it never ends by itself
                self._release()
                for change in self._take():
                    self._change_sets += 1
                    self._last_change = self._wall_clock()
                    yield change
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for collection, reflector in self._plain.items():
                tasks.create_task(self._follow(collection, reflector))
            if not self._referring:
                self._all_referring.set()
            for key in self._demand.wanted:
                self._want(key)
            await self._all_referring.wait()
            for material in self._material:
                tasks.create_task(material.run(tasks))

    async def _follow(self, collection: Followed, reflector: Reflector) -> None:
        async for event in reflector.events():
            self._report(collection, event)

    def _report(self, collection: Followed, event: Event) -> None:
        """Take in an event of any collection."""
        match event.type:
            case EventType.CHANGED:
                self._change(collection.kind, bytes(event.data))
            case EventType.DELETED:
                self._delete(ObjectKey(collection.kind.name, event.namespace, event.name))
            case _:
                self._look(collection, event)
        if event.type is not EventType.FAILED:
            self._recovery.answered()
        elif self.is_cut_off:
            self._recovery.cut_off()
        if self._is_synced or len(self._batch) >= LOAD_OBJECTS:
            self._work.set()

    def _look(self, collection: Followed, event: Event) -> None:
        """Take in an event that is about a collection as a whole."""
        is_missing = event.type is EventType.MISSING
        is_forbidden = event.type is EventType.DENIED
        self._missing = self._missing | {collection} if is_missing else self._missing - {collection}
        self._forbidden = self._forbidden | {collection} if is_forbidden else self._forbidden - {collection}
        if is_missing or event.type is EventType.SYNCED:
            self._read.add(collection)
        if is_missing:
            self._batch.say(f"kind {collection}", [said.missing(self._server, collection)])
        elif isinstance(event.error, ApiError) and is_forbidden:
            self._batch.say(f"kind {collection}", [said.unreadable(self._server, collection, event.error)])
        elif event.type is EventType.SYNCED:
            self._batch.say(f"kind {collection}")
        reflector = self._plain.get(collection)
        if reflector is not None and event.type is not EventType.FAILED and not reflector.is_denied_at_first:
            self._settled.add(collection)
            if self._settled.issuperset(self._referring):
                self._all_referring.set()
        self._notice_outage()
        self._work.set()

    def _forget(self, collection: Followed) -> None:
        """Nobody wants to know any more whether it can be read."""
        self._read.discard(collection)
        self._missing -= {collection}
        self._forbidden -= {collection}
        self._batch.say(f"kind {collection}")

    def _is_complete(self) -> bool:
        return self._settled.issuperset(self._plain) and all(one.is_synced for one in self._material)

    def _change(self, kind: Kind, data: bytes) -> None:
        parsed = parse_json(kind, data)
        if parsed.key is not None:
            self._leaving.pop(parsed.key, None)
        if parsed.object is None:
            if parsed.key is not None:
                is_known = parsed.key in self._objects or parsed.key in self._held
                self._batch.say(str(parsed.key), said.refused(parsed.verdicts, is_known=is_known))
            return
        key = ObjectKey(kind.name, parsed.object.metadata.namespace, parsed.object.metadata.name)
        self._batch.say(str(key))
        stored = Stored(key, parsed.object, parsed.generation)
        references = self._demand.references(key, parsed.object)
        for one in self._demand.arrived(key, references):
            self._want(one)
        if self._is_synced and not all(map(self._is_settled, references)):
            before = self._held.get(key)
            self._held[key] = _Held(stored, references, before.until if before else self._clock() + HOLD)
        else:
            self._held.pop(key, None)
            self._put(stored, references)

    def _put(self, stored: Stored, references: frozenset[ObjectKey]) -> None:
        self._objects.add(stored.key)
        self._batch.put(stored)
        self._unwant(self._demand.handed_out(stored.key, references))

    def _delete(self, key: ObjectKey) -> None:
        if self._is_synced and key.kind in CLASSES and key in self._objects:
            self._leaving.setdefault(key, self._clock() + self._linger)
        else:
            self._remove(key)

    def _remove(self, key: ObjectKey) -> None:
        self._held.pop(key, None)
        self._objects.discard(key)
        self._batch.remove(key)
        self._batch.say(str(key))
        self._unwant(self._demand.handed_out(key, frozenset()))

    def _want(self, key: ObjectKey) -> None:
        material = self._material_of(key)
        if material is not None and self._tasks is not None:
            material.want(key, self._tasks)

    def _unwant(self, keys: Iterable[ObjectKey]) -> None:
        for key in keys:
            material = self._material_of(key)
            if material is not None:
                material.unwant(key)
            self._remove(key)

    def _material_of(self, key: ObjectKey) -> Material | None:
        return next((one for one in self._material if one.covers(key)), None)

    def _is_settled(self, key: ObjectKey) -> bool:
        material = self._material_of(key)
        return material is None or material.is_settled(key)

    def _release(self) -> None:
        """Hand out what waited for Secrets that are here now, or has waited long enough; let classes go."""
        now = self._clock()
        for key in [key for key, until in self._leaving.items() if now >= until]:
            del self._leaving[key]
            self._remove(key)
        for key, held in list(self._held.items()):
            if now >= held.until or all(map(self._is_settled, held.references)):
                del self._held[key]
                self._put(held.stored, held.references)

    def _take(self) -> Iterable[ChangeSet]:
        is_first = not self._is_synced and self._is_complete()
        if is_first:
            self._is_synced = True
        elif not len(self._batch) or (self._is_synced and self._recovery.is_gathering()):
            return ()
        return self._batch.take(synced=is_first)

    async def _wait(self) -> None:
        """Until there is something to hand out or to look at."""
        is_gathering = self._is_synced and len(self._batch)
        if self._is_unreachable or self._held or self._leaving or is_gathering:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN):
                    await self._work.wait()
        else:
            await self._work.wait()
        self._work.clear()
        self._notice_outage()

    def _notice_outage(self) -> None:
        """Say that the server, or some of what it has, cannot be followed, or that it can again."""
        failing = [(str(collection), one) for collection, one in self._followed() if one.is_failing]
        is_told = any(one.failures >= TELL_AFTER for _, one in failing)
        is_unreachable = bool(failing) and (self._is_unreachable or is_told)
        if is_unreachable == self._is_unreachable:
            return
        self._is_unreachable = is_unreachable
        if not is_unreachable:
            self._batch.say("cluster")
        else:
            names = () if self.is_cut_off else tuple(name for name, _ in failing)
            error = max(failing, key=lambda one: one[1].failures)[1].error
            self._batch.say("cluster", [said.unreachable(self._server, names, error, is_known=self._is_synced)])
        self._work.set()


def _make_reflector(client: ApiClient, doubt: float, collection: Followed) -> Reflector:
    return Reflector(
        client,
        collection.paths,
        label_selector=collection.label_selector,
        field_selector=collection.field_selector,
        doubt=doubt,
    )
