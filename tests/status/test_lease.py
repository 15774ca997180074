"""Who leads, as a dialogue of candidates with a Lease. Time is a number; each candidate has a clock of its own."""

from datetime import UTC, datetime, timedelta

import pytest

from portway.status.lease import (
    ADDRESS,
    LeaseSettings,
    Move,
    Observer,
    new_lease,
    read_lease,
    released_lease,
    written_lease,
)
from portway.status.raw import Raw, as_map

SETTINGS = LeaseSettings()
WALL = datetime(2026, 1, 1, tzinfo=UTC)
FREE = new_lease("portway", "portway", {"a": "b"})


def renewed(lease: Raw, identity: str, seconds: float = 0, address: str = "10.0.0.1:18002") -> Raw:
    return written_lease(lease, identity, address, SETTINGS, WALL + timedelta(seconds=seconds))


def test_a_free_lease_is_taken() -> None:
    assert Observer("a", SETTINGS).saw(FREE, 0) is Move.TAKE


def test_who_holds_it_renews_it() -> None:
    assert Observer("a", SETTINGS).saw(renewed(FREE, "a"), 0) is Move.RENEW


def test_a_lease_is_free_when_it_has_not_moved_for_its_duration() -> None:
    observer = Observer("b", SETTINGS)
    lease = renewed(FREE, "a")
    assert observer.saw(lease, 100) is Move.WAIT
    assert observer.saw(lease, 114.9) is Move.WAIT
    assert observer.saw(lease, 115) is Move.TAKE


def test_each_renewal_that_is_seen_begins_the_wait_anew() -> None:
    observer = Observer("b", SETTINGS)
    lease: Raw = FREE
    for second in range(0, 100, 2):
        lease = renewed(lease, "a", second)
        assert observer.saw(lease, second) is Move.WAIT
    assert observer.ends_at == 98 + 15


@pytest.mark.parametrize("offset", [-10_000_000, -60, 0, 60, 10_000_000])
def test_clocks_of_others_do_not_matter(offset: float) -> None:
    """The holder's clock is years off, or jumps: only that the Lease changes counts."""
    observer = Observer("b", SETTINGS)
    lease = renewed(FREE, "a", offset)
    assert observer.saw(lease, 0) is Move.WAIT
    assert observer.saw(lease, 14) is Move.WAIT
    lease = renewed(lease, "a", 1 - offset)
    assert observer.saw(lease, 14.5) is Move.WAIT
    assert observer.move(29) is Move.WAIT
    assert observer.move(29.5) is Move.TAKE


def test_a_lease_that_is_given_up_is_free_at_once_and_names_no_address() -> None:
    held = renewed(FREE, "a")
    assert read_lease(held).address == "10.0.0.1:18002"
    given_up = released_lease(held, WALL)
    assert Observer("b", SETTINGS).saw(given_up, 0) is Move.TAKE
    assert read_lease(given_up).address == ""


def test_transitions_are_counted() -> None:
    lease: Raw = FREE
    for holder in ("a", "a", "b", "b", "a"):
        lease = renewed(lease, holder)
    assert read_lease(lease).transitions == 2


def test_what_others_put_into_the_lease_stays() -> None:
    lease = {**FREE, "metadata": {**as_map(FREE["metadata"]), "annotations": {"theirs": "kept"}}}
    annotations = as_map(as_map(renewed(lease, "a")["metadata"])["annotations"])
    assert annotations == {"theirs": "kept", ADDRESS: "10.0.0.1:18002"}
