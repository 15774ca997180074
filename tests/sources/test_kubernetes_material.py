"""Which Secrets are fetched, and when a collection of them counts as read."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import cast

from portway.kubernetes.client import ApiClient
from portway.kubernetes.errors import ApiError
from portway.kubernetes.events import Event, EventType
from portway.kubernetes.reflector import Reflector
from portway.kubernetes.versions import Name, Versions
from portway.objects.kinds import KINDS
from portway.objects.verdict import ObjectKey
from portway.sources.kubernetes.material import Material
from portway.sources.kubernetes.scope import followed

KEY = ObjectKey("Secret", "shop", "shop-tls")
OBJECT = b'{"metadata":{"name":"shop-tls","namespace":"shop","resourceVersion":"5"}}'
LISTED = Event(EventType.CHANGED, "shop", "shop-tls", OBJECT)


class Listing:
    """A reflector whose list comes as slowly as the test wants."""

    def __init__(self) -> None:
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
                self._versions.listed(name, 5)
            elif event.type is EventType.DELETED:
                self._versions.deleted(name, 6)
            yield event


class Server:
    def __init__(self, *, has: bool = True) -> None:
        self.has = has

    async def get(self, path: str) -> bytes:
        if not self.has:
            raise ApiError("get", path, 404, "NotFound", "")
        return OBJECT


class World:
    def __init__(self, server: Server) -> None:
        self.listing = Listing()
        self.wanted: set[ObjectKey] = set()
        self.reported: list[tuple[EventType, str]] = []
        (collection,) = followed([KINDS["Secret"]], (), "")
        self.material = Material(
            cast("ApiClient", server),
            collection,
            make=lambda _: cast("Reflector", self.listing),
            is_wanted=self.wanted.__contains__,
            report=lambda _, event: self.reported.append((event.type, event.name)),
            forget=lambda _: None,
        )

    async def tell(self, *events: Event) -> None:
        for event in events:
            self.listing.coming.put_nowait(event)
        for _ in range(20):
            await asyncio.sleep(0)

    def want(self, tasks: asyncio.TaskGroup) -> None:
        self.wanted.add(KEY)
        self.material.want(KEY, tasks)


async def test_a_secret_that_becomes_wanted_when_the_first_list_has_passed_it_comes_with_the_list() -> None:
    world = World(Server())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(world.material.run(tasks))
        await world.tell(LISTED)
        world.want(tasks)
        await world.tell()
        assert world.reported == []
        await world.tell(Event(EventType.SYNCED))
        assert world.reported == [(EventType.CHANGED, "shop-tls"), (EventType.SYNCED, "")]
        assert world.material.is_synced
        assert world.material.is_settled(KEY)
        running.cancel()


async def test_one_that_is_gone_when_it_is_fetched_keeps_the_list_from_nothing() -> None:
    world = World(Server(has=False))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(world.material.run(tasks))
        await world.tell(LISTED)
        world.want(tasks)
        await world.tell(Event(EventType.SYNCED))
        assert world.material.is_synced
        assert world.material.is_settled(KEY)
        await world.tell(Event(EventType.DELETED, "shop", "shop-tls"), LISTED)
        assert world.reported[-1] == (EventType.CHANGED, "shop-tls")
        running.cancel()
