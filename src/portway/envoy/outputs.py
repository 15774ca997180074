"""What leaves the engine: one resource per thing that proxies hold, with the fleet in its key.

Endpoints depend on objects only and overtake everything else. The joined clusters of UDP sockets are outputs of their
own, since they are made from a socket and not from an upstream.
"""

from portway.envoy.cluster import cluster_resource
from portway.envoy.endpoint import endpoints_resource
from portway.envoy.http3 import http3_listener_resource
from portway.envoy.listener import listener_resource
from portway.envoy.route_configuration import route_configuration_resource
from portway.envoy.secret import secret_resource
from portway.envoy.shared_manager import client_manager_resource, trusted_manager_resource
from portway.envoy.udp import composite_cluster_resource, composite_endpoints_resource
from portway.envoy.virtual_host import virtual_host_resource
from portway.incremental import AnyOutput, Output
from portway.model.handles import SECRET_USES, SOCKETS, TABLES, UPSTREAM_USES, VIRTUAL_HOSTS
from portway.model.names import HostKey, SecretKey, SocketKey, TableKey, UpstreamKey
from portway.model.resource import Resource

ENDPOINTS_OUT: Output[tuple[str, UpstreamKey], Resource] = Output(
    "endpoints out", [UPSTREAM_USES], endpoints_resource, early=True
)
CLUSTERS: Output[tuple[str, UpstreamKey], Resource] = Output("clusters out", [UPSTREAM_USES], cluster_resource)
COMPOSITE_CLUSTERS: Output[SocketKey, Resource] = Output(
    "composite clusters out", [SOCKETS], composite_cluster_resource
)
COMPOSITE_ENDPOINTS: Output[SocketKey, Resource] = Output(
    "composite endpoints out", [SOCKETS], composite_endpoints_resource
)
SECRETS: Output[tuple[str, SecretKey], Resource] = Output("secrets out", [SECRET_USES], secret_resource)
CLIENT_MANAGERS: Output[SocketKey, Resource] = Output("shared managers out", [SOCKETS], client_manager_resource)
TRUSTED_MANAGERS: Output[SocketKey, Resource] = Output(
    "shared managers for trusted proxies out", [SOCKETS], trusted_manager_resource
)
LISTENERS: Output[SocketKey, Resource] = Output("listeners out", [SOCKETS], listener_resource)
HTTP3_LISTENERS: Output[SocketKey, Resource] = Output("http3 listeners out", [SOCKETS], http3_listener_resource)
ROUTE_CONFIGURATIONS: Output[TableKey, Resource] = Output(
    "route configurations out", [TABLES], route_configuration_resource
)
VIRTUAL_HOSTS_OUT: Output[HostKey, Resource] = Output("virtual hosts out", [VIRTUAL_HOSTS], virtual_host_resource)

OUTPUTS: tuple[AnyOutput, ...] = (
    ENDPOINTS_OUT,
    CLUSTERS,
    COMPOSITE_CLUSTERS,
    COMPOSITE_ENDPOINTS,
    SECRETS,
    CLIENT_MANAGERS,
    TRUSTED_MANAGERS,
    LISTENERS,
    HTTP3_LISTENERS,
    ROUTE_CONFIGURATIONS,
    VIRTUAL_HOSTS_OUT,
)
"""All outputs, in the order in which a proxy needs them."""
