"""The status writer and a real API server."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import msgspec
import pytest

from portway.kubernetes.client import ApiClient
from portway.kubernetes.errors import ApiError
from portway.model.condition import Condition, ListenerReport, ObjectReport, ParentReport
from portway.objects.verdict import ObjectKey
from portway.status.merge import LoadBalancerAddress, Statement
from portway.status.raw import Raw, as_list, as_map, as_number, as_text
from portway.status.served import ServedVersions
from portway.status.writer import Api, StatusWriter, WriterSettings
from tests.cluster.api import Api as Administrator
from tests.cluster.control_plane import Component, ControlPlane
from tests.kubernetes.planes import client_of, running_plane

pytestmark = pytest.mark.cluster

OURS = "portway.dev/gateway-controller"
SERVED = ServedVersions()
"""The first ones."""
GATEWAY_GROUP = "gateway.networking.k8s.io"
GATEWAY = ObjectKey("Gateway", "default", "web")
CLASS = ObjectKey("GatewayClass", "", "portway")
MANIFESTS = """
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: portway},
  spec: {controllerName: portway.dev/gateway-controller}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: web, labels: {keep: me}},
  spec: {gatewayClassName: portway, listeners: [{name: http, port: 80, protocol: HTTP}]}}
"""


ODD = {
    "type": "Accepted",
    "status": "False",
    "reason": "Odd",
    "message": "",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    yield from running_plane(tmp_path_factory.mktemp("plane"), "standard")


class World:
    """A writer at work, and an administrator who looks."""

    def __init__(self, writer: StatusWriter, admin: Administrator, client: ApiClient) -> None:
        self.writer = writer
        self.client = client
        self.admin = admin

    async def read(self, key: ObjectKey) -> Raw:
        return msgspec.json.decode(await self.admin.request("GET", SERVED.object(key)), type=dict[str, object])

    async def conditions(self, key: ObjectKey) -> dict[str, tuple[str, int]]:
        """Status and observed generation by type."""
        status = as_map((await self.read(key)).get("status"))
        entries = [as_map(entry) for entry in as_list(status.get("conditions"))]
        return {
            as_text(entry["type"]): (as_text(entry["status"]), as_number(entry.get("observedGeneration")))
            for entry in entries
        }

    async def parents(self, key: ObjectKey) -> list[Raw]:
        status = as_map((await self.read(key)).get("status"))
        return [as_map(entry) for entry in as_list(status.get("parents"))]

    async def write_status(self, key: ObjectKey, status: Mapping[str, object]) -> None:
        """As another controller does."""
        body = {**await self.read(key), "status": status}
        await self.admin.request("PUT", f"{SERVED.object(key)}/status", msgspec.json.encode(body))


@asynccontextmanager
async def at_work(
    plane: ControlPlane, *, api: Api | None = None, controller: str = OURS, settings: WriterSettings | None = None
) -> AsyncIterator[World]:
    client = client_of(plane.administrator)
    async with Administrator(plane.administrator) as admin, asyncio.timeout(60):
        await admin.apply(MANIFESTS)
        writer = StatusWriter(api or client, controller=controller, settings=settings)
        running = asyncio.ensure_future(writer.run())  # noqa: TID251 - the test is its parent
        await writer_runs(writer)
        try:
            yield World(writer, admin, client)
        finally:
            running.cancel()
            await asyncio.wait([running])
            await client.close()
            await admin.delete_manifests(MANIFESTS)


async def writer_runs(writer: StatusWriter) -> None:
    while not writer.statistics().is_writing:  # noqa: ASYNC110 - it begins when the event loop comes round
        await asyncio.sleep(0)


def gateway(attached: int = 0, *, programmed: bool = True, generation: int = 1, provisional: bool = False) -> Statement:
    conditions = (
        Condition(type="Accepted", status=True, reason="Accepted"),
        Condition(
            type="Programmed",
            status=programmed,
            reason="Programmed" if programmed else "Pending",
            provisional=provisional,
        ),
    )
    report = ObjectReport(
        object=GATEWAY,
        conditions=conditions,
        addresses=(("IPAddress", "10.0.0.1"),),
        listeners=(
            ListenerReport(
                name="http",
                attached_routes=attached,
                supported_kinds=((GATEWAY_GROUP, "HTTPRoute"),),
                conditions=conditions,
            ),
        ),
    )
    return Statement(report=report, generation=generation)


def route(name: str, *parents: str, generation: int = 1, reason: str = "Accepted") -> Statement:
    said = (Condition(type="Accepted", status=reason == "Accepted", reason=reason),)
    return Statement(
        report=ObjectReport(
            object=ObjectKey("HTTPRoute", "default", name),
            ours=bool(parents),
            parents=tuple(
                ParentReport(parent=ObjectKey("Gateway", "default", parent), conditions=said) for parent in parents
            ),
        ),
        generation=generation,
    )


def route_manifest(name: str, *parents: str) -> str:
    references = ", ".join(f"{{name: {parent}}}" for parent in parents)
    return (
        f"{{apiVersion: {GATEWAY_GROUP}/v1, kind: HTTPRoute, metadata: {{name: {name}}}, "
        f"spec: {{parentRefs: [{references}]}}}}\n---\n"
    )


async def until(world: World, key: ObjectKey, expected: dict[str, tuple[str, int]]) -> None:
    async with asyncio.timeout(20):
        while await world.conditions(key) != expected:  # noqa: ASYNC110 - the API server is asked
            await asyncio.sleep(0.01)


async def test_a_class_and_a_gateway(plane: ControlPlane) -> None:
    async with at_work(plane) as world:
        accepted = (Condition(type="Accepted", status=True, reason="Accepted"),)
        world.writer.want(
            Statement(
                report=ObjectReport(object=CLASS, conditions=accepted, supported_features=("Gateway", "HTTPRoute")),
                generation=1,
            )
        )
        world.writer.want(gateway(2))
        await world.writer.drained()
        await until(world, CLASS, {"Accepted": ("True", 1)})
        await until(world, GATEWAY, {"Accepted": ("True", 1), "Programmed": ("True", 1)})
        found = await world.read(GATEWAY)
        status = as_map(found["status"])
        assert status["attachedListenerSets"] == 0
        assert status["addresses"] == [{"type": "IPAddress", "value": "10.0.0.1"}]
        assert as_map(as_list(status["listeners"])[0])["attachedRoutes"] == 2
        assert as_map(found["metadata"])["labels"] == {"keep": "me"}
        assert as_map((await world.read(CLASS))["status"])["supportedFeatures"] == [
            {"name": "Gateway"},
            {"name": "HTTPRoute"},
        ]


async def test_nothing_is_written_twice(plane: ControlPlane) -> None:
    async with at_work(plane) as world:
        world.writer.want(gateway())
        await world.writer.drained()
        before = as_map((await world.read(GATEWAY))["metadata"])["resourceVersion"]
        writes = world.writer.statistics().writes
        world.writer.want(gateway(programmed=False, provisional=True))
        world.writer.want(gateway())
        await world.writer.drained()
        assert as_map((await world.read(GATEWAY))["metadata"])["resourceVersion"] == before
        assert world.writer.statistics().writes == writes


async def test_a_writer_that_starts_finds_all_said_already(plane: ControlPlane) -> None:
    async with at_work(plane) as world:
        world.writer.want(gateway())
        await world.writer.drained()
        client = client_of(plane.administrator)
        second = StatusWriter(client, controller=OURS)
        second.want(gateway())
        running = asyncio.ensure_future(second.run())  # noqa: TID251 - the test is its parent
        await writer_runs(second)
        await second.drained()
        running.cancel()
        await asyncio.wait([running])
        await client.close()
        statistics = second.statistics()
        assert (statistics.writes, statistics.reads) == (0, 0)


async def test_entries_of_others_stay_and_ours_go_with_the_route(plane: ControlPlane) -> None:
    cart = ObjectKey("HTTPRoute", "default", "cart")
    async with at_work(plane) as world:
        await world.admin.apply(route_manifest("cart", "web", "theirs"))
        theirs = {
            "parentRef": {"group": GATEWAY_GROUP, "kind": "Gateway", "name": "theirs"},
            "controllerName": "other.example/controller",
            "conditions": [ODD],
        }
        await world.write_status(cart, {"parents": [theirs]})
        world.writer.want(route("cart", "web"))
        await world.writer.drained()
        found = await world.parents(cart)
        assert found[0] == theirs
        assert found[1]["parentRef"] == {"group": GATEWAY_GROUP, "kind": "Gateway", "name": "web"}
        world.writer.want(route("cart"))
        await world.writer.drained()
        assert await world.parents(cart) == [theirs]


async def test_entries_of_a_former_life_are_removed(plane: ControlPlane) -> None:
    old = ObjectKey("HTTPRoute", "default", "old")
    async with at_work(plane) as world:
        await world.admin.apply(route_manifest("old", "gone"))
        reference = {"group": GATEWAY_GROUP, "kind": "Gateway", "name": "gone"}
        entry = {"parentRef": reference, "controllerName": OURS, "conditions": [ODD]}
        await world.write_status(old, {"parents": [entry]})
        client = client_of(plane.administrator)
        writer = StatusWriter(client, controller=OURS)
        writer.want(route("old"))
        running = asyncio.ensure_future(writer.run())  # noqa: TID251 - the test is its parent
        async with asyncio.timeout(20):
            while await world.parents(old):  # noqa: ASYNC110 - the API server is asked
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
        await client.close()


async def test_a_second_writer_gets_in_between(plane: ControlPlane) -> None:
    """Another controller writes its own entries all the time: both come through, nobody's are lost."""
    cart = ObjectKey("HTTPRoute", "default", "contested")
    async with at_work(plane) as world, at_work(plane, controller="other.example/controller") as other:
        await world.admin.apply(route_manifest("contested", "web"))
        for number in range(20):
            reason = ("Accepted", "NoMatchingParent")[number % 2]
            world.writer.want(route("contested", "web", reason=reason))
            other.writer.want(route("contested", "web", reason=reason))
            await asyncio.sleep(0.02)
        await world.writer.drained()
        await other.writer.drained()
        entries = {as_text(entry["controllerName"]): entry for entry in await world.parents(cart)}
        assert set(entries) == {OURS, "other.example/controller"}
        reasons = {as_text(as_map(as_list(entry["conditions"])[0])["reason"]) for entry in entries.values()}
        assert reasons == {"NoMatchingParent"}


