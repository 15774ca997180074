"""What every verdict must say: which object, which field, what is wrong and what to do about it."""

from collections.abc import Iterable
from typing import Protocol

from portway.objects.verdict import Severity

_ENDS = (".", ",", ";", ":", " ")
"""A verdict's texts are joined with others, so none brings its own end. A question mark is one of ours."""
_DOTTED = ("..", "/.")
"""Names that end in a dot by themselves."""


class Said(Protocol):
    """A verdict, or a line of `check`."""

    @property
    def severity(self) -> Severity: ...
    @property
    def reason(self) -> str: ...
    @property
    def problem(self) -> str: ...
    @property
    def remedy(self) -> str: ...


def words_missing(verdict: Said) -> list[str]:
    """Which of a verdict's texts are empty. Information needs no remedy."""
    faults = [] if verdict.problem else ["problem is empty"]
    if not verdict.remedy and verdict.severity is not Severity.INFO:
        faults.append("remedy is empty")
    return faults


def faults_of(verdict: Said) -> list[str]:
    """What is wrong with a verdict's own words; empty if nothing is."""
    faults = words_missing(verdict)
    if not verdict.reason.isalnum():
        faults.append(f"reason {verdict.reason!r} is no word")
    for text in (verdict.problem, verdict.remedy):
        if text.startswith(" ") or (text.endswith(_ENDS) and not text.endswith(_DOTTED)):
            faults.append(f"stray end: {text!r}")
    return [f"{verdict}: {fault}" for fault in faults]


def faults_of_all(verdicts: Iterable[Said]) -> list[str]:
    """The faults of many verdicts."""
    return [fault for verdict in verdicts for fault in faults_of(verdict)]
