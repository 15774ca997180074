"""What `answers.yaml` says about a route and `explain` does not: certificates, cookies, limits, how an upstream is
spoken to. Read from the model, which proxies are given."""

from collections.abc import Iterator, Mapping
from datetime import timedelta

from portway.explain.match import domain_candidates, mismatch
from portway.explain.request import Request
from portway.explain.trace import World, find_chain
from portway.model.handles import SECRET, UPSTREAM
from portway.model.listener import Chain, HttpHandler
from portway.model.names import UpstreamKey
from portway.model.route import Forward, Fraction, Route
from portway.translate.certificates import covers

WORDS = (
    *("certificate", "passthrough", "cookie", "side_cookie", "mirrored", "retry"),
    *("upstream_protocol", "upstream_tls", "balancer", "host_override"),
    *("idle_timeout", "connect_timeout", "max_body_bytes"),
)


def particulars(world: World, request: Request) -> Mapping[str, object]:
    """The words of `WORDS`, as far as they have a meaning for the request."""
    socket = world.find_socket(request)
    listener = world.listener(socket) if socket is not None else None
    chain = find_chain(listener.chains, request) if listener is not None else None
    if chain is None:
        return {}
    said: dict[str, object] = {"passthrough": chain.passthrough, **_certificate(world, chain, request.server_name)}
    if isinstance(chain.handler, HttpHandler):
        route = _route(world, chain.handler, request)
        said.update(_of_route(world, chain.handler, route) if route is not None else ())
    return said


def _route(world: World, handler: HttpHandler, request: Request) -> Route | None:
    hosts = world.hosts(handler.table)
    host = next((hosts[name] for name in domain_candidates(request.host) if name in hosts), None)
    return next((route for route in host.routes if not mismatch(route.match, request)), None) if host else None


def _certificate(world: World, chain: Chain, server_name: str) -> dict[str, object]:
    """As proxies choose: the first certificate that covers the name, else the first."""
    if chain.tls is None:
        return {}
    keys = chain.tls.certificates
    found = {key: world.engine.get(SECRET, key) for key in keys}
    key = next((key for key in keys if (secret := found[key]) and covers(secret.names, server_name)), keys[0])
    return {"certificate": key.sources[0].name if key.sources else "default"}


def _of_route(world: World, handler: HttpHandler, route: Route) -> Iterator[tuple[str, object]]:
    yield "max_body_bytes", route.max_body_bytes
    action = route.action
    if not isinstance(action, Forward):
        return
    yield "cookie", _cookie(action)
    added = [value for share in action.upstreams for name, value in share.response_headers.add]
    yield "side_cookie", added[0] if len(added) == 1 else added or None
    yield "mirrored", {each.upstream.name: _share(each.share) for each in action.mirrors}
    if action.idle_timeout is not None or handler.idle_timeout is not None:
        yield "idle_timeout", _seconds(action.idle_timeout or handler.idle_timeout)
    if (retry := action.retry) is not None:
        causes = sorted(cause.value for cause in retry.causes)
        yield "retry", {"attempts": retry.attempts, "causes": causes, "statuses": list(retry.statuses)}
    first = next((share.upstream for share in action.upstreams if share.upstream is not None), None)
    if first is not None:
        yield from _spoken(world, first)


def _spoken(world: World, key: UpstreamKey) -> Iterator[tuple[str, object]]:
    upstream = world.engine.get(UPSTREAM, key)
    assert upstream is not None
    yield "upstream_protocol", upstream.protocol.value
    yield "upstream_tls", upstream.tls is not None
    yield "balancer", upstream.balancer.kind.value
    yield "connect_timeout", _seconds(upstream.connect_timeout)
    yield "host_override", upstream.host_override


def _share(value: Fraction | None) -> float:
    return 1.0 if value is None else value.numerator / value.denominator


def _seconds(value: timedelta | None) -> float:
    return value.total_seconds() if value is not None else 0


def _cookie(action: Forward) -> str | None:
    for policy in (*action.hash, *((action.sticky,) if action.sticky is not None else ())):
        if getattr(policy, "on", "cookie") != "cookie" or policy.ttl is None:
            continue
        age = [f"Max-Age={policy.ttl.total_seconds():.0f}"] if policy.ttl else []
        attributes = [f"{name}={value}" if value else name for name, value in policy.attributes]
        return "; ".join([policy.name, f"Path={policy.path}", *age, *attributes])
    return None
