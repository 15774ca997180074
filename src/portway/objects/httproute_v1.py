"""Gateway API: HTTPRoute.

Source: Gateway API v1.7, `apis/v1/httproute_types.go`; fields marked experimental are in the Experimental channel only.
"""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from portway.objects.filters_v1 import (
    HTTPExternalAuthFilter,
    HTTPHeaderFilter,
    HTTPRequestMirrorFilter,
    SessionPersistence,
)
from portway.objects.meta import Meta, Part
from portway.objects.references_v1 import GatewayDefaultScope, LocalObjectReference, ParentRefs
from portway.objects.scalars import (
    AllowedOrigin,
    Duration,
    Group,
    HeaderName,
    HeaderValue,
    Hostname,
    KindName,
    Namespace,
    NonNegativeInt32,
    ObjectName,
    PortNumber,
    PositiveInt32,
    PreciseHostname,
    SectionName,
    Weight,
)


class PathMatchType(StrEnum):
    """How a path matches. A prefix is whole segments."""

    EXACT = "Exact"
    PATH_PREFIX = "PathPrefix"
    REGULAR_EXPRESSION = "RegularExpression"


class HeaderMatchType(StrEnum):
    """How a field's value matches."""

    EXACT = "Exact"
    REGULAR_EXPRESSION = "RegularExpression"


class QueryParamMatchType(StrEnum):
    """How a query parameter's value matches."""

    EXACT = "Exact"
    REGULAR_EXPRESSION = "RegularExpression"


class HTTPMethod(StrEnum):
    """Methods that a match can name."""

    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"
    CONNECT = "CONNECT"
    OPTIONS = "OPTIONS"
    TRACE = "TRACE"
    PATCH = "PATCH"


class CORSMethod(StrEnum):
    """Methods that CORS can allow; `*` alone: all."""

    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"
    CONNECT = "CONNECT"
    OPTIONS = "OPTIONS"
    TRACE = "TRACE"
    PATCH = "PATCH"
    ANY = "*"


class HTTPPathMatch(Part, frozen=True, kw_only=True):
    """Matches the path."""

    type: PathMatchType = PathMatchType.PATH_PREFIX
    value: Annotated[str, msgspec.Meta(max_length=1024)] = "/"


class HTTPHeaderMatch(Part, frozen=True, kw_only=True):
    """Matches a field."""

    type: HeaderMatchType = HeaderMatchType.EXACT
    name: HeaderName
    """Case-insensitive; of several entries with equivalent names the first counts."""
    value: HeaderValue


class HTTPQueryParamMatch(Part, frozen=True, kw_only=True):
    """Matches a query parameter."""

    type: QueryParamMatchType = QueryParamMatchType.EXACT
    name: HeaderName
    """Case-sensitive."""
    value: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class HTTPRouteMatch(Part, frozen=True, kw_only=True):
    """One condition on requests; all its parts must hold."""

    path: HTTPPathMatch = HTTPPathMatch()
    headers: Annotated[tuple[HTTPHeaderMatch, ...], msgspec.Meta(max_length=16, extra={"unique_by": ("name",)})] = ()
    query_params: Annotated[
        tuple[HTTPQueryParamMatch, ...], msgspec.Meta(max_length=16, extra={"unique_by": ("name",)})
    ] = ()
    method: HTTPMethod | None = None


class PathModifierType(StrEnum):
    """What of the path is replaced."""

    FULL_PATH = "ReplaceFullPath"
    PREFIX_MATCH = "ReplacePrefixMatch"


class HTTPPathModifier(Part, frozen=True, kw_only=True):
    """Replaces the path, or the part that the match's prefix covered."""

    type: PathModifierType
    replace_full_path: Annotated[str, msgspec.Meta(max_length=1024)] | None = None
    replace_prefix_match: Annotated[str, msgspec.Meta(max_length=1024)] | None = None


class RedirectScheme(StrEnum):
    """Scheme of a redirect's target."""

    HTTP = "http"
    HTTPS = "https"


class HTTPRequestRedirectFilter(Part, frozen=True, kw_only=True):
    """Answers with a redirect; what is not set stays as in the request."""

    scheme: RedirectScheme | None = None
    hostname: PreciseHostname | None = None
    path: HTTPPathModifier | None = None
    port: PortNumber | None = None
    """None: the scheme's own port if `scheme` is set, otherwise the listener's."""
    status_code: Literal[301, 302, 303, 307, 308] = 302


