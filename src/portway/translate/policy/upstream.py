"""UpstreamPolicy: which policy holds for an upstream, and what it says in the model's words.

A policy that names the Service's port (`sectionName`) beats one for the whole Service; among equals the older wins. The
loser is reported, never merged: one policy says all, so that one look tells what holds (GEP-713, "direct attachment").
"""

from collections.abc import Iterable

import msgspec

from portway.incremental import Context
from portway.model.names import UpstreamKey, UpstreamKind
from portway.model.route import HashOn, HashPolicy, StickyCookie
from portway.model.upstream import (
    Balancer,
    BalancerKind,
    Circuit,
    HealthCheck,
    HealthCheckKind,
    Outliers,
    RetryBudget,
    Upstream,
)
from portway.objects.core_v1 import Service
from portway.objects.meta import Object
from portway.objects.portway_v1alpha1 import (
    PORTWAY_GROUP,
    HashSource,
    LoadBalancerType,
    ProxyProtocolVersion,
    UpstreamPolicy,
    UpstreamPolicySpec,
    ZoneAwareType,
)
from portway.objects.portway_v1alpha1 import HashOn as HashOnObject
from portway.objects.portway_v1alpha1 import HealthCheck as HealthCheckObject
from portway.store import Index, read_object
from portway.translate.policy.attachment import rank

GROUPS = {UpstreamKind.SERVICE: "", UpstreamKind.BACKEND: PORTWAY_GROUP}


def _targets(found: Object) -> Iterable[tuple[str, str, str, str]]:
    if isinstance(found, UpstreamPolicy):
        for target in found.spec.target_refs:
            yield target.group, target.kind, found.metadata.namespace, target.name


BY_TARGET = Index("UpstreamPolicy by target", "UpstreamPolicy", _targets)


def policies_for(
    ctx: Context, kind: UpstreamKind, namespace: str, name: str, port_name: str
) -> tuple[UpstreamPolicy, ...]:
    """All policies for a port, the one that holds first."""
    keys = BY_TARGET.read(ctx, (GROUPS[kind], str(kind), namespace, name))
    policies = [read_object(ctx, UpstreamPolicy, key.namespace, key.name) for key in keys]
    return rank(policies, GROUPS[kind], str(kind), name, port_name)


def port_name_of(ctx: Context, key: UpstreamKey) -> str:
    """Name of the Service's port that an upstream is about; empty if it has none."""
    if key.kind is not UpstreamKind.SERVICE:
        return ""
    service = read_object(ctx, Service, key.namespace, key.name)
    ports = service.spec.ports if service is not None else ()
    return next((port.name for port in ports if port.port == key.port), "")


def policy_of(ctx: Context, key: UpstreamKey) -> UpstreamPolicy | None:
    """The policy that holds for an upstream."""
    found = policies_for(ctx, key.kind, key.namespace, key.name, port_name_of(ctx, key))
    return found[0] if found else None


BALANCERS = {
    LoadBalancerType.ROUND_ROBIN: BalancerKind.ROUND_ROBIN,
    LoadBalancerType.LEAST_REQUEST: BalancerKind.LEAST_REQUEST,
    LoadBalancerType.RANDOM: BalancerKind.RANDOM,
    LoadBalancerType.RING_HASH: BalancerKind.RING_HASH,
    LoadBalancerType.MAGLEV: BalancerKind.MAGLEV,
}
HASHES = {
    HashSource.HEADER: HashOn.HEADER,
    HashSource.COOKIE: HashOn.COOKIE,
    HashSource.SOURCE_ADDRESS: HashOn.SOURCE_ADDRESS,
    HashSource.QUERY_PARAM: HashOn.QUERY_PARAMETER,
}


