"""The HTTP connection manager: how bytes of a connection become requests, and what they may be.

Hardened as Envoy's "Configuring Envoy as an edge proxy" says, with the settings of the edge. Built once per table and
sort of client: thousands of filter chains share the bytes.
"""

from datetime import timedelta
from enum import StrEnum
from functools import lru_cache

from envoy.config.accesslog.v3 import accesslog_pb2 as accesslogv3
from envoy.config.common.mutation_rules.v3 import mutation_rules_pb2 as mutation_rulesv3
from envoy.config.core.v3 import grpc_service_pb2 as grpc_servicev3
from envoy.config.core.v3 import protocol_pb2 as protocolv3
from envoy.config.trace.v3 import opentelemetry_pb2 as opentelemetryv3
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2 as celv3
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2 as header_mutationv3
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcmv3
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2 as early_mutationv3
from envoy.extensions.http.original_ip_detection.xff.v3 import xff_pb2 as xffv3
from google.protobuf.any_pb2 import Any as TypedConfig

from portway.envoy.access_log import build_access_logs
from portway.envoy.filters import build_http_filters
from portway.envoy.filters.access import cidr_range
from portway.envoy.filters.body import TOO_LARGE
from portway.envoy.headers import header_option
from portway.envoy.messages import duration, extension, from_ads, typed
from portway.model.edge import Edge
from portway.model.names import Dialect

HCM = hcmv3.HttpConnectionManager

STREAM_IDLE_DEFAULT = timedelta(minutes=5)  # Envoy's
MAX_HEADERS_DEFAULT = 100  # Envoy's
MAX_HEADER_KB_DEFAULT = 60  # Envoy's
MAX_WINDOW_BYTES = 2**31 - 1  # RFC 9113 §6.9.1

ESCAPED_SLASHES = {
    "keep": HCM.KEEP_UNCHANGED,
    "reject": HCM.REJECT_REQUEST,
    "redirect": HCM.UNESCAPE_AND_REDIRECT,
}

UNDERSCORES = {
    "allow": protocolv3.HttpProtocolOptions.ALLOW,
    "drop": protocolv3.HttpProtocolOptions.DROP_HEADER,
    "reject": protocolv3.HttpProtocolOptions.REJECT_REQUEST,
}

FORWARDED_PREFIX = "x-forwarded-"
"""What only a proxy may say. From others fields that begin so are dropped: an upstream would believe them.
`x-forwarded-for` and `x-forwarded-proto` are written anew."""

TRACE_LIMIT = 256

HSTS = "max-age=31536000; includeSubDomains"  # ingress-nginx's `hsts-max-age` and `hsts-include-subdomains`


class Peer(StrEnum):
    """Who is at the other end of a connection."""

    CLIENT = "client"
    """Its own address is the client's."""
    TRUSTED_PROXY = "trusted-proxy"
    """It says who the client is, in X-Forwarded-For."""


class Codec(StrEnum):
    AUTO = "auto"
    """HTTP/1.1 and HTTP/2, by ALPN or by the first bytes."""
    HTTP3 = "http3"


