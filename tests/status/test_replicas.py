"""What followers tell, and what the leader makes of it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.objects.verdict import ObjectKey
from portway.status.replicas import MAX_CLAIMS, Claim, Replicas, Teller, Word, decode_word
from portway.status.tally import FleetTally, Tally, add_tallies, is_complete

FLEET = "gateway/shop/web"
ROUTE = ObjectKey("HTTPRoute", "shop", "cart")
LACKING = (FleetTally(fleet=FLEET, proxies=2, acknowledged=1, waiting="a host"),)


def told(*words: Word) -> Replicas:
    replicas = Replicas()
    replicas.joined("b")
    for word in words:
        replicas.heard("b", decode_word(msgspec.json.encode(word)))
    return replicas


def tally(replicas: Replicas, generation: int = 1) -> Tally:
    return add_tallies(replicas.tallies(ROUTE, generation, "parent/0", (FLEET,)))


HAS = {FLEET: 2}
CASES: dict[str, tuple[Word, tuple[int, int] | None]] = {
    "all hold it": (Word(fleets=HAS, claims=(Claim(object=ROUTE, generation=1),)), (2, 2)),
    "one does not": (
        Word(fleets=HAS, claims=(Claim(object=ROUTE, generation=1, lacking={"parent/0": LACKING}),)),
        (2, 1),
    ),
    "another part is lacking": (
        Word(fleets=HAS, claims=(Claim(object=ROUTE, generation=1, lacking={"parent/1": LACKING}),)),
        (2, 2),
    ),
    "it is behind": (Word(fleets=HAS, claims=(Claim(object=ROUTE, generation=0),)), (2, 0)),
    "it is ahead": (Word(fleets=HAS, claims=(Claim(object=ROUTE, generation=2),)), (2, 2)),
    "it has not spoken of the object": (Word(fleets=HAS), (2, 0)),
    "it has no proxy of the fleet": (Word(fleets={"other": 1}, claims=(Claim(object=ROUTE, generation=1),)), None),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_replica_says(case: str) -> None:
    word, expected = CASES[case]
    found = tally(told(word))
    assert ([(one.proxies, one.acknowledged) for one in found] or None) == (None if expected is None else [expected])


def test_who_left_is_believed_for_a_while() -> None:
    replicas = told(Word(fleets=HAS, claims=(Claim(object=ROUTE, generation=1),)))
    replicas.left("b", 100.0)
    assert not replicas.forget(99.0)
    assert is_complete(tally(replicas))
    assert tally(replicas)
    assert replicas.forget(100.0)
    assert tally(replicas) == ()


def test_who_comes_back_tells_everything_anew() -> None:
    replicas = told(Word(fleets=HAS, claims=(Claim(object=ROUTE, generation=1),)))
    replicas.left("b", 100.0)
    replicas.joined("b")
    assert not replicas.forget(1_000.0)
    assert tally(replicas) == ()


def test_nobody_fills_our_memory() -> None:
    many = tuple(Claim(object=ObjectKey("HTTPRoute", "shop", str(n)), generation=1) for n in range(MAX_CLAIMS + 1))
    with pytest.raises(ValueError, match="more than"):
        told(Word(claims=many))
    with pytest.raises(ValueError, match="not connected"):
        Replicas().heard("stranger", Word())


def test_a_teller_tells_what_changed_and_numbers_last() -> None:
    teller = Teller()
    claims = [Claim(object=ObjectKey("HTTPRoute", "shop", str(n)), generation=1) for n in range(5)]
    for claim in claims:
        teller.claim(claim)
    teller.count({FLEET: 1, "empty": 0})
    assert teller.take(3) == Word(claims=tuple(claims[:3]))
    assert teller.take(3) == Word(claims=tuple(claims[3:]), fleets={FLEET: 1})
    assert teller.take() is None
    teller.claim(claims[0])
    teller.count({FLEET: 1})
    assert teller.take() is None, "nothing has changed"
    teller.forget(claims[0].object)
    assert teller.take() == Word(gone=(claims[0].object,))
    teller.begin()
    assert teller.take() == Word(claims=tuple(claims[1:]), fleets={FLEET: 1})


KEYS = st.builds(lambda n: ObjectKey("HTTPRoute", "shop", str(n)), st.integers(0, 4))
CLAIMS = st.builds(
    Claim, object=KEYS, generation=st.integers(1, 3), lacking=st.just({}) | st.just({"parent/0": LACKING})
)


@given(st.lists(CLAIMS | KEYS | st.dictionaries(st.just(FLEET), st.integers(0, 3)) | st.integers(1, 3)))
def test_the_leader_knows_what_the_follower_knows(steps: list[Claim | ObjectKey | dict[str, int] | int]) -> None:
    """Whatever happens, and whenever some of it is told: in the end both know the same."""
    teller, replicas = Teller(), Replicas()
    replicas.joined("b")
    known: dict[ObjectKey, Claim] = {}
    for step in steps:
        match step:
            case Claim():
                known[step.object] = step
                teller.claim(step)
            case ObjectKey():
                known.pop(step, None)
                teller.forget(step)
            case dict():
                teller.count(step)
            case int():
                word = teller.take(step)
                if word is not None:
                    replicas.heard("b", word)
    while (word := teller.take(2)) is not None:
        replicas.heard("b", word)
    (statistics,) = replicas.statistics()
    assert statistics.claims == len(known)
    teller.count({FLEET: 2})
    last = teller.take()
    if last is not None:
        replicas.heard("b", last)
    for claim in known.values():
        (found,) = replicas.tallies(claim.object, claim.generation, "parent/0", (FLEET,))
        assert is_complete(found) is not bool(claim.lacking)
