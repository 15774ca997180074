"""The virtual hosts of Ingress: one table for plain and encrypted requests (docs/design/ingress-tables.md).

A proxy chooses a virtual host by domain only, so what it cannot express is in routes: `*.x` stands for one label, hence
requests with more labels are sent on to what is behind all hosts, by routes in front of the others. Regular expressions
among aliases are tried there too.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from portway.incremental import Context, feed, query
from portway.model.edge import Edge
from portway.model.handles import EDGE, TABLES, VIRTUAL_HOSTS
from portway.model.names import Dialect, HostKey, TableKey
from portway.model.route import (
    HeaderEdits,
    PathKind,
    PathMatch,
    Respond,
    Route,
    RouteMatch,
    RouteTable,
    Source,
    ValueKind,
    ValueMatch,
    VirtualHost,
)
from portway.translate.ingress.annotations.parsers import named_like
from portway.translate.ingress.hosts import HostPlan, host_plan
from portway.translate.ingress.matching import ambiguous_paths, by_scheme, is_wildcard, outside
from portway.translate.ingress.names import ALIASES, OPPOSITES, REGEX_NAMES, granted_aliases, redirected_to
from portway.translate.ingress.owners import first_of, is_barred
from portway.translate.ingress.redirecting import Target, answers, https_target, root_redirect
from portway.translate.ingress.routes import HostRules, is_guarded, is_redirected_first, routes_of
from portway.translate.ingress.shares import CATCH_ALL, SHARES, IngressHost
from portway.translate.sockets import INGRESS, INGRESS_AGES

TABLE_NAME: Final = "ingress"
_EVERYTHING: Final = PathMatch(kind=PathKind.PREFIX, value="/")


HEALTH: Final = Route(
    name="healthz",
    match=RouteMatch(path=PathMatch(kind=PathKind.EXACT, value="/healthz")),
    action=Respond(status=200, reason="health of the proxy"),
    source=Source(object=INGRESS),
)
"""For load balancers that probe the traffic ports, as ingress-nginx has it; but behind everything that is declared,
where it shadows nobody's own."""


def table_key(fleet: str) -> TableKey:
    """The table that all sockets of Ingress look requests up in."""
    return TableKey(fleet, TABLE_NAME, Dialect.INGRESS)


