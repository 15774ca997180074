"""Rules of HTTPRoute and of what its filters share with GRPCRoute and listeners.

Source: Gateway API v1.7, validations of `httproutes` in the Experimental channel.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from portway.objects.filters_v1 import (
    CookieLifetimeType,
    ExternalAuthProtocol,
    Fraction,
    HTTPExternalAuthFilter,
    HTTPRequestMirrorFilter,
    SessionPersistence,
    SessionPersistenceType,
)
from portway.objects.httproute_v1 import (
    CORSMethod,
    HTTPBackendRef,
    HTTPCORSFilter,
    HTTPPathMatch,
    HTTPPathModifier,
    HTTPRouteFilter,
    HTTPRouteFilterType,
    HTTPRouteRule,
    HTTPRouteSpec,
    HTTPRouteTimeouts,
    PathMatchType,
    PathModifierType,
)
from portway.objects.problems import Problem, quoted
from portway.objects.references_v1 import BackendObjectReference, BackendRef
from portway.objects.rules.engine import Table, rules
from portway.objects.rules.routes import (
    backend_port,
    named_field,
    not_repeated,
    parent_refs,
    rule_names,
    total_matches,
)
from portway.objects.scalars import URL_PATH

_URL_PATH: Final = re.compile(URL_PATH)
_NOT_IN_PATHS: Final = ("//", "/./", "/../", "%2f", "%2F", "#")
_NOT_AT_END: Final = ("/..", "/.")
_NORMALISE: Final = "write the path that it leads to, with single slashes and without . and .."


def _path_match(match: HTTPPathMatch) -> Iterator[Problem]:
    if match.type is PathMatchType.REGULAR_EXPRESSION:
        return
    value = match.value
    if not value.startswith("/"):
        yield Problem(("value",), f"{quoted(value)} does not begin with '/'", f"write {quoted('/' + value)}")
    for part in _NOT_IN_PATHS:
        if part in value:
            yield Problem(("value",), f"{quoted(value)} contains '{part}', which no normalised path has", _NORMALISE)
    for end in _NOT_AT_END:
        if value.endswith(end):
            yield Problem(("value",), f"{quoted(value)} ends with '{end}', which no normalised path does", _NORMALISE)
    if value and not _URL_PATH.match(value):
        pattern = "" if match.type is PathMatchType.EXACT else "; a pattern needs type RegularExpression"
        problem = f"{quoted(value)} has characters that no URL path has"
        yield Problem(("value",), problem, f"write them as %XX{pattern}")


def _path_modifier(modifier: HTTPPathModifier) -> Iterable[Problem]:
    return named_field(
        modifier.type,
        {
            PathModifierType.FULL_PATH: ("replaceFullPath", modifier.replace_full_path),
            PathModifierType.PREFIX_MATCH: ("replacePrefixMatch", modifier.replace_prefix_match),
        },
    )


def _filter(found: HTTPRouteFilter) -> Iterable[Problem]:
    return named_field(
        found.type,
        {
            HTTPRouteFilterType.REQUEST_HEADER_MODIFIER: ("requestHeaderModifier", found.request_header_modifier),
            HTTPRouteFilterType.RESPONSE_HEADER_MODIFIER: ("responseHeaderModifier", found.response_header_modifier),
            HTTPRouteFilterType.REQUEST_MIRROR: ("requestMirror", found.request_mirror),
            HTTPRouteFilterType.REQUEST_REDIRECT: ("requestRedirect", found.request_redirect),
            HTTPRouteFilterType.URL_REWRITE: ("urlRewrite", found.url_rewrite),
            HTTPRouteFilterType.CORS: ("cors", found.cors),
            HTTPRouteFilterType.EXTERNAL_AUTH: ("externalAuth", found.external_auth),
            HTTPRouteFilterType.EXTENSION_REF: ("extensionRef", found.extension_ref),
        },
    )


_ONCE: Final = (
    HTTPRouteFilterType.CORS,
    HTTPRouteFilterType.REQUEST_HEADER_MODIFIER,
    HTTPRouteFilterType.RESPONSE_HEADER_MODIFIER,
    HTTPRouteFilterType.REQUEST_REDIRECT,
    HTTPRouteFilterType.URL_REWRITE,
)


def _filters(owner: HTTPRouteRule | HTTPBackendRef) -> Iterator[Problem]:
    if not owner.filters:
        return
    types = [found.type for found in owner.filters]
    yield from not_repeated(types, _ONCE)
    if HTTPRouteFilterType.REQUEST_REDIRECT in types and HTTPRouteFilterType.URL_REWRITE in types:
        yield Problem(
            ("filters",),
            "has both RequestRedirect and URLRewrite, but a redirected request reaches no backend",
            "remove one of the two",
        )


def _redirect_without_backends(rule: HTTPRouteRule) -> Iterable[Problem]:
    if rule.backend_refs and any(found.request_redirect is not None for found in rule.filters):
        return (
            Problem(
                ("backendRefs",),
                "is set, but the rule's RequestRedirect filter answers every request",
                "remove the backendRefs or the filter",
            ),
        )
    return ()


def _replaces_prefix(filters: Sequence[HTTPRouteFilter], read: Callable[[HTTPRouteFilter], object]) -> bool:
    """Does exactly one of the filters replace the matched prefix? Two do not count, as in the API's own rule."""
    return sum(1 for found in filters if _is_prefix_modifier(read(found))) == 1


