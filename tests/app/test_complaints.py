"""What the log says about errors in what is declared."""

from collections.abc import Sequence

from structlog.testing import capture_logs

from portway.app.complaints import LINES, Complaints
from portway.model.condition import ObjectReport
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.store import Finding, Store


def error(name: str, problem: str, severity: Severity = Severity.ERROR) -> Verdict:
    return Verdict(
        object=ObjectKey("Ingress", "shop", name),
        severity=severity,
        reason="Invalid",
        field="spec",
        problem=problem,
        remedy="mend it",
    )


def said(complaints: Complaints) -> list[dict[str, object]]:
    with capture_logs() as records:
        complaints.say()
    return [dict(record) for record in records]


def problems(complaints: Complaints) -> Sequence[object]:
    return [record.get("problem", record["event"]) for record in said(complaints)]


def report(name: str, *verdicts: Verdict) -> ObjectReport:
    return ObjectReport(object=ObjectKey("Ingress", "shop", name), verdicts=verdicts)


def test_an_error_is_named_once_with_all_that_helps() -> None:
    complaints = Complaints(Store())
    complaints.found("a.yaml", [Finding(error("a", "is wrong"), "a.yaml", 3)])
    assert said(complaints) == [
        {
            "log_level": "error",
            "event": "not served as declared",
            "place": "a.yaml:3",
            "object": "Ingress shop/a",
            "field": "spec",
            "problem": "is wrong",
            "remedy": "mend it",
        }
    ]
    complaints.found("a.yaml", [Finding(error("a", "is wrong"), "a.yaml", 7)])
    complaints.reported(report("b", error("b", "is doubtful", Severity.WARNING)))
    assert said(complaints) == []


def test_what_is_right_again_is_counted() -> None:
    complaints = Complaints(Store())
    complaints.reported(report("a", error("a", "one"), error("a", "two")))
    complaints.reported(report("b", error("b", "three")))
    assert problems(complaints) == ["one", "two", "three"]
    complaints.reported(report("a", error("a", "two"), error("a", "four")))
    complaints.forgotten(ObjectKey("Ingress", "shop", "b"))
    assert said(complaints)[1:] == [
        {"log_level": "info", "event": "errors in what is declared are gone", "gone": 2, "left": 2}
    ]
    complaints.reported(report("a", error("a", "two"), error("a", "four")))
    assert said(complaints) == []


def test_what_was_wrong_for_a_moment_is_no_news() -> None:
    complaints = Complaints(Store())
    complaints.reported(report("a", error("a", "not there yet")))
    complaints.reported(report("a"))
    assert said(complaints) == []


def test_a_flood_is_counted() -> None:
    complaints = Complaints(Store())
    for number in range(LINES + 5):
        complaints.reported(report(f"n{number}", error(f"n{number}", "is wrong")))
    records = said(complaints)
    assert len(records) == LINES + 1
    assert records[-1]["more"] == 5
