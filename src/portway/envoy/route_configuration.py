"""Route configurations: the tables. Their virtual hosts come one by one over VHDS, so a table hardly ever changes."""

from envoy.config.route.v3 import route_pb2 as route_configv3

from portway.envoy.headers import apply_edits
from portway.envoy.messages import encode, from_ads
from portway.incremental import Context
from portway.model.handles import TABLE
from portway.model.names import TableKey
from portway.model.resource import Resource, ResourceKey, ResourceType, make_resource
from portway.model.route import RouteTable

ENVOY_MAX_DIRECT_BODY_BYTES = 4096


def build_route_configuration(name: str, table: RouteTable) -> route_configv3.RouteConfiguration:
    """The table without its hosts."""
    built = route_configv3.RouteConfiguration(
        name=name,
        # A request's Host may name the port; hosts are declared without.
        ignore_port_in_host_matching=True,
        # An inner level has the last word: table, host, route, share of a route.
        most_specific_header_mutations_wins=True,
    )
    built.vhds.config_source.CopyFrom(from_ads())
    # Of no use to upstreams: `x-forwarded-for` says it.
    built.request_headers_to_remove.append("x-envoy-external-address")
    apply_edits(built, table.request_headers, table.response_headers)
    if table.max_direct_body_bytes != ENVOY_MAX_DIRECT_BODY_BYTES:
        built.max_direct_response_body_size_bytes.value = table.max_direct_body_bytes
    return built


def route_configuration_resource(context: Context, key: TableKey) -> Resource:
    table = context.get(TABLE, key)
    body = encode(build_route_configuration(key.name, table))
    return make_resource(ResourceKey(ResourceType.ROUTES, key.name), body)
