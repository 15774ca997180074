"""Whose status is written next. Time is a number; writing takes none unless a test says so."""

import pytest

from portway.model.condition import Condition, ListenerReport, ObjectReport, ParentReport
from portway.objects.verdict import ObjectKey
from portway.status.merge import Statement
from portway.status.queue import LONGEST_PAUSE, TokenBucket, Urgency, WriteQueue, is_settled, urgency_of

GATEWAY = ObjectKey("Gateway", "shop", "web")


def says(key: ObjectKey, attached: int = 0, generation: int = 1) -> Statement:
    listener = ListenerReport(name="http", attached_routes=attached)
    return Statement(report=ObjectReport(object=key, listeners=(listener,)), generation=generation)


def route(number: int) -> ObjectKey:
    return ObjectKey("HTTPRoute", "shop", f"route-{number}")


URGENCIES = {
    "a Gateway": (says(GATEWAY, 1), says(GATEWAY), Urgency.HEAD),
    "a new route": (says(route(1)), None, Urgency.ANSWER),
    "a new generation": (says(route(1), generation=2), says(route(1)), Urgency.ANSWER),
    "news": (says(route(1), 1), says(route(1)), Urgency.NEWS),
}


@pytest.mark.parametrize("case", URGENCIES)
def test_urgency(case: str) -> None:
    statement, written, expected = URGENCIES[case]
    assert urgency_of(statement, written) is expected


def test_who_is_waited_for_goes_first() -> None:
    queue = WriteQueue()
    queue.put(says(route(1)), Urgency.NEWS, 0.0)
    queue.put(says(route(2)), Urgency.ANSWER, 0.0)
    queue.put(says(route(3)), Urgency.ANSWER, 0.0)
    queue.put(says(GATEWAY), Urgency.HEAD, 0.0)
    queue.put(says(route(1), generation=2), Urgency.ANSWER, 0.0)
    order = [taken.key for _ in range(4) if (taken := queue.take(0.0)) is not None]
    assert order == [GATEWAY, route(2), route(3), route(1)]
    assert queue.take(0.0) is None


def test_a_gateway_is_urgent() -> None:
    queue = WriteQueue()
    queue.put(says(route(1)), Urgency.ANSWER, 0.0)
    assert not queue.is_urgent(0.0)
    queue.put(says(GATEWAY), Urgency.HEAD, 0.0)
    assert queue.is_urgent(0.0)
    queue.take(0.0)
    assert not queue.is_urgent(0.0)


def test_only_the_latest_statement_is_kept() -> None:
    queue = WriteQueue()
    for attached in range(10):
        queue.put(says(GATEWAY, attached), Urgency.HEAD, 0.0)
    assert queue.take(0.0) == says(GATEWAY, 9)
    assert queue.take(0.0) is None
    assert queue.statistics().coalesced == 9


def test_what_comes_while_a_write_is_under_way_is_written_after_it() -> None:
    queue = WriteQueue()
    queue.put(says(GATEWAY, 1), Urgency.HEAD, 0.0)
    assert queue.take(0.0) == says(GATEWAY, 1)
    queue.put(says(GATEWAY, 2), Urgency.HEAD, 0.001)
    assert queue.take(0.002) is None, "one write of an object at a time"
    queue.done(GATEWAY, 0.003, wrote=True)
    at = queue.next_at()
    assert at is not None
    assert queue.take(at) == says(GATEWAY, 2)


def provisional(key: ObjectKey, generation: int = 1) -> Statement:
    pending = Condition(type="Programmed", status=False, reason="Pending", provisional=True)
    parent = ParentReport(parent=GATEWAY, conditions=(pending,))
    return Statement(report=ObjectReport(object=key, parents=(parent,)), generation=generation)


SETTLED = {
    "a route whose proxies have not answered": (provisional(route(1)), None, False),
    "a route that all proxies hold": (says(route(1)), None, True),
    "a new Gateway": (says(GATEWAY), None, True),
    "a new generation of a Gateway": (says(GATEWAY, generation=2), says(GATEWAY), True),
    "a Gateway to which a route attaches": (says(GATEWAY, 1), says(GATEWAY), False),
}


