"""Statuses where the definitions are of another release: TLSRoute is in v1, v1alpha3 or v1alpha2."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest
from structlog.testing import capture_logs

from portway.kubernetes.errors import ApiError
from portway.kubernetes.paths import target_of
from portway.model.condition import Condition, ObjectReport, ParentReport
from portway.objects.verdict import ObjectKey
from portway.status.merge import Statement
from portway.status.raw import Raw, as_list, as_map, uid_of
from portway.status.writer import StatusWriter
from tests.cluster.api import Api, Refused
from tests.cluster.control_plane import ControlPlane, wait_established
from tests.kubernetes.planes import client_of, running_plane

GROUP = "gateway.networking.k8s.io"
PARENT = ObjectKey("Gateway", "default", "public")


def statement(name: str, uid: str, *, is_accepted: bool = True) -> Statement:
    said = Condition(type="Accepted", status=is_accepted, reason="Accepted")
    parent = ParentReport(parent=PARENT, index=0, conditions=(said,))
    report = ObjectReport(object=ObjectKey("TLSRoute", "default", name), parents=(parent,))
    return Statement(report=report, generation=1, uid=uid)


def said_of(route: Raw) -> list[object]:
    """Status of each parent's condition."""
    parents = map(as_map, as_list(as_map(route.get("status")).get("parents")))
    return [as_map(as_list(parent.get("conditions"))[0])["status"] for parent in parents]


class Server:
    """One route, in the versions that are served, which answers as an API server does."""

    def __init__(self, *served: str) -> None:
        self.served = served
        self.has_route = True
        self.asked = 0
        self._route: Raw = {
            "metadata": {"name": "r", "namespace": "default", "uid": "u", "generation": 1, "resourceVersion": "1"},
            "spec": {"parentRefs": [{"name": "public"}]},
        }

    @property
    def said(self) -> list[object]:
        return said_of(self._route)

    async def get(self, path: str, params: Mapping[str, str] = {}, /) -> bytes:
        version = self._version_in("get", path)
        whole = {"apiVersion": f"{GROUP}/{version}", "kind": "TLSRoute", **self._route}
        if path.endswith("/tlsroutes"):
            return msgspec.json.encode({"items": [whole] if self.has_route else [], "metadata": {}})
        return msgspec.json.encode(whole)

    async def replace(self, path: str, body: bytes, /) -> bytes:
        version = self._version_in("update", path)
        route = msgspec.json.decode(body, type=dict[str, object])
        if route.pop("apiVersion") != f"{GROUP}/{version}":
            raise ApiError("update", path, 400, "BadRequest", "the API version in the data does not match")
        self._route = route
        return body

    async def patch(self, path: str, body: bytes, *, content_type: str) -> bytes:
        self._version_in("patch", path)
        raise ApiError("patch", path, 422, "Invalid", "this server takes no patches")

    def _version_in(self, verb: str, path: str) -> str:
        self.asked += 1
        target = target_of(path)
        if target.version not in self.served:
            raise ApiError(verb, path, 404, "", "404 page not found\n")
        if target.name and not self.has_route:
            raise ApiError(verb, path, 404, "NotFound", f'tlsroutes.{GROUP} "{target.name}" not found')
        return target.version


@asynccontextmanager
async def writing(server: Server) -> AsyncIterator[StatusWriter]:
    # Waits of which fake time has no part left over, as a sum of random ones may.
    writer = StatusWriter(server, controller="portway.dev/gateway-controller", chance=lambda: 0.25)
    running = asyncio.ensure_future(writer.run())  # noqa: TID251 - the test is its parent
    await asyncio.sleep(1)
    try:
        yield writer
    finally:
        running.cancel()
        await asyncio.wait([running])


SERVED = [("v1",), ("v1alpha3",), ("v1alpha2",), ("v1alpha2", "v1alpha3")]


@pytest.mark.looptime
@pytest.mark.parametrize("served", SERVED, ids=" ".join)
async def test_what_is_served_is_written(served: tuple[str, ...]) -> None:
    server = Server(*served)
    with capture_logs() as said:
        async with writing(server) as writer:
            writer.want(statement("r", "u"))
            await asyncio.sleep(1)
            assert server.said == ["True"]
    assert [one for one in said if one["log_level"] in ("warning", "error")] == []


@pytest.mark.looptime
@pytest.mark.parametrize("served", SERVED, ids=" ".join)
async def test_what_is_served_is_looked_at(served: tuple[str, ...]) -> None:
    """By a new leader, who lists what there is."""
    server = Server(*served)
    async with writing(server) as writer:
        writer.want(statement("r", "u"))
        await asyncio.sleep(1)
    async with writing(server) as writer:
        writer.want(statement("r", "u"))
        await asyncio.sleep(1)
        assert writer.statistics().writes == 0


