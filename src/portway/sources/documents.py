"""Cuts a YAML stream into chunks that can be parsed, compared and refused one by one.

In YAML a line that begins with `---` followed by a blank or the line's end is a document separator wherever it stands:
a block scalar cannot hold one at column 0, and inside quotes it is an error (YAML 1.1 §9.1.1, `c-forbidden`; libyaml
and kubectl's own splitter agree). So cutting before each such line and parsing the chunks alone gives what parsing the
whole stream gives, except that an error stays in its chunk.

A chunk can still hold several documents: those that only `...` parts. A stream with a directive (a line that begins
with `%`) is not cut at all: directives stand before their separator, and nobody writes them in manifests.
"""

import re
from typing import Final

import msgspec

_SEPARATOR: Final = re.compile(r"\n---(?=[ \t\r\n]|\Z)")
_DIRECTIVE: Final = re.compile(r"(?:\A|\n)%")

# libyaml ends lines at more than \n (YAML 1.1 §4.2, `b-char`). Rare, so they have slower patterns of their own.
_BREAK: Final = "\r\n\x85\u2028\u2029"
_ANY_SEPARATOR: Final = re.compile(rf"[{_BREAK}]---(?=[ \t{_BREAK}]|\Z)")
_ANY_DIRECTIVE: Final = re.compile(rf"(?:\A|[{_BREAK}])%")
_ANY_BREAK: Final = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """A piece of a file that is parsed by itself."""

    text: str
    line: int
    """Its first line in the file, from 1."""


def split_documents(text: str) -> list[Chunk]:
    """Cut a YAML stream at its document separators. Joined again the chunks are the stream."""
    rare = has_rare_breaks(text)
    if "---" not in text or has_directive(text):
        return [Chunk(text, 1)] if text else []
    chunks: list[Chunk] = []
    start, line = 0, 1
    for cut in [*(match.start() + 1 for match in (_ANY_SEPARATOR if rare else _SEPARATOR).finditer(text)), len(text)]:
        piece = text[start:cut]
        chunks.append(Chunk(piece, line))
        line += len(_ANY_BREAK.findall(piece)) if rare else piece.count("\n")
        start = cut
    return chunks


def has_directive(text: str) -> bool:
    """Does a line begin with `%`?"""
    return "%" in text and (_ANY_DIRECTIVE if has_rare_breaks(text) else _DIRECTIVE).search(text) is not None


def count_lines(text: str) -> int:
    """Number of line breaks, as libyaml counts them."""
    return len(_ANY_BREAK.findall(text)) if has_rare_breaks(text) else text.count("\n")


def has_rare_breaks(text: str) -> bool:
    """Are there line breaks other than \\n and \\r\\n?"""
    if "\r" in text and text.count("\r") != text.count("\r\n"):
        return True
    return not text.isascii() and any(sign in text for sign in "\x85\u2028\u2029")
