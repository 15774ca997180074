"""The process that is a miniature cluster: `python -m tests.cluster.server OUTLINE.json`, as root.

It moves into namespaces of its own and starts the control plane there, serves nodes and Services, and does what comes
over its control socket. It has one thread: threads would stay behind in another namespace. When it ends, however it
ends, the kernel ends its processes and takes the network away; it ends by SIGTERM, or when its last client has gone.
"""

import asyncio
import math
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import final

import msgspec

from tests.cluster import kernel
from tests.cluster.api import Api
from tests.cluster.containers import MARKER
from tests.cluster.control_plane import Addresses, Component, ControlPlane
from tests.cluster.dns import NameServer
from tests.cluster.kubelet import Kubelets
from tests.cluster.loadbalancer import LoadBalancer
from tests.cluster.network import API_SERVER, API_SERVER_PORT, GATEWAY, SERVICES, Network
from tests.cluster.nodes import NodeOutline
from tests.cluster.outline import Answer, Outline, Request, State, run_name
from tests.cluster.pods import Surroundings
from tests.cluster.probes import Prober
from tests.cluster.process import start_logged
from tests.cluster.volumes import Sources
from tests.kit.certificates import Authority, server_context
from tests.kit.relay import carry

LEADERSHIP_S = 5.0
"""So long a controller manager tries to renew its leadership (`--leader-elect-renew-deadline`): less than it takes a
silent node for dead, as with Kubernetes' own 10 and 50 s."""
NEEDED = (Component.API_SERVER, Component.ETCD)
"""For that."""

Arguments = dict[str, str]


