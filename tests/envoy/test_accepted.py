"""Whatever model comes, a real Envoy takes what we make of it; and equal models give equal bytes."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import TypeVar

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portway.envoy.cluster import build_cluster
from portway.envoy.endpoint import build_endpoints
from portway.envoy.http3 import build_http3_listener
from portway.envoy.listener import build_listener
from portway.envoy.messages import encode
from portway.envoy.virtual_host import build_virtual_host
from portway.model.listener import Chain, ClientValidation, DownstreamTls, HttpHandler, Listener, TcpHandler
from portway.model.names import SocketKey, UpstreamKey
from portway.model.resource import ResourceType
from portway.model.route import VirtualHost
from portway.model.upstream import Discovery, Endpoints, Upstream
from portway.settings import Edge
from tests.envoy import models
from tests.envoy.models import endpoint_sets, upstreams, virtual_hosts
from tests.envoy.world import (
    SOURCE,
    TABLE,
    World,
    authorities,
    authorities_key,
    certificate,
    certificate_key,
    http_listener,
    serving,
    upstream_key,
)
from tests.kit.certificates import Authority
from tests.kit.lab import Laboratory
from tests.kit.ports import free_port

T = TypeVar("T")
AUTHORITY = Authority()
MANY = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
SECONDS = 20.0


PORT = free_port()


class Running:
    """A laboratory in a thread of its own, so that hypothesis can call it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.lab: Laboratory | None = None
        self._ready = threading.Event()
        self._done: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.loop.run_until_complete(self._serve())
        self.loop.close()

    async def _serve(self) -> None:
        self._done = asyncio.Event()
        world = World(
            listeners=(http_listener(free_port()),),
            tables={TABLE: ()},
            upstreams={upstream_key(name): (Upstream(name=f"shop/{name}:80"), Endpoints()) for name in ("a", "b", "c")},
            secrets={
                authorities_key("ca"): authorities(AUTHORITY.certificate),
                certificate_key("client"): certificate(AUTHORITY.issue("client")),
                certificate_key("two"): certificate(AUTHORITY.issue("two.example")),
            },
        )
        async with serving(world) as self.lab:
            self._ready.set()
            await self._done.wait()

    def __enter__(self) -> "Running":
        self._thread.start()
        assert self._ready.wait(SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._done is not None
        self.loop.call_soon_threadsafe(self._done.set)
        self._thread.join(SECONDS)

    def call(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(SECONDS)

    def refusal(self, *messages: Message) -> str | None:
        """What Envoy has against these resources, all of one type; `None`: nothing."""
        assert self.lab is not None
        return self.call(self.lab.ads.update(*messages)).error


@pytest.fixture(scope="module")
def envoy() -> Iterator[Running]:
    with Running() as running:
        yield running


CLUSTERS = {upstream_key(name): f"shop/{name}:80" for name in ("a", "b", "c")}


def clusters(key: UpstreamKey) -> str:
    """Half of the upstreams that models name exist."""
    return CLUSTERS.get(key, "")


@pytest.mark.e2e
@MANY
@given(virtual_hosts)
def test_virtual_hosts(envoy: Running, host: VirtualHost) -> None:
    built = build_virtual_host(f"{TABLE.name}/random.test", host, clusters)
    assert envoy.refusal(built) is None


@pytest.mark.e2e
@MANY
@given(upstreams, endpoint_sets)
def test_clusters_and_endpoints(envoy: Running, upstream: Upstream, endpoints: Endpoints) -> None:
    cluster = build_cluster(upstream)
    assignment = build_endpoints(upstream.name, endpoints.endpoints, "east")

    async def send() -> list[str | None]:
        assert envoy.lab is not None
        ads = envoy.lab.ads
        ads.put(cluster, assignment)
        sent = [ads.push(ResourceType.CLUSTER, [cluster.name])]
        if upstream.discovery is Discovery.ENDPOINTS:
            # Envoy does not ask again for the endpoints of a cluster that changed.
            sent.append(ads.push(ResourceType.ENDPOINTS, [cluster.name]))
        errors = [(await one.reply()).error for one in sent]
        await ads.send(ResourceType.CLUSTER, removed=[cluster.name])
        return errors

    assert set(envoy.call(send())) == {None}


edges = st.builds(
    Edge,
    access_log=st.sampled_from(("", "-", "/dev/null")),
    trusted_proxies=st.sampled_from(((), ("10.0.0.0/8", "2001:db8::/32"))),
    max_header_bytes=st.integers(1, 8192 * 1024),
    max_headers=st.integers(1, 10_000),
    headers_timeout=models.durations,
    idle_timeout=models.durations,
    stream_idle_timeout=models.durations,
    http2_max_streams=st.integers(1, 2**31 - 1),
    http2_window_bytes=st.integers(65_535, 2**31 - 1),
    path_normalise=st.booleans(),
    escaped_slashes=st.sampled_from(("keep", "reject", "redirect")),
    underscores_in_headers=st.sampled_from(("allow", "drop", "reject")),
    server_header=st.sampled_from(("", "portway")),
    tracing_collector=st.sampled_from(("", "127.0.0.1:4317")),
    tracing_percent=st.floats(0, 100),
)
downstream_tls = st.builds(
    DownstreamTls,
    certificates=st.sampled_from(((certificate_key("client"),), (certificate_key("client"), certificate_key("two")))),
    client_authorities=st.none() | st.just(authorities_key("ca")),
    client_validation=st.sampled_from(ClientValidation),
    alpn=st.sampled_from(((), ("h2", "http/1.1"))),
    min_version=st.sampled_from(("1.2", "1.3")),
    max_version=st.sampled_from(("", "1.3")),
    ciphers=st.sampled_from(((), ("ECDHE-RSA-AES128-GCM-SHA256",))),
)
handlers = st.just(HttpHandler(table=TABLE)) | st.builds(
    TcpHandler, upstreams=models.tuples(models.shares), idle_timeout=models.optional_durations
)


@st.composite
def listeners(draw: st.DrawFn) -> Listener:
    """A listener with chains that do not overlap, on one port again and again."""
    wanted = [f"h{number}.example" for number in range(draw(st.integers(0, 3)))]
    chains = [
        Chain(
            name=name,
            server_names=(name, f"*.{name}"),
            tls=draw(st.none() | downstream_tls),
            passthrough=True,
            handler=draw(handlers),
            source=SOURCE,
        )
        for name in wanted
    ]
    rest = Chain(name="rest", tls=draw(st.none() | downstream_tls), handler=draw(handlers), source=SOURCE)
    key = SocketKey("host", draw(st.sampled_from(("127.0.0.1", "::1"))), PORT)
    proxied, quic = draw(st.booleans()), draw(st.booleans())
    return Listener(key=key, chains=(*chains, rest), proxy_protocol=proxied, http3=quic)


@pytest.mark.e2e
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(listeners(), edges)
def test_listeners(envoy: Running, listener: Listener, edge: Edge) -> None:
    assert envoy.refusal(build_listener(listener, edge, clusters)) is None
    quic = build_http3_listener(listener, edge) if listener.http3 else None
    if quic is not None:
        assert envoy.refusal(quic) is None


@given(virtual_hosts)
@settings(max_examples=50, suppress_health_check=list(HealthCheck), deadline=None)
def test_equal_hosts_give_equal_bytes(host: VirtualHost) -> None:
    first = encode(build_virtual_host("t/x", host, clusters))
    assert encode(build_virtual_host("t/x", host, clusters)) == first
