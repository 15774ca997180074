"""Manifests that e2e tests and benchmarks write, as text."""

from collections.abc import Iterable, Mapping

CLASS = """\
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: portway}
spec: {controller: portway.dev/ingress-controller}
"""


def service(name: str, ports: Iterable[int], namespace: str = "shop") -> str:
    """A Service on port 80 with one endpoint on loopback per port."""
    pieces = [
        f"""\
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{ports: [{{name: http, port: 80}}]}}
"""
    ]
    # A slice has one port for all its endpoints, and these differ in nothing else: a slice each.
    pieces += [endpoint_slice(name, [port], namespace, number=number) for number, port in enumerate(ports)]
    return "---\n".join(pieces)


def endpoint_slice(name: str, ports: Iterable[int], namespace: str = "shop", *, number: int = 0) -> str:
    port = next(iter(ports))
    return f"""\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-{number}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"""


def ingress(
    name: str,
    host: str,
    paths: Iterable[tuple[str, str]],
    *,
    annotations: Mapping[str, str] | None = None,
    tls: str = "",
    namespace: str = "shop",
) -> str:
    """An Ingress whose paths (prefix, Service) are all of one host."""
    lines = [
        "apiVersion: networking.k8s.io/v1",
        "kind: Ingress",
        "metadata:",
        f"  name: {name}",
        f"  namespace: {namespace}",
    ]
    if annotations:
        lines.append("  annotations:")
        lines += [f"    nginx.ingress.kubernetes.io/{key}: {value!r}" for key, value in annotations.items()]
    lines += ["spec:", "  ingressClassName: portway"]
    if tls:
        lines.append(f"  tls: [{{hosts: [{host}], secretName: {tls}}}]")
    lines += ["  rules:", f"  - host: {host}", "    http:", "      paths:"]
    lines += [
        f"      - {{path: {path}, pathType: Prefix, backend: {{service: {{name: {backend}, port: {{number: 80}}}}}}}}"
        for path, backend in paths
    ]
    return "\n".join(lines) + "\n"


def secret(name: str, certificate: str, key: str, namespace: str = "shop") -> str:
    def indented(text: str) -> str:
        return "".join(f"    {line}\n" for line in text.strip().splitlines())

    return (
        f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ntype: kubernetes.io/tls\n"
        f"stringData:\n  tls.crt: |\n{indented(certificate)}  tls.key: |\n{indented(key)}"
    )


def gateway(name: str, listeners: Iterable[tuple[str, int, str]], namespace: str = "shop") -> str:
    """A GatewayClass and a Gateway with listeners (name, port, protocol)."""
    entries = "\n".join(f"  - {{name: {label}, port: {port}, protocol: {kind}}}" for label, port, kind in listeners)
    return f"""\
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: portway}}
spec: {{controllerName: portway.dev/gateway-controller}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  gatewayClassName: portway
  listeners:
{entries}
"""


def http_route(
    name: str, gateway_name: str, host: str, rules: Iterable[tuple[str, str]], namespace: str = "shop"
) -> str:
    """An HTTPRoute with rules (path prefix, Service) in this order."""
    lines = "\n".join(
        f"  - matches: [{{path: {{type: PathPrefix, value: {path}}}}}]\n"
        f"    backendRefs: [{{name: {backend}, port: 80}}]"
        for path, backend in rules
    )
    return f"""\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  parentRefs: [{{name: {gateway_name}}}]
  hostnames: [{host}]
  rules:
{lines}
"""
