"""Proxies of a replica that cannot read look for another one: soon, seldom where there is none, few in a moment."""

import random
from collections import Counter
from itertools import pairwise

import pytest

from portway.xds.drift import LONGEST, SHORTEST, Drift

LOOK = 0.5
"""Seconds between two looks."""


def moments(drift: Drift[str], *streams: str, until: float, since: float = 0.0) -> list[tuple[float, str]]:
    """When which stream is to end, if each proxy comes back at once to the same replica."""
    found = []
    now = since
    lives = dict.fromkeys(streams, 0)
    while now < until:
        for life in drift.due([f"{stream}#{number}" for stream, number in lives.items()], now):
            name = life.partition("#")[0]
            lives[name] += 1
            found.append((now - since, name))
        now += LOOK
    return found


def test_nobody_is_sent_away_for_a_moment_without_the_api_server() -> None:
    drift = Drift[str]()
    assert moments(drift, "a", "b", until=SHORTEST) == []
    assert drift.sent == 0


def test_each_stream_ends_once_however_long_its_end_takes() -> None:
    drift = Drift[str]()
    found = [one for now in range(60) for one in drift.due(["a", "b", "c"], float(now))]
    assert sorted(found) == ["a", "b", "c"]
    assert drift.sent == 3


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_the_pauses_grow_and_have_an_end(chance: float) -> None:
    times = [time for time, _ in moments(Drift(lambda: chance), "a", until=7200.0)]
    pauses = [later - earlier for earlier, later in pairwise([0.0, *times])]
    assert SHORTEST <= pauses[0] <= 2 * SHORTEST
    assert all(one <= other + LOOK for one, other in pairwise(pauses))
    assert all(LONGEST / 2 <= pause <= LONGEST + LOOK for pause in pauses[-5:])


def test_few_come_in_a_moment() -> None:
    dice = random.Random(1)
    found = moments(Drift(dice.random), *map(str, range(500)), until=300.0)
    most = max(Counter(int(time) for time, _ in found).values())
    assert most < 30, "ten in a second on average"
    assert {name for time, name in found if time < 60} == set(map(str, range(500)))


def test_most_find_the_better_one_of_two_replicas_soon() -> None:
    dice = random.Random(1)
    drift = Drift[str](dice.random)
    here = {str(number): 0 for number in range(50)}
    left: dict[float, int] = {}
    for now in (LOOK * step for step in range(200)):
        for life in drift.due([f"{name}#{number}" for name, number in here.items()], now):
            name = life.partition("#")[0]
            here[name] += 1
            if dice.random() < 0.5:
                del here[name]
        left[now] = len(here)
    assert left[5.0] > 45
    assert left[15.0] < 30
    assert left[30.0] < 12
    assert left[99.5] < 3


def test_who_comes_later_may_stay_for_as_long_as_others_that_come_back() -> None:
    drift = Drift[str](lambda: 0.5)
    drift.due(["a"], 0.0)
    assert drift.due(["new"], 400.0) == []
    assert drift.due(["new"], 400.0 + 149.0) == []
    assert drift.due(["new"], 400.0 + 151.0) == ["new"]


def test_all_begins_anew_when_the_api_server_is_back() -> None:
    drift = Drift[str](lambda: 0.0)
    before = moments(drift, "a", until=1000.0)
    drift.end()
    assert drift.sent == 0
    assert moments(drift, "a", since=5000.0, until=6000.0) == before
