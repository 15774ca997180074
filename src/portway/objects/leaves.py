"""Checks of values without parts, each saying what it found and what is allowed: part of `portway.objects.schema`."""

import functools
import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Final

import msgspec
from msgspec import inspect

from portway.objects.meta import Part
from portway.objects.problems import Path, Problem, did_you_mean, is_text, quoted, shown
from portway.objects.scalars import decode_hook


class Unsound:
    """Stands where a value was that does not fit."""


UNSOUND: Final = Unsound()


class Report:
    """Collects what a reading finds."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.sound: list[tuple[type[Part], object, Path]] = []
        """The largest structs that fit although something around them does not; rules can still check them."""

    def add(self, path: Path, problem: str, remedy: str) -> Unsound:
        """Note a problem; returns what the reader is to return."""
        self.problems.append(Problem(path, problem, remedy))
        return UNSOUND


class Extra(msgspec.Struct, frozen=True, kw_only=True):
    """What annotations say of a type besides its bounds."""

    description: str = ""
    """What is allowed, in words."""
    secret: bool = False
    """Values are not shown."""

    def merged(self, info: inspect.Metadata) -> "Extra":
        """With what a further annotation says."""
        description = (info.extra_json_schema or {}).get("description") or self.description
        return Extra(description=str(description), secret=self.secret or "secret" in (info.extra or {}))


Check = Callable[[object, Path, Report], object]
"""Checks a value that is not None; returns it cleaned, or `UNSOUND` after telling the report why."""


def leaf_check(info: inspect.Type, extra: Extra) -> Check:
    """Make the check of a type without parts.

    Raises:
        NotImplementedError: a type that no object has so far; a mistake in a struct.
    """
    match info:
        case inspect.StrType():
            return functools.partial(_check_str, info, extra)
        case inspect.IntType():
            return functools.partial(_check_int, info)
        case inspect.BoolType():
            return _check_bool
        case inspect.EnumType():
            return functools.partial(_check_choice, tuple(str(member.value) for member in info.cls))
        case inspect.LiteralType():
            return functools.partial(_check_choice, info.values)
        case inspect.UnionType():
            return _check_int_or_str
        case inspect.DateTimeType():
            return _check_timestamp
        case inspect.BytesType():
            return functools.partial(_check_decoded, bytes, extra)
        case inspect.CustomType():
            return functools.partial(_check_decoded, info.cls, extra)
        case _:
            raise NotImplementedError(f"no check for {info}")


def _check_str(info: inspect.StrType, extra: Extra, raw: object, path: Path, report: Report) -> object:
    if not isinstance(raw, str):
        found = "the value" if extra.secret else shown(raw)
        scalar = isinstance(raw, bool | int | float | date) and not extra.secret
        text = str(raw) if isinstance(raw, date) else shown(raw)
        return report.add(path, f"{found} is not a string", f"quote it: {quoted(text)}" if scalar else "write one text")
    allowed = f"allowed is {extra.description}" if extra.description else "write a longer one"
    if not is_text(raw):
        return report.add(
            path, f"{'the value' if extra.secret else quoted(raw)} is no Unicode text", "write it in UTF-8"
        )
    if len(raw) < (info.min_length or 0):
        return report.add(path, "is empty" if not raw else f"{quoted(raw)} is too short", allowed)
    if info.max_length is not None and len(raw) > info.max_length:
        return report.add(
            path, f"{quoted(raw)} has {len(raw)} characters, more than the {info.max_length} allowed", "shorten it"
        )
    if info.pattern is not None and re.search(info.pattern, raw) is None:
        return report.add(path, f"{quoted(raw)} is not a valid value", allowed)
    return raw


def _check_int(info: inspect.IntType, raw: object, path: Path, report: Report) -> object:
    if isinstance(raw, float) and raw.is_integer():
        raw = int(raw)  # 80.0 is a whole number to JSON
    if not isinstance(raw, int) or isinstance(raw, bool):
        digits = isinstance(raw, str) and re.fullmatch(r"-?[0-9]{1,18}", raw, re.ASCII) is not None
        remedy = f"write {raw} without quotes" if digits else "write digits only"
        return report.add(path, f"{shown(raw)} is not a whole number", remedy)
    least, most = info.ge, info.le
    if (least is not None and raw < least) or (most is not None and raw > most):
        bounds = f"from {least} to {most}" if least is not None and most is not None else _bound(least, most)
        return report.add(path, f"{shown(raw)} is out of range", f"allowed is {bounds}")
    if not -(2**63) <= raw < 2**63:
        return report.add(path, f"{shown(raw)} is out of range", "allowed are 64-bit numbers")
    return raw


def _bound(least: float | None, most: float | None) -> str:
    return f"{least} or more" if least is not None else f"{most} or less"


def _check_bool(raw: object, path: Path, report: Report) -> object:
    if not isinstance(raw, bool):
        return report.add(path, f"{shown(raw)} is not true or false", "write true or false, without quotes")
    return raw


def _check_choice(choices: tuple[bool | str | int | None, ...], raw: object, path: Path, report: Report) -> object:
    if isinstance(raw, str | int) and not isinstance(raw, bool) and raw in choices:
        return raw
    names = [str(choice) for choice in choices]
    otherwise = "write one of them" if len(names) > 1 else f"write {names[0]}"
    hint = did_you_mean(raw, names, otherwise) if isinstance(raw, str) else otherwise
    return report.add(path, f"{shown(raw)} is none of {', '.join(names)}", hint)


def _check_int_or_str(raw: object, path: Path, report: Report) -> object:
    if isinstance(raw, bool) or not isinstance(raw, int | str) or (isinstance(raw, int) and abs(raw) >= 2**63):
        return report.add(path, f"{shown(raw)} is neither a number nor a name", "write one such as 80 or http")
    return raw


def _check_timestamp(raw: object, path: Path, report: Report) -> object:
    try:
        msgspec.convert(raw, datetime)
    except (msgspec.ValidationError, UnicodeError):
        return report.add(path, f"{shown(raw)} is not a time", "write it as 2026-01-31T12:00:00Z")
    return raw


def _check_decoded(wanted: type, extra: Extra, raw: object, path: Path, report: Report) -> object:
    """A type that is written as text: base64, durations. The decoder's own words say what is wrong with it."""
    try:
        msgspec.convert(raw, wanted, dec_hook=decode_hook)
    except (msgspec.ValidationError, UnicodeError) as error:
        if wanted is bytes or extra.secret:
            return report.add(path, "the value is not base64", "encode it with base64, or use stringData")
        # Our own decoders say what helps behind a semicolon (`portway.objects.durations`).
        problem, _, remedy = str(error).partition(" - at `")[0].partition("; ")
        return report.add(path, problem, remedy or "write numbers with the units h, m, s, ms, such as 10s or 1m30s")
    return raw
