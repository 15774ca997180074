"""What every verdict must say: which object, which field, what is wrong and what to do about it."""

from collections.abc import Iterable

from portway.objects.verdict import Severity, Verdict

_ENDS = (".", ",", ";", ":", " ")
"""Verdicts are joined with others' words, so no text brings its own end. A question mark is one of ours."""
_ABBREVIATIONS = ("..", "/.")
"""Names that end in a dot by themselves."""


def faults_of(verdict: Verdict) -> list[str]:
    """What is wrong with a verdict's own words; empty if nothing is. One that is for information needs no remedy."""
    texts = {"problem": verdict.problem, "remedy": verdict.remedy}
    faults = [
        f"{name} is empty"
        for name, text in texts.items()
        if not text and (name == "problem" or verdict.severity is not Severity.INFO)
    ]
    if not verdict.reason.isalnum():
        faults.append(f"reason {verdict.reason!r} is no word")
    for name, text in texts.items():
        if text.startswith(" ") or (text.endswith(_ENDS) and not text.endswith(_ABBREVIATIONS)):
            faults.append(f"{name} has a stray end: {text!r}")
        if "  " in text or "; ;" in text or "!" in text.replace("!#$", ""):
            faults.append(f"{name} is not in our style: {text!r}")
    return [f"{verdict}: {fault}" for fault in faults]


def faults_of_all(verdicts: Iterable[Verdict]) -> list[str]:
    """The faults of many verdicts."""
    return [fault for verdict in verdicts for fault in faults_of(verdict)]
