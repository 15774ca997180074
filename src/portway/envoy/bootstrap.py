"""What one Envoy is started with: who it is, where its control plane is, what it counts and how it defends itself.

Everything that traffic needs comes over ADS; the bootstrap holds only what Envoy cannot take from there, since a
change of it costs a hot restart. So whatever may be wanted later without one is prepared here: an admitted prefix for
statistics, an admin layer for runtime values. Sources: Envoy docs, "Bootstrap", "Configuring Envoy as an edge proxy",
"Overload manager", `envoy.config.bootstrap.v3`.

Not here: arguments of the process (base id, concurrency, log level; see `infra/`), HTTP/2 flood limits (they are the
HTTP connection manager's), and anything read from the machine: memory limits are handed in.
"""

from datetime import timedelta

import msgspec
from envoy.config.bootstrap.v3 import bootstrap_pb2 as bootstrapv3
from envoy.config.cluster.v3 import cluster_pb2 as clusterv3
from envoy.config.core.v3 import address_pb2 as addressv3
from envoy.config.core.v3 import base_pb2 as basev3
from envoy.config.core.v3 import config_source_pb2 as config_sourcev3
from envoy.config.core.v3 import grpc_service_pb2 as grpc_servicev3
from envoy.config.metrics.v3 import stats_pb2 as statsv3
from envoy.config.overload.v3 import overload_pb2 as overloadv3
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2 as caresv3
from envoy.extensions.resource_monitors.downstream_connections.v3 import downstream_connections_pb2 as connectionsv3
from envoy.extensions.resource_monitors.fixed_heap.v3 import fixed_heap_pb2 as heapv3
from envoy.extensions.transport_sockets.tls.v3 import common_pb2 as tls_commonv3
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tlsv3
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as http_optionsv3
from envoy.type.matcher.v3 import regex_pb2 as regexv3
from envoy.type.matcher.v3 import string_pb2 as stringv3
from google.protobuf import json_format

from portway.envoy.own_secrets import CONTROL_PLANE_AUTHORITIES, OWN_CERTIFICATE
from portway.model.checks import MAX_REGEX_PROGRAM

CONTROL_PLANE_CLUSTER = "control_plane"
"""Name of the static cluster that leads to Portway. No cluster from xDS has it: those names hold a `/`."""

COUNTED_PREFIX = "on."
"""A cluster is counted if its `alt_stat_name` starts with this; see `statistics_name`."""

UPSTREAM_TAG = "portway_upstream"
"""Label that carries the name of a counted upstream on its Prometheus series."""

UNCOUNTED_PREFIX = "off."
"""All clusters that are not counted share this `alt_stat_name`."""

# What is left out, not what is let in: the router looks a dozen statistics of the cluster up by name for each request,
# and each look-up passes the list. A list of 17 admitted prefixes made a request cost 9,800 instructions more (of
# 166,000), this one 300. Every entry is a prefix that ends with a dot: such lists, and only such, Envoy decides on
# interned tokens. A regex or a prefix without the dot among them makes each of the 100 names of each cluster pass all
# patterns as text: 3,000 clusters took 0.31 s and 135 MB instead of 0.18 s and 123 MB (with all statistics 1.55 s,
# 204 MB, 510,000 series).
EXCLUDED_STATISTICS: tuple[str, ...] = (
    f"cluster.{UNCOUNTED_PREFIX}",
    "sds.",  # eight for each secret
)

HISTOGRAM_BUCKETS_MS: tuple[float, ...] = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 60_000)
"""Upper bounds of the buckets of every histogram, one series each. Envoy's own are 19 and reach up to an hour."""


class ControlPlaneTls(msgspec.Struct, frozen=True, kw_only=True):
    """Mutual TLS towards a control plane on another machine.

    Both files, whose paths must name a folder, are what `own_secrets.py` makes. Envoy reads them again when another
    file is moved to their name, and the next connection uses what is in them: nothing is restarted.
    """

    certificate_path: str
    """Certificate and key together, so that there is no moment at which one of them is new."""
    authorities_path: str
    """The authorities that may vouch for the control plane."""
    server_name: str
    """Name that the control plane's certificate must carry (a DNS name), also sent as SNI."""


class BootstrapSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What may differ between Envoys. Equal settings give equal bytes, and only other bytes need a hot restart."""

    node_id: str
    """Unique among the proxies of a fleet."""
    fleet: str
    """Which configuration this proxy gets; sent as `node.cluster`."""
    zone: str = ""
    """The proxy's own zone, for zone-aware routing. Empty: unknown."""
    region: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    """Further facts about the node (name, value), shown wherever the proxy is listed."""
    control_plane: str = "xds.sock"
    """Path of a Unix socket (a relative one is relative to Envoy's working directory) or `HOST:PORT`, several of these
    with commas between: one of them is dialled, another if it does not answer."""
    control_plane_tls: ControlPlaneTls | None = None
    """`None` is meant for Unix sockets and loopback, since the configuration holds private keys."""
    admin_socket: str = "admin.sock"
    """Path of the Unix socket on which Envoy serves its admin interface, mode 0600."""
    max_heap_bytes: int | None = None
    """What Envoy may allocate before it sheds load step by step. `None`: no limit, no shedding by memory."""
    max_connections: int | None = 50_000
    """Downstream connections in total; those past it are closed at once. `None`: as many as there are descriptors."""
    reconnect_base: timedelta = timedelta(milliseconds=50)
    """First pause before the proxy dials its control plane again; jittered, doubled up to `reconnect_max`."""
    reconnect_max: timedelta = timedelta(milliseconds=250)
    """Envoy's own 0.5 s to 30 s would keep a proxy on old endpoints long after a restart of ours."""
    regex_program_size: int = MAX_REGEX_PROGRAM
    """Largest RE2 program that is accepted. Envoy's 100 refuses an ordinary alternation of twenty paths."""
    dns_resolvers: tuple[tuple[str, int], ...] = ()
    """Name servers as (IP address, port). Empty: those of the machine (`/etc/resolv.conf`)."""
    runtime: tuple[tuple[str, bool | int | str], ...] = ()
    """Further Envoy runtime values. Values set over the admin interface win until the process ends."""


def statistics_name(name: str, *, counted: bool) -> str:
    """The `alt_stat_name` of the cluster `name`: if `counted`, its series appear on Envoy's metrics page, else none.

    Changing it is a change of the cluster only, which the running proxy takes without a restart. Dots and colons become
    underscores: Envoy splits names at dots, and writes `_` for a colon anyway.
    """
    plain = name.replace(".", "_").replace(":", "_")
    return f"{COUNTED_PREFIX}{plain}" if counted else UNCOUNTED_PREFIX.rstrip(".")


def build_bootstrap(settings: BootstrapSettings) -> bootstrapv3.Bootstrap:
    """The whole bootstrap; `encode_bootstrap` makes the file of it."""
    bootstrap = bootstrapv3.Bootstrap(
        node=_node(settings),
        admin=bootstrapv3.Admin(
            address=addressv3.Address(pipe=addressv3.Pipe(path=settings.admin_socket, mode=0o600)),
            # At the connection limit the admin interface is needed most.
            ignore_global_conn_limit=True,
        ),
        dynamic_resources=bootstrapv3.Bootstrap.DynamicResources(
            ads_config=_ads(settings), cds_config=_from_ads(), lds_config=_from_ads()
        ),
        static_resources=bootstrapv3.Bootstrap.StaticResources(clusters=[_control_plane(settings)]),
        stats_config=_statistics(),
        # Histograms are merged when somebody reads them instead of every five seconds; there are no statistics sinks.
        stats_flush_on_admin=True,
        overload_manager=_overload_manager(settings),
        layered_runtime=_runtime(settings),
    )
    if settings.dns_resolvers:
        resolvers = [
            addressv3.Address(socket_address=addressv3.SocketAddress(address=address, port_value=port))
            for address, port in settings.dns_resolvers
        ]
        bootstrap.typed_dns_resolver_config.name = "envoy.network.dns_resolver.cares"
        bootstrap.typed_dns_resolver_config.typed_config.Pack(caresv3.CaresDnsResolverConfig(resolvers=resolvers))
    return bootstrap


def encode_bootstrap(bootstrap: bootstrapv3.Bootstrap) -> bytes:
    """The bootstrap as JSON with sorted keys, for `envoy --config-path x.json`. Equal messages give equal bytes."""
    text = json_format.MessageToJson(bootstrap, preserving_proto_field_name=True, sort_keys=True, indent=1)
    return text.encode() + b"\n"


def _node(settings: BootstrapSettings) -> basev3.Node:
    node = basev3.Node(id=settings.node_id, cluster=settings.fleet)
    if settings.zone or settings.region:
        node.locality.CopyFrom(basev3.Locality(zone=settings.zone, region=settings.region))
    for name, value in settings.metadata:
        node.metadata.fields[name].string_value = value
    return node


