"""How many proxies hold something, and what is said about it."""

import pytest

from portway.status.tally import FleetTally, Tally, add_tallies, condition_of


def fleet(proxies: int, acknowledged: int, *refusals: str, name: str = "web", overdue: bool = False) -> FleetTally:
    waiting = "" if proxies == acknowledged else "not acknowledged yet: LISTENER l"
    return FleetTally(
        fleet=name,
        proxies=proxies,
        acknowledged=acknowledged,
        waiting=waiting,
        refusals=refusals,
        overdue=overdue,
    )


SAID: dict[str, tuple[Tally, tuple[bool, str, str, bool]]] = {
    "all of them": ((fleet(3, 3),), (True, "Programmed", "", False)),
    "proxies are awaited: no numbers, which would be a write for each answer": (
        (fleet(3, 2),),
        (False, "Pending", "not acknowledged yet", True),
    ),
    "one lags": (
        (fleet(3, 2, overdue=True),),
        (False, "Pending", "2 of 3 proxies hold it; not acknowledged yet: LISTENER l", False),
    ),
    "one refuses": (
        (fleet(3, 1, "LISTENER l: no"),),
        (
            False,
            "Invalid",
            "1 of 3 proxies holds it; a proxy refuses LISTENER l: no; "
            "what it held of it before, if anything, is served",
            False,
        ),
    ),
    "none has come": ((fleet(0, 0),), (False, "Pending", "no proxy of fleet web is connected", True)),
    "none has come for long": (
        (fleet(0, 0, overdue=True),),
        (False, "Pending", "no proxy of fleet web is connected", False),
    ),
    "of two fleets one": (
        (fleet(1, 1), fleet(0, 0, name="other")),
        (False, "Pending", "no proxy of fleet other is connected", True),
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_what_is_said(case: str) -> None:
    tally, expected = SAID[case]
    condition = condition_of("Programmed", tally, terse=True)
    assert (condition.status, condition.reason, condition.message, condition.provisional) == expected


ADDED: dict[str, tuple[tuple[Tally, ...], Tally]] = {
    "replicas add up": (((fleet(2, 2),), (fleet(1, 1),)), (fleet(3, 3),)),
    "one that nobody is connected to says nothing": (
        ((fleet(2, 2),), (fleet(0, 0, overdue=True),)),
        (FleetTally(fleet="web", proxies=2, acknowledged=2),),
    ),
    "nobody is connected to any": (((fleet(0, 0, overdue=True),), (fleet(0, 0),)), (fleet(0, 0, overdue=True),)),
    "a refusal counts wherever it is": (((fleet(1, 1),), (fleet(1, 0, "x"),)), (fleet(2, 1, "x"),)),
    "the same refusal once": (((fleet(1, 0, "x"),), (fleet(1, 0, "x"),)), (fleet(2, 0, "x"),)),
    "fleets stay apart": (
        ((fleet(1, 1),), (fleet(1, 1, name="other"),)),
        (fleet(1, 1), fleet(1, 1, name="other")),
    ),
}


@pytest.mark.parametrize("case", ADDED)
def test_tallies_add_up(case: str) -> None:
    tallies, expected = ADDED[case]
    assert add_tallies(tallies) == expected