def _is_prefix_modifier(owner: object) -> bool:
    path = getattr(owner, "path", None)
    return (
        isinstance(path, HTTPPathModifier)
        and path.type is PathModifierType.PREFIX_MATCH
        and path.replace_prefix_match is not None
    )


_PREFIX_OWNERS: Final[Mapping[str, Callable[[HTTPRouteFilter], object]]] = {
    "RequestRedirect": lambda found: found.request_redirect,
    "URLRewrite": lambda found: found.url_rewrite,
}


def _prefix_is_matched(rule: HTTPRouteRule) -> Iterator[Problem]:
    """Replacing the matched prefix makes sense only where exactly one prefix is matched."""
    if len(rule.matches) == 1 and rule.matches[0].path.type is PathMatchType.PATH_PREFIX:
        return
    for name, read in _PREFIX_OWNERS.items():
        in_rule = _replaces_prefix(rule.filters, read)
        in_backends = sum(1 for backend in rule.backend_refs if _replaces_prefix(backend.filters, read)) == 1
        if in_rule or in_backends:
            where = "" if in_rule else " of a backendRef"
            yield Problem(
                ("matches",),
                f"the {name} filter{where} replaces the matched prefix, but the rule does not have exactly one "
                "match with a path of type PathPrefix",
                "match one prefix, or use ReplaceFullPath",
            )


def _timeouts(timeouts: HTTPRouteTimeouts) -> Iterable[Problem]:
    request, backend_request = timeouts.request, timeouts.backend_request
    if request and backend_request and backend_request > request:
        return (
            Problem(
                ("backendRequest",),
                f"{backend_request} is longer than the {request} of the whole request",
                "a try ends with its request: shorten it, or lengthen request",
            ),
        )
    return ()


def _cors(cors: HTTPCORSFilter) -> Iterator[Problem]:
    for name, values, everything in (
        ("allowOrigins", cors.allow_origins, "*"),
        ("allowMethods", cors.allow_methods, CORSMethod.ANY),
        ("allowHeaders", cors.allow_headers, "*"),
    ):
        if len(values) > 1 and everything in values:
            yield Problem((name,), "has other entries beside '*', which stands for all", "keep '*' alone, or remove it")


def _mirror(mirror: HTTPRequestMirrorFilter) -> Iterable[Problem]:
    if mirror.percent is not None and mirror.fraction is not None:
        return (Problem(("percent",), "is set beside fraction", "keep one of the two"),)
    return ()


def _fraction(fraction: Fraction) -> Iterable[Problem]:
    if fraction.numerator > fraction.denominator:
        problem = f"{fraction.numerator} is more than the denominator {fraction.denominator}"
        return (Problem(("numerator",), problem, f"write at most {fraction.denominator}"),)
    return ()


def _external_auth(found: HTTPExternalAuthFilter) -> Iterable[Problem]:
    return named_field(
        found.protocol,
        {ExternalAuthProtocol.GRPC: ("grpc", found.grpc), ExternalAuthProtocol.HTTP: ("http", found.http)},
        "protocol",
    )


def _session_persistence(found: SessionPersistence) -> Iterator[Problem]:
    yield from named_field(
        found.type,
        {
            SessionPersistenceType.COOKIE: ("cookie", found.cookie),
            SessionPersistenceType.HEADER: ("header", found.header),
        },
    )
    permanent = found.cookie is not None and found.cookie.lifetime_type is CookieLifetimeType.PERMANENT
    if permanent and found.absolute_timeout is None:
        yield Problem(("absoluteTimeout",), "is not set, but a permanent cookie needs an end", "set absoluteTimeout")


RULES: Final[Table] = dict(
    [
        rules(HTTPRouteSpec, parent_refs, rule_names, total_matches),
        rules(HTTPRouteRule, _filters, _redirect_without_backends, _prefix_is_matched),
        rules(HTTPBackendRef, backend_port, _filters),
        rules(BackendRef, backend_port),
        rules(BackendObjectReference, backend_port),
        rules(HTTPPathMatch, _path_match),
        rules(HTTPPathModifier, _path_modifier),
        rules(HTTPRouteFilter, _filter),
        rules(HTTPRouteTimeouts, _timeouts),
        rules(HTTPCORSFilter, _cors),
        rules(HTTPRequestMirrorFilter, _mirror),
        rules(Fraction, _fraction),
        rules(HTTPExternalAuthFilter, _external_auth),
        rules(SessionPersistence, _session_persistence),
    ]
)
