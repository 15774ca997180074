"""Portway's own group, portway.dev/v1alpha1: Backend and UpstreamPolicy.

The reasons for the fields and their names are in `docs/design/portway-api.md`. Rules between fields ("exactly one of")
are in `portway.objects.rules.portway`.
"""

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from portway.objects.meta import Meta, Part
from portway.objects.references_v1 import LocalObjectReference, LocalPolicyTargetReferenceWithSectionName
from portway.objects.scalars import (
    HTTP_TOKEN,
    QUALIFIED_NAME_MAX,
    ROOTED_URL_PATH,
    Duration,
    HeaderName,
    NonNegativeInt32,
    Percent,
    PortNumber,
    PositiveInt32,
    PreciseHostname,
)

PORTWAY_GROUP: Final = "portway.dev"

_Path = Annotated[str, msgspec.Meta(pattern=ROOTED_URL_PATH, max_length=1024, description="a URL path from /")]
_CookieName = Annotated[
    str, msgspec.Meta(pattern=HTTP_TOKEN, min_length=1, max_length=256, description="a cookie name (RFC 6265 §4.1.1)")
]


class BackendAddress(Part, frozen=True, kw_only=True):
    """One static address of a Backend."""

    address: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    """IPv4 or IPv6 address, without brackets."""
    port: PortNumber
    weight: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    """Share among the addresses: weight by sum of weights."""
    zone: str | None = None
    """For zone-aware balancing; None: in no zone."""


class DNSFamily(StrEnum):
    """Which addresses of a DNS name are used."""

    AUTO = "Auto"
    """All that resolve."""
    IPV4 = "IPv4"
    IPV6 = "IPv6"


class BackendDNS(Part, frozen=True, kw_only=True):
    """A DNS name; all its addresses are used, and resolved again as their TTL says."""

    name: PreciseHostname
    port: PortNumber
    family: DNSFamily = DNSFamily.AUTO


class BackendUnixSocket(Part, frozen=True, kw_only=True):
    """A Unix stream socket on the proxies' machine."""

    path: Annotated[
        str,
        # 108 bytes with the closing zero is all that the kernel takes (unix(7)).
        msgspec.Meta(pattern=r"^/[^\x00]+\Z", min_length=2, max_length=107, description="an absolute path"),
    ]


class WellKnownCACertificates(StrEnum):
    """CAs that need no reference."""

    SYSTEM = "System"


class BackendTLS(Part, frozen=True, kw_only=True):
    """TLS to a Backend. Exactly one of the last three says how its certificate is checked."""

    hostname: PreciseHostname | None = None
    """Sent as SNI, and the name that the certificate must have. None: the DNS name of a `dns` backend."""
    client_certificate_ref: LocalObjectReference | None = None
    """A kubernetes.io/tls Secret that Portway shows to the backend."""
    ca_certificate_refs: (
        Annotated[tuple[LocalObjectReference, ...], msgspec.Meta(min_length=1, max_length=8)] | None
    ) = None
    """ConfigMaps or Secrets with `ca.crt`."""
    well_known_ca_certificates: WellKnownCACertificates | None = msgspec.field(
        default=None, name="wellKnownCACertificates"
    )
    insecure_skip_verify: bool = False
    """Take any certificate. The connection is encrypted, but to whom is not known."""


class BackendSpec(Part, frozen=True, kw_only=True):
    """Exactly one of `addresses`, `dns` and `unix_socket` is set."""

    addresses: Annotated[tuple[BackendAddress, ...], msgspec.Meta(min_length=1, max_length=1000)] | None = None
    dns: BackendDNS | None = None
    unix_socket: BackendUnixSocket | None = None
    app_protocol: Annotated[str, msgspec.Meta(max_length=QUALIFIED_NAME_MAX)] | None = None
    """As on a Service port: `http`, `https`, `kubernetes.io/h2c`, `kubernetes.io/ws`, `kubernetes.io/wss`."""
    tls: BackendTLS | None = None


class Backend(Part, frozen=True, kw_only=True):
    """Something to proxy to that is not a Service: addresses, a DNS name or a Unix socket."""

    metadata: Meta
    spec: BackendSpec


class LoadBalancerType(StrEnum):
    """How an endpoint is chosen."""

    ROUND_ROBIN = "RoundRobin"
    LEAST_REQUEST = "LeastRequest"
    RANDOM = "Random"
    RING_HASH = "RingHash"
    MAGLEV = "Maglev"


class HashSource(StrEnum):
    """What of a request is hashed."""

    HEADER = "Header"
    COOKIE = "Cookie"
    SOURCE_ADDRESS = "SourceAddress"
    QUERY_PARAM = "QueryParam"


class HashCookie(Part, frozen=True, kw_only=True):
    """A cookie that is hashed; made for clients that have none."""

    name: _CookieName
    ttl: Duration | None = None
    """None: only a cookie that the client brings is hashed, none is made. 0s: made for the browser session."""
    path: _Path = "/"


class HashOn(Part, frozen=True, kw_only=True):
    """One thing that is hashed: exactly the field that `type` names is set."""

    type: HashSource
    header: HeaderName | None = None
    cookie: HashCookie | None = None
    query_param: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None


class SlowStart(Part, frozen=True, kw_only=True):
    """A new endpoint gets its share gradually."""

    window: Duration
    """Until it has its full share."""
    min_percent: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    """Share at the beginning, in percent of the full one."""


