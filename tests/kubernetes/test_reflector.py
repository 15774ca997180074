"""Following a collection of a real API server through all that can happen to it."""

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from portway.kubernetes import reflector as module
from portway.kubernetes.backoff import Backoff
from portway.kubernetes.client import ApiClient, ApiError, resource_path
from portway.kubernetes.events import Event, EventType, State
from portway.kubernetes.reflector import Reflector
from portway.kubernetes.refusals import DENIALS
from tests.cluster.control_plane import Component, ControlPlane
from tests.kubernetes.faulty import FaultyServer, Intercept
from tests.kubernetes.planes import client_of, plane

__all__ = ["plane"]
pytestmark = pytest.mark.cluster

TIMEOUT = 30
GADGETS = tuple(resource_path("test.portway.dev", version, "gadgets") for version in ("v2", "v1"))
CRD = resource_path("apiextensions.k8s.io", "v1", "customresourcedefinitions")


class World:
    """A namespace, and ConfigMaps in it."""

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.path = resource_path("", "v1", "configmaps", namespace)

    async def put(self, *names: str, text: str = "") -> None:
        for name in names:
            body = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name},
                "data": {"text": text},
            }
            await self.client.apply(f"{self.path}/{name}", msgspec.json.encode(body), manager="test")

    async def delete(self, *names: str) -> None:
        for name in names:
            await self.client.delete(f"{self.path}/{name}")

    async def version(self) -> int:
        """Of the newest change that the server knows."""
        return int(msgspec.json.decode(await self.client.get(self.path))["metadata"]["resourceVersion"])


