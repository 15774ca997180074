"""The models of several engines at once, served by one real Envoy: what golden answers and `explain` are held against.

Each engine has its own names in the proxy (route tables, clusters, secrets begin with the name of the case) and its own
ports: a declared port, on each declared address, is a free one on loopback. Endpoints are replaced by backends that say
their Service's name. All else is as in production: our builders, our xDS server, the runtime of our bootstrap.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import final

import msgspec
from google.protobuf.message import Message

from portway.envoy.cluster import build_cluster
from portway.envoy.endpoint import build_endpoints
from portway.envoy.http3 import build_http3_listener
from portway.envoy.http_connection_manager import Peer
from portway.envoy.listener import build_listener, socket_address
from portway.envoy.names import cluster_key, listener_name, secret_name, virtual_host_name
from portway.envoy.route_configuration import build_route_configuration
from portway.envoy.secret import build_secret
from portway.envoy.shared_manager import build_shared_manager
from portway.envoy.udp import build_composite_cluster, build_composite_endpoints, build_udp_listener, needs_composite
from portway.envoy.virtual_host import build_virtual_host
from portway.incremental import Engine
from portway.model.edge import Edge
from portway.model.handles import (
    ENDPOINTS,
    LISTENER,
    SECRET,
    SECRET_USES,
    SOCKETS,
    TABLE,
    TABLES,
    UPSTREAM,
    UPSTREAM_USES,
    VIRTUAL_HOST,
    VIRTUAL_HOSTS,
)
from portway.model.listener import Chain, HttpHandler, Listener, TcpHandler
from portway.model.names import HostKey, SecretKey, SocketKey, TableKey, Transport, UpstreamKey
from portway.model.resource import Readiness, Resource, ResourceDelta, ResourceKey, ResourceType, make_resource
from portway.model.upstream import Discovery, Endpoint, Endpoints, Protocol, Upstream, UpstreamTls
from portway.xds.messages import Outcome, Refusal
from portway.xds.server import DiscoveryServer
from tests.envoy.world import real_settings
from tests.kit.backends import Backend, Backends, Kind
from tests.kit.certificates import Authority
from tests.kit.envoy import EnvoyProcess, minimal_bootstrap, running_envoy
from tests.kit.lab import eventually
from tests.kit.ports import Ports

LOOPBACK = "127.0.0.1"
FLEET = "lab"  # `node.cluster` of the kit's bootstrap
KINDS = {Protocol.HTTP2: Kind.HTTP2, Protocol.TCP: Kind.TCP, Protocol.UDP: Kind.UDP}
AUTHORITY = Authority()
"""Signs the certificates of backends, unless a case has its own."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A settled engine that is to be served."""

    name: str
    """Unique among the cases; letters, digits and `-`."""
    engine: Engine
    edge: Edge = Edge()
    passed_to: Kind = Kind.TCP
    """What stands behind TLS that is passed through."""
    authority: Authority = AUTHORITY
    """Signs the certificates of backends that speak TLS."""
    always_endpoints: bool = False
    """Give upstreams without endpoints one all the same."""


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """What runs."""

    envoy: EnvoyProcess
    ports: Mapping[tuple[str, SocketKey], int]
    """The real port of each case's socket."""
    backends: Mapping[str, Backend]

    def port(self, case: str, port: int, *, address: str = "", transport: Transport = Transport.TCP) -> int | None:
        """The real port for a declared one; of several addresses the given one, else the first. `None`: nothing
        listens there."""
        found = sorted(
            (key.address != address, key.address, real)
            for (name, key), real in self.ports.items()
            if name == case and key.port == port and key.transport is transport
        )
        return found[0][2] if found else None


@asynccontextmanager
async def live(*cases: Case) -> AsyncIterator[Live]:
    """Run an Envoy with all the cases; when the block begins it holds everything and listens everywhere.

    Raises:
        AssertionError: it refused something.
    """
    outcomes: list[Outcome] = []
    server = DiscoveryServer(on_outcome=lambda _fleet, _proxy, outcome: outcomes.append(outcome))
    with tempfile.TemporaryDirectory(prefix="pw") as folder, Ports() as free:
        async with Backends() as backends:
            crew = _Crew(backends)
            ports: dict[tuple[str, SocketKey], int] = {}
            resources: list[Resource] = []
            for case in cases:
                maker = _Maker(case, await crew.endpoints_of(case), free)
                resources += maker.resources()
                ports.update(maker.ports)
            server.apply(FLEET, ResourceDelta(changed=tuple(resources)))
            server.mark_synced(FLEET)
            socket = Path(folder) / "ads.sock"
            await server.start(f"unix:{socket}")
            try:
                async with running_envoy(Path(folder), minimal_bootstrap(socket), change=real_settings) as envoy:
                    await _until_live(server, envoy, resources, outcomes)
                    yield Live(envoy=envoy, ports=ports, backends=crew.running)
            finally:
                await server.stop()