def apply_policy(upstream: Upstream, spec: UpstreamPolicySpec) -> Upstream:
    """The upstream as the policy wants it; what the policy does not say stays."""
    changes: dict[str, object] = {}
    zone_aware = spec.zone_aware is not None and spec.zone_aware.type is ZoneAwareType.PREFER_LOCAL
    if spec.load_balancer is not None or zone_aware:
        balancer = spec.load_balancer
        slow_start = balancer.slow_start if balancer is not None else None
        changes["balancer"] = Balancer(
            kind=BALANCERS[balancer.type] if balancer is not None else upstream.balancer.kind,
            slow_start=slow_start.window if slow_start is not None else None,
            slow_start_min_percent=slow_start.min_percent if slow_start is not None else 10,
            zone_aware=zone_aware,
            zone_min_endpoints=spec.zone_aware.min_endpoints if spec.zone_aware is not None and zone_aware else 1,
        )
    if spec.session_affinity is not None:
        changes["host_override"] = True
    if spec.health_check is not None:
        changes["health_check"] = translate_health_check(spec.health_check)
    if (outliers := spec.outlier_detection) is not None:
        counted = [each for each in (outliers.consecutive_5xx, outliers.consecutive_gateway_errors) if each]
        changes["outliers"] = Outliers(
            consecutive_5xx=outliers.consecutive_5xx or 0,
            consecutive_gateway_errors=outliers.consecutive_gateway_errors or 0,
            # Failed connections are among both; they are counted apart from answers, so the stricter limit holds.
            consecutive_local_failures=min(counted, default=0),
            interval=outliers.interval,
            base_ejection=outliers.base_ejection_time,
            max_ejected_percent=outliers.max_ejection_percent,
        )
    if (circuit := spec.circuit_breaker) is not None:
        changes["circuit"] = Circuit(
            max_connections=circuit.max_connections,
            max_pending_requests=circuit.max_pending_requests,
            max_requests=circuit.max_requests,
            max_requests_per_connection=circuit.max_requests_per_connection,
        )
    if (budget := spec.retry_budget) is not None:
        changes["retry_budget"] = RetryBudget(percent=budget.percent, min_concurrent=budget.min_concurrent)
    if spec.timeouts is not None and spec.timeouts.connect is not None:
        changes["connect_timeout"] = spec.timeouts.connect
    if spec.timeouts is not None and spec.timeouts.idle is not None:
        changes["idle_timeout"] = spec.timeouts.idle
    if spec.proxy_protocol is not None:
        changes["proxy_protocol"] = 1 if spec.proxy_protocol is ProxyProtocolVersion.V1 else 2
    return msgspec.structs.replace(upstream, **changes)


def translate_health_check(check: HealthCheckObject) -> HealthCheck:
    common = HealthCheck(
        kind=HealthCheckKind.TCP,
        interval=check.interval,
        timeout=check.timeout,
        healthy_threshold=check.healthy_threshold,
        unhealthy_threshold=check.unhealthy_threshold,
    )
    if check.http is not None:
        return msgspec.structs.replace(
            common,
            kind=HealthCheckKind.HTTP,
            path=check.http.path,
            host=check.http.host or "",
            statuses=tuple((status, status) for status in sorted(set(check.http.expected_statuses))),
        )
    if check.grpc is not None:
        return msgspec.structs.replace(common, kind=HealthCheckKind.GRPC, grpc_service=check.grpc.service)
    return common


def translate_hash(entry: HashOnObject) -> HashPolicy:
    match entry.type:
        case HashSource.COOKIE if entry.cookie is not None:
            return HashPolicy(on=HashOn.COOKIE, name=entry.cookie.name, ttl=entry.cookie.ttl, path=entry.cookie.path)
        case HashSource.HEADER:
            return HashPolicy(on=HashOn.HEADER, name=(entry.header or "").lower())
        case HashSource.QUERY_PARAM:
            return HashPolicy(on=HashOn.QUERY_PARAMETER, name=entry.query_param or "")
        case _:
            return HashPolicy(on=HashOn.SOURCE_ADDRESS)


def affinity_of(spec: UpstreamPolicySpec) -> tuple[tuple[HashPolicy, ...], StickyCookie | None]:
    """What routes to an upstream have to do for its policy: what to hash, and the cookie that names the endpoint."""
    hashes: tuple[HashPolicy, ...] = ()
    balancer = spec.load_balancer
    if balancer is not None and balancer.type in (LoadBalancerType.RING_HASH, LoadBalancerType.MAGLEV):
        hashes = tuple(map(translate_hash, balancer.hash_on)) or (HashPolicy(on=HashOn.SOURCE_ADDRESS),)
    cookie = spec.session_affinity.cookie if spec.session_affinity is not None else None
    if cookie is None:
        return hashes, None
    sticky = StickyCookie(name=cookie.name, path=cookie.path)
    return hashes, sticky if cookie.ttl is None else msgspec.structs.replace(sticky, ttl=cookie.ttl)


INDEXES = (BY_TARGET,)
