"""`portway status` for a reader: what is wrong stands there, what is right does not."""

import pytest

from portway.app.status import ConditionStatus, ObjectStatus, Status
from portway.cli.status import show


def status(*conditions: ConditionStatus, findings: tuple[str, ...] = ()) -> Status:
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
        reports=(ObjectStatus(object="Gateway shop/public", conditions=conditions, remarks=()),),
        findings=findings,
    )


def condition(kind: str, value: bool) -> ConditionStatus:
    return ConditionStatus(type=kind, status=value, reason="Reason", message="")


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
