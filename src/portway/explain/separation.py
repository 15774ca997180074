"""What tells the expressions of two match tables apart: texts that fit the one and not the other.

Where an expression was changed a little (`v[0-9]` to `v[0-8]`), the sample that is made of it as a rule fits both. So
for each expression that only one side has, many texts are drawn that fit it, and those are kept that do not fit what
the other side has in its place: for the path, or for the same field, query parameter or cookie.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from portway.explain.match import path_mismatch, value_mismatch
from portway.explain.patterns import drawn_of
from portway.model.route import PathKind, PathMatch, Route, RouteMatch, ValueKind, ValueMatch

COMPARED = 40
"""So many expressions of a side, and values of the other side for each, are looked at."""
KEPT = 2
"""So many texts of an expression are kept for each value of the other side."""


class _Slot(NamedTuple):
    """Where a value stands."""

    part: str
    """Of `RouteMatch`."""
    name: str = ""


_Value = PathMatch | ValueMatch


def _values(match: RouteMatch) -> Iterator[tuple[_Slot, _Value]]:
    yield _Slot("path"), match.path
    for part, values in (("headers", match.headers), ("query", match.query), ("cookies", match.cookies)):
        for value in values:
            yield _Slot(part, value.name), value


def _by_slot(routes: Sequence[Route]) -> dict[_Slot, dict[_Value, None]]:
    found: dict[_Slot, dict[_Value, None]] = {}
    for route in routes:
        for slot, value in _values(route.match):
            found.setdefault(slot, {})[value] = None
    return found


def separating(one: Sequence[Route], other: Sequence[Route]) -> Iterator[RouteMatch]:
    """Matches of either side in which a text stands in the place of an expression: one that shows a difference between
    the sides, if the expression decides."""
    slots, others = _by_slot(one), _by_slot(other)
    yield from _of_side(one, slots, others)
    yield from _of_side(other, others, slots)


def _of_side(
    routes: Sequence[Route], own: dict[_Slot, dict[_Value, None]], theirs: dict[_Slot, dict[_Value, None]]
) -> Iterator[RouteMatch]:
    looked_at: set[tuple[_Slot, _Value]] = set()
    for match in dict.fromkeys(route.match for route in routes):
        for slot, value in _values(match):
            there = theirs.get(slot, {})
            if not _is_expression(value) or value in there or (slot, value) in looked_at:
                continue
            if len(looked_at) == COMPARED:
                return
            looked_at.add((slot, value))
            opponents = [each for each in there if each not in own[slot]]
            for text in _apart(value, opponents[:COMPARED]):
                yield _with(match, slot, value, text)


def _is_expression(value: _Value) -> bool:
    return value.kind in (PathKind.REGEX, ValueKind.REGEX)


def _apart(value: _Value, opponents: Sequence[_Value]) -> Iterator[str]:
    """Texts that fit a value and not the opponents, each for itself."""
    if not opponents:
        return
    texts = [text for text in drawn_of(value.value) if isinstance(value, ValueMatch) or text.startswith("/")]
    kept: dict[str, None] = {}
    for opponent in opponents:
        outside = (text for text in texts if not _fits(opponent, text))
        kept.update((text, None) for text, _ in zip(outside, range(KEPT), strict=False))
    yield from kept


def _fits(value: _Value, text: str) -> bool:
    if isinstance(value, PathMatch):
        return not path_mismatch(value, text)
    return not value_mismatch("", msgspec.structs.replace(value, invert=False), (text,))


def _with(match: RouteMatch, slot: _Slot, value: _Value, text: str) -> RouteMatch:
    if isinstance(value, PathMatch):
        return msgspec.structs.replace(match, path=PathMatch(kind=PathKind.EXACT, value=text))
    values: tuple[ValueMatch, ...] = getattr(match, slot.part)
    told = ValueMatch(name=value.name, value=text)
    return msgspec.structs.replace(match, **{slot.part: tuple(told if each == value else each for each in values)})
