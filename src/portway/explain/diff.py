"""What a change does to requests: not which text differs, but who gets another answer.

Two worlds are compared host by host. Hosts whose tables are equal are done at once; for the others requests are made
from both tables (`samples.py`) and each is followed through both worlds.
"""

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from portway.explain.match import domain_candidates
from portway.explain.request import Request
from portway.explain.samples import path_samples, samples
from portway.explain.trace import Explanation, World, explain
from portway.model.handles import UPSTREAM
from portway.model.listener import Chain, HttpHandler
from portway.model.names import SocketKey, Transport, UpstreamKey
from portway.model.route import VirtualHost
from portway.model.upstream import Upstream


class Kind(StrEnum):
    SOCKET = "socket"
    """A port is opened, closed, or treats connections differently."""
    REQUEST = "request"
    """A request is answered differently."""
    UPSTREAM = "upstream"
    """An upstream that is used before and after is spoken to differently."""
    ROUTE = "route"
    """A route differs, and no request could be made to show how."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference in behaviour."""

    kind: Kind
    subject: str
    """An example request (`GET http://shop.example/cart`), a socket, an upstream."""
    before: str
    after: str
    request: Request | None = None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """All that differs between two worlds."""

    changes: tuple[Change, ...]
    hosts_compared: int
    """Virtual hosts whose tables were not equal, so that requests had to tell."""
    requests_compared: int


def compare(before: World, after: World) -> Difference:
    """What differs for requests; both engines must be settled."""
    changes: list[Change] = []
    hosts = requests = 0
    for socket in sorted({*before.sockets, *after.sockets}):
        changes += _compare_socket(before, after, socket)
    for socket in sorted({*before.sockets, *after.sockets}):
        for base, one, other in _differing_hosts(before, after, socket):
            hosts += 1
            found, compared = _compare_host(before, after, socket, base, one, other)
            requests += compared
            changes += found
    changes += _compare_upstreams(before, after)
    return Difference(changes=tuple(changes), hosts_compared=hosts, requests_compared=requests)


def _compare_socket(before: World, after: World, socket: SocketKey) -> Iterator[Change]:
    one, other = (world.listener(socket) if socket in world.sockets else None for world in (before, after))
    if one is None or other is None:
        states = ("closed", "open")
        yield Change(
            kind=Kind.SOCKET, subject=str(socket), before=states[one is not None], after=states[other is not None]
        )
        return
    chains_before = {name: chain for chain in one.chains for name in chain.server_names or ("*",)}
    chains_after = {name: chain for chain in other.chains for name in chain.server_names or ("*",)}
    for name in sorted({*chains_before, *chains_after}):
        texts = [_chain_text(chains.get(name)) for chains in (chains_before, chains_after)]
        if texts[0] != texts[1]:
            subject = f"{socket} server name {name}" if name != "*" else str(socket)
            yield Change(kind=Kind.SOCKET, subject=subject, before=texts[0], after=texts[1])
    if one.udp != other.udp or one.proxy_protocol != other.proxy_protocol:
        yield Change(kind=Kind.SOCKET, subject=str(socket), before=repr(one.udp), after=repr(other.udp))


def _chain_text(chain: Chain | None) -> str:
    if chain is None:
        return "connections are closed"
    if chain.tls is not None:
        sources = [str(key.sources[0]) if key.sources else "the default certificate" for key in chain.tls.certificates]
        checked = f", clients verified ({chain.tls.client_validation})" if chain.tls.client_authorities else ""
        what = f"TLS with {', '.join(sources)}{checked}, from version {chain.tls.min_version}"
    else:
        what = "TLS passed through" if chain.passthrough else "no TLS"
    if isinstance(chain.handler, HttpHandler):
        return f"HTTP, {what}"
    shares = ", ".join(f"{share.upstream} x{share.weight}" for share in chain.handler.upstreams)
    return f"TCP to {shares or 'nobody'}, {what}"


def _tables(world: World, socket: SocketKey) -> dict[str, dict[str, VirtualHost]]:
    """Virtual hosts by server name of the connection and domain; only for HTTP."""
    listener = world.listener(socket) if socket in world.sockets and socket.transport is Transport.TCP else None
    found: dict[str, dict[str, VirtualHost]] = {}
    for chain in listener.chains if listener is not None else ():
        if isinstance(chain.handler, HttpHandler):
            for name in chain.server_names or ("*",):
                found[f"{'https' if chain.tls else 'http'} {name}"] = world.hosts(chain.handler.table)
    return found


