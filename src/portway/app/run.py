"""`portway run`: all parts of one machine, started in the order of the data flow and stopped in reverse.

Discovery listens before Envoy starts; sources are read at once; Envoy is started (or the one that runs is adopted)
beside that. Nothing is sent before everything declared has been compiled. SIGTERM drains and ends; a second one
hurries. So does the loss of the state folder, but for the exit code.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import msgspec
import structlog

from portway.app import collector
from portway.app.beside import Beside, runs_beside
from portway.app.compiler import make_engine
from portway.app.console import Console
from portway.app.declared import Declared, doubt_cluster, knows_owners, make_declared
from portway.app.fallback import load_fallback_certificate
from portway.app.live_settings import SettingsFile
from portway.app.machine import Machine, compiled_edge
from portway.app.own_places import own_places
from portway.app.pipeline import Follower, Pipeline
from portway.app.ports import PortWatch
from portway.app.recorder import Recorder
from portway.app.signals import ending_signals
from portway.app.snapshot import SnapshotFile
from portway.envoy.bootstrap import BootstrapSettings, build_bootstrap, encode_bootstrap
from portway.infra.binary import EnvoyBinary, find_envoy
from portway.infra.drain import DrainSettings
from portway.infra.host import HostProxy
from portway.infra.machine import default_heap_bytes, default_max_connections
from portway.infra.proxy import HostSettings
from portway.infra.state import StateFolder, StateFolderError, wait_lost
from portway.model.handles import OWN_PLACES
from portway.model.resource import Resource, ResourceDelta, ResourceType
from portway.model.tls import Secret
from portway.settings import Settings, reads_cluster
from portway.xds.fleet import FleetState
from portway.xds.messages import Outcome
from portway.xds.server import DiscoveryServer

log = structlog.get_logger(__name__)


def bootstrap_of(settings: Settings, proxy_socket: str) -> bytes:
    """The bootstrap of this machine's Envoy. Equal settings give equal bytes, and only other bytes need a hot
    restart."""
    edge = settings.edge
    return encode_bootstrap(
        build_bootstrap(
            BootstrapSettings(
                node_id=socket.gethostname(),
                fleet=edge.fleet,
                zone=edge.zone,
                control_plane=proxy_socket,
                max_heap_bytes=settings.host.max_heap_bytes or default_heap_bytes(),
                max_connections=default_max_connections(edge.max_connections),
            )
        )
    )


def _try_access_log(path: str) -> None:
    """Envoy refuses every listener whose access log it cannot open, so this is not left to it.

    Raises:
        OSError: the message says what to do.
    """
    try:
        if not Path(path).exists() or Path(path).is_file():
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644))
    except OSError as error:
        problem = f"--access-log {path} cannot be written: {error.strerror}"
        raise OSError(f"{problem}; choose another file, - for standard output, or an empty one for none") from error


async def run(settings: Settings, console: Console, settings_file: SettingsFile | None = None) -> None:
    """Run until a signal.

    Args:
        settings: all of them.
        console: of the person who started it.
        settings_file: followed, if there is one.

    Raises:
        StateFolderError, EnvoyUnusable, OSError: it cannot start, or cannot go on for want of its state folder and has
            drained; the message says why and what to do.
    """
    collector.expect_growth()
    if settings.edge.access_log not in ("", "-"):
        _try_access_log(settings.edge.access_log)
    chosen = settings.host.envoy_binary
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.enter_context(ending_signals(stop))
        binary = await asyncio.to_thread(find_envoy, Path(chosen) if chosen else None)
        state = stack.enter_context(StateFolder(Path(settings.host.state_dir)))
        folder = state.proxy_folder(settings.edge.fleet)
        stack.callback(folder.close)
        file = SnapshotFile(state.path)
        stack.callback(file.close)
        recorder = Recorder(file, lambda fleet: discovery.fleet(fleet).good_resources())
        stack.callback(recorder.flush)
        listeners: list[Callable[[str, str, Outcome], None]] = [recorder.note]

        def tell(fleet: str, proxy: str, outcome: Outcome) -> None:
            for listener in listeners:
                listener(fleet, proxy, outcome)

        discovery = DiscoveryServer(on_outcome=tell)
        await discovery.start(f"unix:{state.xds_socket}")
        stack.push_async_callback(discovery.stop)
        kept = await asyncio.to_thread(file.read, settings.edge.fleet)
        fallback = load_fallback_certificate(state.path)
        envoy = HostProxy(
            folder,
            binary,
            bootstrap_of(settings, folder.xds_socket),
            _host_settings(settings),
            access_log=console.access_log if settings.edge.access_log == "-" else None,
        )
        client, side = None, None
        if reads_cluster(settings.sources):
            from portway.app.cluster import join_cluster  # late: who reads files only needs none of it

            client, side = await join_cluster(
                settings,
                discovery,
                stack,
                learn=lambda versions: machine.use_definitions(versions),
                is_certain=lambda: declared.cluster is None or knows_owners(declared.cluster),
            )
        declared = make_declared(settings, state.path, client)
        machine = _assemble(
            settings, declared, discovery, envoy, binary, kept, recorder, fallback, [] if side is None else [side]
        )
        listeners.append(machine.note)
        beside = [recorder.run, *runs_beside(machine, console, settings_file, state.path, fallback)]
        if client is not None:
            beside.append(partial(doubt_cluster, declared, machine.pipeline))
        if side is not None:
            listeners.append(side.status.answered)
            beside.append(side.run)
        if not stop.is_set():
            await _run_until_signal(machine, envoy, beside, partial(wait_lost, state, folder), stop)
    log.info("stopped")


def _assemble(
    settings: Settings,
    declared: Declared,
    discovery: DiscoveryServer,
    proxy: HostProxy,
    binary: EnvoyBinary,
    kept: tuple[Resource, ...],
    recorder: Recorder,
    fallback: Secret,
    followers: Sequence[Follower],
) -> Machine:
    engine = make_engine(compiled_edge(settings.edge), fallback)
    engine.set(OWN_PLACES, None, own_places(settings))
    fleet = settings.edge.fleet
    # A resource that the proxy refuses keeps the version that it held before the restart.
    discovery.fleet(fleet).snapshot.remember_good(kept)

    def publish(name: str, delta: ResourceDelta) -> None:
        if not pipeline.is_synced:
            delta = _first(discovery.fleet(name), delta, kept)
        recorder.follow(name, delta)
        discovery.apply(name, delta)

    def serve_last_good(reason: str) -> None:
        machine.held = reason
        collector.keep_all()  # it may last
        serving = f"{len(kept)} resources of the last good configuration" if kept else "nothing"
        log.error("sources cannot be read", problem=reason, serving=serving)
        if kept:
            discovery.apply(fleet, ResourceDelta(changed=kept))
            discovery.mark_synced(fleet)

    def mark_synced(name: str) -> None:
        if machine.held:
            log.info("sources can be read again")
            machine.held = ""
        discovery.mark_synced(name)

    pipeline = Pipeline(
        engine,
        declared.sources,
        publish,
        mark_synced=mark_synced,
        fleets=[fleet],
        followers=followers,
        ports=PortWatch(engine, binary.path, lambda: (proxy.statistics().pid, *proxy.statistics().retiring)),
        doubt=lambda: declared.unreadable(engine.store.findings()),
        on_doubt=serve_last_good,
    )
    machine = Machine(settings, pipeline, declared, discovery, proxy)
    return machine


def _first(fleet: FleetState, delta: ResourceDelta, kept: tuple[Resource, ...]) -> ResourceDelta:
    """The first complete configuration: what the fleet was given from the last good one, or proxies may hold of it,
    and is not in it goes."""
    wanted = {resource.key for resource in delta.changed}
    held = [resource.key for kind in ResourceType for resource in fleet.snapshot.of_type(kind).values()]
    former = dict.fromkeys((*held, *(resource.key for resource in kept)))
    return msgspec.structs.replace(delta, removed=tuple(key for key in former if key not in wanted))


def _host_settings(settings: Settings) -> HostSettings:
    host = settings.host
    return HostSettings(
        concurrency=host.concurrency,
        drain=host.drain_time,
        log_level=host.envoy_log_level,
        stop=DrainSettings(longest=host.drain_time),
    )


async def _run_until_signal(
    machine: Machine,
    envoy: HostProxy,
    beside: Sequence[Beside],
    lost: Callable[[], Awaitable[StateFolderError]],
    stop: asyncio.Event,
) -> None:
    host = machine.settings.host
    async with asyncio.TaskGroup() as tasks:
        proxy = tasks.create_task(envoy.run())
        others = [tasks.create_task(run()) for run in (machine.pipeline.run, *beside)]
        watching = tasks.create_task(_stop_when_lost(lost, stop))
        await stop.wait()
        loss = watching.result() if watching.done() else None
        watching.cancel()
        stop.clear()
        log.info("stopping", drain_seconds=host.drain_time.total_seconds())
        others.append(tasks.create_task(_hurry(stop, envoy)))
        # While it drains, endpoints go on changing: the pipeline ends last. An Envoy whose folder is gone is never left
        # running: nobody would find it.
        await envoy.stop(leave_running=host.leave_running and loss is None)
        await proxy
        for task in others:
            task.cancel()
    if loss is not None:
        raise loss


async def _stop_when_lost(lost: Callable[[], Awaitable[StateFolderError]], stop: asyncio.Event) -> StateFolderError:
    loss = await lost()
    log.error("state folder is gone", problem=str(loss))
    stop.set()
    return loss


async def _hurry(stop: asyncio.Event, envoy: HostProxy) -> None:
    await stop.wait()
    await envoy.stop(leave_running=False)
