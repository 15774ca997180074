"""JSON text to plain data, as strictly as YAML is read: no duplicate keys, no NaN, bounded nesting.

A file may hold several JSON values one after the other, as kubectl accepts them.
"""

import json
from typing import Final, NoReturn

import msgspec

from portway.sources.problems import Problem, TextRefused

MAX_DEPTH: Final = 200
"""As in YAML."""


class JsonDocument(msgspec.Struct, frozen=True):
    """One value of a text."""

    data: object
    start: int
    """Offset of its first character."""
    line: int
    """From 1 within the text."""


class _DuplicateKey(ValueError):
    """Caught below: json's hooks cannot say where they are."""


def looks_like_json(text: str) -> bool:
    """Does it begin as a JSON object or list does? It may still be YAML's flow style."""
    return text.lstrip()[:1] in {"{", "["}


def parse_json(text: str) -> list[JsonDocument]:
    """Read all values of a text.

    Raises:
        TextRefused: with the first error's place and remedy. Nothing else, whatever the text.
    """
    documents: list[JsonDocument] = []
    position, line = 0, 1
    while (start := _skip_blanks(text, position)) < len(text):
        line += text.count("\n", position, start)
        try:
            data, end = _DECODER.raw_decode(text, start)
        except json.JSONDecodeError as error:
            _refuse(error.lineno, error.colno, _problem(error), "correct it at this place or right before it")
        except _DuplicateKey as error:
            at = text.rfind(f'"{error}"') if "\\" not in str(error) else -1
            line = text.count("\n", 0, at) + 1 if at >= 0 else line
            _refuse(line, 0, f'key "{error}" is there twice in one object', "keep one of the two")
        except RecursionError:
            _refuse(
                line,
                0,
                f"more than {MAX_DEPTH} objects and lists are nested",
                "nest less, no Kubernetes object needs that",
            )
        except ValueError as error:  # an integer of more than 4,300 digits (CPython's own bound)
            _refuse(line, 0, f"a number that is too long: {error}", "put it into quotes if text is meant")
        if _is_too_deep(data):
            _refuse(
                line,
                0,
                f"more than {MAX_DEPTH} objects and lists are nested",
                "nest less, no Kubernetes object needs that",
            )
        documents.append(JsonDocument(data, start, line))
        line += text.count("\n", start, end)
        position = end
    return documents


def _skip_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKey(key)
            seen.add(key)
    return result


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _is_too_deep(data: object) -> bool:
    level = [data]
    for _ in range(MAX_DEPTH + 1):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return False
        level = below
    return True


def _problem(error: json.JSONDecodeError) -> str:
    return {
        "Expecting value": "a value was expected here",
        "Expecting property name enclosed in double quotes": 'a key in "..." was expected here',
        "Expecting ':' delimiter": "a colon was expected here",
        "Expecting ',' delimiter": "a comma, or the end of the object or list, was expected here",
        "Illegal trailing comma before end of object": "a comma stands before the end of the object",
        "Illegal trailing comma before end of array": "a comma stands before the end of the list",
        "Unterminated string starting at": "a quote is not closed",
        "Invalid control character at": "a control character stands in a string; write it as an escape",
        "Invalid \\escape": "a backslash begins no escape of JSON",
        "Invalid \\uXXXX escape": "a \\u lacks digits",
    }.get(error.msg, error.msg)


def _refuse(line: int, column: int, problem: str, remedy: str) -> NoReturn:
    raise TextRefused(Problem(line=line, column=column, reason="InvalidJSON", problem=problem, remedy=remedy))
