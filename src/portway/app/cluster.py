"""What Portway does in a cluster besides serving it: reads what is declared there, and says what becomes of it.

Every replica reads and judges; the one that holds the Lease writes statuses, Events and, where proxies run in the
cluster, the objects that they are made of. Whoever does not lead tells the leader what its own proxies hold.
"""

import asyncio
import secrets
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from ipaddress import ip_address
from typing import Final, final

import structlog

from portway.identity.contract import REPLICA_NAME, REPLICA_PORT
from portway.identity.serving import ServingIdentity, is_replica
from portway.infra.kubernetes.names import controller_label
from portway.kubernetes.client import ApiClient
from portway.kubernetes.connection import connect
from portway.model.condition import Reported
from portway.model.fleet import Fleet, InfrastructureKind
from portway.model.resource import ResourceDelta
from portway.objects.verdict import ObjectKey
from portway.settings import Settings
from portway.sources.kubernetes.definitions import DefinitionWatch, Versions
from portway.status.events import EventWriter
from portway.status.exchange import Exchange
from portway.status.leader import Elector, Work
from portway.status.merge import LoadBalancerAddress
from portway.status.news import NewsDesk
from portway.status.replicas import Replicas, Teller
from portway.status.service import StatusService
from portway.status.writer import StatusWriter, WriterSettings
from portway.xds.server import DiscoveryServer

log = structlog.get_logger(__name__)

HEARD: Final = timedelta(seconds=3)
"""After which all followers have found a new leader: they watch the Lease, or look at it every two seconds."""


def label_of(settings: Settings, namespace: str) -> str:
    """What tells this Portway's objects from those of others in the cluster.

    Args:
        namespace: where it is installed. Two that claim the same classes by mistake would else change each other's
            objects for ever, as each wants its own address and authorities in them.
    """
    return controller_label(settings.edge.gateway_controller, namespace)


def lease_of(settings: Settings, namespace: str) -> str:
    """The Lease for which replicas of one Portway stand.

    On machines of their own several may look at different parts of a cluster, each the only one to write the statuses
    there. In a cluster the replicas of two versions, while the one replaces the other, must not both lead.
    """
    sources, edge = settings.sources, settings.edge
    label = label_of(settings, namespace)
    if settings.cluster.infrastructure != InfrastructureKind.KUBERNETES:
        scope = f"{edge.controller_class};{','.join(sorted(sources.watch_namespaces))};{sources.watch_selector}"
        label = controller_label(label, scope)
    return f"portway-{label.rpartition('-')[2]}"


async def join_cluster(
    settings: Settings,
    discovery: DiscoveryServer,
    stack: AsyncExitStack,
    *,
    learn: Callable[[Versions], None],
    is_certain: Callable[[], bool],
) -> "tuple[ApiClient, ClusterSide | None]":
    """For a Portway on a machine of its own: a client of the cluster, and what is done there, if anything.

    Args:
        learn, is_certain: as for `ClusterSide`.

    Raises:
        ConnectionProblem: how to reach it cannot be found out; the message says why and what to do.
    """
    client = ApiClient(await connect(settings.sources.kubeconfig, settings.sources.context))
    stack.push_async_callback(client.close)
    if not settings.cluster.write_status:
        return client, None
    namespace = settings.cluster.system_namespace or client.connection.namespace or "default"
    side = ClusterSide(client, settings, discovery, namespace=namespace, learn=learn, is_certain=is_certain)
    return client, side