class LoadBalancer(Part, frozen=True, kw_only=True):
    """How an endpoint is chosen."""

    type: LoadBalancerType = LoadBalancerType.LEAST_REQUEST
    hash_on: Annotated[tuple[HashOn, ...], msgspec.Meta(max_length=8)] = ()
    """For RingHash and Maglev; the first that the request has decides. Empty: the source address."""
    slow_start: SlowStart | None = None
    """For RoundRobin and LeastRequest."""


class SessionCookie(Part, frozen=True, kw_only=True):
    """Cookie that names the endpoint."""

    name: _CookieName = "portway-session"
    ttl: Duration | None = None
    """None: until the browser is closed."""
    path: _Path = "/"


class SessionAffinity(Part, frozen=True, kw_only=True):
    """A client stays with its endpoint as long as that one is healthy."""

    cookie: SessionCookie = SessionCookie()


class HTTPHealthCheck(Part, frozen=True, kw_only=True):
    """Healthy if a GET is answered with an expected status."""

    path: _Path = "/"
    host: PreciseHostname | None = None
    """Value of the Host field. None: the upstream's name."""
    expected_statuses: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=100, le=599)], ...],
        msgspec.Meta(min_length=1, max_length=64, extra={"unique": True}),
    ] = (200,)


class GRPCHealthCheck(Part, frozen=True, kw_only=True):
    """Healthy if `grpc.health.v1.Health/Check` says SERVING."""

    service: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    """Empty: the server as a whole."""


class TCPHealthCheck(Part, frozen=True, kw_only=True):
    """Healthy if a connection can be opened."""


class HealthCheck(Part, frozen=True, kw_only=True):
    """Active checks of each endpoint; exactly one of `http`, `grpc` and `tcp` is set."""

    interval: Duration = Duration(seconds=5)
    timeout: Duration = Duration(seconds=2)
    unhealthy_threshold: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    """Failed checks in a row after which an endpoint gets no more requests."""
    healthy_threshold: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    """Good checks in a row after which it gets requests again."""
    http: HTTPHealthCheck | None = None
    grpc: GRPCHealthCheck | None = None
    tcp: TCPHealthCheck | None = None


class OutlierDetection(Part, frozen=True, kw_only=True):
    """Endpoints that fail real requests are left out for a while."""

    consecutive_5xx: NonNegativeInt32 | None = msgspec.field(default=None, name="consecutive5xx")
    """Answers of 500 and above in a row, failed connections included. None or 0: not counted."""
    consecutive_gateway_errors: NonNegativeInt32 | None = 5
    """502, 503, 504 and failed connections in a row. None or 0: not counted."""
    interval: Duration = Duration(seconds=10)
    """Between two sweeps that let endpoints back in."""
    base_ejection_time: Duration = Duration(seconds=30)
    """Multiplied by how often the endpoint was ejected."""
    max_ejection_percent: Percent = 50
    """At most this part of the endpoints is left out."""


class CircuitBreaker(Part, frozen=True, kw_only=True):
    """Limits of one proxy towards the upstream; None: Portway's default."""

    max_connections: PositiveInt32 | None = None
    max_pending_requests: NonNegativeInt32 | None = None
    max_requests: PositiveInt32 | None = None
    """Parallel requests."""
    max_requests_per_connection: PositiveInt32 | None = None


class RetryBudget(Part, frozen=True, kw_only=True):
    """How many of the active requests may be retries."""

    percent: Percent = 20
    min_concurrent: NonNegativeInt32 = 100
    """Retries that are always allowed."""


class UpstreamTimeouts(Part, frozen=True, kw_only=True):
    """Timeouts of connections to the upstream; None: Portway's default."""

    connect: Duration | None = None
    idle: Duration | None = None
    """After which an unused connection is closed; zero: never."""


class ProxyProtocolVersion(StrEnum):
    """Version of the PROXY protocol."""

    V1 = "V1"
    V2 = "V2"


class ZoneAwareType(StrEnum):
    """How zones count."""

    HINTS = "Hints"
    """As the EndpointSlices' hints say; the default, also without a policy."""
    PREFER_LOCAL = "PreferLocal"
    """The proxy's own zone while it has enough healthy endpoints, whatever the hints."""
    DISABLED = "Disabled"


class ZoneAware(Part, frozen=True, kw_only=True):
    """Zone-aware balancing."""

    type: ZoneAwareType = ZoneAwareType.HINTS
    min_endpoints: PositiveInt32 = 6
    """With fewer endpoints in total, zones do not count. For PreferLocal."""


class UpstreamPolicySpec(Part, frozen=True, kw_only=True):
    """How Portway talks to some upstreams. What is not set stays at Portway's default."""

    target_refs: Annotated[
        tuple[LocalPolicyTargetReferenceWithSectionName, ...], msgspec.Meta(min_length=1, max_length=16)
    ]
    """Services (`sectionName`: name of a port) or Backends in the policy's namespace."""
    load_balancer: LoadBalancer | None = None
    session_affinity: SessionAffinity | None = None
    health_check: HealthCheck | None = None
    outlier_detection: OutlierDetection | None = None
    circuit_breaker: CircuitBreaker | None = None
    retry_budget: RetryBudget | None = None
    timeouts: UpstreamTimeouts | None = None
    proxy_protocol: ProxyProtocolVersion | None = None
    zone_aware: ZoneAware | None = None


class UpstreamPolicy(Part, frozen=True, kw_only=True):
    """How Portway talks to Services and Backends."""

    metadata: Meta
    spec: UpstreamPolicySpec
