"""What an operator may set: one frozen tree, of which each part is handed only its branch.

Every field is a flag (`--http-port`), an environment variable (`PORTWAY_HTTP_PORT`) and a key of the settings file
(`http-port`); a flag beats a variable, that beats the file, that beats the default. The texts under the fields are the
help of the flags and the reference in `docs/configuration.md`. Names are unique in the whole tree. Pure: who reads
files and the environment hands them in.
"""

import ast
import inspect
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from functools import cache
from itertools import pairwise
from typing import NamedTuple, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from portway.setting_checks import CHECKS, NORMAL_FORMS, PARSERS

ENVIRONMENT_PREFIX = "PORTWAY_"


SINGULAR = {
    "bind_addresses": "bind-address",
    "control_planes": "control-plane",
    "filenames": "filename",
    "identity_services": "identity-service",
    "publish_addresses": "publish-address",
    "watch_namespaces": "watch-namespace",
    "tls_ciphers": "tls-cipher",
}
"""Flags that may be repeated are named for one value."""


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the branches."""


class Edge(Branch, frozen=True, kw_only=True):
    """Listeners, routes and upstreams"""

    bind_addresses: tuple[str, ...] = ("0.0.0.0",)  # noqa: S104 - a gateway is there to be reached
    """Addresses that Ingress is served on, and Gateways without `spec.addresses`."""
    publish_addresses: tuple[str, ...] = ()
    """Addresses or names by which clients reach this machine, for the status of Ingresses and Gateways. Empty: those
    that are listened on."""
    http_port: int = 80
    """Port of Ingress for plain HTTP."""
    https_port: int = 443
    """Port of Ingress for HTTPS. Redirects to HTTPS name it where it is not 443."""
    fleet: str = "host"
    """Name of the set of proxies that serves Ingress, and every Gateway on host infrastructure."""
    ingress_class: str = "portway"
    """Value of the annotation `kubernetes.io/ingress.class` that means us."""
    controller_class: str = "portway.dev/ingress-controller"
    """`spec.controller` of the IngressClasses that are ours."""
    gateway_controller: str = "portway.dev/gateway-controller"
    """`spec.controllerName` of the GatewayClasses that are ours."""
    watch_ingress_without_class: bool = False
    """Serve Ingresses that name no class, as ingress-nginx's flag of the same name does."""
    all_classes: bool = False
    """Serve every GatewayClass and IngressClass, declared or not, whoever's it is: to try foreign manifests."""
    exclusive_hosts: bool = False
    """Ingress: a host, with the names below a wildcard host, belongs to the namespace that declared it first; others
    get nothing of it. Off: namespaces share hosts, as in ingress-nginx."""
    annotation_prefix: str = "nginx.ingress.kubernetes.io"
    """Prefix of the Ingress annotations."""
    allow_unsupported: frozenset[str] = frozenset()
    """Annotations that protect, are not supported, and are to be ignored, with those that belong to them, instead of
    answering 503: `auth-url`. Only where something else protects their paths."""
    default_certificate: str = ""
    """Secret (`namespace/name`) served where no other certificate fits. Empty: one that Portway makes itself."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose `X-Forwarded-*` fields are believed. Empty: the peer's address is the client's."""
    proxy_protocol: bool = False
    """Connections to the Ingress ports must begin with a PROXY header."""
    http3: bool = False
    """Answer HTTP/3 on the HTTPS ports (UDP), and say so in `Alt-Svc`."""
    max_connections: int = 50_000
    """Client connections per proxy; more are closed at once."""
    max_header_bytes: int = 60 * 1024
    """All fields of a request together; larger ones get 431. Envoy's default; nginx's is four times 8 KiB."""
    max_headers: int = 100
    """Fields of a request; more get 431."""
    headers_timeout: timedelta = timedelta(seconds=60)
    """From the first byte of a request to the end of its header; then 408."""
    idle_timeout: timedelta = timedelta(seconds=75)
    """A client connection without a request is closed after this time; nginx's value."""
    stream_idle_timeout: timedelta = timedelta(minutes=5)
    """Longest silence of a stream in both directions."""
    read_timeout: timedelta = timedelta(seconds=60)
    """Ingress: longest silence of an upstream, as `proxy-read-timeout`; then 504."""
    connect_timeout: timedelta = timedelta(seconds=5)
    """For connections to upstreams."""
    http2_max_streams: int = 128
    """Parallel streams of one HTTP/2 connection; nginx's value."""
    http2_window_bytes: int = 256 * 1024
    """Initial window of an HTTP/2 stream."""
    path_normalise: bool = True
    """Resolve `.` and `..` in paths before they are matched and forwarded (RFC 3986 §6)."""
    escaped_slashes: str = "keep"
    """`%2F` and `%5C` in paths: `keep`, `reject`, or `redirect` to the unescaped form."""
    underscores_in_headers: str = "allow"
    """Request fields with `_` in their name: `allow`, `drop` or `reject`."""
    tls_min_version: str = "1.2"
    """Oldest TLS version for clients: `1.2` or `1.3`."""
    tls_ciphers: tuple[str, ...] = ()
    """TLS 1.2 cipher suites in BoringSSL's names (`ECDHE-RSA-AES128-GCM-SHA256`). Empty: Envoy's defaults."""
    ssl_redirect: bool = True
    """Ingress: redirect to HTTPS where the host has a certificate."""
    force_ssl_redirect: bool = False
    """Ingress: redirect to HTTPS everywhere."""
    redirect_status: int = 308
    """Status of redirects to HTTPS and of `from-to-www-redirect`: 301, 302, 307 or 308."""
    hsts: bool = False
    """Ingress: answer HTTPS with `Strict-Transport-Security`. Off until asked for: a browser remembers it for a
    year."""
    server_header: str = ""
    """Value of `server` in answers. Empty: none of ours; the upstream's own passes."""
    access_log: str = "-"
    """JSON access log of the proxies: a file, `-` for the log of Portway, empty for none."""
    local_backends: str = "auto"
    """Whether a Backend may name a Unix socket, a loopback or a link-local address of the proxies' machine: `yes`,
    `no`, or `auto`: a Backend from a file may, whose authors are trusted with the machine; one from a cluster may not,
    and none where the proxies run in a cluster."""
    tracing_collector: str = ""
    """`host:port` of an OpenTelemetry collector (gRPC) that the proxies send traces to. Empty: no tracing."""
    tracing_percent: float = 100.0
    """Share of requests that are traced, 0 to 100."""
    statistics_for: frozenset[str] = frozenset()
    """Services (`namespace/name`) and namespaces whose upstreams are counted one by one."""
    zone: str = ""
    """Zone of the proxies on this machine, for topology-aware routing."""


