"""A folder with an `in.yaml` is a case (see README.md); `--accept` writes what came out, to be read in the diff."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest
import yaml

from portway.explain.trace import World
from portway.model.condition import Condition, ObjectReport
from portway.model.handles import REPORT
from portway.objects.kinds import KINDS
from tests.golden.answering import answer, expected_of
from tests.golden.compiled import (
    CASES,
    compile_case,
    differences,
    entries_of,
    load,
    model_of,
    name_of,
    report_of,
    status_of,
    unsaid,
)
from tests.golden.fields import is_field
from tests.kit.verdicts import faults_of_all


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_golden(case: Path, accept: bool) -> None:
    world = compile_case(case)
    if accept:
        _write(case, world)
    problems = [*_answers(case, world), *_status(case, world), *_model(case, world)]
    assert problems == []


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_every_verdict_says_what_to_do(case: Path) -> None:
    world = compile_case(case)
    problems: list[str] = []
    store = world.engine.store
    for key in sorted(key for kind in KINDS for key in store.keys(kind)):
        report = world.engine.get(REPORT, key)
        stored = store.get(key)
        assert stored is not None
        problems += faults_of_all(report.verdicts)
        problems += [
            f"{verdict}: no such field"
            for verdict in report.verdicts
            if verdict.object != key or not is_field(verdict.field, stored.object)
        ]
        problems += [
            f"{key}: {each.type} is silent" for each in conditions_of(report) if not each.status and not each.message
        ]
        problems += [
            f"{key}: {each.type} cannot be shown: {each.message!r}"
            for each in conditions_of(report)
            if not each.message.replace("\n", "").isprintable()
        ]
    assert problems == []


def conditions_of(report: ObjectReport) -> Iterator[Condition]:
    """All conditions of an object but `Conflicted`, which is good when it is false."""
    everything = [
        *report.conditions,
        *(each for listener in report.listeners for each in listener.conditions),
        *(each for parent in report.parents for each in parent.conditions),
    ]
    return (each for each in everything if each.type != "Conflicted")


def _answers(case: Path, world: World) -> list[str]:
    return [
        f"{dict(entry)}: {difference}"
        for entry in entries_of(case)
        for difference in differences(expected_of(entry), answer(world, entry))
    ]


def _status(case: Path, world: World) -> list[str]:
    status = cast("Mapping[str, object]", load(case / "status.yaml") or {})
    problems: list[str] = []
    for text, expected in status.items():
        report = report_of(world, text)
        if isinstance(expected, list):
            said = [str(verdict) for verdict in report.verdicts]
            problems += [f"{text}: {problem}" for problem in unsaid(expected, said)]
        else:
            problems += differences(expected, status_of(report), text)
    return problems


def _model(case: Path, world: World) -> list[str]:
    expected = load(case / "model.yaml")
    return [] if expected is None else differences(expected, model_of(world))


def _write(case: Path, world: World) -> None:
    new = not (case / "answers.yaml").exists() and not (case / "status.yaml").exists()
    if new or (case / "model.yaml").exists():
        (case / "model.yaml").write_text(_text(model_of(world)))
    if new or (case / "status.yaml").exists():
        (case / "status.yaml").write_text(_text(_said(case, world)))


def _said(case: Path, world: World) -> dict[str, object]:
    """The status in the form in which the case has it: sentences where it has sentences."""
    before = cast("Mapping[str, object]", load(case / "status.yaml") or {})
    found: dict[str, object] = {}
    for kind in (
        "GatewayClass",
        "Gateway",
        "ListenerSet",
        "HTTPRoute",
        "GRPCRoute",
        "TCPRoute",
        "TLSRoute",
        "UDPRoute",
    ):
        for key in sorted(world.engine.store.keys(kind)):
            if not before or str(key) in before:
                found[str(key)] = status_of(world.engine.get(REPORT, key))
    for text in before or [str(key) for key in sorted(world.engine.store.keys("Ingress"))]:
        if text not in found:
            found[text] = [str(verdict) for verdict in report_of(world, text).verdicts]
    return found


def _text(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=120, allow_unicode=True)
