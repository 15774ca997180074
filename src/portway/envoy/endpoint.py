"""Endpoints of clusters, as EDS resources.

Proxies of different zones may get different ones: those that hints give to their zone, or all, with those of their own
zone first and the others taking over in proportion as these fail (by priority). Envoy's own zone-aware routing would
need the load of every proxy's zone (`local_cluster`), which one machine cannot know. Else all endpoints are in one
locality, since grouping them would cost and do nothing.
"""

from collections.abc import Iterable, Iterator

from envoy.config.core.v3 import health_check_pb2 as health_checkv3
from envoy.config.endpoint.v3 import endpoint_components_pb2 as endpoint_componentsv3
from envoy.config.endpoint.v3 import endpoint_pb2 as endpointv3

from portway.envoy.messages import encode
from portway.incremental import Context
from portway.model.handles import ENDPOINTS, UPSTREAM
from portway.model.names import UpstreamKey
from portway.model.resource import Resource, ResourceKey, ResourceType, make_resource
from portway.model.upstream import Discovery, Endpoint, EndpointHealth, Endpoints, Upstream

MAX_WEIGHT = 128 * 1024
"""Largest weight of an endpoint that we hand on; only their proportions matter, and their sum must fit 32 bits."""


def build_endpoint(endpoint: Endpoint) -> endpoint_componentsv3.LbEndpoint:
    """One endpoint. Weight 1 is the default and left out."""
    built = endpoint_componentsv3.LbEndpoint()
    address = built.endpoint.address
    if endpoint.port:
        address.socket_address.address = endpoint.address
        address.socket_address.port_value = endpoint.port
    else:
        address.pipe.path = endpoint.address
    if endpoint.hostname:
        built.endpoint.hostname = endpoint.hostname
    if endpoint.weight != 1:
        built.load_balancing_weight.value = min(endpoint.weight, MAX_WEIGHT)
    if endpoint.health is EndpointHealth.DRAINING:
        built.health_status = health_checkv3.DRAINING
    return built


def build_endpoints(name: str, endpoints: Iterable[Endpoint], own_zone: str = "") -> endpointv3.ClusterLoadAssignment:
    """The load assignment. An endpoint of weight 0 gets nothing and is left out.

    Args:
        name: of the cluster.
        own_zone: the zone whose endpoints come first; empty: all are equal.
    """
    assignment = endpointv3.ClusterLoadAssignment(cluster_name=name)
    used = [endpoint for endpoint in endpoints if endpoint.weight > 0]
    own = [endpoint for endpoint in used if own_zone and endpoint.zone == own_zone]
    if not own:
        _add_locality(assignment, used)
    else:
        _add_locality(assignment, own, zone=own_zone)
        _add_locality(assignment, [endpoint for endpoint in used if endpoint.zone != own_zone], priority=1)
    return assignment


def _add_locality(
    assignment: endpointv3.ClusterLoadAssignment, endpoints: list[Endpoint], *, zone: str = "", priority: int = 0
) -> None:
    if not endpoints:
        return
    locality = assignment.endpoints.add(priority=priority)
    if zone:
        locality.locality.zone = zone
    locality.lb_endpoints.extend(map(build_endpoint, endpoints))


def endpoints_resource(context: Context, member: tuple[str, UpstreamKey]) -> Resource | None:
    """The endpoints of an upstream that a fleet uses. An upstream that is found by DNS has none."""
    _, key = member
    upstream = context.get(UPSTREAM, key)
    if upstream is None or upstream.discovery is not Discovery.ENDPOINTS:
        return None
    endpoints = context.get(ENDPOINTS, key)
    return make_resource(
        ResourceKey(ResourceType.ENDPOINTS, upstream.name),
        encode(build_endpoints(upstream.name, endpoints.endpoints)),
        by_zone=tuple(_by_zone(upstream, endpoints)),
        origins=endpoints.origins,
    )


def _by_zone(upstream: Upstream, endpoints: Endpoints) -> Iterator[tuple[str, bytes]]:
    for share in endpoints.shares:
        yield share.zone, encode(build_endpoints(upstream.name, share.endpoints))
    every, balancer = endpoints.endpoints, upstream.balancer
    if balancer.zone_aware and len(every) >= balancer.zone_min_endpoints:
        for zone in sorted({endpoint.zone for endpoint in every if endpoint.zone}):
            yield zone, encode(build_endpoints(upstream.name, every, zone))
