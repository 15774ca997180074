"""Why a request goes where it goes: listener, filter chain, virtual host, every route tried and why it lost, the
action, and what it does to the request; each with the declared object that it comes from.

Reads the same queries that Envoy's resources are built from, on the live engine or on one made from files. Chance
(weights, shares) is not drawn: an explanation lists every outcome with its share.
"""

from collections.abc import Iterable, Iterator

import msgspec

from portway.explain.action import Effect, describe_action, effects_of
from portway.explain.match import domain_candidates, mismatch
from portway.explain.request import Request
from portway.incremental import Engine
from portway.model.handles import LISTENER, SOCKETS, UPSTREAM_USES, VIRTUAL_HOST, VIRTUAL_HOSTS
from portway.model.listener import Chain, HttpHandler, Listener, TcpHandler
from portway.model.names import HostKey, SocketKey, TableKey, Transport, UpstreamKey
from portway.model.route import Route, Source, VirtualHost


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One route that was looked at."""

    route: str
    source: Source
    matched: bool
    reason: str = ""
    """Why it did not fit, or for which share of requests it does."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What may happen to the request, with the share of such requests that it happens to."""

    share: float
    """0 to 1; all outcomes together are 1."""
    status: int = 0
    """Of an answer that the proxy gives itself; 0: the upstream decides."""
    location: str = ""
    upstream: UpstreamKey | None = None
    host: str = ""
    """Sent upstream."""
    target: str = ""
    """Path and query sent upstream."""
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


class World:
    """What an engine serves, indexed for look-ups by request. A snapshot: make a new one after a change."""

    def __init__(self, engine: Engine) -> None:
        """The engine must be settled."""
        self.engine = engine
        self.sockets: tuple[SocketKey, ...] = tuple(sorted(engine.groups(SOCKETS)))
        self._tables: dict[TableKey, list[HostKey]] = {}
        self._domains: dict[TableKey, dict[str, VirtualHost]] = {}
        for key in engine.groups(VIRTUAL_HOSTS):
            self._tables.setdefault(key.table, []).append(key)

    def listener(self, socket: SocketKey) -> Listener | None:
        return self.engine.get(LISTENER, socket)

    def hosts(self, table: TableKey) -> dict[str, VirtualHost]:
        """The virtual hosts of a table by domain."""
        found = self._domains.get(table)
        if found is None:
            found = self._domains[table] = {}
            for key in sorted(self._tables.get(table, ())):
                host = self.engine.get(VIRTUAL_HOST, key)
                for domain in host.domains if host is not None else ():
                    found.setdefault(domain, host) if host is not None else None
        return found

    def upstreams(self) -> Iterator[tuple[str, UpstreamKey]]:
        """Fleet and key of every upstream that is used."""
        return self.engine.groups(UPSTREAM_USES)

    def find_socket(self, request: Request, address: str = "") -> SocketKey | None:
        """The TCP socket that the request arrives at; among several addresses of the port the given one, else the
        first."""
        fitting = [key for key in self.sockets if key.port == request.port and key.transport is Transport.TCP]
        for key in fitting:
            if address and key.address == address:
                return key
        return fitting[0] if fitting else None


def find_chain(chains: Iterable[Chain], request: Request) -> Chain | None:
    """The filter chain of the request's connection: the most specific server name wins."""
    by_name = {name: chain for chain in chains for name in chain.server_names or ("*",)}
    candidates = domain_candidates(request.server_name) if request.server_name else iter(("*",))
    for name in candidates:
        chain = by_name.get(name)
        if chain is not None:
            return chain
    return None


def explain(world: World, request: Request, address: str = "") -> Explanation:
    """Follow a request through what the engine serves."""
    socket = world.find_socket(request, address)
    listener = world.listener(socket) if socket is not None else None
    if socket is None or listener is None:
        return _refused(request, f"nothing listens on port {request.port}; the connection is refused")
    chain = find_chain(listener.chains, request)
    if chain is None:
        name = request.server_name or "none"
        return _refused(
            request, f"no listener on {socket} takes the server name {name}; the connection is closed", str(socket)
        )
    if request.is_tls and chain.tls is None and not chain.passthrough:
        return _refused(request, f"{socket} speaks plain HTTP, not TLS; the connection is closed", str(socket))
    if not request.is_tls and (chain.tls is not None or chain.passthrough):
        return _refused(request, f"{socket} speaks TLS, not plain HTTP; the connection is closed", str(socket))
    if isinstance(chain.handler, TcpHandler):
        return _explain_tcp(request, socket, chain, chain.handler)
    return _explain_http(world, request, socket, chain, chain.handler)


