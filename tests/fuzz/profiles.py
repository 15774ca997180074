"""How many cases: `PORTWAY_FUZZ=10` runs ten times as many as by default."""

import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import pytest
from hypothesis import HealthCheck, settings

TIMES = float(os.environ.get("PORTWAY_FUZZ", "1"))
"""By how much the default numbers of cases are multiplied."""

LONG = pytest.mark.timeout(round(300 * max(1.0, TIMES)))
"""Fuzzing takes longer than other tests, and as much longer as one wants."""

P = ParamSpec("P")
R = TypeVar("R")


def cases(number: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Settings of a test that runs `number` cases by default. Slow cases are no failure: worlds are large."""
    return settings(max_examples=max(1, round(number * TIMES)), deadline=None, suppress_health_check=list(HealthCheck))