def _differing_hosts(
    before: World, after: World, socket: SocketKey
) -> Iterator[tuple[Request, VirtualHost | None, VirtualHost | None]]:
    """Hosts whose tables are not equal, with the connection that reaches them."""
    tables = _tables(before, socket), _tables(after, socket)
    seen: set[tuple[str, str]] = set()
    for entry in sorted({*tables[0], *tables[1]}):
        scheme, _, server_name = entry.partition(" ")
        hosts = tuple(side.get(entry, {}) for side in tables)
        for domain in sorted({*hosts[0], *hosts[1]}):
            if not _reaches(server_name, domain) or (scheme, domain) in seen:
                continue
            one, other = (side.get(domain) for side in hosts)
            if one == other and hosts[0] is not None:
                continue
            seen.add((scheme, domain))
            example = example_host(domain)
            base = Request(
                scheme=scheme, host=example, port=socket.port, server_name=example if scheme == "https" else ""
            )
            yield base, one, other


def _reaches(server_name: str, domain: str) -> bool:
    """Whether a client that asks for a host of the domain gets the chain of this server name."""
    return server_name == "*" or server_name in domain_candidates(example_host(domain)) or domain == "*"


def example_host(domain: str) -> str:
    """A host name that a domain fits."""
    if domain == "*":
        return "any.invalid"
    return domain.replace("*", "any", 1)


def _compare_host(
    before: World,
    after: World,
    socket: SocketKey,
    base: Request,
    one: VirtualHost | None,
    other: VirtualHost | None,
) -> tuple[list[Change], int]:
    requests = dict.fromkeys(request for host in (one, other) if host is not None for request in samples(host, base))
    changes: list[Change] = []
    told: set[tuple[str, str]] = set()
    for request in requests:
        texts = [_behaviour(explain(world, request, socket.address)) for world in (before, after)]
        if texts[0] != texts[1] and (texts[0], texts[1]) not in told:
            told.add((texts[0], texts[1]))
            changes.append(
                Change(
                    kind=Kind.REQUEST,
                    subject=request_text(request),
                    before=texts[0],
                    after=texts[1],
                    request=request,
                )
            )
    return changes + _unsampled(base, one, other), len(requests)


def _unsampled(base: Request, one: VirtualHost | None, other: VirtualHost | None) -> list[Change]:
    """Routes that no request could be made for and that are not the same on both sides."""
    sides = []
    for host in (one, other):
        routes = host.routes if host is not None else ()
        sides.append(
            {
                route.match.path.value: repr((route.match, route.action))
                for route in routes
                if not any(path_samples(route.match.path))
            }
        )
    return [
        Change(
            kind=Kind.ROUTE,
            subject=f"{base.host} {pattern}",
            before=sides[0].get(pattern, "no such route"),
            after=sides[1].get(pattern, "no such route"),
        )
        for pattern in sorted({*sides[0], *sides[1]})
        if sides[0].get(pattern) != sides[1].get(pattern)
    ]


def _behaviour(found: Explanation) -> str:
    """What a client or a backend would notice, as text; equal text is equal behaviour."""
    lines = [
        f"{outcome.share:.4g} {outcome.text} {outcome.upstream.variant if outcome.upstream else ''}".rstrip()
        if len(found.outcomes) > 1
        else f"{outcome.text} {outcome.upstream.variant if outcome.upstream else ''}".rstrip()
        for outcome in found.outcomes
    ]
    lines += sorted(f"{effect.what}: {effect.text}" for effect in found.effects)
    return "; ".join(lines)


def request_text(request: Request) -> str:
    """The request on one line, as one would try it."""
    fields = "".join(f" -H '{name}: {value}'" for name, value in request.headers)
    return f"{request.method} {request.url}{fields}"


def _upstreams(world: World) -> dict[UpstreamKey, Upstream]:
    found: dict[UpstreamKey, Upstream] = {}
    for _, key in world.upstreams():
        upstream = world.engine.get(UPSTREAM, key)
        if upstream is not None:
            found[key] = msgspec.structs.replace(upstream, origins=())
    return found


def _compare_upstreams(before: World, after: World) -> Iterator[Change]:
    one, other = _upstreams(before), _upstreams(after)
    for key in sorted(one.keys() & other.keys()):
        if one[key] != other[key]:
            old, new = msgspec.structs.asdict(one[key]), msgspec.structs.asdict(other[key])
            names = [name for name in old if old[name] != new[name]]
            yield Change(
                kind=Kind.UPSTREAM,
                subject=one[key].name,
                before=", ".join(f"{name} {old[name]}" for name in names),
                after=", ".join(f"{name} {new[name]}" for name in names),
            )
