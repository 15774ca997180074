"""Portway installed by its manifests, each way in turn: it works, asks for nothing that it may not, and goes again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.cluster.cluster import MiniCluster
from tests.cluster.outline import Outline
from tests.cluster.portway_in import CONTROL_PLANE, PROXIES, SYSTEM, Shop, backends, gateway, logs, route
from tests.cluster.test_outside import Reached
from tests.deploy.kustomizations import kustomization
from tests.deploy.test_overlays import SHOP
from tools.make_manifests import DEPLOY

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

KINDS = (
    "namespaces,clusterroles,clusterrolebindings,crds,gatewayclasses,ingressclasses,gateways,pods,services,deployments,"
    "daemonsets,serviceaccounts,secrets,configmaps,leases,endpointslices,poddisruptionbudgets"
)
GONE_S = 90.0
"""A namespace ends when its pods have: withdrawal, drain, and the namespace controller's own five seconds."""


@asynccontextmanager
async def fresh(folder: Path) -> AsyncIterator[MiniCluster]:
    """A cluster of its own: nobody else's Portway goes when this one does."""
    async with MiniCluster.started(Outline(folder=folder / "cluster")) as outside:
        with outside.inside():
            async with MiniCluster.attached(folder / "cluster") as inside:
                yield inside


@asynccontextmanager
async def installed(cluster: MiniCluster, *folders: Path) -> AsyncIterator[None]:
    """Apply kustomizations; both replicas become ready. Afterwards delete them; nothing is left."""
    for folder in folders:
        await asyncio.to_thread(cluster.kubectl, "apply", "--server-side", f"--kustomize={folder}")
    try:
        await cluster.wait_ready(SYSTEM, CONTROL_PLANE, count=2, seconds=90)
        yield
        log = await asyncio.to_thread(logs, cluster, lines=-1)
        assert "orbidden" not in log
    finally:
        await uninstall(cluster, *folders)

    async def nothing() -> bool:
        found = await asyncio.to_thread(cluster.kubectl, "get", KINDS, "--all-namespaces", "--output=name")
        left = [line for line in found.split() if "portway" in line]
        assert left == []
        return True

    await cluster.wait_for("all of Portway gone", nothing, seconds=GONE_S)


async def uninstall(cluster: MiniCluster, *folders: Path) -> None:
    """As docs/installing.md says: first the Gateways, whose proxies go with them, then what was applied."""
    await asyncio.to_thread(cluster.kubectl, "delete", "gateways", "--all", "--all-namespaces")
    for folder in reversed(folders):
        await asyncio.to_thread(
            cluster.kubectl, "delete", "--ignore-not-found", "--wait=false", f"--kustomize={folder}"
        )


async def served(cluster: MiniCluster, namespace: str, *, count: int = 2) -> None:
    """A Gateway there gets proxies that are ready."""
    with contextlib.suppress(AssertionError):  # it is there
        await asyncio.to_thread(cluster.kubectl, "create", "namespace", namespace)
    await cluster.api.apply(gateway("web"), namespace=namespace)
    await cluster.wait_ready(namespace, PROXIES, count=count)


async def test_each_way_to_install_serves_and_goes_again(tmp_path: Path) -> None:
    async with fresh(tmp_path) as cluster:
        async with installed(cluster, DEPLOY):
            await served(cluster, SHOP)
            # The IngressClass has proxies, too.
            await cluster.wait_ready(SYSTEM, PROXIES, count=2)

        some = kustomization(
            tmp_path / "some",
            components=["namespaced", "named-secrets", "network-policy"],
            namespaces=[SHOP],
            environment={"PORTWAY_WATCH_NAMESPACE": f"{SYSTEM},{SHOP}"},
        )
        async with installed(cluster, DEPLOY / "crds", some):
            await served(cluster, SHOP)


