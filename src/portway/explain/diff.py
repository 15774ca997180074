"""What a change does to requests: not which text differs, but who gets another answer.

Two worlds are compared socket by socket and host by host. Hosts whose tables are equal are done at once; for the others
requests are made from both tables (`samples.py`, which says what it may miss) and each is followed through both worlds.
Requests that change in the same way are told once, with an example.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple, final

import msgspec

from portway.explain.behaviour import behaviour_of, differing_texts, sort_of
from portway.explain.compared import chain_texts, handler_texts, upstream_texts
from portway.explain.fleets import fleet_label
from portway.explain.match import domain_candidates
from portway.explain.request import Request
from portway.explain.samples import path_samples, samples
from portway.explain.trace import World, explain
from portway.model.listener import HttpHandler
from portway.model.names import SocketKey, Transport
from portway.model.route import Route, RouteTable, Source, VirtualHost
from portway.objects.verdict import ObjectKey

SHOWN_HOSTS = 3
"""Further hosts that are named."""


_NOWHERE = Source(object=ObjectKey("", "", ""))


class Kind(StrEnum):
    SOCKET = "socket"
    """A port is opened, closed, or treats connections differently."""
    REQUEST = "request"
    """A request is answered differently."""
    UPSTREAM = "upstream"
    """An upstream that is used before and after is spoken to differently, or has other endpoints."""
    ROUTE = "route"
    """A route differs, and no request could be made to show how."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference in behaviour."""

    kind: Kind
    subject: str
    """An example request (`GET http://shop.example/cart`), a socket, an upstream."""
    before: str
    after: str
    fleet: str = ""
    """Where there are several: whose proxies, `Gateway shop/web`."""
    request: Request | None = None
    requests: int = 1
    """How many of the requests that were compared change like this."""
    also: tuple[str, ...] = ()
    """Other hosts of which requests change like this."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """All that differs between two worlds."""

    changes: tuple[Change, ...]
    hosts_compared: int
    """Virtual hosts whose tables were not equal, so that requests had to tell."""
    requests_compared: int
    sockets: tuple[int, int]
    """Open sockets before and after. None: nothing is served, so the comparison says little."""


def compare(before: World, after: World) -> Difference:
    """What differs for requests; both engines must be settled."""
    comparison = _Comparison(before, after)
    sockets = sorted({*before.sockets, *after.sockets})
    changes = [change for socket in sockets for change in _compare_socket(before, after, socket)]
    for socket in sockets:
        comparison.add(socket)
    return Difference(
        changes=(*changes, *comparison.changes(), *_compare_upstreams(before, after)),
        hosts_compared=comparison.hosts,
        requests_compared=comparison.requests,
        sockets=(len(before.sockets), len(after.sockets)),
    )


def _compare_socket(before: World, after: World, socket: SocketKey) -> Iterator[Change]:
    one, other = (world.listener(socket) if socket in world.sockets else None for world in (before, after))
    if one is None or other is None:
        if one is not other:
            states = ("closed", "open")
            yield Change(
                kind=Kind.SOCKET,
                subject=str(socket),
                before=states[one is not None],
                after=states[other is not None],
                fleet=fleet_label(socket.fleet),
            )
        return
    texts = chain_texts(before, one), chain_texts(after, other)
    for name in sorted({*texts[0], *texts[1]}):
        old, new = (side.get(name, "connections are closed") for side in texts)
        if old != new:
            subject = f"{socket} server name {name}" if name != "*" else str(socket)
            yield Change(kind=Kind.SOCKET, subject=subject, before=old, after=new, fleet=fleet_label(socket.fleet))
    old, new = handler_texts(one), handler_texts(other)
    if old != new:
        yield Change(kind=Kind.SOCKET, subject=str(socket), before=old, after=new, fleet=fleet_label(socket.fleet))


class _Table(NamedTuple):
    """What the connections of one server name look requests up in."""

    table: RouteTable
    hosts: dict[str, VirtualHost]


def _tables(world: World, socket: SocketKey) -> dict[str, _Table]:
    """Tables by scheme and server name of the connection; only for HTTP."""
    listener = world.listener(socket) if socket in world.sockets and socket.transport is Transport.TCP else None
    found: dict[str, _Table] = {}
    for chain in listener.chains if listener is not None else ():
        if isinstance(chain.handler, HttpHandler):
            table = _Table(world.table(chain.handler.table), world.hosts(chain.handler.table))
            for name in chain.server_names or ("*",):
                found[f"{'https' if chain.tls else 'http'} {name}"] = table
    return found


def _reaches(server_name: str, domain: str) -> bool:
    """Whether a client that asks for a host of the domain gets the chain of this server name."""
    return server_name == "*" or server_name in domain_candidates(example_host(domain)) or domain == "*"


def example_host(domain: str) -> str:
    """A host name that a domain fits."""
    if domain == "*":
        return "any.invalid"
    return domain.replace("*", "any", 1)


class _Found(msgspec.Struct):
    """Requests that change in one way."""

    example: Request
    fleet: str
    texts: tuple[str, str]
    requests: int = 0
    hosts: dict[str, None] = {}


@final
class _Comparison:
    """Follows requests through both worlds, and sorts them by how they change."""

    def __init__(self, before: World, after: World) -> None:
        self.before = before
        self.after = after
        self.hosts = 0
        self.requests = 0
        self._found: dict[tuple[object, ...], _Found] = {}
        self._unsampled: list[Change] = []

    def add(self, socket: SocketKey) -> None:
        """Compare the hosts of a socket."""
        tables = _tables(self.before, socket), _tables(self.after, socket)
        if not tables[0] or not tables[1]:
            return  # opened or closed as a whole, which is said already
        nothing = _Table(RouteTable(), {})
        done: set[tuple[str, str]] = set()
        for entry in sorted({*tables[0], *tables[1]}):
            scheme, _, server_name = entry.partition(" ")
            # A server name without a chain of its own is served by a wider one.
            old, new = (side.get(entry) or _wider(side, scheme, server_name) or nothing for side in tables)
            for domain in sorted({*old.hosts, *new.hosts}):
                sides = old.hosts.get(domain), new.hosts.get(domain)
                if (scheme, domain) in done or not _reaches(server_name, domain):
                    continue
                if sides[0] != sides[1] or old.table != new.table:
                    # Once, whichever server names lead there: a request has just one.
                    done.add((scheme, domain))
                    self._host(socket, scheme, domain, sides)

    def _host(
        self, socket: SocketKey, scheme: str, domain: str, sides: tuple[VirtualHost | None, VirtualHost | None]
    ) -> None:
        name = example_host(domain)
        base = Request(scheme=scheme, host=name, port=socket.port, server_name=name if scheme == "https" else "")
        present = [host for host in sides if host is not None]
        requests = samples(present[0], base, *present[1:])
        self.hosts += 1
        self.requests += len(requests)
        for request in requests:
            self._request(request, socket)
        self._unsampled += (
            msgspec.structs.replace(change, fleet=fleet_label(socket.fleet)) for change in _unsampled(base, *sides)
        )

    def _request(self, request: Request, socket: SocketKey) -> None:
        one, other = (explain(world, request, socket.address, socket.fleet) for world in (self.before, self.after))
        if behaviour_of(one) == behaviour_of(other):
            return
        key = (socket.fleet, *sort_of(one, other))
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = _Found(
                example=request, fleet=fleet_label(socket.fleet), texts=differing_texts(one, other)
            )
        found.requests += 1
        found.hosts[request.host] = None

    def changes(self) -> Iterator[Change]:
        """What was found, in the order in which it was."""
        for found in self._found.values():
            others = [host for host in found.hosts if host != found.example.host]
            more = [f"{len(others) - SHOWN_HOSTS} more"] if len(others) > SHOWN_HOSTS else []
            yield Change(
                kind=Kind.REQUEST,
                subject=request_text(found.example),
                before=found.texts[0],
                after=found.texts[1],
                fleet=found.fleet,
                request=found.example,
                requests=found.requests,
                also=(*others[:SHOWN_HOSTS], *more),
            )
        yield from self._unsampled


def _wider(tables: dict[str, _Table], scheme: str, server_name: str) -> _Table | None:
    candidates = (f"{scheme} {name}" for name in domain_candidates(server_name.replace("*", "any", 1)))
    return next((tables[name] for name in candidates if name in tables), None)


def _unsampled(base: Request, one: VirtualHost | None, other: VirtualHost | None) -> Iterator[Change]:
    """Routes that no request could be made for and that are not the same on both sides."""
    old, new = (
        {
            route.match.path.value: _bare(route)
            for route in (host.routes if host is not None else ())
            if not any(path_samples(route.match.path))
        }
        for host in (one, other)
    )
    for pattern in sorted({*old, *new}):
        if old.get(pattern) != new.get(pattern):
            states = [
                "no such route" if routes.get(pattern) is None else "a route that no example was found for"
                for routes in (old, new)
            ]
            if states[0] == states[1]:
                states[1] = "one that is not the same"
            yield Change(kind=Kind.ROUTE, subject=f"{base.host} {pattern}", before=states[0], after=states[1])


def _bare(route: Route) -> Route:
    """A route without what it is called and where it comes from."""
    return msgspec.structs.replace(route, name="", source=_NOWHERE)


def request_text(request: Request) -> str:
    """The request on one line, as one would try it."""
    fields = "".join(f" -H '{name}: {value}'" for name, value in request.headers)
    return f"{request.method} {request.url}{fields}"


def _compare_upstreams(before: World, after: World) -> Iterator[Change]:
    one, other = upstream_texts(before), upstream_texts(after)
    told: set[tuple[str, ...]] = set()
    for key in sorted(one.keys() & other.keys()):
        old, new = one[key], other[key]
        kept = set(old) & set(new)
        texts = ["; ".join(line for line in side if line not in kept) or "the default" for side in (old, new)]
        # Spoken to in several ways it is several upstreams, which as a rule change alike.
        if old != new and (key.place, *texts) not in told:
            told.add((key.place, *texts))
            yield Change(kind=Kind.UPSTREAM, subject=key.place, before=texts[0], after=texts[1])
