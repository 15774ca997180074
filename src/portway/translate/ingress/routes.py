"""The routes of one path of a host, in the order in which nginx's phases would act.

Preflights first, then fixed redirects, then the refusal of an Ingress that cannot be served safely, then the redirect
to HTTPS, then access lists and the upstream (ingress-nginx: phases of its location blocks). A missing Service answers
503 before access lists are looked at, as there.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from portway.incremental import Context
from portway.model.edge import Edge
from portway.model.route import (
    NO_EDITS,
    AccessList,
    Action,
    Forward,
    HeaderEdits,
    PathRewrite,
    PathRewriteKind,
    Respond,
    Route,
    RouteMatch,
    Source,
    ValueMatch,
    WeightedUpstream,
)
from portway.translate.ingress.annotations.access import ALLOWLIST_SOURCE_RANGE, DENYLIST_SOURCE_RANGE
from portway.translate.ingress.annotations.entry import Settings
from portway.translate.ingress.annotations.paths import DEFAULT_BACKEND, UPSTREAM_VHOST
from portway.translate.ingress.annotations.upstreams import LOAD_BALANCE, PROXY_BODY_SIZE, UPSTREAM_HASH_BY
from portway.translate.ingress.backends import (
    NOT_FOUND,
    UNAVAILABLE,
    Place,
    can_answer,
    first_port,
    place_of,
    with_settings,
)
from portway.translate.ingress.canaries import ALL_TO_PRIMARY, SIDE_CANARY, SIDE_PRIMARY, Choice, choices
from portway.translate.ingress.cors import EVERYBODY, PREFLIGHT, Audience, audiences
from portway.translate.ingress.forwarding import (
    depends_on_scheme,
    idle_timeout,
    path_rewrite,
    request_edits,
    retry_policy,
    side_cookie,
    side_cookie_name,
    stickiness,
    upstream_settings,
)
from portway.translate.ingress.hosts import HostPlan, Owned
from portway.translate.ingress.matching import by_scheme, other_spellings
from portway.translate.ingress.redirecting import Target, answers, fixed_redirect, goes_to_https

_NO_BACKEND: Final = Place(status=NOT_FOUND, problem="no backend")


class HostRules(msgspec.Struct, frozen=True, kw_only=True):
    """What all paths of a host have in common."""

    edge: Edge
    https: Target
    """Where plain requests are redirected to, if a path wants it."""
    has_tls: bool
    redirected: bool
    """Plain requests have been redirected before any path is tried."""
    guarded: bool = False
    """Paths of the host are protected differently: none of them may be reached around its protection."""


def wants_https(owned: Owned, edge: Edge, *, has_tls: bool) -> bool:
    """Whether plain requests for a path are redirected to HTTPS."""
    return goes_to_https(owned.settings, edge, owned.location.path, has_tls=has_tls)


def is_redirected_first(plan: HostPlan, edge: Edge) -> bool:
    """Whether one redirect in front of all paths does the same as one for each: all want it, and none does something
    else before. One redirect is cheaper than many."""
    return all(
        wants_https(owned, edge, has_tls=plan.has_tls)
        and not owned.settings.denied
        and fixed_redirect(owned.settings) is None
        and next(audiences(owned.settings)) is EVERYBODY
        for owned in plan.locations
    )


def routes_of(ctx: Context, owned: Owned, rules: HostRules) -> Iterator[Route]:
    """The routes of a path, in match order. Empty for a path without backend that does nothing but answer 404."""
    yield from _routes_as_matched(ctx, owned, rules)
    # Other spellings of a protected path would be answered by another path.
    others = other_spellings(owned.match) if rules.guarded and _protection(owned) else None
    if others is not None:
        guard = f"other spellings of {owned.match.value}"
        for route in _routes_as_matched(ctx, msgspec.structs.replace(owned, match=others), rules):
            yield msgspec.structs.replace(route, guard=guard)


def _routes_as_matched(ctx: Context, owned: Owned, rules: HostRules) -> Iterator[Route]:
    for audience in audiences(owned.settings):
        yield from _Maker(ctx, owned, rules, audience).routes()


def is_guarded(plan: HostPlan) -> bool:
    """Whether some paths of the host are protected in another way than others."""
    paths = [owned for owned in plan.locations if not owned.implicit or owned.location.backend is not None]
    return len({_protection(owned) for owned in paths}) > 1


def _protection(owned: Owned) -> tuple[tuple[str, ...], ...]:
    settings = owned.settings
    lists = (settings.get(ALLOWLIST_SOURCE_RANGE), settings.get(DENYLIST_SOURCE_RANGE), settings.denied)
    return lists if any(lists) else ()


def route_name(owned: Owned) -> str:
    """How a path's routes are called in access logs and metrics."""
    return f"Ingress/{owned.ingress.namespace}/{owned.ingress.name}"


