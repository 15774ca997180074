"""Another version of all proxies goes to a few fleets at a time."""

from portway.infra.kubernetes.manifests import DEPLOYMENT, Ref
from portway.infra.kubernetes.rolls import AT_ONCE, DEADLINE, Rolls
from portway.infra.kubernetes.seen import Seen


def workload(*, updated: int = 2, ready: int = 2, wanted: int = 2, rolling: bool = False) -> Seen:
    return Seen(
        ref=Ref(DEPLOYMENT, "shop", "portway-web"),
        uid="1",
        fleet="gateway/shop/web",
        controller="ours",
        body=b"",
        is_rolling=rolling,
        updated=updated,
        ready=ready,
        wanted=wanted,
    )


def started(rolls: Rolls, *fleets: str, now: float = 0.0) -> list[str]:
    """Those that get a turn."""
    found = [fleet for fleet in fleets if rolls.take(fleet, len(fleets), now)]
    for fleet in found:
        rolls.started(fleet, now)
    return found


def test_a_few_at_a_time_and_then_the_next_in_line() -> None:
    rolls = Rolls()
    assert started(rolls, *"abcdef") == ["a", "b", "c"]
    assert (rolls.rolling, rolls.waiting, rolls.next(6)) == (AT_ONCE, 3, [])
    assert rolls.look("b", workload(updated=1, rolling=True), 1.0) is False
    assert rolls.look("b", workload(), 2.0) is True
    assert rolls.next(6) == ["d"]
    assert started(rolls, "d") == ["d"]
    assert (rolls.is_waiting("d"), rolls.is_waiting("e")) == (False, True)


def test_of_many_fleets_a_tenth() -> None:
    rolls = Rolls()
    names = [f"fleet-{number}" for number in range(200)]
    assert len(started(rolls, *names)) == 20


def test_what_is_there_before_the_update_does_not_count_as_its_end() -> None:
    rolls = Rolls()
    assert rolls.take("a", 1, 0.0)
    assert rolls.look("a", workload(), 0.1) is False
    assert rolls.rolling == 1


def test_a_new_proxy_that_is_not_ready_is_not_the_end() -> None:
    """Of a DaemonSet with one proxy, it is the newest one as soon as it has been made."""
    rolls = Rolls()
    started(rolls, "a")
    assert rolls.look("a", workload(updated=1, ready=0, wanted=1), 1.0) is False
    assert rolls.look("a", workload(updated=1, ready=1, wanted=1), 2.0) is True


def test_a_fleet_that_is_scaled_to_nothing_is_done() -> None:
    rolls = Rolls()
    started(rolls, "a")
    assert rolls.look("a", workload(updated=0, ready=0, wanted=0), 1.0) is True


def test_without_progress_the_next_one_follows_until_it_is_done_after_all() -> None:
    rolls = Rolls()
    started(rolls, *"abcd")
    assert rolls.look("a", workload(updated=0, ready=2, rolling=True), 1.0) is False
    assert rolls.look("a", workload(updated=1, ready=2, rolling=True), DEADLINE) is False
    assert rolls.deadline("a") == 2 * DEADLINE
    # A proxy that comes and goes is no progress.
    assert rolls.look("a", workload(updated=1, ready=1, rolling=True), 2 * DEADLINE - 1) is False
    assert rolls.look("a", workload(updated=1, ready=2, rolling=True), 2 * DEADLINE) is True
    assert (rolls.is_stuck("a"), rolls.next(4)) == (True, ["d"])
    assert rolls.look("a", workload(), 3 * DEADLINE) is False
    assert not rolls.is_stuck("a")


def test_what_the_owners_of_some_fleets_say_stands_in_no_line_but_theirs() -> None:
    rolls = Rolls()
    started(rolls, *"abcd")
    own = [rolls.take(fleet, 9, 0.0, "FleetParameters shop/big") for fleet in "efgh"]
    assert own == [True, True, True, False]
    assert rolls.take("i", 9, 0.0, "i")
    assert (rolls.rolling, rolls.waiting, rolls.next(9)) == (7, 2, [])
    rolls.forget("e")
    assert rolls.next(9) == ["h"]
    rolls.forget("a")
    assert rolls.next(9) == ["d", "h"]


def test_a_fleet_that_has_its_turn_is_changed_again_at_once() -> None:
    rolls = Rolls()
    started(rolls, *"abc")
    # What its owner says too goes with what concerns all, and keeps that turn taken.
    assert rolls.take("a", 9, 1.0, "a")
    assert not rolls.take("d", 9, 1.0)
    # The other way round it has to stand in line with the others.
    assert rolls.take("e", 9, 1.0, "e")
    assert rolls.take("e", 9, 1.0, "e")
    assert not rolls.take("e", 9, 1.0)


def test_what_another_leader_began_counts() -> None:
    rolls = Rolls()
    for fleet in "abc":
        rolls.started(fleet, 0.0)
    assert started(rolls, "d") == []


def test_a_fleet_that_nobody_wants_frees_its_turn() -> None:
    rolls = Rolls()
    started(rolls, *"abcd")
    rolls.forget("a")
    assert rolls.next(3) == ["d"]
    rolls.leave("d")
    assert rolls.next(3) == []
