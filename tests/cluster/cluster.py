"""A miniature cluster as tests, benchmarks and people use it.

    async with MiniCluster.started(Outline(folder=folder)) as cluster:
        await cluster.api.apply(DEPLOYMENT)
        await cluster.wait_ready("shop")
        with cluster.inside():
            ...  # dial pods and LoadBalancer addresses

The cluster itself is another process (`tests.cluster.server`); several clients may share it, as pytest workers do. All
of it is used from any event loop, one at a time.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar, final

import aiohttp
import msgspec

from tests.cluster import binaries, kernel
from tests.cluster.api import Access, Api
from tests.cluster.control_plane import Component, run_kubectl
from tests.cluster.kubelet import KubeletStatistics
from tests.cluster.network import API_SERVER
from tests.cluster.objects import Node, Pod, PodList, Service
from tests.cluster.outline import Answer, Outline, Request, State, sweep
from tests.cluster.process import Process, log_end

START_S = 90.0
"""Longest wait for a cluster: 6 s on an idle machine."""

WAIT_S = 60.0
"""Longest wait of `wait_for` if the caller names none."""

T = TypeVar("T")


class ClusterFailed(AssertionError):
    """It did not start, refused a command, or something did not come to pass in time."""


@final
class MiniCluster:
    """A client of a running cluster."""

    def __init__(self, folder: Path) -> None:
        """Use `started` or `attached`."""
        self.folder = folder
        self.state = msgspec.json.decode((folder / "state.json").read_bytes(), type=State)
        self._namespace = kernel.open_namespace("net", str(self.state.pid))
        self._kubectl = binaries.build(binaries.kube()) / "kubectl"
        self._access: Access | None = None
        self._api: Api | None = None

    @property
    def api(self) -> Api:
        """The administrator's connection. Used where it was attached: inside of the cluster's network, or outside."""
        assert self._api is not None, "used outside of `async with`"
        return self._api

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, for programs outside of the cluster's network."""
        return self.folder / "kubeconfig"

    @property
    def inner_kubeconfig(self) -> Path:
        """The administrator's, for programs inside of it."""
        return self.folder / "control-plane" / "admin.kubeconfig"

    @classmethod
    @asynccontextmanager
    async def started(cls, outline: Outline) -> AsyncIterator["MiniCluster"]:
        """Start a cluster, and end it.

        Raises:
            ClusterFailed: it did not start; with the end of its log.
        """
        server = start(outline)
        try:
            await wait_started(outline.folder, server)
            async with cls.attached(outline.folder) as cluster:
                yield cluster
        finally:
            await server.stop(10.0)

    @classmethod
    @asynccontextmanager
    async def attached(cls, folder: Path) -> AsyncIterator["MiniCluster"]:
        """Be a client of a cluster that runs. It lives at least until the end of this."""
        cluster = cls(folder)
        _, writer = await asyncio.open_unix_connection(folder / "control")
        try:
            access = msgspec.json.decode(await cluster._ask("administrator"), type=Access)
            cluster.kubeconfig.touch(mode=0o600)
            cluster.kubeconfig.write_bytes(cluster.from_outside(access).kubeconfig("administrator"))
            async with Api(cluster._access_here(access)) as cluster._api:
                yield cluster
        finally:
            os.close(cluster._namespace)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    # Places

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be in the cluster's network: sockets that this thread makes meanwhile reach pods and Services.

        They stay there. Threads that run already do not come along. For a whole test it is the fixture `inside`.
        """
        with kernel.inside(self._namespace):
            yield

    def command_inside(self, *command: str) -> list[str]:
        """A command that runs a program in the cluster's network, for `subprocess` and the like."""
        return ["nsenter", f"--net=/proc/{self.state.pid}/ns/net", "--", *command]

    def from_outside(self, access: Access) -> Access:
        """The same user through the machine's loopback, for programs outside of the cluster's network."""
        return msgspec.structs.replace(access, server=f"https://127.0.0.1:{self.state.host_port}")

    def _access_here(self, access: Access) -> Access:
        is_inside = os.stat("/proc/thread-self/ns/net").st_ino == os.fstat(self._namespace).st_ino  # noqa: PTH116
        return access if is_inside else self.from_outside(access)

    # Users

    async def user(self, name: str, groups: Sequence[str] = ()) -> Access:
        """Any user, by a client certificate; may do what RBAC gives it. The address is the one inside."""
        answer = await self._ask("user", name=name, groups=",".join(groups))
        return msgspec.json.decode(answer, type=Access)

    async def service_account(self, namespace: str, name: str) -> Access:
        """An existing ServiceAccount, by a token that is good for an hour. The address is the one inside."""
        answer = await self._ask("service-account", namespace=namespace, name=name)
        return msgspec.json.decode(answer, type=Access)

    # Objects

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl as administrator; its standard output. Blocks."""
        with kernel.inside(self._namespace):
            return run_kubectl(self._kubectl, self.inner_kubeconfig, *arguments, stdin=stdin)

    async def wait_for(self, what: str, look: Callable[[], Awaitable[T]], *, seconds: float = WAIT_S) -> T:
        """Look until the answer is true (not empty, not `None`); that answer.

        Raises:
            ClusterFailed: not in time; with the last answer, or what `look` raised: it is not so yet, or no connection.
        """
        last: object = None
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            try:
                answer = await look()
                if answer:
                    return answer
                last = answer
            except (AssertionError, aiohttp.ClientConnectionError) as error:  # an API server may be away for a moment
                last = error
            await asyncio.sleep(0.02)
        raise ClusterFailed(f"{what}: not within {seconds} s; last seen: {last!r}")

    async def pods(self, namespace: str, selector: str = "") -> tuple[Pod, ...]:
        """The pods of a namespace, by a label selector as kubectl writes it."""
        params = {"labelSelector": selector} if selector else None
        path = f"/api/v1/namespaces/{namespace}/pods"
        return msgspec.json.decode(await self.api.request("GET", path, params=params), type=PodList).items

    async def wait_ready(
        self, namespace: str, selector: str = "", *, count: int = 0, seconds: float = WAIT_S
    ) -> tuple[Pod, ...]:
        """Wait until the selected pods, at least one or exactly so many, are all Ready and none is ending; they."""

        async def look() -> tuple[Pod, ...]:
            found = await self.pods(namespace, selector)
            good = [pod for pod in found if pod.is_ready and not pod.metadata.deletion_timestamp]
            return found if len(good) == len(found) and (not count or count == len(found)) else ()

        try:
            return await self.wait_for(f"pods {selector} of {namespace} ready", look, seconds=seconds)
        except ClusterFailed as error:
            listed = self.kubectl("get", "pods", "-n", namespace, "-o", "wide")
            raise ClusterFailed(f"{error}\n{listed}") from None

    async def wait_gone(self, path: str, *, seconds: float = WAIT_S) -> None:
        """Wait until there is no such object."""

        async def look() -> bool:
            return await self.api.find(path, Node) is None  # any kind: only metadata is read

        await self.wait_for(f"{path} gone", look, seconds=seconds)

    async def load_balancer(self, namespace: str, name: str, *, seconds: float = WAIT_S) -> str:
        """Wait for the address of a Service of type LoadBalancer; it."""

        async def look() -> str:
            service = await self.api.find(f"/api/v1/namespaces/{namespace}/services/{name}", Service)
            return (
                service.status.load_balancer.ingress[0].ip if service and service.status.load_balancer.ingress else ""
            )

        return await self.wait_for(f"address of Service {namespace}/{name}", look, seconds=seconds)

    # Faults

    async def kill(self, component: Component) -> None:
        """SIGKILL to a part of the control plane."""
        await self._ask("kill", component=component)

    async def restart(self, component: Component) -> None:
        """Start it, after killing it if it runs; back when the API server is ready."""
        await self._ask("restart", component=component)

    async def pause(self, component: Component) -> None:
        """SIGSTOP: it accepts connections and does not answer."""
        await self._ask("pause", component=component)

    async def resume(self, component: Component) -> None:
        """The end of `pause`."""
        await self._ask("resume", component=component)

    async def pid(self, component: Component) -> int:
        """Process id of a part of the control plane, for measurements."""
        return msgspec.json.decode(await self._ask("pid", component=component), type=int)

    async def save_etcd(self, name: str) -> None:
        """Keep a copy of etcd's data."""
        await self._ask("save-etcd", name=name)

    async def restore_etcd(self, name: str) -> None:
        """Go back to it; the API server and the controllers start anew."""
        await self._ask("restore-etcd", name=name)

    async def kill_node(self, name: str) -> None:
        """Cut a node's power. Kubernetes notices after 12 s."""
        await self._ask("kill-node", node=name)

    async def start_node(self, name: str) -> None:
        """Boot a dead node."""
        await self._ask("start-node", node=name)

    async def processes(self, namespace: str, pod: str) -> tuple[int, ...]:
        """Process ids of a pod's containers, main processes and their children."""
        answer = await self._ask("processes", pod=f"{namespace}/{pod}")
        return msgspec.json.decode(answer, type=tuple[int, ...])

    async def kill_pod(self, namespace: str, pod: str) -> None:
        """SIGKILL to all processes of a pod, as the kernel does when memory is out. Its containers start again."""
        for pid in await self.processes(namespace, pod):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def pause_pod(self, namespace: str, pod: str, *, paused: bool = True) -> None:
        """SIGSTOP to all processes of a pod, or the end of that."""
        for pid in await self.processes(namespace, pod):
            os.kill(pid, signal.SIGSTOP if paused else signal.SIGCONT)

    @asynccontextmanager
    async def partition(self, one: str, other: str = API_SERVER) -> AsyncIterator[None]:
        """Drop all packets between two addresses for a while; by default to the API server."""
        await self._ask("partition", one=one, other=other)
        try:
            yield
        finally:
            await self._ask("heal", one=one, other=other)

    @asynccontextmanager
    async def isolation(self, address: str) -> AsyncIterator[None]:
        """Drop all packets from and to an address for a while: a pod's, a node's, the API server's."""
        await self._ask("isolate", address=address)
        try:
            yield
        finally:
            await self._ask("rejoin", address=address)

    async def statistics(self) -> KubeletStatistics:
        """What the kubelets have done."""
        return msgspec.json.decode(await self._ask("statistics"), type=KubeletStatistics)

    async def _ask(self, verb: str, **arguments: str) -> msgspec.Raw:
        # A connection for each: the facade works in any event loop.
        reader, writer = await asyncio.open_unix_connection(self.folder / "control", limit=1 << 24)
        try:
            writer.write(msgspec.json.encode(Request(verb, arguments)) + b"\n")
            answer = msgspec.json.decode(await reader.readline(), type=Answer)
        finally:
            writer.close()
            await writer.wait_closed()
        if answer.error:
            raise ClusterFailed(answer.error)
        return answer.value


