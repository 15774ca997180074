"""Objects of the benchmarks as the API server takes them, and the writing of many at a time.

Each route has a host and a Service of its own. Services are headless and without selector, their EndpointSlices written
by hand: nothing but Portway and the API server has work with them. All endpoints lead to one echo server, which hears
on every address of a block that belongs to the cluster's own network.
"""

import asyncio
import ipaddress
from collections.abc import Iterable, Sequence

import msgspec

from tests.cluster.api import APPLY, Api
from tests.cluster.network import LOAD_BALANCERS

NAMESPACE = "shop"
GATEWAY = "edge"

ROUTES = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes"
GATEWAYS = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/gateways"
SERVICES = f"/api/v1/namespaces/{NAMESPACE}/services"
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"

PARALLEL = 24
"""Requests under way while many objects are written."""

_BLOCK = ipaddress.ip_network(LOAD_BALANCERS)
_FIRST = int(_BLOCK[_BLOCK.num_addresses // 2])
"""The upper half: the cluster's load balancer gives addresses from the lower end."""


class Written(msgspec.Struct, frozen=True):
    """An object to be made."""

    collection: str
    body: bytes


def host(number: int) -> str:
    """The host name of a route."""
    return f"h{number}.example.com"


def address(number: int) -> str:
    """An address at which the echo server hears; 32,000 of them."""
    return str(ipaddress.ip_address(_FIRST + number % (_BLOCK.num_addresses // 2 - 1)))


def service(number: int, *, name: str = "") -> Written:
    """A Service."""
    return Written(
        SERVICES,
        msgspec.json.encode(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name or f"svc-{number}"},
                "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
            }
        ),
    )


def endpoint_slice(number: int, port: int, *, addresses: Sequence[str] = (), name: str = "") -> Written:
    """The EndpointSlice of a Service.

    Args:
        port: of the echo server.
        addresses: none: one, of its own.
    """
    owner = name or f"svc-{number}"
    return Written(
        SLICES,
        msgspec.json.encode(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": f"{owner}-a", "labels": {"kubernetes.io/service-name": owner}},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
                "endpoints": [
                    {"addresses": [one], "conditions": {"ready": True}} for one in addresses or [address(number)]
                ],
            }
        ),
    )


def rule(service_name: str, *, prefix: str = "/", marker: str = "") -> dict[str, object]:
    """One rule of a route; the marker is a response header."""
    given: dict[str, object] = {
        "matches": [{"path": {"type": "PathPrefix", "value": prefix}}],
        "backendRefs": [{"name": service_name, "port": 80}],
    }
    if marker:
        header = {"set": [{"name": "x-marker", "value": marker}]}
        given["filters"] = [{"type": "ResponseHeaderModifier", "responseHeaderModifier": header}]
    return given


def route(
    number: int,
    *,
    name: str = "",
    host_name: str = "",
    rules: Sequence[dict[str, object]] = (),
    marker: str = "",
    gateway: str = GATEWAY,
) -> Written:
    """An HTTPRoute; without `rules` to the Service of its number."""
    return Written(
        ROUTES,
        msgspec.json.encode(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": {"name": name or f"route-{number}"},
                "spec": {
                    "parentRefs": [{"name": gateway}],
                    "hostnames": [host_name or host(number)],
                    "rules": list(rules) or [rule(f"svc-{number}", marker=marker)],
                },
            }
        ),
    )


async def create(api: Api, written: Written) -> None:
    """Make one object."""
    await api.request("POST", written.collection, written.body)


async def apply(api: Api, name: str, written: Written) -> None:
    """Make or change one object."""
    params = {"fieldManager": "bench", "force": "true"}
    await api.request("PATCH", f"{written.collection}/{name}", written.body, params=params, content_type=APPLY)


async def create_all(api: Api, many: Iterable[Written]) -> float:
    """Make many objects, some at a time; the moment (of the event loop) of the last answer."""
    waiting = iter(many)

    async def work() -> None:
        for one in waiting:
            await create(api, one)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(PARALLEL):
            tasks.create_task(work())
    return asyncio.get_running_loop().time()


async def create_routes(api: Api, numbers: Sequence[int], port: int) -> float:
    """Make routes with their Services and endpoints, endpoints first; the moment of the last answer."""
    await create_all(api, (endpoint_slice(number, port) for number in numbers))
    await create_all(api, (service(number) for number in numbers))
    return await create_all(api, (route(number) for number in numbers))
