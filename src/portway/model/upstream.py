"""Where requests go: upstreams and their endpoints."""

from datetime import timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import msgspec

from portway.model.names import SecretKey, UpstreamKey
from portway.model.route import RetryPolicy, Source
from portway.objects.verdict import ObjectKey


class Protocol(StrEnum):
    HTTP1 = "http1"
    HTTP2 = "http2"
    AS_DOWNSTREAM = "as-downstream"
    """HTTP/2 if the client speaks it."""
    TCP = "tcp"
    UDP = "udp"


class BalancerKind(StrEnum):
    ROUND_ROBIN = "round-robin"
    LEAST_REQUEST = "least-request"
    RANDOM = "random"
    RING_HASH = "ring-hash"
    MAGLEV = "maglev"


class Balancer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How an endpoint is chosen. Addresses of a Backend that weigh differently go by turns (design/balancing.md)."""

    kind: BalancerKind = BalancerKind.LEAST_REQUEST
    """`least-request`: of two endpoints drawn at random the one with fewer requests under way."""
    slow_start: timedelta | None = None
    """A new endpoint's share grows over this time; round robin and least request only."""
    slow_start_min_percent: int = 10
    """Its share at the beginning, in percent of the full one; 1 to 100."""
    zone_aware: bool = False
    """Prefer endpoints of the proxy's own zone while they suffice."""
    zone_min_endpoints: int = 1
    """With fewer endpoints in total, zones do not count."""


