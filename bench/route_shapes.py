"""What a virtual host and a cluster cost Envoy, by their shape: CPU per change, and memory.

A change inside a route configuration rebuilds all of it, so the cost of one virtual host is that of a change divided by
their number. It is the CPU time of Envoy's main thread, the least of some changes: whatever else the machine does only
adds to it. Memory is resident memory before and after. Each shape gets an Envoy of its own. The shapes with one route
differ in their clusters only, so the spread of their CPU times tells how far to trust a difference. Run:

    python -m bench.route_shapes [--hosts 1000] [--changes 15]
"""

import argparse
import asyncio
import statistics
from collections.abc import Mapping

import msgspec
from envoy.config.cluster.v3 import cluster_pb2 as clusterv3
from envoy.config.route.v3 import route_components_pb2 as routev3

from portway.model.resource import ResourceType
from tests.kit.lab import Laboratory, laboratory, settled, until_subscribed
from tests.kit.resources import eds_cluster, endpoints, http_listener, http_options, typed, vhds_routes, virtual_host

_SETTLE_SECONDS = 0.5  # Envoy's allocator gives pages back late

PREVIOUS_HOSTS = {
    "name": "previous_hosts",
    "typed_config": typed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
}
RETRIES: Mapping[str, object] = {"retry_on": "connect-failure,refused-stream,reset-before-request", "num_retries": 2}
RETRIES_ELSEWHERE: Mapping[str, object] = {
    **RETRIES,
    "retry_host_predicate": [PREVIOUS_HOSTS],
    "host_selection_retry_max_attempts": 3,
}
MATCHES: tuple[Mapping[str, object], ...] = ({"path": "/api"}, {"path_separated_prefix": "/api"}, {"prefix": "/"})


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What each virtual host and cluster looks like."""

    name: str
    routes: int = 1
    """1 or 3."""
    action: Mapping[str, object] = {}
    """Added to each route's action."""
    host: Mapping[str, object] = {}
    """Added to each virtual host."""
    named: bool = False
    """Each route has a name."""
    metadata: bool = False
    """Each route has metadata of four fields."""
    cluster: Mapping[str, object] = {}
    """Added to each cluster."""
    endpoints: int = 1