async def _until_live(
    server: DiscoveryServer, envoy: EnvoyProcess, resources: list[Resource], outcomes: list[Outcome]
) -> None:
    keys = [resource.key for resource in resources]
    listeners = sum(key.type is ResourceType.LISTENER for key in keys)

    async def is_live() -> bool:
        refused = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        assert not refused, refused
        if not server.fleet(FLEET).progress(keys).complete:
            return False
        states = await envoy.statistics("(listener_manager|server.state)")
        # Of routes and hosts an ACK comes before the workers have them; a listener is active when all of it is there.
        return (
            states["server.state"] == 0
            and not states["listener_manager.total_listeners_warming"]
            and states["listener_manager.total_listeners_active"] == listeners
        )

    await eventually(is_live, seconds=60)
    await asyncio.sleep(0.05)


@final
class _Crew:
    """The backends: one for each name and way of speaking."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self.running: dict[str, Backend] = {}

    async def endpoints_of(self, case: Case) -> Mapping[UpstreamKey, tuple[Upstream, Endpoints]]:
        """The upstreams of a case, under names of their own, with endpoints that exist."""
        found: dict[UpstreamKey, tuple[Upstream, Endpoints]] = {}
        passed = _passed_to(case.engine)
        for _, key in sorted(case.engine.groups(UPSTREAM_USES)):
            upstream = case.engine.get(UPSTREAM, key)
            if upstream is None:
                continue
            dns = upstream.discovery is Discovery.DNS
            empty = not dns and not case.engine.get(ENDPOINTS, key).endpoints and not case.always_endpoints
            endpoints = Endpoints()
            if not empty:
                backend = await self._backend(case, key.name, upstream, passed=key in passed)
                endpoints = Endpoints(endpoints=(Endpoint(address=backend.host, port=backend.port),))
            named = msgspec.structs.replace(
                upstream,
                name=f"{case.name}~{upstream.name}",
                discovery=Discovery.ENDPOINTS,
                health_check=None,
                tls=_tls(case.name, upstream.tls),
            )
            found[key] = named, endpoints
        return found

    async def _backend(self, case: Case, service: str, upstream: Upstream, *, passed: bool) -> Backend:
        kind = case.passed_to if passed else KINDS.get(upstream.protocol, Kind.HTTP1)
        name = f"{service}/{kind}"
        pair = None
        if passed or upstream.tls is not None:
            shown = (upstream.tls.sni if upstream.tls is not None else "") or "backend.test"
            name += f"/{shown}/{id(case.authority)}"
            pair = case.authority.issue(shown) if name not in self.running else None
        if name not in self.running:
            self.running[name] = await self._backends.start(name, kind, tls=pair)
        return self.running[name]


def _tls(case: str, tls: UpstreamTls | None) -> UpstreamTls | None:
    """TLS to a backend of ours, with the case's key material."""
    if tls is None:
        return None
    if tls.system_authorities:
        # No authority of the system signs for us; all else is verified.
        tls = msgspec.structs.replace(tls, system_authorities=False, names=())
    return msgspec.structs.replace(
        tls,
        authorities=_secret_key(case, tls.authorities) if tls.authorities is not None else None,
        certificate=_secret_key(case, tls.certificate) if tls.certificate is not None else None,
    )


def _secret_key(case: str, key: SecretKey) -> SecretKey:
    # The default certificate has no source to rename; all cases share it.
    return key._replace(sources=tuple(one._replace(name=f"{case}~{one.name}") for one in key.sources))


def _passed_to(engine: Engine) -> frozenset[UpstreamKey]:
    """The upstreams that TLS is passed through to."""
    listeners = [engine.get(LISTENER, socket) for socket in engine.groups(SOCKETS)]
    handlers = [
        chain.handler
        for listener in listeners
        for chain in (listener.chains if listener is not None else ())
        if chain.passthrough and isinstance(chain.handler, TcpHandler)
    ]
    return frozenset(
        share.upstream for handler in handlers for share in handler.upstreams if share.upstream is not None
    )


