"""What every source must do, whatever stands behind it.

A source's test module makes a `World` (a folder, an API server ...) in a fixture named `world`, and imports the tests:

    from tests.sources.suite import *

Each test speaks to the world and looks at the source through a real store, as the rest of Portway does.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, cast

from portway.objects.core_v1 import Namespace, Service
from portway.objects.verdict import ObjectKey
from portway.store import ChangeSet, Source, Store

Manifest = dict[str, object]

TIMEOUT = 20
"""Seconds. Long enough for a loaded machine; a source that hangs is found all the same."""


class World(Protocol):
    """Where the objects are declared."""

    def source(self) -> Source:
        """A new source over the world as it is."""
        ...

    async def create(self, manifest: Manifest) -> None: ...

    async def update(self, manifest: Manifest) -> None: ...

    async def delete(self, key: ObjectKey) -> None: ...


class Reader:
    """A consumer of a source: applies what comes to a store."""

    def __init__(self, changes: AsyncIterator[ChangeSet]) -> None:
        self._changes = changes
        self.store = Store()
        self.seen: list[ChangeSet] = []

    async def step(self) -> ChangeSet:
        """Wait for the next change set and apply it."""
        async with asyncio.timeout(TIMEOUT):
            change = await anext(self._changes)
        self.seen.append(change)
        self.store.apply(change)
        return change

    async def until(self, condition: Callable[[Store], bool]) -> None:
        """Apply change sets until the store is as wanted."""
        while not condition(self.store):
            await self.step()

    async def synced(self) -> None:
        while not (await self.step()).synced:
            pass


@asynccontextmanager
async def reading(source: Source, *, synced: bool = True) -> AsyncIterator[Reader]:
    """Consume a source; it is stopped at the end."""
    changes = source.changes()
    reader = Reader(changes)
    try:
        if synced:
            await reader.synced()
        yield reader
    finally:
        await cast("AsyncGeneratorLike", changes).aclose()


class AsyncGeneratorLike(Protocol):
    async def aclose(self) -> None: ...


def service(name: str, *, port: int = 80, namespace: str = "shop") -> Manifest:
    """A Service, as its author writes it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": [{"name": "http", "port": port}]},
    }


def service_key(name: str, namespace: str = "shop") -> ObjectKey:
    return ObjectKey("Service", namespace, name)


def port_of(store: Store, key: ObjectKey) -> int | None:
    """The port of a Service in the store; None if there is no such Service."""
    stored = store.get(key)
    if stored is None:
        return None
    assert isinstance(stored.object, Service)
    return stored.object.spec.ports[0].port


async def test_what_exists_is_reported_before_synced(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.create(service(name))
    async with reading(world.source()) as reader:
        assert {key.name for key in reader.store.keys("Service")} == {"a", "b", "c"}
        assert [change.synced for change in reader.seen].count(True) == 1


async def test_an_empty_world_is_synced_too(world: World) -> None:
    async with reading(world.source()) as reader:
        assert not reader.store.keys("Service")


async def test_a_created_object_is_reported(world: World) -> None:
    async with reading(world.source()) as reader:
        await world.create(service("a", port=81))
        await reader.until(lambda store: port_of(store, service_key("a")) == 81)


async def test_an_updated_object_is_reported(world: World) -> None:
    await world.create(service("a", port=81))
    async with reading(world.source()) as reader:
        await world.update(service("a", port=82))
        await reader.until(lambda store: port_of(store, service_key("a")) == 82)


async def test_a_deleted_object_is_reported(world: World) -> None:
    await world.create(service("a"))
    await world.create(service("b"))
    async with reading(world.source()) as reader:
        await world.delete(service_key("a"))
        await reader.until(lambda store: store.keys("Service") == {service_key("b")})


async def test_versions_come_in_order_and_the_last_one_comes(world: World) -> None:
    await world.create(service("a", port=1))
    async with reading(world.source()) as reader:
        ports: list[int | None] = []
        for port in range(2, 30):
            await world.update(service("a", port=port))
        while port_of(reader.store, service_key("a")) != 29:
            await reader.step()
            ports.append(port_of(reader.store, service_key("a")))
        assert ports == sorted(ports, key=lambda port: port or 0)


async def test_others_are_not_touched_by_a_change(world: World) -> None:
    await world.create(service("a"))
    await world.create(service("b"))
    async with reading(world.source()) as reader:
        before = reader.store.get(service_key("b"))
        await world.update(service("a", port=90))
        await reader.until(lambda store: port_of(store, service_key("a")) == 90)
        after = reader.store.get(service_key("b"))
        assert before is not None
        assert after is not None
        assert after.object == before.object


async def test_the_namespace_of_an_object_exists_with_its_name_label(world: World) -> None:
    await world.create(service("a", namespace="pay"))
    async with reading(world.source()) as reader:
        stored = reader.store.get(ObjectKey("Namespace", "", "pay"))
        assert stored is not None
        assert isinstance(stored.object, Namespace)
        assert stored.object.metadata.labels["kubernetes.io/metadata.name"] == "pay"


async def test_a_source_can_be_stopped_and_another_one_started(world: World) -> None:
    await world.create(service("a"))
    async with reading(world.source()):
        pass
    async with reading(world.source()) as reader:
        assert reader.store.keys("Service") == {service_key("a")}


async def test_cancelling_ends_it_while_it_waits(world: World) -> None:
    async with reading(world.source()) as reader:
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(reader.step())
            await asyncio.sleep(0)
            waiting.cancel()
        assert waiting.cancelled()
