"""The rules of an HTTPRoute or GRPCRoute as lines of a match table, whichever hosts and listeners they end up at.

What depends on the listener (the port of a redirect) is left open in an `Entry`, so that a route is compiled once for
all places where it is attached.

Source: Gateway API, `HTTPRouteSpec.rules`, `GRPCRouteSpec.rules`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from portway.incremental import Context, query
from portway.model.names import SecretKey
from portway.model.route import (
    Action,
    Forward,
    PathKind,
    PathRewriteKind,
    Redirect,
    Respond,
    Route,
    RouteMatch,
    Source,
)
from portway.objects.grpcroute_v1 import GRPCRoute, GRPCRouteMatch, GRPCRouteRule
from portway.objects.httproute_v1 import HTTPRequestRedirectFilter, HTTPRoute, HTTPRouteMatch, HTTPRouteRule
from portway.objects.verdict import ObjectKey
from portway.store import read_object
from portway.translate.gateway import backends, findings
from portway.translate.gateway.actions import (
    Backends,
    backends_of,
    branches,
    forward_of,
    persistence_problem,
    sticky_of,
)
from portway.translate.gateway.backends import Use
from portway.translate.gateway.filters import Filtered, filtered, path_rewrite
from portway.translate.gateway.findings import Problem
from portway.translate.gateway.matches import BadMatch, Match, Rank, grpc_match, http_match
from portway.translate.sockets import Age, age_of


class RulesKey(NamedTuple):
    """A route, compiled for Gateways with this client certificate."""

    route: ObjectKey
    certificate: SecretKey | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a match table, not yet bound to a listener."""

    rank: Rank
    route: Route
    redirect: HTTPRequestRedirectFilter | None = None
    """Set: the route's action is a redirect whose port depends on the listener."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled route."""

    age: Age
    entries: tuple[Entry, ...] = ()
    """Best match first."""
    problems: tuple[Problem, ...] = ()


class _Rule(NamedTuple):
    """One rule on its way."""

    route: ObjectKey
    name: str | None
    field: str
    matches: Sequence[Match | BadMatch]
    filters: Filtered
    backends: Backends
    forward: Forward
    problems: tuple[Problem, ...]
    """Of the rule's other parts."""


@query("rules of a route")
def rules_of(ctx: Context, key: RulesKey) -> Rules | None:
    """The compiled rules of an HTTPRoute or GRPCRoute; `None` if it is gone."""
    if key.route.kind == "HTTPRoute":
        http = read_object(ctx, HTTPRoute, key.route.namespace, key.route.name)
        if http is None:
            return None
        rules = [_http_rule(ctx, key, index, rule) for index, rule in enumerate(http.spec.rules)]
        return _compiled(age_of(http.metadata), rules)
    grpc = read_object(ctx, GRPCRoute, key.route.namespace, key.route.name)
    if grpc is None:
        return None
    return _compiled(
        age_of(grpc.metadata), [_grpc_rule(ctx, key, index, rule) for index, rule in enumerate(grpc.spec.rules)]
    )


def _http_rule(ctx: Context, key: RulesKey, index: int, rule: HTTPRouteRule) -> _Rule:
    field = f"spec.rules[{index}]"
    sticky = rule.session_persistence is not None and sticky_of(rule.session_persistence) is not None
    settings = backends.STICKY_SETTINGS if sticky else backends.HTTP_SETTINGS
    use = Use(route=key.route, settings=settings, certificate=key.certificate, consequence="requests to it answer 500")
    filters = filtered(ctx, rule.filters, field, use, of_backend=False)
    return _Rule(
        key.route,
        rule.name,
        field,
        [http_match(match) for match in rule.matches or (HTTPRouteMatch(),)],
        filters,
        backends_of(ctx, rule.backend_refs, field, use, Source(object=key.route)),
        forward_of(rule, filters),
        persistence_problem(rule.session_persistence, field),
    )


def _grpc_rule(ctx: Context, key: RulesKey, index: int, rule: GRPCRouteRule) -> _Rule:
    field = f"spec.rules[{index}]"
    sticky = None if rule.session_persistence is None else sticky_of(rule.session_persistence)
    settings = backends.GRPC_SETTINGS if sticky is None else backends.STICKY_GRPC_SETTINGS
    use = Use(route=key.route, settings=settings, certificate=key.certificate, consequence="requests to it answer 500")
    return _Rule(
        key.route,
        rule.name,
        field,
        [grpc_match(match) for match in rule.matches or (GRPCRouteMatch(),)],
        filtered(ctx, rule.filters, field, use, of_backend=False),
        backends_of(ctx, rule.backend_refs, field, use, Source(object=key.route)),
        Forward(upstreams=(), sticky=sticky),
        persistence_problem(rule.session_persistence, field),
    )


