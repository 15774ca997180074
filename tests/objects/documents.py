"""Small valid documents of every kind, and a way to spoil them for a case."""

import copy
import re
from collections.abc import Iterable, Mapping

from portway.objects.kinds import KINDS
from portway.objects.parsing import Parsed, parse
from portway.objects.verdict import Severity
from tests.kit.verdicts import faults_of_all

Data = dict[str, object]

GONE = object()
"""As a value in `document`: the field is removed."""

_BACKENDS: list[object] = [{"name": "cart", "port": 80}]

_BODIES: Mapping[str, Data] = {
    "Namespace": {},
    "Service": {"spec": {"ports": [{"name": "http", "port": 80}], "selector": {"app": "cart"}}},
    "Secret": {"type": "Opaque", "data": {"key": "dmFsdWU="}},
    "ConfigMap": {"data": {"key": "value"}},
    "EndpointSlice": {
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": ["10.0.0.1"]}],
    },
    "Ingress": {
        "spec": {
            "rules": [
                {
                    "host": "shop.example",
                    "http": {
                        "paths": [
                            {
                                "path": "/",
                                "pathType": "Prefix",
                                "backend": {"service": {"name": "cart", "port": {"number": 80}}},
                            }
                        ]
                    },
                }
            ]
        }
    },
    "IngressClass": {"spec": {"controller": "portway.dev/ingress-controller"}},
    "GatewayClass": {"spec": {"controllerName": "portway.dev/gateway-controller"}},
    "Gateway": {
        "spec": {"gatewayClassName": "portway", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}
    },
    "ListenerSet": {
        "spec": {"parentRef": {"name": "gateway"}, "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}
    },
    "HTTPRoute": {"spec": {"rules": [{"matches": [{"path": {"value": "/"}}], "backendRefs": _BACKENDS}]}},
    "GRPCRoute": {"spec": {"rules": [{"backendRefs": _BACKENDS}]}},
    "TLSRoute": {"spec": {"hostnames": ["shop.example"], "rules": [{"backendRefs": _BACKENDS}]}},
    "TCPRoute": {"spec": {"rules": [{"backendRefs": _BACKENDS}]}},
    "UDPRoute": {"spec": {"rules": [{"backendRefs": _BACKENDS}]}},
    "ReferenceGrant": {
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "shop"}],
            "to": [{"group": "", "kind": "Service"}],
        }
    },
    "BackendTLSPolicy": {
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "cart"}],
            "validation": {"hostname": "cart.example", "wellKnownCACertificates": "System"},
        }
    },
    "Backend": {"spec": {"addresses": [{"address": "192.0.2.1", "port": 80}]}},
    "UpstreamPolicy": {"spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "cart"}]}},
    "FleetParameters": {"spec": {"workload": {"replicas": 3}}},
}


def document(kind: str, changes: Mapping[str, object] | None = None, *, version: str | None = None) -> Data:
    """A document of a kind.

    Args:
        kind: one of `KINDS`.
        changes: values by field path; missing levels are made, an index of the list's length appends.
        version: another than the preferred one.
    """
    known = KINDS[kind]
    api_version = next(found for found in known.api_versions if version is None or found.endswith(version))
    made: Data = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "cart"}}
    made.update(copy.deepcopy(_BODIES[kind]))
    for path, value in (changes or {}).items():
        _set(made, path, value)
    return made


def _set(node: object, path: str, value: object) -> None:
    steps = [int(index) if index else name for name, index in re.findall(r"([A-Za-z0-9]+)|\[(\d+)\]", path)]
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, int):
            assert isinstance(node, list)
            while len(node) <= step:
                node.append({})
            holder: object = node[step]
        else:
            assert isinstance(node, dict)
            holder = node.setdefault(step, [] if isinstance(following, int) else {})
        if following is None:
            _put(node, step, value)
        node = holder


def _put(node: object, step: str | int, value: object) -> None:
    if isinstance(node, list) and isinstance(step, int):
        node[step] = value
    elif isinstance(node, dict):
        if value is GONE:
            del node[step]
        else:
            node[step] = value


def errors_of(parsed: Parsed) -> list[str]:
    """Fields with errors, in the order in which they are told."""
    return [verdict.field for verdict in parsed.verdicts if verdict.severity is Severity.ERROR]


def parsed_errors(kind: str, changes: Mapping[str, object], *, version: str | None = None) -> set[str]:
    """Fields that are wrong in a document with these changes; an object if and only if there are none."""
    parsed = parse(document(kind, changes, version=version))
    assert (parsed.object is None) == bool(parsed.verdicts)
    assert faults_of_all(parsed.verdicts) == []
    return set(errors_of(parsed))


def expect(fields: str | Iterable[str]) -> set[str]:
    """Fields of a case: one, several or none."""
    return {fields} if isinstance(fields, str) else set(fields)
