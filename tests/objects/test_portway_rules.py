"""Rules of portway.dev/v1alpha1."""

from collections.abc import Mapping

import pytest

from tests.objects.documents import GONE, expect, parsed_errors

Case = tuple[str, Mapping[str, object], str | tuple[str, ...]]

CASES: dict[str, Case] = {
    "a backend is somewhere": ("Backend", {"spec.addresses": GONE}, "spec"),
    "a backend is in one place": ("Backend", {"spec.dns": {"name": "a.b", "port": 1}}, "spec"),
    "a backend may be a name": ("Backend", {"spec": {"dns": {"name": "a.b", "port": 1, "family": "IPv6"}}}, ()),
    "a name is a DNS name": ("Backend", {"spec": {"dns": {"name": "*.b", "port": 1}}}, "spec.dns.name"),
    "a backend may be a socket": ("Backend", {"spec": {"unixSocket": {"path": "/run/a.sock"}}}, ()),
    "a socket's path is absolute": ("Backend", {"spec": {"unixSocket": {"path": "a"}}}, "spec.unixSocket.path"),
    "a socket's path fits the kernel": (
        "Backend",
        {"spec": {"unixSocket": {"path": "/" + "a" * 107}}},
        "spec.unixSocket.path",
    ),
    "an address is one": ("Backend", {"spec.addresses[0].address": "a.b"}, "spec.addresses[0].address"),
    "an address may be IPv6": ("Backend", {"spec.addresses[0].address": "2001:db8::1"}, ()),
    "a weight is positive": ("Backend", {"spec.addresses[0].weight": 0}, "spec.addresses[0].weight"),
    "TLS says whom it trusts": ("Backend", {"spec.tls": {"hostname": "a.b"}}, "spec.tls"),
    "TLS says it once": (
        "Backend",
        {"spec.tls": {"hostname": "a.b", "wellKnownCACertificates": "System", "insecureSkipVerify": True}},
        "spec.tls",
    ),
    "TLS to an address has a name": (
        "Backend",
        {"spec.tls": {"wellKnownCACertificates": "System"}},
        "spec.tls.hostname",
    ),
    "TLS to a name has one": (
        "Backend",
        {"spec": {"dns": {"name": "a.b", "port": 1}, "tls": {"wellKnownCACertificates": "System"}}},
        (),
    ),
    "who trusts everybody needs no name": ("Backend", {"spec.tls": {"insecureSkipVerify": True}}, ()),
    "a policy is for Services and Backends": (
        "UpstreamPolicy",
        {
            "spec.targetRefs": [
                {"group": "", "kind": "Service", "name": "a", "sectionName": "http"},
                {"group": "portway.dev", "kind": "Backend", "name": "a"},
                {"group": "portway.dev", "kind": "Backend", "name": "b", "sectionName": "http"},
                {"group": "apps", "kind": "Deployment", "name": "a"},
            ]
        },
        ("spec.targetRefs[2].sectionName", "spec.targetRefs[3]"),
    ),
    "a target occurs once": (
        "UpstreamPolicy",
        {"spec.targetRefs[1]": {"group": "", "kind": "Service", "name": "cart"}},
        "spec.targetRefs[1]",
    ),
    "only hashes hash": (
        "UpstreamPolicy",
        {"spec.loadBalancer.hashOn": [{"type": "SourceAddress"}]},
        "spec.loadBalancer.hashOn",
    ),
    "a hash has the field of its type": (
        "UpstreamPolicy",
        {"spec.loadBalancer": {"type": "Maglev", "hashOn": [{"type": "Header", "queryParam": "a"}]}},
        ("spec.loadBalancer.hashOn[0].header", "spec.loadBalancer.hashOn[0].queryParam"),
    ),
    "a hash of the address has no field": (
        "UpstreamPolicy",
        {"spec.loadBalancer": {"type": "RingHash", "hashOn": [{"type": "SourceAddress"}]}},
        (),
    ),
    "hashes have no slow start": (
        "UpstreamPolicy",
        {"spec.loadBalancer": {"type": "Maglev", "slowStart": {"window": "30s"}}},
        "spec.loadBalancer.slowStart",
    ),
    "a slow start takes time": (
        "UpstreamPolicy",
        {"spec.loadBalancer.slowStart.window": "0s"},
        "spec.loadBalancer.slowStart.window",
    ),
    "affinity does not go with hashes": (
        "UpstreamPolicy",
        {"spec.loadBalancer.type": "Maglev", "spec.sessionAffinity": {}},
        "spec.sessionAffinity",
    ),
    "a cookie has a name": (
        "UpstreamPolicy",
        {"spec.sessionAffinity.cookie": {"name": "a b", "path": "x", "ttl": "1d"}},
        tuple(f"spec.sessionAffinity.cookie.{name}" for name in ("name", "path", "ttl")),
    ),
    "a check asks one thing": ("UpstreamPolicy", {"spec.healthCheck": {}}, "spec.healthCheck"),
    "a check asks it once": ("UpstreamPolicy", {"spec.healthCheck": {"http": {}, "tcp": {}}}, "spec.healthCheck"),
    "a check is no flood": (
        "UpstreamPolicy",
        {"spec.healthCheck": {"tcp": {}, "interval": "99ms", "timeout": "0s"}},
        ("spec.healthCheck.timeout", "spec.healthCheck.interval"),
    ),
    "expected statuses are statuses": (
        "UpstreamPolicy",
        {"spec.healthCheck.http.expectedStatuses": [200, 200]},
        "spec.healthCheck.http.expectedStatuses[1]",
    ),
    "detection takes time": (
        "UpstreamPolicy",
        {"spec.outlierDetection": {"interval": "1ms", "baseEjectionTime": "0s", "maxEjectionPercent": 101}},
        "spec.outlierDetection.maxEjectionPercent",
    ),
    "detection takes time, the rest being right": (
        "UpstreamPolicy",
        {"spec.outlierDetection": {"interval": "1ms", "baseEjectionTime": "0s"}},
        ("spec.outlierDetection.interval", "spec.outlierDetection.baseEjectionTime"),
    ),
    "connecting takes time": ("UpstreamPolicy", {"spec.timeouts.connect": "0s"}, "spec.timeouts.connect"),
    "everything at once": (
        "UpstreamPolicy",
        {
            "spec.loadBalancer": {"type": "LeastRequest", "slowStart": {"window": "30s", "minPercent": 5}},
            "spec.sessionAffinity": {"cookie": {"name": "stay", "ttl": "1h"}},
            "spec.healthCheck": {"grpc": {"service": "shop.v1.Cart"}, "interval": "10s"},
            "spec.outlierDetection": {"consecutive5xx": 3},
            "spec.circuitBreaker": {"maxConnections": 10, "maxPendingRequests": 0},
            "spec.retryBudget": {"percent": 10, "minConcurrent": 3},
            "spec.timeouts": {"connect": "1s", "idle": "0s"},
            "spec.proxyProtocol": "V2",
            "spec.zoneAware": {"type": "PreferLocal"},
        },
        (),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    kind, changes, fields = CASES[name]
    assert parsed_errors(kind, changes) == expect(fields)
