"""Objects of Portway's own kinds, right and wrong: one that sets everything, edits of it, and random ones."""

import copy
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final, NamedTuple, TypeAlias

Value: TypeAlias = Any  # type: ignore[explicit-any]  # any YAML
Path: TypeAlias = tuple[str | int, ...]


class Edit(NamedTuple):
    """A change of one field; `GONE` takes it away."""

    kind: str
    path: Path
    value: Value


GONE: Final = object()

WHOLE: Final[dict[str, Value]] = {
    "Backend": {
        "addresses": [
            {"address": "192.0.2.1", "port": 80, "weight": 3, "zone": "a"},
            {"address": "2001:db8::1", "port": 443},
        ],
        "appProtocol": "kubernetes.io/h2c",
        "tls": {
            "hostname": "shop.example",
            "clientCertificateRef": {"group": "", "kind": "Secret", "name": "own"},
            "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}],
        },
    },
    "UpstreamPolicy": {
        "targetRefs": [
            {"group": "", "kind": "Service", "name": "shop", "sectionName": "http"},
            {"group": "", "kind": "Service", "name": "shop", "sectionName": "admin"},
            {"group": "portway.dev", "kind": "Backend", "name": "old"},
        ],
        "loadBalancer": {
            "type": "RingHash",
            "hashOn": [
                {"type": "Header", "header": "x-user"},
                {"type": "Cookie", "cookie": {"name": "user", "ttl": "1h", "path": "/"}},
                {"type": "QueryParam", "queryParam": "user"},
                {"type": "SourceAddress"},
            ],
        },
        "healthCheck": {
            "interval": "5s",
            "timeout": "1s",
            "unhealthyThreshold": 2,
            "http": {"path": "/ok", "host": "shop.example", "expectedStatuses": [200, 204]},
        },
        "outlierDetection": {"consecutive5xx": 3, "interval": "10s", "baseEjectionTime": "30s"},
        "circuitBreaker": {"maxConnections": 10, "maxPendingRequests": 0},
        "retryBudget": {"percent": 10},
        "timeouts": {"connect": "1s", "idle": "0s"},
        "proxyProtocol": "V2",
        "zoneAware": {"type": "PreferLocal", "minEndpoints": 3},
    },
    "FleetParameters": {
        "workload": {
            "type": "Deployment",
            "autoscaling": {"minReplicas": 2, "maxReplicas": 4, "targetCPUPercent": 60},
            "disruptionBudget": {"maxUnavailable": "25%"},
            "maxSurge": 1,
            "maxUnavailable": "50%",
        },
        "pod": {
            "labels": {"team": "edge", "example.com/tier": "front"},
            "annotations": {"Example.com/Note": "any text"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [
                {"key": "dedicated", "operator": "Equal", "value": "edge", "effect": "NoSchedule"},
                {"operator": "Exists"},
            ],
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname"}]
                }
            },
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
            ],
            "priorityClassName": "system-cluster-critical",
            "imagePullSecrets": [{"name": "registry"}],
            "terminationGracePeriod": "1m",
            "securityContext": {"runAsUser": 1000, "sysctls": [{"name": "net.core.somaxconn", "value": "1024"}]},
        },
        "container": {
            "image": "portway:1",
            "imagePullPolicy": "IfNotPresent",
            "resources": {"requests": {"cpu": "500m", "memory": "1.5Gi"}, "limits": {"memory": 1073741824}},
        },
        "service": {
            "type": "LoadBalancer",
            "labels": {"a": "b"},
            "annotations": {"example.com/lb": "x"},
            "externalTrafficPolicy": "Local",
            "loadBalancerClass": "example.com/lb",
            "loadBalancerSourceRanges": ["192.0.2.0/24", "2001:db8::/32"],
            "nodePorts": [
                {"port": 443, "nodePort": 30443},
                {"port": 443, "protocol": "UDP", "nodePort": 30443},
            ],
        },
        "proxy": {"logLevel": "debug", "concurrency": 2, "drainTime": "10s", "healthPort": 18080},
        "addresses": [{"value": "192.0.2.9"}, {"type": "Hostname", "value": "edge.example"}],
    },
}
"""By kind, a spec that is right and says much."""

B, U, F = "Backend", "UpstreamPolicy", "FleetParameters"
_SERVICE: Final = {"group": "", "kind": "Service", "name": "shop"}
LONG_DOMAIN: Final = ".".join(["a" * 49] * 5)

