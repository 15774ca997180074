"""Fixtures of what is put together in `app`."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def collector_as_it_was() -> Iterator[None]:
    """For what sets up the garbage collector of the whole process."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