class UpstreamTls(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """TLS towards the upstream."""

    sni: str = ""
    """Empty: none is sent, or with `auto_sni` the request's host."""
    auto_sni: bool = False
    authorities: SecretKey | None = None
    system_authorities: bool = False
    """Verify against the operating system's authorities. With neither this nor `authorities` nothing is verified."""
    names: tuple[tuple[str, str], ...] = ()
    """Subject alternative names of which one must be in the certificate: (`DNS` or `URI`, value)."""
    certificate: SecretKey | None = None
    """Client certificate."""


class HealthCheckKind(StrEnum):
    HTTP = "http"
    GRPC = "grpc"
    TCP = "tcp"


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    kind: HealthCheckKind
    path: str = "/"
    host: str = ""
    statuses: tuple[tuple[int, int], ...] = ((200, 299),)
    """Inclusive ranges that count as healthy."""
    grpc_service: str = ""
    interval: timedelta = timedelta(seconds=5)
    timeout: timedelta = timedelta(seconds=1)
    healthy_threshold: int = 1
    unhealthy_threshold: int = 3


class Outliers(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Passive ejection of endpoints that fail. Defaults: those of docs/defaults.md."""

    consecutive_5xx: int = 0
    """0: status codes do not eject."""
    consecutive_gateway_errors: int = 0
    consecutive_local_failures: int = 5
    """Connection failures and resets."""
    interval: timedelta = timedelta(seconds=5)
    """Between two looks at who may come back. Each costs the proxy's main thread 2 us for each upstream."""
    base_ejection: timedelta = timedelta(seconds=3)
    """Times the number of ejections so far; with the interval, the first one lasts 3 to 8 s."""
    max_ejected_percent: int = 50


class Circuit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Limits per proxy; `None`: practically none."""

    max_connections: int | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_requests_per_connection: int | None = None


class RetryBudget(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Retries at one time: a share of the active requests, but always at least `min_concurrent`."""

    percent: float = 20.0
    min_concurrent: int = 100


class Discovery(StrEnum):
    ENDPOINTS = "endpoints"
    """EDS: addresses are pushed."""
    DNS = "dns"
    """The proxies resolve `dns_name` continuously and use all addresses."""


class UpstreamSettings(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What a *user* of an upstream wants of it, where it is not the default: the part of `Upstream` that an Ingress's
    annotations or a route's needs decide, not the Service. Equal settings give the same upstream."""

    protocol: Protocol | None = None
    tls: UpstreamTls | None = None
    connect_timeout: timedelta | None = None
    idle_timeout: timedelta | None = None
    balancer: Balancer | None = None
    host_override: bool = False
    """Requests may name their endpoint (sticky cookie)."""
    client_certificate: SecretKey | None = None
    """Shown to the upstream if it is spoken to in TLS (a Gateway's `tls.backend`)."""
    passthrough: bool = False
    """The bytes are the client's (TLS passthrough, plain streams): no TLS of ours, whatever the owner's policy says."""
    route_retries: bool = False
    """Routes say themselves what is repeated; see `for_retries`."""


DEFAULT_SETTINGS = UpstreamSettings()


def settings_key(settings: UpstreamSettings) -> str:
    """The variant of an `UpstreamKey`: canonical JSON, empty for the default. Inverse: `settings_of`."""
    return "" if settings == DEFAULT_SETTINGS else msgspec.json.encode(settings).decode()


def settings_of(variant: str) -> UpstreamSettings:
    return msgspec.json.decode(variant, type=UpstreamSettings) if variant else DEFAULT_SETTINGS


def for_retries(key: UpstreamKey, retry: RetryPolicy | None) -> UpstreamKey:
    """The upstream as a route with this retry policy of its own uses it: itself, if the route has none.

    Envoy lets the default retries of a cluster override those of a route, so such routes need the upstream once more,
    without default retries.
    """
    return key if retry is None else _without_retries(key)


@lru_cache(maxsize=4096)
def _without_retries(key: UpstreamKey) -> UpstreamKey:
    settings = msgspec.structs.replace(settings_of(key.variant), route_retries=True)
    return key._replace(variant=settings_key(settings))


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """How one upstream is spoken to."""

    name: str
    """Unique, readable, stable: `shop/cart:80`, with `~` and a digest for a variant."""
    protocol: Protocol = Protocol.HTTP1
    discovery: Discovery = Discovery.ENDPOINTS
    dns_name: str = ""
    dns_port: int = 0
    dns_family: str = ""
    """`v4`, `v6` or empty for both."""
    tls: UpstreamTls | None = None
    connect_timeout: timedelta = timedelta(seconds=5)
    idle_timeout: timedelta | None = None
    balancer: Balancer = Balancer()
    health_check: HealthCheck | None = None
    outliers: Outliers | None = Outliers()
    circuit: Circuit = Circuit()
    retry_budget: RetryBudget = RetryBudget()
    retry: RetryPolicy | None = None
    """Default retries of every route that has none of its own."""
    route_retries: bool = False
    """Nothing is repeated but what routes say."""
    proxy_protocol: int = 0
    """Version of the PROXY header sent first: 0 (none), 1 or 2."""
    host_override: bool = False
    statistics: bool = False
    """Whether proxies count this upstream by itself."""
    origins: tuple[ObjectKey, ...] = ()


class EndpointHealth(StrEnum):
    HEALTHY = "healthy"
    DRAINING = "draining"
    """Serving but terminating: no new sessions, sticky ones may stay; used by all only if nothing else is left."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, gc=False, order=True):
    address: str
    """IP address, or the path of a Unix socket with port 0."""
    port: int
    weight: int = 1
    health: EndpointHealth = EndpointHealth.HEALTHY
    zone: str = ""
    hostname: str = ""


class ZoneShare(NamedTuple):
    """The endpoints that hints give to the proxies of one zone."""

    zone: str
    endpoints: tuple[Endpoint, ...]


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """All endpoints of an upstream: sorted, unique by address and port. May be empty."""

    endpoints: tuple[Endpoint, ...] = ()
    shares: tuple[ZoneShare, ...] = ()
    """By zone, sorted. Proxies of a zone that is not among them use all endpoints."""
    origins: tuple[ObjectKey, ...] = ()
    sources: tuple[Source, ...] = ()
