"""The stage of the benchmarks: a miniature cluster, an echo server in it, and Portway or another controller on it.

    async with stage() as cluster, installed(PORTWAY, cluster) as edge:
        await edge.served(["h1.example.com"])

Everything here runs in the cluster's network, as its clients do.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol, final

import msgspec

from bench.cluster.objects import GATEWAY, NAMESPACE, SLICES
from bench.report import cpu_seconds, rss_mib
from tests.cluster.api import Api
from tests.cluster.binaries import ROOT
from tests.cluster.cluster import MiniCluster
from tests.cluster.containers import Image, any_image, portway_image
from tests.cluster.outline import FOLDER_PREFIX, Outline
from tests.kit.answer import Answer, ConnectionFailed
from tests.kit.backends import Backend, BackendSpec, backend_process
from tests.kit.connect import Endpoint
from tests.kit.http1_client import Http1Connection

PYTHON: Final = ROOT / "bench" / ".venv" / "bin" / "python"
"""Of Portway's pods: with what Portway requires and nothing else, as where it is installed."""
ASK_SECONDS = 0.001
"""Between two questions of one connection that waits for a change."""
SERVED_SECONDS = 120.0
"""Longest wait for routes to be served."""
CONNECTIONS = 8
"""That ask while many hosts are waited for."""

_NAMESPACE = f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}"


class Processes(msgspec.Struct, frozen=True, kw_only=True):
    """Process ids of a controller and of its proxy; the same where one program is both."""

    control_plane: tuple[int, ...]
    proxy: tuple[int, ...]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Of the same two: processor seconds so far, or MiB of resident memory."""

    control_plane: float
    proxy: float

    def since(self, before: "Usage") -> "Usage":
        return Usage(control_plane=self.control_plane - before.control_plane, proxy=self.proxy - before.proxy)


class _Endpoint(msgspec.Struct, frozen=True):
    addresses: tuple[str, ...]


class _Port(msgspec.Struct, frozen=True):
    port: int


class _Slice(msgspec.Struct, frozen=True):
    endpoints: tuple[_Endpoint, ...] | None = None
    ports: tuple[_Port, ...] = ()


class _Slices(msgspec.Struct, frozen=True):
    items: tuple[_Slice, ...]


class Contender(Protocol):
    """A controller that is measured."""

    @property
    def name(self) -> str:
        """As in tables."""
        ...

    @property
    def images(self) -> tuple[Image, ...]:
        """What runs in its pods."""
        ...

    @property
    def service(self) -> str:
        """Name of the Service in front of its proxy."""
        ...

    async def install(self, cluster: MiniCluster) -> str:
        """Install it and make the Gateway `edge`; back when that has an address: this."""
        ...

    async def processes(self, cluster: MiniCluster) -> Processes: ...

    async def metrics(self, cluster: MiniCluster) -> str:
        """The metrics page of its proxy."""
        ...


@final
class Edge:
    """A Gateway that serves, and who serves it."""

    def __init__(self, cluster: MiniCluster, contender: Contender, address: str, backends: dict[str, Backend]) -> None:
        self.cluster = cluster
        self.contender = contender
        self.address = address
        self.backends = backends

    @property
    def api(self) -> Api:
        return self.cluster.api

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(host=self.address, port=80)

    @property
    def port(self) -> int:
        """Of the echo server `a`."""
        return self.backends["a"].port

    async def connected(self, at: Endpoint | None = None) -> Http1Connection:
        """A connection, as soon as there can be one; to the Gateway's address unless somewhere else is meant."""
        while True:
            try:
                return await Http1Connection.open(at or self.endpoint)
            except ConnectionFailed:
                await asyncio.sleep(0.005)

    async def ask(self, connection: Http1Connection, host: str) -> Answer:
        """One question.

        Raises:
            ConnectionFailed: no answer; the connection is no longer usable.
        """
        answer = await connection.request("/status/200", host=host)
        if answer.failure is not None:
            raise ConnectionFailed(answer.failure, host)
        return answer

    async def inner(self) -> Endpoint:
        """The proxy itself, behind the Service: asked there, it need not be found ready by a probe first."""
        params = {"labelSelector": f"kubernetes.io/service-name={self.contender.service}"}
        listed = msgspec.json.decode(await self.api.request("GET", SLICES, params=params), type=_Slices)
        address, port = next(
            (end.addresses[0], one.ports[0].port) for one in listed.items for end in one.endpoints or ()
        )
        return Endpoint(host=address, port=port)

    async def served(
        self,
        hosts: Iterable[str],
        *,
        status: int = 200,
        seconds: float = SERVED_SECONDS,
        at: Endpoint | None = None,
    ) -> float:
        """Ask each host until it has answered so; the moment of the last one."""
        waiting = iter(list(hosts))
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(self._serve_some(waiting, status, at or self.endpoint))
        return asyncio.get_running_loop().time()

    async def _serve_some(self, waiting: Iterable[str], status: int, at: Endpoint) -> None:
        connection = await self.connected(at)
        try:
            for host in waiting:
                while True:
                    try:
                        if not connection.usable or connection.closed_by_peer:
                            await connection.close()
                            connection = await self.connected(at)
                        if (await self.ask(connection, host)).status == status:
                            break
                    except ConnectionFailed:
                        pass  # it restarts; the next turn connects anew
                    await asyncio.sleep(0.005)
        finally:
            await connection.close()

    async def cpu(self) -> Usage:
        """Processor seconds so far."""
        found = await self.contender.processes(self.cluster)
        return Usage(control_plane=sum(map(cpu_seconds, found.control_plane)), proxy=sum(map(cpu_seconds, found.proxy)))

    async def memory(self) -> Usage:
        """MiB, resident."""
        found = await self.contender.processes(self.cluster)
        return Usage(control_plane=sum(map(rss_mib, found.control_plane)), proxy=sum(map(rss_mib, found.proxy)))


