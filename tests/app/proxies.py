"""`portway proxy` as a process, and a control plane for it in this one: discovery with mutual TLS, identity service."""

import asyncio
import contextlib
import datetime as dt
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import final

import msgspec

from portway.envoy.position import position_marker
from portway.identity.authorisation import FleetAuthorization
from portway.identity.authorities import Authority, bundle, make_authority
from portway.identity.issuer import Issuer, Owner
from portway.identity.messages import Place
from portway.identity.service import IssuingService
from portway.identity.serving import ServingIdentity
from portway.identity.tokens import Bearer, TokenReviewer
from portway.model.resource import ResourceDelta, ResourceKey, ResourceType, make_resource
from portway.xds.credentials import mutual_tls
from portway.xds.ordering import Timing
from portway.xds.positions import Marker
from portway.xds.server import DiscoveryServer, Peer
from tests.identity.fake_api import FakeApi
from tests.kit.answer import Answer
from tests.kit.client import fetch
from tests.kit.ports import Ports
from tests.kit.resources import http_listener, route, routes, static_cluster, virtual_host

PLACE = Place(zone="zone-a", region="region-1")


def bearer_of(fleet: str) -> Bearer:
    """The one pod of a fleet."""
    return Bearer(namespace="shop", service_account=f"portway-{fleet}", pod=f"{fleet}-1", pod_uid=fleet, node="node-1")


def serving(fleet_port: int, backend_port: int) -> ResourceDelta:
    """A fleet that listens on a port and forwards to a backend, WebSockets too."""
    forward = route("backend", action={"upgrade_configs": [{"upgrade_type": "websocket"}], "timeout": "60s"})
    messages = {
        ResourceKey(ResourceType.CLUSTER, "backend"): static_cluster("backend", backend_port),
        ResourceKey(ResourceType.LISTENER, "http"): http_listener("http", fleet_port, "all"),
        ResourceKey(ResourceType.ROUTES, "all"): routes("all", virtual_host("any", ["*"], forward)),
    }
    return ResourceDelta(
        changed=tuple(
            make_resource(key, message.SerializeToString(deterministic=True)) for key, message in messages.items()
        )
    )


@final
class ControlPlane:
    """May be stopped and started again on the same ports; what it believes and serves stays."""

    def __init__(self, ports: Ports) -> None:
        self.api = FakeApi()
        self.authorities: tuple[Authority, ...] = (make_authority(dt.datetime.now(dt.UTC)),)
        self.lifetime = dt.timedelta(hours=24)
        self.xds_port, self.identity_port = ports.take(), ports.take()
        self.peers: list[Peer] = []
        self.deltas: dict[str, ResourceDelta] = {}
        self.position = {"HTTPRoute": 1}
        """How far it has read its sources."""
        self.timing = Timing()
        self.server = DiscoveryServer()
        self._stack = contextlib.AsyncExitStack()
        self._identity = ServingIdentity()
        self.issuer = self._issuer()

    def owner(self, fleet: str) -> Owner:
        """Every fleet has a ServiceAccount of its own."""
        return Owner(namespace="shop", service_account=f"portway-{fleet}")

    def use(self, *authorities: Authority) -> None:
        """Sign with these and believe these from now on."""
        self.authorities = authorities
        self._identity.use(authorities)
        self.issuer.use(authorities)

    async def start(self) -> None:
        self._identity = ServingIdentity()
        self.issuer = self._issuer()
        self.use(*self.authorities)
        authorize = FleetAuthorization(self.owner)

        def look(peer: Peer) -> bool:
            self.peers.append(peer)
            return authorize(peer)

        cluster, endpoints = position_marker()
        marker = Marker(cluster=cluster, endpoints=endpoints)
        self.server = DiscoveryServer(authorize=look, marker=marker, timing=self.timing)
        self.see(self.position)
        await self.server.start(f"127.0.0.1:{self.xds_port}", mutual_tls(self._identity.credentials))
        self._stack.push_async_callback(self.server.stop)
        door = IssuingService(self.issuer, self._identity.server_context())
        await door.start("127.0.0.1", self.identity_port)
        self._stack.push_async_callback(door.stop)

    def see(self, position: dict[str, int]) -> None:
        """The sources were read up to there, and `deltas` is what follows."""
        self.position = position
        self.server.announce(position)
        for fleet, delta in self.deltas.items():
            self.server.apply(fleet, delta)
            self.server.mark_synced(fleet)
        self.server.reach(position)

    async def stop(self) -> None:
        await self._stack.aclose()
        self._stack = contextlib.AsyncExitStack()

    def serve(self, fleet: str, delta: ResourceDelta) -> None:
        self.deltas[fleet] = delta
        self.server.apply(fleet, delta)
        self.server.mark_synced(fleet)

    def _issuer(self) -> Issuer:
        return Issuer(TokenReviewer(self.api), self.owner, _place_of, lifetime=self.lifetime)


