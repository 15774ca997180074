"""The collector is kept from what lives long, and still frees cycles."""

import gc
import weakref

import pytest

from portway.app import collector

pytestmark = pytest.mark.usefixtures("collector_as_it_was")


class Node:
    """Refers to itself."""

    def __init__(self) -> None:
        self.me = self


def test_cycles_are_freed_when_there_is_time() -> None:
    collector.expect_growth()
    collector.keep_all()
    watched = weakref.ref(Node())
    assert watched() is not None
    collector.tidy()
    assert watched() is None


def test_the_first_configuration_is_left_out() -> None:
    collector.expect_growth()
    kept = [Node() for _ in range(1_000)]
    collector.keep_all()
    assert gc.get_freeze_count() >= len(kept)
    assert not any(isinstance(found, Node) for found in gc.get_objects())


def test_a_cycle_that_was_in_use_for_a_while_is_freed_too() -> None:
    collector.expect_growth()
    collector.keep_all()
    used = Node()
    watched = weakref.ref(used)
    for _ in range(3):
        collector.tidy()
    del used
    for _ in range(collector.FULL):
        collector.tidy()
    assert watched() is None
