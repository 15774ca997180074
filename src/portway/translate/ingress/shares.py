"""What one Ingress contributes to each of its hosts.

The unit of merging: an Ingress is cut into a share per host, so that a change of it touches only the hosts whose share
is different, and a host is put together from its shares (`hosts.py`) without looking at anything else.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from portway.incremental import Context, Relation, feed, query
from portway.model.checks import check_domain
from portway.model.handles import EDGE
from portway.objects.networking_v1 import HTTPIngressPath, Ingress, IngressBackend, IngressTLS, PathType
from portway.objects.verdict import ObjectKey
from portway.store import read_object
from portway.translate.ingress.annotations.canary import CANARY
from portway.translate.ingress.annotations.entry import NO_SETTINGS, Settings
from portway.translate.ingress.annotations.reading import Reading, read_annotations
from portway.translate.ingress.classes import standing
from portway.translate.sockets import INGRESS_AGES, Age, age_of

CATCH_ALL: Final = "*"
"""The host of rules without host and of Ingresses that are nothing but a default backend."""


class IngressHost(NamedTuple):
    """A host that Ingresses declare, or a name under which it is to answer. Classes with a fleet of their own have
    hosts of their own, too."""

    fleet: str
    host: str
    """Lower case; `*.suffix`, or `*`."""

    def __str__(self) -> str:
        return self.host

    def named(self, host: str) -> "IngressHost":
        """Another name in the same fleet."""
        return IngressHost(self.fleet, host)


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """One path of a host."""

    path: str
    """As declared, `/` if empty."""
    exact: bool
    backend: IngressBackend | None
    """`None`: no backend; requests get 404."""
    field: str
    """Path of the declaration from the Ingress's root."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What an Ingress says about one host."""

    ingress: ObjectKey
    age: Age
    settings: Settings
    locations: tuple[Location, ...]
    """In the order of declaration."""
    default_backend: IngressBackend | None = None
    default_only: bool = False
    """The Ingress has no rules, only a default backend: its redirects and rewrites do not count."""
    has_tls: bool = False
    """The Ingress has a `tls` section, whatever hosts stand in it."""
    secret: str = ""
    """Secret of the first entry of `tls` that names the host; empty: none does, or it names no Secret."""
    named: bool = False
    """An entry of `tls` names the host."""
    other_secrets: tuple[str, ...] = ()
    """All Secrets of `tls`, for a host that none names: one may cover it."""

    @property
    def field(self) -> str:
        """Where the Ingress names the host: its first rule of it."""
        rule, _, _ = self.locations[0].field.partition(".http") if self.locations else ("", "", "")
        return f"{rule}.host" if rule.startswith("spec.rules[") else "spec.rules"

    @property
    def canary(self) -> bool:
        """It only takes requests away from other Ingresses, and has no host of its own."""
        return self.settings.get(CANARY)


SHARES: Final[Relation[IngressHost, Share]] = Relation("shares of ingress hosts")


@query("annotations of an Ingress")
def annotations_of(ctx: Context, key: ObjectKey) -> Reading:
    """The parsed annotations of an Ingress, with their verdicts."""
    ingress = read_object(ctx, Ingress, key.namespace, key.name)
    if ingress is None:
        return Reading(settings=NO_SETTINGS)
    return read_annotations(key, ingress.metadata.annotations, ctx.read(EDGE, None))


def shares_of(ctx: Context, key: ObjectKey) -> Mapping[IngressHost, Share]:
    """The shares of an Ingress by host; none if it is not ours."""
    ingress = read_object(ctx, Ingress, key.namespace, key.name)
    if ingress is None or not (stands := ctx.get(standing, key)).ours:
        return {}
    settings = ctx.get(annotations_of, key).settings
    age = age_of(ingress.metadata)
    spec = ingress.spec
    secrets = tuple(dict.fromkeys(entry.secret_name for entry in spec.tls if entry.secret_name))
    found: dict[IngressHost, Share] = {}
    for host, locations in _locations_by_host(ingress).items():
        entry = _tls_entry(spec.tls, host)
        found[IngressHost(stands.fleet, host)] = Share(
            ingress=key,
            age=age,
            settings=settings,
            locations=tuple(locations),
            default_backend=spec.default_backend,
            default_only=not spec.rules,
            has_tls=bool(spec.tls),
            named=entry is not None,
            secret=entry.secret_name if entry is not None else "",
            other_secrets=() if entry is not None else secrets,
        )
    return found


def _locations_by_host(ingress: Ingress) -> dict[str, list[Location]]:
    spec = ingress.spec
    if not spec.rules:
        if spec.default_backend is None:
            return {}
        return {CATCH_ALL: [Location(path="/", exact=False, backend=spec.default_backend, field="spec.defaultBackend")]}
    found: dict[str, list[Location]] = {}
    for number, rule in enumerate(spec.rules):
        host = host_of(rule.host)
        if check_domain(host):
            continue
        locations = found.setdefault(host, [])
        if rule.http is None:
            if spec.default_backend is not None:
                locations.append(
                    Location(path="/", exact=False, backend=spec.default_backend, field=f"spec.rules[{number}]")
                )
            continue
        for place, path in enumerate(rule.http.paths):
            locations.append(_location(path, f"spec.rules[{number}].http.paths[{place}]"))
    return found


def host_of(declared: str) -> str:
    """The host of a rule as it is a key: lower case, `*` if there is none."""
    return declared.lower().rstrip(".") or CATCH_ALL


def _location(path: HTTPIngressPath, field: str) -> Location:
    return Location(path=path.path or "/", exact=path.path_type is PathType.EXACT, backend=path.backend, field=field)


def _tls_entry(entries: tuple[IngressTLS, ...], host: str) -> IngressTLS | None:
    return next((entry for entry in entries if any(host_of(name) == host for name in entry.hosts)), None)


def ages_of(ctx: Context, key: ObjectKey) -> Mapping[str, Age]:
    """How old an Ingress is that is ours; the oldest decides who has the ports."""
    ingress = read_object(ctx, Ingress, key.namespace, key.name)
    if ingress is None or not (stands := ctx.get(standing, key)).ours:
        return {}
    return {stands.fleet: age_of(ingress.metadata)}


FEEDS: Final = (feed(SHARES, "Ingress", shares_of), feed(INGRESS_AGES, "Ingress", ages_of))
