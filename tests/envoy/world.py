"""A real Envoy that got what we build over delta ADS, VHDS and SDS included.

async with hosts(host("shop.example", route("/", to("a")))) as proxy:
    assert (await proxy.get("shop.example")).pod == "a"
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import msgspec
from envoy.config.bootstrap.v3 import bootstrap_pb2 as bootstrapv3
from google.protobuf.message import Message

from portway.envoy.bootstrap import BootstrapSettings, build_bootstrap
from portway.envoy.cluster import build_cluster
from portway.envoy.endpoint import build_endpoints
from portway.envoy.http3 import build_http3_listener
from portway.envoy.http_connection_manager import Peer
from portway.envoy.listener import build_listener, socket_address
from portway.envoy.names import secret_name
from portway.envoy.route_configuration import build_route_configuration
from portway.envoy.secret import build_secret
from portway.envoy.shared_manager import build_shared_manager
from portway.envoy.udp import build_composite_cluster, build_composite_endpoints, build_udp_listener, needs_composite
from portway.envoy.virtual_host import build_virtual_host
from portway.model.listener import Chain, HttpHandler, Listener
from portway.model.names import (
    Dialect,
    SecretKey,
    SecretUse,
    SocketKey,
    TableKey,
    UpstreamKey,
    UpstreamKind,
)
from portway.model.route import (
    Action,
    Forward,
    PathKind,
    PathMatch,
    Respond,
    Route,
    RouteMatch,
    RouteTable,
    Source,
    VirtualHost,
    WeightedUpstream,
)
from portway.model.tls import PrivateKey, Secret
from portway.model.upstream import Discovery, Endpoints, Upstream, UpstreamSettings, settings_of
from portway.model.upstream import Endpoint as Target
from portway.objects.verdict import ObjectKey
from portway.settings import Edge
from tests.kit.ads import AdsServer
from tests.kit.answer import Answer, ConnectionFailed
from tests.kit.backends import Backend, Backends
from tests.kit.certificates import KeyPair
from tests.kit.client import fetch
from tests.kit.connect import Endpoint, open_streams
from tests.kit.lab import Laboratory, eventually, laboratory
from tests.kit.ports import free_port

SOURCE = Source(object=ObjectKey("HTTPRoute", "shop", "cart"))
QUIET = Edge(access_log="")
READY = VirtualHost(
    domains=("ready.test",),
    routes=(
        Route(
            name="ready",
            match=RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value="/")),
            action=Respond(status=200),
            source=SOURCE,
        ),
    ),
)
"""Every table has it, to ask whether the table is live."""


class World(msgspec.Struct, frozen=True, kw_only=True):
    """All that one proxy has."""

    listeners: tuple[Listener, ...] = ()
    tables: Mapping[TableKey, tuple[VirtualHost, ...]] = {}
    table: RouteTable = RouteTable()
    """What holds for every table."""
    upstreams: Mapping[UpstreamKey, tuple[Upstream, Endpoints]] = {}
    secrets: Mapping[SecretKey, Secret] = {}
    edge: Edge = QUIET

    def cluster(self, key: UpstreamKey) -> str:
        """Name of a cluster as the builders want to know it."""
        found = self.upstreams.get(key)
        if found is None and settings_of(key.variant) == UpstreamSettings(route_retries=True):
            found = self.upstreams.get(key._replace(variant=""))
            return f"{found[0].name}~retries" if found else ""
        return found[0].name if found else ""


EMPTY = World()


def resources(world: World) -> list[Message]:
    """All messages of a world, built by `portway.envoy`."""
    built: list[Message] = []
    variants = [
        (msgspec.structs.replace(upstream, name=f"{upstream.name}~retries", route_retries=True), endpoints)
        for upstream, endpoints in world.upstreams.values()
    ]
    for upstream, endpoints in (*world.upstreams.values(), *variants):
        built.append(build_cluster(upstream))
        if upstream.discovery is Discovery.ENDPOINTS:
            zone = world.edge.zone if upstream.balancer.zone_aware else ""
            built.append(build_endpoints(upstream.name, endpoints.endpoints, zone))
    for key, secret in world.secrets.items():
        built.append(build_secret(secret_name(key), key.use, secret))
    for table, hosts in world.tables.items():
        built.append(build_route_configuration(table.name, world.table))
        built.extend(
            build_virtual_host(f"{table.name}/{host.domains[0]}", host, world.cluster) for host in (READY, *hosts)
        )
    for listener in world.listeners:
        built.extend(_listener(listener, world))
    return built


def _listener(listener: Listener, world: World) -> Iterable[Message]:
    if listener.udp is None:
        managers = (build_shared_manager(listener, world.edge, peer) for peer in Peer)
        yield from (manager for manager in managers if manager is not None)
        yield build_listener(listener, world.edge, world.cluster)
        quic = build_http3_listener(listener, world.edge) if listener.http3 else None
        if quic is not None:
            yield quic
        return
    built = build_udp_listener(listener, socket_address(listener.key), world.edge, world.cluster)
    yield built
    if needs_composite(listener.udp):
        shares = [
            (share, world.upstreams[share.upstream][1] if share.upstream else None)
            for share in listener.udp.upstreams
            if share.weight > 0
        ]
        yield build_composite_cluster(built.name)
        yield build_composite_endpoints(built.name, shares)


def real_settings(bootstrap: bootstrapv3.Bootstrap) -> None:
    """Give a laboratory's Envoy the runtime values and statistics of our own bootstrap."""
    ours = build_bootstrap(BootstrapSettings(node_id="lab", fleet="lab"))
    bootstrap.layered_runtime.CopyFrom(ours.layered_runtime)