EDITS: Final = (
    Edit(B, ("addresses",), GONE),
    Edit(B, ("addresses",), []),
    Edit(B, ("dns",), {"name": "shop.example", "port": 80}),
    Edit(B, ("unixSocket",), {"path": "/run/shop"}),
    Edit(B, ("addresses", 0, "address"), "shop.example"),
    Edit(B, ("addresses", 0, "address"), "192.0.2.01"),
    Edit(B, ("addresses", 0, "address"), "fe80::1%eth0"),
    Edit(B, ("addresses", 0, "address"), "::ffff:192.0.2.1"),
    Edit(B, ("addresses", 0, "weight"), 0),
    Edit(B, ("tls", "hostname"), GONE),
    Edit(B, ("tls",), {"insecureSkipVerify": True}),
    Edit(B, ("tls", "insecureSkipVerify"), True),
    Edit(B, ("tls", "wellKnownCACertificates"), "System"),
    Edit(B, ("tls", "caCertificateRefs"), GONE),
    Edit(B, ("appProtocol",), "-"),
    Edit(B, ("appProtocol",), f"{LONG_DOMAIN}/h2c"),
    Edit(B, ("appProtocol",), f"{LONG_DOMAIN}.aaaa/h2c"),
    Edit(U, ("targetRefs", 0), {"group": "", "kind": "Secret", "name": "shop"}),
    Edit(U, ("targetRefs", 0), {"group": "portway.dev", "kind": "Service", "name": "shop"}),
    Edit(U, ("targetRefs", 2, "sectionName"), "http"),
    Edit(U, ("targetRefs", 1), _SERVICE),
    Edit(U, ("targetRefs",), [_SERVICE, _SERVICE]),
    Edit(U, ("targetRefs", 1, "sectionName"), "http"),
    Edit(U, ("targetRefs",), [_SERVICE, {**_SERVICE, "name": "pay"}]),
    Edit(U, ("sessionAffinity",), {}),
    Edit(U, ("sessionAffinity",), {"cookie": {"ttl": "1h"}}),
    Edit(U, ("loadBalancer",), {"type": "Random", "hashOn": [{"type": "SourceAddress"}]}),
    Edit(U, ("loadBalancer",), {"hashOn": [{"type": "SourceAddress"}]}),
    Edit(U, ("loadBalancer",), {"type": "Random", "hashOn": []}),
    Edit(U, ("loadBalancer",), {}),
    Edit(U, ("loadBalancer", "slowStart"), {"window": "10s"}),
    Edit(U, ("loadBalancer",), {"slowStart": {"window": "0s"}}),
    Edit(U, ("loadBalancer",), {"slowStart": {"window": "1m30s"}}),
    Edit(U, ("loadBalancer", "hashOn", 0, "header"), GONE),
    Edit(U, ("loadBalancer", "hashOn", 3, "header"), "x-user"),
    Edit(U, ("loadBalancer", "hashOn", 1, "type"), "QueryParam"),
    Edit(U, ("loadBalancer", "hashOn", 2, "cookie"), {"name": "a"}),
    Edit(U, ("loadBalancer", "hashOn", 1, "cookie", "path"), "relative"),
    Edit(U, ("healthCheck", "tcp"), {}),
    Edit(U, ("healthCheck", "http"), GONE),
    Edit(U, ("healthCheck", "timeout"), "0s"),
    Edit(U, ("healthCheck", "interval"), "99ms"),
    Edit(U, ("healthCheck", "interval"), "99999h99999h99999h99999h"),
    Edit(U, ("healthCheck", "interval"), "1.5s"),
    Edit(U, ("healthCheck", "http", "expectedStatuses"), [200, 200]),
    Edit(U, ("outlierDetection", "interval"), "1ms"),
    Edit(U, ("outlierDetection", "baseEjectionTime"), "0h"),
    Edit(U, ("timeouts", "connect"), "0s"),
    Edit(F, ("workload", "type"), "DaemonSet"),
    Edit(F, ("workload",), {"type": "DaemonSet", "replicas": 2}),
    Edit(F, ("workload",), {"type": "DaemonSet", "maxUnavailable": "10%"}),
    Edit(F, ("workload", "replicas"), 3),
    Edit(F, ("workload", "autoscaling", "minReplicas"), 5),
    Edit(F, ("workload",), {"replicas": 1, "autoscaling": {"maxReplicas": 3}}),
    Edit(F, ("workload",), {"maxSurge": 0, "maxUnavailable": "0%"}),
    Edit(F, ("workload",), {"maxSurge": 0}),
    Edit(F, ("workload", "maxSurge"), -1),
    Edit(F, ("workload", "maxSurge"), "101%"),
    Edit(F, ("workload", "maxSurge"), "1"),
    Edit(F, ("workload", "disruptionBudget"), {}),
    Edit(F, ("workload", "disruptionBudget", "minAvailable"), 1),
    Edit(F, ("pod", "labels"), {"portway.dev/controller": "me"}),
    Edit(F, ("pod", "labels"), {"app.kubernetes.io/name": "me"}),
    Edit(F, ("pod", "labels"), {"-a": "b"}),
    Edit(F, ("pod", "labels"), {f"{LONG_DOMAIN}.aaaa/a": "b"}),
    Edit(F, ("pod", "labels"), {f"{LONG_DOMAIN}/a": "b"}),
    Edit(F, ("pod", "labels"), {"a": "b c"}),
    Edit(F, ("pod", "labels"), {f"label-{number}": "a" for number in range(65)}),
    Edit(F, ("pod", "nodeSelector"), {"app.kubernetes.io/name": "me"}),
    Edit(F, ("pod", "nodeSelector"), {"a/b/c": "me"}),
    Edit(F, ("pod", "annotations"), {"a b": "c"}),
    Edit(F, ("pod", "annotations"), {"Example.com/A": "c"}),
    Edit(F, ("pod", "terminationGracePeriod"), "0s"),
    Edit(F, ("pod", "tolerations"), [{}]),
    Edit(F, ("pod", "tolerations"), [{"key": "", "operator": "Equal"}]),
    Edit(F, ("pod", "tolerations"), [{"key": "a", "operator": "Exists", "value": "b"}]),
    Edit(F, ("pod", "tolerations"), [{"key": "a", "operator": "Exists", "value": ""}]),
    Edit(F, ("pod", "securityContext", "sysctls"), [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]),
    Edit(F, ("container", "resources", "requests"), {"cpu": "many"}),
    Edit(F, ("container", "resources", "requests"), {"cpu": -1}),
    Edit(F, ("container", "resources", "limits"), {"c p u": 1}),
    Edit(F, ("container", "resources", "requests"), {"c/p/u": 1}),
    Edit(F, ("container", "resources", "limits"), {"example.com/gpu": "1e3"}),
    Edit(F, ("service", "type"), "ClusterIP"),
    Edit(F, ("service", "type"), "NodePort"),
    Edit(F, ("service",), {"type": "NodePort", "nodePorts": [{"port": 80, "nodePort": 30080}]}),
    Edit(F, ("service",), {"type": "None", "externalTrafficPolicy": "Local"}),
    Edit(F, ("service",), {"type": "ClusterIP", "nodePorts": []}),
    Edit(F, ("service",), {"type": "ClusterIP", "nodePorts": [{"port": 80, "nodePort": 30080}]}),
    Edit(F, ("service",), {"type": "NodePort", "loadBalancerClass": "a"}),
    Edit(F, ("service",), {"type": "NodePort", "allocateLoadBalancerNodePorts": False}),
    Edit(F, ("service",), {"type": "NodePort", "loadBalancerSourceRanges": []}),
    Edit(F, ("service", "loadBalancerClass"), "a b"),
    Edit(F, ("service", "loadBalancerClass"), ""),
    Edit(F, ("service", "labels"), {"gateway.networking.k8s.io/gateway-name": "a"}),
    Edit(F, ("service", "labels"), {"": "a"}),
    Edit(F, ("service", "annotations"), {"/a": "a"}),
    *(
        Edit(F, ("service", "loadBalancerSourceRanges"), [network])
        for network in (
            "192.0.2.0", "192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/024", "192.0.2.0/255.255.255.0", " 192.0.2.0/24",
            "::/0", "::/129", "::ffff:192.0.2.0/120", "fe80::%a/64", "/", "",
        )
    ),
    Edit(F, ("service", "nodePorts", 1, "protocol"), "TCP"),
    Edit(F, ("addresses", 0, "type"), "NamedAddress"),
    Edit(F, ("addresses", 0, "value"), GONE),
    Edit(F, ("addresses", 0, "value"), ""),
    Edit(F, ("addresses", 0, "value"), "edge.example"),
    Edit(F, ("addresses", 1, "value"), "EDGE"),
    Edit(F, ("addresses", 1, "value"), "192.0.2.9"),
    Edit(F, ("addresses",), []),
    Edit(F, ("proxy", "logLevel"), "loud"),
)  # fmt: skip
"""Some leave a spec right, some do not: what is said of them is to be the same on both sides."""


