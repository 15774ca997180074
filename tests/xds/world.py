"""A fleet of one real Envoy and the server under test, and resources in as few words as tests want them."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from envoy.config.bootstrap.v3 import bootstrap_pb2 as bootstrapv3
from envoy.config.cluster.v3 import cluster_pb2 as clusterv3
from google.protobuf.message import Message

from portway.model.resource import (
    Readiness,
    Resource,
    ResourceDelta,
    ResourceKey,
    ResourceType,
    make_resource,
)
from portway.objects.verdict import ObjectKey
from portway.xds.fleet import FleetState
from portway.xds.messages import Outcome, Overdue, Refusal
from portway.xds.ordering import Timing
from portway.xds.server import DiscoveryServer
from tests.kit.backends import Backends
from tests.kit.envoy import EnvoyProcess, minimal_bootstrap, running_envoy
from tests.kit.lab import eventually
from tests.kit.ports import Ports
from tests.kit.resources import eds_cluster, endpoints, http_listener, route, vhds_routes, virtual_host

FLEET = "lab"  # `node.cluster` of the kit's bootstrap
ROUTES = "gateway/http"


def cluster(name: str, *, readiness: Readiness = Readiness.ENDPOINTS, **fields: object) -> Resource:
    """An EDS cluster."""
    return of(ResourceType.CLUSTER, eds_cluster(name, **fields), readiness=readiness)


def cluster_of(message: clusterv3.Cluster, readiness: Readiness) -> Resource:
    """A cluster built elsewhere."""
    return of(ResourceType.CLUSTER, message, readiness=readiness)


def endpoints_of(name: str, *ports: int) -> Resource:
    """The endpoints of the cluster `name`, on loopback."""
    return of(ResourceType.ENDPOINTS, endpoints(name, *ports), name=name)


def host(name: str, backend: str, *, routes: str = ROUTES, domains: Sequence[str] = ()) -> Resource:
    """A virtual host with one route; requires its cluster."""
    message = virtual_host(f"{routes}/{name}", domains or [name], route(backend))
    required = (ResourceKey(ResourceType.CLUSTER, backend),)
    return of(ResourceType.VIRTUAL_HOST, message, requires=required)


def poisoned_host(name: str, *, routes: str = ROUTES) -> Resource:
    """A virtual host that Envoy refuses: a regular expression that does not compile."""
    bad = {"match": {"safe_regex": {"regex": "(["}}, "direct_response": {"status": 200}}
    origin = ObjectKey("Ingress", "shop", name)
    return of(ResourceType.VIRTUAL_HOST, virtual_host(f"{routes}/{name}", [name], bad), origins=(origin,))


def route_configuration(name: str = ROUTES) -> Resource:
    """A route configuration whose virtual hosts come over VHDS."""
    return of(ResourceType.ROUTES, vhds_routes(name))


def listener(name: str, port: int, *, routes: str = ROUTES) -> Resource:
    """A plain HTTP listener."""
    return of(ResourceType.LISTENER, http_listener(name, port, routes))


def of(
    kind: ResourceType,
    message: Message,
    *,
    name: str = "",
    requires: tuple[ResourceKey, ...] = (),
    readiness: Readiness = Readiness.AT_ONCE,
    origins: tuple[ObjectKey, ...] = (),
) -> Resource:
    """Any message as a resource."""
    named = name or str(getattr(message, "name"))  # noqa: B009 - every type but endpoints has the field
    key = ResourceKey(kind, named)
    body = message.SerializeToString(deterministic=True)
    return make_resource(key, body, requires=requires, readiness=readiness, origins=origins)


class World(msgspec.Struct, kw_only=True):
    """What a test works with."""

    server: DiscoveryServer
    envoy: EnvoyProcess
    backends: Backends
    ports: Ports
    address: str
    timing: Timing
    outcomes: list[Outcome]

    @property
    def fleet(self) -> FleetState:
        """The fleet that the Envoy belongs to."""
        return self.server.fleet(FLEET)

    @property
    def refusals(self) -> list[Refusal]:
        """All so far."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, Refusal)]

    @property
    def overdue(self) -> list[str]:
        """Names of the clusters that were, so far."""
        return [outcome.cluster for outcome in self.outcomes if isinstance(outcome, Overdue)]

    def apply(self, *changed: Resource, removed: Sequence[Resource] = ()) -> None:
        """Change what the fleet shall hold."""
        self.server.apply(FLEET, ResourceDelta(changed=changed, removed=tuple(resource.key for resource in removed)))

    async def delivered(self, *resources: Resource, seconds: float = 15.0) -> None:
        """Wait until Envoy holds these."""
        keys = [resource.key for resource in resources]

        async def complete() -> bool:
            return self.fleet.progress(keys).complete

        await eventually(complete, seconds=seconds)

    async def restart_server(self, *resources: Resource) -> None:
        """End the server and start another one that knows nothing of the past and wants `resources`."""
        await self.server.stop()
        self.server = new_server(self.timing, self.outcomes)
        self.apply(*resources)
        self.server.mark_synced(FLEET)
        await self.server.start(self.address)


def new_server(timing: Timing, outcomes: list[Outcome]) -> DiscoveryServer:
    """A server that notes all outcomes in `outcomes`."""

    def note(fleet: str, proxy: str, outcome: Outcome) -> None:
        outcomes.append(outcome)

    return DiscoveryServer(timing=timing, on_outcome=note)


@asynccontextmanager
async def world(
    *resources: Resource,
    timing: Timing | None = None,
    change: Callable[[bootstrapv3.Bootstrap], None] | None = None,
) -> AsyncIterator[World]:
    """Start everything; the fleet wants `resources` from the beginning. `change`: a last one to Envoy's bootstrap."""
    outcomes: list[Outcome] = []
    patience = timing or Timing()
    server = new_server(patience, outcomes)
    with tempfile.TemporaryDirectory(prefix="pw") as name, Ports() as ports:
        folder = Path(name)
        address = f"unix:{folder}/ads.sock"
        server.apply(FLEET, ResourceDelta(changed=resources))
        server.mark_synced(FLEET)
        await server.start(address)
        async with (
            Backends() as backends,
            running_envoy(folder, minimal_bootstrap(folder / "ads.sock"), change=change) as envoy,
        ):
            it = World(
                server=server,
                envoy=envoy,
                backends=backends,
                ports=ports,
                address=address,
                timing=patience,
                outcomes=outcomes,
            )
            try:
                async with asyncio.timeout(20):
                    await eventually(lambda: _connected(it))
                yield it
            finally:
                await it.server.stop()


async def _connected(it: World) -> bool:
    return bool(it.fleet.sessions)