def route_table(_ctx: Context, _key: TableKey) -> RouteTable:
    """What every upstream of an Ingress gets to know about the request, beside what proxies say anyway
    (ingress-nginx, "Proxy headers"). Said once for the table: it costs nothing per host."""
    return RouteTable(
        request_headers=HeaderEdits(
            remove=("proxy",),  # httpoxy (CVE-2016-5385)
            formatted=(
                ("x-real-ip", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
                ("x-forwarded-scheme", "%REQ(X-FORWARDED-PROTO)%"),
                ("x-scheme", "%REQ(X-FORWARDED-PROTO)%"),
            ),
            # Where they are there a trusted proxy said so: those of others are dropped on arrival.
            if_absent=(("x-forwarded-host", "%REQ(:AUTHORITY)%"), ("x-forwarded-port", "%DOWNSTREAM_LOCAL_PORT%")),
        )
    )


def virtual_host(ctx: Context, key: HostKey) -> VirtualHost | None:
    """One host of the Ingress table; `None` if nobody declares it."""
    host = IngressHost(key.table.fleet, key.host)
    plan = ctx.get(host_plan, host)
    if key.host == CATCH_ALL:
        return VirtualHost(domains=(CATCH_ALL,), routes=(*ctx.get(rest_routes, host.fleet), HEALTH))
    edge = ctx.read(EDGE, None)
    if plan is None:
        target = redirected_to(ctx, host)
        return None if target is None else _redirecting_host(ctx, host, target, edge)
    domains = (key.host, *granted_aliases(ctx, plan))
    routes = tuple(_host_routes(ctx, plan, domains, edge))
    if is_wildcard(key.host):
        routes = (*_misfits(ctx, plan, domains[1:]), *routes)
    return VirtualHost(domains=domains, routes=routes)


def _host_routes(ctx: Context, plan: HostPlan, domains: tuple[str, ...], edge: Edge) -> Iterator[Route]:
    has_tls = plan.has_tls or _wildcard_has_tls(ctx, plan.key)
    if has_tls is not plan.has_tls:
        plan = msgspec.structs.replace(plan, has_tls=has_tls)
    redirected = is_redirected_first(plan, edge)
    guarded = is_guarded(plan)
    https = https_target(edge, domains)
    rules = HostRules(edge=edge, https=https, has_tls=has_tls, redirected=redirected, guarded=guarded)
    oldest = plan.locations[-1]
    if guarded:
        yield Route(
            name=f"Ingress/{oldest.ingress.namespace}/{oldest.ingress.name}",
            match=RouteMatch(path=ambiguous_paths(regex_mode=plan.regex_mode)),
            action=Respond(status=400, reason="servers may take the path for another, which is protected differently"),
            source=Source(object=oldest.ingress, field="spec.rules"),
            guard="paths that a server may take for others",
        )
    if plan.app_root and plan.app_root_of is not None:
        yield Route(
            name=f"Ingress/{plan.app_root_of.namespace}/{plan.app_root_of.name}",
            match=RouteMatch(path=PathMatch(kind=PathKind.EXACT, value="/")),
            action=root_redirect(plan.app_root),
            source=Source(object=plan.app_root_of, field="metadata.annotations"),
        )
    if redirected:
        source = Source(object=oldest.ingress, field="spec.tls")
        name = f"Ingress/{oldest.ingress.namespace}/{oldest.ingress.name}"
        yield from _redirects(rules.https, name, source, (by_scheme("http"),))
    for owned in plan.locations:
        yield from routes_of(ctx, owned, rules)


def _redirects(target: Target, name: str, source: Source, matches: tuple[ValueMatch, ...]) -> Iterator[Route]:
    for answer in answers(target, _EVERYTHING):
        yield Route(
            name=name,
            match=RouteMatch(path=_EVERYTHING, headers=(*matches, *answer.matches)),
            action=answer.action,
            response_headers=answer.response_headers,
            source=source,
        )


@query("whether an ingress host has a certificate entry")
def has_tls_entry(ctx: Context, host: IngressHost) -> bool:
    """Whether some Ingress of the host has a `tls` section."""
    plan = ctx.get(host_plan, host)
    return plan is not None and plan.has_tls


def _wildcard_has_tls(ctx: Context, key: IngressHost) -> bool:
    """A one-level wildcard with a certificate entry counts for the names that it covers."""
    if key.host == CATCH_ALL or is_wildcard(key.host):
        return False
    _, _, parent = key.host.partition(".")
    wildcard = key.named(f"*.{parent}")
    if not parent or not ctx.get(has_tls_entry, wildcard):
        return False
    first = ctx.get(first_of, wildcard)
    return first is None or not is_barred(ctx, key, first.ingress.namespace)


def _misfits(ctx: Context, plan: HostPlan, aliases: tuple[str, ...]) -> Iterator[Route]:
    """Requests with more labels than the wildcard stands for: what is behind all hosts answers them."""
    beyond = outside(plan.host, aliases)
    first = plan.locations[-1]
    for route in ctx.get(rest_routes, plan.key.fleet):
        yield msgspec.structs.replace(
            route, match=msgspec.structs.replace(route.match, headers=(*beyond, *route.match.headers))
        )
    yield Route(
        name=f"Ingress/{first.ingress.namespace}/{first.ingress.name}",
        match=RouteMatch(path=_EVERYTHING, headers=beyond),
        action=Respond(status=404, reason=f"{plan.host} stands for one label"),
        source=Source(object=first.ingress, field="spec.rules"),
    )


@query("routes behind all ingress hosts")
def rest_routes(ctx: Context, fleet: str) -> tuple[Route, ...]:
    """Routes of requests whose host nobody declares: hosts whose aliases are regular expressions, then the Ingresses
    without host."""
    edge = ctx.read(EDGE, None)
    found: list[Route] = []
    for row in sorted(ctx.rows(ALIASES, IngressHost(fleet, REGEX_NAMES))):
        plan = ctx.get(host_plan, row.host)
        if plan is None:
            continue
        named = ValueMatch(name=":authority", kind=ValueKind.REGEX, value=named_like(row.patterns))
        # Two names, so that no redirect says the host's own.
        for route in _host_routes(ctx, plan, (row.host.host, CATCH_ALL), edge):
            match = msgspec.structs.replace(route.match, headers=(named, *route.match.headers))
            found.append(msgspec.structs.replace(route, match=match))
    plan = ctx.get(host_plan, IngressHost(fleet, CATCH_ALL))
    if plan is not None:
        found.extend(_host_routes(ctx, plan, (CATCH_ALL,), edge))
    return tuple(found)


def _redirecting_host(ctx: Context, name: IngressHost, target: IngressHost, edge: Edge) -> VirtualHost | None:
    """The host that only redirects between `x` and `www.x`: with an explicit port, as ingress-nginx does."""
    plan = ctx.get(host_plan, target)
    if plan is None:
        return None
    host = target.host
    owner = plan.locations[-1].ingress
    source = Source(object=owner, field="metadata.annotations")
    routes: list[Route] = []
    for scheme, port in (("https", edge.https_port), ("http", edge.http_port)):
        place = Target(host=host, port=port, status=edge.redirect_status, root=f"{scheme}://{host}:{port}")
        matches = (by_scheme(scheme),) if scheme == "https" else ()
        routes.extend(_redirects(place, f"Ingress/{owner.namespace}/{owner.name}", source, matches))
    return VirtualHost(domains=(name.host,), routes=tuple(routes))


def _declared(ctx: Context, host: IngressHost) -> Mapping[HostKey, bool]:
    return {HostKey(table_key(host.fleet), host.host): True} if ctx.get(host_plan, host) is not None else {}


def _redirected(ctx: Context, name: IngressHost) -> Mapping[HostKey, bool]:
    if redirected_to(ctx, name) is None:
        return {}
    return {HostKey(table_key(name.fleet), name.host): True}


def _catch_all(ctx: Context, fleet: str) -> Mapping[HostKey, bool]:
    return {HostKey(table_key(fleet), CATCH_ALL): True}


def _table(ctx: Context, fleet: str) -> Mapping[TableKey, bool]:
    return {table_key(fleet): True}


FEEDS: Final = (
    feed(TABLES, INGRESS_AGES, _table),
    feed(VIRTUAL_HOSTS, SHARES, _declared),
    feed(VIRTUAL_HOSTS, INGRESS_AGES, _catch_all),
    feed(VIRTUAL_HOSTS, OPPOSITES, _redirected),
)
