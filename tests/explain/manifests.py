"""Short manifests for tests, and the world that they make."""

import yaml

from portway.explain.trace import World
from tests.translate.ingress.kit import new_engine, objects_of, put

CLASS = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: portway}
spec: {controller: portway.dev/ingress-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portway}
spec: {controllerName: portway.dev/gateway-controller}
"""


def world(*texts: str) -> World:
    """What some manifests make, with both classes."""
    engine = new_engine()
    put(engine, objects_of("\n---\n".join((CLASS, *texts))))
    return World(engine)


def service(name: str, *, endpoints: int = 1) -> str:
    """A Service with port 80 and so many endpoints."""
    documents: list[object] = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}
    ]
    if endpoints:
        addresses = [{"addresses": [f"10.0.0.{number + 1}"]} for number in range(endpoints)]
        documents.append(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "endpoints": addresses,
                "ports": [{"port": 80}],
            }
        )
    return yaml.safe_dump_all(documents)


def ingress(name: str, host: str, paths: dict[str, str], **annotations: str) -> str:
    """An Ingress of prefixes and Services; annotations without prefix, `_` for `-`."""
    rules = {
        "host": host,
        "http": {
            "paths": [
                {"path": path, "pathType": "Prefix", "backend": {"service": {"name": to, "port": {"number": 80}}}}
                for path, to in paths.items()
            ]
        },
    }
    named = {f"nginx.ingress.kubernetes.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return yaml.safe_dump(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": name, "annotations": named},
            "spec": {"ingressClassName": "portway", "rules": [rules]},
        }
    )


def gateway(*listeners: object) -> str:
    """A Gateway; without listeners one of HTTP on port 80."""
    every = listeners or ({"name": "http", "port": 80, "protocol": "HTTP"},)
    return yaml.safe_dump(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "web"},
            "spec": {"gatewayClassName": "portway", "listeners": list(every)},
        }
    )


def route(name: str, rules: str, *hosts: str) -> str:
    """An HTTPRoute at that Gateway; `rules` is YAML."""
    return yaml.safe_dump(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": name},
            "spec": {
                "parentRefs": [{"name": "web"}],
                "hostnames": list(hosts or ("shop.test",)),
                "rules": yaml.safe_load(rules),
            },
        }
    )


SERVICES = "\n---\n".join(map(service, "abc"))