class Follower:
    """Consumes a reflector: what there is by its events."""

    def __init__(self, reflector: Reflector) -> None:
        self.reflector = reflector
        self.texts: dict[str, str] = {}
        self.events: list[Event] = []
        self._events: AsyncGenerator[Event, None] = reflector.events()
        self._next: asyncio.Future[Event] | None = None

    async def step(self) -> Event:
        async with asyncio.timeout(TIMEOUT):
            event = await (self._next or anext(self._events))
        self._next = None
        if event.type is EventType.CHANGED:
            self.texts[event.name] = msgspec.json.decode(event.data).get("data", {}).get("text", "")
        elif event.type is EventType.DELETED:
            del self.texts[event.name]  # each only once
        self.events.append(event)
        return event

    async def until(self, type_: EventType) -> Event:
        while (event := await self.step()).type is not type_:
            pass
        return event

    async def until_texts(self, texts: dict[str, str]) -> None:
        while self.texts != texts:
            await self.step()

    async def ready(self) -> None:
        """Until what was told last counts as taken in, and the watch waits for more."""
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._events))  # noqa: TID251 - awaited by `step`, ended by `close`
        await asyncio.sleep(0.3)

    async def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait([self._next])
        await self._events.aclose()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seldom is soon."""
    monkeypatch.setattr(module, "MISSING_WAIT", 0.2)
    monkeypatch.setattr(module, "FORBIDDEN_WAIT", 0.2)
    monkeypatch.setattr(module, "SHORT", 0.0)


@pytest_asyncio.fixture
async def world(plane: ControlPlane, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    client = client_of(plane.administrator)
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[:60].strip("-")
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await client.apply(resource_path("", "v1", "namespaces", "", name), msgspec.json.encode(body), manager="test")
    world = World(client, name)
    yield world
    await client.close()


def of_tests(client: ApiClient, world: World, *, idle: float = 60, relist: float = 3600) -> Reflector:
    return Reflector(client, [world.path], field_selector="metadata.name!=kube-root-ca.crt", idle=idle, relist=relist)


@asynccontextmanager
async def following(reflector: Reflector, *, synced: bool = True) -> AsyncIterator[Follower]:
    follower = Follower(reflector)
    try:
        if synced:
            await follower.until(EventType.SYNCED)
        yield follower
    finally:
        await follower.close()


@asynccontextmanager
async def waiting(client: ApiClient, world: World) -> AsyncIterator[tuple[Reflector, Follower]]:
    """All is listed, and the watch waits for more."""
    reflector = of_tests(client, world)
    async with following(reflector) as follower:
        await follower.ready()
        yield reflector, follower


@pytest_asyncio.fixture
async def faulty(plane: ControlPlane) -> AsyncIterator[FaultyServer]:
    async with FaultyServer(plane.administrator) as server:
        yield server


@pytest_asyncio.fixture
async def through(faulty: FaultyServer) -> AsyncIterator[ApiClient]:
    """A client that speaks through the faulty server."""
    client = ApiClient(faulty.connection)
    yield client
    await client.close()


async def test_what_exists_then_each_change(world: World) -> None:
    await world.put("a", "b", text="1")
    async with following(of_tests(world.client, world)) as follower:
        assert follower.texts == {"a": "1", "b": "1"}
        await world.put("c", text="2")
        await world.put("a", text="3")
        await world.delete("b")
        await follower.until_texts({"a": "3", "c": "2"})
        assert follower.reflector.statistics().lists == 1


async def test_a_server_without_streaming_lists_is_asked_for_pages(
    world: World, faulty: FaultyServer, through: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(request: web.Request) -> web.Response | None:
        return web.Response(status=422) if "sendInitialEvents" in request.query else None

    faulty.intercept = refuse
    monkeypatch.setattr(module, "PAGE", 2)
    await world.put("a", "b", "c", "d", "e", text="1")
    async with following(of_tests(through, world)) as follower:
        assert sorted(follower.texts) == ["a", "b", "c", "d", "e"]
        assert len(faulty.paths(limit="2")) == 3
        await world.put("f")
        await world.delete("a", "b", "c", "d", "e")
        await follower.until_texts({"f": ""})


async def test_a_watch_that_is_cut_goes_on_where_it_was(world: World, faulty: FaultyServer, through: ApiClient) -> None:
    await world.put("a", "b", text="1")
    async with following(of_tests(through, world)) as follower:
        faulty.cut()
        await world.put("a", text="2")
        await world.delete("b")
        await follower.until_texts({"a": "2"})
        assert follower.reflector.statistics().lists == 1
        assert any(event.type is EventType.FAILED for event in follower.events)


async def test_a_watch_that_hangs_is_noticed(world: World, faulty: FaultyServer, through: ApiClient) -> None:
    await world.put("a", text="1")
    async with following(of_tests(through, world, idle=0.5)) as follower:
        faulty.hang()
        await world.put("a", text="2")
        failed = await follower.until(EventType.FAILED)
        assert "does not answer in time" in str(failed.error)
        faulty.go_on()
        await follower.until_texts({"a": "2"})


def unavailable(**headers: str) -> Intercept:
    return lambda request: web.Response(status=503, headers=headers)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits to try again waits for longer than any test."""
    monkeypatch.setattr(module, "Backoff", partial(Backoff, first=600, longest=600))


@asynccontextmanager
async def put_off(
    faulty: FaultyServer, client: ApiClient, world: World, **headers: str
) -> AsyncIterator[tuple[Reflector, Follower]]:
    """Its watch was cut; it waits to try again, which would be refused with these headers."""
    async with waiting(client, world) as (reflector, follower):
        faulty.intercept = unavailable(**headers)
        faulty.cut()
        await follower.until(EventType.FAILED)
        await follower.ready()
        yield reflector, follower


@pytest.mark.usefixtures("patient")
async def test_who_waits_tries_again_at_once_when_others_are_answered(
    world: World, faulty: FaultyServer, through: ApiClient
) -> None:
    async with put_off(faulty, through, world) as (reflector, follower):
        await world.put("a", text="1")
        faulty.intercept = lambda request: None
        reflector.hasten()
        await follower.until_texts({"a": "1"})
        asked = len(faulty.requests)
        reflector.hasten()
        await follower.ready()
        assert len(faulty.requests) == asked, "all is well"