@lru_cache(maxsize=1024)
def build_http_connection_manager(
    table: str,
    edge: Edge,
    peer: Peer,
    codec: Codec,
    stat_prefix: str,
    *,
    idle_timeout: timedelta | None = None,
    answer_headers: tuple[tuple[str, str], ...] = (),
    bad_gateway: bool = False,
) -> TypedConfig:
    """The connection manager of a filter chain, packed. Not to be changed by the caller.

    Args:
        table: name of the route configuration.
        edge: the settings.
        peer: who connects.
        codec: what is spoken.
        stat_prefix: of its statistics; one per port, as each costs about a hundred series.
        idle_timeout: longest silence of a stream; `None`: that of the edge.
        answer_headers: set on every answer, also on those of the proxy itself.
        bad_gateway: a connection that an upstream refused or broke off is 502 and not 503, as with nginx.
    """
    manager = HCM(stat_prefix=stat_prefix, codec_type=HCM.HTTP3 if codec is Codec.HTTP3 else HCM.AUTO)
    manager.rds.route_config_name = table
    manager.rds.config_source.CopyFrom(from_ads())
    _set_limits(manager, edge, codec)
    silence = edge.stream_idle_timeout if idle_timeout is None else idle_timeout
    if silence != STREAM_IDLE_DEFAULT:
        manager.stream_idle_timeout.CopyFrom(duration(silence))
    _set_identity(manager, edge, peer)
    manager.normalize_path.value = edge.path_normalise
    if edge.escaped_slashes != "keep":
        manager.path_with_escaped_slashes_action = ESCAPED_SLASHES[edge.escaped_slashes]
    manager.strip_trailing_host_dot = True
    manager.upgrade_configs.add(upgrade_type="websocket")
    if edge.server_header:
        manager.server_name = edge.server_header
    else:
        manager.server_header_transformation = HCM.PASS_THROUGH
    if answer_headers:
        manager.http_filters.append(_answer_headers(answer_headers))
    # The first service that is to be counted changes this, and so drains connections once: only a setting names one.
    manager.http_filters.extend(build_http_filters(counted=bool(edge.statistics_for)))
    manager.local_reply_config.mappers.append(_too_large())
    if bad_gateway:
        manager.local_reply_config.mappers.extend((_connect_timeout(), _bad_gateway()))
    manager.access_log.extend(build_access_logs(edge))
    if edge.tracing_collector:
        manager.tracing.CopyFrom(_tracing(edge.tracing_collector, edge.tracing_percent))
    return typed(manager)