@asynccontextmanager
async def serving(world: World, *, log_level: str = "warning") -> AsyncIterator[Laboratory]:
    """Run Envoy with the world; when the block begins everything is live and nothing was refused."""
    ads = AdsServer()
    ads.put(*resources(world))
    async with laboratory(ads=ads, change=real_settings, log_level=log_level) as lab:
        await wait_live(lab, world)
        assert not ads.refusals
        assert (await lab.envoy.statistics("runtime.deprecated_feature_use"))["runtime.deprecated_feature_use"] == 0
        yield lab


async def wait_live(lab: Laboratory, world: World) -> None:
    """Until Envoy has everything and listens. A port opens only when its route table has its hosts."""
    ports = [listener.key.port for listener in world.listeners if listener.udp is None]

    async def live() -> bool:
        assert not lab.ads.refusals
        states = await lab.envoy.statistics("(listener_manager|server.state)")
        if states["server.state"] != 0 or states["listener_manager.total_listeners_warming"]:
            return False
        if states["listener_manager.total_listeners_active"] < len(world.listeners):
            return False
        return all([await is_open(port) for port in ports])

    await eventually(live)


async def is_open(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        _, writer = await open_streams(Endpoint(port=port))
    except ConnectionFailed:
        return False
    writer.close()
    return True


def upstream_key(name: str, variant: str = "") -> UpstreamKey:
    return UpstreamKey(UpstreamKind.SERVICE, "shop", name, 80, variant)


def at(*backends: Backend) -> Endpoints:
    """The endpoints of some backends."""
    return Endpoints(endpoints=tuple(sorted(Target(address=backend.host, port=backend.port) for backend in backends)))


def to(*names: str) -> Forward:
    """Forward to upstreams in equal shares; an empty name cannot be used."""
    return Forward(upstreams=tuple(WeightedUpstream(upstream=upstream_key(name) if name else None) for name in names))


def prefix(path: str) -> RouteMatch:
    return RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value=path))


TABLE = TableKey("host", "test:http", Dialect.GATEWAY)


def http_listener(port: int, table: TableKey = TABLE) -> Listener:
    """Plain HTTP on loopback."""
    chain = Chain(name="http", handler=HttpHandler(table=table), source=SOURCE)
    return Listener(key=SocketKey("host", "127.0.0.1", port), chains=(chain,))


def certificate_key(name: str) -> SecretKey:
    return SecretKey(SecretUse.CERTIFICATE, (ObjectKey("Secret", "shop", name),))


def authorities_key(name: str) -> SecretKey:
    return SecretKey(SecretUse.AUTHORITIES, (ObjectKey("ConfigMap", "shop", name),))


def certificate(pair: KeyPair) -> Secret:
    return Secret(certificates=pair.certificate.encode(), key=PrivateKey(pair.key.encode()))


def authorities(pem: str) -> Secret:
    return Secret(certificates=pem.encode())


@asynccontextmanager
async def hosts(*given: VirtualHost, world: World = EMPTY) -> AsyncIterator["Hosts"]:
    """One plain HTTP port with these virtual hosts, in front of the backends `a`, `b` and `c` (HTTP/1.1).

    Upstreams of those names exist besides those of `world`.
    """
    async with Backends() as backends:
        running = {name: await backends.start(name) for name in "abc"}
        upstreams = {
            upstream_key(name): (Upstream(name=f"shop/{name}:80"), at(backend)) for name, backend in running.items()
        }
        port = free_port()
        full = msgspec.structs.replace(
            world,
            listeners=(*world.listeners, http_listener(port)),
            tables={**world.tables, TABLE: given},
            upstreams={**upstreams, **world.upstreams},
        )
        async with serving(full) as lab:
            yield Hosts(port=port, lab=lab, backends=running)


class Hosts(msgspec.Struct, frozen=True, kw_only=True):
    """What `hosts` runs."""

    port: int
    lab: Laboratory
    backends: Mapping[str, Backend]

    async def get(self, host: str, target: str = "/", *headers: tuple[str, str], method: str = "GET") -> Answer:
        """One request to the host, over HTTP/1.1."""
        return await fetch(f"http://{host}{target}", port=self.port, method=method, headers=headers)


def host(name: str, *routes: Route) -> VirtualHost:
    return VirtualHost(domains=(name,), routes=routes)


def route(match: RouteMatch | str, action: Action, **fields: object) -> Route:
    """A route; a text is a prefix."""
    wanted = prefix(match) if isinstance(match, str) else match
    plain = Route(name="test", match=wanted, action=action, source=SOURCE)
    return msgspec.structs.replace(plain, **fields) if fields else plain
