"""Route tables and virtual hosts.

All HTTP listeners of a Gateway's port share a table, since nothing but the host of a request tells them apart; each
host in it belongs to the most specific listener that has it, and no other listener's routes serve it (listener
isolation). An HTTPS listener has a table of its own, since the connection's server name chose it: hosts of the port's
other listeners answer 421 there.

A route puts one row into each group of (listener, host) that it serves. A virtual host joins its own group with those
of the wider hosts of the listener: what the more specific route does not match falls through to the less specific one.

Source: Gateway API, `GatewaySpec.listeners` ("Listener Isolation"), `HTTPRouteSpec.hostnames`; RFC 9110 §15.5.20.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from portway.incremental import Context, Relation, query
from portway.model.names import Dialect, HostKey, TableKey
from portway.model.route import (
    PathKind,
    PathMatch,
    Redirect,
    Respond,
    Route,
    RouteMatch,
    RouteTable,
    Source,
    VirtualHost,
)
from portway.objects.gateway_v1 import ListenerProtocol
from portway.objects.httproute_v1 import HTTPRequestRedirectFilter
from portway.objects.verdict import ObjectKey
from portway.translate.gateway.attachment import attachment_of
from portway.translate.gateway.certificates import client_certificate, listener_tls
from portway.translate.gateway.gateways import (
    HostOf,
    PortOf,
    gateway_head,
    gateway_plan,
    hosts_of,
    listener_of,
    listener_plan,
    sockets_of,
)
from portway.translate.gateway.hosts import EVERY, covers, is_wildcard, specificity, wider
from portway.translate.gateway.listeners import ListenerKey, ListenerPlan
from portway.translate.gateway.rules import Entry, RulesKey, rules_of
from portway.translate.sockets import lost_to


class HostGroup(NamedTuple):
    """A host at a listener."""

    listener: ListenerKey
    host: str


class Contribution(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A route serves a host at a listener."""

    route: ObjectKey
    original: str
    """The route's own host name, see `AttachedHost`."""


CONTRIBUTIONS: Relation[HostGroup, Contribution] = Relation("routes of hosts of Gateways")


def contributions(ctx: Context, route: ObjectKey) -> Mapping[HostGroup, Contribution]:
    """Feed of `CONTRIBUTIONS` for HTTPRoute and GRPCRoute."""
    attachment = ctx.get(attachment_of, route)
    if attachment is None:
        return {}
    return {
        HostGroup(listener.key, host.host): Contribution(route=route, original=host.original)
        for listener in attachment.listeners().values()
        for host in listener.hosts
    }


_KINDS = {"gateway": "Gateway", "listenerset": "ListenerSet"}


class Place(NamedTuple):
    """What the name of a table says."""

    owner: ObjectKey
    port: int
    listener: str
    """Empty: the table of all HTTP listeners of the Gateway's port."""


def table_name(plan: ListenerPlan) -> str:
    """Names of objects and listeners hold no colon, so the name can be taken apart again."""
    if plan.protocol == ListenerProtocol.HTTP:
        return f"gateway:{plan.gateway.namespace}:{plan.gateway.name}:{plan.port}"
    owner = plan.key.owner
    return f"{owner.kind.lower()}:{owner.namespace}:{owner.name}:{plan.port}:{plan.key.name}"


def place_of(table: TableKey) -> Place:
    kind, namespace, name, port, *listener = table.name.split(":")
    return Place(ObjectKey(_KINDS[kind], namespace, name), int(port), listener[0] if listener else "")


@query("table of a listener")
def table_of(ctx: Context, key: ListenerKey) -> TableKey | None:
    """Where a listener's requests are looked up; `None` while it serves none."""
    plan = ctx.get(listener_plan, key)
    if plan is None or not plan.is_http or not ctx.get(is_serving, key):
        return None
    head = ctx.get(gateway_head, plan.gateway)
    return None if head is None else TableKey(head.fleet, table_name(plan), Dialect.GATEWAY)


@query("listener is serving")
def is_serving(ctx: Context, key: ListenerKey) -> bool:
    """Whether a listener has all that it needs, and at least one socket."""
    plan = ctx.get(listener_plan, key)
    if plan is None or not plan.is_sound:
        return False
    if needs_certificate(plan) and not ctx.get(listener_tls, key).is_usable:
        return False
    return any(lost_to(ctx, socket, plan.gateway) is None for socket in ctx.get(sockets_of, key))


def needs_certificate(plan: ListenerPlan) -> bool:
    return plan.protocol == ListenerProtocol.HTTPS or (plan.protocol == ListenerProtocol.TLS and not plan.passthrough)


def tables(ctx: Context, gateway: ObjectKey) -> Mapping[TableKey, bool]:
    """Feed of `TABLES` for Gateway."""
    return {table: True for _, table in _served(ctx, gateway)}


def _served(ctx: Context, gateway: ObjectKey) -> list[tuple[ListenerPlan, TableKey]]:
    plan = ctx.get(gateway_plan, gateway)
    return [
        (listener, table)
        for listeners in (() if plan is None else plan.listeners.values())
        for listener in listeners
        if listener.is_http and (table := ctx.get(table_of, listener.key)) is not None
    ]


def listener_hosts(ctx: Context, gateway: ObjectKey) -> Mapping[HostKey, bool]:
    """Feed of `VIRTUAL_HOSTS` for Gateway: hosts that must be there though no route may serve them.

    A listener's own host keeps requests from a wider listener's routes, and the hosts of other HTTPS listeners answer
    421.
    """
    rows: dict[HostKey, bool] = {}
    for listener, table in _served(ctx, gateway):
        hosts = ctx.get(hosts_of, PortOf(gateway, listener.port))
        if len(hosts) == 1:
            continue
        if listener.hostname != EVERY:
            rows[HostKey(table, listener.hostname)] = True
        if listener.protocol == ListenerProtocol.HTTPS:
            rows[HostKey(table, ctx.get(misdirected_domains, listener.key)[0])] = True
    return rows


