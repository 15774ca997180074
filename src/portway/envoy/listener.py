"""Listeners: one per socket. Filter chains say what happens to which connections; a change of one leaves the
connections of the others alone, so nothing here depends on all chains but what has to (the TLS inspector)."""

from functools import lru_cache

from envoy.config.core.v3 import address_pb2 as addressv3
from envoy.config.core.v3 import base_pb2 as basev3
from envoy.config.listener.v3 import listener_components_pb2 as listener_componentsv3
from envoy.config.listener.v3 import listener_pb2 as listenerv3
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2 as proxy_protocolv3
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2 as tls_inspectorv3
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2 as tcp_proxyv3

from portway.envoy.access_log import CONNECTION_FIELDS, build_access_logs
from portway.envoy.filters.access import cidr_range
from portway.envoy.http_connection_manager import Peer
from portway.envoy.messages import duration, encode, typed
from portway.envoy.names import NO_CLUSTER, cluster_key, cluster_name, listener_name, manager_key, secret_key
from portway.envoy.shared_manager import build_manager, guard_of, is_sharing, peers, reference, sharing_peers
from portway.envoy.shares import ClusterNames
from portway.envoy.tls import build_downstream_tls, downstream_secrets
from portway.envoy.udp import build_udp_listener, composite_name, needs_composite
from portway.incremental import Context
from portway.model.edge import Edge
from portway.model.handles import EDGE, LISTENER
from portway.model.listener import Chain, HttpHandler, Listener, TcpHandler
from portway.model.names import SocketKey, UpstreamKey
from portway.model.resource import Resource, ResourceKey, ResourceType, make_resource

BUFFER_BYTES = 256 * 1024
"""Per connection and direction. Envoy's 1 MiB times the connection limit is more memory than most machines have; its
edge guide's 32 KiB are too few for a body that is to be sent again after a refused connection."""


def build_listener(listener: Listener, edge: Edge, clusters: ClusterNames) -> listenerv3.Listener:
    """The listener of a TCP socket.

    Args:
        listener: a model with chains, sorted by name.
        edge: settings.
        clusters: name of an upstream's cluster, empty if there is none.
    """
    key = listener.key
    built = listenerv3.Listener(name=listener_name(key), address=socket_address(key))
    built.per_connection_buffer_limit_bytes.value = BUFFER_BYTES
    if listener.proxy_protocol:
        _add_listener_filter(built, "envoy.filters.listener.proxy_protocol", proxy_protocolv3.ProxyProtocol())
    inspected = any(chain.tls is not None or chain.server_names for chain in listener.chains)
    if inspected:
        # Not on plain sockets: it waits for the client's first bytes, and some TCP protocols let the server begin.
        _add_listener_filter(built, "envoy.filters.listener.tls_inspector", tls_inspectorv3.TlsInspector())
    guard = guard_of(listener)
    references = {peer: reference(listener, peer) for peer in Peer}
    for chain in listener.chains:
        for peer in peers(chain, edge):
            filter_chain = built.filter_chains.add()
            filter_chain.MergeFromString(_filter_chain(chain, edge.trusted_proxies, peer, inspected))
            filter_chain.filters.append(
                references[peer] if is_sharing(chain, guard) else _network_filter(listener, chain, edge, peer, clusters)
            )
    return built


def socket_address(key: SocketKey) -> addressv3.Address:
    """Where a socket listens."""
    address = addressv3.Address(socket_address=addressv3.SocketAddress(address=key.address, port_value=key.port))
    if key.transport == "udp":
        address.socket_address.protocol = addressv3.SocketAddress.UDP
    return address


def _add_listener_filter(
    built: listenerv3.Listener, name: str, config: proxy_protocolv3.ProxyProtocol | tls_inspectorv3.TlsInspector
) -> None:
    built.listener_filters.append(listener_componentsv3.ListenerFilter(name=name, typed_config=typed(config)))