@pytest.mark.usefixtures("patient")
async def test_who_asks_and_is_not_answered_asks_anew_when_others_are(
    world: World, faulty: FaultyServer, through: ApiClient
) -> None:
    async with put_off(faulty, through, world) as (reflector, follower):
        reflector.hasten()
        await follower.until(EventType.FAILED)
        await follower.ready()
        faulty.intercept = lambda request: None
        faulty.hang()
        for _ in range(2):
            asked = len(faulty.requests)
            reflector.hasten()
            await follower.ready()
            assert len(faulty.requests) == asked + 1
        faulty.go_on()
        await follower.until(EventType.SYNCED)


@pytest.mark.usefixtures("patient")
async def test_nobody_is_hastened_whom_the_server_asked_to_wait(
    world: World, faulty: FaultyServer, through: ApiClient
) -> None:
    async with put_off(faulty, through, world, **{"Retry-After": "60"}) as (reflector, follower):
        reflector.hasten()
        await follower.until(EventType.FAILED)
        await follower.ready()
        asked = len(faulty.requests)
        reflector.hasten()
        await follower.ready()
        assert len(faulty.requests) == asked


async def test_repeated_and_late_events_do_no_harm(world: World, faulty: FaultyServer, through: ApiClient) -> None:
    told: list[bytes] = []

    def repeat(line: bytes) -> list[bytes]:
        told.append(line)
        return [*told[-3:], *reversed(told)]

    await world.put("a", "b", text="1")
    faulty.edit = repeat
    async with following(of_tests(through, world)) as follower:
        for number in range(2, 7):
            await world.put("a", text=str(number))
        await world.delete("b")
        await world.put("last")
        await follower.until_texts({"a": "6", "last": ""})
        texts = [msgspec.json.decode(event.data)["data"]["text"] for event in follower.events if event.name == "a"]
        assert texts == sorted(texts), "never back to an older one"
        assert follower.reflector.statistics().repeated > 0


async def test_left_out_events_are_found_when_everything_is_listed_again(
    world: World, faulty: FaultyServer, through: ApiClient
) -> None:
    await world.put("a", "b", text="1")
    async with following(of_tests(through, world, relist=0)) as follower:
        faulty.edit = lambda line: () if b'"MODIFIED"' in line or b'"DELETED"' in line else (line,)
        await world.put("a", text="2")
        await world.delete("b")
        await world.put("c", text="3")
        await follower.until_texts({"a": "1", "b": "1", "c": "3"})
        faulty.cut()
        await follower.until_texts({"a": "2", "c": "3"})


async def test_who_knows_more_has_everything_listed_anew(
    world: World, faulty: FaultyServer, through: ApiClient
) -> None:
    """The watch is open and says nothing: it is proof of nothing."""
    async with waiting(through, world) as (reflector, follower):
        faulty.edit = lambda line: ()
        await world.put("a", text="1")
        before = reflector.as_of
        reflector.list_since(before)
        assert reflector.statistics().lists == 1, "it was asked for since then"
        now = time.monotonic()
        assert before < now
        faulty.edit = lambda line: (line,)
        reflector.list_since(now)
        reflector.list_since(now)
        await follower.until(EventType.SYNCED)
        assert follower.texts == {"a": "1"}
        await world.put("b", text="2")
        await follower.until_texts({"a": "1", "b": "2"})
        assert reflector.as_of > now
        assert reflector.statistics().lists == 2


async def test_a_list_that_is_wanted_while_the_server_is_away_is_made_when_it_is_back(
    world: World, faulty: FaultyServer, through: ApiClient
) -> None:
    async with waiting(through, world) as (reflector, follower):
        faulty.intercept = lambda request: web.Response(status=503)
        now = time.monotonic()
        reflector.list_since(now)
        await follower.until(EventType.FAILED)
        assert reflector.as_of < now
        faulty.intercept = lambda request: None
        await follower.until(EventType.SYNCED)
        await follower.ready()
        assert reflector.as_of >= now


