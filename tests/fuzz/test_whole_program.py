"""Laws of the whole program, from objects to the bytes of resources and to reports, over spoiled worlds."""

import random

from hypothesis import given
from hypothesis import strategies as st

from portway.settings import Edge
from tests.fuzz.profiles import LONG, cases
from tests.fuzz.program import EDGES, Compiled, differences
from tests.fuzz.worlds import Draft, Edit, base, drafts, edits
from tests.kit.verdicts import words_missing

pytestmark = LONG
BASE = base()
LONGEST = 2_000
"""Characters of a verdict, whatever it is about: it has to be readable in one glance."""


def test_the_base_world_is_good() -> None:
    compiled = Compiled(BASE)
    assert len(compiled.resources()) > 30


@cases(150)
@given(st.lists(edits(), min_size=1, max_size=12), st.booleans(), st.sampled_from(EDGES))
def test_incremental_equals_from_scratch(changes: list[Edit], on_base: bool, edge: Edge) -> None:
    compiled = Compiled(BASE if on_base else (), edge)
    for change in changes:
        compiled.edit(change)
    assert differences(compiled, Compiled(compiled.present.values(), edge)) == {}


@cases(100)
@given(st.lists(drafts(), min_size=2, max_size=10), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(added: list[Draft], shuffler: random.Random) -> None:
    world = {each.key: each for each in (*BASE, *(draft.stored for draft in added))}
    shuffled = list(world.values())
    shuffler.shuffle(shuffled)
    other = Compiled()
    for each in shuffled:
        other.put([each])
    assert differences(Compiled(world.values()), other) == {}


@cases(100)
@given(st.lists(drafts(), min_size=1, max_size=10))
def test_what_is_said_can_be_read(added: list[Draft]) -> None:
    compiled = Compiled({each.key: each for each in (*BASE, *(draft.stored for draft in added))}.values())
    for report in compiled.reports().values():
        for verdict in report.verdicts:
            assert words_missing(verdict) == []
            assert verdict.object == report.object
            # No name or value may reach a terminal or a log as it is: it could hold escape sequences or line breaks.
            assert str(verdict).isprintable(), verdict
            assert len(str(verdict)) < LONGEST
        for condition in report.conditions:
            assert condition.message.replace("\n", "").isprintable(), condition
            # metav1.Condition: the API server refuses longer ones, and with them the whole status.
            assert len(condition.message) <= 32_768
