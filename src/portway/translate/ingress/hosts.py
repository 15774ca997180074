"""A host put together from the shares of its Ingresses: who owns which path.

The oldest Ingress wins a path that several declare; what holds for the host as a whole (aliases, the redirect of its
root) is the oldest one's that says something about it. A path belongs to its Ingress with all its annotations; only
regular expressions and rewrites reach further, see `matching.py`. Canaries own nothing: they are laid over the path of
another Ingress.

Several namespaces may have paths on one host. Beyond its own paths an Ingress speaks only for hosts that its namespace
declared first: it cannot take the root, the names or the TLS of another's host, and its canary gets no share of
another's path. ingress-nginx allows all of that, so that one tenant can take another's requests. Where hosts are
exclusive, see `owners.py`, it has no paths there either.

Sources: ingress-nginx, "Ingress path matching", "Annotations: canary, server-alias, app-root"; its rules of merging.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from portway.incremental import Context, Relation, feed, query
from portway.model.handles import EDGE
from portway.model.route import PathMatch
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.translate.ingress.annotations.entry import Settings
from portway.translate.ingress.annotations.paths import APP_ROOT, REWRITE_TARGET, SERVER_ALIAS, USE_REGEX
from portway.translate.ingress.annotations.reading import annotation_field
from portway.translate.ingress.annotations.redirects import (
    FROM_TO_WWW_REDIRECT,
    PERMANENT_REDIRECT,
    TEMPORAL_REDIRECT,
)
from portway.translate.ingress.annotations.upstreams import SSL_PASSTHROUGH
from portway.translate.ingress.matching import Unusable, in_match_order, path_key, path_match
from portway.translate.ingress.owners import admitted_shares
from portway.translate.ingress.shares import SHARES, IngressHost, Location, Share
from portway.translate.sockets import Age


class Owned(msgspec.Struct, frozen=True, kw_only=True):
    """A path with the Ingress that owns it."""

    location: Location
    match: PathMatch
    ingress: ObjectKey
    settings: Settings
    implicit: bool = False
    """Nobody declared it: it is the rest of the host, `/`."""
    canary: "Owned | None" = None


class HostPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns what on a host."""

    key: IngressHost
    first: ObjectKey
    """The oldest Ingress of the host."""
    age: Age
    """Its age."""
    locations: tuple[Owned, ...]
    """In match order; the last one fits every path."""
    regex_mode: bool
    has_tls: bool
    app_root: str
    app_root_of: ObjectKey | None
    aliases: tuple[str, ...]
    """Wanted, sorted; whether each is granted is decided among all hosts."""
    www: bool
    passthrough: bool
    verdicts: Mapping[ObjectKey, tuple[Verdict, ...]]

    @property
    def host(self) -> str:
        return self.key.host

    @property
    def reaches_further(self) -> bool:
        """There is more to it than its own virtual host: other names, certificates, passed on TLS."""
        return bool(self.aliases) or self.www or self.passthrough or self.has_tls


_ROOT_FIELD: Final = "spec.rules"
_NOT_FOR_DEFAULT_BACKENDS: Final = frozenset(
    entry.name for entry in (REWRITE_TARGET, USE_REGEX, APP_ROOT, PERMANENT_REDIRECT, TEMPORAL_REDIRECT)
)

_HOST_WIDE: Final = tuple(entry.name for entry in (APP_ROOT, SERVER_ALIAS, FROM_TO_WWW_REDIRECT, SSL_PASSTHROUGH))
"""What is about a host as a whole."""


