"""Says in the log what has become wrong with what is declared, and that it is right again."""

from collections.abc import Hashable, Iterable
from typing import final

import msgspec
import structlog

from portway.model.condition import ObjectReport
from portway.objects.verdict import Severity, Verdict
from portway.sources.problems import FILE_KIND
from portway.store import Finding, Origin, Store

log = structlog.get_logger(__name__)

LINES = 20
"""Errors that are named after one change; of more it is said how many there are."""


class _Error(msgspec.Struct, frozen=True):
    verdict: Verdict
    place: str
    """`FILE:LINE`; not part of what it is: an error whose line moves is no new one."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Error) and self.verdict == other.verdict

    def __hash__(self) -> int:
        return hash(self.verdict)


@final
class Complaints:
    """Knows the errors that there are now. Warnings are for `portway check` and `portway status`: a log that repeats
    them is not read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._errors: dict[Hashable, frozenset[_Error]] = {}
        self._new: dict[_Error, None] = {}
        self._gone = 0

    def found(self, item: str, findings: Iterable[Finding]) -> None:
        """What a source has to say about one of its items; nothing: nothing any more."""
        errors = (each for each in findings if each.verdict.severity is Severity.ERROR)
        self._note(item, frozenset(_Error(each.verdict, str(Origin(each.file, each.line))) for each in errors))

    def reported(self, report: ObjectReport) -> None:
        """What there is to say about an object."""
        stored = self._store.get(report.object)
        place = str(stored.origin) if stored is not None else ""
        errors = (verdict for verdict in report.verdicts if verdict.severity is Severity.ERROR)
        self._note(report.object, frozenset(_Error(verdict, place) for verdict in errors))

    def forgotten(self, key: Hashable) -> None:
        """There is no such object any more."""
        self._note(key, frozenset())

    def say(self) -> None:
        """Log what has changed since the last time."""
        new, self._new = list(self._new), {}
        gone, self._gone = self._gone, 0
        for error in new[:LINES]:
            verdict = error.verdict
            said = {
                "place": error.place,
                "object": "" if verdict.object.kind == FILE_KIND else str(verdict.object),
                "field": verdict.field,
                "problem": verdict.problem,
                "remedy": verdict.remedy,
            }
            log.error("not served as declared", **{word: value for word, value in said.items() if value})
        if len(new) > LINES:
            log.error("more errors in what is declared; portway status names all", more=len(new) - LINES)
        if gone:
            log.info("errors in what is declared are gone", gone=gone, left=sum(map(len, self._errors.values())))

    def _note(self, key: Hashable, errors: frozenset[_Error]) -> None:
        before = self._errors.get(key, frozenset())
        if errors == before:
            return
        if errors:
            self._errors[key] = errors
        else:
            self._errors.pop(key, None)
        for error in sorted(errors - before, key=lambda one: str(one.verdict)):
            self._new[error] = None
        for error in before - errors:
            if error in self._new:
                del self._new[error]  # it was wrong for a moment only
            else:
                self._gone += 1
