"""Texts that a regular expression fits: for example requests.

Knows the part of RE2's syntax that people write for paths and fields; whatever it makes is checked with RE2 itself, so
a gap here means no example, never a wrong one.
"""

from functools import lru_cache
from hashlib import sha256
from typing import Protocol, final

from portway.explain.match import fits_whole
from portway.model.checks import check_regex

PREFERRED = "a0A-_.~/ "
"""Characters tried for a class, in this order; then the rest of ASCII."""
CLASSES = {"d": "0", "D": "a", "w": "a", "W": "-", "s": " ", "S": "a"}
CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
REPETITIONS = {"*": (0, None), "+": (1, None), "?": (0, 1)}
NOTHING = "AzZbB"
"""Escapes that fit no character but a place."""


ANY = {"d": "0123456789", "w": "abcxyzABCXYZ0189_", "s": " ", ".": "abcxyzABCXYZ0189-._~/"}
"""What may be drawn for classes that have no list of their members."""


class _NoSampleError(Exception):
    """The expression uses something that is not known here."""


BRANCHES = 3
"""So many branches of alternations are tried."""
DRAWN = 60
"""So many texts are drawn of an expression at most."""
MORE_OFTEN = 3
"""So many more than the least number of repetitions are drawn."""


class _Choices(Protocol):
    """Decides where an expression leaves a choice."""

    def branch(self, number: int) -> int:
        """Which of so many branches of an alternation, from 0."""

    def times(self, least: int, most: int | None) -> int:
        """How often something is repeated; `most`: `None` for any number of times."""

    def member(self, name: str, first: str) -> str:
        """A character of the class `name`, a key of `ANY`; `first` is the usual one."""

    def listed(self, members: str) -> str:
        """A character of the class that is written `[...]`."""


@final
class _Steady:
    """What is usual, in the n-th branch and as seldom as `repeats` says."""

    def __init__(self, repeats: int, branch: int) -> None:
        """
        Args:
            repeats: how often that stands there which may stand there any number of times: 0 or 1.
            branch: which branch of an alternation is taken; the last one if there are fewer.
        """
        self._repeats = repeats
        self._branch = branch

    def branch(self, number: int) -> int:
        return min(self._branch, number - 1)

    def times(self, least: int, most: int | None) -> int:
        return least or (self._repeats if most is None or most > 0 else 0)

    def member(self, name: str, first: str) -> str:
        del name
        return first

    def listed(self, members: str) -> str:
        return _members(members)[0]


@final
class _Drawn:
    """As if by lot, but always the same for one expression: explanations are pure."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._drawn = 0

    def _lot(self, below: int) -> int:
        self._drawn += 1
        return int.from_bytes(sha256(f"{self._drawn} {self._seed}".encode()).digest()[:4]) % below

    def branch(self, number: int) -> int:
        return self._lot(number)

    def times(self, least: int, most: int | None) -> int:
        highest = least + MORE_OFTEN if most is None else max(least, min(most, least + MORE_OFTEN))
        return least + self._lot(highest - least + 1)

    def member(self, name: str, first: str) -> str:
        members = ANY.get(name, first)
        return members[self._lot(len(members))]

    def listed(self, members: str) -> str:
        found = _members(members)
        return found[self._lot(len(found))]


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
            text = _read(pattern, _Steady(repeats, branch))
            if text is not None and fits_whole(pattern, text):
                found[text] = None
    return tuple(found)


def sample_of(pattern: str) -> str | None:
    """A text that the RE2 pattern fits as a whole; `None` if none was found."""
    return next(iter(samples_of(pattern)), None)


@lru_cache(maxsize=1024)
def drawn_of(pattern: str) -> tuple[str, ...]:
    """Many texts that the RE2 pattern fits as a whole, drawn by lot but always the same; empty if none was found."""
    if check_regex(pattern):
        return ()
    choices = _Drawn(pattern)
    texts = (_read(pattern, choices) for _ in range(DRAWN))
    return tuple(dict.fromkeys(text for text in texts if text is not None and fits_whole(pattern, text)))


@lru_cache(maxsize=1024)
def _members(members: str) -> str:
    """Characters that a class `[...]` holds, found by asking RE2 about the class alone; the preferred ones first.

    Raises:
        _NoSampleError: none of ASCII.
    """
    every = dict.fromkeys(PREFERRED + "".join(map(chr, range(33, 127))))
    found = "".join(character for character in every if fits_whole(members, character))
    if not found:
        raise _NoSampleError
    return found


def _read(pattern: str, choices: _Choices) -> str | None:
    reader = _Reader(pattern, choices)
    try:
        text = reader.alternation()
    except (_NoSampleError, RecursionError):
        return None
    return text if reader.position == len(pattern) else None


@final
class _Reader:
    """Recursive descent; each method reads one thing and returns a text for it."""

    def __init__(self, pattern: str, choices: _Choices) -> None:
        self.pattern = pattern
        self.choices = choices
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
        return texts[self.choices.branch(len(texts))]

    def sequence(self) -> str:
        parts: list[str] = []
        while self.peek() and self.peek() not in "|)":
            parts.append(self.repeated(self.atom()))
        return "".join(parts)

    def repeated(self, text: str) -> str:
        bounds = REPETITIONS.get(self.peek())
        if bounds is not None:
            self.position += 1
        elif self.peek() == "{":
            bounds = self.counts()
        else:
            return text
        self.skip("?")
        return text * min(self.choices.times(*bounds), 100)

    def counts(self) -> tuple[int, int | None]:
        """`{2}`, `{2,}` and `{2,3}`."""
        end = self.pattern.find("}", self.position)
        low, comma, high = self.pattern[self.position + 1 : end].partition(",") if end > 0 else ("", "", "")
        if not low.isdigit():
            raise _NoSampleError
        self.position = end + 1
        return int(low), int(high) if high.isdigit() else None if comma else int(low)

    def atom(self) -> str:
        character = self.next()
        match character:
            case "(":
                return self.group()
            case "[":
                return self.character_class()
            case ".":
                return self.choices.member(".", "a")
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
            return self.choices.member(character, CLASSES[character])
        if character in NOTHING:
            return ""
        if character in CONTROLS:
            return CONTROLS[character]
        if character.isalnum():
            raise _NoSampleError
        return character

    def character_class(self) -> str:
        start = self.position - 1
        self.skip("^")
        self.skip("]")
        while not self.skip("]"):
            if self.skip("[:"):
                self.position = self.pattern.find(":]", self.position) + 2
            elif self.next() == "\\":
                self.next()
        return self.choices.listed(self.pattern[start : self.position])
