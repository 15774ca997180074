"""What Portway has to say about an object that somebody declared.

A bad object is a value, not an exception: whoever cannot make sense of a field says so in a `Verdict`, keeps what the
specification allows to keep, and goes on. The same text reaches the condition, the event, the command line and the log.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec

MAX_TEXT = 1_000
"""Characters of each text of a verdict. Messages cut the values that they show; this is for what they could not foresee
(a list of a thousand names). A condition's message may have 32,768 (`metav1.Condition`), for all verdicts together."""


def readable(text: str) -> str:
    """The text as one line that a terminal, a log or a condition can show: escape sequences, line breaks and the like
    are escaped, what is too long is cut."""
    cut = text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."
    if cut.isprintable():
        return cut
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in cut)


class ObjectKey(NamedTuple):
    """Identity of an object. `kind` is unique among the kinds that Portway reads, so the API group is left out."""

    kind: str
    namespace: str
    """Empty for a cluster-scoped kind."""
    name: str

    def __str__(self) -> str:
        return readable(f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}")


class Severity(StrEnum):
    ERROR = "error"
    """Something that was asked for is not done. `check` exits with 1."""
    WARNING = "warning"
    """Served, but probably not as its owner thinks. `check --strict` exits with 1."""
    INFO = "info"
    """Worth knowing; changes no exit code."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One finding about one field of one object."""

    object: ObjectKey
    severity: Severity
    reason: str
    """Machine-readable, the specification's own word where it has one: `RefNotPermitted`, `InvalidKind`."""
    field: str = ""
    """Path from the object's root as kubectl writes it: `spec.rules[0].backendRefs[1].name`. Empty: the whole
    object."""
    problem: str
    """What is wrong, with the value found, and what happens meanwhile: served, degraded, refused."""
    remedy: str
    """What the owner of the object can do about it. Empty only for information that asks for nothing."""

    def __post_init__(self) -> None:
        # Here, where every text passes, and not where each is made: the values in them are anybody's.
        for name in ("field", "problem", "remedy"):
            text = getattr(self, name)
            if not text.isprintable() or len(text) > MAX_TEXT:
                msgspec.structs.force_setattr(self, name, readable(text))

    @property
    def text(self) -> str:
        """All but the object, as a condition of it says it."""
        place = f"{self.field}: " if self.field else ""
        return f"{place}{self.problem}; {self.remedy}" if self.remedy else place + self.problem

    def __str__(self) -> str:
        return f"{self.object}: {self.text}"