def ingress(host: str, *, of_class: str = "", annotations: str = "") -> str:
    """An Ingress to Service `a`, called as the first label of its host."""
    named = f"ingressClassName: {of_class}" if of_class else ""
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {host.partition(".")[0]}, annotations: {{{annotations}}}}}
spec:
  {named}
  rules:
  - host: {host}
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: a, port: {{number: 80}}}}}}}}]}}
"""


def ingress_path(name: str) -> str:
    return f"/apis/networking.k8s.io/v1/namespaces/{SHOP}/ingresses/{name}"


HOST_PORTS = """
apiVersion: portway.dev/v1alpha1
kind: FleetParameters
metadata: {name: host-ports}
spec: {pod: {hostNetwork: false}, container: {hostPorts: true}}
"""


def gateway_at(name: str, port: int, *, parameters: str = "") -> str:
    """A Gateway with one listener; with FleetParameters of its own, which are joined with those of its class."""
    reference = f"parametersRef: {{group: portway.dev, kind: FleetParameters, name: {parameters}}}"
    text = gateway(name, f"{{name: http, port: {port}, protocol: HTTP}}")
    return text.replace("spec: {", f"spec: {{infrastructure: {{{reference}}}, ") if parameters else text


async def until_reached(cluster: MiniCluster, path: str, *addresses: str) -> None:
    """Wait until the status of a Gateway or an Ingress holds these addresses and no other."""

    async def look() -> bool:
        status = (await cluster.api.get(path, Reached)).status
        found = [one.value or one.ip for one in (*status.addresses, *status.load_balancer.ingress)]
        assert sorted(found) == sorted(addresses), status
        return True

    await cluster.wait_for(f"{path} reached at {', '.join(addresses)}", look)


@pytest.mark.slow
async def test_nodes_own_addresses(tmp_path: Path) -> None:
    """Each Node with the label serves, by its network or by its ports, and statuses name it for as long as it does."""
    async with fresh(tmp_path) as cluster:
        await asyncio.to_thread(cluster.kubectl, "label", "node", "node-a1", "node-b1", "portway.dev/edge=true")
        async with installed(cluster, DEPLOY / "crds", DEPLOY / "host-network"):
            await cluster.api.apply(f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {SHOP}}}}}")
            shop = Shop(cluster, SHOP)
            # Fleets on one Node cannot have the same port.
            await shop.apply(
                *(backends("a"), HOST_PORTS, ingress("ingress.test", of_class="portway")),
                *(gateway_at("edge", 8080), route("edge", ("/", "a"), hosts=["edge.test"])),
                gateway_at("mapped", 8090, parameters="host-ports"),
                route("mapped", ("/", "a"), parent="mapped", hosts=["mapped.test"]),
            )
            said_by = {
                "edge.test:8080": shop.path("gateways", "edge"),
                "mapped.test:8090": shop.path("gateways", "mapped"),
                "ingress.test": ingress_path("ingress"),
            }
            proxies = *await shop.pods(count=4), *await cluster.wait_ready(SYSTEM, PROXIES, count=2)
            nodes = {pod.spec.node_name: Shop(cluster, SHOP, pod.status.host_ip) for pod in proxies}
            assert nodes.keys() == {"node-a1", "node-b1"}

            async def both_serve() -> None:
                for host, path in said_by.items():
                    await until_reached(cluster, path, *(node.address for node in nodes.values()))
                    for node in nodes.values():
                        await node.until_served("/", host, by="a")

            await both_serve()
            stays = nodes["node-b1"]
            async with contextlib.AsyncExitStack() as loads:
                for host in said_by:
                    await loads.enter_async_context(stays.load("a", host=host, rate=20))
                for pod in proxies:
                    if pod.spec.node_name == "node-a1":
                        await cluster.api.delete(pod.path)
                for path in said_by.values():
                    await until_reached(cluster, path, stays.address)
                await both_serve()


NGINX = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: nginx}
spec: {controller: k8s.io/ingress-nginx}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: theirs}
spec: {controller: example.com/ingress-controller}
"""
OLD = "192.0.2.1"
"""Where ingress-nginx was reached, and another controller still is."""


async def test_ingresses_of_nginx_and_without_class_are_adopted(tmp_path: Path) -> None:
    """They are there before Portway, and hold the address of who served them before."""
    folder = kustomization(
        tmp_path / "adopted", "nginx-adoption", environment={"PORTWAY_WATCH_INGRESS_WITHOUT_CLASS": "true"}
    )
    async with fresh(tmp_path) as cluster:
        await cluster.api.apply(f"{NGINX}\n---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: {SHOP}}}}}")
        shop = Shop(cluster, SHOP)
        await shop.apply(
            backends("a"),
            ingress("named.test", of_class="nginx"),
            ingress("annotated.test", annotations="kubernetes.io/ingress.class: nginx"),
            ingress("classless.test"),
            ingress("theirs.test", of_class="theirs"),
        )
        adopted = ("named", "annotated", "classless")
        for name in (*adopted, "theirs"):
            await cluster.api.patch(
                f"{ingress_path(name)}/status", {"status": {"loadBalancer": {"ingress": [{"ip": OLD}]}}}
            )
        async with installed(cluster, DEPLOY / "crds", folder):
            shop.address = await cluster.load_balancer(SYSTEM, "portway-ingress-nginx")
            for name in adopted:
                await shop.until_served("/", f"{name}.test", by="a")
                await until_reached(cluster, ingress_path(name), shop.address)
            assert (await shop.get(host="theirs.test")).status == 404
            await until_reached(cluster, ingress_path("theirs"), OLD)