async def test_an_ingress_keeps_its_labels_and_gets_addresses(plane: ControlPlane) -> None:
    key = ObjectKey("Ingress", "default", "shop")
    async with at_work(plane) as world:
        await world.admin.apply(
            "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: shop, labels: {a: b}}, "
            "spec: {defaultBackend: {service: {name: shop, port: {number: 80}}}}}"
        )
        report = ObjectReport(object=key)
        addresses = (LoadBalancerAddress(ip="10.0.0.1"), LoadBalancerAddress(hostname="lb.example"))
        world.writer.want(Statement(report=report, generation=1, load_balancer=addresses))
        await world.writer.drained()
        found = await world.read(key)
        assert as_map(found["status"])["loadBalancer"] == {"ingress": [{"ip": "10.0.0.1"}, {"hostname": "lb.example"}]}
        assert as_map(found["metadata"])["labels"] == {"a": "b"}
        world.writer.want(Statement(report=ObjectReport(object=key, ours=False), generation=1))
        await world.writer.drained()
        assert as_map((await world.read(key))["status"])["loadBalancer"] == {}


async def test_an_object_that_is_gone_is_dropped(plane: ControlPlane) -> None:
    async with at_work(plane) as world:
        world.writer.want(route("never-was", "web"))
        await world.writer.drained()
        assert world.writer.statistics().waiting == 0


