"""All of translation put together: what `app.py` and the commands give to the engine.

Two dialects, Ingress and Gateway API, fill the same model; who looks a virtual host up here is sent to the one whose
table it is. What is the same for both (a policy of the upstream that routes have to act on) is laid over the outcome
here, once.
"""

from collections.abc import Callable, Mapping

import msgspec

from portway.incremental import AnyRelation, Binding, Context, Feed, bind
from portway.model.condition import ObjectReport
from portway.model.handles import (
    FLEETS,
    REPORT,
    SECRET_USES,
    SOCKETS,
    TABLE,
    TABLES,
    UPSTREAM_USES,
    VIRTUAL_HOST,
    VIRTUAL_HOSTS,
)
from portway.model.names import Dialect, HostKey, TableKey
from portway.model.route import Forward, Route, RouteTable, VirtualHost
from portway.objects.verdict import ObjectKey
from portway.store import Index
from portway.translate import certificates, fleets, gateway, ingress, sockets, upstreams, uses
from portway.translate.policy import backend_tls
from portway.translate.policy import reports as policy_reports
from portway.translate.policy import upstream as upstream_policy

REPORTS: Mapping[str, Callable[[Context, ObjectKey], ObjectReport]] = {
    **ingress.REPORTS,
    **gateway.REPORTS,
    **policy_reports.REPORTS,
}
"""Who has something to say about which kind of object."""


def virtual_host(ctx: Context, key: HostKey) -> VirtualHost | None:
    found = ingress.virtual_host(ctx, key) if key.table.dialect is Dialect.INGRESS else gateway.virtual_host(ctx, key)
    if found is None:
        return None
    routes = tuple(with_affinity(ctx, route) for route in found.routes)
    if all(new is old for new, old in zip(routes, found.routes, strict=True)):
        return found
    return msgspec.structs.replace(found, routes=routes)


def with_affinity(ctx: Context, route: Route) -> Route:
    """The route with the hashing and the cookie that the policy of its upstream wants, unless it has its own."""
    action = route.action
    if not isinstance(action, Forward) or action.hash or action.sticky is not None:
        return route
    for share in action.upstreams:
        policy = upstream_policy.policy_of(ctx, share.upstream) if share.upstream is not None else None
        if policy is not None:
            hashes, sticky = upstream_policy.affinity_of(policy.spec)
            if hashes or sticky is not None:
                return msgspec.structs.replace(
                    route, action=msgspec.structs.replace(action, hash=hashes, sticky=sticky)
                )
    return route


def route_table(ctx: Context, key: TableKey) -> RouteTable:
    return ingress.route_table(ctx, key) if key.dialect is Dialect.INGRESS else gateway.route_table(ctx, key)


def report(ctx: Context, key: ObjectKey) -> ObjectReport:
    """What there is to say about an object; nothing for kinds that only others refer to."""
    say = REPORTS.get(key.kind)
    return say(ctx, key) if say is not None else ObjectReport(object=key)


INDEXES: tuple[Index, ...] = (
    *upstreams.INDEXES,
    *backend_tls.INDEXES,
    *upstream_policy.INDEXES,
    *ingress.INDEXES,
    *gateway.INDEXES,
)
RELATIONS: tuple[AnyRelation, ...] = (
    *ingress.RELATIONS,
    *gateway.RELATIONS,
    *sockets.RELATIONS,
    FLEETS,
    SOCKETS,
    TABLES,
    VIRTUAL_HOSTS,
    UPSTREAM_USES,
    SECRET_USES,
)
"""In the order of evaluation."""
FEEDS: tuple[Feed, ...] = (*ingress.FEEDS, *gateway.FEEDS, *sockets.FEEDS, *uses.FEEDS)
BINDINGS: tuple[Binding, ...] = (
    *certificates.BINDINGS,
    *upstreams.BINDINGS,
    *sockets.BINDINGS,
    *fleets.BINDINGS,
    bind(VIRTUAL_HOST, virtual_host),
    bind(TABLE, route_table),
    bind(REPORT, report),
)