async def test_a_kind_that_alone_does_not_work_is_told_from_a_server_that_does_not(
    world: World, faulty: FaultyServer, through: ApiClient
) -> None:
    """As one whose conversion webhook is away: waiting for it, replicas would hold up everything else."""
    async with waiting(through, world) as (reflector, follower):
        is_server_well = False

        def intercept(request: web.Request) -> web.Response | None:
            is_answered = request.path == "/readyz" and is_server_well
            return None if is_answered else web.Response(status=500)

        faulty.intercept = intercept
        now = time.monotonic()
        reflector.list_since(now)
        for _ in range(DENIALS + 1):
            await follower.until(EventType.FAILED)
        assert reflector.as_of < now
        is_server_well = True
        await follower.until(EventType.FAILED)
        assert reflector.as_of >= now


async def test_an_expired_version_lists_anew_and_tells_what_is_gone(
    world: World, faulty: FaultyServer, through: ApiClient
) -> None:
    await world.put("a", "b", text="1")
    expired = {"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired"}}

    def expire(line: bytes) -> list[bytes]:
        if b'"name":"sign"' not in line:
            return []
        faulty.edit = lambda line: (line,)
        return [msgspec.json.encode(expired)]

    async with following(of_tests(through, world)) as follower:
        faulty.edit = expire
        await world.delete("b")
        await world.put("sign")
        await follower.until_texts({"a": "1", "sign": ""})
        assert follower.reflector.statistics().lists == 2
        assert [event.name for event in follower.events if event.type is EventType.DELETED] == ["b"]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_that_is_busy_is_asked_again_in_its_time(
    status: int, world: World, faulty: FaultyServer, through: ApiClient
) -> None:
    refused: list[float] = []

    def refuse(request: web.Request) -> web.Response | None:
        if len(refused) < 2:
            refused.append(asyncio.get_running_loop().time())
            return web.Response(status=status, headers={"Retry-After": "1"})
        return None

    faulty.intercept = refuse
    await world.put("a", text="1")
    async with following(of_tests(through, world)) as follower:
        assert follower.texts == {"a": "1"}
        assert refused[1] - refused[0] > 1
        assert through.statistics().throttled == (2 if status == 429 else 0)


async def test_a_server_that_does_not_know_its_rules_yet_is_not_believed(
    world: World, faulty: FaultyServer, through: ApiClient
) -> None:
    """An API server that starts refuses everything, and its readiness says so."""
    is_starting = True

    def intercept(request: web.Request) -> web.Response | None:
        if not is_starting:
            return None
        return web.Response(status=500 if request.path == "/readyz" else 403)

    await world.put("a", text="1")
    faulty.intercept = intercept
    async with following(of_tests(through, world), synced=False) as follower:
        for _ in range(DENIALS + 1):  # it takes its time
            assert (await follower.step()).type is EventType.FAILED
            assert follower.reflector.statistics().state is State.FAILING
        is_starting = False
        await follower.until(EventType.SYNCED)
        assert follower.texts == {"a": "1"}


async def test_no_right_is_named_and_gained_later(plane: ControlPlane, world: World) -> None:
    await world.put("a", text="1")
    joe = client_of(plane.user("joe"))
    async with following(of_tests(joe, world), synced=False) as follower:
        failed = await follower.step()
        assert failed.type is EventType.DENIED
        assert 'resources: ["configmaps"], verbs: ["list", "watch"]' in str(failed.error)
        assert follower.reflector.statistics().state is State.FORBIDDEN
        plane.kubectl("create", "role", "reader", "-n", world.namespace, "--verb=list,watch", "--resource=configmaps")
        plane.kubectl("create", "rolebinding", "reader", "-n", world.namespace, "--role=reader", "--user=joe")
        await follower.until(EventType.SYNCED)
        assert follower.texts == {"a": "1"}
    await joe.close()