class Host(Branch, frozen=True, kw_only=True):
    """The proxies on this machine"""

    state_dir: str = ".portway"
    """Folder for sockets, logs, the last good configuration (it holds keys; mode 0700) and what a restart needs."""
    concurrency: int = 0
    """Worker threads of Envoy. 0: one per core."""
    envoy_log_level: str = "warning"
    """trace, debug, info, warning, error, critical or off."""
    envoy_binary: str = ""
    """Envoy to run instead of the one that comes with the package."""
    drain_time: timedelta = timedelta(seconds=30)
    """How long requests may take to end when Portway stops."""
    max_heap_bytes: int = 0
    """Envoy sheds load as its heap nears this. 0: 60 % of what the control group or the machine has."""
    leave_running: bool = False
    """Stopping Portway leaves Envoy serving; the next `portway run` adopts it."""


class Proxy(Branch, frozen=True, kw_only=True):
    """A proxy with its control plane elsewhere: `portway proxy`"""

    control_planes: tuple[str, ...] = ()
    """`HOST:PORT` of discovery, usually a Service in front of all replicas. May be given several times."""
    identity_services: tuple[str, ...] = ()
    """`HOST:PORT` where a token is given a certificate for. Empty: port 18001 of the hosts of `--control-plane`."""
    control_plane_name: str = "control-plane.portway.internal"
    """Name that the control plane's certificate must carry, whatever its address."""
    authorities: str = "/etc/portway/ca/ca.crt"
    """PEM file of the authorities that may vouch for the control plane; read again as it changes."""
    token: str = "/var/run/secrets/portway/token"  # noqa: S105 - a path
    """File with a ServiceAccount token for the audience `portway`; read again as it changes."""
    xds_certificate: str = ""
    """Outside of a cluster: PEM file of a certificate that somebody else keeps fresh, in place of a token."""
    xds_key: str = ""
    """Its key."""
    node_id: str = ""
    """Name of this proxy, unique in its fleet: the pod's. Empty: the host's name."""
    pod_namespace: str = ""
    """Namespace of its pod; shown wherever the proxy is listed."""
    node_name: str = ""
    """Node that it runs on, from which the control plane may know the zone."""
    health_address: str = "0.0.0.0:18080"
    """`HOST:PORT` of /healthz, /readyz and /metrics of a proxy; `[::]`: all addresses of both IP families."""
    withdrawal_time: timedelta = timedelta(seconds=5)
    """After SIGTERM, how long it goes on, not ready, as if nothing were: until whoever balances load has noticed."""


