"""The engine's laws, over a small world of boxes that hold parts and refer to one another."""

from collections.abc import Hashable, Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portway.incremental import (
    AnyOutput,
    Context,
    CycleError,
    Delta,
    Engine,
    Output,
    Program,
    Query,
    Relation,
    bind,
    feed,
    query,
)
from portway.objects.meta import Meta
from portway.objects.verdict import ObjectKey
from portway.store import ChangeSet, Index, Input, Store, Stored, read_object


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """A toy object: `shelf` groups boxes, `next` names another whose weight is added."""

    metadata: Meta
    weight: int = 0
    shelf: str = ""
    next: str = ""
    fail: bool = False


def box(name: str, *, weight: int = 0, shelf: str = "", follows: str = "", fail: bool = False) -> Stored:
    value = Box(metadata=Meta(name=name), weight=weight, shelf=shelf, next=follows, fail=fail)
    return Stored(ObjectKey("Box", "", name), value)


def key(name: str) -> ObjectKey:
    return ObjectKey("Box", "", name)


BY_NEXT = Index("by next", "Box", lambda found: [found.next] if isinstance(found, Box) else [])
LIMIT: Input[None, int] = Input("limit")
WEIGHT: Query[str, int] = Query("weight")
SHELVES: Relation[str, int] = Relation("shelves")
HEAVY: Relation[bool, str] = Relation("heavy")


def weight(ctx: Context, name: str) -> int:
    """Own weight, and that of the boxes that follow; a chain may be a cycle."""
    found = read_object(ctx, Box, "", name)
    if found is None:
        return 0
    if found.fail:
        raise ValueError(name)
    try:
        return found.weight + (ctx.get(WEIGHT, found.next) if found.next else 0)
    except CycleError:
        return -1


@query("parity")
def parity(ctx: Context, name: str) -> bool:
    return ctx.get(WEIGHT, name) % 2 == 0


def shelf_rows(ctx: Context, member: ObjectKey) -> Mapping[str, int]:
    found = read_object(ctx, Box, "", member.name)
    assert found is not None
    return {shelf: ctx.get(WEIGHT, member.name) for shelf in found.shelf.split(",") if shelf}


def heavy_rows(ctx: Context, shelf: str) -> Mapping[bool, str]:
    return {sum(ctx.rows(SHELVES, shelf)) > ctx.read(LIMIT, None): shelf}


def shelf_value(ctx: Context, shelf: str) -> tuple[object, ...]:
    rows = ctx.rows(SHELVES, shelf)
    return rows, ctx.size(SHELVES, shelf), ctx.least(SHELVES, shelf)


SHELF = Output("shelf", [SHELVES], shelf_value)
HEAVINESS: Output[bool, tuple[str, ...]] = Output("heaviness", [HEAVY], lambda ctx, heavy: ctx.rows(HEAVY, heavy))
PARITY: Output[ObjectKey, bool] = Output(
    "parity of box", ["Box"], lambda ctx, member: ctx.get(parity, member.name), early=True
)
FOLLOWERS: Output[ObjectKey, tuple[ObjectKey, ...]] = Output(
    "followers", ["Box"], lambda ctx, member: BY_NEXT.read(ctx, member.name) or None
)
OUTPUTS: tuple[AnyOutput, ...] = (PARITY, SHELF, HEAVINESS, FOLLOWERS)

PROGRAM = Program(
    relations=(SHELVES, HEAVY),
    feeds=(feed(SHELVES, "Box", shelf_rows), feed(HEAVY, SHELVES, heavy_rows)),
    bindings=(bind(WEIGHT, weight),),
    outputs=OUTPUTS,
)