BUDGET = {"thresholds": [{"retry_budget": {"budget_percent": {"value": 20}, "min_retry_concurrency": 100}}]}
SHAPES = (
    Shape(name="1 route"),
    Shape(name="3 routes", routes=3),
    Shape(name="3 routes, name", routes=3, named=True),
    Shape(name="3 routes, metadata", routes=3, metadata=True),
    Shape(name="3 routes, timeouts", routes=3, action={"timeout": "0s", "idle_timeout": "60s"}),
    Shape(name="3 routes, retries", routes=3, action={"retry_policy": RETRIES}),
    Shape(name="3 routes, retries elsewhere", routes=3, action={"retry_policy": RETRIES_ELSEWHERE}),
    Shape(name="3 routes, retries of the host", routes=3, host={"retry_policy": RETRIES_ELSEWHERE}),
    Shape(name="1 route; cluster: retry budget", cluster={"circuit_breakers": BUDGET}),
    Shape(name="1 route; cluster: least request", cluster={"lb_policy": "LEAST_REQUEST"}),
    Shape(
        name="1 route; cluster: HTTP options",
        cluster={
            "typed_extension_protocol_options": http_options(common_http_protocol_options={"idle_timeout": "60s"})
        },
    ),
    Shape(
        name="1 route; cluster: retries",
        cluster={"typed_extension_protocol_options": http_options(retry_policy=RETRIES_ELSEWHERE)},
    ),
    Shape(name="1 route; cluster: 4 endpoints", endpoints=4),
)


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a shape costs."""

    wait_ms: float
    """Median from sending one virtual host to its acknowledgement."""
    host_us: float
    """Least CPU time of a change, for each virtual host of the route configuration."""
    host_kb: float
    cluster_kb: float
    total_mb: float
    """Resident memory of Envoy with all of them."""


def build_host(shape: Shape, number: int, marker: str = "m0") -> routev3.VirtualHost:
    """A virtual host of this shape; the last route carries the marker."""
    action: dict[str, object] = {"cluster": f"c{number}", **shape.action}
    built: list[dict[str, object]] = []
    for index, match in enumerate(MATCHES[-shape.routes :]):
        route: dict[str, object] = {"match": match, "route": action}
        if shape.named:
            route["name"] = f"HTTPRoute/shop/cart-{number}/{index}"
        if shape.metadata:
            fields = {"kind": "HTTPRoute", "namespace": "shop", "name": f"cart-{number}", "rule": str(index)}
            route["metadata"] = {"filter_metadata": {"portway": fields}}
        built.append(route)
    built[-1]["response_headers_to_add"] = [{"header": {"key": "x-marker", "value": marker}}]
    return virtual_host(f"r/h{number}", [f"h{number}.example.com"], *built, **shape.host)


def build_cluster(shape: Shape, number: int) -> clusterv3.Cluster:
    """A cluster of this shape."""
    return eds_cluster(f"c{number}", **shape.cluster)


async def measure(shape: Shape, hosts: int, changes: int) -> Cost:
    """Give an Envoy that many clusters and virtual hosts, then change some of the latter."""
    async with laboratory() as lab:
        ads = lab.ads
        ports = [lab.ports.take() for _ in range(shape.endpoints)]
        await asyncio.sleep(_SETTLE_SECONDS)
        at_rest = lab.envoy.memory_mb()
        for number in range(hosts):
            ads.put(build_cluster(shape, number), endpoints(f"c{number}", *ports), build_host(shape, number))
        await _accepted(lab, ResourceType.CLUSTER)
        await asyncio.sleep(_SETTLE_SECONDS)
        with_clusters = lab.envoy.memory_mb()
        ads.put(vhds_routes("r"))
        assert (await ads.update(http_listener("l", lab.ports.take(), "r"))).error is None
        await until_subscribed(ads, ResourceType.ROUTES, "r")
        await settled(ads, ResourceType.ROUTES)
        await settled(ads, ResourceType.VIRTUAL_HOST)
        await asyncio.sleep(_SETTLE_SECONDS)
        with_hosts = lab.envoy.memory_mb()
        seconds: list[float] = []
        used: list[float] = []
        for index in range(changes):
            before = lab.envoy.main_thread_seconds()
            reply = await ads.update(build_host(shape, index * 7 % hosts, f"m{index + 1}"))
            assert reply.error is None, reply.error
            seconds.append(reply.seconds)
            await settled(ads, ResourceType.VIRTUAL_HOST)  # what is left to do after the acknowledgement
            used.append(lab.envoy.main_thread_seconds() - before)
    return Cost(
        wait_ms=statistics.median(seconds) * 1e3,
        host_us=min(used) / hosts * 1e6,
        host_kb=(with_hosts - with_clusters) / hosts * 1024,
        cluster_kb=(with_clusters - at_rest) / hosts * 1024,
        total_mb=with_hosts,
    )


async def _accepted(lab: Laboratory, type_: str) -> None:
    reply = await lab.ads.send(type_, list(lab.ads.resources[type_]))
    assert reply.error is None, reply.error


async def main() -> None:
    """Print a row for each shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=15)
    arguments = parser.parse_args()
    print(f"{arguments.hosts:,} virtual hosts and clusters of each shape, over VHDS")
    for shape in SHAPES:
        cost = await measure(shape, arguments.hosts, arguments.changes)
        print(
            f"{shape.name:34s} acknowledged {cost.wait_ms:6.1f} ms  CPU {cost.host_us:5.1f} us/host   "
            f"{cost.host_kb:5.1f} KB/host  {cost.cluster_kb:5.1f} KB/cluster  {cost.total_mb:4.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    asyncio.run(main())
