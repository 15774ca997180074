"""A text that a regular expression fits: for example requests.

Knows the part of RE2's syntax that people write for paths and fields; whatever it makes is checked with RE2 itself, so
a gap here means no example, never a wrong one.
"""

from functools import lru_cache
from typing import final

from portway.explain.match import fits_whole
from portway.model.checks import check_regex

PREFERRED = "a0A-_.~/ "
"""Characters tried for a class, in this order; then the rest of ASCII."""
CLASSES = {"d": "0", "D": "a", "w": "a", "W": "-", "s": " ", "S": "a"}
CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
NOTHING = "AzZbB"
"""Escapes that fit no character but a place."""


class _NoSampleError(Exception):
    """The expression uses something that is not known here."""


BRANCHES = 3
"""So many branches of alternations are tried."""


@lru_cache(maxsize=4096)
def samples_of(pattern: str) -> tuple[str, ...]:
    """Some texts that the RE2 pattern fits as a whole; empty if none was found.

    What may be repeated stands there once, then not at all; each time with the first branches of alternations, then
    with the second ones ...
    """
    if check_regex(pattern):
        return ()
    found: dict[str, None] = {}
    for branch in range(BRANCHES):
        for repeats in (1, 0):
            text = _read(pattern, repeats, branch)
            if text is not None and fits_whole(pattern, text):
                found[text] = None
    return tuple(found)


def sample_of(pattern: str) -> str | None:
    """A text that the RE2 pattern fits as a whole; `None` if none was found."""
    return next(iter(samples_of(pattern)), None)


def _read(pattern: str, repeats: int, branch: int) -> str | None:
    reader = _Reader(pattern, repeats, branch)
    try:
        text = reader.alternation()
    except (_NoSampleError, RecursionError):
        return None
    return text if reader.position == len(pattern) else None


@final
class _Reader:
    """Recursive descent; each method reads one thing and returns a text for it."""

    def __init__(self, pattern: str, repeats: int, branch: int) -> None:
        """
        Args:
            repeats: how often that stands there which may stand there any number of times: 0 or 1.
            branch: which branch of an alternation is taken; the last one if there are fewer.
        """
        self.pattern = pattern
        self.repeats = repeats
        self.branch = branch
        self.position = 0

    def peek(self) -> str:
        return self.pattern[self.position : self.position + 1]

    def next(self) -> str:
        character = self.peek()
        if not character:
            raise _NoSampleError
        self.position += 1
        return character

    def skip(self, text: str) -> bool:
        if self.pattern.startswith(text, self.position):
            self.position += len(text)
            return True
        return False

    def alternation(self) -> str:
        """One branch; the others are read and dropped."""
        texts = [self.sequence()]
        while self.skip("|"):
            texts.append(self.sequence())
        return texts[min(self.branch, len(texts) - 1)]

    def sequence(self) -> str:
        parts: list[str] = []
        while self.peek() and self.peek() not in "|)":
            parts.append(self.repeated(self.atom()))
        return "".join(parts)

    def repeated(self, text: str) -> str:
        if self.skip("*") or self.skip("?"):
            self.skip("?")
            return text * self.repeats
        if self.skip("+"):
            self.skip("?")
            return text
        if self.peek() == "{":
            end = self.pattern.find("}", self.position)
            least = self.pattern[self.position + 1 : end].partition(",")[0] if end > 0 else ""
            if not least.isdigit():
                raise _NoSampleError
            self.position = end + 1
            self.skip("?")
            return text * min(int(least), 100)
        return text

    def atom(self) -> str:
        character = self.next()
        match character:
            case "(":
                return self.group()
            case "[":
                return self.character_class()
            case ".":
                return "a"
            case "^" | "$":
                return ""
            case "\\":
                return self.escape()
            case "*" | "+" | "?":
                raise _NoSampleError
            case _:
                return character

    def group(self) -> str:
        if self.skip("?P<") or self.skip("?<"):
            while self.next() != ">":
                pass
        elif self.skip("?"):
            # Flags: `(?i)` stands alone, `(?i:` opens a group.
            while (flag := self.next()) not in ":)":
                if flag not in "imsU-":
                    raise _NoSampleError
            if flag == ")":
                return ""
        text = self.alternation()
        if not self.skip(")"):
            raise _NoSampleError
        return text

    def escape(self) -> str:
        character = self.next()
        if character in CLASSES:
            return CLASSES[character]
        if character in NOTHING:
            return ""
        if character in CONTROLS:
            return CONTROLS[character]
        if character.isalnum():
            raise _NoSampleError
        return character

    def character_class(self) -> str:
        """A character that the class holds, found by asking RE2 about the class alone."""
        start = self.position - 1
        self.skip("^")
        self.skip("]")
        while not self.skip("]"):
            if self.skip("[:"):
                self.position = self.pattern.find(":]", self.position) + 2
            elif self.next() == "\\":
                self.next()
        members = self.pattern[start : self.position]
        for character in PREFERRED + "".join(map(chr, range(33, 127))):
            if fits_whole(members, character):
                return character
        raise _NoSampleError