@query("plan of an ingress host")
def host_plan(ctx: Context, key: IngressHost) -> HostPlan | None:
    """Who owns what on a host; `None` if no Ingress but canaries declares it."""
    shares = admitted_shares(ctx, key)
    primary = [_without_redirects(share) for share in shares if not share.canary]
    if not primary:
        return None
    regex_mode = any(_wants_regex(share) for share in primary)
    merge = _Merge(key.host, ctx.read(EDGE, None).annotation_prefix, regex_mode=regex_mode)
    if regex_mode:
        merge.warn_of_regex_mode(primary)
    for share in primary:
        for location in share.locations:
            merge.add(share, location)
    merge.complete(primary[0])
    for share in shares:
        if share.canary:
            for location in share.locations:
                merge.add_canary(share, location)
    at_home = [share for share in primary if share.ingress.namespace == primary[0].ingress.namespace]
    merge.warn_of_guests(primary)
    rooted = next((share for share in at_home if share.settings.has(APP_ROOT)), None)
    aliased = next((share for share in at_home if share.settings.has(SERVER_ALIAS)), None)
    return HostPlan(
        key=key,
        first=primary[0].ingress,
        age=primary[0].age,
        locations=merge.in_order(),
        regex_mode=regex_mode,
        has_tls=any(share.has_tls for share in primary),
        app_root=rooted.settings.get(APP_ROOT) if rooted is not None else "",
        app_root_of=rooted.ingress if rooted is not None else None,
        aliases=aliased.settings.get(SERVER_ALIAS) if aliased is not None else (),
        www=any(share.settings.get(FROM_TO_WWW_REDIRECT) for share in at_home),
        passthrough=any(share.settings.get(SSL_PASSTHROUGH) for share in at_home),
        verdicts={ingress: tuple(said) for ingress, said in merge.verdicts.items()},
    )


def _without_redirects(share: Share) -> Share:
    """For an Ingress that is only a default backend redirects and rewrites do not count."""
    if not share.default_only:
        return share
    values = {name: value for name, value in share.settings.values.items() if name not in _NOT_FOR_DEFAULT_BACKENDS}
    return msgspec.structs.replace(share, settings=msgspec.structs.replace(share.settings, values=values))


def _wants_regex(share: Share) -> bool:
    if share.settings.get(USE_REGEX):
        return True
    return any(is_rewritten(share.settings, location) for location in share.locations)


def is_rewritten(settings: Settings, location: Location) -> bool:
    """Whether `rewrite-target` is in effect for a path: set, and another path."""
    return settings.get(REWRITE_TARGET) not in ("", location.path)


