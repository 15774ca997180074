"""`portway status` for a reader: what is wrong stands there, what is right does not."""

import pytest

from portway.app.status import ObjectStatus, Status
from portway.cli.status import show
from portway.status.shapes import (
    Address,
    ConditionStatus,
    KubernetesStatus,
    ListenerStatus,
    ParentReference,
    ParentStatus,
)


def status(*conditions: ConditionStatus, findings: tuple[str, ...] = ()) -> Status:
    return of(KubernetesStatus(conditions=conditions), findings)


def of(status: KubernetesStatus, findings: tuple[str, ...] = ()) -> Status:
    return Status(
        version="1",
        ready=True,
        not_ready_because="",
        objects={"Gateway": 1},
        errors=len(findings),
        warnings=0,
        proxies=(),
        refusals=(),
        processes=(),
        reports=(ObjectStatus(object="Gateway shop/public", status=status, remarks=()),),
        findings=findings,
    )


def condition(kind: str, value: bool) -> ConditionStatus:
    return ConditionStatus(type=kind, status=str(value), reason="Reason")


def test_a_condition_whose_false_is_good_is_no_trouble(capsys: pytest.CaptureFixture[str]) -> None:
    show(status(condition("Accepted", True), condition("Conflicted", False)), everything=False)
    assert "Gateway shop/public" not in capsys.readouterr().out
    show(status(condition("Accepted", False), condition("Conflicted", True)), everything=False)
    said = capsys.readouterr().out
    assert "Accepted=False Reason" in said
    assert "Conflicted=True Reason" in said


def test_broken_files_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    show(status(findings=("a.yaml:2: error: a key cannot stand here",)), everything=False)
    said = capsys.readouterr().out
    assert "verdicts: 1 error, 0 warnings" in said
    assert "a.yaml:2: error: a key cannot stand here" in said


def test_conditions_say_what_they_are_about(capsys: pytest.CaptureFixture[str]) -> None:
    bad = (condition("Programmed", False),)
    parent = ParentReference(group="", kind="Gateway", namespace="shop", name="public", section_name="web", port=80)
    listener = ListenerStatus(name="web", supported_kinds=(), attached_routes=2, conditions=bad)
    show(
        of(
            KubernetesStatus(
                addresses=(Address(type="IPAddress", value="127.0.0.1"),),
                listeners=(listener,),
                parents=(ParentStatus(parent_ref=parent, controller_name="x", conditions=bad),),
            )
        ),
        everything=True,
    )
    said = capsys.readouterr().out
    assert "Gateway shop/public (127.0.0.1; listener web: 2 routes)" in said
    assert "Programmed=False Reason [Gateway shop/public listener web port 80]" in said
    assert "Programmed=False Reason [listener web]" in said