def source_of(owned: Owned) -> Source:
    """The declaration behind a path's routes."""
    return Source(object=owned.ingress, field=owned.location.field)


class _Maker:
    """Makes the routes of a path for one audience."""

    def __init__(self, ctx: Context, owned: Owned, rules: HostRules, audience: Audience) -> None:
        self.ctx = ctx
        self.owned = owned
        self.settings = owned.settings
        self.rules = rules
        self.audience = audience

    def routes(self) -> Iterator[Route]:
        if self.audience.allowed:
            yield self._route(PREFLIGHT, method="OPTIONS")
        fixed = fixed_redirect(self.settings)
        if fixed is not None:
            yield self._route(fixed.action, response_headers=fixed.response_headers)
            return
        if self.settings.denied:
            yield self._route(Respond(status=UNAVAILABLE, reason="; ".join(self.settings.denied)))
            return
        https_only = wants_https(self.owned, self.rules.edge, has_tls=self.rules.has_tls)
        if https_only and not self.rules.redirected:
            for answer in answers(self.rules.https, self.owned.match):
                matches = (by_scheme("http"), *answer.matches)
                yield self._route(answer.action, headers=matches, response_headers=answer.response_headers)
        yield from self._forwards(https_only=https_only)

    def _forwards(self, *, https_only: bool) -> Iterator[Route]:
        backend = self.owned.location.backend
        place = place_of(self.ctx, self.owned.ingress.namespace, backend) if backend is not None else _NO_BACKEND
        fallback = self._fallback(place)
        if fallback is not None:
            yield self._route(fallback, request_headers=self._error_fields(), access=self._access())
            return
        if place.upstream is None:
            access = self._access() if place.status == NOT_FOUND else None
            if not (self.owned.implicit and backend is None and self.audience == EVERYBODY and access is None):
                yield self._route(Respond(status=place.status, reason=place.problem), access=access)
            return
        edits = request_edits(self.settings, self.owned.location)
        for https, matches in self._schemes(https_only=https_only):
            for choice in self._choices(https=https):
                yield self._route(
                    self._forward(place, choice, https=https),
                    headers=(*matches, *choice.headers),
                    cookies=choice.cookies,
                    request_headers=edits,
                    access=self._access(),
                    max_body_bytes=self.settings.get(PROXY_BODY_SIZE),
                )

    def _schemes(self, *, https_only: bool) -> Iterator[tuple[bool, tuple[ValueMatch, ...]]]:
        """(over HTTPS, how that is matched)"""
        if https_only or not depends_on_scheme(self.settings):
            yield https_only, ()
            return
        yield True, (by_scheme("https"),)
        yield False, ()

    def _choices(self, *, https: bool) -> Iterator[Choice]:
        canary = self._canary(https=https)
        if canary is None or self.owned.canary is None:
            yield ALL_TO_PRIMARY
        else:
            yield from choices(self.owned.canary.settings, side_cookie_name(self.settings))

    def _canary(self, *, https: bool) -> WeightedUpstream | None:
        """Where the canary's share goes; `None`: there is none that could answer, its requests stay with the
        primary."""
        canary = self.owned.canary
        if canary is None or canary.location.backend is None or canary.settings.denied:
            return None
        place = place_of(self.ctx, canary.ingress.namespace, canary.location.backend)
        if place.upstream is None:
            return None
        upstream = with_settings(place.upstream, upstream_settings(self._canary_settings(canary.settings), https=https))
        if not self.ctx.get(can_answer, place.upstream):
            return None
        return WeightedUpstream(upstream=upstream, source=source_of(canary))

    def _on_side(self, share: WeightedUpstream, side: str, *, https: bool) -> WeightedUpstream:
        """The share, telling clients with sticky sessions which side they are on."""
        if not side_cookie_name(self.settings):
            return share
        cookie = side_cookie(self.settings, self.owned.location, side, https=https)
        return msgspec.structs.replace(share, response_headers=HeaderEdits(add=(("set-cookie", cookie),)))

    def _canary_settings(self, canary: Settings) -> Settings:
        """The primary's, but for the ways of balancing that the canary has itself."""
        names = (LOAD_BALANCE.name, UPSTREAM_HASH_BY.name)
        own = {name: canary.values[name] for name in names if name in canary.values}
        return msgspec.structs.replace(self.settings, values={**self.settings.values, **own})

    def _forward(self, place: Place, choice: Choice, *, https: bool) -> Forward:
        assert place.upstream is not None  # noqa: S101 - the caller has looked
        upstream = with_settings(place.upstream, upstream_settings(self.settings, https=https))
        primary = WeightedUpstream(upstream=upstream, weight=choice.total - choice.weight)
        canary = self._canary(https=https) if choice.weight else None
        sides = [(SIDE_PRIMARY, primary)]
        if canary is not None:
            sides.append((SIDE_CANARY, msgspec.structs.replace(canary, weight=choice.weight)))
        shares = tuple(
            share if choice.bound else self._on_side(share, side, https=https) for side, share in sides if share.weight
        )
        if len(shares) == 1:
            shares = (msgspec.structs.replace(shares[0], weight=1),)
        found = stickiness(self.settings, self.owned.location, https=https)
        return Forward(
            upstreams=shares,
            unusable_status=UNAVAILABLE,
            path=path_rewrite(self.settings, self.owned.location),
            host=self.settings.get(UPSTREAM_VHOST),
            idle_timeout=idle_timeout(self.settings, self.rules.edge),
            retry=retry_policy(self.settings, self.rules.edge),
            hash=found.hash,
            sticky=found.sticky,
        )

    def _fallback(self, place: Place) -> Forward | None:
        """The Service of `default-backend`, where the path's own cannot answer."""
        name = self.settings.get(DEFAULT_BACKEND)
        if not name or place.status == NOT_FOUND:
            return None
        if place.upstream is not None and self.ctx.get(can_answer, place.upstream):
            return None
        stand_in = first_port(self.ctx, self.owned.ingress.namespace, name)
        if stand_in.upstream is None:
            return None
        root = PathRewrite(kind=PathRewriteKind.FULL, value="/")
        return Forward(upstreams=(WeightedUpstream(upstream=stand_in.upstream),), path=root)

    def _error_fields(self) -> HeaderEdits:
        """What ingress-nginx tells an error backend."""
        service = self.owned.location.backend.service if self.owned.location.backend is not None else None
        fields = [
            ("x-code", str(UNAVAILABLE)),
            ("x-namespace", self.owned.ingress.namespace),
            ("x-ingress-name", self.owned.ingress.name),
        ]
        if service is not None:
            fields.append(("x-service-name", service.name))
            fields.append(("x-service-port", service.port.name or str(service.port.number)))
        return HeaderEdits(
            set=tuple(fields), formatted=(("x-format", "%REQ(ACCEPT)%"), ("x-original-uri", "%REQ(:PATH)%"))
        )

    def _access(self) -> AccessList | None:
        allow, deny = self.settings.get(ALLOWLIST_SOURCE_RANGE), self.settings.get(DENYLIST_SOURCE_RANGE)
        return AccessList(allow=allow, deny=deny) if allow or deny else None

    def _route(
        self,
        action: Action,
        *,
        method: str = "",
        headers: tuple[ValueMatch, ...] = (),
        cookies: tuple[ValueMatch, ...] = (),
        request_headers: HeaderEdits = NO_EDITS,
        response_headers: HeaderEdits = NO_EDITS,
        access: AccessList | None = None,
        max_body_bytes: int = 0,
    ) -> Route:
        return Route(
            name=route_name(self.owned),
            match=RouteMatch(
                path=self.owned.match, method=method, headers=(*self.audience.matches, *headers), cookies=cookies
            ),
            action=action,
            request_headers=request_headers,
            response_headers=_joined(self.audience.response_headers, response_headers),
            access=access,
            max_body_bytes=max_body_bytes,
            source=source_of(self.owned),
        )


def _joined(one: HeaderEdits, other: HeaderEdits) -> HeaderEdits:
    if not other:
        return one
    if not one:
        return other
    return HeaderEdits(
        set=(*one.set, *other.set),
        formatted=(*one.formatted, *other.formatted),
        if_absent=(*one.if_absent, *other.if_absent),
    )
