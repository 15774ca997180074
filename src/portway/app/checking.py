"""All that is to be said about declared objects: what sources found and what queries found, with places in files."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from portway.app.compiler import REPORTS, compile_files
from portway.explain.report import Locate
from portway.incremental import Engine
from portway.model.condition import ObjectReport
from portway.model.unread import NOT_READ
from portway.objects.kinds import KINDS
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.settings import Settings
from portway.sources.problems import FILE_KIND
from portway.store import Finding

STDIN = "-"
"""Standard input, as it is named on the command line and in `Remark.file`."""


class Remark(msgspec.Struct, frozen=True, kw_only=True):
    """One finding as a reader gets it."""

    file: str
    """As it was given, or found below a folder that was; `-` for standard input; empty: from no file."""
    line: int
    """Of the field, or of its nearest parent if it is missing; from 1. 0: the file as a whole, or no file."""
    severity: Severity
    reason: str
    """For programs: the specification's word where it has one (`BackendNotFound`, `RefNotPermitted`)."""
    object: str
    """`Kind namespace/name`; empty for what is said about a file."""
    kind: str
    """`File` for what is said about a file."""
    namespace: str
    name: str
    field: str
    """As kubectl writes it: `spec.rules[0].backendRefs[1].name`. Empty: the object as a whole."""
    problem: str
    """What is wrong with which value, and what happens meanwhile."""
    remedy: str
    """What to do about it; may be empty."""

    @property
    def place(self) -> str:
        """File and line as compilers write them, empty if there is no file."""
        file = "<stdin>" if self.file == STDIN else self.file
        return f"{file}:{self.line}" if file and self.line else file

    @property
    def text(self) -> str:
        """All but place and severity, on one line."""
        subject = f"{self.object}: " if self.object else ""
        field = f"{self.field}: " if self.field else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{subject}{field}{self.problem}{remedy}"

    def __str__(self) -> str:
        return f"{self.place}: {self.severity}: {self.text}" if self.place else f"{self.severity}: {self.text}"


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """All that a check found; as JSON, what `portway check -o json` prints."""

    objects: int
    """Objects that were taken."""
    refused: int
    """Objects of kinds that Portway reads and that were not taken, as a cluster would not take them."""
    errors: int
    """Verdicts of that severity: something that was asked for is not done."""
    warnings: int
    """Served, but probably not as its owner thinks."""
    verdicts: tuple[Remark, ...]
    """By file, line, severity and object; what belongs to no file comes last."""
    notes: tuple[str, ...] = ()
    """What is not known of a cluster, why, and what to do about it."""


class InternalError(Exception):
    """A query raised: a bug of ours, whatever the objects. The message says which and why."""


RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


def make_remark(verdict: Verdict, file: str, line: int) -> Remark:
    verdict = _as_known(verdict)
    key = verdict.object
    return Remark(
        file=file,
        line=line,
        severity=verdict.severity,
        reason=verdict.reason,
        # A file that cannot be read is no object: its name stands in front already.
        # ... and what does not say its name is known by its place only.
        object="" if key.kind == FILE_KIND or not (key.name or key.namespace) else str(key),
        kind=key.kind,
        namespace=key.namespace,
        name=key.name,
        field=verdict.field,
        problem=verdict.problem,
        remedy=verdict.remedy,
    )


def _as_known(verdict: Verdict) -> Verdict:
    """What hangs on an object that could not be read is no fault of anybody's."""
    said, not_read, _ = verdict.problem.partition(NOT_READ)
    if not not_read:
        return verdict
    problem = f"{said}{not_read}, so what becomes of this is not known"
    return msgspec.structs.replace(verdict, severity=Severity.INFO, reason="NotRead", problem=problem, remedy="")


def by_place(one: Remark) -> tuple[object, ...]:
    """Sorts remarks as a reader goes through files; what has no place comes last."""
    return (not one.file, one.file, one.line, RANK[one.severity], one.object, one.field, one.problem)


def remarks(findings: Iterable[Finding], reports: Iterable[ObjectReport], locate: Locate) -> tuple[Remark, ...]:
    """Everything, each once, sorted by place."""
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
            key=by_place,
        )
    )


def no_place(key: ObjectKey, field: str) -> tuple[str, int] | None:
    """A `Locate` for objects that come from no file."""
    del key, field
    return None


async def check_files(
    paths: Sequence[str],
    settings: Settings,
    *,
    show: Callable[[str], None] = lambda text: None,
) -> CheckResult:
    """Read files once, compile them, and gather what there is to say.

    Args:
        paths: files, folders, or `-` for standard input.
        settings, show: as for `compile_files`.

    Raises:
        InternalError: see there.
    """
    engine, source = await compile_files(paths, settings, show=show)
    reports, _ = engine.settle().of(REPORTS)
    refuse_failures(engine)
    found = remarks(engine.store.findings(), (one.report for one in reports.values()), source.locator())
    # A Namespace that nobody declared exists all the same, but it is no object of the reader's.
    implied = sum(not stored.origin.file for key in engine.store.keys("Namespace") if (stored := engine.store.get(key)))
    objects = sum(engine.store.statistics().objects.values()) - implied
    refused = {
        (one.file, one.object)
        for one in found
        if one.kind in KINDS
        and one.severity is Severity.ERROR
        and engine.store.get(ObjectKey(one.kind, one.namespace, one.name)) is None
    }
    if not objects and not found:
        found = tuple(_nothing(path) for path in paths)
    return result_of(found, objects=objects, refused=len(refused))


def result_of(found: tuple[Remark, ...], *, objects: int, refused: int, notes: tuple[str, ...] = ()) -> CheckResult:
    """All that a check found, with its sums."""
    count = Counter(remark.severity for remark in found)
    return CheckResult(
        objects=objects,
        refused=refused,
        errors=count[Severity.ERROR],
        warnings=count[Severity.WARNING],
        verdicts=found,
        notes=notes,
    )


def refuse_failures(engine: Engine) -> None:
    """Never let a bug of ours look like a green result.

    Raises:
        InternalError: see there.
    """
    for failure in engine.failures():
        raise InternalError(f"{failure.name}({failure.key}): {failure.error}")


def _nothing(path: str) -> Remark:
    """A check of nothing is no success: most likely the path is not the one that was meant."""
    verdict = Verdict(
        object=ObjectKey(FILE_KIND, "", path),
        severity=Severity.WARNING,
        reason="NoObjects",
        problem="there is no object in it",
        remedy="name a file or folder of .yaml, .yml or .json files",
    )
    return make_remark(verdict, path, 0)
