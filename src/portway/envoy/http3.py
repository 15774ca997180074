"""HTTP/3: a second listener, over UDP, with the TLS chains of a TCP socket."""

from envoy.config.core.v3 import base_pb2 as basev3
from envoy.config.listener.v3 import listener_components_pb2 as listener_componentsv3
from envoy.config.listener.v3 import listener_pb2 as listenerv3
from envoy.extensions.transport_sockets.quic.v3 import quic_transport_pb2 as quicv3

from portway.envoy.http_connection_manager import (
    Codec,
    Peer,
    answer_headers_of,
    build_http_connection_manager,
)
from portway.envoy.listener import required_by_chains, socket_address
from portway.envoy.messages import encode, typed
from portway.envoy.names import listener_name
from portway.envoy.tls import build_downstream_tls
from portway.incremental import Context
from portway.model.edge import Edge
from portway.model.handles import EDGE, LISTENER
from portway.model.listener import Chain, DownstreamTls, HttpHandler, Listener
from portway.model.names import Dialect, SocketKey, Transport
from portway.model.resource import Resource, ResourceKey, ResourceType, make_resource


def build_http3_listener(listener: Listener, edge: Edge) -> listenerv3.Listener | None:
    """The QUIC listener; `None` if no chain of the socket ends TLS for HTTP."""
    key = listener.key._replace(transport=Transport.UDP)
    built = listenerv3.Listener(name=listener_name(key), address=socket_address(key))
    built.udp_listener_config.quic_options.SetInParent()
    built.udp_listener_config.downstream_socket_config.prefer_gro.value = True
    for chain in listener.chains:
        if chain.tls is not None and isinstance(chain.handler, HttpHandler):
            built.filter_chains.append(_filter_chain(listener, chain, chain.tls, chain.handler, edge))
    return built if built.filter_chains else None


def _filter_chain(
    listener: Listener, chain: Chain, tls: DownstreamTls, handler: HttpHandler, edge: Edge
) -> listener_componentsv3.FilterChain:
    built = listener_componentsv3.FilterChain(name=chain.name)
    built.filter_chain_match.server_names.extend(chain.server_names)
    built.filter_chain_match.transport_protocol = "quic"
    context = build_downstream_tls(tls)
    del context.common_tls_context.alpn_protocols[:]
    # QUIC is TLS 1.3 and chooses its ciphers itself.
    context.common_tls_context.ClearField("tls_params")
    quic = quicv3.QuicDownstreamTransport(downstream_tls_context=context)
    built.transport_socket.CopyFrom(
        basev3.TransportSocket(name="envoy.transport_sockets.quic", typed_config=typed(quic))
    )
    manager = build_http_connection_manager(
        handler.table.name,
        edge,
        Peer.CLIENT,
        Codec.HTTP3,
        str(listener.key.port),
        idle_timeout=handler.idle_timeout,
        answer_headers=answer_headers_of(edge, handler.table.dialect, 0),
        bad_gateway=handler.table.dialect is Dialect.INGRESS,
    )
    built.filters.add(name="envoy.filters.network.http_connection_manager").typed_config.CopyFrom(manager)
    return built


def http3_listener_resource(context: Context, key: SocketKey) -> Resource | None:
    """The QUIC listener beside a TCP socket; `None` where HTTP/3 is not wanted."""
    listener = context.get(LISTENER, key)
    if listener is None or not listener.http3:
        return None
    built = build_http3_listener(listener, context.read(EDGE, None))
    if built is None:
        return None
    return make_resource(
        ResourceKey(ResourceType.LISTENER, built.name),
        encode(built),
        requires=tuple(sorted(required_by_chains(listener))),
        origins=listener.origins,
    )
