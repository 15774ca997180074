"""`portway run --infrastructure kubernetes`: a control plane whose proxies run elsewhere in the cluster.

    cluster objects -> pipeline -> discovery over mutual TLS -> proxies of each Gateway and IngressClass
                              `-> fleets -> Deployments, Services ... (the leader)
                              `-> reports, acknowledgements -> statuses, Events (the leader)

Any number of replicas may run: each serves the proxies that come to it. It is ready when all that is declared has been
compiled and proxies can come: the authorities are known, and it listens. Proxies that are there already go on with what
they hold until then. Its end takes nothing from anybody.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, final

import msgspec
import structlog

from portway.app import collector
from portway.app.beside import runs_beside
from portway.app.cluster import ClusterSide, label_of
from portway.app.compiler import make_engine
from portway.app.console import Console
from portway.app.declared import Declared, knows_owners, make_source
from portway.app.fallback import load_fallback_certificate
from portway.app.live_settings import SettingsFile
from portway.app.machine import Machine, compiled_edge
from portway.app.pipeline import Pipeline
from portway.app.signals import ending_signals
from portway.envoy.position import position_marker
from portway.identity.authorisation import FleetAuthorization
from portway.identity.authorities import Authority, bundle
from portway.identity.contract import IDENTITY_PORT, MAX_CONNECTIONS_VARIABLE, SYSTEM_NAMESPACE, XDS_PORT
from portway.identity.issuer import Issuer, Owner
from portway.identity.keeper import AuthorityKeeper
from portway.identity.places import Places
from portway.identity.service import IssuingService
from portway.identity.serving import ServingIdentity
from portway.identity.tokens import TokenReviewer
from portway.infra.kubernetes.applier import FleetApplier
from portway.infra.kubernetes.data_plane import DataPlane, any_addresses
from portway.infra.kubernetes.inventory import Inventory
from portway.infra.kubernetes.names import account_of
from portway.infra.kubernetes.observer import FleetObserver
from portway.infra.kubernetes.own_pod import find_own_image
from portway.infra.kubernetes.owners import Owners
from portway.infra.state import StateFolder
from portway.kubernetes.client import ApiClient
from portway.kubernetes.connection import connect
from portway.model.condition import Reported
from portway.model.fleet import Fleet, Infrastructure, InfrastructureKind, ObservedFleet, is_of_gateway, owner_of
from portway.model.handles import INFRASTRUCTURE, OBSERVED_FLEET
from portway.model.resource import ResourceDelta
from portway.objects.verdict import ObjectKey
from portway.settings import Edge, Settings
from portway.sources.kubernetes.source import KubernetesSource
from portway.store import ChangeSet
from portway.xds.credentials import mutual_tls
from portway.xds.messages import Outcome
from portway.xds.positions import Marker
from portway.xds.server import DiscoveryServer

log = structlog.get_logger(__name__)

MAX_CONNECTIONS: Final = Edge().max_connections
"""What a proxy goes by that is told nothing."""
LAG: Final = 1.0
"""Seconds that a replica may be behind others before it lists anew what it has not read."""
TOUCH: Final = 0.5
"""Seconds between two looks whether the API server can be reached."""
LOOK: Final = 0.05
"""Seconds between two looks whether all of our own objects have been listed."""


@final
class ObservedFirst:
    """A source without objects: it is complete when our own objects in the cluster have been listed. Else each start
    would take the addresses out of all statuses and put them back."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    async def changes(self) -> AsyncIterator[ChangeSet]:
        while not self._inventory.is_settled:  # noqa: ASYNC110 - some tenths once
            await asyncio.sleep(LOOK)
        yield ChangeSet(synced=True)


@final
class ReadPositions:
    """`portway.app.pipeline.Positions`: that no proxy is taken back in time by a replica that lags."""

    def __init__(self, source: KubernetesSource, discovery: DiscoveryServer) -> None:
        self._source = source
        self._discovery = discovery

    def announce(self) -> None:
        self._discovery.announce(self._source.newest())

    def reach(self) -> None:
        position = self._source.handed_out()
        if not position:
            return  # more has come since the first configuration began: soon
        awaited = self._discovery.reach(position, self._source.as_of())
        for kind, shown in awaited.items():
            if time.monotonic() > shown.since + LAG:  # mostly a moment is enough
                self._source.list_since(kind, shown.version, shown.since)