async def test_what_was_never_read_is_asked_for_soon_while_its_rule_may_be_on_its_way(
    world: World, faulty: FaultyServer, through: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FORBIDDEN_WAIT", 600.0)
    is_denied = True
    faulty.intercept = lambda request: web.Response(status=403) if is_denied and request.path == world.path else None
    await world.put("a", text="1")
    reflector = Reflector(through, [world.path], field_selector="metadata.name=a", doubt=TIMEOUT)
    async with following(reflector, synced=False) as follower:
        for _ in range(2):
            assert (await follower.step()).type is EventType.DENIED
            assert reflector.is_denied_at_first
        is_denied = False
        await follower.until(EventType.SYNCED)
        assert follower.texts == {"a": "1"}
        assert not reflector.is_denied_at_first
        is_denied = True
        faulty.cut()
        await follower.until(EventType.DENIED)
        assert not reflector.is_denied_at_first, "it has been read"


async def test_a_denial_that_lasts_is_believed(world: World, faulty: FaultyServer, through: ApiClient) -> None:
    faulty.intercept = lambda request: web.Response(status=403) if request.path == world.path else None
    reflector = Reflector(through, [world.path], doubt=0.5)
    async with following(reflector, synced=False) as follower:
        assert (await follower.step()).type is EventType.DENIED
        while reflector.is_denied_at_first:
            assert (await follower.step()).type is EventType.DENIED
        assert (await follower.step()).type is EventType.DENIED
        assert not reflector.is_denied_at_first


def definition(*versions: str) -> bytes:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return msgspec.json.encode(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "gadgets.test.portway.dev"},
            "spec": {
                "group": "test.portway.dev",
                "scope": "Namespaced",
                "names": {"plural": "gadgets", "kind": "Gadget", "listKind": "GadgetList", "singular": "gadget"},
                "versions": [
                    {"name": version, "served": True, "storage": version == versions[0], "schema": schema}
                    for version in versions
                ],
            },
        }
    )


async def define(world: World, version: str) -> None:
    """Make the kind, when that of the test before is quite gone."""
    async with asyncio.timeout(TIMEOUT):
        while not await _is_created(world, definition(version)):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.1)


async def _is_created(world: World, body: bytes) -> bool:
    try:
        await world.client.create(CRD, body)
    except ApiError as error:
        if error.status != 409:
            raise
        return False
    return True


async def make_gadget(world: World, version: str, name: str) -> None:
    path = resource_path("test.portway.dev", version, "gadgets", world.namespace, name)
    body = {
        "apiVersion": f"test.portway.dev/{version}",
        "kind": "Gadget",
        "metadata": {"name": name},
        "data": {"text": version},
    }
    while not await _is_made(world, path, msgspec.json.encode(body)):  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.05)  # the definition is not served yet


async def _is_made(world: World, path: str, body: bytes) -> bool:
    try:
        await world.client.apply(path, body, manager="test")
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True


async def test_a_kind_that_comes_and_goes(world: World) -> None:
    async with following(Reflector(world.client, GADGETS), synced=False) as follower:
        assert (await follower.step()).type is EventType.MISSING, "once, and without noise"
        await define(world, "v1")
        assert (await follower.until(EventType.SYNCED)).type is EventType.SYNCED
        await make_gadget(world, "v1", "one")
        await follower.until_texts({"one": "v1"})
        await world.client.delete(f"{CRD}/gadgets.test.portway.dev")
        await follower.until(EventType.MISSING)
        assert follower.texts == {}
        await define(world, "v2")
        await follower.until(EventType.SYNCED)
        await make_gadget(world, "v2", "two")
        await follower.until_texts({"two": "v2"})
        await world.client.delete(f"{CRD}/gadgets.test.portway.dev")