@final
class _Maker:
    """The resources of one case, under names of its own."""

    def __init__(self, case: Case, upstreams: Mapping[UpstreamKey, tuple[Upstream, Endpoints]], free: Ports) -> None:
        self.case = case
        self.engine = case.engine
        self.upstreams = upstreams
        self.ports = {(case.name, key): free.take() for key in sorted(self.engine.groups(SOCKETS))}

    def cluster(self, key: UpstreamKey) -> str:
        """Name of a cluster as the builders want to know it."""
        found = self.upstreams.get(key)
        return found[0].name if found is not None else ""

    def resources(self) -> list[Resource]:
        found: list[Resource] = []
        for upstream, endpoints in self.upstreams.values():
            found.append(_resource(build_cluster(upstream), ResourceType.CLUSTER, readiness=Readiness.ENDPOINTS))
            found.append(
                _resource(
                    build_endpoints(upstream.name, endpoints.endpoints), ResourceType.ENDPOINTS, name=upstream.name
                )
            )
        for _, key in sorted(self.engine.groups(SECRET_USES)):
            secret = self.engine.get(SECRET, key)
            if secret is not None:
                name = secret_name(self._secret_key(key))
                found.append(_resource(build_secret(name, key.use, secret), ResourceType.SECRET))
        for table in sorted(self.engine.groups(TABLES)):
            built = build_route_configuration(self._table(table).name, self.engine.get(TABLE, table))
            found.append(_resource(built, ResourceType.ROUTES))
        found += [host for key in sorted(self.engine.groups(VIRTUAL_HOSTS)) for host in self._host(key)]
        for socket in sorted(self.engine.groups(SOCKETS)):
            listener = self.engine.get(LISTENER, socket)
            if listener is None:
                del self.ports[self.case.name, socket]
            else:
                found += self._listener(listener)
        return found

    def _table(self, table: TableKey) -> TableKey:
        return table._replace(name=f"{self.case.name}~{table.name}")

    def _secret_key(self, key: SecretKey) -> SecretKey:
        return _secret_key(self.case.name, key)

    def _host(self, key: HostKey) -> list[Resource]:
        host = self.engine.get(VIRTUAL_HOST, key)
        if host is None:
            return []
        used: set[str] = set()

        def cluster(upstream: UpstreamKey) -> str:
            name = self.cluster(upstream)
            used.update({name} if name else ())
            return name

        name = virtual_host_name(key._replace(table=self._table(key.table)))
        built = build_virtual_host(name, host, cluster)
        return [_resource(built, ResourceType.VIRTUAL_HOST, requires=tuple(map(cluster_key, sorted(used))))]

    def _chain(self, chain: Chain) -> Chain:
        if isinstance(chain.handler, HttpHandler):
            handler = msgspec.structs.replace(chain.handler, table=self._table(chain.handler.table))
            chain = msgspec.structs.replace(chain, handler=handler)
        if chain.tls is None:
            return chain
        tls = msgspec.structs.replace(
            chain.tls,
            certificates=tuple(map(self._secret_key, chain.tls.certificates)),
            client_authorities=self._secret_key(chain.tls.client_authorities) if chain.tls.client_authorities else None,
        )
        return msgspec.structs.replace(chain, tls=tls)

    def _listener(self, listener: Listener) -> list[Resource]:
        key = listener.key._replace(address=LOOPBACK, port=self.ports[self.case.name, listener.key])
        moved = msgspec.structs.replace(listener, key=key, chains=tuple(map(self._chain, listener.chains)))
        edge = self.case.edge
        if moved.udp is None:
            managers = [build_shared_manager(moved, edge, peer) for peer in Peer]
            shared = [_resource(one, ResourceType.EXTENSION) for one in managers if one is not None]
            built = [build_listener(moved, edge, self.cluster)]
            quic = build_http3_listener(moved, edge) if moved.http3 else None
            built += [quic] if quic is not None else []
            return [*shared, *(_resource(one, ResourceType.LISTENER) for one in built)]
        udp = build_udp_listener(moved, socket_address(key), edge, self.cluster)
        found = [_resource(udp, ResourceType.LISTENER)]
        if needs_composite(moved.udp):
            shares = [
                (share, self.upstreams[share.upstream][1] if share.upstream is not None else None)
                for share in moved.udp.upstreams
                if share.weight > 0
            ]
            name = listener_name(key)
            found.append(_resource(build_composite_cluster(name), ResourceType.CLUSTER))
            found.append(_resource(build_composite_endpoints(name, shares), ResourceType.ENDPOINTS, name=name))
        return found


def _resource(
    message: Message,
    kind: ResourceType,
    *,
    name: str = "",
    requires: tuple[ResourceKey, ...] = (),
    readiness: Readiness = Readiness.AT_ONCE,
) -> Resource:
    named = name or str(getattr(message, "name"))  # noqa: B009 - every type but endpoints has the field
    body = message.SerializeToString(deterministic=True)
    return make_resource(ResourceKey(kind, named), body, requires=requires, readiness=readiness)
