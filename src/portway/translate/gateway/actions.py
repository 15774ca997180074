"""What a rule does with the requests that it matches: forward, redirect or refuse.

Source: Gateway API, `HTTPRouteRule` (backendRefs, timeouts, retry), GEP-1731 (retry), GEP-1619 (session persistence).
"""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import msgspec

from portway.incremental import Context
from portway.model.route import (
    Forward,
    Fraction,
    Mirror,
    PathRewrite,
    RetryCause,
    RetryPolicy,
    Source,
    StickyCookie,
    WeightedUpstream,
)
from portway.objects.filters_v1 import CookieLifetimeType, SessionPersistence, SessionPersistenceType
from portway.objects.grpcroute_v1 import GRPCBackendRef
from portway.objects.httproute_v1 import HTTPBackendRef, HTTPRouteRetry, HTTPRouteRule, HTTPRouteTimeouts
from portway.objects.problems import quoted
from portway.objects.verdict import Severity
from portway.translate.gateway import backends
from portway.translate.gateway.backends import Use
from portway.translate.gateway.filters import Filtered, filtered
from portway.translate.gateway.findings import Problem

SESSION_COOKIE = "portway-session"
"""Name of the cookie where the route leaves it to the implementation."""

_PERMILLION = 1_000_000


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A backend with what its own filters say."""

    upstream: WeightedUpstream
    path: PathRewrite | None = None
    mirrors: tuple[Mirror, ...] = ()


class Backends(msgspec.Struct, frozen=True, kw_only=True):
    """The backends of one rule, those with weight 0 left out."""

    shares: tuple[Share, ...]
    problems: tuple[Problem, ...]


def backends_of(
    ctx: Context, references: Sequence[HTTPBackendRef | GRPCBackendRef], field: str, use: Use, source: Source
) -> Backends:
    """Resolve the backendRefs of a rule."""
    shares: list[Share] = []
    problems: list[Problem] = []
    for index, reference in enumerate(references):
        place = f"{field}.backendRefs[{index}]"
        resolved = backends.resolve(ctx, reference, place, use)
        filters = filtered(ctx, reference.filters, place, use, of_backend=True)
        problems += (resolved.problem,) if resolved.problem is not None else ()
        problems += filters.problems
        if reference.weight == 0:
            continue
        shares.append(
            Share(
                upstream=WeightedUpstream(
                    upstream=None if filters.refused else resolved.upstream,
                    weight=reference.weight,
                    request_headers=filters.request_headers,
                    response_headers=filters.response_headers,
                    host=filters.host,
                    source=msgspec.structs.replace(source, field=place),
                ),
                path=filters.path,
                mirrors=filters.mirrors,
            )
        )
    return Backends(shares=tuple(shares), problems=tuple(problems))


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """One route out of a rule's match: all requests, or the share that a backend with settings of its own gets."""

    forward: Forward
    share: Fraction | None = None


def branches(shares: Sequence[Share], forward: Forward, rule: Filtered) -> tuple[Branch, ...]:
    """Divide a rule's requests among its backends.

    One route does while the backends differ in what a weighted upstream can carry. A path rewrite or a mirror belongs
    to a whole route, so where those differ each backend gets a route of its own. Proxies draw one number per request
    for all fractions, so the shares are cumulative thresholds, and the last route takes the rest.

    Args:
        shares: at least one.
        forward: what the rule says for all of them; `upstreams` is empty.
        rule: the rule's own filters.
    """
    if len({(share.path, share.mirrors) for share in shares}) == 1:
        upstreams = tuple(share.upstream for share in shares)
        return (Branch(forward=_with(forward, upstreams, shares[0], rule)),)
    total = sum(share.upstream.weight for share in shares)
    result: list[Branch] = []
    before = 0
    for share in shares[:-1]:
        before += share.upstream.weight
        threshold = Fraction(numerator=round(before * _PERMILLION / total), denominator=_PERMILLION)
        result.append(Branch(forward=_with(forward, (share.upstream,), share, rule), share=threshold))
    result.append(Branch(forward=_with(forward, (shares[-1].upstream,), shares[-1], rule)))
    return tuple(result)