async def test_an_object_that_is_made_anew_is_told_again(plane: ControlPlane) -> None:
    """Though nobody said that the former one had gone: both came in one moment."""

    async def told(world: World) -> None:
        uid = as_text(as_map((await world.read(GATEWAY))["metadata"])["uid"])
        world.writer.want(msgspec.structs.replace(gateway(), uid=uid))
        await world.writer.drained()
        await until(world, GATEWAY, {"Accepted": ("True", 1), "Programmed": ("True", 1)})

    async with at_work(plane) as world:
        await told(world)
        await world.admin.delete(SERVED.object(GATEWAY))
        await world.admin.apply(MANIFESTS)
        await told(world)


async def test_what_the_server_does_not_take_holds_up_nobody(
    plane: ControlPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    async with at_work(plane) as world:
        await world.admin.apply(route_manifest("bad", "web") + route_manifest("good", "web"))
        world.writer.want(route("bad", "web", reason="no reason has blanks"))
        world.writer.want(route("good", "web"))
        await world.writer.drained()
        assert world.writer.statistics().refused == 1
        assert len(await world.parents(ObjectKey("HTTPRoute", "default", "good"))) == 1
        world.writer.want(route("bad", "web"))
        await world.writer.drained()
        assert len(await world.parents(ObjectKey("HTTPRoute", "default", "bad"))) == 1
    assert "status is not taken" in capsys.readouterr().out


class Moody:
    """A server between that answers as it likes, now and then."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.status = 0
        self.retry_after: float | None = None
        self.requests = 0

    async def get(self, path: str, params: Mapping[str, str] = {}, /) -> bytes:
        self._answer("get", path)
        return await self._api.get(path, params)

    async def replace(self, path: str, body: bytes, /) -> bytes:
        self._answer("update", path)
        return await self._api.replace(path, body)

    async def patch(self, path: str, body: bytes, *, content_type: str) -> bytes:
        self._answer("patch", path)
        return await self._api.patch(path, body, content_type=content_type)

    def _answer(self, verb: str, path: str) -> None:
        self.requests += 1
        if self.status:
            raise ApiError(verb, path, self.status, "Moody", "not now", self.retry_after)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_that_has_too_much_to_do(plane: ControlPlane, status: int) -> None:
    client = client_of(plane.administrator)
    moody = Moody(client)
    async with at_work(plane, api=moody) as world:
        moody.status, moody.retry_after = status, 1.0 if status == 429 else None
        names = [f"moody-{number}" for number in range(30)]
        await world.admin.apply("".join(route_manifest(name, "web") for name in names))
        for name in names:
            world.writer.want(route(name, "web"))
        await asyncio.sleep(0.5)
        # Nobody hammers: those that were under way together, and not one more where the server asked for a second.
        assert moody.requests <= (WriterSettings().parallel + 3 if status == 429 else 30 * 6)
        moody.status = 0
        await world.writer.drained()
        for name in names:
            assert await world.parents(ObjectKey("HTTPRoute", "default", name))
    await client.close()


async def test_missing_rights_are_named_once(plane: ControlPlane, capsys: pytest.CaptureFixture[str]) -> None:
    rights = """
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: half}, rules: [
  {apiGroups: [gateway.networking.k8s.io], resources: [gateways, httproutes], verbs: [get, list]},
  {apiGroups: [gateway.networking.k8s.io], resources: [gateways/status], verbs: [update]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: half},
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: half},
  subjects: [{kind: User, name: half, apiGroup: rbac.authorization.k8s.io}]}