@final
class ClusterSide:
    """`portway.app.pipeline.Follower` of a Portway whose objects live in a cluster."""

    def __init__(
        self,
        client: ApiClient,
        settings: Settings,
        discovery: DiscoveryServer,
        *,
        namespace: str,
        learn: Callable[[Versions], None],
        is_certain: Callable[[], bool],
        identity: ServingIdentity | None = None,
        lead: Sequence[Work] = (),
        is_busy: Callable[[], bool] = lambda: False,
        is_informed: Callable[[], bool] = lambda: True,
    ) -> None:
        """
        Args:
            namespace: of the Lease.
            learn: gets the versions of Gateway API's definitions, for the engine's input `GATEWAY_DEFINITIONS`.
            is_certain: whether what is not ours for all we know is not ours.
            identity: what replicas show one another; `None`: there is only this one.
            lead: what else only the leader does.
            is_busy: whether something is being made that proxies wait for: statuses can wait for that.
            is_informed: whether what was read of the cluster is up to date; who is not should not lead.
        """
        self._settings = settings
        self._lead_too = tuple(lead)
        self._reached: dict[ObjectKey, tuple[tuple[str, str], ...]] = {}
        """Where Ingresses are served, as (type, value)."""
        self._completed = asyncio.Event()
        self._serving = identity
        controller, name = settings.edge.gateway_controller, settings.cluster.pod_name or socket.gethostname()
        # Another life of the same pod is another candidate.
        candidate = f"{name}_{secrets.token_hex(4)}"
        address = replica_address(settings.cluster.pod_ips) if identity is not None else ""
        lease = lease_of(settings, namespace)
        self.elector = Elector(
            client, namespace=namespace, name=lease, identity=candidate, address=address, is_informed=is_informed
        )
        self.writer = StatusWriter(
            client,
            controller=controller,
            namespaces=settings.sources.watch_namespaces,
            settings=WriterSettings(
                writes_per_second=settings.cluster.status_writes_per_second,
                heard=timedelta(0) if identity is None else HEARD,
            ),
            may_write=lambda: self.elector.is_leader,
            is_busy=is_busy,
        )
        self._definitions = DefinitionWatch(client, learn)
        desk = NewsDesk()
        self._events = EventWriter(client, desk, controller=controller, instance=name)
        replicas, teller = Replicas(), Teller()
        self.status = StatusService(
            discovery.fleets,
            self.writer,
            replicas=replicas,
            teller=teller if identity is not None else None,
            desk=desk,
            addresses=self._load_balancer,
            is_certain=is_certain,
        )
        self._exchange: Exchange | None = None
        if identity is not None:
            self._exchange = Exchange(
                replicas,
                teller,
                identity=candidate,
                on_heard=self.status.others_said,
                on_change=self.status.others_changed,
                authorize=is_replica,
                client=identity.replica_contexts()[1],
                server_name=REPLICA_NAME,
            )
            self.status.use(self._exchange)

    # Follower.

    def reported(self, changed: Mapping[ObjectKey, Reported], removed: Iterable[ObjectKey]) -> None:
        for key, reported in changed.items():
            if key.kind == "Ingress":
                self._reached[key] = reported.report.addresses
        for key in removed:
            self._reached.pop(key, None)
        self.status.reported(changed.values(), removed)

    def fleets_changed(self, changed: Mapping[str, Fleet], removed: frozenset[str]) -> None:
        pass

    def published(self, fleet: str, delta: ResourceDelta) -> None:
        self.status.published(fleet, delta)

    def completed(self) -> None:
        self._completed.set()

    # Work.

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.status.run())
            looking = tasks.create_task(self._look())
            if self._exchange is not None and self._serving is not None:
                await self._serving.wait_known()
                await self._exchange.start(self._settings.cluster.listen_address, REPLICA_PORT, self._server_context())
                tasks.create_task(self._exchange.follow(self.elector))
            # Who leads writes: nobody should before all that is declared is known.
            await self._completed.wait()
            await looking
            tasks.create_task(self.elector.run(self._lead))

    async def stop(self) -> None:
        """Listen no more."""
        if self._exchange is not None:
            await self._exchange.stop()

    async def _look(self) -> None:
        """Know what a GatewayClass says of the cluster before it is written: else each new leader would take it out
        and put it back."""
        if self._settings.cluster.write_status:
            await self._definitions.look()

    def _server_context(self) -> ssl.SSLContext | None:
        return None if self._serving is None else self._serving.replica_contexts()[0]

    async def _lead(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            told = (self.writer.run, self._events.run, self._definitions.run)
            for work in (*(told if self._settings.cluster.write_status else ()), *self._lead_too):
                tasks.create_task(work())
            if self._exchange is not None:
                tasks.create_task(self._exchange.lead())

    def _load_balancer(self, key: ObjectKey) -> tuple[LoadBalancerAddress, ...] | None:
        found = self._reached.get(key)
        if found is None:
            return None
        return tuple(
            LoadBalancerAddress(ip=value) if kind == "IPAddress" else LoadBalancerAddress(hostname=value)
            for kind, value in found
        )


def replica_address(pod_ips: str) -> str:
    """Where other replicas reach this one; empty if nobody knows."""
    first = pod_ips.partition(",")[0].strip()
    if not first:
        return ""
    return f"[{first}]:{REPLICA_PORT}" if ip_address(first).version == 6 else f"{first}:{REPLICA_PORT}"