class Cluster(Branch, frozen=True, kw_only=True):
    """The cluster that Portway serves"""

    infrastructure: str = "host"
    """Where proxies run: `host`, on this machine, or `kubernetes`: each Gateway and IngressClass has its own, as a
    workload with a Service."""
    system_namespace: str = ""
    """Namespace of Portway itself, in which proxies of IngressClasses run. Empty: that of its pod."""
    proxy_image: str = ""
    """Image of the proxies that are started in a cluster, unless FleetParameters name another. Empty: that of Portway's
    own pod."""
    proxy_image_pull_policy: str = ""
    """`Always`, `IfNotPresent` or `Never`. Empty: the cluster's default."""
    discovery_address: str = ""
    """`HOST:PORT` where proxies in the cluster find Portway. Empty: port 18000 of Service `portway` in its
    namespace."""
    listen_address: str = "::"
    """Address on which proxies and other replicas are listened for, on ports 18000 to 18002."""
    write_status: bool = True
    """Write into the cluster what becomes of its objects (status, Events). `--no-write-status` needs no right to
    write."""
    status_writes_per_second: int = 200
    """Most statuses that are written in a second, after a pause as many at once. What comes faster is said a little
    later, Gateways first, and in fewer writes; configuration never waits for it."""
    pod_name: str = ""
    """Of the pod that Portway runs in. Empty: the host's name."""
    pod_ips: str = ""
    """Addresses of that pod, with commas between: where other replicas reach this one. Empty: they do not."""


class Admin(Branch, frozen=True, kw_only=True):
    """The admin address"""

    admin_address: str = "127.0.0.1:9902"
    """`HOST:PORT` of /healthz, /readyz, /metrics and the API that `portway status` and `explain` ask; `[::]`: all
    addresses of both IP families. Empty: none."""


class Logs(Branch, frozen=True, kw_only=True):
    """Portway's own log"""

    log_level: str = "info"
    """debug, info, warning or error."""
    log_format: str = "auto"
    """`json`, `human`, or `auto`: human on a terminal."""


class Sources(Branch, frozen=True, kw_only=True):
    """Where objects come from"""

    filenames: tuple[str, ...] = ()
    """Files and folders (read recursively) of YAML or JSON; `-` is standard input. May be given several times."""
    poll: bool = False
    """Look at the files once a second instead of asking the kernel for changes: for network file systems."""
    kubernetes: bool = False
    """Read objects from a cluster too, and say there what becomes of them: the one of the pod that Portway runs in, or
    that of the kubeconfig."""
    kubeconfig: str = ""
    """File that says how the cluster is reached. Empty: the pod's own files, else `KUBECONFIG` or `~/.kube/config`."""
    context: str = ""
    """Context of the kubeconfig. Empty: its current one."""
    watch_namespaces: tuple[str, ...] = ()
    """Namespaces of the cluster that are looked at. Empty: all. May be given several times."""
    watch_selector: str = ""
    """Only routes and Ingresses of the cluster with these labels count: `team=shop,tier!=test`."""


