"""Manifests that e2e tests and benchmarks write, as text."""

from collections.abc import Iterable, Mapping

CLASS = """\
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: portway}
spec: {controller: portway.dev/ingress-controller}
"""


GATEWAY_CLASS = """\
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portway}
spec: {controllerName: portway.dev/gateway-controller}
"""


def service(
    name: str, ports: Iterable[int], namespace: str = "shop", *, app_protocol: str = "", transport: str = "TCP"
) -> str:
    """A Service on port 80 with one endpoint on loopback per port."""
    more = f", appProtocol: {app_protocol}" if app_protocol else ""
    pieces = [
        f"""\
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{ports: [{{name: http, port: 80, protocol: {transport}{more}}}]}}
"""
    ]
    # A slice has one port for all its endpoints, and these differ in nothing else: a slice each.
    pieces += [
        endpoint_slice(name, [port], namespace, number=number, transport=transport) for number, port in enumerate(ports)
    ]
    return "---\n".join(pieces)


def endpoint_slice(
    name: str,
    ports: Iterable[int],
    namespace: str = "shop",
    *,
    number: int = 0,
    transport: str = "TCP",
    address: str = "127.0.0.1",
    endpoint: str = "",
) -> str:
    """An EndpointSlice of a Service with one endpoint; `endpoint` is more of it (`conditions: {ready: false}`)."""
    port = next(iter(ports))
    more = f", {endpoint}" if endpoint else ""
    return f"""\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-{number}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: {"IPv6" if ":" in address else "IPv4"}
ports: [{{name: http, port: {port}, protocol: {transport}}}]
endpoints: [{{addresses: ["{address}"]{more}}}]
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
{GATEWAY_CLASS}---
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


def gateway_with(name: str, listeners: Iterable[str], namespace: str = "shop", *, more: str = "") -> str:
    """A Gateway whose listeners are written out in flow style; `more` is further lines of its spec."""
    entries = "\n".join(f"  - {{{listener}}}" for listener in listeners)
    return f"""\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  gatewayClassName: portway
  listeners:
{entries}
{more}
"""


def stream_route(
    kind: str,
    name: str,
    gateway_name: str,
    backends: Iterable[tuple[str, int]],
    *,
    section: str = "",
    hosts: Iterable[str] = (),
    namespace: str = "shop",
) -> str:
    """A TCPRoute, UDPRoute, TLSRoute or GRPCRoute whose one rule has backends (Service, weight)."""
    parent = f"name: {gateway_name}" + (f", sectionName: {section}" if section else "")
    names = f"\n  hostnames: [{', '.join(hosts)}]" if hosts else ""
    shares = ", ".join(f"{{name: {backend}, port: 80, weight: {weight}}}" for backend, weight in backends)
    return f"""\
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  parentRefs: [{{{parent}}}]{names}
  rules:
  - backendRefs: [{shares}]
"""


def backend(name: str, spec: str, namespace: str = "shop") -> str:
    """A Backend; its spec is written out in flow style."""
    return f"""\
apiVersion: portway.dev/v1alpha1
kind: Backend
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{spec}}}
"""


def resource_ingress(name: str, host: str, backend_name: str, namespace: str = "shop") -> str:
    """An Ingress that sends a host to a Backend."""
    return f"""\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  ingressClassName: portway
  rules:
  - host: {host}
    http:
      paths:
      - path: /
        pathType: Prefix
        backend: {{resource: {{apiGroup: portway.dev, kind: Backend, name: {backend_name}}}}}
"""


def upstream_policy(name: str, spec: str, *, target: str = "Service", namespace: str = "shop") -> str:
    """An UpstreamPolicy for the Service or Backend of the same name; the rest of its spec in flow style."""
    group = '""' if target == "Service" else "portway.dev"
    return f"""\
apiVersion: portway.dev/v1alpha1
kind: UpstreamPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{targetRefs: [{{group: {group}, kind: {target}, name: {name}}}], {spec}}}
"""


def config_map(name: str, key: str, text: str, namespace: str = "shop") -> str:
    lines = "".join(f"    {line}\n" for line in text.strip().splitlines())
    head = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
    return f"{head}data:\n  {key}: |\n{lines}"