def _set_limits(manager: HCM, edge: Edge, codec: Codec) -> None:
    common = manager.common_http_protocol_options
    common.idle_timeout.CopyFrom(duration(edge.idle_timeout))
    if edge.max_headers != MAX_HEADERS_DEFAULT:
        common.max_headers_count.value = edge.max_headers
    common.headers_with_underscores_action = UNDERSCORES[edge.underscores_in_headers]
    header_kb = -(-edge.max_header_bytes // 1024)
    if header_kb != MAX_HEADER_KB_DEFAULT:
        manager.max_request_headers_kb.value = header_kb
    manager.request_headers_timeout.CopyFrom(duration(edge.headers_timeout))
    if codec is Codec.HTTP3:
        manager.http3_protocol_options.quic_protocol_options.max_concurrent_streams.value = edge.http2_max_streams
        return
    http2 = manager.http2_protocol_options
    http2.max_concurrent_streams.value = edge.http2_max_streams
    http2.initial_stream_window_size.value = edge.http2_window_bytes
    # The connection's window is that of some streams: one slow stream must not stop the others.
    http2.initial_connection_window_size.value = min(4 * edge.http2_window_bytes, MAX_WINDOW_BYTES)
    # Malformed requests reset their stream, not the connection with everybody else's.
    manager.stream_error_on_invalid_http_message.value = True
    # Old load balancers and tools still check with HTTP/1.0; they would get 426.
    manager.http_protocol_options.accept_http_10 = True


def _set_identity(manager: HCM, edge: Edge, peer: Peer) -> None:
    """Who the client is. Trusted proxies have filter chains of their own, since Envoy decides per connection manager
    whether it believes X-Forwarded-Proto, not per peer."""
    # ingress-nginx keeps a client's X-Request-ID too: it joins the logs of both sides.
    manager.preserve_external_request_id = True
    if peer is Peer.TRUSTED_PROXY:
        trusted = xffv3.XffConfig()
        trusted.xff_trusted_cidrs.cidrs.extend(map(cidr_range, edge.trusted_proxies))
        trusted.skip_xff_append.value = False
        manager.original_ip_detection_extensions.append(extension("envoy.http.original_ip_detection.xff", trusted))
        manager.use_remote_address.value = False
        return
    manager.use_remote_address.value = True
    # Envoy's own X-Forwarded-For names the machine's first address for clients on loopback; ours names the client.
    manager.skip_xff_append = True
    peer_address = header_option("x-forwarded-for", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")
    # By prefix, since each name to be removed costs a request 1,300 instructions (of 166,000), the prefix 250.
    forwarded = mutation_rulesv3.HeaderMutation()
    forwarded.remove_on_match.key_matcher.prefix = FORWARDED_PREFIX
    mutation = early_mutationv3.HeaderMutation(
        mutations=[forwarded, mutation_rulesv3.HeaderMutation(append=peer_address)]
    )
    manager.early_header_mutation_extensions.append(
        extension("envoy.http.early_header_mutation.header_mutation", mutation)
    )


def answer_headers_of(edge: Edge, dialect: Dialect, alt_svc_port: int) -> tuple[tuple[str, str], ...]:
    """What every answer on a TLS connection says.

    Args:
        alt_svc_port: UDP port on which HTTP/3 is offered to the client, for a day; 0: it is not.
    """
    headers: list[tuple[str, str]] = []
    if edge.hsts and dialect is Dialect.INGRESS:
        headers.append(("strict-transport-security", HSTS))
    if alt_svc_port:
        headers.append(("alt-svc", f'h3=":{alt_svc_port}"; ma=86400'))
    return tuple(headers)


def _answer_headers(headers: tuple[tuple[str, str], ...]) -> hcmv3.HttpFilter:
    mutations = header_mutationv3.Mutations(
        response_mutations=[
            mutation_rulesv3.HeaderMutation(append=header_option(name, value)) for name, value in headers
        ]
    )
    config = header_mutationv3.HeaderMutation(mutations=mutations)
    return hcmv3.HttpFilter(name="answer_headers", typed_config=typed(config))


def _bad_gateway() -> hcmv3.ResponseMapper:
    """503 for a connection that failed (UF), ended (UC) or was reset (UR) becomes 502; no endpoint (UH) stays 503."""
    flags = accesslogv3.ResponseFlagFilter(flags=["UF", "UC", "UR"])
    mapper = hcmv3.ResponseMapper(filter=accesslogv3.AccessLogFilter(response_flag_filter=flags))
    mapper.status_code.value = 502
    return mapper


def _connect_timeout() -> hcmv3.ResponseMapper:
    """503 for an endpoint that did not accept a connection in time becomes 504, as with nginx."""
    mapper = hcmv3.ResponseMapper(filter=_by_details("connection_timeout"))
    mapper.status_code.value = 504
    return mapper


def _too_large() -> hcmv3.ResponseMapper:
    """403 of the body limit's rule becomes 413."""
    mapper = hcmv3.ResponseMapper(filter=_by_details(TOO_LARGE))
    mapper.status_code.value = 413
    mapper.body.inline_string = "Payload Too Large"
    return mapper


def _by_details(text: str) -> accesslogv3.AccessLogFilter:
    """Answers whose details, in Envoy's words, hold a text."""
    expression = celv3.ExpressionFilter(
        expression=f"has(response.code_details) && response.code_details.contains('{text}')"
    )
    return accesslogv3.AccessLogFilter(
        extension_filter=accesslogv3.ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel", typed_config=typed(expression)
        )
    )


def _tracing(collector: str, percent: float) -> HCM.Tracing:
    """OpenTelemetry over gRPC. Envoy's own client of gRPC would need a cluster; this one dials by name."""
    target = grpc_servicev3.GrpcService.GoogleGrpc(target_uri=collector, stat_prefix="opentelemetry")
    config = opentelemetryv3.OpenTelemetryConfig(
        grpc_service=grpc_servicev3.GrpcService(google_grpc=target), service_name="portway"
    )
    tracing = HCM.Tracing()
    tracing.provider.name = "envoy.tracers.opentelemetry"
    tracing.provider.typed_config.CopyFrom(typed(config))
    tracing.random_sampling.value = percent
    tracing.client_sampling.value = 0
    tracing.max_path_tag_length.value = TRACE_LIMIT
    tracing.spawn_upstream_span.value = True
    return tracing
