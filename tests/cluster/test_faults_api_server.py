"""An API server that says no for a while, other controllers beside Portway, and Gateways that come and go."""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import yaml
from aiohttp import web

from tests.cluster.api import Refused
from tests.cluster.binaries import ROOT
from tests.cluster.cluster import MiniCluster
from tests.cluster.control_plane import Component
from tests.cluster.network import GATEWAY
from tests.cluster.outages import lose
from tests.cluster.portway_in import (
    CONTROL_PLANE,
    PROGRAMMED,
    PROXIES,
    SYSTEM,
    Object,
    gateway,
    install,
    opened,
    route,
)
from tests.kit.certificates import Authority, server_context
from tests.kit.client import fetch

pytestmark = [pytest.mark.cluster, pytest.mark.disturbs, pytest.mark.timeout(300)]

REFUSING = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: refusing}
webhooks:
- name: refusing.portway.test
  clientConfig: {url: "URL", caBundle: AUTHORITY}
  failurePolicy: Fail
  sideEffects: None
  timeoutSeconds: 1
  admissionReviewVersions: [v1]
  rules:
  - {apiGroups: [gateway.networking.k8s.io], apiVersions: ['*'], operations: [UPDATE], resources: [httproutes/status]}
"""


class _Asked(msgspec.Struct, frozen=True):
    uid: str


class _Review(msgspec.Struct, frozen=True):
    request: _Asked


@asynccontextmanager
async def refusing(cluster: MiniCluster, status: int) -> AsyncIterator[None]:
    """Have the API server answer each write of a route's status with 429 or 500."""
    authority = Authority()

    async def refuse(request: web.Request) -> web.Response:
        uid = msgspec.json.decode(await request.read(), type=_Review).request.uid
        said = {"code": status, "message": "no room", "reason": "TooManyRequests"}
        answer = {"uid": uid, "allowed": False, "status": said}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer})

    application = web.Application()
    application.router.add_post("/", refuse)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, GATEWAY, 0, ssl_context=server_context(authority.issue(GATEWAY)))
    await site.start()
    # A webhook that nobody runs is a 500.
    port = runner.addresses[0][1] if status == 429 else 1
    bundle = base64.b64encode(authority.certificate.encode()).decode()
    manifest = REFUSING.replace("URL", f"https://{GATEWAY}:{port}/").replace("AUTHORITY", bundle)
    await cluster.api.apply(manifest)
    try:
        yield
    finally:
        await cluster.api.delete_manifests(manifest)
        await runner.cleanup()


@pytest.mark.parametrize("status", [429, 500])
async def test_writes_that_fail(cluster: MiniCluster, status: int) -> None:
    """No status of a route can be written: what is declared is served, other statuses are written, and those later."""
    async with opened(cluster) as shop:
        await shop.apply(route("web", ("/", "a")))
        await shop.until_served(by="a")
        await shop.until("httproutes", "web", PROGRAMMED)
        async with shop.load("a"):
            async with refusing(cluster, status):

                async def refused() -> bool:
                    try:
                        await cluster.api.patch(f"{shop.path('httproutes', 'web')}/status", {})
                    except Refused as error:
                        return error.status == status
                    return False

                await cluster.wait_for(f"{status}", refused)
                await shop.apply(route("refused", ("/", "a"), hosts=["refused.test"]))
                await shop.until_served("/", "refused.test", by="a")
                await shop.apply(gateway("edge", "{name: web, port: 80, protocol: HTTP}"))
                await shop.until("gateways", "edge", "Programmed")
                assert not (await shop.read("httproutes", "refused")).all()
            await shop.until("httproutes", "refused", PROGRAMMED)


@pytest.mark.slow
async def test_reads_that_fail(cluster: MiniCluster) -> None:
    """Without etcd the API server answers 500 and 504 to whoever lists: a replica that starts then waits."""
    async with opened(cluster) as shop:
        await shop.apply(route("web", ("/", "a")))
        await shop.until_served(by="a")
        async with shop.load("a"):
            await lose(cluster, Component.ETCD, 10.0)
            await shop.apply(route("after", ("/", "a"), hosts=["after.test"]))
            await shop.until_served("/", "after.test", by="a")
            await shop.until("httproutes", "after", PROGRAMMED)
            await install(cluster)


