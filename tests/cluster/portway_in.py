"""Portway in a miniature cluster, as its own manifests install it, and a shop behind it that is under load.

    async with opened(cluster, namespace) as shop:
        await shop.apply(route("web", "a"))
        await shop.until_served("/", by="a")
        async with shop.load("a"):
            ...  # every answer meanwhile must be of a pod of Deployment `a`

Portway stays installed from one test to the next; a test that harms it leaves it whole (`install` waits for that).
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import final

import msgspec
from cryptography import x509

from tests.cluster import backend
from tests.cluster.binaries import ROOT
from tests.cluster.cluster import MiniCluster
from tests.cluster.objects import Pod
from tests.kit.answer import Answer
from tests.kit.client import fetch
from tests.kit.connect import accept_any
from tests.kit.load import LoadProcess, LoadSpec

SYSTEM = "portway-system"
CONTROL_PLANE = "app.kubernetes.io/component=control-plane"
PROXIES = "app.kubernetes.io/name=portway-proxy"
PROGRAMMED = "portway.dev/Programmed"
"""Of routes, which have no such condition in the API."""
RATE = 60.0
"""Requests per second; the machine is small, and each answer is looked at."""
IN_A_ROW = 12
"""Right answers, each over a connection of its own, after which both of two proxies count as right: one that is not is
missed by one look in 4,096."""


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """A condition of any object."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0

    def __str__(self) -> str:
        return f"{self.type}={self.status} {self.reason} ({self.observed_generation}): {self.message}"


class _Conditions(msgspec.Struct, frozen=True, rename="camel"):
    conditions: tuple[Condition, ...] = ()
    controller_name: str = ""
    attached_routes: int = 0
    name: str = ""


class _Status(msgspec.Struct, frozen=True):
    conditions: tuple[Condition, ...] = ()
    parents: tuple[_Conditions, ...] = ()
    listeners: tuple[_Conditions, ...] = ()


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    generation: int = 0
    resource_version: str = ""
    uid: str = ""


class Object(msgspec.Struct, frozen=True):
    """What is read of an object with conditions."""

    metadata: _Metadata
    status: _Status = _Status()

    def all(self) -> tuple[Condition, ...]:
        """Its conditions, those of its parents and those of its listeners."""
        parts = (*self.status.parents, *self.status.listeners)
        return (*self.status.conditions, *(one for part in parts for one in part.conditions))

    def find(self, type_: str, listener: str = "") -> Condition:
        """The first condition of this type for the object as it is now, or for one of its listeners; an empty one if
        there is none."""
        parts = (part.conditions for part in self.status.listeners if part.name == listener)
        asked = next(parts, ()) if listener else self.all()
        now = (one for one in asked if one.observed_generation == self.metadata.generation)
        return next((one for one in now if one.type == type_), Condition())


class _Regarding(msgspec.Struct, frozen=True):
    name: str = ""


class _Event(msgspec.Struct, frozen=True):
    regarding: _Regarding = _Regarding()
    note: str = ""


class _Events(msgspec.Struct, frozen=True):
    items: tuple[_Event, ...]


