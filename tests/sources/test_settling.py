"""When a changed file is read, as tables of events with times."""

import pytest

from portway.sources.settling import GRACE, REAPPEARANCE, WRITER_SILENCE, YOUTH, Settling, Why

Event = tuple[float, str]

CASES: dict[str, tuple[list[Event], float, Why]] = {
    # name: events (when, method), when it is due, and why
    "closed after writing: at once": ([(0, "being_written"), (0.1, "whole")], 0.1, Why.WHOLE),
    "a writer is waited for": ([(0, "being_written")], WRITER_SILENCE, Why.WRITER),
    "as long as it writes": ([(0, "being_written"), (1.5, "being_written")], 1.5 + WRITER_SILENCE, Why.WRITER),
    "a deleted file may come back": ([(0, "gone")], REAPPEARANCE, Why.GONE),
    "and did": ([(0, "gone"), (0.01, "being_written"), (0.02, "whole")], 0.02, Why.WHOLE),
    "a broken one is looked at again": ([(0, "suspicious")], GRACE, Why.GRACE),
    "earlier if its writer goes on": ([(0, "suspicious"), (0.1, "whole")], 0.1, Why.WHOLE),
    "a young file is left to its writer": ([(0, "young")], YOUTH, Why.WHOLE),
    "a look does not hurry a writer": ([(0, "being_written"), (0.1, "found")], WRITER_SILENCE, Why.WRITER),
    "nor does a look that misses it hurry a deletion": ([(0, "gone"), (0.1, "missing")], REAPPEARANCE, Why.GONE),
}


@pytest.mark.parametrize("case", CASES)
def test_a_path_is_due(case: str) -> None:
    events, due, why = CASES[case]
    settling = Settling()
    for when, method in events:
        getattr(settling, method)("a", when)
    assert settling.next_due() == pytest.approx(due)
    assert not settling.take_due(due - 0.001)
    assert settling.take_due(due + 0.001) == {"a": why}
    assert settling.next_due() is None
    assert not len(settling)
