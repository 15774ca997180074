"""An API server that says no for a while, other controllers beside Portway, and Gateways that come and go."""

import asyncio
import secrets

import msgspec
import pytest

from tests.cluster.api import Api, Refused
from tests.cluster.cluster import MiniCluster
from tests.cluster.portway_in import (
    CONTROL_PLANE,
    PROGRAMMED,
    PROXIES,
    SYSTEM,
    Object,
    gateway,
    install,
    leader,
    opened,
    route,
)
from tests.kit.client import fetch

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster"), pytest.mark.timeout(300)]

NO_ROOM = """
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: no-room}
spec:
  type: Limited
  limited: {nominalConcurrencyShares: 0, lendablePercent: 0, borrowingLimitPercent: 0, limitResponse: {type: Reject}}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: no-room}
spec:
  priorityLevelConfiguration: {name: no-room}
  matchingPrecedence: 1
  rules:
  - subjects: [{kind: ServiceAccount, serviceAccount: {name: portway, namespace: portway-system}}]
    resourceRules: [{verbs: ['*'], apiGroups: ['*'], resources: ['*'], clusterScope: true, namespaces: ['*']}]
"""


async def test_too_many_requests(cluster: MiniCluster) -> None:
    """No request of Portway's is served for a while; watches that stand go on. One replica has none."""
    async with opened(cluster) as shop:
        await shop.apply(route("web", ("/", "a")))
        await shop.until_served(by="a")
        access = await cluster.service_account(SYSTEM, "portway")

        async def refused() -> bool:
            async with Api(access) as api:
                try:
                    await api.request("GET", "/apis/networking.k8s.io/v1/ingressclasses")
                except Refused as error:
                    return error.status == 429
            return False

        async with shop.load("a"):
            await cluster.api.apply(NO_ROOM)
            try:
                await cluster.wait_for("429", refused)
                await cluster.kill_pod(SYSTEM, await leader(cluster))
                await shop.apply(route("meanwhile", ("/", "a"), hosts=["meanwhile.test"]))
                await shop.until_served("/", "meanwhile.test", by="a")
            finally:
                await cluster.api.delete_manifests(NO_ROOM)
            await shop.until("httproutes", "meanwhile", PROGRAMMED)
            await install(cluster)


FAILING = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: out-of-order}
webhooks:
- name: out-of-order.portway.test
  clientConfig: {url: "https://127.0.0.1:1/"}
  failurePolicy: Fail
  sideEffects: None
  timeoutSeconds: 1
  admissionReviewVersions: [v1]
  rules:
  - {apiGroups: [gateway.networking.k8s.io], apiVersions: ['*'], operations: [UPDATE], resources: [httproutes/status]}
"""


async def test_writes_that_fail(cluster: MiniCluster) -> None:
    """Each status of a route is answered by 500: those of others are written, and those when it is over."""
    async with opened(cluster) as shop:
        await shop.apply(route("web", ("/", "a")))
        await shop.until_served(by="a")
        async with shop.load("a"):
            await cluster.api.apply(FAILING)
            try:
                await shop.apply(route("failing", ("/", "a"), hosts=["failing.test"]))
                await shop.until_served("/", "failing.test", by="a")
                await shop.apply(gateway("edge", "{name: web, port: 80, protocol: HTTP}"))
                await shop.until("gateways", "edge", "Programmed")
                await asyncio.sleep(3)
                assert not (await shop.read("httproutes", "failing")).all()
            finally:
                await cluster.api.delete_manifests(FAILING)
            await shop.until("httproutes", "failing", PROGRAMMED)


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


class _RouteStatus(msgspec.Struct, frozen=True):
    parents: list[dict[str, object]] = []


class _Route(msgspec.Struct, frozen=True):
    status: _RouteStatus


async def test_gateways_come_and_go(cluster: MiniCluster) -> None:
    """Twenty in turn, four at a time, each with its own proxies: nothing of them stays, and the others notice nothing."""
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