MAX_FOREIGN_HOSTS = 100
"""How many hosts of other listeners each HTTPS listener's table lists. With N listeners on a port all of them would be
N x N; beyond this number hosts that no listener has answer 421 too, which RFC 9110 §15.5.20 allows."""


@query("misdirected domains")
def misdirected_domains(ctx: Context, key: ListenerKey) -> tuple[str, ...]:
    """Domains that answer 421 at an HTTPS listener that is not alone on its port.

    Returns:
        Sorted; hosts of others within the listener's own wildcard always, those outside as far as they are few, else
        `*`.
    """
    listener = ctx.get(listener_plan, key)
    if listener is None:
        return ()
    own = listener.hostname
    hosts = ctx.get(hosts_of, PortOf(listener.gateway, listener.port))
    # Within its own wildcard a listener must tell apart what is another's: there `*` would not help.
    inside = {host for host in hosts if host != own and covers(own, host)} if is_wildcard(own) else set()
    outside = len(hosts) - 1 - len(inside)
    if outside > MAX_FOREIGN_HOSTS:
        return tuple(sorted((*inside, EVERY)))
    return tuple(sorted(host for host in hosts if host != own))


def route_hosts(ctx: Context, group: HostGroup) -> Mapping[HostKey, bool]:
    """Feed of `VIRTUAL_HOSTS` for the groups of `CONTRIBUTIONS`."""
    table = ctx.get(table_of, group.listener)
    return {} if table is None else {HostKey(table, group.host): True}


def route_table(ctx: Context, key: TableKey) -> RouteTable:
    """What holds for all virtual hosts of a table: nothing beyond the default."""
    return RouteTable()


def virtual_host(ctx: Context, key: HostKey) -> VirtualHost | None:
    """The routes of one host of a Gateway's table, in match order."""
    place = place_of(key.table)
    if place.listener:
        listener = ctx.get(listener_plan, ListenerKey(place.owner, place.listener))
        if listener is None:
            return None
        owner = ctx.get(listener_of, HostOf(listener.gateway, listener.port, key.host))
        if owner != listener.key:
            return _misdirected(ctx, listener)
    else:
        owner = ctx.get(listener_of, HostOf(place.owner, place.port, key.host))
        listener = None if owner is None else ctx.get(listener_plan, owner)
    if listener is None:
        return None
    return VirtualHost(domains=(key.host,), routes=_routes(ctx, listener, key.host))


class _Ranked(NamedTuple):
    order: tuple[object, ...]
    entry: Entry


def _routes(ctx: Context, listener: ListenerPlan, host: str) -> tuple[Route, ...]:
    """The routes of a host in match order: original host names first, then matches, then age, then the rules' order."""
    originals: dict[ObjectKey, str] = {}
    for pattern in (host, *wider(host)):
        for row in ctx.rows(CONTRIBUTIONS, HostGroup(listener.key, pattern)):
            known = originals.get(row.route)
            if known is None or specificity(row.original) < specificity(known):
                originals[row.route] = row.original
    certificate = ctx.get(client_certificate, listener.gateway).key
    compiled = [
        (specificity(original), rules.age, route, rules.entries)
        for route, original in originals.items()
        if (rules := ctx.get(rules_of, RulesKey(route, certificate))) is not None
    ]
    # One object's entries are in order already; ties between objects go by age, and by kind where even names are equal.
    ranked = sorted(
        (
            (original, entry.rank, age, route.kind, number, entry)
            for original, age, route, entries in compiled
            for number, entry in enumerate(entries)
        ),
        key=lambda item: item[:5],
    )
    return tuple(_bound(entry, listener) for *_, entry in ranked)


def _bound(entry: Entry, listener: ListenerPlan) -> Route:
    """The route of an entry at a listener."""
    if entry.redirect is None or not isinstance(entry.route.action, Redirect):
        return entry.route
    scheme, host, port = _target(entry.redirect, listener)
    action = msgspec.structs.replace(entry.route.action, scheme=scheme, host=host, port=port)
    return msgspec.structs.replace(entry.route, action=action)


_PORTS = {"http": 80, "https": 443}


def _target(declared: HTTPRequestRedirectFilter, listener: ListenerPlan) -> tuple[str, str, int]:
    """Scheme, host and port of a redirect.

    Without a port: the scheme's own if one is given, else the listener's. A port that a URL of the scheme leaves out
    is left out, where that is what happens to the request's own host by itself.

    Source: Gateway API, `HTTPRequestRedirectFilter.port`.
    """
    own = "http" if listener.protocol == ListenerProtocol.HTTP else "https"
    scheme = declared.scheme.value if declared.scheme is not None else own
    port = declared.port or (_PORTS[scheme] if declared.scheme is not None else listener.port)
    leaves_out = port == _PORTS[scheme] and (scheme != own or listener.port == port)
    return ("" if scheme == own else scheme), declared.hostname or "", 0 if leaves_out else port


def _misdirected(ctx: Context, listener: ListenerPlan) -> VirtualHost:
    """Answers 421 to requests for hosts of the port's other listeners."""
    name = f"{listener.key.owner.kind}/{listener.key.owner.namespace}/{listener.key.owner.name}/misdirected"
    return VirtualHost(
        domains=ctx.get(misdirected_domains, listener.key),
        routes=(
            Route(
                name=name,
                match=RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value="/")),
                action=Respond(status=421, reason="another listener serves this host"),
                source=Source(object=listener.key.owner, field=f"{listener.field}.hostname"),
            ),
        ),
    )
