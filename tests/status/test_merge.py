"""What becomes of a status. In `merging/` a file is a case: the object as the server has it, what we say, the status
afterwards (or `no change`), and, where it matters, what we had said before."""

from pathlib import Path
from typing import cast

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from portway.model.condition import Condition, ListenerReport, ObjectReport, ParentReport
from portway.objects.verdict import ObjectKey
from portway.status.merge import MAX_CONDITIONS, MAX_MESSAGE, MAX_PARENTS, Merged, Statement, is_own, merge
from portway.status.raw import Raw, as_list, as_map, as_text

OURS = "portway.dev/gateway-controller"
NOW = "NOW"
CASES = sorted((Path(__file__).parent / "merging").glob("*.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_merging(case: Path) -> None:
    current, said, outcome, *before = yaml.safe_load_all(case.read_text())
    merged = merge(
        current,
        msgspec.convert(said, Statement),
        controller=OURS,
        now=NOW,
        before=msgspec.convert(before[0], Statement) if before else None,
    )
    assert merged.status == (None if outcome == "no change" else outcome["status"])


def parents_of(merged: Merged) -> list[Raw]:
    assert merged.status is not None
    return [as_map(entry) for entry in as_list(merged.status["parents"])]


def route(*parents: str, generation: int = 1, foreign: int = 0) -> Raw:
    return {
        "metadata": {"namespace": "shop", "name": "cart", "generation": generation},
        "spec": {"parentRefs": [{"name": name} for name in parents]},
        "status": {
            "parents": [
                {"parentRef": {"name": str(n)}, "controllerName": "x", "conditions": []} for n in range(foreign)
            ]
        },
    }


def says(*parents: str, message: str = "", conditions: int = 1) -> Statement:
    said = tuple(
        Condition(type="Accepted" if n == 0 else f"portway.dev/{n}", status=True, reason="Fine", message=message)
        for n in range(conditions)
    )
    return Statement(
        report=ObjectReport(
            object=ObjectKey("HTTPRoute", "shop", "cart"),
            parents=tuple(ParentReport(parent=ObjectKey("Gateway", "shop", name), conditions=said) for name in parents),
        ),
        generation=1,
    )


def test_what_finds_no_room_beside_others_is_said() -> None:
    names = [f"gateway-{n}" for n in range(5)]
    merged = merge(route(*names, foreign=MAX_PARENTS - 3), says(*names), controller=OURS, now=NOW)
    assert len(parents_of(merged)) == MAX_PARENTS
    assert merged.left_out == ("2 of 5 parents",)


def test_at_most_eight_conditions() -> None:
    merged = merge(route("web"), says("web", conditions=10), controller=OURS, now=NOW)
    assert len(as_list(parents_of(merged)[0]["conditions"])) == MAX_CONDITIONS
    assert "2 of 10" in merged.left_out[0]


@pytest.mark.parametrize(("parents", "longest"), [(1, MAX_MESSAGE), (32, 256 * 1024 // 32)])
def test_messages_are_cut(parents: int, longest: int) -> None:
    names = [f"gateway-{n}" for n in range(parents)]
    merged = merge(route(*names), says(*names, message="é" * 50_000), controller=OURS, now=NOW)
    lengths = {len(as_text(as_map(as_list(entry["conditions"])[0])["message"])) for entry in parents_of(merged)}
    assert lengths == {longest}


# Laws.

NAMES = st.sampled_from(["web", "api", "old"])
TYPES = st.sampled_from(["Accepted", "Programmed", "PartiallyInvalid", "portway.dev/Programmed"])
FOREIGN_TYPES = st.sampled_from(["other.example/Seen", "Ready", "Scheduled"])
RAW_CONDITIONS = st.lists(
    st.builds(
        lambda kind, status, generation: {
            "type": kind,
            "status": status,
            "observedGeneration": generation,
            "reason": "R",
            "message": "",
            "lastTransitionTime": "THEN",
        },
        TYPES | FOREIGN_TYPES,
        st.sampled_from(["True", "False", "Unknown"]),
        st.integers(0, 4),
    ),
    max_size=4,
    unique_by=lambda condition: str(condition["type"]),
)
CONDITIONS = st.lists(
    st.builds(Condition, type=TYPES, status=st.booleans(), reason=st.just("Pending"), provisional=st.booleans()),
    max_size=4,
    unique_by=lambda condition: condition.type,
).map(tuple)
REFERENCES = st.builds(lambda name: {"name": name}, NAMES)
PARENTS = st.lists(
    st.builds(
        lambda reference, controller, conditions: {
            "parentRef": reference,
            "controllerName": controller,
            "conditions": conditions,
        },
        REFERENCES,
        st.sampled_from([OURS, "other.example/controller"]),
        RAW_CONDITIONS,
    ),
    max_size=4,
)
LISTENERS = st.lists(
    st.builds(
        lambda name, conditions: {"name": name, "attachedRoutes": 1, "conditions": conditions}, NAMES, RAW_CONDITIONS
    ),
    max_size=3,
    unique_by=lambda listener: str(listener["name"]),
)
GENERATIONS = st.integers(1, 4)
OBJECTS = st.builds(
    lambda generation, references, parents, conditions, listeners: {
        "metadata": {"namespace": "shop", "name": "x", "generation": generation},
        "spec": {"parentRefs": references},
        "status": {"parents": parents, "conditions": conditions, "listeners": listeners, "unknown": {"kept": True}},
    },
    GENERATIONS,
    st.lists(REFERENCES, max_size=3),
    PARENTS,
    RAW_CONDITIONS,
    LISTENERS,
)
STATEMENTS = st.builds(
    lambda kind, ours, generation, conditions, parents, listeners: Statement(
        report=ObjectReport(
            object=ObjectKey(kind, "shop", "x"),
            ours=ours,
            conditions=conditions,
            parents=tuple(parents),
            listeners=tuple(listeners),
        ),
        generation=generation,
    ),
    st.sampled_from(["Gateway", "ListenerSet", "HTTPRoute", "BackendTLSPolicy", "GatewayClass", "Ingress"]),
    st.booleans(),
    GENERATIONS,
    CONDITIONS,
    st.lists(
        st.builds(
            lambda name, conditions: ParentReport(parent=ObjectKey("Gateway", "shop", name), conditions=conditions),
            NAMES,
            CONDITIONS,
        ),
        max_size=3,
    ),
    st.lists(
        st.builds(ListenerReport, name=NAMES, conditions=CONDITIONS), max_size=3, unique_by=lambda each: each.name
    ),
)


@given(OBJECTS, STATEMENTS)
def test_merging_twice_changes_nothing(current: dict[str, object], said: Statement) -> None:
    once = merge(current, said, controller=OURS, now="FIRST")
    if once.status is not None:
        assert merge({**current, "status": once.status}, said, controller=OURS, now="SECOND").status is None


@given(OBJECTS, STATEMENTS, st.none() | STATEMENTS)
def test_what_others_wrote_comes_through(current: dict[str, object], said: Statement, before: Statement | None) -> None:
    merged = merge(current, said, controller=OURS, now=NOW, before=before)
    if merged.status is None:
        return
    listeners = {each.name for each in said.report.listeners} if said.report.ours else set()
    old = as_map(current["status"])
    assert foreign(merged.status, listeners) == foreign(old, listeners)
    assert merged.status["unknown"] == old["unknown"]


def foreign(status: Raw, listeners: set[str]) -> list[object]:
    """All that is not ours: entries of other controllers, conditions of other types."""
    kept = [entry for entry in as_list(status.get("parents")) if as_map(entry)["controllerName"] != OURS]
    kept += [entry for entry in as_list(status.get("conditions")) if not is_own(as_text(as_map(entry)["type"]))]
    by_name = sorted(as_list(status.get("listeners")), key=lambda each: as_text(as_map(each)["name"]))
    for listener in by_name:
        if as_text(as_map(listener)["name"]) in listeners:
            found = as_list(as_map(listener)["conditions"])
            kept += [entry for entry in found if not is_own(as_text(as_map(entry)["type"]))]
    return kept


@given(OBJECTS, STATEMENTS)
def test_times_move_with_the_status_only(current: dict[str, object], said: Statement) -> None:
    merged = merge(current, said, controller=OURS, now=NOW)
    if merged.status is None or "conditions" not in merged.status:
        return
    old = {as_text(as_map(each)["type"]): as_map(each) for each in as_list(as_map(current["status"])["conditions"])}
    for entry in map(as_map, as_list(merged.status["conditions"])):
        known = old.get(as_text(entry["type"]))
        moved = known is None or known["status"] != entry["status"]
        assert entry["lastTransitionTime"] == (NOW if moved else "THEN")


def test_an_answer_that_makes_no_sense_is_taken_as_empty() -> None:
    odd = cast("Raw", {"metadata": [], "spec": 3, "status": {"parents": "many", "conditions": [1, None]}})
    merged = merge(odd, says("web"), controller=OURS, now=NOW)
    assert merged.status == {"parents": [], "conditions": [1, None]}
