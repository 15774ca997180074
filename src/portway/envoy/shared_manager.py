"""Connection managers that filter chains share.

A certificate of Ingress has a filter chain of its own, and all these chains treat requests alike. With the whole
connection manager in each of them a chain is 3 KB, and Envoy spends half a millisecond of its main thread on every
chain of a listener for each change of one (docs/design/tls-hosts.md). So they name it, and it comes once, over
extension discovery.

The chain without server names keeps its copy in the listener. It stands guard: a manager that Envoy cannot take is
refused with the whole listener, as one that is not shared. Were it refused over extension discovery alone, the chains
that name it would close every connection.
"""

from envoy.config.core.v3 import config_source_pb2 as config_sourcev3
from envoy.config.core.v3 import extension_pb2 as extensionv3
from envoy.config.listener.v3 import listener_components_pb2 as listener_componentsv3
from google.protobuf.any_pb2 import Any as TypedConfig

from portway.envoy.http_connection_manager import Codec, Peer, answer_headers_of, build_http_connection_manager
from portway.envoy.messages import encode, from_ads
from portway.envoy.names import manager_key
from portway.incremental import Context
from portway.model.edge import Edge
from portway.model.handles import EDGE, LISTENER
from portway.model.listener import Chain, HttpHandler, Listener
from portway.model.names import Dialect, SocketKey
from portway.model.resource import Resource, make_resource

MANAGER_TYPE = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def build_manager(listener: Listener, chain: Chain, handler: HttpHandler, edge: Edge, peer: Peer) -> TypedConfig:
    """The connection manager of a chain, packed. Not to be changed by the caller."""
    port = handler.scheme_port or listener.key.port
    dialect = handler.table.dialect
    return build_http_connection_manager(
        handler.table.name,
        edge,
        peer,
        Codec.AUTO,
        str(listener.key.port),
        idle_timeout=handler.idle_timeout,
        answer_headers=answer_headers_of(edge, dialect, port if listener.http3 else 0) if chain.tls else (),
        bad_gateway=dialect is Dialect.INGRESS,
    )


def peers(chain: Chain, edge: Edge) -> tuple[Peer, ...]:
    """For whom there is a filter chain of its own."""
    if isinstance(chain.handler, HttpHandler) and edge.trusted_proxies:
        return (Peer.CLIENT, Peer.TRUSTED_PROXY)
    return (Peer.CLIENT,)


def guard_of(listener: Listener) -> Chain | None:
    """The chain whose manager others may share: the one that ends TLS for HTTP whatever the server name."""
    for chain in listener.chains:
        if not chain.server_names and chain.tls is not None and isinstance(chain.handler, HttpHandler):
            return chain
    return None


def is_sharing(chain: Chain, guard: Chain | None) -> bool:
    """Whether the chain names its manager. Depends on no other chain but the guard, so that a change of one leaves the
    connections of the others alone."""
    return guard is not None and chain is not guard and chain.tls is not None and chain.handler == guard.handler


def sharing_peers(listener: Listener, edge: Edge) -> tuple[Peer, ...]:
    """For whom the socket's chains share managers."""
    guard = guard_of(listener)
    if guard is None or not any(is_sharing(chain, guard) for chain in listener.chains):
        return ()
    return peers(guard, edge)


def reference(listener: Listener, peer: Peer) -> listener_componentsv3.Filter:
    """What a filter chain says instead of the manager itself."""
    source = config_sourcev3.ExtensionConfigSource(config_source=from_ads(), type_urls=[MANAGER_TYPE])
    return listener_componentsv3.Filter(name=manager_key(listener.key, peer).name, config_discovery=source)


def build_shared_manager(listener: Listener, edge: Edge, peer: Peer) -> extensionv3.TypedExtensionConfig | None:
    """The manager that chains of a socket share; `None` if they share none."""
    guard = guard_of(listener)
    if guard is None or not isinstance(guard.handler, HttpHandler) or peer not in sharing_peers(listener, edge):
        return None
    config = build_manager(listener, guard, guard.handler, edge, peer)
    return extensionv3.TypedExtensionConfig(name=manager_key(listener.key, peer).name, typed_config=config)


def client_manager_resource(context: Context, key: SocketKey) -> Resource | None:
    """The manager that chains of a socket share for connections of clients."""
    return _resource(context, key, Peer.CLIENT)


def trusted_manager_resource(context: Context, key: SocketKey) -> Resource | None:
    """The same for connections of trusted proxies."""
    return _resource(context, key, Peer.TRUSTED_PROXY)


def _resource(context: Context, key: SocketKey, peer: Peer) -> Resource | None:
    listener = context.get(LISTENER, key)
    built = None if listener is None else build_shared_manager(listener, context.read(EDGE, None), peer)
    return None if built is None else make_resource(manager_key(key, peer), encode(built))