@final
class Fleets:
    """`portway.app.pipeline.Follower`: what becomes of fleets."""

    def __init__(self, applier: FleetApplier, discovery: DiscoveryServer) -> None:
        self._applier = applier
        self._discovery = discovery

    def reported(self, changed: Mapping[ObjectKey, Reported], removed: object) -> None:
        pass

    def fleets_changed(self, changed: Mapping[str, Fleet], removed: frozenset[str]) -> None:
        self._applier.want(changed, removed)
        for name in removed:
            self._discovery.drop(name)

    def published(self, fleet: str, delta: ResourceDelta) -> None:
        pass

    def completed(self) -> None:
        self._applier.complete()


def is_certain(source: KubernetesSource, fleet: str) -> bool:
    """Whether a fleet that is not wanted is wanted by nobody: its owner, and what makes that ours, have been listed. A
    right that is missing, or a namespace that is not watched any more, takes no fleet away."""
    owner = owner_of(fleet)
    if owner is None:
        return False
    if is_of_gateway(fleet):
        return source.has_read("GatewayClass") and source.has_read("Gateway", owner.namespace)
    return source.has_read("IngressClass") and source.has_read("Ingress")


def data_plane(settings: Settings, namespace: str) -> DataPlane:
    """What the settings say of proxies that run elsewhere, unless FleetParameters say otherwise.

    Args:
        namespace: Portway's own.

    Returns:
        Without authorities, and without an image where that of our own pod is meant: both are found out later.
    """
    cluster, edge = settings.cluster, settings.edge
    # Only what is set: a variable more in its template restarts a proxy.
    further = {MAX_CONNECTIONS_VARIABLE: str(edge.max_connections)} if edge.max_connections != MAX_CONNECTIONS else {}
    return DataPlane(
        image=cluster.proxy_image,
        image_pull_policy=cluster.proxy_image_pull_policy,
        control_plane=cluster.discovery_address or f"portway.{namespace}.svc:{XDS_PORT}",
        authorities="",
        controller=label_of(settings, namespace),
        drain=settings.host.drain_time,
        withdrawal=settings.proxy.withdrawal_time,
        variables=further,
        any_address="::" if "::" in any_addresses(cluster.pod_ips) else "0.0.0.0",  # noqa: S104 - `::` is both families
    )


async def run(settings: Settings, console: Console, settings_file: SettingsFile | None = None) -> None:
    """Run until a signal.

    Raises:
        StateFolderError, ConnectionProblem, OSError: it cannot start; the message says why and what to do.
    """
    collector.expect_growth()
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.enter_context(ending_signals(stop))
        state = stack.enter_context(StateFolder(Path(settings.host.state_dir)))
        client = ApiClient(await connect(settings.sources.kubeconfig, settings.sources.context))
        stack.push_async_callback(client.close)
        plane = _ControlPlane(settings, client, stack, state.path)
        beside = runs_beside(plane.machine, console, settings_file, state.path, plane.fallback)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(work()) for work in (plane.run, *beside)]
            await stop.wait()
            log.info("stopping")
            for task in running:
                task.cancel()
    log.info("stopped")


