"""Manifests of N routes with a Service and an EndpointSlice each, in the shapes that the figures name."""

from collections.abc import Iterator, Mapping
from enum import StrEnum

from tests.kit.manifests import CLASS, gateway


class Shape(StrEnum):
    """What one route looks like."""

    LEAN = "lean"
    """One host, one rule with the prefix `/`."""
    RICH = "rich"
    """One host, three rules: a prefix, a prefix with a header match and filters, and `/`; timeouts and retries."""


def host(number: int) -> str:
    return f"h{number}.example.com"


def service(number: int, port: int, *, address: str = "127.0.0.1") -> str:
    return f"""\
apiVersion: v1
kind: Service
metadata:
  name: svc-{number}
  namespace: shop
spec:
  ports:
  - name: http
    port: 80
---
{endpoint_slice(number, port, address=address)}"""


def endpoint_slice(number: int, port: int, *, address: str = "127.0.0.1") -> str:
    return f"""\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: svc-{number}-a
  namespace: shop
  labels:
    kubernetes.io/service-name: svc-{number}
addressType: IPv4
ports:
- name: http
  port: {port}
endpoints:
- addresses:
  - {address}
  conditions:
    ready: true
"""


def route(number: int, shape: Shape = Shape.LEAN, *, backend: int | None = None, marker: str = "") -> str:
    """An HTTPRoute of Gateway `gw`.

    Args:
        backend: number of the Service; `None`: its own.
        marker: set as response header `x-marker`, so that a client sees which version answers.
    """
    chosen = number if backend is None else backend
    filters = ""
    if marker:
        filters = (
            "    filters:\n    - type: ResponseHeaderModifier\n      responseHeaderModifier:\n"
            f'        set: [{{name: x-marker, value: "{marker}"}}]\n'
        )
    head = f"""\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: route-{number}
  namespace: shop
spec:
  parentRefs:
  - name: gw
  hostnames:
  - {host(number)}
  rules:
"""
    extra = ""
    if shape is Shape.RICH:
        extra = f"""\
  - matches:
    - path:
        type: PathPrefix
        value: /api
      headers:
      - name: x-version
        value: "2"
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set:
        - name: x-from
          value: portway
    timeouts:
      request: 10s
    backendRefs:
    - name: svc-{chosen}
      port: 80
  - matches:
    - path:
        type: PathPrefix
        value: /static
    timeouts:
      request: 5s
    retry:
      attempts: 2
      codes: [503]
    backendRefs:
    - name: svc-{chosen}
      port: 80
"""
    return f"""\
{head}{extra}\
  - matches:
    - path:
        type: PathPrefix
        value: /
{filters}\
    backendRefs:
    - name: svc-{chosen}
      port: 80
"""


def files(
    count: int, backend_port: int, gateway_port: int, shape: Shape = Shape.LEAN, *, per_file: int = 1
) -> Mapping[str, str]:
    """The whole world, by file name: `gateway.yaml`, and the routes with their Services in files of `per_file`."""
    return dict(_files(count, backend_port, gateway_port, shape, per_file))


def _files(count: int, backend_port: int, gateway_port: int, shape: Shape, per_file: int) -> Iterator[tuple[str, str]]:
    yield "gateway.yaml", f"{CLASS}---\n{gateway('gw', [('http', gateway_port, 'HTTP')])}"
    for start in range(0, count, per_file):
        numbers = range(start, min(start + per_file, count))
        yield f"routes-{start}.yaml", "---\n".join(route(number, shape) for number in numbers)
        yield f"services-{start}.yaml", "---\n".join(service(number, backend_port) for number in numbers)