class _Merge:
    """The paths of one host while they are put together, oldest Ingress first."""

    def __init__(self, host: str, prefix: str, *, regex_mode: bool) -> None:
        self.host = host
        self.prefix = prefix
        """Of annotations."""
        self.regex_mode = regex_mode
        self.owned: dict[tuple[str, bool], Owned] = {}
        self.verdicts: dict[ObjectKey, list[Verdict]] = {}

    def add(self, share: Share, location: Location, *, implicit: bool = False) -> None:
        match = path_match(location, regex_mode=self.regex_mode)
        if isinstance(match, Unusable):
            problem = f'"{location.path}" {match.problem}; requests are routed as if this path were not there'
            self._say(share.ingress, Severity.ERROR, "InvalidPath", f"{location.field}.path", problem, match.remedy)
            return
        key = path_key(location, regex_mode=self.regex_mode)
        new = Owned(location=location, match=match, ingress=share.ingress, settings=share.settings, implicit=implicit)
        old = self.owned.get(key)
        # `/foo` and `/foo/` mean the same prefix; the one that says it plainly wins, whatever its age.
        if old is not None and (old.location.path == location.path or location.path.endswith("/")):
            self._lost(new, old)
            return
        if old is not None:
            self._lost(old, new)
        self.owned[key] = new

    def warn_of_regex_mode(self, shares: Sequence[Share]) -> None:
        """Tell those whose paths mean something else because of another Ingress."""
        cause = next(share for share in shares if _wants_regex(share))
        for share in shares:
            if share.ingress != cause.ingress and not _wants_regex(share):
                problem = (
                    f"the paths of {_named(self.host)} are case-insensitive regular expressions without an end, since"
                    f" {cause.ingress} has use-regex or rewrite-target"
                )
                remedy = "give one of them another host, if that is not wanted"
                self._say(share.ingress, Severity.WARNING, "RegexMode", "spec.rules", problem, remedy)

    def warn_of_guests(self, shares: Sequence[Share]) -> None:
        """Tell those who say something about the whole host, but whose namespace did not declare it first."""
        first = shares[0].ingress
        for share in shares:
            if share.ingress.namespace == first.namespace:
                continue
            for name in _HOST_WIDE:
                if share.settings.values.get(name):
                    problem = (
                        f"{name} has no effect on {_named(self.host)}: it is about the whole host, which namespace"
                        f" {first.namespace} declared first ({first})"
                    )
                    remedy = f"set it on an Ingress of namespace {first.namespace}"
                    self._say(
                        share.ingress,
                        Severity.WARNING,
                        "HostOfOthers",
                        annotation_field(self.prefix, name),
                        problem,
                        remedy,
                    )

    def complete(self, oldest: Share) -> None:
        """Add what no path fits: the default backend of the Ingress that first declared the host, else 404, under all
        the annotations of that Ingress."""
        if ("/", False) not in self.owned:
            backend = oldest.default_backend
            field = "spec.defaultBackend" if backend is not None else _ROOT_FIELD
            self.add(oldest, Location(path="/", exact=False, backend=backend, field=field), implicit=True)

    def add_canary(self, share: Share, location: Location) -> None:
        key = path_key(location, regex_mode=self.regex_mode)
        primary = self.owned.get(key)
        field = f"{location.field}.path" if location.field.startswith("spec.rules") else location.field
        if primary is None or primary.implicit:
            problem = (
                f'no other Ingress has the path "{location.path}" of {_named(self.host)}: this canary gets no requests'
            )
            remedy = "declare the path, with the same path type, in an Ingress that is no canary"
            self._say(share.ingress, Severity.WARNING, "CanaryWithoutPrimary", field, problem, remedy)
            return
        if primary.ingress.namespace != share.ingress.namespace:
            problem = (
                f'the path "{location.path}" of {_named(self.host)} belongs to {primary.ingress}: a canary of another'
                " namespace gets no requests"
            )
            remedy = f"declare the canary in namespace {primary.ingress.namespace}"
            self._say(share.ingress, Severity.WARNING, "CanaryOfOthers", field, problem, remedy)
            return
        if primary.canary is not None:
            problem = (
                f'the path "{location.path}" of {_named(self.host)} has a canary already,'
                f" {primary.canary.ingress}; there can be one: this one gets no requests"
            )
            self._say(share.ingress, Severity.WARNING, "Conflict", field, problem, "remove one of them")
            return
        canary = Owned(location=location, match=primary.match, ingress=share.ingress, settings=share.settings)
        self.owned[key] = msgspec.structs.replace(primary, canary=canary)

    def in_order(self) -> tuple[Owned, ...]:
        ordered = sorted(self.owned, key=lambda key: in_match_order(key, regex_mode=self.regex_mode))
        return tuple(self.owned[key] for key in ordered)

    def _lost(self, loser: Owned, winner: Owned) -> None:
        same = loser.ingress == winner.ingress
        by = f"{winner.location.field} of this Ingress" if same else f"{winner.ingress}, {winner.location.field}"
        problem = (
            f'the path "{loser.location.path}" of {_named(self.host)} is served by {by}; this one gets no requests'
        )
        remedy = "remove one of them" if same else "the older Ingress keeps a path; remove one of them"
        self._say(loser.ingress, Severity.WARNING, "Conflict", loser.location.field, problem, remedy)

    def _say(self, ingress: ObjectKey, severity: Severity, reason: str, field: str, problem: str, remedy: str) -> None:
        self.verdicts.setdefault(ingress, []).append(
            Verdict(object=ingress, severity=severity, reason=reason, field=field, problem=problem, remedy=remedy)
        )


def _named(host: str) -> str:
    return "the catch-all host" if host == "*" else host


def _further(ctx: Context, key: IngressHost) -> Mapping[IngressHost, bool]:
    plan = ctx.get(host_plan, key)
    return {key: True} if plan is not None and plan.reaches_further else {}


FURTHER: Final[Relation[IngressHost, bool]] = Relation("ingress hosts that reach further")
"""Group: a host of which more is to be said than its virtual host. Most hosts are not in here, and cost nothing in
what is fed from it."""
RELATIONS: Final = (FURTHER,)
FEEDS: Final = (feed(FURTHER, SHARES, _further),)
