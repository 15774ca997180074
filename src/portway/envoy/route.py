"""Routes: one line of a virtual host's table. Nothing is written that equals Envoy's default; identity is in `name`."""

from datetime import timedelta
from typing import NamedTuple, assert_never

import msgspec
from envoy.config.route.v3 import route_components_pb2 as routev3
from envoy.type.matcher.v3 import regex_pb2 as regexv3
from google.protobuf.message import Message

from portway.envoy.filters import access, auth, body, cors, grpc_web, original, sticky
from portway.envoy.headers import APPEND, apply_edits, header_option, literal
from portway.envoy.matches import build_match, path_pattern, prefix_of
from portway.envoy.messages import duration, runtime_fraction, typed
from portway.envoy.retry import NON_IDEMPOTENT_METHODS, build_retry, depends_on_method, safe_part
from portway.envoy.shares import ClusterNames, set_shares
from portway.model.route import (
    Forward,
    HashOn,
    HashPolicy,
    Mirror,
    PathKind,
    PathMatch,
    PathRewrite,
    PathRewriteKind,
    Redirect,
    Respond,
    RetryPolicy,
    Route,
    RouteMatch,
    ValueKind,
    ValueMatch,
)

WELL_KNOWN_PORTS = {"http": 80, "https": 443}

REDIRECT_CODES = {
    301: routev3.RedirectAction.MOVED_PERMANENTLY,
    302: routev3.RedirectAction.FOUND,
    303: routev3.RedirectAction.SEE_OTHER,
    307: routev3.RedirectAction.TEMPORARY_REDIRECT,
    308: routev3.RedirectAction.PERMANENT_REDIRECT,
}


class Surroundings(NamedTuple):
    """What a route needs to know of the world around it."""

    clusters: ClusterNames
    host: str = ""
    """The one host name that its virtual host serves; empty: there are several, or a wildcard."""
    retry: RetryPolicy | None = None
    """What the virtual host repeats for routes that say nothing."""


def build_routes(route: Route, around: Surroundings) -> list[routev3.Route]:
    """The Envoy routes of one route, in match order: mostly one, more where what may be retried depends on the method,
    a limit on bodies has to tell requests that declare their length from those that do not, or a redirect depends on
    whether the request names a port."""
    pieces = [piece for one in _by_port(route, around) for piece in _by_method(one)]
    built = [_build_route(one, build_match(match), around, retry) for one, match, retry in pieces]
    if not body.limits_undeclared(route.max_body_bytes):
        return built
    return [piece for plain in built for piece in (body.with_undeclared_body(plain, route.max_body_bytes), plain)]


def _by_port(route: Route, around: Surroundings) -> list[Route]:
    """A redirect to another scheme drops the port of the request. Envoy keeps it, but for the old scheme's own; where
    the host has not just one name to put in its place, requests that name a port get the new scheme's written out."""
    action = route.action
    if not isinstance(action, Redirect) or not action.scheme or action.host or action.port or around.host:
        return [route]
    written = msgspec.structs.replace(action, port=WELL_KNOWN_PORTS[action.scheme])
    with_port = ValueMatch(name=":authority", kind=ValueKind.REGEX, value=".*:[0-9]+")
    match = msgspec.structs.replace(route.match, headers=(*route.match.headers, with_port))
    return [msgspec.structs.replace(route, action=written, match=match), route]


def _by_method(route: Route) -> list[tuple[Route, RouteMatch, RetryPolicy | None]]:
    """What may be retried for which methods."""
    action, match = route.action, route.match
    retry = action.retry if isinstance(action, Forward) else None
    if retry is None or not depends_on_method(retry) or (match.method and match.method not in NON_IDEMPOTENT_METHODS):
        return [(route, match, retry)]
    safe = safe_part(retry)
    if match.method:
        return [(route, match, safe)]
    methods = ValueMatch(name=":method", kind=ValueKind.REGEX, value="|".join(NON_IDEMPOTENT_METHODS))
    unsafe = msgspec.structs.replace(match, headers=(*match.headers, methods))
    return [(route, unsafe, safe), (route, match, retry)]


def _build_route(
    route: Route, match: routev3.RouteMatch, around: Surroundings, retry: RetryPolicy | None
) -> routev3.Route:
    built = routev3.Route(name=route.name, match=match)
    action = route.action
    match action:
        case Forward():
            _forward(built, route, action, around, retry)
        case Redirect():
            apply_edits(built, route.request_headers, route.response_headers)
            _redirect(built.redirect, action, route.match.path, around.host)
        case Respond():
            apply_edits(built, route.request_headers, route.response_headers)
            _respond(built, action.status, action.body, action.headers)
        case _:
            assert_never(action)
    _set_filters(built, route, around.clusters)
    return built


def _set_filters(built: routev3.Route, route: Route, clusters: ClusterNames) -> None:
    if original.is_wanted(route):
        _enable(built, original.NAME, original.build_original())
    if route.cors is not None:
        _enable(built, cors.NAME, cors.build_cors(route.cors))
        # The answer depends on who asks, which caches must know (Fetch standard, "CORS protocol and HTTP caches").
        built.response_headers_to_add.append(header_option("vary", "Origin", action=APPEND))
    if route.access is not None:
        _enable(built, access.NAME, access.build_access(route.access))
    if route.max_body_bytes:
        _enable(built, body.NAME, body.build_body_limit(route.max_body_bytes))
    if route.auth is not None:
        name = "" if route.auth.upstream is None else clusters(route.auth.upstream)
        _enable(built, auth.NAME, auth.build_auth(route.auth, name))
    if route.grpc_web:
        _enable(built, grpc_web.NAME, grpc_web.build_grpc_web())
    if isinstance(route.action, Forward) and route.action.sticky is not None:
        _enable(built, sticky.NAME, sticky.build_sticky(route.action.sticky))


