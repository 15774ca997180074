"""A Portway on a machine beside the cluster: objects from the API server, the machine's Envoy, statuses that are true.

It runs in the cluster's network, as a machine does that has routes to the pods.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tests.cluster.cluster import MiniCluster
from tests.cluster.control_plane import Component
from tests.cluster.portway_in import Object, backends, gateway, route
from tests.kit.client import fetch
from tests.kit.ports import Ports

pytestmark = pytest.mark.cluster

PUBLISHED = "192.0.2.7"
"""Where clients are said to reach the machine."""

CLASSES = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: NAME}
spec: {controllerName: portway.dev/NAME}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: NAME}
spec: {controller: portway.dev/NAME-ingress}
"""

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  ingressClassName: NAME
  rules:
  - host: shop.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}
"""


class Address(msgspec.Struct, frozen=True):
    ip: str = ""
    value: str = ""


class LoadBalancer(msgspec.Struct, frozen=True):
    ingress: tuple[Address, ...] = ()


class Status(msgspec.Struct, frozen=True, rename="camel"):
    load_balancer: LoadBalancer = LoadBalancer()
    addresses: tuple[Address, ...] = ()


class Reached(msgspec.Struct, frozen=True):
    """What is read of an Ingress or a Gateway: where it says to be."""

    status: Status = Status()


class Outside:
    """One `portway run --kubeconfig`, and the objects of one namespace."""

    def __init__(
        self, cluster: MiniCluster, namespace: str, folder: Path, ports: Ports, *, name: str, kubeconfig: Path
    ) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.folder = folder
        self.name = name
        """Of its classes; who has another one writes statuses beside it."""
        self.kubeconfig = kubeconfig
        self.http, self.https, self.gateway, self.admin = (ports.take() for _ in range(4))
        self.log = folder / "portway.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        options = (
            *("--kubeconfig", str(self.kubeconfig), "--watch-namespace", self.namespace),
            *("--bind-address", "127.0.0.1", "--state-dir", str(self.folder / "state"), "--log-format", "json"),
            *("--http-port", str(self.http), "--https-port", str(self.https), "--concurrency", "1"),
            *("--admin-address", f"127.0.0.1:{self.admin}", "--publish-address", PUBLISHED),
            *("--gateway-controller", f"portway.dev/{self.name}"),
            *("--controller-class", f"portway.dev/{self.name}-ingress"),
        )
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "portway", "run", *options),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def stop(self) -> None:
        """SIGTERM; its Envoy ends with it."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            async with asyncio.timeout(40):
                await self._process.wait()

    async def until_served(self, port: int) -> None:
        async def served() -> bool:
            return (await fetch("http://shop.test/", port=port)).status == 200

        try:
            await self.cluster.wait_for(f"an answer on port {port}", served, seconds=40)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()[-4000:]}") from None

    async def until_said(self) -> None:
        """Until the status of Ingress, Gateway and route says what is."""
        gateways = f"/apis/gateway.networking.k8s.io/v1/namespaces/{self.namespace}"

        async def said() -> bool:
            ingress = await self.cluster.api.get(
                f"/apis/networking.k8s.io/v1/namespaces/{self.namespace}/ingresses/shop", Reached
            )
            assert ingress.status.load_balancer.ingress == (Address(ip=PUBLISHED),), ingress
            edge = await self.cluster.api.get(f"{gateways}/gateways/edge", Reached)
            assert [address.value for address in edge.status.addresses] == [PUBLISHED], edge
            for path, wanted in (
                (f"{gateways}/gateways/edge", "Programmed"),
                (f"{gateways}/httproutes/shop", "Accepted"),
                (f"/apis/gateway.networking.k8s.io/v1/gatewayclasses/{self.name}", "SupportedVersion"),
            ):
                found = await self.cluster.api.get(path, Object)
                assert found.find(wanted).status == "True", found
            return True

        await self.cluster.wait_for("statuses", said, seconds=40)


@asynccontextmanager
async def outside(
    cluster: MiniCluster, namespace: str, folder: Path, *, name: str = "outside", kubeconfig: Path | None = None
) -> AsyncIterator[Outside]:
    """With a backend, an Ingress, and a Gateway with a route; served and said.

    Args:
        name: of its classes.
        kubeconfig: by default the administrator's.
    """
    with Ports() as ports:
        running = Outside(
            cluster, namespace, folder, ports, name=name, kubeconfig=kubeconfig or cluster.inner_kubeconfig
        )
        await cluster.api.apply(CLASSES.replace("NAME", name))
        listener = f"{{name: http, port: {running.gateway}, protocol: HTTP}}"
        for manifest in (
            backends("a"),
            INGRESS.replace("NAME", name),
            gateway("edge", listener, of_class=name),
            route("shop", ("/", "a")),
        ):
            await cluster.api.apply(manifest, namespace=namespace)
        await cluster.wait_ready(namespace, "app=a")
        await running.start()
        try:
            await running.until_served(running.http)
            await running.until_served(running.gateway)
            await running.until_said()
            yield running
        finally:
            await running.stop()


async def test_a_machine_beside_the_cluster_serves_it(cluster: MiniCluster, namespace: str, tmp_path: Path) -> None:
    async with outside(cluster, namespace, tmp_path) as running:
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/a"
        await cluster.api.patch(path, {"spec": {"replicas": 2}})
        await cluster.wait_ready(namespace, "app=a", count=2)

        async def both() -> bool:
            return len({(await fetch("http://shop.test/", port=running.http)).pod for _ in range(8)}) == 2

        await cluster.wait_for("the second pod answers too", both)

        async def unsaid() -> bool:
            ingress = await cluster.api.get(
                f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/shop", Reached
            )
            assert ingress.status.load_balancer.ingress == (), ingress
            return True

        # As docs/installing.md says of uninstalling.
        await cluster.api.delete("/apis/networking.k8s.io/v1/ingressclasses/outside")
        await cluster.wait_for("no address of an Ingress whose class is gone", unsaid)


@pytest.mark.disturbs
async def test_it_starts_without_an_api_server(cluster: MiniCluster, namespace: str, tmp_path: Path) -> None:
    async with outside(cluster, namespace, tmp_path) as running:
        await running.stop()
        await cluster.kill(Component.API_SERVER)
        try:
            await running.start()
            await running.until_served(running.http)
            assert "the last good configuration" in running.log.read_text()
        finally:
            await cluster.restart(Component.API_SERVER)
        await cluster.api.delete(f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/shop")

        async def followed() -> bool:  # no Ingress, no port for any
            return (await fetch("http://shop.test/", port=running.http)).status in (0, 404)

        await cluster.wait_for("the cluster is followed again", followed, seconds=60)
