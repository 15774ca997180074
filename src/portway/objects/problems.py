"""What is wrong at one place of an object, and how it is worded.

Validation yields problems with a path of keys and indexes; `portway.objects.parsing` makes verdicts of them. Values are
quoted and cut, so that a message stays one readable line whatever the object holds.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LONGEST: Final = 80
"""Characters of a value that a message shows."""

Path = tuple[str | int, ...]
"""From some node of an object downwards: field names as in YAML, list indexes, keys of maps."""


class Problem(NamedTuple):
    """One thing that is wrong."""

    path: Path
    """Relative to the node that was checked; empty: the node itself."""
    problem: str
    """With the value found."""
    remedy: str


def field_path(path: Path) -> str:
    """Write a path as kubectl does: `spec.rules[0].name`, `metadata.annotations["example.com/a"]`."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif _PLAIN.fullmatch(step):
            parts.append(f".{step}" if parts else step)
        else:
            parts.append(f"[{quoted(step)}]")
    return "".join(parts)


def quoted(text: str) -> str:
    """A string in double quotes, escaped, cut to a readable length."""
    cut = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return json.dumps(cut, ensure_ascii=not cut.isprintable())


def is_text(text: str) -> bool:
    """Can it be written as UTF-8? A lone surrogate, which a loader's escapes may let in, cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_text(text: str) -> str:
    """A string that can be written whatever it was."""
    return text if is_text(text) else text.encode("utf-8", "replace").decode()


def shown(value: object) -> str:
    """A value as a message shows it: scalars as in JSON, anything else by what it is."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case int() | float():
            # A number with thousands of digits is a value too, and Python refuses to print it.
            return quoted_number(value)
        case Mapping():
            return "an object"
        case list() | tuple():
            return "a list"
        case _:
            return f"a {type(value).__name__}"


def quoted_number(value: float) -> str:
    """A number, if it is of a readable length."""
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of more than 60 digits"
    return str(value)


def nearest(wrong: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `wrong`; None if none is. Case counts least."""
    by_folded = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(wrong[:256].casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def did_you_mean(wrong: str, known: Iterable[str], otherwise: str) -> str:
    """Remedy that names the nearest known name; `otherwise` if none is near."""
    name = nearest(wrong, known)
    return f"did you mean {name}?" if name else otherwise


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: `a, b or c`."""
    return " or ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)


def duplicates(values: Iterable[object]) -> Iterable[tuple[int, int, object]]:
    """Each value that was there before: its index, the index of the first one, the value. Values are hashable."""
    first: dict[object, int] = {}
    for index, value in enumerate(values):
        before = first.setdefault(value, index)
        if before != index:
            yield index, before, value