def _refused(request: Request, text: str, socket: str = "") -> Explanation:
    return Explanation(request=request, socket=socket, outcomes=(Outcome(share=1.0, text=text),))


def _explain_tcp(request: Request, socket: SocketKey, chain: Chain, handler: TcpHandler) -> Explanation:
    total = sum(share.weight for share in handler.upstreams)
    outcomes = tuple(
        Outcome(
            share=share.weight / total,
            upstream=share.upstream,
            text=_tcp_text(share.upstream),
            source=chain.source,
        )
        for share in handler.upstreams
        if share.weight
    )
    nobody = (Outcome(share=1.0, text="there is no backend: the connection is closed", source=chain.source),)
    return Explanation(request=request, socket=str(socket), chain=chain.name, outcomes=outcomes or nobody)


def _tcp_text(upstream: UpstreamKey | None) -> str:
    return "the connection is closed" if upstream is None else f"bytes are passed to {upstream.object}"


def _explain_http(world: World, request: Request, socket: SocketKey, chain: Chain, handler: HttpHandler) -> Explanation:
    hosts = world.hosts(handler.table)
    domain = next((name for name in domain_candidates(request.host) if name in hosts), "")
    if not domain:
        answer = Outcome(share=1.0, status=404, text=f"no virtual host for {request.host}: 404")
        return Explanation(
            request=request, socket=str(socket), chain=chain.name, table=handler.table.name, outcomes=(answer,)
        )
    steps, outcomes, effects = try_routes(hosts[domain], request)
    return Explanation(
        request=request,
        socket=str(socket),
        chain=chain.name,
        table=handler.table.name,
        virtual_host=domain,
        steps=steps,
        outcomes=outcomes,
        effects=effects,
    )


def try_routes(host: VirtualHost, request: Request) -> tuple[tuple[Step, ...], tuple[Outcome, ...], tuple[Effect, ...]]:
    """Go down a virtual host's table until the request has gone somewhere for certain."""
    steps: list[Step] = []
    outcomes: list[Outcome] = []
    effects: list[Effect] = []
    taken = 0.0
    for route in host.routes:
        reason = mismatch(route.match, request)
        if reason:
            steps.append(Step(route=route.name, source=route.source, matched=False, reason=reason))
            continue
        threshold = 1.0
        if route.match.share is not None:
            # One number is drawn per request, so thresholds are cumulative: a route takes what is above the ones
            # before.
            threshold = route.match.share.numerator / route.match.share.denominator
        share = max(0.0, threshold - taken)
        note = f"for {share:.4g} of such requests" if share < 1 else ""
        steps.append(Step(route=route.name, source=route.source, matched=share > 0, reason=note))
        if share > 0:
            outcomes += _of_route(route, request, share)
            effects += effects_of(route, request)
            taken = threshold
        if taken >= 1:
            return tuple(steps), tuple(outcomes), tuple(effects)
    left = 1.0 - taken
    outcomes.append(Outcome(share=left, status=404, text="no route fits: 404"))
    return tuple(steps), tuple(outcomes), tuple(effects)


def _of_route(route: Route, request: Request, share: float) -> list[Outcome]:
    found: list[Outcome] = []
    for described in describe_action(route, request):
        found.append(
            Outcome(
                share=share * described.share,
                status=described.status,
                location=described.location,
                upstream=described.upstream,
                host=described.host,
                target=described.target,
                text=described.text,
                route=route.name,
                source=described.source or route.source,
            )
        )
    return found


def upstreams_of(explanation: Explanation) -> tuple[UpstreamKey, ...]:
    """The upstreams that the request may reach, each once."""
    return tuple(dict.fromkeys(outcome.upstream for outcome in explanation.outcomes if outcome.upstream is not None))
