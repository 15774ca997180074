"""Why a request goes where it goes: listener, filter chain, virtual host, every route tried and why it lost, the
action, and what it does to the request; each with the declared object that it comes from.

Chance (weights, shares) is not drawn: an explanation lists every outcome with its share. What an upstream or an
authentication service would answer is not known here either.
"""

from collections.abc import Iterable, Iterator

import msgspec

from portway.explain.action import Surroundings, can_forward, describe_action, one_name
from portway.explain.arrival import Refused, arrive
from portway.explain.effects import Effect, effects_of, upstream_effects
from portway.explain.filters import cors_fields
from portway.explain.match import is_grpc, mismatch
from portway.explain.nearest import nearest
from portway.explain.request import Request
from portway.explain.rewrites import edited
from portway.explain.world import World, find_chain
from portway.model.handles import EDGE
from portway.model.listener import Chain, ClientValidation, HttpHandler, TcpHandler
from portway.model.names import SocketKey, UpstreamKey
from portway.model.route import Forward, Route, Source, VirtualHost

__all__ = ["NOTHING_OPEN", "Effect", "Explanation", "Outcome", "Step", "World", "explain", "find_chain", "try_routes"]

NOTHING_OPEN = "no port is open: nothing is declared, or only for other classes; portway check says which"
SHOWN_NAMES = 5
"""Server names or ports that a refusal lists."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One route that was looked at."""

    route: str
    source: Source
    matched: bool
    reason: str = ""
    """Why it did not fit, or for which share of requests it does."""
    guard: str = ""
    """What it keeps from other routes, if nobody declared it."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What may happen to the request, with the share of such requests that it happens to."""

    share: float
    """0 to 1; all outcomes together are 1."""
    status: int = 0
    """Of an answer that the proxy gives itself; 0: the upstream decides, or there is no connection."""
    grpc_status: int | None = None
    """Set where a gRPC client gets this with HTTP 200 instead of `status`."""
    closed: bool = False
    """There is no answer at all: the connection is refused or closed."""
    location: str = ""
    upstream: UpstreamKey | None = None
    """Set also where it has no endpoints, so that the proxy answers."""
    host: str = ""
    """Sent upstream."""
    target: str = ""
    """Path and query sent upstream."""
    request_headers: tuple[tuple[str, str], ...] = ()
    """Fields that the upstream receives: those of the client after all declared edits. Names in lower case. What
    proxies say by themselves (X-Forwarded-For, X-Request-Id ...) is left out."""
    response_headers: tuple[tuple[str, str], ...] = ()
    """Fields that declarations put on an answer that has none of its own."""
    text: str
    """The same for a reader."""
    route: str = ""
    source: Source | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The whole way of one request."""

    request: Request
    socket: str = ""
    chain: str = ""
    table: str = ""
    virtual_host: str = ""
    steps: tuple[Step, ...] = ()
    outcomes: tuple[Outcome, ...]
    effects: tuple[Effect, ...] = ()
    """Filters and policies of the routes that fit, in order."""
    hints: tuple[str, ...] = ()
    """What the asker may have meant, or should know."""


GRPC_STATUSES = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
"""HTTP statuses as gRPC clients get to see them (gRPC, "HTTP to gRPC Status Code Mapping"); all others are 2, UNKNOWN.
"""
GRPC_NAMES = {2: "UNKNOWN", 7: "PERMISSION_DENIED", 12: "UNIMPLEMENTED", 13: "INTERNAL", 14: "UNAVAILABLE"}


def explain(world: World, request: Request, address: str = "", fleet: str = "") -> Explanation:
    """Follow a request through what the engine serves.

    Args:
        address: that the request arrives at, where a port is open on several.
        fleet: that it arrives at, where there are several (`fleets.py`); empty: there is one.
    """
    found = _explain(world, request, address, fleet)
    if not is_grpc(request):
        return found
    return msgspec.structs.replace(found, outcomes=tuple(map(_as_grpc, found.outcomes)))


def _as_grpc(outcome: Outcome) -> Outcome:
    """Answers of the proxy itself as gRPC clients get them. Not those of filters that do not mind (preflights)."""
    if outcome.status in (0, 200):
        return outcome
    status = GRPC_STATUSES.get(outcome.status, 2)
    text = f"{outcome.text}; gRPC clients get status {status} ({GRPC_NAMES.get(status, 'UNAUTHENTICATED')})"
    return msgspec.structs.replace(outcome, grpc_status=status, text=text)


def _explain(world: World, request: Request, address: str, fleet: str) -> Explanation:
    socket = world.find_socket(request, address, fleet)
    listener = world.listener(socket) if socket is not None else None
    if socket is None or listener is None:
        ports = sorted({key.port for key in world.sockets if key.transport == "tcp" and fleet in ("", key.fleet)})
        hint = f"open TCP ports: {_listed(map(str, ports))}" if ports else NOTHING_OPEN
        return _closed(request, f"nothing listens on port {request.port}; the connection is refused", hints=(hint,))
    where = str(socket)
    chain = find_chain(listener.chains, request)
    wants_tls = any(one.tls is not None or one.passthrough for one in listener.chains)
    if not request.is_tls and wants_tls and (chain is None or chain.tls is not None or chain.passthrough):
        return _closed(request, f"{where} speaks TLS, not plain HTTP; the connection is closed", where)
    if chain is None:
        names = sorted({name for one in listener.chains for name in one.server_names})
        asked = f"the server name {request.server_name}" if request.server_name else "connections without server name"
        near = nearest(request.server_name, names)
        hints = (f"did you mean {' or '.join(near)}?",) if near else (f"server names there: {_listed(names)}",)
        return _closed(request, f"no listener on {where} takes {asked}; the connection is closed", where, hints=hints)
    if request.is_tls and chain.tls is None and not chain.passthrough:
        return _closed(request, f"{where} speaks plain HTTP, not TLS; the connection is closed", where)
    if isinstance(chain.handler, TcpHandler):
        found = _explain_stream(world, request, socket, chain, chain.handler)
    else:
        found = _explain_http(world, request, socket, chain, chain.handler)
    return msgspec.structs.replace(found, hints=(*_asked_for(chain), *found.hints))


def _asked_for(chain: Chain) -> Iterator[str]:
    """What the connection asks of the client before any request."""
    if chain.tls is None or chain.tls.client_authorities is None:
        return
    by = ", ".join(map(str, chain.tls.client_authorities.sources))
    if chain.tls.client_validation is ClientValidation.REQUIRE:
        yield f"the client needs a certificate that {by} vouches for; without it the connection is closed"
    else:
        yield f"the client is asked for a certificate ({by}), and may go without"


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - SHOWN_NAMES} more" if len(every) > SHOWN_NAMES else ""
    return ", ".join(every[:SHOWN_NAMES]) + more if every else "none"


def _closed(request: Request, text: str, socket: str = "", *, hints: tuple[str, ...] = ()) -> Explanation:
    return Explanation(
        request=request, socket=socket, outcomes=(Outcome(share=1.0, closed=True, text=text),), hints=hints
    )


def _explain_stream(
    world: World, request: Request, socket: SocketKey, chain: Chain, handler: TcpHandler
) -> Explanation:
    """TLS that is passed on or ended, and plain streams: all that is known is the server name."""
    shares = [share for share in handler.upstreams if share.weight]
    total = sum(share.weight for share in shares)
    found: list[Outcome] = []
    for share in shares:
        source = share.source or chain.source
        problem = world.problem(share.upstream) if share.upstream is not None else None
        if share.upstream is None or problem is not None:
            why = problem.text if problem is not None else world.reason(source)
            text = f"the connection is closed: {why or 'the backend cannot be used'}"
            # An upstream without endpoints is still the one that was meant.
            meant = share.upstream if problem is not None and problem.exists else None
            found.append(Outcome(share=share.weight / total, closed=True, upstream=meant, text=text, source=source))
        else:
            how = "bytes are passed on as they are" if chain.tls is None else "TLS ends here, bytes are passed on"
            text = f"{how} to {share.upstream.place}"
            outcome = Outcome(share=share.weight / total, upstream=share.upstream, text=text, source=source)
            found.append(outcome)
    nobody = Outcome(share=1.0, closed=True, text="there is no backend: the connection is closed", source=chain.source)
    hint = "nobody here reads HTTP: path, method and fields decide nothing"
    return Explanation(
        request=request,
        socket=str(socket),
        chain=chain.name,
        outcomes=tuple(found) or (nobody,),
        hints=(hint,) if found else (),
    )


def _explain_http(world: World, asked: Request, socket: SocketKey, chain: Chain, handler: HttpHandler) -> Explanation:
    way = Explanation(request=asked, socket=str(socket), chain=chain.name, table=handler.table.name, outcomes=())
    request = arrive(asked, world.engine.read(EDGE, None))
    if isinstance(request, Refused):
        answer = Outcome(share=1.0, status=request.status, location=request.location, text=request.text)
        return msgspec.structs.replace(way, outcomes=(answer,))
    found = world.host(handler.table, request.host)
    if found is None:
        answer = Outcome(share=1.0, status=404, text=f"404: no virtual host for {request.host}")
        return msgspec.structs.replace(way, outcomes=(answer,), hints=_hosts_near(world, handler, request.host))
    domain, host = found
    if host.require_tls and not request.is_tls:
        location = f"https://{request.named}{request.target}"
        answer = Outcome(share=1.0, status=301, location=location, text=f"301 to {location} (the host is TLS only)")
        return msgspec.structs.replace(way, virtual_host=domain, outcomes=(answer,))
    table = world.table(handler.table)
    around = Surroundings(
        host=one_name(host),
        outer=(
            (table.request_headers, table.response_headers),
            (host.request_headers, host.response_headers),
        ),
        problem=world.problem,
        reason=world.reason,
    )
    steps, outcomes, effects = try_routes(host, request, around)
    # Several upstreams have much in common.
    effects = tuple(dict.fromkeys((*effects, *_of_upstreams(world, outcomes, host, request))))
    lost = any(outcome.status == 404 and not outcome.route for outcome in outcomes)
    hints = _hosts_near(world, handler, request.host) if lost and domain != request.host else ()
    return msgspec.structs.replace(
        way, virtual_host=domain, steps=steps, outcomes=outcomes, effects=effects, hints=hints
    )


def _hosts_near(world: World, handler: HttpHandler, name: str) -> tuple[str, ...]:
    near = [one for one in nearest(name, world.hosts(handler.table)) if one != name]
    return (f"did you mean {' or '.join(near)}?",) if near else ()


def _of_upstreams(
    world: World, outcomes: tuple[Outcome, ...], host: VirtualHost, request: Request
) -> tuple[Effect, ...]:
    own = {
        route.name: isinstance(route.action, Forward) and (route.action.retry or host.retry) is not None
        for route in host.routes
    }
    seen: dict[UpstreamKey, bool] = {}
    for outcome in outcomes:
        if outcome.upstream is not None:
            seen.setdefault(outcome.upstream, own.get(outcome.route, False))
    found: list[Effect] = []
    for key, own_retries in seen.items():
        upstream = world.upstream(key)
        if upstream is not None:
            found += upstream_effects(upstream, key, request, own_retries=own_retries)
    return tuple(found)


def try_routes(
    host: VirtualHost, request: Request, around: Surroundings | None = None
) -> tuple[tuple[Step, ...], tuple[Outcome, ...], tuple[Effect, ...]]:
    """Go down a virtual host's table until the request has gone somewhere for certain."""
    where = around or Surroundings(host=one_name(host), outer=((host.request_headers, host.response_headers),))
    steps: list[Step] = []
    outcomes: list[Outcome] = []
    effects: list[Effect] = []
    taken = 0.0
    for route in host.routes:
        reason = mismatch(route.match, request)
        if reason:
            steps.append(_step(route, matched=False, reason=reason))
            continue
        threshold = 1.0
        if route.match.share is not None:
            # One number is drawn per request, so thresholds are cumulative: a route takes what is above the ones
            # before.
            threshold = route.match.share.numerator / route.match.share.denominator
        share = max(0.0, threshold - taken)
        note = f"for {share:.4g} of such requests" if share < 1 else ""
        steps.append(_step(route, matched=share > 0, reason=note))
        if share > 0:
            outcomes += _of_route(route, request, share, where)
            effects += effects_of(route, request, host)
            taken = threshold
        if taken >= 1:
            return tuple(steps), tuple(outcomes), tuple(effects)
    is_declared = any(route.source.object.name for route in host.routes)
    why = "none of the routes fits" if is_declared else f"there is no route for {request.host}"
    outcomes.append(Outcome(share=1.0 - taken, status=404, text=f"404: {why}"))
    return tuple(steps), tuple(outcomes), tuple(effects)


def _step(route: Route, *, matched: bool, reason: str) -> Step:
    return Step(route=route.name, source=route.source, matched=matched, reason=reason, guard=route.guard)


def _of_route(route: Route, request: Request, share: float, around: Surroundings) -> list[Outcome]:
    has_cors = route.cors is not None and can_forward(route, around)
    cross_origin = cors_fields(route.cors, request) if has_cors and route.cors is not None else ()
    return [
        Outcome(
            share=share * described.share,
            status=described.status,
            location=described.location,
            upstream=described.upstream,
            host=described.host,
            target=described.target,
            request_headers=described.request_headers,
            response_headers=edited(cross_origin, described.response_headers, request),
            text=described.text,
            route=route.name,
            source=described.source or route.source,
        )
        for described in describe_action(route, request, around)
    ]
