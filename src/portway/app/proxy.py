"""`portway proxy`: one Envoy whose control plane is elsewhere, with what a pod needs around it.

    identity   a certificate for mutual TLS, obtained by token or taken from files, renewed while it runs
    Envoy      started once there is something to show, programmed by the control plane alone, restarted if it dies
    health     `/healthz`, `/readyz`, `/metrics` on the pod's address from the first moment

It goes on serving whatever becomes of the control plane. SIGTERM: not ready at once; after the withdrawal time clients
are asked to leave; it ends when nothing is asked any more, or when the time to drain is over. A second one hurries.
Nothing of the control plane is imported here: a hundred of these may run on one machine.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import final

import structlog

from portway.app import collector
from portway.envoy.bootstrap import BootstrapSettings, ControlPlaneTls, build_bootstrap, encode_bootstrap
from portway.envoy.own_secrets import encode_authorities, encode_own_certificate
from portway.identity.certificates import Credentials
from portway.identity.contract import IDENTITY_PORT
from portway.identity.messages import Place
from portway.identity.obtain import Source
from portway.identity.renewal import FileIdentity, Keeps, TokenIdentity
from portway.infra.binary import EnvoyBinary, find_envoy
from portway.infra.drain import DrainSettings
from portway.infra.envoy_admin import AdminUnreachable
from portway.infra.health import HealthServer, Unavailable
from portway.infra.host import HostProxy
from portway.infra.machine import default_heap_bytes, default_max_connections
from portway.infra.proxy import HostSettings
from portway.infra.reaper import reap_orphans
from portway.infra.state import ProxyFolder, StateFolder
from portway.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

IDENTITY = "identity"
"""A folder of its own: Envoy is told of every write to the folder of a file that it watches, and logs are written
all the time."""
CERTIFICATE_FILE = f"{IDENTITY}/own-certificate.json"
AUTHORITIES_FILE = f"{IDENTITY}/control-plane-authorities.json"
KEPT_FILE = f"{IDENTITY}/certificate-of-last-run.json"
QUIET = timedelta(seconds=3)
"""So long after the last request the connections that are left are idle ones, and it may end."""


def bootstrap_of(settings: Settings, place: Place) -> bytes:
    """The bootstrap of this proxy's Envoy. Equal settings and place give equal bytes."""
    proxy = settings.proxy
    facts = (("namespace", proxy.pod_namespace), ("node", proxy.node_name))
    return encode_bootstrap(
        build_bootstrap(
            BootstrapSettings(
                node_id=proxy.node_id or socket.gethostname(),
                fleet=settings.edge.fleet,
                zone=settings.edge.zone or place.zone,
                region=place.region,
                metadata=tuple((name, value) for name, value in facts if value),
                control_plane=",".join(proxy.control_planes),
                control_plane_tls=ControlPlaneTls(
                    certificate_path=CERTIFICATE_FILE,
                    authorities_path=AUTHORITIES_FILE,
                    server_name=proxy.control_plane_name,
                ),
                max_heap_bytes=settings.host.max_heap_bytes or default_heap_bytes(),
                max_connections=default_max_connections(settings.edge.max_connections),
            )
        )
    )


def host_settings(settings: Settings) -> HostSettings:
    """How Envoy is run here."""
    host = settings.host
    return HostSettings(
        concurrency=host.concurrency,
        drain=host.drain_time,
        log_level=host.envoy_log_level,
        stop=DrainSettings(
            withdrawal=settings.proxy.withdrawal_time, gradual=True, settle=QUIET, longest=host.drain_time
        ),
    )


async def run(settings: Settings, access_log: Callable[[bytes], None]) -> None:
    """Run until a signal.

    Args:
        settings: of them the branches proxy, host and logs, and of edge fleet, zone and max_connections.
        access_log: gets the lines of the access log.

    Raises:
        StateFolderError, EnvoyUnusable, OSError: it cannot start; the message says why and what to do.
    """
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.enter_context(_signals(stop))
        state = stack.enter_context(StateFolder(Path(settings.host.state_dir)))
        folder = state.proxy_folder(settings.edge.fleet)
        stack.callback(folder.close)
        program = _Program(settings, folder, access_log, stop)
        host, _, port = settings.proxy.health_address.rpartition(":")
        await program.health.start(host.strip("[]"), int(port))
        stack.push_async_callback(program.health.stop)
        await program.run()
    log.info("stopped")