def start(outline: Outline) -> Process:
    """Start a cluster's server; `wait_started` waits for it. What cut-off runs left is removed first.

    Raises:
        ClusterFailed: this user may not.
    """
    if os.geteuid() != 0:
        raise ClusterFailed("a miniature cluster makes network and mount namespaces: run it as root")
    sweep()
    binaries.build(binaries.kube())
    binaries.gateway_api_crds("standard")  # the server has no network to fetch them
    shutil.rmtree(outline.folder, ignore_errors=True)
    outline.folder.mkdir(parents=True)
    path = outline.folder / "outline.json"
    path.write_bytes(msgspec.json.encode(outline, enc_hook=str))
    environment = {**os.environ, "PYTHONPATH": str(binaries.ROOT)}
    with (outline.folder / "server.log").open("wb") as log:
        command = [sys.executable, "-m", "tests.cluster.server", str(path)]
        return Process(command, output=log.fileno(), environment=environment, working_directory=str(binaries.ROOT))


async def wait_started(folder: Path, server: Process | None) -> None:
    """Until the cluster in this folder is ready.

    Raises:
        ClusterFailed: it ended, or was not ready in time; with the end of its log.
    """
    ends = time.monotonic() + START_S
    while not (folder / "state.json").exists():
        ended = server is not None and server.returncode is not None
        if ended or time.monotonic() > ends:
            raise ClusterFailed(f"no miniature cluster in {folder}:\n{log_end(folder / 'server.log')}")
        await asyncio.sleep(0.05)