def _ads(settings: BootstrapSettings) -> config_sourcev3.ApiConfigSource:
    envoy_grpc = grpc_servicev3.GrpcService.EnvoyGrpc(cluster_name=CONTROL_PLANE_CLUSTER)
    back_off = envoy_grpc.retry_policy.retry_back_off
    back_off.base_interval.FromTimedelta(settings.reconnect_base)
    back_off.max_interval.FromTimedelta(settings.reconnect_max)
    return config_sourcev3.ApiConfigSource(
        api_type=config_sourcev3.ApiConfigSource.DELTA_GRPC,
        transport_api_version=config_sourcev3.V3,
        set_node_on_first_message_only=True,
        grpc_services=[grpc_servicev3.GrpcService(envoy_grpc=envoy_grpc)],
    )


def _from_ads() -> config_sourcev3.ConfigSource:
    """Clusters and listeners from ADS, however long the first answer takes.

    After Envoy's default of 15 s it would go on without: in a hot restart the new process would take over with no
    listener and the old one, which has them, would go. So a control plane must answer even if it has nothing to send.
    """
    source = config_sourcev3.ConfigSource(
        ads=config_sourcev3.AggregatedConfigSource(), resource_api_version=config_sourcev3.V3
    )
    source.initial_fetch_timeout.FromTimedelta(timedelta(0))
    return source


def _control_plane(settings: BootstrapSettings) -> clusterv3.Cluster:
    cluster = clusterv3.Cluster(name=CONTROL_PLANE_CLUSTER)
    cluster.connect_timeout.FromTimedelta(timedelta(seconds=1 if _is_path(settings.control_plane) else 2))
    cluster.load_assignment.cluster_name = CONTROL_PLANE_CLUSTER
    endpoints = cluster.load_assignment.endpoints.add()
    if _is_path(settings.control_plane):
        cluster.type = clusterv3.Cluster.STATIC
        endpoints.lb_endpoints.add().endpoint.address.pipe.path = settings.control_plane
    else:
        cluster.type = clusterv3.Cluster.STRICT_DNS
        for one in settings.control_plane.split(","):
            host, _, port = one.strip().rpartition(":")
            address = endpoints.lb_endpoints.add().endpoint.address.socket_address
            address.address = host.strip("[]")
            address.port_value = int(port)
        # Not in turn: all proxies would begin with the first.
        cluster.lb_policy = clusterv3.Cluster.RANDOM
        cluster.upstream_connection_options.tcp_keepalive.keepalive_time.value = 60
    if settings.control_plane_tls is not None:
        cluster.transport_socket.name = "envoy.transport_sockets.tls"
        cluster.transport_socket.typed_config.Pack(_upstream_tls(settings.control_plane_tls))
    options = http_optionsv3.HttpProtocolOptions()
    if not _is_path(settings.control_plane):
        # Each stream dials anew: a replica that sends us away would be asked again over the connection that there is.
        options.common_http_protocol_options.max_requests_per_connection.value = 1
    http2 = options.explicit_http_config.http2_protocol_options
    # Notices a control plane that is stopped but not gone, which a silent stream alone would not.
    http2.connection_keepalive.interval.FromTimedelta(timedelta(seconds=30))
    http2.connection_keepalive.timeout.FromTimedelta(timedelta(seconds=20))
    cluster.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].Pack(options)
    return cluster


def _upstream_tls(tls: ControlPlaneTls) -> tlsv3.UpstreamTlsContext:
    context = tlsv3.UpstreamTlsContext(sni=tls.server_name)
    common = context.common_tls_context
    common.tls_params.tls_minimum_protocol_version = tls_commonv3.TlsParameters.TLSv1_3
    # Envoy's default for clients ends there.
    common.tls_params.tls_maximum_protocol_version = tls_commonv3.TlsParameters.TLSv1_3
    certificate = common.tls_certificate_sds_secret_configs.add(name=OWN_CERTIFICATE)
    certificate.sds_config.path_config_source.path = tls.certificate_path
    certificate.sds_config.resource_api_version = config_sourcev3.V3
    combined = common.combined_validation_context
    authorities = combined.validation_context_sds_secret_config
    authorities.name = CONTROL_PLANE_AUTHORITIES
    authorities.sds_config.path_config_source.path = tls.authorities_path
    authorities.sds_config.resource_api_version = config_sourcev3.V3
    name = combined.default_validation_context.match_typed_subject_alt_names.add()
    name.san_type = tls_commonv3.SubjectAltNameMatcher.DNS
    name.matcher.exact = tls.server_name
    return context


