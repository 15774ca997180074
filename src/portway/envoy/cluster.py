"""Clusters: how each upstream is spoken to.

One cluster per upstream and fleet; its endpoints come over EDS under the same name. Limits that bite by surprise are
lifted (Envoy's 1,024 connections and requests), retries are bounded by a budget instead of a count, and what fails is
ejected passively. Nothing is written that equals Envoy's default, as each field costs memory at every cluster.
Source of the figures: docs/defaults.md.
"""

from datetime import timedelta
from functools import lru_cache

import msgspec
from envoy.config.cluster.v3 import circuit_breaker_pb2 as circuit_breakerv3
from envoy.config.cluster.v3 import cluster_pb2 as clusterv3
from envoy.config.cluster.v3 import outlier_detection_pb2 as outlier_detectionv3
from envoy.config.core.v3 import base_pb2 as basev3
from envoy.config.core.v3 import health_check_pb2 as health_checkv3
from envoy.config.core.v3 import proxy_protocol_pb2 as proxy_protocolv3
from envoy.extensions.clusters.common.dns.v3 import dns_pb2 as dns_familyv3
from envoy.extensions.clusters.dns.v3 import dns_cluster_pb2 as dnsv3
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2 as upstream_proxyv3
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2 as raw_bufferv3
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as http_optionsv3
from google.protobuf.any_pb2 import Any as TypedConfig

from portway.envoy.bootstrap import statistics_name
from portway.envoy.messages import duration, encode, from_ads, typed
from portway.envoy.names import cluster_key, secret_key
from portway.envoy.retry import DEFAULT_RETRY, build_retry
from portway.envoy.tls import build_upstream_tls, upstream_secrets, verifies
from portway.incremental import Context
from portway.model.handles import UPSTREAM
from portway.model.names import UpstreamKey
from portway.model.resource import Readiness, Resource, make_resource
from portway.model.route import RetryPolicy
from portway.model.upstream import (
    Balancer,
    BalancerKind,
    Circuit,
    Discovery,
    HealthCheck,
    HealthCheckKind,
    Outliers,
    Protocol,
    RetryBudget,
    Upstream,
)

UNLIMITED = 2**32 - 1
SLOW_START_PERCENT_DEFAULT = 10  # Envoy's

PANIC_PERCENT = 1
"""Endpoints that are not healthy get requests only when no other is left. With Envoy's 50 % a rolling update that
drains half of the endpoints would send new requests to those that are about to go; with 0 an upstream whose endpoints
are all draining would answer 503. Envoy rounds to whole percents, so 1 is "none" for up to 100 endpoints."""

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

POLICIES = {
    BalancerKind.ROUND_ROBIN: clusterv3.Cluster.ROUND_ROBIN,
    BalancerKind.LEAST_REQUEST: clusterv3.Cluster.LEAST_REQUEST,
    BalancerKind.RANDOM: clusterv3.Cluster.RANDOM,
    BalancerKind.RING_HASH: clusterv3.Cluster.RING_HASH,
    BalancerKind.MAGLEV: clusterv3.Cluster.MAGLEV,
}

DNS_FAMILIES = {"": dns_familyv3.ALL, "v4": dns_familyv3.V4_ONLY, "v6": dns_familyv3.V6_ONLY}


def build_cluster(upstream: Upstream) -> clusterv3.Cluster:
    """The cluster of an upstream."""
    cluster = clusterv3.Cluster(
        name=upstream.name,
        alt_stat_name=statistics_name(upstream.name, counted=upstream.statistics),
        circuit_breakers=circuit_breakers(upstream.circuit, upstream.retry_budget),
    )
    if upstream.connect_timeout != timedelta(seconds=5):
        cluster.connect_timeout.CopyFrom(duration(upstream.connect_timeout))
    _set_discovery(cluster, upstream)
    _set_balancer(cluster, upstream.balancer, upstream.protocol)
    if upstream.host_override:
        # A sticky client may stay with an endpoint that drains; UNKNOWN is what EDS says of a healthy one.
        cluster.common_lb_config.override_host_status.statuses.extend(
            (health_checkv3.UNKNOWN, health_checkv3.HEALTHY, health_checkv3.DEGRADED, health_checkv3.DRAINING)
        )
    if upstream.outliers is not None:
        cluster.outlier_detection.CopyFrom(_outlier_detection(upstream.outliers))
    if upstream.health_check is not None:
        cluster.health_checks.append(_health_check(upstream.health_check, upstream.protocol))
        # Else an endpoint that EDS no longer names stays until a check fails.
        cluster.ignore_health_on_host_removal = True
        cluster.close_connections_on_host_health_failure = upstream.protocol is Protocol.TCP
    _set_transport_socket(cluster, upstream)
    if upstream.protocol not in (Protocol.TCP, Protocol.UDP):
        cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(_http_options(upstream))
    return cluster


