"""What leaves the engine: which resources, what each requires, and that a change wakes no more than it must."""

import msgspec

from portway.envoy.outputs import (
    CLIENT_MANAGERS,
    CLUSTERS,
    COMPOSITE_CLUSTERS,
    COMPOSITE_ENDPOINTS,
    ENDPOINTS_OUT,
    HTTP3_LISTENERS,
    LISTENERS,
    OUTPUTS,
    ROUTE_CONFIGURATIONS,
    SECRETS,
    VIRTUAL_HOSTS_OUT,
)
from portway.incremental import AnyOutput, Delta, Engine, Program, bind, feed
from portway.model.handles import (
    EDGE,
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
from portway.model.listener import Chain, DownstreamTls, HttpHandler, Listener, TcpHandler, UdpHandler
from portway.model.names import HostKey, SecretKey, SocketKey, Transport, UpstreamKey
from portway.model.resource import Readiness, Resource, ResourceType
from portway.model.route import ExternalAuth, Mirror, RouteTable, VirtualHost, WeightedUpstream
from portway.model.tls import Secret
from portway.model.upstream import Discovery, Endpoint, Endpoints, HealthCheck, HealthCheckKind, Upstream, UpstreamTls
from portway.objects.meta import Meta
from portway.objects.verdict import ObjectKey
from portway.store import ChangeSet, Input, Store, Stored
from tests.envoy.world import QUIET, SOURCE, authorities_key, certificate_key, host, route, to, upstream_key
from tests.envoy.world import TABLE as WEB_TABLE

# The queries of translation are inputs here, and one object is the member that feeds all relations.
HOST: Input[HostKey, VirtualHost | None] = Input("host")
SOCKET: Input[SocketKey, Listener | None] = Input("socket")
SPOKEN: Input[UpstreamKey, Upstream | None] = Input("upstream")
FOUND: Input[UpstreamKey, Endpoints] = Input("endpoints")
KEPT: Input[SecretKey, Secret | None] = Input("secret")

SHOP = HostKey(WEB_TABLE, "shop.example")
OTHER = HostKey(WEB_TABLE, "other.example")
WEB = SocketKey("host", "0.0.0.0", 443)
STREAM = SocketKey("host", "0.0.0.0", 9000)
DATAGRAMS = SocketKey("host", "0.0.0.0", 53, Transport.UDP)
A, B, C, D = (upstream_key(name) for name in "abcd")
CERTIFICATE, AUTHORITIES = certificate_key("shop"), authorities_key("ca")


class Anything(msgspec.Struct, frozen=True):
    """The one object."""

    metadata: Meta = Meta(name="world")


def plain(name: str, **fields: object) -> Upstream:
    return msgspec.structs.replace(Upstream(name=f"shop/{name}:80", origins=(SOURCE.object,)), **fields)


UPSTREAMS = {
    A: plain("a"),
    B: plain("b", health_check=HealthCheck(kind=HealthCheckKind.TCP)),
    C: plain("c", discovery=Discovery.DNS, dns_name="c.example", dns_port=80),
    D: plain("d", tls=UpstreamTls(authorities=AUTHORITIES)),
}


def shares(*keys: UpstreamKey) -> tuple[WeightedUpstream, ...]:
    return tuple(WeightedUpstream(upstream=key) for key in keys)


LISTENERS_IN = {
    WEB: Listener(
        key=WEB,
        chains=(
            Chain(
                name="shop",
                tls=DownstreamTls(certificates=(CERTIFICATE,)),
                handler=HttpHandler(table=WEB_TABLE),
                source=SOURCE,
            ),
        ),
        http3=True,
    ),
    STREAM: Listener(key=STREAM, chains=(Chain(name="tcp", handler=TcpHandler(upstreams=shares(A)), source=SOURCE),)),
    DATAGRAMS: Listener(key=DATAGRAMS, udp=UdpHandler(upstreams=shares(A, B))),
}

MIRRORED = msgspec.structs.replace(to("a"), mirrors=(Mirror(upstream=B),))
HOSTS = {
    SHOP: host("shop.example", route("/", MIRRORED, auth=ExternalAuth(upstream=C, grpc=False))),
    OTHER: host("other.example", route("/", to("b"))),
}

FEEDS = (
    feed(VIRTUAL_HOSTS, "Anything", lambda _, __: dict.fromkeys(HOSTS, True)),
    feed(TABLES, "Anything", lambda _, __: {WEB_TABLE: True}),
    feed(SOCKETS, "Anything", lambda _, __: dict.fromkeys(LISTENERS_IN, True)),
    feed(UPSTREAM_USES, "Anything", lambda _, __: {("host", key): True for key in UPSTREAMS}),
    feed(SECRET_USES, "Anything", lambda _, __: {("host", CERTIFICATE): True, ("host", AUTHORITIES): True}),
)
PROGRAM = Program(
    relations=(SOCKETS, TABLES, VIRTUAL_HOSTS, UPSTREAM_USES, SECRET_USES),
    feeds=FEEDS,
    bindings=(
        bind(VIRTUAL_HOST, lambda ctx, key: ctx.read(HOST, key)),
        bind(TABLE, lambda _, __: RouteTable()),
        bind(LISTENER, lambda ctx, key: ctx.read(SOCKET, key)),
        bind(UPSTREAM, lambda ctx, key: ctx.read(SPOKEN, key)),
        bind(ENDPOINTS, lambda ctx, key: ctx.read(FOUND, key)),
        bind(SECRET, lambda ctx, key: ctx.read(KEPT, key)),
    ),
    outputs=OUTPUTS,
)


def started() -> tuple[Engine, Delta]:
    """The engine with the small world in it, and its first delta."""
    store = Store()
    store.apply(ChangeSet(changed=(Stored(ObjectKey("Anything", "", "world"), Anything()),)))
    engine = Engine(store, PROGRAM)
    engine.set(EDGE, None, QUIET)
    for host_key, virtual_host in HOSTS.items():
        engine.set(HOST, host_key, virtual_host)
    for socket, listener in LISTENERS_IN.items():
        engine.set(SOCKET, socket, listener)
    for key, upstream in UPSTREAMS.items():
        engine.set(SPOKEN, key, upstream)
        engine.set(FOUND, key, Endpoints(endpoints=(Endpoint(address="10.0.0.1", port=80),)))
    engine.set(KEPT, CERTIFICATE, Secret(certificates=b"pem"))
    engine.set(KEPT, AUTHORITIES, None)
    delta = engine.settle()
    assert not engine.failures()
    return engine, delta


def names(delta: Delta, output: AnyOutput) -> set[str]:
    """Names of the resources of an output that changed."""
    resources = delta.of_any(output)[0].values()
    return {resource.key.name for resource in resources if isinstance(resource, Resource)}


def required(resource: Resource) -> set[tuple[str, str]]:
    return {(key.type.name, key.name) for key in resource.requires}


def test_what_there_is() -> None:
    _, delta = started()
    found = {output.name: names(delta, output) for output in (CLUSTERS, ENDPOINTS_OUT, SECRETS, LISTENERS)}
    assert found == {
        "clusters out": {f"shop/{name}:80" for name in "abcd"},
        "endpoints out": {"shop/a:80", "shop/b:80", "shop/d:80"},  # DNS has none
        "secrets out": {"certificate/Secret/shop/shop"},  # the other one cannot be had yet
        "listeners out": {"0.0.0.0:443/tcp", "0.0.0.0:9000/tcp", "0.0.0.0:53/udp"},
    }
    assert names(delta, HTTP3_LISTENERS) == {"0.0.0.0:443/udp"}
    assert names(delta, ROUTE_CONFIGURATIONS) == {"test:http"}
    assert names(delta, VIRTUAL_HOSTS_OUT) == {"test:http/shop.example", "test:http/other.example"}
    assert names(delta, COMPOSITE_CLUSTERS) == names(delta, COMPOSITE_ENDPOINTS) == {"0.0.0.0:53/udp"}
    every = [resource for output in OUTPUTS for resource in delta.of_any(output)[0].values()]
    keys = [resource.key for resource in every if isinstance(resource, Resource)]
    assert len(keys) == len(set(keys))


def test_what_is_required() -> None:
    _, delta = started()
    hosts, _ = delta.of(VIRTUAL_HOSTS_OUT)
    assert required(hosts[SHOP]) == {("CLUSTER", f"shop/{name}:80") for name in "abc"}
    assert hosts[SHOP].origins == (SOURCE.object,)
    listeners, _ = delta.of(LISTENERS)
    assert required(listeners[WEB]) == {("ROUTES", "test:http"), ("SECRET", "certificate/Secret/shop/shop")}
    assert required(listeners[STREAM]) == {("CLUSTER", "shop/a:80")}
    assert required(listeners[DATAGRAMS]) == {("CLUSTER", "0.0.0.0:53/udp")}
    clusters, _ = delta.of(CLUSTERS)
    assert required(clusters["host", D]) == {("SECRET", "authorities/ConfigMap/shop/ca")}
    assert {key.name: clusters["host", key].readiness for key in UPSTREAMS} == {
        "a": Readiness.ENDPOINTS,
        "b": Readiness.WARM,
        "c": Readiness.AT_ONCE,
        "d": Readiness.ENDPOINTS,
    }


def changed(delta: Delta) -> set[str]:
    """Kinds and names of the resources that changed."""
    return {
        f"{ResourceType(resource.key.type).name} {resource.key.name}"
        for output in OUTPUTS
        for resource in delta.of_any(output)[0].values()
        if isinstance(resource, Resource)
    }


def test_a_change_wakes_its_own_resources() -> None:
    engine, _ = started()
    engine.set(FOUND, A, Endpoints(endpoints=(Endpoint(address="10.0.0.2", port=80),)))
    assert changed(engine.settle()) == {"ENDPOINTS shop/a:80", "ENDPOINTS 0.0.0.0:53/udp"}
    engine.set(SPOKEN, B, plain("b", statistics=True))
    # Hosts that point at it are not even built again.
    ran: list[str] = []
    engine.observe(lambda name, _: ran.append(name))
    assert changed(engine.settle()) == {"CLUSTER shop/b:80"}
    assert "virtual hosts out" not in ran
    engine.set(KEPT, AUTHORITIES, Secret(certificates=b"pem"))
    assert changed(engine.settle()) == {"SECRET authorities/ConfigMap/shop/ca"}
    engine.set(HOST, OTHER, host("other.example", route("/new", to("a"))))
    assert changed(engine.settle()) == {"VIRTUAL_HOST test:http/other.example"}


def test_another_certificate_changes_the_listener_and_not_the_manager_that_its_chains_share() -> None:
    engine, _ = started()
    first = LISTENERS_IN[WEB].chains[0]
    names = ("a", "b")
    more = [msgspec.structs.replace(first, name=f"shop/{name}", server_names=(f"{name}.example",)) for name in names]
    engine.set(SOCKET, WEB, msgspec.structs.replace(LISTENERS_IN[WEB], chains=(first, more[0])))
    delta = engine.settle()
    shared = "manager/0.0.0.0:443/tcp/client"
    assert changed(delta) == {"LISTENER 0.0.0.0:443/tcp", "LISTENER 0.0.0.0:443/udp", f"EXTENSION {shared}"}
    assert ("EXTENSION", shared) in required(delta.of(LISTENERS)[0][WEB])
    engine.set(SOCKET, WEB, msgspec.structs.replace(LISTENERS_IN[WEB], chains=(first, *more)))
    assert changed(engine.settle()) == {"LISTENER 0.0.0.0:443/tcp", "LISTENER 0.0.0.0:443/udp"}
    engine.set(SOCKET, WEB, LISTENERS_IN[WEB])
    assert list(engine.settle().of(CLIENT_MANAGERS)[1]) == [WEB]


def test_an_upstream_that_goes_leaves_500() -> None:
    engine, delta = started()
    before = delta.of(VIRTUAL_HOSTS_OUT)[0][OTHER]
    engine.set(SPOKEN, B, None)
    delta = engine.settle()
    after = delta.of(VIRTUAL_HOSTS_OUT)[0][OTHER]
    assert before.requires
    assert not after.requires
    assert ("host", B) in delta.of(CLUSTERS)[1]
    assert not engine.failures()
