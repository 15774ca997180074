"""The requests of `answers.yaml`, evaluated on the model: the same tables that proxies are given.

An entry names a request and what is expected of it; what is not mentioned is not compared.

    - {get: "http://host/path?query", headers: {name: value}}   # or head:, post:, put:, delete:, options:, patch:
      client: 10.0.0.1         # the client's address, 127.0.0.1 if absent
      tls: sni                 # for https another server name than the URL's host
    # who answers:
      from: service            # or with shares {a: 0.9, b: 0.1}; Backends by their name too
      status: 308              # the proxy itself
      certificate: secret      # shown to the client; `default` for the default certificate
      passthrough: true        # TLS is not terminated; `from` says where the connection goes
    # what the client sees:
      location: url
      response_headers: {name: value, other: null}   # set by the proxy; null: not set by it
      cookie: "name; Path=/; HttpOnly"               # set by the proxy when the client has none
      side_cookie: "name=canary; Path=/; HttpOnly"   # the same, of a canary
    # what the upstream sees:
      upstream_path: /path?query
      upstream_host: name
      upstream_headers: {name: value, other: null}
      upstream_protocol: http2
      upstream_tls: true
    # limits of the route:
      idle_timeout: 60         # seconds
      connect_timeout: 5       # seconds
      retry: {attempts: 2, causes: [connect], statuses: [502]}
      max_body_bytes: 8388608
      balancer: least-request
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import cast

from portway.explain.action import describe_action, format_fields
from portway.explain.match import domain_candidates, mismatch
from portway.explain.request import Request, make_request
from portway.explain.trace import World, find_chain
from portway.model.handles import SECRET, TABLE, UPSTREAM
from portway.model.listener import Chain, HttpHandler
from portway.model.names import UpstreamKey
from portway.model.route import Forward, HeaderEdits, Respond, Route
from portway.translate.certificates import covers

METHODS = ("get", "head", "post", "put", "delete", "options", "patch")
GIVEN = frozenset({*METHODS, "headers", "client", "tls"})


def answer(world: World, entry: Mapping[str, object]) -> dict[str, object]:
    """What happens to a request, in the words of `answers.yaml`."""
    method = next(name for name in METHODS if name in entry)
    fields = cast("Mapping[str, object]", entry.get("headers", {}))
    request = make_request(
        method,
        str(entry[method]),
        [(name, str(value)) for name, value in fields.items()],
        client=str(entry.get("client", "127.0.0.1")),
        server_name=cast("str | None", entry.get("tls")),
    )
    socket = world.find_socket(request)
    listener = world.listener(socket) if socket is not None else None
    chain = find_chain(listener.chains, request) if listener is not None else None
    if chain is None:
        return {"closed": True}
    said: dict[str, object] = _certificate(world, chain, request.server_name)
    if not isinstance(chain.handler, HttpHandler):
        names = [share.upstream.name for share in chain.handler.upstreams if share.upstream is not None]
        return {**said, "passthrough": chain.passthrough, "from": names[0] if names else None}
    hosts = world.hosts(chain.handler.table)
    host = next((hosts[name] for name in domain_candidates(request.host) if name in hosts), None)
    route = next((route for route in host.routes if not mismatch(route.match, request)), None) if host else None
    if route is None:
        return {**said, "status": 404}
    return {**said, **dict(_routed(world, chain.handler, route, request))}


def _certificate(world: World, chain: Chain, server_name: str) -> dict[str, object]:
    """As proxies choose: the first certificate that covers the name, else the first."""
    if chain.tls is None:
        return {}
    keys = chain.tls.certificates
    found = {key: world.engine.get(SECRET, key) for key in keys}
    key = next((key for key in keys if (secret := found[key]) and covers(secret.names, server_name)), keys[0])
    return {"certificate": key.sources[0].name if key.sources else "default"}


def _routed(world: World, handler: HttpHandler, route: Route, request: Request) -> Iterator[tuple[str, object]]:
    ways = describe_action(route, request)
    shares: dict[str, float] = {}
    for way in ways:
        if way.status:
            yield "status", way.status
            yield "location", way.location or None
        elif way.upstream is not None:
            shares[way.upstream.name] = round(shares.get(way.upstream.name, 0) + way.share, 6)
    yield "response_headers", _answered(route, request)
    yield "max_body_bytes", route.max_body_bytes
    if not shares or not isinstance(route.action, Forward):
        return
    yield "from", next(iter(shares)) if len(shares) == 1 else shares
    yield "upstream_path", ways[0].target
    yield "upstream_host", ways[0].host
    yield "upstream_headers", _sent(world, handler, route, request)
    yield "cookie", _cookie(route.action)
    added = [value for share in route.action.upstreams for name, value in share.response_headers.add]
    yield "side_cookie", added[0] if len(added) == 1 else added or None
    if route.action.idle_timeout is not None or handler.idle_timeout is not None:
        yield "idle_timeout", _seconds(route.action.idle_timeout or handler.idle_timeout)
    if (retry := route.action.retry) is not None:
        causes = sorted(cause.value for cause in retry.causes)
        yield "retry", {"attempts": retry.attempts, "causes": causes, "statuses": list(retry.statuses)}
    yield from _spoken(world, next(way.upstream for way in ways if way.upstream is not None))


def _spoken(world: World, key: UpstreamKey) -> Iterator[tuple[str, object]]:
    upstream = world.engine.get(UPSTREAM, key)
    assert upstream is not None
    yield "upstream_protocol", upstream.protocol.value
    yield "upstream_tls", upstream.tls is not None
    yield "balancer", upstream.balancer.kind.value
    yield "connect_timeout", _seconds(upstream.connect_timeout)
    yield "host_override", upstream.host_override


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


def _answered(route: Route, request: Request) -> dict[str, str]:
    found: dict[str, str] = {}
    if isinstance(route.action, Respond):
        found.update((name.lower(), value) for name, value in route.action.headers)
    _edit(found, route.response_headers, request)
    return found


def _sent(world: World, handler: HttpHandler, route: Route, request: Request) -> dict[str, str]:
    found = dict(request.headers)
    _edit(found, route.request_headers, request)
    _edit(found, world.engine.get(TABLE, handler.table).request_headers, request)
    return found


def _edit(headers: dict[str, str], edits: HeaderEdits, request: Request) -> None:
    for name in edits.remove:
        headers.pop(name.lower(), None)
    for name, value in edits.set:
        headers[name.lower()] = value
    for name, value in edits.formatted:
        # A field that the request lacks sets nothing.
        if text := format_fields(value, request):
            headers[name.lower()] = text
    for name, value in edits.add:
        headers[name.lower()] = f"{headers[name.lower()]},{value}" if name.lower() in headers else value
