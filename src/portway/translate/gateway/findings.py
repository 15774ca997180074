"""What is wrong with one field, and which condition says so."""

from collections.abc import Iterable, Sequence

import msgspec

from portway.model.condition import Condition
from portway.objects.verdict import ObjectKey, Severity, Verdict

ACCEPTED = "Accepted"
RESOLVED_REFS = "ResolvedRefs"
PROGRAMMED = "Programmed"
PARTIALLY_INVALID = "PartiallyInvalid"
CONFLICTED = "Conflicted"
SUPPORTED_VERSION = "SupportedVersion"


class Problem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One finding; becomes a verdict and, if `condition` is set, part of that condition."""

    condition: str
    """Type of the condition that it makes false (`PartiallyInvalid`: true); empty: a verdict only."""
    reason: str
    field: str
    message: str
    """What is wrong with which value, and what happens meanwhile."""
    remedy: str
    severity: Severity = Severity.ERROR

    def verdict(self, key: ObjectKey) -> Verdict:
        return Verdict(
            object=key,
            severity=self.severity,
            reason=self.reason,
            field=self.field,
            problem=self.message,
            remedy=self.remedy,
        )

    def __str__(self) -> str:
        place = f"{self.field}: {self.message}" if self.field else self.message
        return f"{place}; {self.remedy}" if self.remedy else place


MAX_MESSAGE = 32768
"""Longest message of a condition that the API server takes (`metav1.Condition`)."""


def condition(type_: str, problems: Sequence[Problem], good: str, message: str = "") -> Condition:
    """The condition that is true with reason `good` unless there are problems; the first one's reason, all messages."""
    if not problems:
        return Condition(type=type_, status=True, reason=good, message=message)
    return Condition(type=type_, status=False, reason=problems[0].reason, message=joined(problems))


def joined(problems: Iterable[Problem]) -> str:
    """The messages, each once, in order."""
    return "\n".join(dict.fromkeys(map(str, problems)))[:MAX_MESSAGE]


def of(condition_type: str, problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Those that make one condition false."""
    return tuple(problem for problem in problems if problem.condition == condition_type)
