"""Envoy resources for hand-driven tests, in as few words as they allow: JSON-like trees, parsed into the real messages.

Extra fields are given by keyword, in the spelling of the protobuf field.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

# Imported for their descriptors: a tree names them by `@type` only.
import envoy.extensions.filters.http.router.v3.router_pb2
import envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2
import envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2
import envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2
import envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2
import envoy.extensions.upstreams.http.v3.http_protocol_options_pb2  # noqa: F401
from envoy.config.cluster.v3 import cluster_pb2 as clusterv3
from envoy.config.endpoint.v3 import endpoint_pb2 as endpointv3
from envoy.config.listener.v3 import listener_pb2 as listenerv3
from envoy.config.route.v3 import route_components_pb2 as routev3
from envoy.config.route.v3 import route_pb2 as route_configv3
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as secretv3
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tlsv3  # noqa: F401
from google.protobuf import json_format
from google.protobuf.message import Message

from tests.kit.certificates import KeyPair

TYPE = "type.googleapis.com/"
ADS: dict[str, object] = {"ads": {}, "resource_api_version": "V3"}
_TLS = "envoy.extensions.transport_sockets.tls.v3"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

Tree = Mapping[str, object]
_Message = TypeVar("_Message", bound=Message)


def parse(message: _Message, tree: Tree) -> _Message:
    """Fill a message from a JSON-like tree; raises `json_format.ParseError` for a field that does not exist."""
    json_format.ParseDict(dict(tree), message)
    return message


def typed(name: str, **fields: object) -> dict[str, object]:
    """A `typed_config`: the message's full name without the type URL's host, and its fields."""
    return {"@type": TYPE + name, **fields}


def eds_cluster(name: str, **fields: object) -> clusterv3.Cluster:
    """A cluster whose endpoints come over ADS."""
    tree = {"name": name, "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": {"eds_config": ADS}, **fields}
    return parse(clusterv3.Cluster(), tree)


def static_cluster(name: str, *ports: int, **fields: object) -> clusterv3.Cluster:
    """A cluster of fixed endpoints on 127.0.0.1."""
    tree = {"name": name, "connect_timeout": "1s", "type": "STATIC", **fields}
    cluster = parse(clusterv3.Cluster(), tree)
    cluster.load_assignment.CopyFrom(endpoints(name, *ports))
    return cluster


def http_options(**fields: object) -> dict[str, object]:
    """`typed_extension_protocol_options` of a cluster; HTTP/1.1 unless the fields say otherwise."""
    return {HTTP_OPTIONS: typed(HTTP_OPTIONS, **{"explicit_http_config": {"http_protocol_options": {}}, **fields})}


def endpoints(cluster: str, *ports: int, **fields: object) -> endpointv3.ClusterLoadAssignment:
    """Endpoints on 127.0.0.1, in one locality; fields go to each of them (`health_status`)."""
    addresses = [{"socket_address": {"address": "127.0.0.1", "port_value": port}} for port in ports]
    members = [{"endpoint": {"address": address}, **fields} for address in addresses]
    return parse(
        endpointv3.ClusterLoadAssignment(), {"cluster_name": cluster, "endpoints": [{"lb_endpoints": members}]}
    )


def route(cluster: str, *, prefix: str = "/", action: Tree | None = None, **fields: object) -> dict[str, object]:
    """One route; `action` adds to the route action, fields to the route."""
    return {"match": {"prefix": prefix}, "route": {"cluster": cluster, **(action or {})}, **fields}


def virtual_host(
    name: str, domains: Sequence[str], *routes: Mapping[str, object], **fields: object
) -> routev3.VirtualHost:
    """A virtual host. As a VHDS resource its name is `<route configuration>/<anything>`."""
    return parse(
        routev3.VirtualHost(), {"name": name, "domains": list(domains), "routes": [dict(r) for r in routes], **fields}
    )


def routes(name: str, *hosts: routev3.VirtualHost, **fields: object) -> route_configv3.RouteConfiguration:
    """A route configuration with these virtual hosts; a port in the Host header is ignored unless the fields differ."""
    tree = {"name": name, "ignore_port_in_host_matching": True, **fields}
    configuration = parse(route_configv3.RouteConfiguration(), tree)
    configuration.virtual_hosts.extend(hosts)
    return configuration


def vhds_routes(name: str, *hosts: routev3.VirtualHost, **fields: object) -> route_configv3.RouteConfiguration:
    """A route configuration whose virtual hosts come over VHDS, besides those given here."""
    return routes(name, *hosts, vhds={"config_source": ADS}, **fields)


def connection_manager(routes_name: str | None, **fields: object) -> dict[str, object]:
    """The HTTP connection manager as a network filter; its routes come over RDS unless there is no name.

    A field given as `None` is left out."""
    tree: dict[str, object] = {
        "stat_prefix": "lab",
        "http_filters": [router_filter()],
        "upgrade_configs": [{"upgrade_type": "websocket"}],
    }
    if routes_name is not None:
        tree["rds"] = {"route_config_name": routes_name, "config_source": ADS}
    return {
        "name": "http",
        "typed_config": typed(
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            **{key: value for key, value in {**tree, **fields}.items() if value is not None},
        ),
    }


def router_filter() -> dict[str, object]:
    """The last HTTP filter."""
    return {"name": "router", "typed_config": typed("envoy.extensions.filters.http.router.v3.Router")}


def tcp_proxy(cluster: str) -> dict[str, object]:
    """A network filter that passes bytes to one cluster."""
    config = typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="tcp", cluster=cluster)
    return {"name": "tcp", "typed_config": config}


def tls_context(*secrets: str) -> dict[str, object]:
    """The `transport_socket` of a filter chain that shows certificates which come over SDS."""
    context = {"tls_certificate_sds_secret_configs": [{"name": name, "sds_config": ADS} for name in secrets]}
    config = typed(f"{_TLS}.DownstreamTlsContext", common_tls_context=context)
    return {"name": "tls", "typed_config": config}


def upstream_tls_context(*secrets: str) -> dict[str, object]:
    """The `transport_socket` of a cluster that shows certificates which come over SDS."""
    context = {"tls_certificate_sds_secret_configs": [{"name": name, "sds_config": ADS} for name in secrets]}
    return {"name": "tls", "typed_config": typed(f"{_TLS}.UpstreamTlsContext", common_tls_context=context)}


def secret(name: str, pair: KeyPair) -> secretv3.Secret:
    """A certificate with its key, as an SDS resource."""
    tree = {
        "certificate_chain": {"inline_string": pair.certificate},
        "private_key": {"inline_string": pair.key},
    }
    return parse(secretv3.Secret(), {"name": name, "tls_certificate": tree})


def tls_inspector() -> dict[str, object]:
    """The listener filter that reads the server name before a filter chain is chosen."""
    config = typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")
    return {"name": "tls_inspector", "typed_config": config}


def listener(name: str, port: int, *chains: Tree, **fields: object) -> listenerv3.Listener:
    """A listener on 127.0.0.1."""
    tree = {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [dict(chain) for chain in chains],
        **fields,
    }
    return parse(listenerv3.Listener(), tree)


def http_listener(name: str, port: int, routes_name: str, **fields: object) -> listenerv3.Listener:
    """A plain HTTP listener whose routes come over RDS; fields go to the connection manager."""
    return listener(name, port, {"filters": [connection_manager(routes_name, **fields)]})