def _with(forward: Forward, upstreams: tuple[WeightedUpstream, ...], share: Share, rule: Filtered) -> Forward:
    return msgspec.structs.replace(
        forward, upstreams=upstreams, path=share.path or rule.path, mirrors=rule.mirrors + share.mirrors
    )


def forward_of(rule: HTTPRouteRule, filters: Filtered) -> Forward:
    """What an HTTPRoute's rule says for all its backends."""
    timeouts = rule.timeouts or HTTPRouteTimeouts()
    request, each = _limit(timeouts.request), _limit(timeouts.backend_request)
    retry = None if rule.retry is None else retry_of(rule.retry, each)
    if retry is None and each is not None:
        # Without retries of its own the rule has one try, so what bounds a try bounds the exchange.
        request = each if request is None else min(request, each)
    return Forward(
        upstreams=(),
        host=filters.host,
        timeout=request,
        retry=retry,
        sticky=None if rule.session_persistence is None else sticky_of(rule.session_persistence),
    )


def _limit(declared: timedelta | None) -> timedelta | None:
    """A time limit; `0s` means none, as none given does."""
    return timedelta(seconds=declared.total_seconds()) if declared else None


def retry_of(declared: HTTPRouteRetry, per_try: timedelta | None) -> RetryPolicy:
    """Retries as a rule asks for them.

    Failed connections are always tried again, listed codes too, and for any method: who lists codes knows his
    application (RFC 9110 §9.2.2 leaves it to that). A try that took too long counts as 504.
    """
    causes = {RetryCause.CONNECT}
    if declared.codes:
        causes.add(RetryCause.STATUS)
    if 504 in declared.codes and per_try is not None:
        causes.add(RetryCause.TIMEOUT)
    return RetryPolicy(
        attempts=declared.attempts,
        causes=frozenset(causes),
        statuses=tuple(sorted(declared.codes)),
        per_try=per_try,
        backoff=_limit(declared.backoff),
        non_idempotent=bool(declared.codes),
    )


def persistence_problem(declared: SessionPersistence | None, field: str) -> tuple[Problem, ...]:
    """What of session persistence is not done; requests are served all the same."""
    if declared is None:
        return ()
    if declared.type is SessionPersistenceType.COOKIE:
        if declared.cookie is None or _is_cookie_path(declared.cookie.path):
            return ()
        return (
            Problem(
                condition="",
                reason="UnsupportedValue",
                field=f"{field}.sessionPersistence.cookie.path",
                message=f"{quoted(declared.cookie.path)} is no path of a cookie; the cookie is set for /",
                remedy="write a path from /, without semicolons, spaces and control characters",
                severity=Severity.WARNING,
            ),
        )
    return (
        Problem(
            condition="",
            reason="UnsupportedValue",
            field=f"{field}.sessionPersistence.type",
            message="sessions by header are not supported; requests are balanced without persistence",
            remedy="use type Cookie",
            severity=Severity.WARNING,
        ),
    )


def sticky_of(declared: SessionPersistence) -> StickyCookie | None:
    """Session persistence by cookie; `None` for the header variant."""
    if declared.type is not SessionPersistenceType.COOKIE:
        return None
    cookie = declared.cookie
    permanent = cookie is not None and cookie.lifetime_type is CookieLifetimeType.PERMANENT
    return StickyCookie(
        name=(cookie.name if cookie is not None else None) or SESSION_COOKIE,
        path=cookie.path if cookie is not None and _is_cookie_path(cookie.path) else "/",
        ttl=(_limit(declared.absolute_timeout) or timedelta(0)) if permanent else timedelta(0),
        attributes=(("HttpOnly", ""),),
    )


_COOKIE_PATH: Final = re.compile(r"/[!-:<-~]*")
"""RFC 6265 §4.1.1, `path-value`, visible characters only: with others it would be a further attribute or header."""


def _is_cookie_path(path: str) -> bool:
    return _COOKIE_PATH.fullmatch(path) is not None
