"""libyaml's errors in our words: what is wrong where, and what usually helps."""

from typing import Final

import yaml

from portway.sources.problems import Problem

_INDENTATION: Final = "check the indentation of this line and the ones above"
_QUOTE: Final = "put the value into quotes"
_CHECK_LINE: Final = "check the indentation and the quotes of this line and the ones above"

_MESSAGES: Final[dict[str, tuple[str, str]]] = {
    # libyaml's word: (what is wrong, what helps)
    "mapping values are not allowed in this context": (
        "a key cannot stand here",
        "quote the value if it holds a colon followed by a blank, or correct the indentation",
    ),
    "did not find expected key": ("a key, or the end of the mapping, was expected here", _INDENTATION),
    "did not find expected '-' indicator": (
        "another list item, or the end of the list, was expected here",
        _INDENTATION,
    ),
    "block sequence entries are not allowed in this context": ("a list item cannot stand here", _INDENTATION),
    "block mapping entries are not allowed in this context": ("a key cannot stand here", _INDENTATION),
    "mapping keys are not allowed in this context": ("a key cannot stand here", _INDENTATION),
    "could not find expected ':'": ("a key without a colon", "write `key: value`; check the quotes above too"),
    "did not find expected ',' or '}'": (
        "a { has no }, or a comma is missing",
        "close it, or quote a value that begins with {",
    ),
    "did not find expected ',' or ']'": (
        "a [ has no ], or a comma is missing",
        "close it, or quote a value that begins with [",
    ),
    "did not find expected node content": (
        "a value was expected here",
        "write one, or quote it if it begins with a sign of YAML's own",
    ),
    "found unexpected end of stream": ("a quote is not closed before the end of the text", "close it"),
    "second occurrence": ("an anchor of this name was defined before", "rename one of the two"),
    "found unexpected document indicator": ("a line with --- or ... stands inside quotes", "close the quote above it"),
    "found undefined alias": (
        "an alias has no anchor before it in this document",
        "quote the value if it begins with * on purpose",
    ),
    "found unknown escape character": (
        'a backslash in "..." begins no escape of YAML',
        "use '...' quotes, or double the backslash",
    ),
    "did not find expected hexdecimal number": (
        'a \\x, \\u or \\U in "..." lacks digits',
        "use '...' quotes, or double the backslash",
    ),
    "found invalid Unicode character escape code": (
        'an escape in "..." is no character',
        "use '...' quotes, or double the backslash",
    ),
    "found a tab character that violates indentation": ("a tab in the indentation", "use spaces"),
    "found a tab character where an indentation space is expected": ("a tab in the indentation", "use spaces"),
    "did not find expected <document start>": ("text after the document's end", "put --- before the next document"),
    "found duplicate %YAML directive": ("two %YAML directives", "remove one"),
    "found incompatible YAML document": ("a %YAML directive with another version than 1.x", "remove it"),
    "found undefined tag handle": ("an unknown tag", "quote the value if it begins with ! on purpose"),
    "did not find expected comment or line break": (
        "a value goes on after it should end",
        "check the quotes on this line",
    ),
}
_BAD_START: Final[dict[str, tuple[str, str]]] = {
    "\t": ("a tab where a value or a key should begin", "indent with spaces"),
    "@": ("a value cannot begin with @", _QUOTE),
    "`": ("a value cannot begin with a back-tick", _QUOTE),
    "%": ("a value cannot begin with %", _QUOTE),
    "{": ("a template's {{ }} must be filled in before", "render the template first, or quote the value"),
}


def explain_syntax(error: yaml.YAMLError, text: str = "") -> Problem:
    """What libyaml's error means. Lines count from the text's first."""
    if isinstance(error, yaml.reader.ReaderError):
        return Problem(
            line=text.count("\n", 0, error.position) + 1 if text else 0,
            reason="InvalidYAML",
            problem=f"character U+{ord(error.character) if isinstance(error.character, str) else error.character:04X}"
            " may not stand in YAML",
            remedy='write it as an escape in "..." quotes, or remove it',
        )
    if not isinstance(error, yaml.MarkedYAMLError):
        return Problem(line=0, reason="InvalidYAML", problem=str(error), remedy=_CHECK_LINE)
    mark = error.problem_mark or error.context_mark
    if mark and error.context_mark and mark.index >= len(text.rstrip()):
        mark = error.context_mark  # what is not closed before the end is best sought where it was opened
    problem, remedy = _words(error, text)
    return Problem(
        line=mark.line + 1 if mark else 0,
        column=mark.column + 1 if mark else 0,
        reason="InvalidYAML",
        problem=problem,
        remedy=remedy,
    )


def _words(error: yaml.MarkedYAMLError, text: str) -> tuple[str, str]:
    said = error.problem or error.context or "not YAML"
    if said == "found character that cannot start any token" and error.problem_mark is not None:
        lines = text.split("\n")
        mark = error.problem_mark
        sign = lines[mark.line][mark.column : mark.column + 1] if mark.line < len(lines) else ""
        return _BAD_START.get(sign, (f"a value cannot begin with {sign or 'this character'}", _QUOTE))
    if said.startswith("found undefined alias"):
        return _MESSAGES["found undefined alias"]
    return _MESSAGES.get(said, (said, _CHECK_LINE))