@pytest.mark.looptime
@pytest.mark.parametrize(("before", "after"), [("v1alpha3", "v1"), ("v1", "v1alpha2")])
async def test_definitions_are_replaced_while_it_runs(before: str, after: str) -> None:
    server = Server(before)
    async with writing(server) as writer:
        writer.want(statement("r", "u"))
        await asyncio.sleep(1)
        server.served = (after,)
        writer.want(statement("r", "u", is_accepted=False))
        await asyncio.sleep(2)
        assert server.said == ["False"]


@pytest.mark.looptime
async def test_a_kind_that_is_not_there_is_told_once_and_waited_for() -> None:
    server = Server()
    with capture_logs() as said:
        async with writing(server) as writer:
            writer.want(statement("r", "u"))
            await asyncio.sleep(600)
            assert server.asked < 200
            server.served = ("v1",)
            await asyncio.sleep(60)
            assert server.said == ["True"]
    assert [one["resource"] for one in said if one["log_level"] == "error"] == ["tlsroutes"]


@pytest.mark.looptime
async def test_an_object_that_is_gone_is_dropped_without_a_word() -> None:
    server = Server("v1")
    server.has_route = False
    with capture_logs() as said:
        async with writing(server) as writer:
            writer.want(statement("r", "u"))
            await asyncio.sleep(60)
            assert writer.statistics().waiting == 0
    assert [one for one in said if one["log_level"] in ("warning", "error")] == []
    assert server.asked < 5


DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: tlsroutes.gateway.networking.k8s.io
  annotations: {api-approved.kubernetes.io: "https://github.com/kubernetes-sigs/gateway-api/pull/1923"}
spec:
  group: gateway.networking.k8s.io
  scope: Namespaced
  names: {kind: TLSRoute, plural: tlsroutes, singular: tlsroute, listKind: TLSRouteList}
  versions: [%s]
"""
VERSION = (
    "{{name: {}, served: {}, storage: {}, subresources: {{status: {{}}}}, "
    "schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}}}"
)
ROUTE = """
{apiVersion: gateway.networking.k8s.io/v1alpha3, kind: TLSRoute, metadata: {name: %s},
  spec: {parentRefs: [{name: public}]}}
"""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    yield from running_plane(tmp_path_factory.mktemp("plane"), channel="")


@pytest.mark.cluster
async def test_a_server_with_older_definitions_and_then_others(plane: ControlPlane) -> None:
    client = client_of(plane.administrator)
    async with Api(plane.administrator) as admin, asyncio.timeout(60):

        async def route(version: str, name: str) -> Raw:
            path = f"/apis/{GROUP}/{version}/namespaces/default/tlsroutes/{name}"
            return msgspec.json.decode(await admin.request("GET", path), type=dict[str, object])

        async def until_applied(manifest: str) -> None:
            while True:
                try:
                    return await admin.apply(manifest)
                except Refused:  # a kind is served some time after it was established
                    await asyncio.sleep(0.02)

        async def until_said(version: str, name: str, said: str) -> None:
            found: list[object] = []
            while found != [said]:
                await asyncio.sleep(0.02)
                with suppress(Refused):  # a version is served some time after it was defined
                    found = said_of(await route(version, name))

        await admin.apply(DEFINITION % VERSION.format("v1alpha3", "true", "true"))
        await wait_established(admin)
        for name in ("a", "b"):
            await until_applied(ROUTE % name)
        uids = {name: uid_of(await route("v1alpha3", name)) for name in ("a", "b")}
        writer = StatusWriter(client, controller="portway.dev/gateway-controller")
        writer.want(statement("a", uids["a"]))
        running = asyncio.ensure_future(writer.run())  # noqa: TID251 - the test is its parent
        try:
            await until_said("v1alpha3", "a", "True")
            writer.want(statement("b", uids["b"]))
            await until_said("v1alpha3", "b", "True")
            versions = (VERSION.format("v1", "true", "true"), VERSION.format("v1alpha3", "false", "false"))
            await admin.apply(DEFINITION % ", ".join(versions))
            writer.want(statement("a", uids["a"], is_accepted=False))
            await until_said("v1", "a", "False")
            await admin.delete(f"/apis/{GROUP}/v1/namespaces/default/tlsroutes/b")
            writer.want(statement("b", uids["b"], is_accepted=False))
            await writer.drained()
        finally:
            running.cancel()
            await asyncio.wait([running])
            await client.close()
