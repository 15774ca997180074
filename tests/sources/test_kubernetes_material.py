"""Which Secrets are fetched, and when a collection of them counts as read."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import cast

import msgspec
import pytest

from portway.kubernetes.client import ApiClient
from portway.kubernetes.errors import ApiError
from portway.kubernetes.events import Event, EventType
from portway.kubernetes.reflector import Reflector
from portway.kubernetes.versions import Name, Versions
from portway.kubernetes.watch_lines import envelope_of
from portway.objects.kinds import KINDS
from portway.objects.verdict import ObjectKey
from portway.sources.kubernetes.material import Material
from portway.sources.kubernetes.scope import Followed, followed

KEY = ObjectKey("Secret", "shop", "shop-tls")
NAME = Name("shop", "shop-tls")
SYNCED = Event(EventType.SYNCED)
DENIED = Event(EventType.DENIED, error=ApiError("list", "/api/v1/secrets", 403, "Forbidden", ""))


def body(version: int) -> bytes:
    metadata = {"name": NAME.name, "namespace": NAME.namespace, "resourceVersion": str(version)}
    return msgspec.json.encode({"metadata": metadata})


def there(version: int = 5) -> Event:
    return Event(EventType.CHANGED, *NAME, body(version))


GONE = Event(EventType.DELETED, *NAME)


class Listing:
    """A reflector whose list comes as slowly as the test wants."""

    def __init__(self) -> None:
        self.is_denied_at_first = False
        self.coming: asyncio.Queue[Event] = asyncio.Queue()
        self._versions = Versions()

    def known(self) -> Mapping[Name, int]:
        return self._versions.known

    async def events(self) -> AsyncGenerator[Event, None]:
        self._versions.begin_list()
        while True:
            event = await self.coming.get()
            name = Name(event.namespace, event.name)
            if event.type is EventType.CHANGED:
                self._versions.listed(name, envelope_of(event.data).version)
            elif event.type is EventType.DELETED:
                self._versions.deleted(name, 0)
            yield event


class Server:
    def __init__(self, has: int | None) -> None:
        self.has = has
        """The version of the Secret; `None`: there is none."""

    async def get(self, path: str) -> bytes:
        if self.has is None:
            raise ApiError("get", path, 404, "NotFound", "")
        return body(self.has)


class World:
    def __init__(self, *, has: int | None = 5) -> None:
        self.listing = Listing()
        self.single = Listing()
        """Of the one Secret."""
        self.wanted: set[ObjectKey] = set()
        self.reported: list[tuple[EventType, int]] = []
        """With the version, where there is one."""
        (collection,) = followed([KINDS["Secret"]], (), "")
        self.material = Material(
            cast("ApiClient", Server(has)),
            collection,
            make=lambda one: cast("Reflector", self.single if one.name else self.listing),
            is_wanted=self.wanted.__contains__,
            report=self._report,
            forget=lambda _: None,
        )

    def _report(self, _: Followed, event: Event) -> None:
        self.reported.append((event.type, envelope_of(event.data).version if event.data else 0))

    async def tell(self, *events: Event) -> None:
        """The collection's watch says so."""
        for event in events:
            self.listing.coming.put_nowait(event)
        await self.settle()

    async def tell_alone(self, *events: Event) -> None:
        """The Secret's own watch says so."""
        for event in events:
            self.single.coming.put_nowait(event)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    def want(self, tasks: asyncio.TaskGroup) -> None:
        self.wanted.add(KEY)
        self.material.want(KEY, tasks)


async def test_a_secret_that_becomes_wanted_when_the_first_list_has_passed_it_comes_with_the_list() -> None:
    world = World()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(world.material.run(tasks))
        await world.tell(there())
        world.want(tasks)
        await world.tell()
        assert world.reported == []
        await world.tell(SYNCED)
        assert world.reported == [(EventType.CHANGED, 5), (EventType.SYNCED, 0)]
        assert world.material.is_synced
        assert world.material.is_settled(KEY)
        running.cancel()


async def test_one_that_is_gone_when_it_is_fetched_keeps_the_list_from_nothing() -> None:
    world = World(has=None)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(world.material.run(tasks))
        await world.tell(there())
        world.want(tasks)
        await world.tell(SYNCED)
        assert world.material.is_synced
        assert world.material.is_settled(KEY)
        await world.tell(GONE, there())
        assert world.reported[-1] == (EventType.CHANGED, 5)
        running.cancel()


async def test_while_all_may_be_denied_by_mistake_none_has_a_watch_of_its_own() -> None:
    world = World()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(world.material.run(tasks))
        world.want(tasks)
        world.listing.is_denied_at_first = True
        await world.tell(DENIED)
        await world.tell_alone(there())
        assert world.reported == [], "an installation with rules of named Secrets is no mistake"
        assert not world.material.is_settled(KEY)
        await world.tell(there(), SYNCED)
        assert world.reported == [(EventType.CHANGED, 5), (EventType.SYNCED, 0)]
        assert world.material.is_synced
        running.cancel()


async def test_after_a_second_refusal_each_has_a_watch_of_its_own() -> None:
    world = World()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(world.material.run(tasks))
        world.want(tasks)
        world.listing.is_denied_at_first = True
        await world.tell(DENIED)
        await world.tell(DENIED)
        await world.tell_alone(there(), SYNCED)
        assert world.material.is_settled(KEY)
        world.material.unwant(KEY)
        running.cancel()


TAKEN_OVER = {
    # version that its own watch told, that the list has, that the server has by now (None: there is none): what is told
    (5, 5, 5): [],
    (5, 7, 7): [(EventType.CHANGED, 7)],
    (7, 5, 7): [(EventType.CHANGED, 7)],  # once more, never the one before it
    (None, 5, 5): [(EventType.CHANGED, 5)],  # it might not be read until now
    (7, None, 7): [(EventType.CHANGED, 7)],  # made after the list; at no moment it is gone
    (5, None, None): [(EventType.DELETED, 0)],
    (5, 7, None): [(EventType.DELETED, 0)],
    (None, 5, None): [],
    (None, None, None): [],
}


@pytest.mark.parametrize(("alone", "listed", "has"), TAKEN_OVER)
async def test_a_right_to_all_takes_over_from_the_watches_of_each(
    alone: int | None, listed: int | None, has: int | None
) -> None:
    world = World(has=has)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(world.material.run(tasks))
        world.want(tasks)
        await world.tell(DENIED)
        await world.tell_alone(*([there(alone)] if alone else []), SYNCED)
        assert world.material.is_synced
        world.reported.clear()
        await world.tell(DENIED, *([there(listed)] if listed else []))
        assert world.reported == [], "it may be older than what is known"
        await world.tell(SYNCED)
        assert world.reported == [*TAKEN_OVER[alone, listed, has], (EventType.SYNCED, 0)]
        assert world.material.is_synced
        assert world.material.is_settled(KEY)
        # From now on the watch of all counts, and no other.
        await world.tell(there(9))
        await world.tell_alone(GONE)
        assert world.reported[-1] == (EventType.CHANGED, 9)
        await world.tell(GONE)
        assert world.reported[-1] == (EventType.DELETED, 0)
        running.cancel()