def _statistics() -> statsv3.StatsConfig:
    config = statsv3.StatsConfig()
    patterns = config.stats_matcher.exclusion_list.patterns
    patterns.extend(stringv3.StringMatcher(prefix=prefix) for prefix in EXCLUDED_STATISTICS)
    # The default tags take `on` for the cluster's name; this one takes the rest of the name, up to the next dot.
    config.stats_tags.add(tag_name=UPSTREAM_TAG, regex=r"^cluster\.on\.((.+?)\.)")
    every = stringv3.StringMatcher(safe_regex=regexv3.RegexMatcher(regex=".*"))  # an empty prefix is refused
    config.histogram_bucket_settings.add(match=every, buckets=HISTOGRAM_BUCKETS_MS)
    return config


# The steps of defence by pressure on the heap, mildest first: (action, starts at, complete at); a plain threshold has
# both equal. Idle connections go first, nobody's request is cut short: only the idle time of connections is scaled.
HEAP_STEPS: tuple[tuple[str, float, float], ...] = (
    ("envoy.overload_actions.reduce_timeouts", 0.80, 0.95),  # idle connections are closed sooner, down to 2 s
    ("envoy.overload_actions.shrink_heap", 0.90, 0.90),  # freed pages go back to the system
    ("envoy.overload_actions.disable_http_keepalive", 0.92, 0.92),  # answered connections are not kept
    ("envoy.overload_actions.stop_accepting_connections", 0.95, 0.95),  # new ones wait in the kernel's queue
    ("envoy.overload_actions.stop_accepting_requests", 0.98, 0.98),  # 503 at once, better than all being killed
)


def _overload_manager(settings: BootstrapSettings) -> overloadv3.OverloadManager | None:
    """Monitors for what is limited at all. `None` if nothing is."""
    if settings.max_heap_bytes is None and settings.max_connections is None:
        return None
    manager = overloadv3.OverloadManager()
    manager.refresh_interval.FromTimedelta(timedelta(milliseconds=250))
    if settings.max_heap_bytes is not None:
        heap = manager.resource_monitors.add(name="envoy.resource_monitors.fixed_heap")
        heap.typed_config.Pack(heapv3.FixedHeapConfig(max_heap_size_bytes=settings.max_heap_bytes))
        for action, start, full in HEAP_STEPS:
            manager.actions.append(_overload_action(action, start, full))
    if settings.max_connections is not None:
        connections = manager.resource_monitors.add(name="envoy.resource_monitors.global_downstream_max_connections")
        connections.typed_config.Pack(
            connectionsv3.DownstreamConnectionsConfig(max_active_downstream_connections=settings.max_connections)
        )
    return manager


def _overload_action(name: str, start: float, full: float) -> overloadv3.OverloadAction:
    action = overloadv3.OverloadAction(name=name)
    trigger = action.triggers.add(name="envoy.resource_monitors.fixed_heap")
    if start == full:
        trigger.threshold.value = start
    else:
        trigger.scaled.scaling_threshold = start
        trigger.scaled.saturation_threshold = full
    if name == "envoy.overload_actions.reduce_timeouts":
        timers = overloadv3.ScaleTimersOverloadActionConfig()
        idle = timers.timer_scale_factors.add()
        idle.timer = overloadv3.ScaleTimersOverloadActionConfig.HTTP_DOWNSTREAM_CONNECTION_IDLE
        idle.min_timeout.FromTimedelta(timedelta(seconds=2))
        action.typed_config.Pack(timers)
    return action


def _runtime(settings: BootstrapSettings) -> bootstrapv3.LayeredRuntime:
    runtime = bootstrapv3.LayeredRuntime()
    static = runtime.layers.add(name="portway").static_layer
    static["re2.max_program_size.error_level"] = settings.regex_program_size
    # Envoy warns from 100 on by default: that would be one line for every large expression at each update.
    static["re2.max_program_size.warn_level"] = settings.regex_program_size
    # Else an endpoint whose machine is gone seems idle, and gets most of the requests until it is ejected
    # (docs/design/balancing.md).
    static["envoy.reloadable_features.least_request_lb_count_pending_requests"] = True
    for name, value in settings.runtime:
        static[name] = value
    # Later layers win; this one is what `POST /runtime_modify` writes to.
    runtime.layers.add(name="admin").admin_layer.SetInParent()
    return runtime


def _is_path(address: str) -> bool:
    """A Unix socket is told from `HOST:PORT` by a slash or the lack of a colon."""
    return "/" in address or ":" not in address