def readiness(upstream: Upstream) -> Readiness:
    """What must have happened before a route may point at the cluster."""
    if upstream.discovery is Discovery.DNS:
        return Readiness.AT_ONCE
    return Readiness.ENDPOINTS if upstream.health_check is None else Readiness.WARM


def cluster_resource(context: Context, member: tuple[str, UpstreamKey]) -> Resource | None:
    """The cluster of an upstream that a fleet uses."""
    _, key = member
    upstream = context.get(UPSTREAM, key)
    if upstream is None:
        return None
    return make_resource(
        cluster_key(upstream.name),
        encode(build_cluster(upstream)),
        requires=tuple(sorted(map(secret_key, upstream_secrets(upstream.tls)))) if upstream.tls else (),
        readiness=readiness(upstream),
        origins=upstream.origins,
    )


def _set_discovery(cluster: clusterv3.Cluster, upstream: Upstream) -> None:
    # Changes are applied at once; Envoy's own merge window of a second delays weights and health.
    cluster.common_lb_config.update_merge_window.SetInParent()
    cluster.common_lb_config.healthy_panic_threshold.value = PANIC_PERCENT
    if upstream.discovery is Discovery.ENDPOINTS:
        cluster.type = clusterv3.Cluster.EDS
        cluster.eds_cluster_config.eds_config.CopyFrom(from_ads())
        return
    resolved = dnsv3.DnsCluster(respect_dns_ttl=True, dns_lookup_family=DNS_FAMILIES[upstream.dns_family])
    cluster.cluster_type.name = "envoy.cluster.dns"
    cluster.cluster_type.typed_config.CopyFrom(typed(resolved))
    # A name that does not resolve must not hold back everything else of the same response (envoy.md: 60 s and more).
    cluster.wait_for_warm_on_init.value = False
    cluster.load_assignment.cluster_name = upstream.name
    endpoint = cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint
    endpoint.address.socket_address.address = upstream.dns_name
    endpoint.address.socket_address.port_value = upstream.dns_port
    endpoint.hostname = upstream.dns_name


def _set_balancer(cluster: clusterv3.Cluster, balancer: Balancer, protocol: Protocol) -> None:
    if protocol is Protocol.UDP and balancer.kind is BalancerKind.LEAST_REQUEST:
        # Envoy counts no UDP session as a request, so this would be a lottery.
        balancer = msgspec.structs.replace(balancer, kind=BalancerKind.ROUND_ROBIN)
    cluster.lb_policy = POLICIES[balancer.kind]
    if balancer.slow_start is None:
        return
    config = clusterv3.Cluster.SlowStartConfig(slow_start_window=duration(balancer.slow_start))
    if balancer.slow_start_min_percent != SLOW_START_PERCENT_DEFAULT:
        config.min_weight_percent.value = balancer.slow_start_min_percent
    if balancer.kind is BalancerKind.ROUND_ROBIN:
        cluster.round_robin_lb_config.slow_start_config.CopyFrom(config)
    elif balancer.kind is BalancerKind.LEAST_REQUEST:
        cluster.least_request_lb_config.slow_start_config.CopyFrom(config)


@lru_cache(maxsize=256)
def circuit_breakers(circuit: Circuit, budget: RetryBudget) -> circuit_breakerv3.CircuitBreakers:
    """Limits that do not bite unless asked for, and the retry budget. Not to be changed by the caller."""
    breakers = circuit_breakerv3.CircuitBreakers()
    thresholds = breakers.thresholds.add()
    limits = (circuit.max_connections, circuit.max_pending_requests, circuit.max_requests)
    # No requests may wait at all: 0 is a limit too.
    connections, pending, requests = (UNLIMITED if limit is None else limit for limit in limits)
    thresholds.max_connections.value = connections
    thresholds.max_pending_requests.value = pending
    thresholds.max_requests.value = requests
    thresholds.retry_budget.budget_percent.value = budget.percent
    thresholds.retry_budget.min_retry_concurrency.value = budget.min_concurrent
    return breakers


