"""One resource of each kind as JSON beside this file, to be read in a diff. `PORTWAY_ACCEPT=1` writes what came out."""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool, json_format
from google.protobuf.message import Message

from portway.envoy.cluster import build_cluster
from portway.envoy.endpoint import build_endpoints
from portway.envoy.http3 import build_http3_listener
from portway.envoy.listener import build_listener, socket_address
from portway.envoy.route_configuration import build_route_configuration
from portway.envoy.secret import build_secret
from portway.envoy.udp import build_udp_listener
from portway.envoy.virtual_host import build_virtual_host
from portway.model.listener import Chain, DownstreamTls, HttpHandler, Listener, TcpHandler, UdpHandler
from portway.model.names import SecretUse, SocketKey, Transport, UpstreamKey
from portway.model.route import (
    AccessList,
    CorsPolicy,
    ExternalAuth,
    Forward,
    HeaderEdits,
    PathRewrite,
    PathRewriteKind,
    Redirect,
    Respond,
    RetryCause,
    RetryPolicy,
    RouteTable,
    StickyCookie,
    VirtualHost,
    WeightedUpstream,
)
from portway.model.tls import PrivateKey, Secret
from portway.model.upstream import (
    Balancer,
    BalancerKind,
    Discovery,
    Endpoint,
    EndpointHealth,
    Endpoints,
    HealthCheck,
    HealthCheckKind,
    Protocol,
    Upstream,
    UpstreamTls,
)
from portway.settings import Edge
from tests.envoy.world import (
    SOURCE,
    TABLE,
    authorities_key,
    certificate_key,
    host,
    http_listener,
    route,
    to,
    upstream_key,
)

GOLDEN = Path(__file__).parent / "golden"


CLUSTERS = {upstream_key(name): f"shop/{name}:80" for name in ("a", "b")}


def clusters(key: UpstreamKey) -> str:
    without = key._replace(variant="")
    return CLUSTERS[without] + ("~retries" if key.variant else "") if without in CLUSTERS else ""


def rich_host() -> VirtualHost:
    shares = (
        WeightedUpstream(upstream=upstream_key("a"), weight=2, request_headers=HeaderEdits(set=(("x-share", "a"),))),
        WeightedUpstream(upstream=None),
    )
    retry = RetryPolicy(attempts=1, causes=frozenset({RetryCause.CONNECT, RetryCause.STATUS}), statuses=(502,))
    forward = Forward(
        upstreams=shares,
        path=PathRewrite(kind=PathRewriteKind.PREFIX, value="/"),
        timeout=timedelta(seconds=10),
        retry=retry,
        sticky=StickyCookie(name="route"),
    )
    return VirtualHost(
        domains=("shop.example", "www.shop.example"),
        routes=(
            route("/old", Redirect(status=308, scheme="https")),
            route("/tea", Respond(status=418, body="tea", headers=(("x-why", "50%"),))),
            route(
                "/cart",
                forward,
                request_headers=HeaderEdits(add=(("x-route", "1"),), remove=("x-secret",)),
                cors=CorsPolicy(allow_origins=("https://*.shop.example",)),
                access=AccessList(allow=("10.0.0.0/8",), deny=("10.9.0.0/16",)),
                auth=ExternalAuth(upstream=upstream_key("b"), grpc=False, path="/check"),
                max_body_bytes=1024,
            ),
        ),
    )


def rich_upstream() -> Upstream:
    return Upstream(
        name="shop/b:443~0123456789",
        protocol=Protocol.HTTP2,
        tls=UpstreamTls(sni="b.example", authorities=authorities_key("ca"), names=(("DNS", "b.example"),)),
        connect_timeout=timedelta(seconds=1),
        balancer=Balancer(kind=BalancerKind.LEAST_REQUEST, slow_start=timedelta(seconds=30)),
        health_check=HealthCheck(kind=HealthCheckKind.HTTP, path="/healthz"),
        host_override=True,
        proxy_protocol=2,
        statistics=True,
    )


def tls_listener() -> Listener:
    tls = DownstreamTls(certificates=(certificate_key("shop"),), client_authorities=authorities_key("clients"))
    stream = TcpHandler(upstreams=(WeightedUpstream(upstream=upstream_key("a")), WeightedUpstream(upstream=None)))
    return Listener(
        key=SocketKey("host", "::", 443),
        chains=(
            Chain(
                name="shop",
                server_names=("shop.example",),
                tls=tls,
                handler=HttpHandler(table=TABLE),
                source=SOURCE,
            ),
            Chain(name="through", server_names=("*.through.example",), passthrough=True, handler=stream, source=SOURCE),
        ),
        proxy_protocol=True,
        http3=True,
    )


def udp_listener() -> Listener:
    shares = (WeightedUpstream(upstream=upstream_key("a")),)
    return Listener(key=SocketKey("host", "0.0.0.0", 53, Transport.UDP), udp=UdpHandler(upstreams=shares))


ENDPOINTS = Endpoints(
    endpoints=(
        Endpoint(address="10.0.0.1", port=8080, zone="east"),
        Endpoint(address="10.0.0.2", port=8080, weight=3, zone="west", health=EndpointHealth.DRAINING),
        Endpoint(address="/run/shop.sock", port=0),
    )
)
DNS = Upstream(name="dns/api.example:443", discovery=Discovery.DNS, dns_name="api.example", dns_port=443)
SECRET = Secret(certificates=b"-----BEGIN CERTIFICATE-----\n", key=PrivateKey(b"key"))
RICH_EDGE = Edge(access_log="-", trusted_proxies=("10.0.0.0/8",), tracing_collector="collector:4317")


def built() -> Mapping[str, Message]:
    quic = build_http3_listener(tls_listener(), Edge(access_log=""))
    assert quic is not None
    udp = udp_listener()
    return {
        "cluster_plain": build_cluster(Upstream(name="shop/a:80")),
        "cluster_rich": build_cluster(rich_upstream()),
        "cluster_dns": build_cluster(DNS),
        "endpoints": build_endpoints("shop/a:80", ENDPOINTS.endpoints),
        "endpoints_zone": build_endpoints("shop/a:80", ENDPOINTS.endpoints, "east"),
        "listener_http": build_listener(http_listener(80), RICH_EDGE, clusters),
        "listener_tls": build_listener(tls_listener(), Edge(access_log=""), clusters),
        "listener_udp": build_udp_listener(udp, socket_address(udp.key), Edge(access_log=""), clusters),
        "listener_quic": quic,
        "routes": build_route_configuration("ingress:http", RouteTable()),
        "secret": build_secret("certificate/Secret/shop/tls", SecretUse.CERTIFICATE, SECRET),
        "virtual_host_plain": build_virtual_host("t/a.example", host("a.example", route("/", to("a"))), clusters),
        "virtual_host_rich": build_virtual_host("t/shop.example", rich_host(), clusters),
    }


@pytest.mark.parametrize("name", built())
def test_golden(name: str) -> None:
    text = json_format.MessageToJson(
        built()[name],
        preserving_proto_field_name=True,
        sort_keys=True,
        descriptor_pool=descriptor_pool.Default(),
    )
    path = GOLDEN / f"{name}.json"
    if os.environ.get("PORTWAY_ACCEPT"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n")
    assert path.read_text() == text + "\n"
