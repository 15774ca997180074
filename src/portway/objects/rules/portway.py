"""Rules of portway.dev/v1alpha1.

Source: `docs/design/portway-api.md`.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Final

from portway.objects.portway_v1alpha1 import (
    PORTWAY_GROUP,
    BackendAddress,
    BackendSpec,
    BackendTLS,
    HashOn,
    HashSource,
    HealthCheck,
    LoadBalancer,
    LoadBalancerType,
    OutlierDetection,
    SlowStart,
    UpstreamPolicySpec,
    UpstreamTimeouts,
)
from portway.objects.problems import Problem, listed, quoted
from portway.objects.rules.engine import Table, rules
from portway.objects.rules.names import is_plain_ip, wrong_qualified_name
from portway.objects.rules.routes import named_field, target_refs

TARGETS: Final = frozenset({("", "Service"), (PORTWAY_GROUP, "Backend")})
"""Group and kind of what an UpstreamPolicy can be attached to."""

_ZERO: Final = timedelta()
_SHORTEST: Final = timedelta(milliseconds=100)
"""Checks and sweeps more often than that cost more than they tell."""
_HASHES: Final = frozenset({LoadBalancerType.RING_HASH, LoadBalancerType.MAGLEV})
_SLOW_STARTS: Final = frozenset({LoadBalancerType.ROUND_ROBIN, LoadBalancerType.LEAST_REQUEST})


def exactly_one(fields: Mapping[str, bool]) -> Iterable[Problem]:
    """Exactly one of the fields is set."""
    found = [name for name, is_set in fields.items() if is_set]
    if len(found) == 1:
        return ()
    if not found:
        return (Problem((), f"has none of {', '.join(fields)}", "set exactly one of them"),)
    return (Problem((), f"has {' and '.join(found)}", f"keep exactly one of {listed(found)}"),)


def _one_place(spec: BackendSpec) -> Iterable[Problem]:
    return exactly_one(
        {
            "addresses": spec.addresses is not None,
            "dns": spec.dns is not None,
            "unixSocket": spec.unix_socket is not None,
        }
    )


def _backend_tls(spec: BackendSpec) -> Iterator[Problem]:
    tls = spec.tls
    if tls is not None and tls.hostname is None and spec.dns is None and not tls.insecure_skip_verify:
        problem = "is required where there is no dns name, but not set"
        yield Problem(("tls", "hostname"), problem, "write the name that the backend's certificate has")
    if spec.app_protocol is not None and (wrong := wrong_qualified_name(spec.app_protocol)):
        yield Problem(("appProtocol",), *wrong)


def _trust(tls: BackendTLS) -> Iterable[Problem]:
    return exactly_one(
        {
            "caCertificateRefs": tls.ca_certificate_refs is not None,
            "wellKnownCACertificates": tls.well_known_ca_certificates is not None,
            "insecureSkipVerify": tls.insecure_skip_verify,
        }
    )


def _address(address: BackendAddress) -> Iterable[Problem]:
    if is_plain_ip(address.address):
        return ()
    return (Problem(("address",), f"{quoted(address.address)} is not an IP address", "a name belongs into spec.dns"),)


def _targets(spec: UpstreamPolicySpec) -> Iterator[Problem]:
    yield from target_refs(spec.target_refs)
    for index, target in enumerate(spec.target_refs):
        if (target.group, target.kind) not in TARGETS:
            problem = f"is a {target.kind} of group {quoted(target.group)}, which has no upstream"
            yield Problem(("targetRefs", index), problem, f'name a Service (group "") or a Backend ({PORTWAY_GROUP})')
        elif target.kind == "Backend" and target.section_name is not None:
            yield Problem(("targetRefs", index, "sectionName"), "is set, but a Backend has no sections", "remove it")


def _affinity(spec: UpstreamPolicySpec) -> Iterable[Problem]:
    if spec.session_affinity is not None and spec.load_balancer is not None and spec.load_balancer.type in _HASHES:
        problem = f"is set, but loadBalancer {spec.load_balancer.type} already ties clients to endpoints"
        return (Problem(("sessionAffinity",), problem, "keep one of the two"),)
    return ()


def _load_balancer(balancer: LoadBalancer) -> Iterator[Problem]:
    if balancer.hash_on and balancer.type not in _HASHES:
        problem = f"is set, but type {balancer.type} hashes nothing"
        yield Problem(("hashOn",), problem, "use type RingHash or Maglev")
    if balancer.slow_start is not None and balancer.type not in _SLOW_STARTS:
        problem = f"is set, but type {balancer.type} has no slow start"
        yield Problem(("slowStart",), problem, "use type RoundRobin or LeastRequest")


def _hash_on(found: HashOn) -> Iterator[Problem]:
    yield from named_field(
        found.type,
        {
            HashSource.HEADER: ("header", found.header),
            HashSource.COOKIE: ("cookie", found.cookie),
            HashSource.QUERY_PARAM: ("queryParam", found.query_param),
        },
    )


def _slow_start(slow_start: SlowStart) -> Iterable[Problem]:
    return _longer_than_zero("window", slow_start.window)


def _longer_than_zero(name: str, duration: timedelta) -> Iterable[Problem]:
    if duration <= _ZERO:
        return (Problem((name,), "is zero", "write a duration such as 30s"),)
    return ()


def _health_check(check: HealthCheck) -> Iterator[Problem]:
    yield from exactly_one(
        {"http": check.http is not None, "grpc": check.grpc is not None, "tcp": check.tcp is not None}
    )
    yield from _longer_than_zero("timeout", check.timeout)
    yield from _at_least("interval", check.interval)


def _at_least(name: str, duration: timedelta) -> Iterable[Problem]:
    if duration < _SHORTEST:
        return (
            Problem((name,), f"{duration} is shorter than the 100ms that are allowed at least", "write 100ms or more"),
        )
    return ()


def _outlier_detection(detection: OutlierDetection) -> Iterator[Problem]:
    yield from _at_least("interval", detection.interval)
    yield from _longer_than_zero("baseEjectionTime", detection.base_ejection_time)


def _timeouts(timeouts: UpstreamTimeouts) -> Iterable[Problem]:
    return () if timeouts.connect is None else _longer_than_zero("connect", timeouts.connect)


RULES: Final[Table] = dict(
    [
        rules(BackendSpec, _one_place, _backend_tls),
        rules(BackendAddress, _address),
        rules(BackendTLS, _trust),
        rules(UpstreamPolicySpec, _targets, _affinity),
        rules(LoadBalancer, _load_balancer),
        rules(HashOn, _hash_on),
        rules(SlowStart, _slow_start),
        rules(HealthCheck, _health_check),
        rules(OutlierDetection, _outlier_detection),
        rules(UpstreamTimeouts, _timeouts),
    ]
)