async def install(cluster: MiniCluster) -> tuple[Pod, ...]:
    """Install Portway by its manifests, if it is not there; wait until both replicas are ready; their pods.

    Raises:
        ClusterFailed: not in time; with what its log says last.
    """
    if await cluster.api.find(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/portway", Object) is None:
        await asyncio.to_thread(_apply_manifests, cluster)
    try:
        return await cluster.wait_ready(SYSTEM, CONTROL_PLANE, count=2, seconds=90)
    except AssertionError as error:
        log = await asyncio.to_thread(logs, cluster)
        raise AssertionError(f"{error}\n{log}") from None


def _apply_manifests(cluster: MiniCluster) -> None:
    cluster.kubectl("apply", "--server-side", f"--kustomize={ROOT / 'deploy'}")


def logs(cluster: MiniCluster, *, lines: int = 60) -> str:
    """The end of the log of each replica of the control plane. Blocks."""
    return cluster.kubectl("logs", "-n", SYSTEM, "-l", CONTROL_PLANE, f"--tail={lines}", "--prefix")


async def leader(cluster: MiniCluster) -> str:
    """Name of the pod that leads; empty: none."""

    class Spec(msgspec.Struct, rename="camel"):
        holder_identity: str = ""

    class Lease(msgspec.Struct):
        spec: Spec

    class Leases(msgspec.Struct):
        items: tuple[Lease, ...]

    found = await cluster.api.get(f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases", Leases)
    return next((one.spec.holder_identity.rpartition("_")[0] for one in found.items if one.spec.holder_identity), "")


def backends(*names: str, replicas: int = 1) -> str:
    """A Deployment and a Service of each name."""
    return "\n---\n".join(_backend(name, replicas) for name in names)


def _backend(name: str, replicas: int) -> str:
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  strategy: {{rollingUpdate: {{maxUnavailable: 0, maxSurge: 1}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 10
      automountServiceAccountToken: false
      containers:
      - name: backend
        image: local/python
        command: [python, -I, -S, {ROOT / "tests/cluster/backend.py"}]
        env: [{{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
        readinessProbe: {{httpGet: {{path: /ready, port: {backend.PORT}}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: {backend.PORT}}}]}}
"""


HTTP_LISTENER = "{name: http, port: 80, protocol: HTTP}"


def gateway(name: str = "edge", *listeners: str, of_class: str = "portway") -> str:
    """A Gateway; listeners as YAML, by default HTTP on port 80."""
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}}}
spec: {{gatewayClassName: {of_class}, listeners: [{", ".join(listeners or (HTTP_LISTENER,))}]}}
"""


def route(name: str, *rules: tuple[str, str], parent: str = "edge", hosts: Sequence[str] = ()) -> str:
    """An HTTPRoute of (path prefix, Service) rules, in this order."""
    each = "\n".join(
        f"  - {{matches: [{{path: {{type: PathPrefix, value: {path}}}}}], backendRefs: [{{name: {to}, port: 80}}]}}"
        for path, to in rules
    )
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: {parent}}}]
  hostnames: [{", ".join(hosts)}]
  rules:
{each}
"""


@final
class Shop:
    """A namespace with a Gateway that has an address."""

    def __init__(self, cluster: MiniCluster, namespace: str, address: str = "") -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.address = address

    def path(self, kind: str, name: str) -> str:
        """Of an object of the Gateway API: `httproutes`, `gateways`."""
        return f"/apis/gateway.networking.k8s.io/v1/namespaces/{self.namespace}/{kind}/{name}"

    async def apply(self, *manifests: str) -> None:
        """Apply them in this namespace."""
        for one in manifests:
            await self.cluster.api.apply(one, namespace=self.namespace)

    async def open(self, name: str = "edge", *listeners: str, of_class: str = "portway") -> None:
        """Make a Gateway and wait until it is programmed and has its address."""
        await self.apply(gateway(name, *listeners, of_class=of_class))
        self.address = await self.cluster.load_balancer(self.namespace, f"portway-{name}")
        await self.until("gateways", name, "Programmed")

    async def read(self, kind: str, name: str) -> Object:
        """An object of the Gateway API."""
        return await self.cluster.api.get(self.path(kind, name), Object)

    async def until(
        self,
        kind: str,
        name: str,
        type_: str,
        status: str = "True",
        *,
        listener: str = "",
        has: str = "",
        seconds: float = 60.0,
    ) -> Condition:
        """Wait until a condition for the object as it is now has this status, and these words in reason or message."""

        async def look() -> Condition:
            found = await self.read(kind, name)
            one = found.find(type_, listener)
            text = " ".join(map(str, found.all()))
            assert one.status == status, text
            assert has in f"{one.reason} {one.message}", text
            return one

        return await self.cluster.wait_for(f"{kind} {name} {type_}={status} {has}", look, seconds=seconds)

    async def get(self, path: str = "/", host: str = "shop.test", *, seconds: float = 3.0) -> Answer:
        """Ask the Gateway."""
        return await fetch(f"http://{host}{path}", address=self.address, seconds=seconds)

    async def until_event(self, name: str, words: str) -> None:
        """Wait until an Event about an object of the shop has these words."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"

        async def look() -> bool:
            notes = [
                one.note for one in (await self.cluster.api.get(path, _Events)).items if one.regarding.name == name
            ]
            assert any(words in note for note in notes), notes
            return True

        await self.cluster.wait_for(f"an Event about {name}", look)

    async def until_answer(
        self, right: Callable[[Answer], bool], path: str = "/", host: str = "shop.test", *, seconds: float = 60.0
    ) -> Answer:
        """Ask until the answer is right, many times in a row: several proxies answer, one of which may lag."""

        async def look() -> Answer | None:
            answers = [await self.get(path, host) for _ in range(IN_A_ROW)]
            for answer in answers:
                assert right(answer), f"{answer.status} {answer.pod} {answer.failure} {answer.text[:200]}"
            return answers[-1]

        found = await self.cluster.wait_for(f"the right answer at {host}{path}", look, seconds=seconds)
        assert found is not None
        return found

    async def until_served(
        self, path: str = "/", host: str = "shop.test", *, by: str = "", seconds: float = 60.0
    ) -> Answer:
        """Ask until a pod of this Deployment answers, as `until_answer`."""
        return await self.until_answer(lambda answer: is_of(answer.pod, by), path, host, seconds=seconds)

    async def pods(self, selector: str = PROXIES, *, count: int = 0) -> tuple[Pod, ...]:
        """Pods here, by default the proxies, once they are ready."""
        return await self.cluster.wait_ready(self.namespace, selector, count=count)

    async def certificate_serials(self, host: str = "shop.test") -> set[str]:
        """Serial numbers, as `KeyPair.serial`, of the certificates that some connections get; empty: one got none."""
        found = set()
        for _ in range(IN_A_ROW):
            try:
                async with asyncio.timeout(3):
                    _, writer = await asyncio.open_connection(
                        self.address, 443, ssl=accept_any(()), server_hostname=host
                    )
            except (OSError, TimeoutError):
                return set()
            certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            found.add(f"{x509.load_der_x509_certificate(certificate).serial_number:x}")
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return found

    async def scale(self, deployment: str, replicas: int) -> None:
        """`kubectl scale`."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{deployment}"
        await self.cluster.api.patch(path, {"spec": {"replicas": replicas}})

    async def restart(self, deployment: str, selector: str, *, namespace: str = "") -> None:
        """`kubectl rollout restart`, until all pods are new and ready."""
        where = namespace or self.namespace
        before = {pod.metadata.uid for pod in await self.cluster.pods(where, selector)}
        path = f"/apis/apps/v1/namespaces/{where}/deployments/{deployment}"
        mark = {"portway.test/restarted": secrets.token_hex(4)}
        await self.cluster.api.patch(path, {"spec": {"template": {"metadata": {"annotations": mark}}}})

        async def look() -> bool:
            pods = await self.cluster.pods(where, selector)
            return len(pods) == len(before) and all(
                pod.metadata.uid not in before and pod.is_ready and not pod.metadata.deletion_timestamp for pod in pods
            )

        await self.cluster.wait_for(f"Deployment {where}/{deployment} rolled out", look, seconds=120)

    @asynccontextmanager
    async def load(self, *by: str, path: str = "/", host: str = "shop.test", rate: float = RATE) -> AsyncIterator[None]:
        """Ask all the time; at the end every answer must be of a pod of one of these Deployments."""
        load = LoadProcess(LoadSpec(url=f"http://{host}{path}", address=self.address, rate=rate, connections=6))
        async with load:
            yield
        report = load.report()
        wrong = [
            one
            for one in report.samples
            if one.failure is not None or one.status != 200 or not any(is_of(one.pod, name) for name in by)
        ]
        if wrong:
            first = report.samples[0].due
            each = [
                f"{one.sent - first:.3f} to {one.done - first:.3f} s: {one.failure or one.status} {one.pod}"
                for one in wrong[:20]
            ]
            raise AssertionError("\n".join([f"{len(wrong)} wrong; {report.summary()}", *each]))


def is_of(pod: str | None, name: str) -> bool:
    """Whether a pod is one of this Deployment; an empty name: of any."""
    return pod is not None and (not name or pod.rsplit("-", 2)[0] == name)


@asynccontextmanager
async def opened(cluster: MiniCluster, *, proxies: int = 2, deployments: Sequence[str] = ("a",)) -> AsyncIterator[Shop]:
    """A shop with Portway in front: backends, a Gateway `edge` with so many proxies. Gone afterwards."""
    await install(cluster)
    shop = Shop(cluster, f"shop-{secrets.token_hex(3)}")
    await cluster.api.apply(f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {shop.namespace}}}}}")
    try:
        await shop.apply(backends(*deployments))
        await shop.open()
        if proxies != 2:
            await shop.scale("portway-edge", proxies)
        await shop.pods(count=proxies)
        yield shop
    finally:
        with contextlib.suppress(OSError, TimeoutError):
            await cluster.api.delete(f"/api/v1/namespaces/{shop.namespace}")
