"""Whose a host is, where hosts are exclusive (setting `exclusive_hosts`).

A host belongs to the namespace of its oldest Ingress, and so do the names below a wildcard host, unless one of them is
older. Ingresses of other namespaces get nothing of it: no path, no regex mode, no certificate, no alias. Without the
setting namespaces share hosts, as in ingress-nginx. The host of Ingresses without host (`*`) owns no names: everybody
may have a default backend, and it is nobody's claim to all others. Canaries own nothing.

Source: the rule is that of OpenShift's router ("namespace ownership"); Contour's root namespaces and Gateway API's
`allowedRoutes` name the owners instead of looking at ages.
"""

import msgspec

from portway.incremental import Context, query
from portway.model.handles import EDGE
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.translate.ingress.matching import is_wildcard
from portway.translate.ingress.shares import CATCH_ALL, SHARES, IngressHost, Share
from portway.translate.sockets import Age


class Owner(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Who has a host for its namespace; the least of several is the one."""

    age: Age
    ingress: ObjectKey
    host: str
    """The host that it declared: the wildcard, for names below one."""


@query("who declared an ingress host first")
def first_of(ctx: Context, key: IngressHost) -> Owner | None:
    """The oldest Ingress of a host, canaries left out."""
    rows = (share for share in ctx.rows(SHARES, key) if not share.canary)
    return min((Owner(age=row.age, ingress=row.ingress, host=key.host) for row in rows), default=None)


def owner_of(ctx: Context, key: IngressHost) -> Owner | None:
    """Whose a name is, declared or not; `None`: anybody's."""
    host = key.host
    if host == CATCH_ALL or not ctx.read(EDGE, None).exclusive_hosts:
        return None
    parent = "" if is_wildcard(host) else host.partition(".")[2]
    names = (host, f"*.{parent}") if parent else (host,)
    return min((owner for name in names if (owner := ctx.get(first_of, key.named(name))) is not None), default=None)


def admitted_shares(ctx: Context, key: IngressHost) -> list[Share]:
    """The shares of a host that count, the oldest first."""
    owner = owner_of(ctx, key)
    shares = sorted(ctx.rows(SHARES, key), key=lambda share: share.age)
    return [share for share in shares if owner is None or share.ingress.namespace == owner.ingress.namespace]


def is_barred(ctx: Context, name: IngressHost, namespace: str) -> bool:
    """Whether a name is another namespace's, so that no Ingress of this one may answer under it."""
    owner = owner_of(ctx, name)
    return owner is not None and owner.ingress.namespace != namespace


def refusal(ctx: Context, key: IngressHost, share: Share) -> Verdict | None:
    """What is to be said to an Ingress that declares a host of another namespace; `None`: it is admitted."""
    owner = owner_of(ctx, key)
    if owner is None or owner.ingress.namespace == share.ingress.namespace:
        return None
    namespace = owner.ingress.namespace
    below = "" if owner.host == key.host else f", by its host {owner.host}"
    return Verdict(
        object=share.ingress,
        severity=Severity.ERROR,
        reason="HostOfOthers",
        field=share.field,
        problem=f"{key.host} belongs to namespace {namespace}, whose {owner.ingress} is older{below}; nothing of it is"
        " served from here (--exclusive-hosts)",
        remedy=f"declare it in namespace {namespace}, or take another host",
    )