def _compiled(age: Age, rules: Iterable[_Rule]) -> Rules:
    entries: list[Entry] = []
    problems: list[Problem] = []
    sound = False
    for rule in rules:
        made, bad = _entries(rule)
        found = (*bad, *rule.filters.problems, *rule.backends.problems, *rule.problems)
        entries += made
        problems += found
        sound = (
            sound or not any(problem.condition == findings.ACCEPTED for problem in found) or _still_serves(rule, made)
        )
    if sound:
        # Part of the route works: it is accepted, and partially invalid.
        problems = [_partial(problem) if problem.condition == findings.ACCEPTED else problem for problem in problems]
    # Stable: of equal matches the earlier rule stays first.
    entries.sort(key=lambda entry: entry.rank)
    return Rules(age=age, entries=tuple(entries), problems=tuple(problems))


def _still_serves(rule: _Rule, made: Sequence[Entry]) -> bool:
    """Whether a rule with unsupported parts does what its owner meant for some requests."""
    return bool(made) and not rule.filters.refused and any(isinstance(entry.route.action, Forward) for entry in made)


def _partial(problem: Problem) -> Problem:
    return msgspec.structs.replace(problem, condition=findings.PARTIALLY_INVALID, reason="UnsupportedValue")


def _entries(rule: _Rule) -> tuple[list[Entry], list[Problem]]:
    """The lines of one rule, and its matches that had to be left out."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    name = f"{rule.route.kind}/{rule.route.namespace}/{rule.route.name}" + (f"/{rule.name}" if rule.name else "")
    for index, match in enumerate(rule.matches):
        place = f"{rule.field}.matches[{index}]"
        if isinstance(match, BadMatch):
            problems.append(
                Problem(
                    condition=findings.ACCEPTED,
                    reason="UnsupportedValue",
                    field=f"{place}.{match.field}",
                    message=f"the value {match.problem}; the match is left out",
                    remedy=match.remedy,
                )
            )
            continue
        source = Source(object=rule.route, field=place)
        for action, routed in _actions(rule, match.match):
            entries.append(
                Entry(
                    rank=match.rank,
                    route=Route(
                        name=name,
                        match=routed,
                        action=action,
                        request_headers=rule.filters.request_headers,
                        response_headers=rule.filters.response_headers,
                        cors=rule.filters.cors,
                        auth=rule.filters.auth,
                        # Browsers cannot speak gRPC itself; to those that can it makes no difference.
                        grpc_web=rule.route.kind == "GRPCRoute" and isinstance(action, Forward),
                        source=source,
                    ),
                    redirect=rule.filters.redirect if isinstance(action, Redirect) else None,
                )
            )
    return entries, problems


def _actions(rule: _Rule, match: RouteMatch) -> list[tuple[Action, RouteMatch]]:
    """What happens to the requests of one match; several where backends need routes of their own."""
    filters = rule.filters
    if filters.refused:
        return [(Respond(status=500, reason=filters.refused), match)]
    if filters.redirect is not None:
        path = None if filters.redirect.path is None else path_rewrite(filters.redirect.path)
        if path is not None and path.kind is PathRewriteKind.PREFIX and match.path.kind is not PathKind.PREFIX:
            return [(_NO_PREFIX, match)]
        return [(Redirect(status=filters.redirect.status_code, path=path), match)]
    shares = rule.backends.shares
    if not shares:
        return [(Respond(status=500, reason="no backend"), match)]
    if all(share.upstream.upstream is None for share in shares):
        return [(Respond(status=500, reason="no backend can be used"), match)]
    result: list[tuple[Action, RouteMatch]] = []
    for branch in branches(shares, rule.forward, filters):
        routed = match if branch.share is None else msgspec.structs.replace(match, share=branch.share)
        path = branch.forward.path
        if path is not None and path.kind is PathRewriteKind.PREFIX and match.path.kind is not PathKind.PREFIX:
            result.append((_NO_PREFIX, routed))
        elif all(upstream.upstream is None for upstream in branch.forward.upstreams):
            result.append((Respond(status=500, reason="no backend can be used"), routed))
        else:
            result.append((branch.forward, routed))
    return result


_NO_PREFIX = Respond(status=500, reason="ReplacePrefixMatch without a PathPrefix match")
"""The API server refuses such a rule (CEL); one from elsewhere must not do something else than its owner meant."""
