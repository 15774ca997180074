"""What the operator decided about the edge, as far as it changes what is compiled. One struct of defaults.

`settings.py` fills it; translation reads it as an input (`handles.EDGE`), so a change recompiles what depends on it
and no more. Each field's default and reason is on the page `docs/defaults.md`, generated from here.
"""

from datetime import timedelta

import msgspec

from portway.objects.verdict import ObjectKey


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that shape listeners, routes and upstreams."""

    fleet: str = "host"
    """Fleet that serves Ingress, and every Gateway on host infrastructure."""
    bind_addresses: tuple[str, ...] = ("0.0.0.0",)  # noqa: S104 - a gateway is there to be reached
    """Addresses of Ingress, and of Gateways without `spec.addresses`."""
    http_port: int = 80
    https_port: int = 443
    ingress_class: str = "portway"
    """Value of the annotation `kubernetes.io/ingress.class` that means us."""
    controller_class: str = "portway.dev/ingress-controller"
    """`spec.controller` of the IngressClasses that are ours."""
    gateway_controller: str = "portway.dev/gateway-controller"
    watch_ingress_without_class: bool = False
    all_classes: bool = False
    """Serve every GatewayClass and IngressClass, declared or not, whoever's it is."""
    annotation_prefix: str = "nginx.ingress.kubernetes.io"
    allow_unsupported: frozenset[str] = frozenset()
    """Names of protecting annotations that are not supported and are to be ignored instead of answering 503."""
    default_certificate: ObjectKey | None = None
    """Secret served where no other certificate fits; `None`: one made by Portway."""
    trusted_proxies: tuple[str, ...] = ()
    """CIDRs whose X-Forwarded-* fields are believed. Empty: the peer is the client."""
    proxy_protocol: bool = False
    """Ingress sockets require a PROXY header."""
    http3: bool = False
    max_connections: int = 50_000
    """Client connections per proxy."""
    max_header_bytes: int = 60 * 1024
    max_headers: int = 100
    headers_timeout: timedelta = timedelta(seconds=60)
    """From the first byte of a request to the end of its header; then 408."""
    idle_timeout: timedelta = timedelta(seconds=75)
    """A client connection without a request; nginx's `keep-alive`."""
    stream_idle_timeout: timedelta = timedelta(minutes=5)
    """Silence on a stream in both directions."""
    read_timeout: timedelta = timedelta(seconds=60)
    """Ingress: longest silence of an upstream, `proxy-read-timeout`."""
    connect_timeout: timedelta = timedelta(seconds=5)
    http2_max_streams: int = 128
    http2_window_bytes: int = 256 * 1024
    path_normalise: bool = True
    """Resolve `.` and `..` and merge nothing; what is matched is what is forwarded."""
    escaped_slashes: str = "keep"
    """`%2F` in paths: keep, reject, or unescape-redirect."""
    underscores_in_headers: str = "allow"
    """allow, drop or reject."""
    tls_min_version: str = "1.2"
    tls_ciphers: tuple[str, ...] = ()
    ssl_redirect: bool = True
    force_ssl_redirect: bool = False
    redirect_status: int = 308
    hsts: bool = False
    server_header: str = ""
    """Value of `server` in answers; empty: none, and the upstream's own passes."""
    access_log: str = ""
    """File of the JSON access log; empty: none, `-`: standard output of Envoy."""
    access_log_format: str = "json"
    tracing_collector: str = ""
    """`host:port` of an OpenTelemetry collector (gRPC); empty: no tracing."""
    tracing_percent: float = 100.0
    statistics_for: frozenset[str] = frozenset()
    """Services (`namespace/name`) and namespaces whose upstreams are counted one by one."""
    zone: str = ""
    """Zone of the proxies on this machine."""
