"""Evaluates the requests of `answers.yaml` on the model: the same tables that proxies are given."""

from collections.abc import Iterable, Iterator, Mapping
from typing import cast

import msgspec

from portway.explain.match import domain_candidates, mismatch
from portway.explain.request import Request, make_request
from portway.incremental import Engine
from portway.model.handles import LISTENER, SOCKETS, VIRTUAL_HOST, VIRTUAL_HOSTS
from portway.model.listener import Chain, HttpHandler, Listener, TcpHandler
from portway.model.names import SocketKey, TableKey, Transport
from portway.model.route import (
    Forward,
    HeaderEdits,
    PathRewrite,
    PathRewriteKind,
    Redirect,
    Respond,
    Route,
    VirtualHost,
    WeightedUpstream,
)


class World:
    """What a settled engine serves, by socket and table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sockets = sorted(engine.groups(SOCKETS))
        self._hosts: dict[TableKey, dict[str, VirtualHost]] = {}
        for key in engine.groups(VIRTUAL_HOSTS):
            host = engine.get(VIRTUAL_HOST, key)
            assert host is not None
            assert host.domains[0] == key.host
            domains = self._hosts.setdefault(key.table, {})
            assert domains.keys().isdisjoint(host.domains), "one domain in two virtual hosts"
            domains.update(dict.fromkeys(host.domains, host))

    def listener(self, port: int, transport: Transport, address: str) -> Listener | None:
        """The listener of a port; of several addresses the given one, else the first."""
        keys = [key for key in self._sockets if (key.port, key.transport) == (port, transport)]
        key: SocketKey | None = next((key for key in keys if address in ("", key.address)), None)
        return None if key is None else self._engine.get(LISTENER, key)

    def host(self, table: TableKey, name: str) -> VirtualHost | None:
        domains = self._hosts.get(table, {})
        return next((domains[domain] for domain in domain_candidates(name) if domain in domains), None)


def find_chain(chains: Iterable[Chain], server_name: str) -> Chain | None:
    """The chain of the most specific server name."""
    names = {name: chain for chain in chains for name in chain.server_names or ("*",)}
    candidates = domain_candidates(server_name) if server_name else iter(("*",))
    return next((names[name] for name in candidates if name in names), None)


METHODS = ("get", "head", "post", "put", "delete", "options", "patch", "connect", "trace")


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that may happen to a request."""

    share: float
    name: str | int
    """Of the object behind the upstream, or a status."""
    location: str | None = None
    path: str | None = None
    host: str | None = None
    request_headers: dict[str, str] = {}
    response_headers: dict[str, str] = {}
    mirrored: dict[str, float] = {}


def answer(world: World, entry: Mapping[str, object]) -> dict[str, object]:
    """What happens, in the words of `answers.yaml`."""
    if "udp" in entry or "tcp" in entry:
        return _stream(world, entry)
    method = next(name for name in METHODS if name in entry)
    headers = cast("Mapping[str, str]", entry.get("headers", {}))
    request = make_request(
        method, str(entry[method]), headers.items(), server_name=cast("str | None", entry.get("tls"))
    )
    chain = _chain(world, request, str(entry.get("address", "")))
    if chain is None:
        return {"closed": True}
    if isinstance(chain.handler, TcpHandler):
        return _shares(chain.handler.upstreams)
    branches = list(_branches(world, chain.handler, request))
    return _said(branches)


def _said(branches: list[Branch]) -> dict[str, object]:
    outcome: dict[str, object] = {}
    shares: dict[str | int, float] = {}
    for branch in branches:
        shares[branch.name] = round(shares.get(branch.name, 0) + branch.share, 6)
    if len(shares) == 1:
        name = next(iter(shares))
        outcome["status" if isinstance(name, int) else "from"] = name
    else:
        outcome["from"] = shares
    for word, values in (
        ("location", [branch.location for branch in branches]),
        ("upstream_path", [branch.path for branch in branches]),
        ("upstream_host", [branch.host for branch in branches]),
        ("upstream_headers", [branch.request_headers for branch in branches]),
        ("response_headers", [branch.response_headers for branch in branches]),
        ("mirrored", [branch.mirrored for branch in branches]),
    ):
        if all(value == values[0] for value in values):
            outcome[word] = values[0]
        else:
            outcome[word] = {branch.name: value for branch, value in zip(branches, values, strict=True)}
    return outcome


def _chain(world: World, request: Request, address: str) -> Chain | None:
    listener = world.listener(request.port, Transport.TCP, address)
    chain = None if listener is None else find_chain(listener.chains, request.server_name)
    if chain is None or request.is_tls != (chain.tls is not None or chain.passthrough):
        return None
    return chain