async def _place_of(node: str) -> Place:
    del node
    return PLACE


@asynccontextmanager
async def control_plane(ports: Ports) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(ports)
    await plane.start()
    try:
        yield plane
    finally:
        await plane.stop()


@final
class Proxy:
    """One pod: its volumes, and `portway proxy` in it."""

    def __init__(self, folder: Path, fleet: str, plane: ControlPlane, ports: Ports) -> None:
        self.folder = folder
        self.fleet = fleet
        self.port = ports.take()
        self.health_port = ports.take()
        self.log = folder / "proxy.log"
        self._plane = plane
        self._process: asyncio.subprocess.Process | None = None
        folder.mkdir(parents=True)
        self.believe(*plane.authorities)
        self.show(plane.api.token(bearer_of(fleet)))

    def believe(self, *authorities: Authority) -> None:
        """As the kubelet does when the ConfigMap changes."""
        (self.folder / "ca.new").write_bytes(bundle(authorities))
        (self.folder / "ca.new").replace(self.folder / "ca.crt")

    def show(self, token: str) -> None:
        (self.folder / "token").write_text(token)

    async def start(self, *arguments: str) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PORTWAY_")},
            "PORTWAY_CONTROL_PLANE": f"127.0.0.1:{self._plane.xds_port}",
            "PORTWAY_IDENTITY_SERVICE": f"127.0.0.1:{self._plane.identity_port}",
            "PORTWAY_FLEET": self.fleet,
            "PORTWAY_NODE_ID": f"{self.fleet}-1",
            "PORTWAY_NODE_NAME": "node-1",
            "PORTWAY_AUTHORITIES": str(self.folder / "ca.crt"),
            "PORTWAY_TOKEN": str(self.folder / "token"),
            "PORTWAY_STATE_DIR": str(self.folder / "run" / "state"),
            "PORTWAY_HEALTH_ADDRESS": f"127.0.0.1:{self.health_port}",
            "PORTWAY_WITHDRAWAL_TIME": "1s",
            "PORTWAY_DRAIN_TIME": "8s",
            "PORTWAY_CONCURRENCY": "1",
            "PORTWAY_LOG_FORMAT": "json",
        }
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "portway", "proxy", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )

    async def health(self, path: str = "/readyz") -> Answer:
        return await fetch(f"http://127.0.0.1:{self.health_port}{path}", seconds=20)

    async def is_ready(self) -> bool:
        assert self.is_running, f"the proxy ended:\n{self.log_end()}"
        return (await self.health()).status == 200

    async def wait_ready(self) -> None:
        await self.until(self.is_ready, "ready", seconds=40)

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str, *, seconds: float = 20) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not await condition():  # noqa: ASYNC110 - most of it happens in another process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not {what} after {seconds} s:\n{self.log_end()}") from None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def envoys(self) -> list[int]:
        """Process ids of the Envoys that run in its folder."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if (entry / "cwd").readlink().is_relative_to(self.folder):
                        found.append(int(entry.name))
        return found

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self, seconds: float = 30) -> int:
        assert self._process is not None
        try:
            async with asyncio.timeout(seconds):
                return await self._process.wait()
        except TimeoutError:
            raise AssertionError(f"it runs on after {seconds} s:\n{self.log_end()}") from None

    async def crash(self) -> None:
        """As when the container is killed: nothing of it is left but its volumes."""
        self.signal(signal.SIGKILL)
        await self.ended()
        for pid in self.envoys:
            os.kill(pid, signal.SIGKILL)
        while self.envoys:  # noqa: ASYNC110 - they are no children of ours
            await asyncio.sleep(0.02)

    def records(self) -> list[dict[str, object]]:
        lines = [line for line in self.log.read_bytes().splitlines() if line.startswith(b"{")]
        return [msgspec.json.decode(line, type=dict[str, object]) for line in lines]

    def log_end(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    async def close(self) -> None:
        if self.is_running:
            await self.crash()


@asynccontextmanager
async def proxy(folder: Path, fleet: str, plane: ControlPlane, ports: Ports, backend_port: int) -> AsyncIterator[Proxy]:
    """A proxy that is started, for a fleet that forwards to a backend; killed at the end if it still runs."""
    pod = Proxy(folder, fleet, plane, ports)
    plane.serve(fleet, serving(pod.port, backend_port))
    try:
        await pod.start()
        yield pod
    finally:
        await pod.close()
