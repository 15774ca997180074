"""`portway status` for a reader: what is wrong stands there, what is right does not."""

import msgspec
import pytest

from portway.app.status import FleetsStatus, ObjectStatus, Seen, Status, make_status
from portway.cli.status import show
from portway.model.condition import ObjectReport
from portway.objects.verdict import ObjectKey, Severity, Verdict
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


def test_fleets_of_a_cluster_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    show(status(), everything=False)
    assert "fleets" not in capsys.readouterr().out
    work = FleetsStatus(wanted=12, held=0, updating=3, to_update=8, failed=1)
    show(msgspec.structs.replace(status(), fleets=work), everything=False)
    assert "  fleets: 12, 3 being updated, 8 to follow, 1 not as they should be\n" in capsys.readouterr().out


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


def test_findings_of_an_object_stand_below_its_name_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    key = ObjectKey("Ingress", "shop", "web")
    lines = {"spec.first": 3, "spec.second": 12}
    other = ObjectKey("Service", "shop", "cart")

    def verdict(about: ObjectKey, field: str) -> Verdict:
        return Verdict(
            object=about, severity=Severity.WARNING, reason="Reason", field=field, problem="is odd", remedy=""
        )

    verdicts = (verdict(other, "spec.third"), verdict(key, "spec.second"), verdict(key, "spec.first"))
    seen = Seen(
        not_ready_because="",
        objects={"Ingress": 1},
        reports=(ObjectReport(object=key, ours=True, verdicts=verdicts),),
        findings=(),
        proxies=(),
        refusals=(),
        processes=(),
    )
    show(
        make_status(seen, lambda _, field: ("a.yaml", lines[field]) if field in lines else None, "c"), everything=False
    )
    assert capsys.readouterr().out.splitlines()[-4:] == [
        "  Ingress shop/web",
        "      a.yaml:3: warning: spec.first: is odd",
        "      a.yaml:12: warning: spec.second: is odd",
        "      warning: Service shop/cart: spec.third: is odd",
    ]