class World:
    """An engine, and what an observer of its deltas believes."""

    def __init__(self, *changes: ChangeSet) -> None:
        self.engine = Engine(Store([BY_NEXT]), PROGRAM)
        self.engine.set(LIMIT, None, 5)
        self.believed: dict[object, dict[Hashable, object]] = {output: {} for output in OUTPUTS}
        for change in changes:
            self.apply(change)

    def apply(self, change: ChangeSet) -> None:
        self.engine.apply(change)
        self.learn(self.engine.settle())

    def learn(self, delta: Delta) -> None:
        for output in OUTPUTS:
            changed, removed = delta.of_any(output)
            for gone in removed:
                self.believed[output].pop(gone, None)
            self.believed[output].update(changed)

    def put(self, *boxes: Stored) -> None:
        self.apply(ChangeSet(changed=boxes))

    def remove(self, *names: str) -> None:
        self.apply(ChangeSet(removed=[key(name) for name in names]))

    def ran(self, change: ChangeSet) -> set[str]:
        """Which functions run for this change."""
        names: set[str] = set()
        self.engine.observe(lambda name, of: names.add(f"{name}({of.name if isinstance(of, ObjectKey) else of})"))
        self.apply(change)
        self.engine.observe(None)
        return names


NAMES = st.sampled_from("abcdef")
BOXES = st.builds(
    box,
    NAMES,
    weight=st.integers(0, 4),
    shelf=st.sampled_from(["", "x", "y", "x,y", "z"]),
    follows=st.sampled_from(["", "", "a", "b", "c"]),
    fail=st.sampled_from([False, False, False, True]),
)
CHANGES = st.builds(
    ChangeSet, changed=st.lists(BOXES, max_size=3).map(tuple), removed=st.lists(NAMES.map(key), max_size=2).map(tuple)
)


def has_cycle(world: World) -> bool:
    """Which box of a cycle notices it depends on who asks first, so laws about values leave cycles out."""
    follows = {
        found.metadata.name: found.next
        for stored in map(world.engine.store.get, world.engine.store.keys("Box"))
        if stored is not None and isinstance(found := stored.object, Box)
    }
    for start in follows:
        seen: set[str] = set()
        name = start
        while name in follows and name not in seen:
            seen.add(name)
            name = follows[name]
        if name in seen:
            return True
    return False


@given(st.lists(CHANGES, max_size=12))
@settings(max_examples=400, deadline=None)
def test_incremental_equals_from_scratch(changes: list[ChangeSet]) -> None:
    world = World(*changes)
    if has_cycle(world):
        return
    store = world.engine.store
    objects = [stored for stored in map(store.get, sorted(store.keys("Box"), reverse=True)) if stored is not None]
    scratch = World(*(ChangeSet(changed=[stored]) for stored in objects))
    failed = {failure.key for failure in scratch.engine.failures()}
    for output in OUTPUTS:
        # An output whose function fails keeps what it gave out last: that is the one thing history may show.
        kept = {at: value for at, value in world.believed[output].items() if at not in failed}
        assert kept == {at: value for at, value in scratch.believed[output].items() if at not in failed}
    assert {(f.name, f.key) for f in world.engine.failures()} == {(f.name, f.key) for f in scratch.engine.failures()}


@given(st.lists(CHANGES, max_size=6), st.lists(st.integers(0, 9), max_size=12))
@settings(max_examples=200, deadline=None)
def test_work_may_be_interrupted_anywhere(changes: list[ChangeSet], pauses: list[int]) -> None:
    world, sliced = World(*changes), World()
    for change, pause in zip(changes, [*pauses, *([0] * len(changes))], strict=False):
        sliced.engine.apply(change)
        for _ in range(pause):
            sliced.engine.step()
        sliced.learn(sliced.engine.take())
    sliced.learn(sliced.engine.settle())
    if has_cycle(world) or world.engine.failures():
        return
    assert sliced.believed == world.believed


