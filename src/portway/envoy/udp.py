"""UDP: datagrams to one upstream, or to several by weight.

Envoy's UDP proxy knows no weighted clusters. So several upstreams become one cluster of the socket's own, whose
localities are the upstreams and whose locality weights are their shares. A share that cannot be used is a locality
whose one endpoint drops everything. An upstream that is found by DNS can only be used alone.
"""

from envoy.config.cluster.v3 import cluster_pb2 as clusterv3
from envoy.config.core.v3 import address_pb2 as addressv3
from envoy.config.endpoint.v3 import endpoint_pb2 as endpointv3
from envoy.config.listener.v3 import listener_components_pb2 as listener_componentsv3
from envoy.config.listener.v3 import listener_pb2 as listenerv3
from envoy.config.listener.v3 import udp_listener_config_pb2 as udp_listener_configv3
from envoy.extensions.filters.udp.udp_proxy.v3 import route_pb2 as udp_routev3
from envoy.extensions.filters.udp.udp_proxy.v3 import udp_proxy_pb2 as udp_proxyv3

from portway.envoy.access_log import CONNECTION_FIELDS, build_access_logs
from portway.envoy.bootstrap import statistics_name
from portway.envoy.cluster import PANIC_PERCENT, circuit_breakers
from portway.envoy.endpoint import build_endpoint
from portway.envoy.messages import duration, encode, from_ads, typed
from portway.envoy.names import NO_CLUSTER, cluster_key, listener_name
from portway.envoy.shares import ClusterNames
from portway.incremental import Context
from portway.model.edge import Edge
from portway.model.handles import ENDPOINTS, LISTENER
from portway.model.listener import Listener, UdpHandler
from portway.model.names import SocketKey
from portway.model.resource import Readiness, Resource, ResourceKey, ResourceType, make_resource
from portway.model.route import WeightedUpstream
from portway.model.upstream import Circuit, Endpoint, Endpoints, RetryBudget

BLACK_HOLE = Endpoint(address="127.255.255.254", port=9)
"""The discard port (RFC 863) of a loopback address that nobody uses: datagrams to it get nowhere."""


def needs_composite(handler: UdpHandler) -> bool:
    """Whether the handler's upstreams have to be joined into one cluster."""
    return len(_used(handler)) > 1


def composite_name(key: SocketKey) -> str:
    """Name of the cluster that joins the upstreams of a UDP socket: that of its listener."""
    return listener_name(key)


def build_udp_listener(
    listener: Listener, address: addressv3.Address, edge: Edge, clusters: ClusterNames
) -> listenerv3.Listener:
    """The listener of a UDP socket. Without a usable upstream its datagrams are dropped."""
    handler = listener.udp or UdpHandler()
    built = listenerv3.Listener(name=listener_name(listener.key), address=address)
    built.udp_listener_config.CopyFrom(udp_listener_configv3.UdpListenerConfig())
    used = _used(handler)
    if needs_composite(handler):
        name = composite_name(listener.key)
    else:
        upstream = used[0].upstream if used else None
        name = "" if upstream is None else clusters(upstream)
    proxy = udp_proxyv3.UdpProxyConfig(stat_prefix=str(listener.key.port))
    proxy.matcher.on_no_match.action.name = "route"
    proxy.matcher.on_no_match.action.typed_config.CopyFrom(typed(udp_routev3.Route(cluster=name or NO_CLUSTER)))
    if handler.idle_timeout is not None:
        proxy.idle_timeout.CopyFrom(duration(handler.idle_timeout))
    proxy.access_log.extend(build_access_logs(edge, CONNECTION_FIELDS))
    built.listener_filters.append(
        listener_componentsv3.ListenerFilter(name="envoy.filters.udp_listener.udp_proxy", typed_config=typed(proxy))
    )
    return built


def build_composite_cluster(name: str) -> clusterv3.Cluster:
    """The cluster that joins several upstreams; its endpoints come over EDS."""
    cluster = clusterv3.Cluster(
        name=name,
        alt_stat_name=statistics_name(name, counted=False),
        type=clusterv3.Cluster.EDS,
        circuit_breakers=circuit_breakers(Circuit(), RetryBudget()),
    )
    cluster.eds_cluster_config.eds_config.CopyFrom(from_ads())
    cluster.common_lb_config.locality_weighted_lb_config.SetInParent()
    cluster.common_lb_config.update_merge_window.SetInParent()
    cluster.common_lb_config.healthy_panic_threshold.value = PANIC_PERCENT
    return cluster


def build_composite_endpoints(
    name: str, shares: list[tuple[WeightedUpstream, Endpoints | None]]
) -> endpointv3.ClusterLoadAssignment:
    """One locality per share, with its weight; `None` for a share that cannot be used."""
    assignment = endpointv3.ClusterLoadAssignment(cluster_name=name)
    for number, (share, endpoints) in enumerate(shares):
        locality = assignment.endpoints.add()
        # Only has to differ: localities of the same name would be joined.
        locality.locality.sub_zone = str(number)
        locality.load_balancing_weight.value = share.weight
        used = [endpoint for endpoint in endpoints.endpoints if endpoint.weight > 0] if endpoints else []
        locality.lb_endpoints.extend(map(build_endpoint, used or [BLACK_HOLE]))
    return assignment


def composite_cluster_resource(context: Context, key: SocketKey) -> Resource | None:
    """The joined cluster of a UDP socket; `None` for every other socket."""
    listener = context.get(LISTENER, key)
    if listener is None or listener.udp is None or not needs_composite(listener.udp):
        return None
    name = composite_name(key)
    body = encode(build_composite_cluster(name))
    return make_resource(cluster_key(name), body, readiness=Readiness.ENDPOINTS, origins=listener.origins)


def composite_endpoints_resource(context: Context, key: SocketKey) -> Resource | None:
    """The endpoints of the joined cluster."""
    listener = context.get(LISTENER, key)
    if listener is None or listener.udp is None or not needs_composite(listener.udp):
        return None
    name = composite_name(key)
    shares = [
        (share, None if share.upstream is None else context.get(ENDPOINTS, share.upstream))
        for share in _used(listener.udp)
    ]
    body = encode(build_composite_endpoints(name, shares))
    return make_resource(ResourceKey(ResourceType.ENDPOINTS, name), body, origins=listener.origins)


def _used(handler: UdpHandler) -> list[WeightedUpstream]:
    return [share for share in handler.upstreams if share.weight > 0]