def _branches(world: World, handler: HttpHandler, request: Request) -> Iterator[Branch]:
    host = world.host(handler.table, request.host)
    found = [] if host is None else list(_drawn(host, request))
    if not found:
        yield Branch(share=1, name=404)
    for share, route in found:
        yield from _of_route(share, route, request)


def _drawn(host: VirtualHost, request: Request) -> Iterator[tuple[float, Route]]:
    """The routes that may be chosen, with their shares. One number is drawn, so thresholds are cumulative."""
    taken = 0.0
    for route in host.routes:
        if mismatch(route.match, request):
            continue
        share = route.match.share
        threshold = 1.0 if share is None else share.numerator / share.denominator
        if threshold > taken:
            yield threshold - taken, route
            taken = threshold
        if taken >= 1:
            return


def _of_route(share: float, route: Route, request: Request) -> Iterator[Branch]:
    action = route.action
    if isinstance(action, Respond):
        yield Branch(share=share, name=action.status)
        return
    if isinstance(action, Redirect):
        yield Branch(share=share, name=action.status, location=_location(action, route, request))
        return
    total = sum(upstream.weight for upstream in action.upstreams)
    for upstream in action.upstreams:
        part = share * upstream.weight / total
        if upstream.upstream is None:
            yield Branch(share=part, name=action.unusable_status)
            continue
        sent = dict(request.headers)
        received: dict[str, str] = {}
        # As proxies do: the edits of the weighted upstream first, then those of the route.
        for edits in (upstream.request_headers, route.request_headers):
            _edit(sent, edits)
        for edits in (upstream.response_headers, route.response_headers):
            _edit(received, edits)
        yield Branch(
            share=part,
            name=upstream.upstream.name,
            path=_rewritten(action.path, route, request),
            host=upstream.host or action.host or dict(request.headers).get("host", request.host),
            request_headers=sent,
            response_headers=received,
            mirrored=_mirrored(route),
        )


def _rewritten(rewrite: PathRewrite | None, route: Route, request: Request) -> str:
    """Path and query after a rewrite. Source: the table under `HTTPPathModifier.replacePrefixMatch`."""
    query = f"?{request.query}" if request.query else ""
    if rewrite is None:
        return request.path + query
    if rewrite.kind is PathRewriteKind.FULL:
        return rewrite.value + query
    rest = request.path[len(route.match.path.value.removesuffix("/")) :].removeprefix("/")
    base = rewrite.value.removesuffix("/")
    return (f"{base}/{rest}" if rest else base or "/") + query


_WELL_KNOWN = {"http": 80, "https": 443}


def _location(action: Redirect, route: Route, request: Request) -> str:
    scheme = action.scheme or request.scheme
    shown = f":{action.port}" if action.port else ""
    if not action.port and not action.host and scheme == request.scheme and request.port != _WELL_KNOWN[scheme]:
        shown = f":{request.port}"
    return f"{scheme}://{action.host or request.host}{shown}{_rewritten(action.path, route, request)}"


def _mirrored(route: Route) -> dict[str, float]:
    if not isinstance(route.action, Forward):
        return {}
    return {
        mirror.upstream.name: 1.0 if mirror.share is None else mirror.share.numerator / mirror.share.denominator
        for mirror in route.action.mirrors
    }


def _edit(headers: dict[str, str], edits: HeaderEdits) -> None:
    for name in edits.remove:
        headers.pop(name.lower(), None)
    for name, value in edits.set:
        headers[name.lower()] = value
    for name, value in edits.add:
        key = name.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value


def _stream(world: World, entry: Mapping[str, object]) -> dict[str, object]:
    transport = Transport.UDP if "udp" in entry else Transport.TCP
    host, _, port = str(entry[transport.value]).rpartition(":")
    address = str(entry.get("address", ""))
    if transport is Transport.TCP:
        scheme = "https" if "tls" in entry else "http"
        request = make_request("GET", f"{scheme}://{host}:{port}/", server_name=cast("str | None", entry.get("tls")))
        chain = _chain(world, request, address)
        if chain is None or not isinstance(chain.handler, TcpHandler):
            return {"closed": True}
        return _shares(chain.handler.upstreams)
    listener = world.listener(int(port), transport, address)
    if listener is None or listener.udp is None:
        return {"closed": True}
    return _shares(listener.udp.upstreams)


def _shares(upstreams: tuple[WeightedUpstream, ...]) -> dict[str, object]:
    total = sum(each.weight for each in upstreams)
    if not any(each.upstream is not None for each in upstreams):
        return {"closed": True}
    shares = {
        (each.upstream.name if each.upstream is not None else "closed"): each.weight / total for each in upstreams
    }
    return {"from": next(iter(shares)) if len(shares) == 1 else shares}