@lru_cache(maxsize=16_384)
def _filter_chain(chain: Chain, trusted_proxies: tuple[str, ...], peer: Peer, inspected: bool) -> bytes:
    """The chain, as yet without a filter, serialised. Kept, since a listener is built anew for each change of one of
    its chains, and there may be thousands: 3 µs each instead of 10."""
    built = listener_componentsv3.FilterChain(name=chain.name)
    match = built.filter_chain_match
    match.server_names.extend(chain.server_names)
    if chain.tls is not None or chain.passthrough or chain.server_names:
        match.transport_protocol = "tls"
    elif inspected and isinstance(chain.handler, HttpHandler):
        match.transport_protocol = "raw_buffer"
    if peer is Peer.TRUSTED_PROXY:
        built.name = f"{chain.name} {peer}"
        # The peer itself, whatever a PROXY header says of the client.
        match.direct_source_prefix_ranges.extend(map(cidr_range, trusted_proxies))
    if chain.tls is not None:
        built.transport_socket.CopyFrom(
            basev3.TransportSocket(
                name="envoy.transport_sockets.tls", typed_config=typed(build_downstream_tls(chain.tls))
            )
        )
    return encode(built)


def _network_filter(
    listener: Listener, chain: Chain, edge: Edge, peer: Peer, clusters: ClusterNames
) -> listener_componentsv3.Filter:
    if isinstance(chain.handler, TcpHandler):
        proxy = build_tcp_proxy(chain.handler, edge, str(listener.key.port), clusters)
        return listener_componentsv3.Filter(name="envoy.filters.network.tcp_proxy", typed_config=typed(proxy))
    manager = build_manager(listener, chain, chain.handler, edge, peer)
    return listener_componentsv3.Filter(name="envoy.filters.network.http_connection_manager", typed_config=manager)


def build_tcp_proxy(handler: TcpHandler, edge: Edge, stat_prefix: str, clusters: ClusterNames) -> tcp_proxyv3.TcpProxy:
    """Bytes in, bytes out. The share of an upstream that cannot be used is a cluster that does not exist: Envoy closes
    its connections."""
    proxy = tcp_proxyv3.TcpProxy(stat_prefix=stat_prefix)
    shares = [
        (share, NO_CLUSTER if share.upstream is None else clusters(share.upstream) or NO_CLUSTER)
        for share in handler.upstreams
        if share.weight > 0
    ]
    if len(shares) <= 1:
        proxy.cluster = shares[0][1] if shares else NO_CLUSTER
    for share, name in shares if len(shares) > 1 else ():
        proxy.weighted_clusters.clusters.add(name=name, weight=share.weight)
    if handler.idle_timeout is not None:
        proxy.idle_timeout.CopyFrom(duration(handler.idle_timeout))
    proxy.access_log.extend(build_access_logs(edge, CONNECTION_FIELDS))
    return proxy


def listener_resource(context: Context, key: SocketKey) -> Resource | None:
    """The resource of a socket. It requires the secrets, shared managers, route tables and clusters that its chains
    name."""
    listener = context.get(LISTENER, key)
    if listener is None:
        return None
    edge = context.read(EDGE, None)
    requires: set[ResourceKey] = set()

    def clusters(upstream: UpstreamKey) -> str:
        name = context.get(cluster_name, upstream)
        if name:
            requires.add(cluster_key(name))
        return name

    if listener.udp is not None:
        built = build_udp_listener(listener, socket_address(key), edge, clusters)
        if needs_composite(listener.udp):
            requires = {cluster_key(composite_name(key))}
    else:
        built = build_listener(listener, edge, clusters)
        requires |= required_by_chains(listener)
        requires.update(manager_key(key, peer) for peer in sharing_peers(listener, edge))
    return make_resource(
        ResourceKey(ResourceType.LISTENER, built.name),
        encode(built),
        requires=tuple(sorted(requires)),
        origins=listener.origins,
    )


def required_by_chains(listener: Listener) -> set[ResourceKey]:
    """Secrets and route tables that the chains name."""
    found: set[ResourceKey] = set()
    for chain in listener.chains:
        if chain.tls is not None:
            found.update(map(secret_key, downstream_secrets(chain.tls)))
        if isinstance(chain.handler, HttpHandler):
            found.add(ResourceKey(ResourceType.ROUTES, chain.handler.table.name))
    return found
