"""Listeners: one per socket. Filter chains say what happens to which connections; a change of one leaves the
connections of the others alone, so nothing here depends on all chains but what has to (the TLS inspector)."""

from envoy.config.core.v3 import address_pb2 as addressv3
from envoy.config.core.v3 import base_pb2 as basev3
from envoy.config.listener.v3 import listener_components_pb2 as listener_componentsv3
from envoy.config.listener.v3 import listener_pb2 as listenerv3
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2 as proxy_protocolv3
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2 as tls_inspectorv3
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2 as tcp_proxyv3

from portway.envoy.access_log import CONNECTION_FIELDS, build_access_logs
from portway.envoy.filters.access import cidr_range
from portway.envoy.http_connection_manager import (
    Codec,
    Peer,
    answer_headers_of,
    build_http_connection_manager,
)
from portway.envoy.messages import duration, encode, typed
from portway.envoy.names import NO_CLUSTER, cluster_key, cluster_name, listener_name, secret_key
from portway.envoy.shares import ClusterNames
from portway.envoy.tls import build_downstream_tls, downstream_secrets
from portway.envoy.udp import build_udp_listener, composite_name, needs_composite
from portway.incremental import Context
from portway.model.edge import Edge
from portway.model.handles import EDGE, LISTENER
from portway.model.listener import Chain, HttpHandler, Listener, TcpHandler
from portway.model.names import Dialect, SocketKey, UpstreamKey
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
    for chain in listener.chains:
        for peer in _peers(chain, edge):
            built.filter_chains.append(_filter_chain(listener, chain, edge, peer, inspected, clusters))
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


def _peers(chain: Chain, edge: Edge) -> tuple[Peer, ...]:
    if isinstance(chain.handler, HttpHandler) and edge.trusted_proxies:
        return (Peer.CLIENT, Peer.TRUSTED_PROXY)
    return (Peer.CLIENT,)


def _filter_chain(
    listener: Listener, chain: Chain, edge: Edge, peer: Peer, inspected: bool, clusters: ClusterNames
) -> listener_componentsv3.FilterChain:
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
        match.direct_source_prefix_ranges.extend(map(cidr_range, edge.trusted_proxies))
    if chain.tls is not None:
        built.transport_socket.CopyFrom(
            basev3.TransportSocket(
                name="envoy.transport_sockets.tls", typed_config=typed(build_downstream_tls(chain.tls))
            )
        )
    if isinstance(chain.handler, TcpHandler):
        proxy = build_tcp_proxy(chain.handler, edge, str(listener.key.port), clusters)
        built.filters.add(name="envoy.filters.network.tcp_proxy").typed_config.CopyFrom(typed(proxy))
        return built
    port = chain.handler.scheme_port or listener.key.port
    dialect = chain.handler.table.dialect
    built.filters.add(name="envoy.filters.network.http_connection_manager").typed_config.CopyFrom(
        build_http_connection_manager(
            chain.handler.table.name,
            edge,
            peer,
            Codec.AUTO,
            str(listener.key.port),
            idle_timeout=chain.handler.idle_timeout,
            answer_headers=answer_headers_of(edge, dialect, port if listener.http3 else 0) if chain.tls else (),
            bad_gateway=dialect is Dialect.INGRESS,
        )
    )
    return built


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
    """The resource of a socket. It requires the secrets, route tables and clusters that its chains name."""
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
