"""What else happens to a request on its way: filters that let it pass, edits, limits, retries, the upstream's ways."""

from collections.abc import Iterator
from datetime import timedelta

import msgspec

from portway.envoy.retry import DEFAULT_RETRY, NON_IDEMPOTENT_METHODS, depends_on_method, safe_part
from portway.explain.filters import access_problem, cors_fields, is_allowed, is_preflight
from portway.explain.request import Request
from portway.model.names import UpstreamKey
from portway.model.route import (
    CorsPolicy,
    Forward,
    Fraction,
    HeaderEdits,
    RetryCause,
    RetryPolicy,
    Route,
    Source,
    StickyCookie,
    VirtualHost,
)
from portway.model.upstream import (
    Circuit,
    HealthCheck,
    HealthCheckKind,
    Outliers,
    Protocol,
    Upstream,
    UpstreamTls,
)

_NORMAL = Upstream(name="")
_CAUSES = {
    RetryCause.CONNECT: "failed connections",
    RetryCause.RESET: "resets",
    RetryCause.TIMEOUT: "tries that take too long",
    RetryCause.STATUS: "statuses",
}


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Something besides the action that happens to the request or its answer."""

    what: str
    """`access list`, `request headers`, `timeout` ..."""
    text: str
    source: Source | None
    """`None`: nobody asked for it, it is so by default."""


def effects_of(route: Route, request: Request, host: VirtualHost | None = None) -> list[Effect]:
    """What the route does besides its action, in the order in which it happens.

    Args:
        host: the route's virtual host, which may have edits and retries for all its routes.
    """
    found: list[tuple[str, str]] = []
    if route.cors is not None:
        found += _cors(route.cors, request)
    if route.access is not None and not access_problem(route.access, request.client):
        found.append(("access list", f"{request.client} passes"))
    if route.max_body_bytes:
        found.append(("body limit", f"more than {route.max_body_bytes:,} bytes get 413"))
    if route.auth is not None and route.auth.upstream is not None:
        found.append(("external authentication", f"{route.auth.upstream.object} is asked first and may refuse"))
    if route.grpc_web:
        found.append(("gRPC-Web", "is turned into gRPC"))
    for requests, responses in _edits_of(route, host):
        found += [("request headers", text) for text in _edits(requests)]
        found += [("response headers", text) for text in _edits(responses)]
    if isinstance(route.action, Forward):
        found += _forward(route.action)
        retry = route.action.retry or (host.retry if host is not None else None)
        if retry is not None:
            found += [("retries", text) for text in _retries(retry, request)]
    return [Effect(what=what, text=text, source=route.source) for what, text in found]


def _edits_of(route: Route, host: VirtualHost | None) -> Iterator[tuple[HeaderEdits, HeaderEdits]]:
    if host is not None:
        yield host.request_headers, host.response_headers
    yield route.request_headers, route.response_headers
    if isinstance(route.action, Forward) and len(route.action.upstreams) == 1:
        yield route.action.upstreams[0].request_headers, route.action.upstreams[0].response_headers


def _cors(cors: CorsPolicy, request: Request) -> Iterator[tuple[str, str]]:
    origin = request.field("origin")
    if origin is None:
        yield "CORS", f"no origin is named; allowed are {', '.join(cors.allow_origins) or 'none'}"
    elif not is_allowed(cors, origin):
        yield "CORS", f"origin {origin} is not allowed ({', '.join(cors.allow_origins) or 'none is'}): no allow-origin"
    for name, value in cors_fields(cors, request):
        yield "CORS", f"answers get {name}: {value}"
    if is_preflight(request) and origin is not None and is_allowed(cors, origin):
        yield "CORS", f"methods {', '.join(cors.allow_methods) or 'none'}"
        yield "CORS", f"headers {', '.join(cors.allow_headers) or 'none'}"


def _edits(edits: HeaderEdits) -> Iterator[str]:
    yield from (f"removes {name}" for name in edits.remove)
    yield from (f"sets {name}: {value}" for name, value in (*edits.set, *edits.formatted, *edits.if_absent))
    yield from (f"adds {name}: {value}" for name, value in edits.add)


def _forward(action: Forward) -> Iterator[tuple[str, str]]:
    if action.timeout is not None:
        yield "timeout", f"504 after {seconds(action.timeout)}"
    if action.idle_timeout is not None:
        yield "timeout", f"504 after {seconds(action.idle_timeout)} of silence"
    for mirror in action.mirrors:
        yield "mirror", f"a copy{_share(mirror.share)} goes to {mirror.upstream.place}"
    for entry in action.hash:
        set_by_us = " (set if it is missing)" if entry.ttl is not None else ""
        yield "hashing", f"the endpoint is chosen by {f'{entry.on} {entry.name}'.rstrip()}{set_by_us}"
    if action.sticky is not None:
        yield "stickiness", _sticky(action.sticky)


def _share(share: Fraction | None) -> str:
    return "" if share is None else f" of {share.numerator / share.denominator:.4g} of the requests"


def _sticky(sticky: StickyCookie) -> str:
    lasts = f"for {seconds(sticky.ttl)}" if sticky.ttl else "for the browser's session"
    gone = "503" if sticky.strict else "another one"
    return f"cookie {sticky.name} names the endpoint {lasts}; if that is gone: {gone}"


def _retries(declared: RetryPolicy, request: Request) -> Iterator[str]:
    """What is tried again, in words; for the request's method."""
    unsafe = request.method in NON_IDEMPOTENT_METHODS and depends_on_method(declared)
    policy = safe_part(declared) if unsafe else declared
    if not policy.attempts or not policy.causes:
        yield "none"
        return
    causes = ", ".join(
        _CAUSES[cause] if cause is not RetryCause.STATUS else f"status {', '.join(map(str, policy.statuses))}"
        for cause in RetryCause
        if cause in policy.causes
    )
    yield f"up to {policy.attempts} more {'try' if policy.attempts == 1 else 'tries'} on {causes}"
    if unsafe:
        yield f"for {request.method} only what surely never reached the upstream"
    if policy.per_try is not None:
        yield f"each try may take {seconds(policy.per_try)}"
    if policy.per_try_idle is not None:
        yield f"each try ends after {seconds(policy.per_try_idle)} of silence"


