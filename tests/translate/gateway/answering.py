"""Evaluates the requests of `answers.yaml` on the model: the same tables that proxies are given."""

from collections.abc import Iterator, Mapping
from typing import cast

import msgspec

from portway.explain.action import describe_action
from portway.explain.match import domain_candidates, mismatch
from portway.explain.request import Request, make_request
from portway.explain.trace import World, find_chain
from portway.model.listener import Chain, HttpHandler, TcpHandler
from portway.model.names import SocketKey, Transport
from portway.model.route import Forward, HeaderEdits, Route, VirtualHost, WeightedUpstream

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
    socket = world.find_socket(request, address)
    listener = world.listener(socket) if socket is not None else None
    chain = None if listener is None else find_chain(listener.chains, request)
    if chain is None or request.is_tls != (chain.tls is not None or chain.passthrough):
        return None
    return chain


def _branches(world: World, handler: HttpHandler, request: Request) -> Iterator[Branch]:
    hosts = world.hosts(handler.table)
    host = next((hosts[name] for name in domain_candidates(request.host) if name in hosts), None)
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
    described = describe_action(route, request)
    weighted = [each for each in action.upstreams if each.weight] if isinstance(action, Forward) else [None]
    for each, upstream in zip(described, weighted, strict=True):
        sent = dict(request.headers)
        received: dict[str, str] = {}
        if upstream is not None:
            # As proxies do: the edits of the weighted upstream first, then those of the route.
            for edits in (upstream.request_headers, route.request_headers):
                _edit(sent, edits)
            for edits in (upstream.response_headers, route.response_headers):
                _edit(received, edits)
        yield Branch(
            share=share * each.share,
            name=each.status or (each.upstream.name if each.upstream is not None else 0),
            location=each.location or None,
            path=each.target or None,
            host=each.host or None,
            request_headers=sent,
            response_headers=received,
            mirrored=_mirrored(route),
        )


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
    socket = next((key for key in world.sockets if _is_at(key, int(port), address)), None)
    listener = world.listener(socket) if socket is not None else None
    if listener is None or listener.udp is None:
        return {"closed": True}
    return _shares(listener.udp.upstreams)


def _is_at(key: SocketKey, port: int, address: str) -> bool:
    return key.transport is Transport.UDP and key.port == port and address in ("", key.address)


def _shares(upstreams: tuple[WeightedUpstream, ...]) -> dict[str, object]:
    total = sum(each.weight for each in upstreams)
    if not any(each.upstream is not None for each in upstreams):
        return {"closed": True}
    shares = {
        (each.upstream.name if each.upstream is not None else "closed"): each.weight / total for each in upstreams
    }
    return {"from": next(iter(shares)) if len(shares) == 1 else shares}
