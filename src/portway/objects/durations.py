"""Durations as Gateway API writes them (GEP-2257): `1h30m`, `10s`, `500ms`, `0s`.

A subset of Go's durations: at most four parts of one to five digits, each with one of the units h, m, s, ms; no sign,
no fraction, no space. Parts may repeat and come in any order, they are added up; so the longest one is 399,996 hours.
"""

import re
from datetime import timedelta
from typing import Final

_SHAPE: Final = re.compile(r"(?:[0-9]{1,5}(?:ms|[hms])){1,4}", re.ASCII)
_PART: Final = re.compile(r"([0-9]{1,5})(ms|[hms])", re.ASCII)
_MILLISECONDS: Final = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def parse_milliseconds(text: str) -> int:
    """Read a GEP-2257 duration into milliseconds.

    Raises:
        ValueError: `text` is no such duration.
    """
    if _SHAPE.fullmatch(text) is None:
        raise ValueError(f'"{text}" is no duration; write numbers with the units h, m, s, ms, such as 10s or 1m30s')
    return sum(int(number) * _MILLISECONDS[unit] for number, unit in _PART.findall(text))


def parse_duration(text: str) -> timedelta:
    """Read a GEP-2257 duration.

    Raises:
        ValueError: `text` is no such duration.
    """
    return timedelta(milliseconds=parse_milliseconds(text))


def format_duration(duration: timedelta) -> str:
    """Write a duration as GEP-2257 has it, the longest units first: `1h30m`, `1s500ms`, `0s`.

    Anything shorter than a millisecond is cut off. The same value gives the same text.

    Raises:
        ValueError: `duration` is negative or too long (100,000 hours and more), which no such text can say.
    """
    rest = duration // timedelta(milliseconds=1)
    if rest < 0 or rest >= 100_000 * _MILLISECONDS["h"]:
        raise ValueError(f"{rest} ms cannot be written as a Gateway API duration")
    parts = []
    for unit, size in _MILLISECONDS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