@final
class _Program:
    """The parts of one run."""

    def __init__(
        self, settings: Settings, folder: ProxyFolder, access_log: Callable[[bytes], None], stop: asyncio.Event
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._access_log = access_log
        self._stop = stop
        self._stopping = False
        self._proxy: HostProxy | None = None
        self._identity = make_identity(settings, folder)
        self.health = HealthServer(self._not_ready_because, self._metrics)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(reap_orphans())] if os.getpid() == 1 else []
            starting = tasks.create_task(self._start())
            stopped = tasks.create_task(self._stop.wait())
            await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                proxy = starting.result()
                running = tasks.create_task(proxy.run())
                beside += [tasks.create_task(work) for work in (self._identity.run(), self._announce(proxy))]
                await self._stop.wait()
                await self._end(proxy, tasks)
                await running
            for task in (*beside, starting, stopped):
                task.cancel()

    async def _start(self) -> HostProxy:
        """Whatever takes long before Envoy can be started, at the same time."""
        chosen = self._settings.host.envoy_binary
        looking = asyncio.to_thread(find_envoy, Path(chosen) if chosen else None)
        found: tuple[EnvoyBinary, Place] = await asyncio.gather(looking, self._identity.first())
        binary, place = found
        self._proxy = HostProxy(
            self._folder,
            binary,
            bootstrap_of(self._settings, place),
            host_settings(self._settings),
            access_log=self._access_log,
        )
        return self._proxy

    async def _end(self, proxy: HostProxy, tasks: asyncio.TaskGroup) -> None:
        self._stopping = True
        self._stop.clear()
        log.info(
            "stopping",
            withdrawal_seconds=self._settings.proxy.withdrawal_time.total_seconds(),
            drain_seconds=self._settings.host.drain_time.total_seconds(),
        )
        hurrying = tasks.create_task(self._hurry(proxy))
        await proxy.stop()
        hurrying.cancel()

    async def _hurry(self, proxy: HostProxy) -> None:
        await self._stop.wait()
        log.warning("stopping at once")
        await proxy.stop()

    async def _announce(self, proxy: HostProxy) -> None:
        await proxy.wait_ready()
        collector.keep_all()
        log.info("ready", pid=os.getpid(), fleet=self._settings.edge.fleet)

    def _not_ready_because(self) -> str:
        if self._stopping:
            return "stopping"
        if self._proxy is None:
            return "waiting for a certificate"
        return "" if self._proxy.is_live else "waiting for the first configuration"

    async def _metrics(self) -> str:
        if self._proxy is None:
            raise Unavailable("the proxy is not started yet")
        try:
            text = await self._proxy.admin.prometheus()
        except AdminUnreachable as error:
            raise Unavailable(str(error)) from error
        return text + _own_metrics(self._proxy.statistics().restarts, self._identity)


def make_identity(settings: Settings, folder: ProxyFolder) -> Keeps:
    """What this proxy shows its control plane, written where its Envoy reads it."""
    proxy = settings.proxy
    (folder.path / IDENTITY).mkdir(mode=0o700, exist_ok=True)

    def publish(credentials: Credentials) -> None:
        folder.write(AUTHORITIES_FILE, encode_authorities(credentials.authorities))
        folder.write(CERTIFICATE_FILE, encode_own_certificate(credentials.certificates, credentials.key))

    if proxy.xds_certificate:
        return FileIdentity(Path(proxy.xds_certificate), Path(proxy.xds_key), Path(proxy.authorities), publish)
    services = proxy.identity_services or tuple(
        f"{address.rpartition(':')[0]}:{IDENTITY_PORT}" for address in proxy.control_planes
    )
    source = Source(
        addresses=services,
        fleet=settings.edge.fleet,
        node_name=proxy.node_name,
        zone=settings.edge.zone,
        token_file=Path(proxy.token),
        authorities_file=Path(proxy.authorities),
        server_name=proxy.control_plane_name,
    )
    return TokenIdentity(source, folder.path / KEPT_FILE, lambda content: folder.write(KEPT_FILE, content), publish)


def _own_metrics(restarts: int, identity: Keeps) -> str:
    until = identity.not_after
    lines = [
        "# TYPE portway_proxy_restarts_total counter",
        f"portway_proxy_restarts_total {restarts}",
    ]
    if until is not None:
        lines += [
            "# TYPE portway_proxy_certificate_not_after_seconds gauge",
            f"portway_proxy_certificate_not_after_seconds {int(until.timestamp())}",
        ]
    return "\n".join(lines) + "\n"


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in numbers:
            with contextlib.suppress(ValueError):
                loop.remove_signal_handler(number)