@given(st.lists(CHANGES, max_size=6), CHANGES)
@settings(max_examples=200, deadline=None)
def test_a_trial_leaves_nothing_behind(changes: list[ChangeSet], tried: ChangeSet) -> None:
    world, changed = World(*changes), World(*changes)
    nodes = world.engine.statistics().nodes
    seen = world.engine.trial(tried, lambda _ctx, delta: delta)
    changed.engine.apply(tried)
    assert has_cycle(changed) or has_cycle(world) or seen == changed.engine.settle()
    assert not world.engine.settle()
    if not has_cycle(world):  # where a cycle is entered decides what is read
        assert world.engine.statistics().nodes == nodes
        assert world.believed == World(*changes).believed


@given(st.lists(CHANGES, max_size=8))
def test_nothing_is_kept_for_objects_that_are_gone(changes: list[ChangeSet]) -> None:
    world = World(*changes)
    world.remove(*"abcdef")
    assert world.engine.statistics().nodes == 0
    assert all(not values for values in world.believed.values())


class TestWorkDone:
    def test_an_unchanged_object_runs_nothing(self) -> None:
        world = World()
        world.put(box("a", weight=1, shelf="x"))
        assert world.ran(ChangeSet(changed=[box("a", weight=1, shelf="x")])) == set()

    def test_a_change_runs_its_readers_only(self) -> None:
        world = World()
        world.put(*(box(name, weight=1, shelf=name) for name in "abcdef"))
        assert world.ran(ChangeSet(changed=[box("c", weight=2, shelf="c")])) == {
            "weight(c)",
            "parity(c)",
            "parity of box(c)",
            "shelves#0(c)",
            "heavy#1(c)",
            "shelf(c)",
        }

    def test_an_equal_value_stops_the_wave(self) -> None:
        world = World()
        world.put(box("a", weight=1), box("b", weight=1, follows="a"))
        # The weight of `a` changes, its parity does not.
        assert "parity of box(b)" not in world.ran(ChangeSet(changed=[box("a", weight=3)]))

    def test_a_missing_object_that_appears_wakes_its_reader(self) -> None:
        world = World()
        world.put(box("b", weight=1, follows="a"))
        assert "weight(b)" in world.ran(ChangeSet(changed=[box("a", weight=1)]))
        assert world.believed[PARITY][key("b")] is True

    def test_a_setting_wakes_its_readers(self) -> None:
        world = World()
        world.put(box("a", weight=4, shelf="x"))
        assert world.believed[HEAVINESS] == {False: ("x",)}
        world.engine.set(LIMIT, None, 3)
        world.learn(world.engine.settle())
        assert world.believed[HEAVINESS] == {True: ("x",)}


def test_a_failing_query_hurts_nobody_else() -> None:
    world = World()
    world.put(box("a", weight=1, shelf="x"), box("b", weight=2, shelf="x"))
    world.put(box("b", weight=2, shelf="x", fail=True))
    assert world.believed[SHELF] == {"x": ((1,), 1, 1)}
    assert world.believed[PARITY] == {key("a"): False, key("b"): True}, "an output keeps what it gave out"
    assert {failure.key for failure in world.engine.failures()} == {key("b")}
    world.put(box("b", weight=3, shelf="x"))
    assert world.believed[SHELF] == {"x": ((1, 3), 2, 1)}
    assert world.engine.failures() == ()


def test_a_cycle_is_a_value() -> None:
    world = World()
    world.put(box("a", follows="b"), box("b", follows="a"), box("c", weight=2))
    assert world.believed[PARITY][key("c")] is True
    world.put(box("a", weight=2))
    assert world.believed[PARITY] == {key("a"): True, key("b"): True, key("c"): True}


def test_an_error_reaches_the_reader() -> None:
    world = World()
    world.put(box("a", fail=True))
    with pytest.raises(ValueError, match="a"):
        world.engine.get(WEIGHT, "a")


def test_a_group_that_moves_between_members_stays() -> None:
    world = World()
    world.put(box("a", weight=1, shelf="x"))
    world.engine.apply(ChangeSet(changed=[box("a", weight=1, shelf="y"), box("b", weight=1, shelf="x")]))
    _, removed = world.engine.settle().of(SHELF)
    assert removed == frozenset()
