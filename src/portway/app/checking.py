"""All that is to be said about declared objects: what sources found and what queries found, with places in files."""

from collections.abc import Iterable

import msgspec

from portway.explain.report import Locate
from portway.model.condition import ObjectReport
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.store import Finding


class Remark(msgspec.Struct, frozen=True, kw_only=True):
    """One finding as a reader gets it."""

    file: str
    line: int
    severity: Severity
    reason: str
    object: str
    kind: str
    namespace: str
    name: str
    field: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else (f"{self.file}: " if self.file else "")
        subject = f"{self.object}: " if self.object else ""
        field = f"{self.field}: " if self.field else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{place}{self.severity}: {subject}{field}{self.problem}{remedy}"


RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


def make_remark(verdict: Verdict, file: str, line: int) -> Remark:
    key = verdict.object
    return Remark(
        file=file,
        line=line,
        severity=verdict.severity,
        reason=verdict.reason,
        # A file that cannot be read is no object: its name stands in front already.
        object="" if key.kind == "File" else str(key),
        kind=key.kind,
        namespace=key.namespace,
        name=key.name,
        field=verdict.field,
        problem=verdict.problem,
        remedy=verdict.remedy,
    )


def remarks(findings: Iterable[Finding], reports: Iterable[ObjectReport], locate: Locate) -> tuple[Remark, ...]:
    """Everything, each once, sorted by place; what has no place comes last."""
    found: dict[Verdict, Remark] = {}
    for finding in findings:
        found.setdefault(finding.verdict, make_remark(finding.verdict, finding.file, finding.line))
    for report in reports:
        for verdict in report.verdicts:
            if verdict not in found:
                file, line = locate(verdict.object, verdict.field) or ("", 0)
                found[verdict] = make_remark(verdict, file, line)
    return tuple(
        sorted(
            found.values(),
            key=lambda one: (not one.file, one.file, one.line, RANK[one.severity], one.object, one.field, one.problem),
        )
    )


def no_place(key: ObjectKey, field: str) -> tuple[str, int] | None:
    """A `Locate` for objects that come from no file."""
    del key, field
    return None
