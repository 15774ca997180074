"""The names under which hosts answer beside their own: aliases, and the other one of `x` and `www.x`.

A name belongs to one host only. A host that an Ingress declares keeps its name; among aliases the oldest Ingress wins;
`www` redirects take what is left.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from portway.incremental import Context, Relation, feed
from portway.translate.ingress.hosts import FURTHER, HostPlan, host_plan
from portway.translate.ingress.owners import is_barred
from portway.translate.ingress.shares import IngressHost
from portway.translate.sockets import Age

_WWW: Final = "www."
REGEX_NAMES: Final = "~"
"""Group of the aliases that are regular expressions; they are tried where no other name fits."""


class Claimed(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A host wants a name."""

    age: Age
    host: IngressHost
    patterns: tuple[str, ...] = ()
    """For regular expressions: all of the host's, without `~`."""


ALIASES: Final[Relation[IngressHost, Claimed]] = Relation("aliases of ingress hosts")
"""Group: the alias, or `REGEX_NAMES`."""
OPPOSITES: Final[Relation[IngressHost, Claimed]] = Relation("www redirects")
"""Group: the name that is redirected; the row says where to."""


def opposite(host: str) -> str:
    """`x` for `www.x` and the other way round; empty for what is no single name."""
    if host.startswith("*"):
        return ""
    return host.removeprefix(_WWW) if host.startswith(_WWW) else f"{_WWW}{host}"


def _aliases(ctx: Context, host: IngressHost) -> Mapping[IngressHost, Claimed]:
    plan = ctx.get(host_plan, host)
    if plan is None or not plan.aliases:
        return {}
    namespace = plan.first.namespace
    rows = {
        name: Claimed(age=plan.age, host=host)
        for alias in plan.aliases
        if not alias.startswith("~") and not is_barred(ctx, name := host.named(alias), namespace)
    }
    patterns = tuple(alias[1:].lstrip("*") for alias in plan.aliases if alias.startswith("~"))
    if patterns:
        rows[host.named(REGEX_NAMES)] = Claimed(age=plan.age, host=host, patterns=patterns)
    return rows


def _opposites(ctx: Context, host: IngressHost) -> Mapping[IngressHost, Claimed]:
    plan = ctx.get(host_plan, host)
    other = host.named(opposite(host.host))
    if plan is None or not plan.www or not other.host or is_barred(ctx, other, plan.first.namespace):
        return {}
    return {other: Claimed(age=plan.age, host=host)}


def alias_owner(ctx: Context, name: IngressHost) -> IngressHost | None:
    """The host that answers under an alias; `None` if the name is a host itself or nobody wants it."""
    if ctx.get(host_plan, name) is not None:
        return None
    row = ctx.least(ALIASES, name)
    return None if row is None else row.host


def granted_aliases(ctx: Context, plan: HostPlan) -> tuple[str, ...]:
    """The names that the host answers under beside its own, sorted, without regular expressions."""
    return tuple(
        name for name in plan.aliases if not name.startswith("~") and alias_owner(ctx, plan.key.named(name)) == plan.key
    )


def redirected_to(ctx: Context, name: IngressHost) -> IngressHost | None:
    """The host that this name is redirected to; `None` if it is a host or an alias itself, or nobody wants that."""
    if ctx.get(host_plan, name) is not None or ctx.least(ALIASES, name) is not None:
        return None
    row = ctx.least(OPPOSITES, name)
    return None if row is None else row.host


RELATIONS: Final = (ALIASES, OPPOSITES)
FEEDS: Final = (feed(ALIASES, FURTHER, _aliases), feed(OPPOSITES, FURTHER, _opposites))
