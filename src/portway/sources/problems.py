"""What sources find wrong with text, before there is an object to speak about."""

import msgspec

from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.store import Finding

FILE_KIND = "File"
"""Stands as the kind in verdicts about a file as a whole; the name is the file's path."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One finding in a text, with its place relative to the text."""

    line: int
    """From 1; 0: the text as a whole."""
    column: int = 0
    """From 1; 0: the line as a whole."""
    reason: str
    problem: str
    remedy: str
    severity: Severity = Severity.ERROR
    field: str = ""
    object: ObjectKey | None = None

    def at(self, file: str, first_line: int) -> Finding:
        """The finding for a text that begins at that line of that file."""
        place = f"column {self.column}: " if self.column else ""
        verdict = Verdict(
            object=self.object or ObjectKey(FILE_KIND, "", file),
            severity=self.severity,
            reason=self.reason,
            field=self.field,
            problem=place + self.problem,
            remedy=self.remedy,
        )
        return Finding(verdict, file, self.line + first_line - 1 if self.line else 0)


class TextRefused(ValueError):
    """A text cannot be read as YAML or JSON; the author's fault. Carries where and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"line {problem.line}: {problem.problem}")
        self.problem = problem
