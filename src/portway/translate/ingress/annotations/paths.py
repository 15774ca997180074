"""Annotations about paths and hosts."""

from typing import Final

from portway.translate.ingress.annotations import parsers
from portway.translate.ingress.annotations.entry import Annotation, Group, Risk, Scope

REWRITE_TARGET: Final = Annotation(
    name="rewrite-target",
    group=Group.PATHS,
    risk=Risk.MEDIUM,
    parse=parsers.path_with_captures,
    default="",
    default_text="no rewrite",
    form="a path, in which $1 to $9 may stand for captures",
    example="/$2",
    text="Sends the request on with this path; the query stays. `$1` to `$9` are the groups of the Ingress's path."
    " Unless it equals the path, it puts the whole host in regex mode: every path of the host, also of other"
    " Ingresses, is then a case-insensitive regular expression that need only fit the beginning, the longest text"
    " first.",
)
USE_REGEX: Final = Annotation(
    name="use-regex",
    group=Group.PATHS,
    parse=parsers.boolean,
    default=False,
    form="true or false",
    example="true",
    text="The Ingress's paths are regular expressions (RE2). Puts the whole host in regex mode, see `rewrite-target`.",
)
APP_ROOT: Final = Annotation(
    name="app-root",
    group=Group.PATHS,
    scope=Scope.HOST,
    risk=Risk.MEDIUM,
    parse=parsers.absolute_path,
    default="",
    default_text="no redirect",
    form="a path from the root",
    example="/app",
    text="Answers requests for exactly `/` with 302 to this path, before anything else; the query is dropped. Only"
    " from the namespace that declared the host first.",
)
SERVER_ALIAS: Final = Annotation[tuple[str, ...]](
    name="server-alias",
    group=Group.PATHS,
    scope=Scope.HOST,
    risk=Risk.HIGH,
    parse=parsers.hosts,
    default=(),
    default_text="no alias",
    form="a list of host names",
    example="www.example.com, example.org",
    text="Further names for the Ingress's hosts; all paths of the host answer there. `*.` stands for any labels, `~`"
    " begins a regular expression. A name that an Ingress has as host is left to it; the oldest Ingress of the"
    " namespace that declared the host first decides.",
)
UPSTREAM_VHOST: Final = Annotation(
    name="upstream-vhost",
    group=Group.PATHS,
    parse=parsers.upstream_host,
    default="",
    default_text="the client's",
    form="a host name, with or without a port",
    example="internal.example.com",
    text="Host sent upstream; X-Forwarded-Host still holds the client's. nginx variables are not supported, except"
    " `$host` and `$http_host`, which mean what is sent anyway.",
)
X_FORWARDED_PREFIX: Final = Annotation(
    name="x-forwarded-prefix",
    group=Group.PATHS,
    risk=Risk.MEDIUM,
    parse=parsers.literal_path,
    default="",
    default_text="not sent",
    form="a path without captures",
    example="/shop",
    text="Sends X-Forwarded-Prefix upstream, only where `rewrite-target` is in effect. Captures are not supported"
    " here.",
)
DEFAULT_BACKEND: Final = Annotation(
    name="default-backend",
    group=Group.PATHS,
    parse=parsers.service_name,
    default="",
    default_text="503",
    form="the name of a Service in the Ingress's namespace",
    example="sorry-page",
    text="Takes the requests of paths whose Service is missing or has no ready endpoint: at path `/`, with X-Code: 503"
    " and X-Original-URI and others that say what was asked for. Its first port is used.",
)

TABLE: Final = (
    REWRITE_TARGET,
    USE_REGEX,
    APP_ROOT,
    SERVER_ALIAS,
    UPSTREAM_VHOST,
    X_FORWARDED_PREFIX,
    DEFAULT_BACKEND,
)
