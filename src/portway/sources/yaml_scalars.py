"""What a plain (unquoted) YAML scalar means: as kubectl has it.

kubectl turns YAML into JSON with sigs.k8s.io/yaml, which follows go-yaml v2: YAML 1.1 with a few of 1.2's forms. So
`on` is a boolean, `0777` and `0o777` are octal, `1_000` is a thousand, a date stays a string, and a number beyond
float64 is a string. The rules are held against the Go library's own answers in `tests/sources/kubectl_yaml.json`.
"""

import math
import re
from decimal import Decimal
from typing import Final

Scalar = str | int | float | bool | None

_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
SURPRISING_WORDS: Final = frozenset(word for word in _WORDS if word.lower() in {"y", "yes", "on", "n", "no", "off"})
"""Words that many take for strings (YAML 1.2 has them as strings); worth a warning."""

_INFINITY: Final = frozenset(f"{sign}.{word}" for sign in ("", "+", "-") for word in ("inf", "Inf", "INF"))
_NAN: Final = frozenset({".nan", ".NaN", ".NAN"})

_INTEGER: Final = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[oO]?([0-7]+)|0[bB]([01]+)|(0|[1-9][0-9]*))\Z", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z", re.ASCII)
_STRAY_UNDERSCORE: Final = re.compile(r"(?<![0-9])_|_(?![0-9])")
"""After a leading dot Go allows underscores only between digits; elsewhere go-yaml drops them all before parsing."""
_BASES: Final = (16, 8, 2, 10)
_MIN_INTEGER: Final = -(2**63)
_MAX_INTEGER: Final = 2**64 - 1
_MAX_EXACT: Final = 1e21
"""Below it Go writes a float without an exponent, so that `80.0` and `8e1` are the integer 80 in JSON."""


class NotInJson(ValueError):
    """NaN or infinity: JSON, and so the Kubernetes API, has no such number."""


def resolve_plain(text: str) -> Scalar:
    """The value of a plain scalar.

    Raises:
        NotInJson: it is NaN or infinite.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if text in _INFINITY or text in _NAN:
        raise NotInJson(text)
    number = _number(text)
    return text if number is None else number


def _number(text: str) -> int | float | None:
    if text[0] == "." and _STRAY_UNDERSCORE.search(text):
        return None
    digits = text.replace("_", "")
    integer = _INTEGER.match(digits)
    if integer:
        group = next(index for index in range(2, 6) if integer.group(index) is not None)
        value = int(integer.group(group), _BASES[group - 2]) if len(digits) < 80 else _MAX_INTEGER + 1
        value = -value if integer.group(1) == "-" else value
        # Go parses a sign only with signed 64-bit integers.
        if _MIN_INTEGER <= value <= (_MAX_INTEGER if not integer.group(1) else 2**63 - 1):
            return value
    if not _FLOAT.match(digits):
        return None
    number = float(digits)
    if math.isinf(number):
        return None  # out of range is a string to go-yaml
    if number.is_integer() and abs(number) < _MAX_EXACT:
        return int(Decimal(repr(number)))  # the shortest digits that mean this float, as Go writes them
    return number