def _enable(built: routev3.Route, name: str, config: Message) -> None:
    built.typed_per_filter_config[name].CopyFrom(typed(config))


def _respond(built: routev3.Route, status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
    built.direct_response.status = status
    if text:
        built.direct_response.body.inline_string = text
    built.response_headers_to_add.extend(header_option(name, literal(value)) for name, value in headers)


def _forward(
    built: routev3.Route, route: Route, forward: Forward, around: Surroundings, retry: RetryPolicy | None
) -> None:
    if not set_shares(built, route, forward, forward.retry or around.retry, around.clusters):
        apply_edits(built, route.request_headers, route.response_headers)
        _respond(built, forward.unusable_status, "")
        return
    action = built.route
    if forward.path is not None:
        _rewrite_path(action, forward.path, route.match.path)
    if forward.host_from_upstream:
        action.auto_host_rewrite.value = True
    # Envoy's default is 15 s for the whole exchange, which would cut every long download.
    action.timeout.CopyFrom(duration(forward.timeout or timedelta(0)))
    if forward.idle_timeout is not None:
        action.idle_timeout.CopyFrom(duration(forward.idle_timeout))
    if retry is not None:
        action.retry_policy.CopyFrom(build_retry(retry))
    for mirror in forward.mirrors:
        _add_mirror(action, mirror, around.clusters)
    action.hash_policy.extend(map(_hash_policy, forward.hash))


def _add_mirror(action: routev3.RouteAction, mirror: Mirror, clusters: ClusterNames) -> None:
    name = clusters(mirror.upstream)
    if not name:
        return
    # Envoy would append `-shadow` to the host.
    policy = action.request_mirror_policies.add(cluster=name, disable_shadow_host_suffix_append=True)
    if mirror.share is not None:
        policy.runtime_fraction.CopyFrom(runtime_fraction(mirror.share))


def _hash_policy(policy: HashPolicy) -> routev3.RouteAction.HashPolicy:
    built = routev3.RouteAction.HashPolicy(terminal=True)
    match policy.on:
        case HashOn.HEADER:
            built.header.header_name = policy.name
        case HashOn.QUERY_PARAMETER:
            built.query_parameter.name = policy.name
        case HashOn.SOURCE_ADDRESS:
            built.connection_properties.source_ip = True
        case HashOn.COOKIE:
            built.cookie.name = policy.name
            built.cookie.path = policy.path
            if policy.ttl is not None:
                built.cookie.ttl.CopyFrom(duration(policy.ttl))
            for name, value in sticky.cookie_attributes(policy.attributes):
                built.cookie.attributes.add(name=name, value=value)
    return built


def _redirect(built: routev3.RedirectAction, redirect: Redirect, path: PathMatch, host: str) -> None:
    built.response_code = REDIRECT_CODES[redirect.status]
    built.scheme_redirect = redirect.scheme
    built.host_redirect = redirect.host
    built.port_redirect = redirect.port
    if redirect.scheme and not redirect.host and not redirect.port:
        # Envoy would keep the port of the request, where the other scheme is not spoken; a host that is named has none.
        built.host_redirect = host
    built.strip_query = redirect.strip_query
    if redirect.path is None:
        return
    kind = redirect.path.kind
    if kind is PathRewriteKind.FULL:
        built.path_redirect = redirect.path.value
    elif kind is PathRewriteKind.REGEX:
        built.regex_rewrite.pattern.regex = redirect.path.pattern
        built.regex_rewrite.substitution = redirect.path.value
    else:
        prefix, pattern = _prefix_rewrite(redirect.path, path)
        if pattern is None:
            built.prefix_rewrite = prefix
        else:
            built.regex_rewrite.CopyFrom(pattern)


def _rewrite_path(action: routev3.RouteAction, rewrite: PathRewrite, path: PathMatch) -> None:
    if rewrite.kind is PathRewriteKind.FULL:
        # Envoy replaces every fit; anchors make it one. The query is kept apart.
        action.regex_rewrite.pattern.regex = "^.*$"
        action.regex_rewrite.substitution = rewrite.value.replace("\\", "\\\\")
    elif rewrite.kind is PathRewriteKind.REGEX:
        action.regex_rewrite.pattern.regex = rewrite.pattern
        action.regex_rewrite.substitution = rewrite.value
    else:
        prefix, pattern = _prefix_rewrite(rewrite, path)
        if pattern is None:
            action.prefix_rewrite = prefix
        else:
            action.regex_rewrite.CopyFrom(pattern)


def _prefix_rewrite(rewrite: PathRewrite, path: PathMatch) -> tuple[str, regexv3.RegexMatchAndSubstitute | None]:
    """A prefix to put in the place of the matched one, or a regular expression where that would double a slash.

    Source: the table at Gateway API `HTTPPathModifier.replacePrefixMatch`.
    """
    if path.kind is not PathKind.PREFIX:
        return rewrite.value, None
    value = rewrite.value.removesuffix("/")
    if not prefix_of(path):
        # The match is `/`, which stands for the slash that every path begins with.
        return f"{value}/", None
    if value and not prefix_of(path).endswith("/"):
        return value, None
    # All of the prefix goes, and the slash behind it, so that what is left has just one at its beginning.
    pattern = regexv3.RegexMatcher(regex=f"{path_pattern(path)}/?")
    return "", regexv3.RegexMatchAndSubstitute(pattern=pattern, substitution=f"{value}/".replace("\\", "\\\\"))