@final
class Server:
    """A running cluster and its control socket."""

    def __init__(self, outline: Outline, network: Network, outside: socket.socket) -> None:
        """
        Args:
            outline: what it is to be.
            network: this process is in its outer namespace already.
            outside: listens outside of it, on the machine's loopback, for the API server.
        """
        self._outline = outline
        self._network = network
        self._outside = outside
        addresses = Addresses(
            api_server=API_SERVER, api_server_port=API_SERVER_PORT, services=SERVICES, advertised=True
        )
        self._plane = ControlPlane(outline.folder / "control-plane", addresses)
        self._kubelets: Kubelets | None = None
        self._clients = 0
        self._gone_since = math.inf
        """When the API server went, if it is away."""
        self._tasks = asyncio.TaskGroup()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Until SIGTERM, or until nobody is interested any more."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        async with self._plane, Api(self._plane.administrator) as api, Prober() as prober, self._tasks as tasks:
            if self._outline.channel:
                await self._plane.apply_gateway_api(self._outline.channel)
            services = LoadBalancer(api, self._network)
            names = NameServer(services)
            await names.start(GATEWAY)
            self._kubelets = self._make_kubelets(api, prober)
            running = [tasks.create_task(self._kubelets.run()), tasks.create_task(services.run())]
            relay = await asyncio.start_server(self._relay, sock=self._outside)
            await asyncio.gather(self._kubelets.ready.wait(), self._kubelets.nodes_ready.wait(), services.ready.wait())
            control = await asyncio.start_unix_server(self._serve_client, self._outline.folder / "control")
            anchor = start_logged(["sleep", "infinity"], self._outline.folder / "server.log")
            self._say_ready(anchor.pid)
            await self._stopping.wait()
            for server in (control, relay):
                server.close()
            names.close()
            for task in running:
                task.cancel()
            await anchor.kill()

    def _make_kubelets(self, api: Api, prober: Prober) -> Kubelets:
        shared = Surroundings(
            api=api,
            network=self._network,
            images=self._outline.images,
            sources=Sources(),
            prober=prober,
            folder=self._outline.folder / "pods",
            run=run_name(os.getpid()),
        )
        nodes: tuple[NodeOutline, ...] = self._outline.nodes
        return Kubelets(shared, nodes, server_context(Authority("kubelets").issue("kubelet")))

    def _say_ready(self, anchor: int) -> None:
        state = State(pid=anchor, run=run_name(os.getpid()), host_port=self._outside.getsockname()[1])
        path = self._outline.folder / "state.json"
        path.with_suffix(".new").write_bytes(msgspec.json.encode(state))
        path.with_suffix(".new").rename(path)

    async def _serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            while line := await reader.readline():
                answer = await self._answer(msgspec.json.decode(line, type=Request))
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()
        except ConnectionError:
            pass  # a client that died is one that has gone
        finally:
            writer.close()
            self._clients -= 1
        await asyncio.sleep(self._outline.linger_s)
        if not self._clients:
            self._stopping.set()

    async def _answer(self, request: Request) -> Answer:
        try:
            value = await self._do(request.verb, request.arguments)
        except Exception as error:  # noqa: BLE001 - the client raises it
            return Answer(error=f"{request.verb} {request.arguments}: {type(error).__name__}: {error}")
        return Answer(value=msgspec.Raw(msgspec.json.encode(value)))

    async def _do(self, verb: str, given: Arguments) -> object:
        if verb in (verbs := self._component_verbs()):
            return await verbs[verb](Component(given["component"]))
        if verb in (others := self._other_verbs()):
            return await others[verb](given)
        raise ValueError(f"there is no verb {verb!r}")

    def _component_verbs(self) -> dict[str, Callable[[Component], Awaitable[object]]]:
        async def kill(component: Component) -> None:
            self._goes(component)
            await self._plane.kill(component)

        async def pause(component: Component) -> None:
            self._goes(component)
            self._plane.pause(component)

        async def restart(component: Component) -> None:
            await self._returns(component)
            await self._plane.restart(component)

        async def resume(component: Component) -> None:
            await self._returns(component)
            self._plane.resume(component)

        async def pid(component: Component) -> int:
            return self._plane.pid(component)

        return {"kill": kill, "restart": restart, "pause": pause, "resume": resume, "pid": pid}

    def _goes(self, component: Component) -> None:
        if component in NEEDED:
            self._gone_since = min(self._gone_since, time.monotonic())

    async def _returns(self, component: Component) -> None:
        """A controller manager that could not renew its leadership ends, and starts anew. One that went on would find
        all nodes silent for longer than it bears, which is 6 s here, and no pod would be ready."""
        if component not in NEEDED:
            return
        if time.monotonic() - self._gone_since > LEADERSHIP_S:
            await self._plane.start_anew(Component.CONTROLLERS)
        self._gone_since = math.inf

    def _other_verbs(self) -> dict[str, Callable[[Arguments], Awaitable[object]]]:
        plane, network, kubelets = self._plane, self._network, self._kubelets
        assert kubelets is not None

        async def save_etcd(given: Arguments) -> None:
            plane.save_etcd(given["name"])

        async def partition(given: Arguments) -> None:
            network.partition(given["one"], given["other"])

        async def heal(given: Arguments) -> None:
            network.heal(given["one"], given["other"])

        async def isolate(given: Arguments) -> None:
            network.isolate(given["address"])

        async def rejoin(given: Arguments) -> None:
            network.isolate(given["address"], isolated=False)

        async def user(given: Arguments) -> object:
            return plane.user(given["name"], [group for group in given["groups"].split(",") if group])

        async def processes(given: Arguments) -> object:
            life = kubelets.find(given["pod"])
            if life is None:
                raise LookupError(f"no pod {given['pod']} runs")
            return [pid for one in life.main if one.running for pid in one.running.processes()]

        async def statistics(_: Arguments) -> object:
            return kubelets.statistics()

        return {
            "administrator": _constant(plane.administrator),
            "user": user,
            "service-account": lambda given: plane.service_account(given["namespace"], given["name"]),
            "save-etcd": save_etcd,
            "restore-etcd": lambda given: plane.restore_etcd(given["name"]),
            "partition": partition,
            "heal": heal,
            "isolate": isolate,
            "rejoin": rejoin,
            "kill-node": lambda given: kubelets.kill_node(given["node"]),
            "start-node": lambda given: kubelets.start_node(given["node"]),
            "processes": processes,
            "statistics": statistics,
        }

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from outside to the API server."""
        await carry(reader, writer, API_SERVER, API_SERVER_PORT)


def _constant(value: object) -> Callable[[Arguments], Awaitable[object]]:
    async def answer(_: Arguments) -> object:
        return value

    return answer


def main(outline: Outline) -> None:
    """Be the cluster of an outline until it ends. Its folder then holds logs only."""
    outline.folder.mkdir(parents=True, exist_ok=True)
    (outline.folder / "run").write_text(run_name(os.getpid()))
    os.environ[MARKER] = run_name(os.getpid())
    outside = socket.create_server(("127.0.0.1", 0))
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.make_mounts_private()
    pods = outline.folder / "pods"
    pods.mkdir()
    # Upper layers of overlays need a file system that can hold them, which the machine's own may not be.
    kernel.mount("tmpfs", str(pods), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    network = Network()

    async def serve() -> None:
        await Server(outline, network, outside).run()

    try:
        asyncio.run(serve())
    finally:
        for name in ("state.json", "control"):
            (outline.folder / name).unlink(missing_ok=True)
        for data in (outline.folder / "control-plane").glob("etcd*"):
            if data.is_dir():
                shutil.rmtree(data)


if __name__ == "__main__":
    main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Outline, dec_hook=lambda kind, value: kind(value)))