@final
class _ControlPlane:
    """The parts of one run."""

    def __init__(self, settings: Settings, client: ApiClient, stack: AsyncExitStack, state: Path) -> None:
        cluster = settings.cluster
        self._settings = settings
        self._client = client
        self._stack = stack
        self._namespace = cluster.system_namespace or client.connection.namespace or SYSTEM_NAMESPACE
        self.fallback = load_fallback_certificate(state)

        self._serving = ServingIdentity(
            (f"portway.{self._namespace}.svc", f"portway.{self._namespace}.svc.cluster.local")
        )
        self._keeper = AuthorityKeeper(client, self._namespace, self._use_authorities)
        self._issuer = Issuer(TokenReviewer(client), self._owner, Places(client).of)

        self._inventory = Inventory(label_of(settings, self._namespace))
        self._plane = data_plane(settings, self._namespace)
        self._image_known = asyncio.Event()
        if cluster.proxy_image:
            self._image_known.set()
        self._applier = FleetApplier(
            client,
            self._inventory,
            self._plane,
            self._observed,
            may_write=lambda: self._side.elector.is_leader,
            is_certain=lambda fleet: is_certain(source, fleet),
            is_asked_for=Owners(client, settings.edge).want,
        )
        self._observer = FleetObserver(
            client,
            self._inventory,
            namespaces=_with(settings.sources.watch_namespaces, self._namespace),
            needs_nodes=lambda: self._applier.needs_nodes,
        )

        marker, endpoints = position_marker()
        self.discovery = DiscoveryServer(
            authorize=FleetAuthorization(self._owner),
            fleets_known=lambda: self.pipeline.wait_synced(),
            on_outcome=self._answered,
            marker=Marker(cluster=marker, endpoints=endpoints),
        )
        engine = make_engine(compiled_edge(settings.edge), self.fallback)
        infrastructure = Infrastructure(
            kind=InfrastructureKind.KUBERNETES,
            namespace=self._namespace,
            bind_addresses=any_addresses(cluster.pod_ips),
        )
        engine.set(INFRASTRUCTURE, None, infrastructure)
        source = make_source(client, settings)
        self._side = ClusterSide(
            client,
            settings,
            self.discovery,
            namespace=self._namespace,
            learn=lambda versions: self.machine.use_definitions(versions),
            identity=self._serving,
            lead=[self._make_fleets],
            is_busy=lambda: self.pipeline.is_busy,
            is_informed=lambda: source.is_current,
            is_certain=lambda: knows_owners(source),
        )
        declared = Declared(cluster=source)
        self._source = source
        self.pipeline = Pipeline(
            engine,
            [*declared.sources, ObservedFirst(self._inventory)],
            self._publish,
            mark_synced=self.discovery.mark_synced,
            fleets=[],
            followers=[Fleets(self._applier, self.discovery), self._side],
            positions=ReadPositions(source, self.discovery),
        )
        self._listens = False
        self.machine = Machine(
            settings,
            self.pipeline,
            declared,
            self.discovery,
            closed_because=self._closed_because,
            fleet_work=self._applier.statistics,
        )

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for work in (self._keeper.run, self._serving.run, self._observer.run, self.pipeline.run, self._side.run):
                tasks.create_task(work())
            tasks.create_task(self._send_on())
            if not self._plane.image:
                tasks.create_task(self._find_image())
            await self._serving.wait_known()
            address = self._settings.cluster.listen_address
            host = f"[{address}]" if ":" in address else address
            await self.discovery.start(f"{host}:{XDS_PORT}", mutual_tls(self._serving.credentials))
            self._stack.push_async_callback(self.discovery.stop)
            # Proxies that come before all is known would be told that there is no fleet of theirs.
            await self.pipeline.wait_synced()
            identity = IssuingService(self._issuer, self._serving.server_context())
            await identity.start(address, IDENTITY_PORT)
            self._stack.push_async_callback(identity.stop)
            self._listens = True

    async def _send_on(self) -> None:
        """Let proxies look for another replica while this one reads nothing."""
        while True:
            self.discovery.note_cut_off(self._source.is_cut_off)
            await asyncio.sleep(TOUCH)

    def _closed_because(self) -> str:
        """Why no proxy can come yet."""
        return "" if self._listens else self._keeper.problem or "discovery does not listen yet"

    async def _make_fleets(self) -> None:
        await self._image_known.wait()
        await self._applier.run()

    async def _find_image(self) -> None:
        pod = self._settings.cluster.pod_name or socket.gethostname()
        image = await find_own_image(self._client, self._namespace, pod)
        self._plane = msgspec.structs.replace(self._plane, image=image)
        self._applier.use_plane(self._plane)
        self._image_known.set()

    def _use_authorities(self, authorities: tuple[Authority, ...]) -> None:
        self._serving.use(authorities)
        self._issuer.use(authorities)
        self._plane = msgspec.structs.replace(self._plane, authorities=bundle(authorities).decode())
        self._applier.use_plane(self._plane)

    def _owner(self, fleet: str) -> Owner | None:
        """Under which ServiceAccount a fleet's proxies run; `None`: there is no such fleet."""
        if fleet not in self.discovery.fleets():
            return None
        account = account_of(fleet, self._namespace)
        return None if account is None else Owner(namespace=account.namespace, service_account=account.name)

    def _observed(self, fleet: str, observed: ObservedFleet) -> None:
        self.pipeline.set_input(OBSERVED_FLEET, fleet, observed)

    def _publish(self, fleet: str, delta: ResourceDelta) -> None:
        if delta.changed or fleet in self.discovery.fleets() or not delta.removed:
            self.discovery.apply(fleet, delta)

    def _answered(self, fleet: str, proxy: str, outcome: Outcome) -> None:
        self._side.status.answered(fleet, proxy, outcome)


def _with(namespaces: tuple[str, ...], own: str) -> tuple[str, ...]:
    """Where fleets can be; empty: everywhere."""
    return tuple(dict.fromkeys((*namespaces, own))) if namespaces else ()
