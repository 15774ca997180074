"""A bootstrap that holds everything in itself, so that the real Envoy can take what we build without a control plane.

What proxies get over xDS is put in its place: endpoints into clusters, virtual hosts into route configurations and these
into connection managers, secrets into the static ones. The builders are those of `portway.envoy`; nothing is rebuilt.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from envoy.config.bootstrap.v3 import bootstrap_pb2 as bootstrapv3
from envoy.config.cluster.v3 import cluster_pb2 as clusterv3
from envoy.config.endpoint.v3 import endpoint_pb2 as endpointv3
from envoy.config.listener.v3 import listener_pb2 as listenerv3
from envoy.config.route.v3 import route_pb2 as route_configv3
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcmv3
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2 as upstream_proxyv3
from envoy.extensions.transport_sockets.quic.v3 import quic_transport_pb2 as quicv3
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tlsv3
from google.protobuf.any_pb2 import Any as TypedConfig
from google.protobuf.message import Message

from portway.envoy.bootstrap import BootstrapSettings, build_bootstrap, encode_bootstrap
from portway.envoy.cluster import build_cluster
from portway.envoy.endpoint import build_endpoints
from portway.envoy.http3 import build_http3_listener
from portway.envoy.listener import build_listener, socket_address
from portway.envoy.names import secret_name
from portway.envoy.route_configuration import build_route_configuration
from portway.envoy.secret import build_secret
from portway.envoy.udp import build_composite_cluster, build_composite_endpoints, build_udp_listener, needs_composite
from portway.envoy.virtual_host import build_virtual_host
from portway.model.listener import Listener
from portway.model.names import SecretKey, TableKey, UpstreamKey
from portway.model.route import RouteTable, VirtualHost
from portway.model.tls import Secret
from portway.model.upstream import Discovery, Endpoints, Upstream
from portway.settings import Edge


class World(msgspec.Struct, frozen=True, kw_only=True):
    """All that one proxy has."""

    listeners: tuple[Listener, ...] = ()
    tables: Mapping[TableKey, tuple[VirtualHost, ...]] = {}
    table: RouteTable = RouteTable()
    """What holds for every table."""
    upstreams: Mapping[UpstreamKey, tuple[Upstream, Endpoints]] = {}
    secrets: Mapping[SecretKey, Secret] = {}
    edge: Edge = Edge(access_log="")

    def cluster(self, key: UpstreamKey) -> str:
        found = self.upstreams.get(key)
        return found[0].name if found else ""


def build_world(world: World, folder: Path) -> bytes:
    """The bootstrap's JSON, for `envoy -c x.json`. Its admin interface is `admin.sock` in the folder."""
    settings = BootstrapSettings(node_id="test", fleet="test", admin_socket=str(folder / "admin.sock"))
    bootstrap = build_bootstrap(settings)
    bootstrap.ClearField("dynamic_resources")
    tables = {key.name: _table(key, hosts, world) for key, hosts in world.tables.items()}
    for upstream, endpoints in world.upstreams.values():
        cluster = build_cluster(upstream)
        if upstream.discovery is Discovery.ENDPOINTS:
            zone = world.edge.zone if upstream.balancer.zone_aware else ""
            _make_static(cluster, build_endpoints(upstream.name, endpoints, zone))
        bootstrap.static_resources.clusters.append(cluster)
    for key, secret in world.secrets.items():
        bootstrap.static_resources.secrets.append(build_secret(secret_name(key), key.use, secret))
    for listener in world.listeners:
        _add_listener(bootstrap, listener, world, tables)
    for secured in (*bootstrap.static_resources.listeners, *bootstrap.static_resources.clusters):
        _with_static_secrets(secured)
    return encode_bootstrap(bootstrap)


def _table(key: TableKey, hosts: tuple[VirtualHost, ...], world: World) -> route_configv3.RouteConfiguration:
    built = build_route_configuration(key.name, world.table)
    built.ClearField("vhds")
    built.validate_clusters.value = False
    built.virtual_hosts.extend(
        build_virtual_host(f"{key.name}/{host.domains[0]}", host, world.cluster) for host in hosts
    )
    return built


def _add_listener(
    bootstrap: bootstrapv3.Bootstrap,
    listener: Listener,
    world: World,
    tables: Mapping[str, route_configv3.RouteConfiguration],
) -> None:
    resources = bootstrap.static_resources
    if listener.udp is not None:
        resources.listeners.append(
            build_udp_listener(listener, socket_address(listener.key), world.edge, world.cluster)
        )
        if needs_composite(listener.udp):
            name = resources.listeners[-1].name
            shares = [
                (share, world.upstreams[share.upstream][1] if share.upstream in world.upstreams else None)
                for share in listener.udp.upstreams
                if share.weight > 0
            ]
            cluster = build_composite_cluster(name)
            _make_static(cluster, build_composite_endpoints(name, shares))
            resources.clusters.append(cluster)
        return
    resources.listeners.append(build_listener(listener, world.edge, world.cluster))
    quic = build_http3_listener(listener, world.edge) if listener.http3 else None
    if quic is not None:
        resources.listeners.append(quic)
    for built in resources.listeners:
        _with_inline_routes(built, tables)


def _make_static(cluster: clusterv3.Cluster, endpoints: endpointv3.ClusterLoadAssignment) -> None:
    cluster.type = clusterv3.Cluster.STATIC
    cluster.ClearField("eds_cluster_config")
    cluster.load_assignment.CopyFrom(endpoints)


def _with_inline_routes(listener: listenerv3.Listener, tables: Mapping[str, route_configv3.RouteConfiguration]) -> None:
    for chain in listener.filter_chains:
        for network_filter in chain.filters:
            manager = hcmv3.HttpConnectionManager()
            if network_filter.typed_config.Unpack(manager) and manager.HasField("rds"):
                manager.route_config.CopyFrom(tables[manager.rds.route_config_name])
                network_filter.typed_config.Pack(manager)


def _with_static_secrets(message: listenerv3.Listener | clusterv3.Cluster) -> None:
    sockets = (
        [chain.transport_socket for chain in message.filter_chains if chain.HasField("transport_socket")]
        if isinstance(message, listenerv3.Listener)
        else [message.transport_socket]
    )
    for socket in sockets:
        _static_socket(socket.typed_config)


def _static_socket(config: TypedConfig) -> None:
    contexts: tuple[Message, ...] = (
        tlsv3.DownstreamTlsContext(),
        tlsv3.UpstreamTlsContext(),
        quicv3.QuicDownstreamTransport(),
        upstream_proxyv3.ProxyProtocolUpstreamTransport(),
    )
    for context in contexts:
        if not config.Unpack(context):
            continue
        if isinstance(context, upstream_proxyv3.ProxyProtocolUpstreamTransport):
            _static_socket(context.transport_socket.typed_config)
        elif isinstance(context, quicv3.QuicDownstreamTransport):
            _static_context(context.downstream_tls_context.common_tls_context)
        elif isinstance(context, tlsv3.DownstreamTlsContext | tlsv3.UpstreamTlsContext):
            _static_context(context.common_tls_context)
        config.Pack(context)


def _static_context(common: tlsv3.CommonTlsContext) -> None:
    """A secret without a source of configuration is one of the bootstrap's."""
    for config in common.tls_certificate_sds_secret_configs:
        config.ClearField("sds_config")
    if common.HasField("combined_validation_context"):
        common.combined_validation_context.validation_context_sds_secret_config.ClearField("sds_config")