def upstream_effects(upstream: Upstream, key: UpstreamKey, request: Request, *, own_retries: bool) -> list[Effect]:
    """How an upstream is spoken to, where that is not the default, and by which object.

    Args:
        own_retries: the route has retries, so the upstream's do not count.
    """
    source = Source(object=key.object)
    found: list[Effect] = []
    if not own_retries:
        asked = source if upstream.retry is not None else None
        texts = _retries(upstream.retry or DEFAULT_RETRY, request)
        found += [Effect(what="retries", text=text, source=asked) for text in texts]
    policies = [origin for origin in upstream.origins if origin.kind not in ("Service", "EndpointSlice", "Backend")]
    ways = (*_upstream(upstream), *(f"{origin} applies" for origin in policies))
    return [*found, *(Effect(what="upstream", text=text, source=source) for text in ways)]


def _upstream(upstream: Upstream) -> Iterator[str]:
    if upstream.protocol in (Protocol.HTTP2, Protocol.AS_DOWNSTREAM):
        yield "speaks HTTP/2" if upstream.protocol is Protocol.HTTP2 else "speaks HTTP/2 if the client does"
    if upstream.tls is not None:
        yield _tls(upstream.tls)
    if upstream.connect_timeout != _NORMAL.connect_timeout:
        yield f"a connection may take {seconds(upstream.connect_timeout)}"
    if upstream.idle_timeout is not None:
        yield f"idle connections are closed after {seconds(upstream.idle_timeout)}"
    if upstream.balancer.kind is not _NORMAL.balancer.kind:
        yield f"endpoints are chosen by {upstream.balancer.kind}"
    if upstream.balancer.slow_start is not None:
        yield f"new endpoints get their full share after {seconds(upstream.balancer.slow_start)}"
    if upstream.balancer.zone_aware:
        yield "endpoints of the proxy's own zone are preferred"
    if upstream.health_check is not None:
        yield _health(upstream.health_check)
    yield from _circuit(upstream.circuit)
    if upstream.outliers is None:
        yield "endpoints that fail are never left out"
    elif upstream.outliers != Outliers():
        yield from _outliers(upstream.outliers)
    if upstream.proxy_protocol:
        yield f"connections begin with a PROXY header, version {upstream.proxy_protocol}"


def _tls(tls: UpstreamTls) -> str:
    name = f"for {tls.sni}" if tls.sni else "for the request's host" if tls.auto_sni else "without a server name"
    if tls.authorities is not None:
        checked = f"verified against {', '.join(map(str, tls.authorities.sources))}"
    else:
        checked = "verified against the system's authorities" if tls.system_authorities else "not verified"
    shown = ", with a client certificate" if tls.certificate is not None else ""
    return f"TLS {name}, {checked}{shown}"


def _health(check: HealthCheck) -> str:
    asked = {HealthCheckKind.HTTP: f"GET {check.path}", HealthCheckKind.GRPC: "gRPC", HealthCheckKind.TCP: "TCP"}
    return f"endpoints are checked by {asked[check.kind]} every {seconds(check.interval)}"


def _circuit(circuit: Circuit) -> Iterator[str]:
    for limit, what in (
        (circuit.max_connections, "connections"),
        (circuit.max_pending_requests, "waiting requests"),
        (circuit.max_requests, "requests at a time"),
        (circuit.max_requests_per_connection, "requests per connection"),
    ):
        if limit is not None:
            yield f"at most {limit:,} {what}"


def _outliers(outliers: Outliers) -> Iterator[str]:
    for count, what in (
        (outliers.consecutive_5xx, "answers with 5xx"),
        (outliers.consecutive_gateway_errors, "answers with 502, 503 or 504"),
        (outliers.consecutive_local_failures, "failed connections"),
    ):
        if count:
            yield f"an endpoint is left out for {seconds(outliers.base_ejection)} after {count} {what} in a row"


def seconds(value: timedelta) -> str:
    return f"{value.total_seconds():g} s"
