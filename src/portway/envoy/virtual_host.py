"""Virtual hosts, each a resource of its own (VHDS): a change of one is sent alone, and held back alone."""

import msgspec
from envoy.config.route.v3 import route_components_pb2 as routev3

from portway.envoy.headers import apply_edits, composed
from portway.envoy.messages import encode
from portway.envoy.names import cluster_key, cluster_name, virtual_host_name
from portway.envoy.retry import build_retry
from portway.envoy.route import Surroundings, build_routes
from portway.envoy.shares import ClusterNames, has_particular_shares
from portway.incremental import Context
from portway.model.handles import VIRTUAL_HOST
from portway.model.names import HostKey, UpstreamKey
from portway.model.resource import Resource, ResourceKey, ResourceType, make_resource
from portway.model.route import Route, VirtualHost
from portway.objects.verdict import ObjectKey


def build_virtual_host(name: str, host: VirtualHost, clusters: ClusterNames) -> routev3.VirtualHost:
    """The virtual host with its routes in match order."""
    built = routev3.VirtualHost(name=name, domains=host.domains)
    one_name = len(host.domains) == 1 and not host.domains[0].startswith("*")
    around = Surroundings(clusters, host.domains[0] if one_name else "", host.retry)
    inward = any(has_particular_shares(route) for route in host.routes)
    if not inward:
        apply_edits(built, host.request_headers, host.response_headers)
    for route in host.routes:
        built.routes.extend(build_routes(_with_edits(route, host) if inward else route, around))
    if host.require_tls:
        built.require_tls = routev3.VirtualHost.ALL
    if host.retry is not None:
        built.retry_policy.CopyFrom(build_retry(host.retry))
    return built


def _with_edits(route: Route, host: VirtualHost) -> Route:
    """The route with the edits of its host as its own."""
    return msgspec.structs.replace(
        route,
        request_headers=composed(host.request_headers, route.request_headers),
        response_headers=composed(host.response_headers, route.response_headers),
    )


def origins_of(host: VirtualHost) -> tuple[ObjectKey, ...]:
    """The objects whose routes are in the host; sorted, unique."""
    return tuple(sorted({route.source.object for route in host.routes}))


def virtual_host_resource(context: Context, key: HostKey) -> Resource | None:
    """The resource of a virtual host. It requires the clusters that its routes point at."""
    host = context.get(VIRTUAL_HOST, key)
    if host is None:
        return None
    used: set[str] = set()

    def clusters(upstream: UpstreamKey) -> str:
        name = context.get(cluster_name, upstream)
        if name:
            used.add(name)
        return name

    name = virtual_host_name(key)
    return make_resource(
        ResourceKey(ResourceType.VIRTUAL_HOST, name),
        encode(build_virtual_host(name, host, clusters)),
        requires=tuple(map(cluster_key, sorted(used))),
        origins=origins_of(host),
    )
