"""Tables of the small parts: host names, conflicts, ranks, timeouts, retries, shares, redirects."""

import random
from datetime import timedelta
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.model.names import UpstreamKey, UpstreamKind
from portway.model.route import Forward, Fraction, PathRewrite, PathRewriteKind, RetryCause, WeightedUpstream
from portway.objects.gateway_v1 import Listener
from portway.objects.httproute_v1 import HTTPRouteMatch, HTTPRouteRetry, HTTPRouteRule
from portway.objects.scalars import decode_hook
from portway.objects.verdict import ObjectKey
from portway.translate.gateway.actions import Share, branches, forward_of, retry_of
from portway.translate.gateway.filters import NO_FILTERS, share_of
from portway.translate.gateway.hosts import covers, intersection, specificity, wider
from portway.translate.gateway.listeners import Family, ListenerPlan, plan_of, without_conflicts
from portway.translate.gateway.matches import Match, http_match

COVERS = {
    # wide, narrow: all names of the second in the first?
    ("*", "a.example"): True,
    ("*", "*.example"): True,
    ("*.example", "a.example"): True,
    ("*.example", "a.b.example"): True,  # the star stands for any number of labels
    ("*.example", "*.b.example"): True,
    ("*.example", "example"): False,
    ("*.example", "aexample"): False,
    ("*.example", "*"): False,
    ("*.b.example", "*.example"): False,
    ("a.example", "a.example"): True,
    ("a.example", "*.example"): False,
}


@pytest.mark.parametrize(("wide", "narrow"), COVERS)
def test_covers(wide: str, narrow: str) -> None:
    assert covers(wide, narrow) is COVERS[wide, narrow]


hosts = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map(".".join)
patterns = st.one_of(st.just("*"), hosts, hosts.map(lambda host: f"*.{host}"))


@given(patterns, patterns, hosts)
def test_an_intersection_has_the_names_that_both_have(one: str, other: str, host: str) -> None:
    common = intersection(one, other)
    assert intersection(other, one) == common
    assert (covers(one, host) and covers(other, host)) is (common is not None and covers(common, host))


@given(patterns, patterns)
def test_wider_patterns_are_those_that_cover_in_order(host: str, other: str) -> None:
    found = list(wider(host))
    assert found == sorted(found, key=specificity)
    assert (other in found) is (other != host and covers(other, host))


protocols = st.sampled_from(["HTTP", "HTTPS", "TLS", "TCP", "UDP", "X"])
offers = st.tuples(st.sampled_from([80, 81]), protocols, st.sampled_from(["", "a.example", "*.example"]))


def plans_of(owner: str, found: list[tuple[int, str, str]]) -> tuple[ListenerPlan, ...]:
    key = ObjectKey("Gateway" if owner == "gateway" else "ListenerSet", "shop", owner)
    gateway = ObjectKey("Gateway", "shop", "gateway")
    return tuple(
        plan_of(
            gateway, key, index, Listener(name=f"l{index}", port=port, protocol=protocol, hostname=hostname or None)
        )
        for index, (port, protocol, hostname) in enumerate(found)
    )


def can_share(one: ListenerPlan, other: ListenerPlan) -> bool:
    """The specification's rule for two listeners, said the short way."""
    if one.port != other.port:
        return True
    if Family.UNKNOWN in (one.family, other.family):
        return (one.protocol, one.hostname) != (other.protocol, other.hostname)
    if one.family is not other.family:
        return Family.UDP in (one.family, other.family)
    return one.family not in (Family.TCP, Family.UDP) and one.hostname != other.hostname


@given(st.lists(st.lists(offers, min_size=1, max_size=5), min_size=1, max_size=4))
def test_conflicts_leave_listeners_that_can_live_together(owners: list[list[tuple[int, str, str]]]) -> None:
    plans = [plans_of("gateway" if not number else f"set{number}", found) for number, found in enumerate(owners)]
    judged = without_conflicts(plans)
    assert [[plan.key for plan in each] for each in judged] == [[plan.key for plan in each] for each in plans]
    taken: list[ListenerPlan] = []
    for each in judged:
        left = [plan for plan in each if all(can_share(plan, other) for other in taken)]
        good = [plan for plan in left if all(can_share(plan, other) for other in left if other is not plan)]
        assert [plan for plan in each if not plan.conflict] == good
        taken += good


