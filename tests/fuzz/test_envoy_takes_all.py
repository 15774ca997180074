"""A real Envoy takes every resource that any world compiles to."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.judge import Judge, judging
from tests.fuzz.profiles import LONG, cases
from tests.fuzz.program import Compiled
from tests.fuzz.worlds import Draft, base, drafts

pytestmark = [pytest.mark.e2e, LONG]

BASE = base()


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with judging() as running:
        yield running


@cases(100)
@given(st.lists(drafts(), max_size=12))
def test_envoy_takes_what_a_world_compiles_to(judge: Judge, added: list[Draft]) -> None:
    world = {each.key: each for each in (*BASE, *(draft.stored for draft in added))}
    assert judge.refused(Compiled(world.values()).resources()) == ()
