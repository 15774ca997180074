"""What proxies do with an HTTP request: match tables and actions.

A virtual host is an ordered table; the first route that fits is the right one. `translate/` puts them in order,
`envoy/` turns each into an Envoy virtual host, `explain/` evaluates the very same table. Everything that equals the
default is absent: the shape of a virtual host decides what a change costs (`docs/design/route-shapes.md`).
"""

from datetime import timedelta
from enum import StrEnum

import msgspec

from portway.model.names import UpstreamKey
from portway.objects.verdict import ObjectKey

SCHEME_HEADER = "x-forwarded-proto"
"""Request field that holds the scheme of every request as the edge sees it: that of the connection, or what a trusted
proxy reports. Proxies overwrite what anybody else sends before a route is chosen, so routes may match on it. (`:scheme`
does not do: an HTTP/2 client sends what it likes there.)"""


class Source(msgspec.Struct, frozen=True, kw_only=True, gc=False, order=True):
    """The declared thing behind a part of the model. Reported by `explain`; never part of what is sent."""

    object: ObjectKey
    field: str = ""
    """Path from the object's root: `spec.rules[0].matches[1]`."""


class PathKind(StrEnum):
    EXACT = "exact"
    PREFIX = "prefix"
    """Whole segments: `/foo` fits `/foo`, `/foo/` and `/foo/x`, not `/foobar`. `/` fits everything."""
    TEXT_PREFIX = "text-prefix"
    """Any text that starts so."""
    REGEX = "regex"
    """RE2, must fit the whole path (query left out)."""


class PathMatch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    kind: PathKind
    value: str
    ignore_case: bool = False


class ValueKind(StrEnum):
    EXACT = "exact"
    REGEX = "regex"
    """RE2, must fit the whole value."""
    PRESENT = "present"


class ValueMatch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Matches a request field, query parameter or cookie.

    Of several header fields with one name it is enough that one fits, and none may where the match is inverted (Envoy
    1.40 looks at each, whatever its documentation says of joining). Of a repeated query parameter the first counts.
    """

    name: str
    """For headers in lower case; `:authority` and `:method` are allowed. Query parameters keep their case."""
    kind: ValueKind = ValueKind.EXACT
    value: str = ""
    invert: bool = False
    """Fits when the value does not (an absent field then fits). Not for query parameters."""


class Fraction(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A share of requests. Envoy draws one number for all fractions of a request, so shares are cumulative
    thresholds."""

    numerator: int
    denominator: int = 100
    """100, 10,000 or 1,000,000."""


class RouteMatch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All parts must fit."""

    path: PathMatch
    method: str = ""
    """Empty: any."""
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()
    cookies: tuple[ValueMatch, ...] = ()
    share: Fraction | None = None
    """Fits for this share of the requests that fit otherwise."""
    grpc: bool = False
    """Fits gRPC requests only (content-type application/grpc)."""


class HeaderEdits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Changes of request or response fields, in this order: remove, set, add. Values are literal text, with no command
    operators; use `formatted` for those. Names are as declared, compared without case."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    """Appended, also if the field exists."""
    remove: tuple[str, ...] = ()
    formatted: tuple[tuple[str, str], ...] = ()
    """Set to what an Envoy command operator gives: `("x-real-ip", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")`. Only
    from our own tables, never from a user's text."""
    if_absent: tuple[tuple[str, str], ...] = ()
    """The same, where the request has no such field yet."""

    def __bool__(self) -> bool:
        return bool(self.set or self.add or self.remove or self.formatted or self.if_absent)


NO_EDITS = HeaderEdits()


class PathRewriteKind(StrEnum):
    FULL = "full"
    """The whole path becomes `value`; the query stays."""
    PREFIX = "prefix"
    """The matched prefix becomes `value`; needs a route whose path match is PREFIX. Segment-wise: never a double or
    missing slash."""
    REGEX = "regex"
    """What `pattern` fits becomes `value` (`\\1` for groups)."""