@given(st.lists(offers, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_siblings_does_not_matter(found: list[tuple[int, str, str]], shuffler: random.Random) -> None:
    plans = list(plans_of("gateway", found))
    shuffled = plans.copy()
    shuffler.shuffle(shuffled)
    (one,), (other,) = without_conflicts([plans]), without_conflicts([shuffled])
    assert {plan.key: plan.conflict for plan in one} == {plan.key: plan.conflict for plan in other}


RANKED = [
    # each comes before the next
    {"path": {"type": "Exact", "value": "/a"}},
    {"path": {"type": "RegularExpression", "value": "/a.*"}},
    {"path": {"value": "/long"}, "queryParams": [{"name": "q", "value": "1"}]},
    {"path": {"value": "/long"}},
    {"path": {"value": "/a/"}, "method": "GET", "headers": [{"name": "h", "value": "1"}]},  # as long as /a
    {"path": {"value": "/a"}, "method": "GET"},
    {"path": {"value": "/a"}, "headers": [{"name": "h", "value": "1"}, {"name": "i", "value": "1"}]},
    {"path": {"value": "/a"}, "headers": [{"name": "h", "value": "1"}], "queryParams": [{"name": "q", "value": "1"}]},
    {"path": {"value": "/a"}, "headers": [{"name": "h", "value": "1"}]},
    {"path": {"value": "/a"}, "queryParams": [{"name": "q", "value": "1"}, {"name": "r", "value": "1"}]},
    {"path": {"value": "/a"}, "queryParams": [{"name": "q", "value": "1"}]},
    {"path": {"value": "/a"}},
    {},
]


def test_better_matches_rank_first() -> None:
    matches = [http_match(msgspec.convert(raw, HTTPRouteMatch)) for raw in RANKED]
    ranks = [match.rank for match in matches if isinstance(match, Match)]
    assert len(ranks) == len(RANKED)
    assert all(one < other for one, other in pairwise(ranks))


TIMEOUTS = {
    # request, backendRequest, retried: whole exchange, one try
    (None, None, False): (None, None),
    ("5s", None, False): (5, None),
    (None, "500ms", False): (0.5, None),  # one try is all there is
    ("5s", "500ms", False): (0.5, None),
    ("0s", "500ms", False): (0.5, None),  # 0s: no limit
    ("0s", "0s", False): (None, None),
    ("15s", "500ms", True): (15, 0.5),
    (None, "500ms", True): (None, 0.5),
}


@pytest.mark.parametrize(("request_timeout", "backend", "retried"), TIMEOUTS)
def test_timeouts(request_timeout: str | None, backend: str | None, retried: bool) -> None:
    timeouts = {"request": request_timeout, "backendRequest": backend}
    raw: dict[str, object] = {"timeouts": {name: value for name, value in timeouts.items() if value is not None}}
    if retried:
        raw["retry"] = {"attempts": 3, "codes": [500]}
    rule = msgspec.convert(raw, HTTPRouteRule, dec_hook=decode_hook)
    forward = forward_of(rule, NO_FILTERS)
    whole, each = TIMEOUTS[request_timeout, backend, retried]
    assert forward.timeout == (None if whole is None else timedelta(seconds=whole))
    per_try = None if forward.retry is None else forward.retry.per_try
    assert per_try == (None if each is None else timedelta(seconds=each))


def test_retries_are_for_listed_codes_and_failed_connections() -> None:
    listed = retry_of(HTTPRouteRetry(codes=(503, 500), attempts=3), None)
    assert (listed.attempts, listed.statuses) == (3, (500, 503))
    assert listed.causes == {RetryCause.CONNECT, RetryCause.STATUS}
    assert retry_of(HTTPRouteRetry(), None).attempts == 1
    assert retry_of(HTTPRouteRetry(attempts=100), None).causes == {RetryCause.CONNECT}
    assert retry_of(HTTPRouteRetry(attempts=0), None).attempts == 0
    assert RetryCause.TIMEOUT in retry_of(HTTPRouteRetry(codes=(504,)), timedelta(seconds=1)).causes


def share(name: str, weight: int, path: str = "") -> Share:
    upstream = UpstreamKey(UpstreamKind.SERVICE, "shop", name, 80)
    rewrite = PathRewrite(kind=PathRewriteKind.FULL, value=path) if path else None
    return Share(upstream=WeightedUpstream(upstream=upstream, weight=weight), path=rewrite)


def test_backends_with_equal_paths_share_a_route() -> None:
    (branch,) = branches([share("a", 1, "/x"), share("b", 3, "/x")], Forward(upstreams=()), NO_FILTERS)
    assert branch.share is None
    assert [each.weight for each in branch.forward.upstreams] == [1, 3]


@given(st.lists(st.integers(1, 1_000_000), min_size=2, max_size=16))
def test_thresholds_add_up_to_the_weights(weights: list[int]) -> None:
    shares = [share(f"s{number}", weight, f"/{number}") for number, weight in enumerate(weights)]
    found = branches(shares, Forward(upstreams=()), NO_FILTERS)
    assert [branch.share is None for branch in found] == [False] * (len(weights) - 1) + [True]
    before = 0.0
    for branch, weight in zip(found, weights, strict=True):
        threshold = 1.0 if branch.share is None else branch.share.numerator / branch.share.denominator
        assert threshold - before == pytest.approx(weight / sum(weights), abs=2e-6)
        before = threshold


FRACTIONS = {
    (1, 100): Fraction(numerator=1, denominator=100),
    (25, 50): Fraction(numerator=50, denominator=100),
    (1, 1000): Fraction(numerator=10, denominator=10_000),
    (0, 7): Fraction(numerator=0, denominator=100),
    (1, 3): Fraction(numerator=333_333, denominator=1_000_000),
}


@pytest.mark.parametrize(("numerator", "denominator"), FRACTIONS)
def test_fractions_take_denominators_that_proxies_know(numerator: int, denominator: int) -> None:
    assert share_of(numerator, denominator) == FRACTIONS[numerator, denominator]