@lru_cache(maxsize=256)
def _outlier_detection(outliers: Outliers) -> outlier_detectionv3.OutlierDetection:
    detection = outlier_detectionv3.OutlierDetection(split_external_local_origin_errors=True)
    detection.interval.CopyFrom(duration(outliers.interval))
    detection.base_ejection_time.CopyFrom(duration(outliers.base_ejection))
    detection.max_ejection_percent.value = outliers.max_ejected_percent
    # Envoy ejects by status code and by success rate unless told not to.
    detection.enforcing_success_rate.value = 0
    detection.enforcing_local_origin_success_rate.value = 0
    if outliers.consecutive_5xx:
        detection.consecutive_5xx.value = outliers.consecutive_5xx
    else:
        detection.enforcing_consecutive_5xx.value = 0
    if outliers.consecutive_gateway_errors:
        detection.consecutive_gateway_failure.value = outliers.consecutive_gateway_errors
        detection.enforcing_consecutive_gateway_failure.value = 100
    if outliers.consecutive_local_failures:
        detection.consecutive_local_origin_failure.value = outliers.consecutive_local_failures
    else:
        detection.enforcing_consecutive_local_origin_failure.value = 0
    return detection


def _health_check(check: HealthCheck, protocol: Protocol) -> health_checkv3.HealthCheck:
    built = health_checkv3.HealthCheck(timeout=duration(check.timeout), interval=duration(check.interval))
    built.healthy_threshold.value = check.healthy_threshold
    built.unhealthy_threshold.value = check.unhealthy_threshold
    # Envoy checks an upstream without traffic only once a minute; then its first requests would go anywhere.
    built.no_traffic_interval.CopyFrom(duration(check.interval))
    match check.kind:
        case HealthCheckKind.HTTP:
            built.http_health_check.path = check.path
            built.http_health_check.host = check.host
            for first, last in check.statuses:
                # Envoy's ranges leave out their end.
                built.http_health_check.expected_statuses.add(start=first, end=last + 1)
        case HealthCheckKind.GRPC if protocol in (Protocol.HTTP2, Protocol.AS_DOWNSTREAM):
            built.grpc_health_check.service_name = check.grpc_service
            built.grpc_health_check.authority = check.host
        case _:
            # Also for gRPC checks of what does not speak HTTP/2: Envoy refuses those.
            built.tcp_health_check.SetInParent()
    return built


def _set_transport_socket(cluster: clusterv3.Cluster, upstream: Upstream) -> None:
    socket: basev3.TransportSocket | None = None
    if upstream.tls is not None:
        tls = build_upstream_tls(upstream.tls, upstream.protocol)
        socket = basev3.TransportSocket(name="envoy.transport_sockets.tls", typed_config=typed(tls))
    if upstream.proxy_protocol:
        inner = socket or basev3.TransportSocket(
            name="envoy.transport_sockets.raw_buffer", typed_config=typed(raw_bufferv3.RawBuffer())
        )
        version = (
            proxy_protocolv3.ProxyProtocolConfig.V1
            if upstream.proxy_protocol == 1
            else (proxy_protocolv3.ProxyProtocolConfig.V2)
        )
        wrapper = upstream_proxyv3.ProxyProtocolUpstreamTransport(
            config=proxy_protocolv3.ProxyProtocolConfig(version=version), transport_socket=inner
        )
        socket = basev3.TransportSocket(
            name="envoy.transport_sockets.upstream_proxy_protocol", typed_config=typed(wrapper)
        )
    if socket is not None:
        cluster.transport_socket.CopyFrom(socket)


def _http_options(upstream: Upstream) -> TypedConfig:
    tls = upstream.tls
    auto_sni = tls is not None and tls.auto_sni and not tls.sni
    return _cached_http_options(
        upstream.protocol,
        upstream.idle_timeout,
        upstream.circuit.max_requests_per_connection,
        None if upstream.route_retries else upstream.retry or DEFAULT_RETRY,
        auto_sni,
        auto_sni and tls is not None and verifies(tls) and not tls.names,
    )


@lru_cache(maxsize=256)
def _cached_http_options(
    protocol: Protocol,
    idle_timeout: timedelta | None,
    max_requests: int | None,
    retry: RetryPolicy | None,
    auto_sni: bool,
    auto_san: bool,
) -> TypedConfig:
    options = http_optionsv3.HttpProtocolOptions()
    if retry is not None:
        options.retry_policy.CopyFrom(build_retry(retry))
    match protocol:
        case Protocol.HTTP2:
            options.explicit_http_config.http2_protocol_options.SetInParent()
        case Protocol.AS_DOWNSTREAM:
            options.use_downstream_protocol_config.http_protocol_options.SetInParent()
            options.use_downstream_protocol_config.http2_protocol_options.SetInParent()
        case _:
            options.explicit_http_config.http_protocol_options.SetInParent()
    if idle_timeout is not None:
        options.common_http_protocol_options.idle_timeout.CopyFrom(duration(idle_timeout))
    if max_requests is not None:
        options.common_http_protocol_options.max_requests_per_connection.value = max_requests
    if auto_sni:
        options.upstream_http_protocol_options.auto_sni = True
        options.upstream_http_protocol_options.auto_san_validation = auto_san
    return typed(options)