async def test_a_server_that_does_not_know_its_kinds_yet_is_not_believed(
    world: World, faulty: FaultyServer, through: ApiClient
) -> None:
    """An API server that starts answers 404 for what it does not serve yet, and its readiness says so."""
    is_starting = True

    def intercept(request: web.Request) -> web.Response | None:
        if request.path in ("/readyz", *GADGETS) and is_starting:
            return web.Response(status=500 if request.path == "/readyz" else 404)
        return None

    faulty.intercept = intercept
    await define(world, "v1")
    await make_gadget(world, "v1", "one")
    async with following(Reflector(through, GADGETS), synced=False) as follower:
        assert (await follower.step()).type is EventType.FAILED
        is_starting = False
        await follower.until(EventType.SYNCED)
        assert follower.texts == {"one": "v1"}
        assert not any(event.type is EventType.MISSING for event in follower.events)
    await world.client.delete(f"{CRD}/gadgets.test.portway.dev")


async def test_an_api_server_that_is_killed_comes_back_to_the_same(plane: ControlPlane, world: World) -> None:
    await world.put("a", "b", text="1")
    async with following(of_tests(world.client, world)) as follower:
        await plane.kill(Component.API_SERVER)
        await follower.until(EventType.FAILED)
        assert follower.texts == {"a": "1", "b": "1"}
        await plane.restart(Component.API_SERVER)
        await world.put("a", text="2")
        await world.delete("b")
        await follower.until_texts({"a": "2"})
        assert [event.name for event in follower.events if event.type is EventType.DELETED] == ["b"]


async def test_an_api_server_that_is_paused_is_noticed(plane: ControlPlane, world: World) -> None:
    await world.put("a", text="1")
    async with following(of_tests(world.client, world, idle=0.5)) as follower:
        plane.pause(Component.API_SERVER)
        try:
            await follower.until(EventType.FAILED)
        finally:
            plane.resume(Component.API_SERVER)
        await world.put("a", text="2")
        await follower.until_texts({"a": "2"})


async def test_an_etcd_that_goes_back_in_time_is_listed_anew(plane: ControlPlane, world: World) -> None:
    await world.put("a", "b", text="1")
    plane.save_etcd("before")
    async with following(of_tests(world.client, world)) as follower:
        await world.put("a", text="2")
        await world.put("c", text="2")
        await world.delete("b")
        await follower.until_texts({"a": "2", "c": "2"})
        for number in range(30):  # so far ahead that the restored etcd does not catch up by itself
            await world.put("ahead", text=str(number))
        await follower.until_texts({"a": "2", "c": "2", "ahead": "29"})
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follower.until_texts({"a": "1", "b": "1"}))
            await plane.restore_etcd("before")
        await world.put("c", text="3")
        await follower.until_texts({"a": "1", "b": "1", "c": "3"})


async def test_an_etcd_that_went_back_and_has_caught_up_is_listed_anew(
    plane: ControlPlane, world: World, faulty: FaultyServer, through: ApiClient
) -> None:
    """Other clients came back sooner, and wrote until the versions were past ours."""
    await world.put("a", "b", text="1")
    plane.save_etcd("before")
    async with following(of_tests(through, world)) as follower:
        await world.put("a", text="2")
        await world.delete("b")
        await follower.until_texts({"a": "2"})
        read = follower.reflector.read_up_to
        faulty.intercept = lambda _request: web.Response(status=503)
        faulty.cut()
        await follower.until(EventType.FAILED)
        await plane.restore_etcd("before")
        await follower.until(EventType.FAILED)
        count = itertools.count()
        while await world.version() <= read:  # the server's own objects may have sufficed
            await world.put("ahead", text=str(next(count)))
        await world.put("ahead", text="now")
        faulty.intercept = lambda _request: None
        await follower.until_texts({"a": "1", "b": "1", "ahead": "now"})
