"""Secrets and ConfigMaps of one collection: all are watched, only those are kept that somebody refers to.

Of the others nothing but name and version stays in memory. One that becomes wanted is fetched; whoever refers to it is
held back by the source until then. Where we may not read the whole collection, each wanted object gets a watch of its
own: a rule with `resourceNames` allows that. The collection is asked for all the same, now and then: once it may be
read, it takes over from these watches.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final, TypeGuard, final

from portway.kubernetes.backoff import Backoff, is_transient
from portway.kubernetes.client import ApiClient
from portway.kubernetes.errors import ApiError, ApiUnreachable
from portway.kubernetes.events import Event, EventType
from portway.kubernetes.reflector import Reflector
from portway.kubernetes.refusals import DENIALS, Refusal, refusal_of
from portway.kubernetes.versions import Name
from portway.kubernetes.watch_lines import envelope_of
from portway.objects.verdict import ObjectKey
from portway.sources.kubernetes.scope import Followed, single

PATIENT: Final = 2
"""Refusals, a second apart, after which each wanted object gets a watch of its own."""
FETCHES: Final = 16
"""Objects fetched at the same time."""

Report = Callable[[Followed, Event], None]
Forget = Callable[[Followed], None]
Make = Callable[[Followed], Reflector]


@final
class Material:
    """The wanted objects of one collection."""

    def __init__(
        self,
        client: ApiClient,
        collection: Followed,
        *,
        make: Make,
        is_wanted: Callable[[ObjectKey], bool],
        report: Report,
        forget: Forget,
    ) -> None:
        """
        Args:
            report: gets each event that is worth it: of wanted objects, and of what does not work. Must not block.
            forget: gets the collection of one object, when what was reported of that collection counts no more.
        """
        self._client = client
        self._collection = collection
        self._make = make
        self._is_wanted = is_wanted
        self._report = report
        self._forget = forget
        self._all = make(collection)
        self._is_synced = False
        self._is_single = False
        """Each wanted object has a watch of its own."""
        self._refusals = 0
        self._loaded: dict[Name, int] = {}
        """Reported; with the version if it was fetched, or its own watch told it, and the watch of all has not come so
        far yet, else 0."""
        self._differing: set[Name] = set()
        """Of which the list said something else than its own watch. Empty but for the moment of taking over."""
        self._fetching: dict[Name, asyncio.Task[None]] = {}
        self._singles: dict[Name, asyncio.Task[None]] = {}
        self._settled_singles: set[Name] = set()
        self._errors: dict[Name, str] = {}
        """By object, why it has not been read on its own yet, by its own watch or by a fetch."""
        self._wanted: dict[Name, None] = {}
        self._slots = asyncio.Semaphore(FETCHES)

    @property
    def collection(self) -> Followed:
        return self._collection

    @property
    def reflector(self) -> Reflector:
        return self._all

    @property
    def is_synced(self) -> bool:
        """All wanted objects that exist have been reported, or cannot be."""
        return self._is_synced if not self._is_single else all(map(self._is_settled_single, self._wanted))

    def awaited(self) -> Iterator[tuple[Followed, str]]:
        """What it is not synced for: the collection, or objects of it that are read on their own; each with the last
        error, if there was one. Cost: how many are wanted."""
        if self._is_single:
            waiting = [name for name in self._wanted if not self._is_settled_single(name)]
        elif not self._is_synced:
            yield self._collection, self._all.error
            waiting = [name for name in self._fetching if name in self._errors]
        else:
            waiting = []
        for name in waiting:
            yield self._single(name), self._errors.get(name, "")

    def covers(self, key: ObjectKey) -> bool:
        """Whether the object would be in this collection."""
        return key.kind == self._collection.kind.name and self._collection.namespace in ("", key.namespace)

    def is_settled(self, key: ObjectKey) -> bool:
        """Whether what there is of an object has been reported."""
        name = Name(key.namespace, key.name)
        if self._is_single:
            return self._is_settled_single(name)
        return name in self._loaded or (self._is_synced and name not in self._all.known())

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Follow the collection until cancelled; what it starts belongs to `tasks`."""
        async for event in self._all.events():
            name = Name(event.namespace, event.name)
            match event.type:
                case EventType.CHANGED:
                    if not self._is_single and self._is_wanted(self._key(name)):
                        self._load(event)
                    continue
                case EventType.DELETED:
                    if self._is_single or self._loaded.pop(name, None) is None:
                        continue
                    self._forget(self._single(name))
                case EventType.SYNCED | EventType.MISSING:
                    if self._is_single:
                        self._take_over()
                    await self._fetch_missed(tasks)
                    self._is_synced = True
                case EventType.DENIED if self._is_single:
                    continue  # each watch says for itself what it may not
                case EventType.DENIED if not self._is_synced and self._is_patient():
                    continue
                case EventType.DENIED if not self._is_synced:
                    self._is_single = True
                    for wanted in self._wanted:
                        self._follow_single(wanted, tasks)
                    self._report(self._collection, Event(EventType.SYNCED))
                    continue
            self._report(self._collection, event)

    def _is_patient(self) -> bool:
        """Whether one refusal may have been a mistake. Of a second one we do not wait for the end: all are asked for
        again, and only rules of named objects shall not make each start wait."""
        self._refusals += 1
        return self._all.is_denied_at_first and self._refusals < PATIENT

    def want(self, key: ObjectKey, tasks: asyncio.TaskGroup) -> None:
        """Somebody refers to an object now."""
        name = Name(key.namespace, key.name)
        self._wanted[name] = None
        if self._is_single:
            self._follow_single(name, tasks)
        elif self._is_synced and self._is_missed(name):
            self._begin_fetch(name, tasks)

    def unwant(self, key: ObjectKey) -> None:
        """Nobody refers to it any more."""
        name = Name(key.namespace, key.name)
        self._wanted.pop(name, None)
        self._loaded.pop(name, None)
        self._settled_singles.discard(name)
        self._differing.discard(name)
        self._errors.pop(name, None)
        for running in (self._fetching.pop(name, None), self._singles.pop(name, None)):
            if running is not None:
                running.cancel()
        self._forget(self._single(name))

    def _single(self, name: Name) -> Followed:
        return single(self._collection.kind, *name)

    def _key(self, name: Name) -> ObjectKey:
        return ObjectKey(self._collection.kind.name, *name)

    def _is_settled_single(self, name: Name) -> bool:
        return name in self._settled_singles

    def _load(self, event: Event) -> None:
        """Report what the watch says, unless a fetched version is newer."""
        name = Name(event.namespace, event.name)
        if envelope_of(event.data).version >= self._loaded.get(name, 0):
            self._loaded[name] = 0
            self._forget(self._single(name))  # it may not have been fetched, and is here all the same
            self._report(self._collection, event)

    def _take_over(self) -> None:
        """All have been listed: no object needs a watch of its own any more. One of these may know more than the list,
        or less; where the two differ the object is asked for, which tells what is newer than both."""
        self._is_single = False
        for running in self._singles.values():
            running.cancel()
        self._singles.clear()
        self._settled_singles.clear()
        self._errors.clear()
        listed = self._all.known()
        for name in self._wanted:
            self._forget(self._single(name))
            if self._loaded.get(name) != listed.get(name):
                self._differing.add(name)
            elif name in self._loaded:
                self._loaded[name] = 0

    def _is_missed(self, name: Name) -> bool:
        return name in self._differing or (name in self._all.known() and name not in self._loaded)

    def _begin_fetch(self, name: Name, tasks: asyncio.TaskGroup) -> asyncio.Task[None]:
        if name not in self._fetching:
            self._fetching[name] = tasks.create_task(self._fetch(name))
        return self._fetching[name]

    async def _fetch_missed(self, tasks: asyncio.TaskGroup) -> None:
        """Until all is here that became wanted after the list had passed it."""
        while missed := [name for name in self._wanted if self._is_missed(name)]:
            await asyncio.wait([self._begin_fetch(name, tasks) for name in missed])

    async def _fetch(self, name: Name) -> None:
        backoff = Backoff()
        denials = 0
        path = f"{self._single(name).paths[0]}/{name.name}"
        while name in self._wanted and self._is_missed(name):
            try:
                async with self._slots:
                    data = await self._client.get(path)
            except (ApiError, ApiUnreachable) as error:
                denials = denials + 1 if await self._is_denied(error) else 0
                if is_transient(error) or (_is_refused(error) and denials <= DENIALS):
                    self._errors[name] = str(error)
                    await asyncio.sleep(backoff.failed(error))
                    continue
                # Deleted meanwhile, which the watch tells; or forbidden to get, though allowed to list.
                is_gone = isinstance(error, ApiError) and error.status == 404
                if is_gone and self._loaded.pop(name, None) is not None:  # which the watch of all never saw
                    self._report(self._collection, Event(EventType.DELETED, *name))
                elif isinstance(error, ApiError) and not is_gone:
                    kind = EventType.DENIED if error.status == 403 else EventType.FAILED
                    self._report(self._single(name), Event(kind, error=error))
                self._differing.discard(name)
                self._loaded.setdefault(name, 0)
                break
            else:
                if name in self._wanted and self._is_missed(name):
                    self._differing.discard(name)
                    self._loaded[name] = envelope_of(data).version
                    self._report(self._collection, Event(EventType.CHANGED, *name, data))
        self._fetching.pop(name, None)
        self._errors.pop(name, None)

    async def _is_denied(self, error: Exception) -> bool:
        """Whether the server seems sure of its refusal. It counts after some of them: one that is ready now may not
        have been so when it refused, and nobody asks again for what is given up."""
        return _is_refused(error) and await refusal_of(self._client, error, failures=DENIALS) is Refusal.DENIED

    def _follow_single(self, name: Name, tasks: asyncio.TaskGroup) -> None:
        if name not in self._singles:
            self._singles[name] = tasks.create_task(self._run_single(name))

    async def _run_single(self, name: Name) -> None:
        collection = self._single(name)
        async for event in self._make(collection).events():
            match event.type:
                case EventType.CHANGED:
                    self._loaded[name] = envelope_of(event.data).version
                case EventType.DELETED:
                    self._loaded.pop(name, None)
                case EventType.SYNCED | EventType.MISSING | EventType.DENIED:
                    self._settled_singles.add(name)
                    self._errors.pop(name, None)
                case EventType.FAILED if not self._is_settled_single(name):
                    self._errors[name] = str(event.error)
            self._report(collection, event)


def _is_refused(error: Exception) -> TypeGuard[ApiError]:
    return isinstance(error, ApiError) and error.status == 403