def edited(kind: str, path: Path, value: Value) -> Value:
    """The whole spec of a kind with one field changed."""
    spec = copy.deepcopy(WHOLE[kind])
    node = spec
    for step in path[:-1]:
        node = node[step]
    if value is GONE:
        del node[path[-1]]
    else:
        node[path[-1]] = copy.deepcopy(value)
    return spec


_STRANGE: Final[Sequence[Value]] = (
    GONE, None, "", "a", "A", "a b", "-", "a/b", "0s", "1s", "100ms", "99ms", "25%", "0%", "500m", "192.0.2.1", "::1",
    "10.0.0.0/8", "Service", "Backend", "RingHash", "DaemonSet", "Exists", "None", "ä", 0, 1, 2, -1, 80, 65536, 2**31,
    2**40, 1.5, True, False, [], {}, [1], ["a"], ["a", "a"], {"a": "b"}, {"a": 1},
)  # fmt: skip


def random_specs(random: Random, count: int) -> Iterator[tuple[str, Value]]:
    """Specs with one or two fields that are anything."""
    for _ in range(count):
        kind = random.choice(tuple(WHOLE))
        spec = copy.deepcopy(WHOLE[kind])
        for _ in range(random.choice((1, 1, 2))):
            node, step = random.choice(list(_places(spec)))
            value = random.choice(_STRANGE)
            if value is not GONE:
                node[step] = copy.deepcopy(value)
            elif isinstance(node, list):
                node.append(copy.deepcopy(node[step]))
            else:
                del node[step]
        yield kind, spec


def _places(node: Value) -> Iterator[tuple[Value, Value]]:
    steps: Sequence[str | int] = range(len(node)) if isinstance(node, list) else list(node)
    for step in steps:
        yield node, step
        if isinstance(node[step], dict | list):
            yield from _places(node[step])