def reads_cluster(sources: Sources) -> bool:
    """Whether objects come from a cluster's API server."""
    return sources.kubernetes or bool(sources.kubeconfig or sources.context)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The whole tree."""

    sources: Sources = Sources()
    edge: Edge = Edge()
    host: Host = Host()
    proxy: Proxy = Proxy()
    cluster: Cluster = Cluster()
    admin: Admin = Admin()
    logs: Logs = Logs()


class SettingsError(ValueError):
    """A setting that cannot be used. The message names it, where it was given, the value and what would do."""


class Setting(NamedTuple):
    """One leaf of the tree."""

    branch: str
    field: str
    type: object
    default: object
    help: str

    @property
    def name(self) -> str:
        """As flag (without dashes) and as key of the settings file."""
        return SINGULAR.get(self.field) or self.field.replace("_", "-")

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.replace("-", "_").upper()

    @property
    def is_many(self) -> bool:
        return get_origin(self.type) in (tuple, frozenset)


def branches() -> Iterator[tuple[str, type[Branch]]]:
    for name, kind in get_type_hints(Settings).items():
        yield name, cast("type[Branch]", kind)


@cache
def all_settings() -> tuple[Setting, ...]:
    """Every leaf, in the order of the tree."""
    found: list[Setting] = []
    for branch, kind in branches():
        texts = field_texts(kind)
        hints = get_type_hints(kind)
        found += [
            Setting(branch, info.name, hints[info.name], info.default, texts[info.name])
            for info in msgspec.structs.fields(kind)
        ]
    return tuple(found)


@cache
def field_texts(kind: type[object]) -> Mapping[str, str]:
    """The strings under a class's fields, by field."""
    module = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
    body = next(node.body for node in module.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__)
    texts: dict[str, str] = {}
    for declaration, text in pairwise(body):
        if (
            isinstance(declaration, ast.AnnAssign)
            and isinstance(declaration.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            texts[declaration.target.id] = " ".join(str(text.value.value).split())
    return texts


def parse_value(setting: Setting, given: object, place: str) -> object:
    """A value as given on the command line, in the environment or in a file, in the setting's type.

    Args:
        given: text, or what a YAML file holds; for settings with many values a list, or text with commas.
        place: where it was given, for the message: flag, variable, or file and key.

    Raises:
        SettingsError: it cannot be used.
    """
    if given is None or isinstance(given, dict) or (isinstance(given, list | tuple) and not setting.is_many):
        raise SettingsError(f"{place}: has no value" if given is None else f"{place}: takes one value, not {given}")
    if not setting.is_many:
        return _parse_one(setting, given, place)
    parts = given if isinstance(given, list | tuple) else [part.strip() for part in str(given).split(",")]
    normal = NORMAL_FORMS.get(setting.field, str)
    values = dict.fromkeys(normal(str(_parse_one(setting, part, place))) for part in parts if str(part))
    return frozenset(values) if get_origin(setting.type) is frozenset else tuple(values)


def _parse_one(setting: Setting, given: object, place: str) -> object:
    text = str(given).lower() if isinstance(given, bool) else str(given)
    check = CHECKS.get(setting.field)
    try:
        value = PARSERS[str if setting.is_many else _plain(setting.type)](text)
        problem = check(value) if check is not None else ""
    except ValueError as error:
        raise SettingsError(f'{place}: "{given}" {error}') from None
    if problem:
        raise SettingsError(f'{place}: "{given}" {problem}')
    return value


def _plain(hint: object) -> object:
    if get_origin(hint) in (Union, types.UnionType):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint


def make_settings(
    flags: Mapping[str, object], environment: Mapping[str, str], file: Mapping[str, object], file_name: str = ""
) -> Settings:
    """Join what was given; a flag beats a variable, that beats the file.

    Args:
        flags: values by field; those not given are absent or `None`.
        environment: all of it; only our variables are looked at.
        file: the settings file, by setting name.

    Raises:
        SettingsError: a value cannot be used, or the file or environment names a setting that does not exist.
    """
    known = {setting.name: setting for setting in all_settings()}
    for name in file:
        if str(name) not in known:
            raise SettingsError(f"{file_name}: {name} is no setting{_nearest(str(name), known)}")
    environment = {
        variable: value
        for variable, value in environment.items()
        if variable.startswith(ENVIRONMENT_PREFIX) and not _is_service_link(variable, value)
    }
    variables = {setting.variable for setting in known.values()}
    for variable in environment:
        if variable not in variables | {"PORTWAY_SETTINGS"}:
            raise SettingsError(f"environment: {variable} is no setting{_nearest(variable, variables)}")
    chosen: dict[str, dict[str, object]] = {branch: {} for branch, _ in branches()}
    for setting in known.values():
        flag = flags.get(setting.field)
        if flag is not None and flag != ():
            value = parse_value(setting, flag, f"--{setting.name}")
        elif setting.variable in environment:
            value = parse_value(setting, environment[setting.variable], setting.variable)
        elif setting.name in file:
            value = parse_value(setting, file[setting.name], f"{file_name}: {setting.name}")
        else:
            continue
        chosen[setting.branch][setting.field] = value
    made = {name: kind(**chosen[name]) for name, kind in branches()}
    settings = Settings(**made)  # type: ignore[arg-type]  # the branches by their names, from the tree itself
    if settings.edge.http_port == settings.edge.https_port:
        raise SettingsError(
            f"http-port and https-port are both {settings.edge.http_port}: give HTTPS a port of its own"
        )
    return settings


_SERVICE_LINK = re.compile(
    r"PORTWAY_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)


def _is_service_link(variable: str, value: str) -> bool:
    """Whether Kubernetes put it there for a Service that is named `portway` or `portway-...` (Kubernetes,
    "Environment variables" of Services: `PORTWAY_SERVICE_HOST`, `PORTWAY_PORT=tcp://10.0.0.11:80`)."""
    return _SERVICE_LINK.fullmatch(variable) is not None or (
        variable.endswith("_PORT") and value.startswith(("tcp://", "udp://", "sctp://"))
    )


def _nearest(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    found = get_close_matches(name, list(known), 1, 0.6)
    return f"; did you mean {found[0]}?" if found else ""