"""
    client = client_of(plane.user("half"))
    async with at_work(plane, api=client) as world:
        await world.admin.apply(rights + "---\n" + route_manifest("a", "web") + route_manifest("b", "web"))
        world.writer.want(route("a", "web"))
        world.writer.want(route("b", "web"))
        world.writer.want(gateway())
        await until(world, GATEWAY, {"Accepted": ("True", 1), "Programmed": ("True", 1)})
        while world.writer.statistics().failed < 2:  # noqa: ASYNC110 - the API server is asked
            await asyncio.sleep(0.01)
    await client.close()
    said = capsys.readouterr().out
    assert said.count("statuses cannot be written") == 1
    assert 'resources: ["httproutes/status"], verbs: ["update"]' in said


@pytest.mark.parametrize("outage", ["killed", "paused"])
async def test_an_api_server_that_is_away(plane: ControlPlane, outage: str) -> None:
    async with at_work(plane) as world:
        world.writer.want(gateway(1))
        await world.writer.drained()
        if outage == "paused":
            plane.pause(Component.API_SERVER)
        else:
            await plane.kill(Component.API_SERVER)
        for attached in range(2, 5):
            world.writer.want(gateway(attached))
            await asyncio.sleep(0.1)
        if outage == "paused":
            plane.resume(Component.API_SERVER)
        else:
            await plane.restart(Component.API_SERVER)
        await world.writer.drained()
        listeners = as_list(as_map((await world.read(GATEWAY))["status"])["listeners"])
        assert as_map(listeners[0])["attachedRoutes"] == 4


async def test_a_status_that_went_back_in_time_is_written_again(plane: ControlPlane) -> None:
    """Whoever comes back after an outage may have an older state."""
    settings = WriterSettings(audit=timedelta(seconds=0.5))
    async with at_work(plane, settings=settings) as world:
        world.writer.want(gateway(1))
        await world.writer.drained()
        await world.write_status(GATEWAY, {})
        await until(world, GATEWAY, {"Accepted": ("True", 1), "Programmed": ("True", 1)})


async def test_etcd_is_restored_to_an_older_state(plane: ControlPlane) -> None:
    async with at_work(plane) as world:
        plane.save_etcd("before")
        world.writer.want(gateway(7))
        await world.writer.drained()
        await plane.restore_etcd("before")
        assert await world.conditions(GATEWAY) == {"Accepted": ("Unknown", 0), "Programmed": ("Unknown", 0)}
        world.writer.check()
        await until(world, GATEWAY, {"Accepted": ("True", 1), "Programmed": ("True", 1)})


async def test_a_thousand_routes_attach(plane: ControlPlane) -> None:
    async with at_work(plane) as world:
        loop = asyncio.get_running_loop()
        for attached in range(1, 1001):
            world.writer.want(gateway(attached))
            await asyncio.sleep(0.003)
        ended = loop.time()
        await world.writer.drained()
        statistics = world.writer.statistics()
        listeners = as_list(as_map((await world.read(GATEWAY))["status"])["listeners"])
        assert as_map(listeners[0])["attachedRoutes"] == 1000
        assert statistics.writes <= 300
        assert loop.time() - ended < 2


async def test_a_new_leader_lists_what_it_need_not_write(plane: ControlPlane) -> None:
    """It hears of the proxies later than of what is declared; what they say stands in the statuses already."""
    names = [f"led-{number}" for number in range(300)]
    provisional = (Condition(type="Programmed", status=False, reason="Pending", provisional=True),)
    programmed = (Condition(type="Programmed", status=True, reason="Programmed"),)

    def said(name: str, conditions: tuple[Condition, ...]) -> Statement:
        parent = ParentReport(parent=GATEWAY, conditions=conditions)
        return Statement(
            report=ObjectReport(object=ObjectKey("HTTPRoute", "default", name), parents=(parent,)), generation=1
        )

    async with at_work(plane) as world:
        await world.admin.apply("".join(route_manifest(name, "web") for name in names))
        for name in names:
            world.writer.want(said(name, programmed))
        await world.writer.drained()
        client = client_of(plane.administrator)
        successor = StatusWriter(client, controller=OURS)
        for name in names:
            successor.want(said(name, provisional))
        running = asyncio.ensure_future(successor.run())  # noqa: TID251 - the test is its parent
        await writer_runs(successor)
        await successor.drained()
        for name in names:
            successor.want(said(name, programmed))
        await successor.drained()
        statistics = successor.statistics()
        assert (statistics.writes, statistics.waiting) == (0, 0)
        assert statistics.reads < 250
        successor.want(said(names[0], (Condition(type="Programmed", status=False, reason="Invalid"),)))
        await successor.drained()
        assert successor.statistics().writes == 1
        running.cancel()
        await asyncio.wait([running])
        await client.close()


async def test_routes_give_way_to_configuration(plane: ControlPlane) -> None:
    client = client_of(plane.administrator)
    busy = [True]
    async with at_work(plane) as world:
        names = [f"busy-{number}" for number in range(40)]
        await world.admin.apply("".join(route_manifest(name, "web") for name in names))
        writer = StatusWriter(client, controller=OURS, is_busy=lambda: busy[0])
        running = asyncio.ensure_future(writer.run())  # noqa: TID251 - the test is its parent
        await writer_runs(writer)
        for name in names:
            writer.want(route(name, "web"))
        writer.want(gateway(40))
        await until(world, GATEWAY, {"Accepted": ("True", 1), "Programmed": ("True", 1)})
        assert writer.statistics().writes < len(names) / 2
        busy[0] = False
        await writer.drained()
        assert writer.statistics().writes == len(names) + 1
        running.cancel()
        await asyncio.wait([running])
    await client.close()


async def test_many_routes_are_written_quickly_and_first_what_is_waited_for(plane: ControlPlane) -> None:
    async with at_work(plane) as world:
        names = [f"many-{number}" for number in range(100)]
        await world.admin.apply("".join(route_manifest(name, "web") for name in names))
        loop = asyncio.get_running_loop()
        began = loop.time()
        for name in names:
            world.writer.want(route(name, "web"))
        world.writer.want(gateway(100))
        await until(world, GATEWAY, {"Accepted": ("True", 1), "Programmed": ("True", 1)})
        first = loop.time() - began
        await world.writer.drained()
        took = loop.time() - began
        assert first < took / 2