THEIRS = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: theirs}
spec: {controllerName: example.com/gateway-controller}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: theirs}
spec: {controller: example.com/ingress-controller}
"""


async def test_what_other_controllers_have_is_left_alone(cluster: MiniCluster) -> None:
    async with opened(cluster) as shop:
        await cluster.api.apply(THEIRS)
        try:
            both = route("web", ("/", "a")).replace("[{name: edge}]", "[{name: edge}, {name: theirs}]")
            await shop.apply(gateway("theirs", of_class="theirs"), both)
            await shop.until_served(by="a")
            await shop.until("httproutes", "web", PROGRAMMED)
            # Another controller writes its own entry beside ours, and says of its Gateway what it wants.
            parent = {"controllerName": "example.com/gateway-controller", "parentRef": {"name": "theirs"}}
            condition = {
                "type": "Accepted",
                "status": "False",
                "reason": "NotYet",
                "message": "ours",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            path = shop.path("httproutes", "web")
            read = msgspec.json.decode(await cluster.api.request("GET", path), type=_Route)
            parents = [*read.status.parents, {**parent, "conditions": [condition]}]
            await cluster.api.patch(f"{path}/status", {"status": {"parents": parents}})
            await cluster.api.patch(
                f"{shop.path('gateways', 'theirs')}/status", {"status": {"conditions": [condition]}}
            )
            await shop.apply(both.replace("value: /}", "value: /new}"))
            await shop.until("httproutes", "web", PROGRAMMED)
            said = (await shop.read("httproutes", "web")).status.parents
            assert [one.controller_name for one in said] == [
                "portway.dev/gateway-controller",
                "example.com/gateway-controller",
            ]
            assert [one.message for one in (await shop.read("gateways", "theirs")).status.conditions] == ["ours"]
            service = f"/api/v1/namespaces/{shop.namespace}/services/portway-theirs"
            assert await cluster.api.find(service, Object) is None
        finally:
            await cluster.api.delete_manifests(THEIRS)


SECOND = "portway-second"


def second_portway(cluster: MiniCluster) -> str:
    """The manifests once more, for another namespace; roles of the cluster are shared."""
    text = cluster.kubectl("kustomize", str(ROOT / "deploy" / "base")).replace(SYSTEM, SECOND)
    documents = list(yaml.load_all(text, Loader=yaml.CSafeLoader))
    for one in documents:
        if one["kind"] == "ClusterRoleBinding":
            one["metadata"]["name"] += "-second"
    own = [one for one in documents if SECOND in (one["metadata"].get("namespace"), one["metadata"]["name"])]
    return yaml.safe_dump_all([*own, *(one for one in documents if one["kind"] == "ClusterRoleBinding")])


@pytest.mark.slow
async def test_two_portways_claim_one_class(cluster: MiniCluster) -> None:
    """The second one, in another namespace, keeps its hands off the first one's proxies and off what that says of them,
    and says so."""
    async with opened(cluster) as shop:
        await shop.apply(route("web", ("/", "a")))
        await shop.until_served(by="a")
        await shop.until("httproutes", "web", PROGRAMMED)

        async def statuses() -> tuple[object, ...]:
            paths = (shop.path("gateways", "edge"), shop.path("httproutes", "web"))
            return tuple([(await cluster.api.get(path, _WithStatus)).status for path in paths])

        async def is_counted() -> bool:
            return (await cluster.api.get(shop.path("gateways", "edge"), Object)).status.listeners[
                0
            ].attached_routes == 1

        await cluster.wait_for("the route counted", is_counted)
        await shop.until("gateways", "edge", "Programmed")
        fleet = f"/apis/apps/v1/namespaces/{shop.namespace}/deployments/portway-edge"
        before = (await cluster.api.get(fleet, Object)).metadata.generation, await statuses()
        second = await asyncio.to_thread(second_portway, cluster)
        async with shop.load("a"):
            try:
                await cluster.api.apply(second)
                await cluster.wait_ready(SECOND, CONTROL_PLANE, count=2)
                await shop.until_event("edge", "belongs to another Portway")
                # A new generation of the route, and a minute in which no proxy comes to the second one.
                await shop.apply(route("web", ("/", "a"), ("/more", "a")))
                await shop.until_served("/more", by="a")
                await shop.until("httproutes", "web", PROGRAMMED)
                settled = await statuses()
                assert settled[0] == before[1][0]
                await asyncio.sleep(70)
                assert (await cluster.api.get(fleet, Object)).metadata.generation == before[0]
                assert await statuses() == settled
            finally:
                await cluster.api.delete_manifests(second)
                await cluster.wait_gone(f"/api/v1/namespaces/{SECOND}")
        assert await statuses() == settled


class _WithStatus(msgspec.Struct, frozen=True):
    status: dict[str, object]


class _RouteStatus(msgspec.Struct, frozen=True):
    parents: list[dict[str, object]] = []


class _Route(msgspec.Struct, frozen=True):
    status: _RouteStatus


@pytest.mark.slow
async def test_gateways_come_and_go(cluster: MiniCluster) -> None:
    """Twenty, four at a time, each with its own proxies: nothing of them stays, and their neighbour notices nothing."""
    async with opened(cluster) as shop:
        await shop.apply(route("web", ("/", "a")))
        await shop.until_served(by="a")

        async def come_and_go(name: str) -> None:
            await shop.apply(gateway(name), route(name, ("/", "a"), parent=name))
            await shop.until("gateways", name, "Programmed")
            address = await cluster.load_balancer(shop.namespace, f"portway-{name}")

            async def served() -> bool:
                return (await fetch("http://shop.test/", address=address, seconds=2)).status == 200

            await cluster.wait_for(f"{name} served", served)
            await cluster.api.delete(shop.path("gateways", name))
            await cluster.api.delete(shop.path("httproutes", name))
            for kind in ("services", "serviceaccounts", "configmaps"):
                await cluster.wait_gone(f"/api/v1/namespaces/{shop.namespace}/{kind}/portway-{name}")

        async def one_of_four() -> None:
            for _ in range(5):
                await come_and_go(f"gw-{secrets.token_hex(3)}")

        async with shop.load("a"):
            async with asyncio.TaskGroup() as tasks:
                for _ in range(4):
                    tasks.create_task(one_of_four())
            await shop.pods(PROXIES, count=2)
            await cluster.wait_ready(SYSTEM, CONTROL_PLANE, count=2)