@asynccontextmanager
async def stage(*contenders: Contender, channel: str = "standard") -> AsyncIterator[MiniCluster]:
    """A cluster for the block, which runs in the cluster's network: processes that it starts do so too."""
    if not PYTHON.exists():
        raise SystemExit(f"{PYTHON} is missing: bench/setup.sh installs what Portway requires there")
    images = {image.name: image for contender in contenders for image in contender.images}
    images |= {image.name: image for image in (any_image(), portway_image(str(PYTHON)))}
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX) as folder:
        outline = Outline(folder=Path(folder) / "cluster", channel=channel, images=tuple(images.values()))
        async with MiniCluster.started(outline) as outside:
            with outside.inside():
                async with MiniCluster.attached(outline.folder) as cluster:
                    await cluster.api.apply(_NAMESPACE)
                    yield cluster


@asynccontextmanager
async def edge(cluster: MiniCluster, contender: Contender) -> AsyncIterator[Edge]:
    """A controller on the stage, its Gateway, and two echo servers, `a` and `b`, in a process of their own."""
    async with backend_process(*(BackendSpec(name=name, host="0.0.0.0") for name in "ab")) as backends:
        address = await contender.install(cluster)
        yield Edge(cluster, contender, address, backends)


@asynccontextmanager
async def standing(contender: Contender) -> AsyncIterator[Edge]:
    """A stage with one controller on it."""
    async with stage(contender) as cluster, edge(cluster, contender) as found:
        try:
            yield found
        except BaseException:
            with contextlib.suppress(AssertionError):
                print(cluster.kubectl("get", "pods", "-A", "-o", "wide"))
            raise


async def pids_of(cluster: MiniCluster, namespace: str, selector: str) -> tuple[int, ...]:
    """Process ids of all containers of the selected pods."""
    pods = await cluster.pods(namespace, selector)
    found = [await cluster.processes(namespace, pod.metadata.name) for pod in pods]
    return tuple(pid for pids in found for pid in pids)


async def metrics_page(cluster: MiniCluster, selector: str, port: int) -> str:
    """The metrics page of the first of the selected pods."""
    pod, *_ = await cluster.pods(NAMESPACE, selector)
    async with await Http1Connection.open(Endpoint(host=pod.status.pod_ip, port=port)) as connection:
        return (await connection.request("/metrics", host="metrics")).body.decode()


def gateway_manifest(gateway_class: str) -> str:
    """The Gateway through which everything is asked."""
    return f"""\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {GATEWAY}, namespace: {NAMESPACE}}}
spec:
  gatewayClassName: {gateway_class}
  listeners: [{{name: http, port: 80, protocol: HTTP}}]
"""