class PathRewrite(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    kind: PathRewriteKind
    value: str
    pattern: str = ""


class WeightedUpstream(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A share of a route's requests."""

    upstream: UpstreamKey | None
    """`None`: what was declared cannot be used; the share is answered with the route's `unusable_status`."""
    weight: int = 1
    request_headers: HeaderEdits = NO_EDITS
    response_headers: HeaderEdits = NO_EDITS
    host: str = ""
    """Host sent upstream for this share; empty: that of the route."""
    source: Source | None = None


class RetryCause(StrEnum):
    CONNECT = "connect"
    """The connection could not be made, or the request was refused before it was processed: always safe to repeat."""
    RESET = "reset"
    """The upstream went away before it answered; the request may have been processed."""
    TIMEOUT = "timeout"
    """The try took longer than `per_try`."""
    STATUS = "status"
    """The upstream answered with one of `statuses`."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Retries of one route where they deviate from the upstream's default (safe causes, one other endpoint)."""

    attempts: int
    """Tries after the first one; 0: none."""
    causes: frozenset[RetryCause] = frozenset({RetryCause.CONNECT})
    statuses: tuple[int, ...] = ()
    per_try: timedelta | None = None
    per_try_idle: timedelta | None = None
    """Longest silence of the upstream within one try."""
    backoff: timedelta | None = None
    """Base interval; `None`: the default of 1 ms."""
    non_idempotent: bool = False
    """Repeat POST, LOCK and PATCH for unsafe causes too; RFC 9110 §9.2.2 forbids it to a proxy by itself."""


class Mirror(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A copy of requests whose answers are thrown away."""

    upstream: UpstreamKey
    share: Fraction | None = None
    """`None`: all."""


class HashOn(StrEnum):
    HEADER = "header"
    COOKIE = "cookie"
    SOURCE_ADDRESS = "source-address"
    QUERY_PARAMETER = "query-parameter"


class HashPolicy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What consistent hashing looks at; the first that yields a value with `terminal` decides."""

    on: HashOn
    name: str = ""
    ttl: timedelta | None = None
    """For a cookie that Portway sets when it is missing; `None`: never set; zero: a session cookie."""
    path: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    """Further cookie attributes: `("SameSite", "Lax")`, `("Secure", "")`."""


class StickyCookie(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A cookie that names the endpoint itself: stays with it while it exists, over restarts of Portway and Envoy."""

    name: str
    path: str = "/"
    ttl: timedelta = timedelta(0)
    """Zero: a session cookie."""
    attributes: tuple[tuple[str, str], ...] = ()
    strict: bool = False
    """Answer 503 when the endpoint is gone instead of choosing another."""


class CorsPolicy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Cross-origin rules as Gateway API's `CORS` filter has them: preflights are answered by the proxy, never
    forwarded."""

    allow_origins: tuple[str, ...] = ()
    """Exact origins, `scheme://*.suffix[:port]`, or `*`."""
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    allow_credentials: bool = False
    max_age: timedelta = timedelta(seconds=5)


class AccessList(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which client addresses may pass; others get 403. `deny` is looked at first. CIDRs in canonical text, sorted."""

    allow: tuple[str, ...] = ()
    """Empty: all."""
    deny: tuple[str, ...] = ()


class ExternalAuth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Ask another service first (Gateway API `ExternalAuth` filter)."""

    upstream: UpstreamKey | None
    """`None`: cannot be used; requests are refused."""
    grpc: bool
    path: str = ""
    """Prefix of the path of the HTTP check."""
    request_headers: tuple[str, ...] = ()
    """Sent along to the check."""
    response_headers: tuple[str, ...] = ()
    """Copied from the check's answer onto the request."""
    max_body_bytes: int = 0


class Forward(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Send the request on to upstreams, split by weight."""

    upstreams: tuple[WeightedUpstream, ...]
    """At least one with a weight above 0."""
    unusable_status: int = 500
    path: PathRewrite | None = None
    host: str = ""
    """Host sent upstream; empty: the client's."""
    host_from_upstream: bool = False
    """Send the host name of the upstream (a DNS backend) instead."""
    timeout: timedelta | None = None
    """For the whole exchange, all tries; `None`: no limit (idle limits still hold)."""
    idle_timeout: timedelta | None = None
    """Longest silence on the stream; `None`: the listener's."""
    retry: RetryPolicy | None = None
    """`None`: the upstream's default."""
    mirrors: tuple[Mirror, ...] = ()
    hash: tuple[HashPolicy, ...] = ()
    sticky: StickyCookie | None = None


class RedirectPathKind(StrEnum):
    FULL = "full"
    PREFIX = "prefix"
    REGEX = "regex"


class Redirect(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Answer with a Location built from the request."""

    status: int
    """301, 302, 303, 307 or 308."""
    scheme: str = ""
    """Empty: that of the request."""
    host: str = ""
    port: int = 0
    """0: left out if `scheme` or `host` is given, else that of the request."""
    path: PathRewrite | None = None
    """`None`: that of the request."""
    strip_query: bool = False


class Respond(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Answer without an upstream."""

    status: int
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    """Set on the answer, verbatim; `Location` for a redirect that is not built from the request."""
    reason: str = ""
    """Why there is no upstream, for the access log and `explain`: `no backend`, `annotation auth-url is not
    supported`."""


Action = Forward | Redirect | Respond


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a virtual host's table."""

    name: str
    """Says in access logs and metrics which object routes: `HTTPRoute/shop/cart`, with `/rule` if the rule has a
    name."""
    match: RouteMatch
    action: Action
    request_headers: HeaderEdits = NO_EDITS
    response_headers: HeaderEdits = NO_EDITS
    cors: CorsPolicy | None = None
    access: AccessList | None = None
    auth: ExternalAuth | None = None
    max_body_bytes: int = 0
    """Larger requests get 413, by their declared length; 0: no limit."""
    grpc_web: bool = False
    """gRPC-Web requests are turned into gRPC."""
    source: Source
    """What `explain` shows; not sent."""
    guard: str = ""
    """What it keeps from other routes, if nobody declared it: a noun for `explain`; not sent."""


class VirtualHost(msgspec.Struct, frozen=True, kw_only=True):
    """The routes of one host name, in match order; a request that fits none gets 404 (gRPC: UNIMPLEMENTED)."""

    domains: tuple[str, ...]
    """Sorted, unique in the table: exact names, `*.suffix`, `*`. The first is the key's host."""
    routes: tuple[Route, ...]
    require_tls: bool = False
    request_headers: HeaderEdits = NO_EDITS
    response_headers: HeaderEdits = NO_EDITS
    retry: RetryPolicy | None = None


class RouteTable(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all virtual hosts of a table."""

    request_headers: HeaderEdits = NO_EDITS
    response_headers: HeaderEdits = NO_EDITS
    max_direct_body_bytes: int = 4096