class HTTPURLRewriteFilter(Part, frozen=True, kw_only=True):
    """Changes host and path of the request on its way to the backend."""

    hostname: PreciseHostname | None = None
    path: HTTPPathModifier | None = None


class HTTPCORSFilter(Part, frozen=True, kw_only=True):
    """Cross-origin requests that browsers may make."""

    allow_origins: Annotated[tuple[AllowedOrigin, ...], msgspec.Meta(max_length=64, extra={"unique": True})] = ()
    allow_credentials: bool | None = None
    """None: no."""
    allow_methods: Annotated[tuple[CORSMethod, ...], msgspec.Meta(max_length=9, extra={"unique": True})] = ()
    allow_headers: Annotated[tuple[HeaderName, ...], msgspec.Meta(max_length=64, extra={"unique": True})] = ()
    expose_headers: Annotated[tuple[HeaderName, ...], msgspec.Meta(max_length=64, extra={"unique": True})] = ()
    max_age: PositiveInt32 = 5
    """Seconds for which a browser may keep the answer to a preflight."""


class HTTPRouteFilterType(StrEnum):
    """Kinds of filters; each has the field of the same name."""

    REQUEST_HEADER_MODIFIER = "RequestHeaderModifier"
    RESPONSE_HEADER_MODIFIER = "ResponseHeaderModifier"
    REQUEST_MIRROR = "RequestMirror"
    REQUEST_REDIRECT = "RequestRedirect"
    URL_REWRITE = "URLRewrite"
    EXTENSION_REF = "ExtensionRef"
    CORS = "CORS"
    EXTERNAL_AUTH = "ExternalAuth"
    """Experimental."""


class HTTPRouteFilter(Part, frozen=True, kw_only=True):
    """A filter: exactly the field that `type` names is set."""

    type: HTTPRouteFilterType
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    request_redirect: HTTPRequestRedirectFilter | None = None
    url_rewrite: HTTPURLRewriteFilter | None = None
    cors: HTTPCORSFilter | None = None
    external_auth: HTTPExternalAuthFilter | None = None
    extension_ref: LocalObjectReference | None = None


class HTTPBackendRef(Part, frozen=True, kw_only=True):
    """A backend with its share of the requests and its own filters."""

    group: Group = ""
    kind: KindName = "Service"
    namespace: Namespace | None = None
    name: ObjectName
    port: PortNumber | None = None
    weight: Weight = 1
    filters: Annotated[tuple[HTTPRouteFilter, ...], msgspec.Meta(max_length=16)] = ()


class HTTPRouteTimeouts(Part, frozen=True, kw_only=True):
    """Timeouts of a rule; zero: none."""

    request: Duration | None = None
    """For the whole exchange with the client."""
    backend_request: Duration | None = None
    """For one try."""


class HTTPRouteRetry(Part, frozen=True, kw_only=True):
    """Retries of a rule."""

    codes: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=400, le=599)], ...], msgspec.Meta(extra={"unique": True})
    ] = ()
    """Status codes that are tried again; besides them, failed connections."""
    attempts: NonNegativeInt32 = 1
    """Tries after the first."""
    backoff: Duration | None = None
    """Shortest time between two tries."""


class HTTPRouteRule(Part, frozen=True, kw_only=True):
    """What happens to the requests that one of the matches fits."""

    name: SectionName | None = None
    matches: Annotated[tuple[HTTPRouteMatch, ...], msgspec.Meta(max_length=64)] = (HTTPRouteMatch(),)
    filters: Annotated[tuple[HTTPRouteFilter, ...], msgspec.Meta(max_length=16)] = ()
    backend_refs: Annotated[tuple[HTTPBackendRef, ...], msgspec.Meta(max_length=16)] = ()
    timeouts: HTTPRouteTimeouts | None = None
    retry: HTTPRouteRetry | None = None
    session_persistence: SessionPersistence | None = None
    """Experimental."""


class HTTPRouteSpec(Part, frozen=True, kw_only=True):
    """Rules for some hosts, attached to some Gateways."""

    parent_refs: ParentRefs = ()
    use_default_gateways: GatewayDefaultScope | None = None
    """Experimental."""
    hostnames: Annotated[tuple[Hostname, ...], msgspec.Meta(max_length=16)] = ()
    rules: Annotated[tuple[HTTPRouteRule, ...], msgspec.Meta(min_length=1, max_length=16)] = (HTTPRouteRule(),)


class HTTPRoute(Part, frozen=True, kw_only=True):
    """Rules for HTTP requests."""

    metadata: Meta
    spec: HTTPRouteSpec