@pytest.mark.parametrize("case", SETTLED)
def test_what_will_soon_be_said_better(case: str) -> None:
    statement, written, expected = SETTLED[case]
    assert is_settled(statement, written) is expected


def test_what_is_not_settled_waits_and_what_is_comes_at_once() -> None:
    queue = WriteQueue()
    queue.put(provisional(route(1)), Urgency.ANSWER, 0.0, settle=0.1)
    assert queue.take(0.05) is None
    queue.put(says(route(1)), Urgency.ANSWER, 0.05)
    assert queue.take(0.05) == says(route(1))
    queue.done(route(1), 0.06, wrote=True)
    assert queue.take(1.0) is None, "once, not again when the time is over"


def test_what_does_not_settle_waits_no_longer_for_that() -> None:
    queue = WriteQueue()
    queue.put(provisional(route(1)), Urgency.ANSWER, 0.0, settle=0.1)
    queue.put(provisional(route(1), generation=2), Urgency.ANSWER, 0.09, settle=0.1)
    assert queue.next_at() == 0.1
    assert queue.take(0.1) == provisional(route(1), generation=2)


def test_what_does_not_settle_while_a_write_is_under_way_waits_from_then_on() -> None:
    queue = WriteQueue()
    queue.put(says(route(1)), Urgency.ANSWER, 0.0)
    queue.take(0.0)
    queue.put(provisional(route(1), generation=2), Urgency.ANSWER, 0.5, settle=0.1)
    queue.done(route(1), 0.51, wrote=True)
    assert queue.take(0.59) is None
    assert queue.take(0.6) == provisional(route(1), generation=2)


def test_a_failed_write_comes_again_with_what_is_wanted_by_then() -> None:
    queue = WriteQueue()
    queue.put(says(GATEWAY, 1), Urgency.HEAD, 0.0)
    queue.take(0.0)
    queue.put(says(GATEWAY, 2), Urgency.HEAD, 0.0)
    queue.failed(GATEWAY, 0.0, 3.0)
    assert queue.take(2.9) is None
    assert queue.take(3.0) == says(GATEWAY, 2)


def test_what_is_dropped_is_not_written() -> None:
    queue = WriteQueue()
    queue.put(says(GATEWAY), Urgency.HEAD, 0.0)
    queue.drop(GATEWAY)
    assert queue.take(0.0) is None
    queue.done(GATEWAY, 0.0, wrote=True)
    assert len(queue) == 0


@pytest.mark.parametrize(("routes", "seconds", "most"), [(1_000, 2.0, 60), (1_000, 5.0, 60), (1_000, 20.0, 300)])
def test_a_thousand_routes_attach_to_a_gateway(routes: int, seconds: float, most: int) -> None:
    """A write takes 10 ms. The first is made at once, the last is right soon, and there are few between."""
    queue, now, attached, busy_until = WriteQueue(), 0.0, 0, None
    writes: list[tuple[float, Statement]] = []
    while now < seconds + 1:
        if attached < routes and now >= attached * seconds / routes:
            attached += 1
            queue.put(says(GATEWAY, attached), Urgency.HEAD, now)
        if busy_until is not None and now >= busy_until:
            busy_until = None
            queue.done(GATEWAY, now, wrote=True)
        if busy_until is None and (taken := queue.take(now)) is not None:
            writes.append((now, taken))
            busy_until = now + 0.01
        now += 0.001
    assert writes[0][0] == 0.0
    assert writes[-1][1] == says(GATEWAY, routes)
    assert writes[-1][0] <= seconds + LONGEST_PAUSE.total_seconds() + 0.02
    assert len(writes) <= most


def test_a_quiet_object_is_written_at_once_again() -> None:
    queue = WriteQueue()
    for now in (0.0, 10.0):
        queue.put(says(GATEWAY, int(now)), Urgency.HEAD, now)
        assert queue.take(now) is not None
        queue.done(GATEWAY, now + 0.01, wrote=True)
        queue.tidy(now + 5)


def test_tokens() -> None:
    bucket = TokenBucket(10.0, 2, 0.0)
    assert [bucket.take(0.0), bucket.take(0.0)] == [0.0, 0.0]
    assert bucket.take(0.0) == pytest.approx(0.1)
    assert bucket.take(0.1) == 0.0
    assert bucket.take(0.1) == pytest.approx(0.1)
