"""From declared paths and hosts to matches, in the order in which they must be tried.

A host is in one of two modes. Normally paths are what they say: Exact, or Prefix by whole segments, the longest first,
Exact before Prefix (Kubernetes, Ingress, "Path types", "Multiple matches"). As soon as one path of the host is a
regular expression or is rewritten, all of them become case-insensitive regular expressions that need only fit the
beginning, the longest text first: nginx tries regular expressions before prefixes, so ingress-nginx makes all of them
one.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
import re2  # type: ignore[import-untyped]  # ships no stubs

from portway.model.checks import check_path, check_regex
from portway.model.route import SCHEME_HEADER, PathKind, PathMatch, ValueKind, ValueMatch
from portway.translate.ingress.shares import Location

PORT: Final = r"(?::[0-9]+)?"
"""`:authority` may hold a port; hosts are compared without."""


class Unusable(msgspec.Struct, frozen=True):
    """Why a path cannot be matched."""

    problem: str


def path_key(location: Location, *, regex_mode: bool) -> tuple[str, bool]:
    """What makes two locations of a host the same: (path, exact). A `/` at the end of a prefix means nothing, as the
    specification has it."""
    if regex_mode or location.exact:
        return location.path, location.exact
    return location.path.rstrip("/") or "/", False


def in_match_order(key: tuple[str, bool], *, regex_mode: bool) -> tuple[object, ...]:
    """Sort key of locations by their `path_key`: the first that fits is the right one."""
    path, exact = key
    if regex_mode:
        # Longest first, then by name backwards, as ingress-nginx sorts.
        return -len(path), tuple(-ord(letter) for letter in path), not exact
    return not exact, -len(path), path


def path_match(location: Location, *, regex_mode: bool) -> PathMatch | Unusable:
    """How a location's path is matched."""
    if regex_mode:
        # The path alone first: its message shows what the user wrote. What is sent is a bit larger.
        problem = check_regex(location.path) or check_regex(rewrite_pattern(location.path))
        if problem:
            return Unusable(f"{problem} (a path of this host is a regular expression or is rewritten, so all are)")
        return PathMatch(kind=PathKind.REGEX, value=search_pattern(location.path))
    path, exact = path_key(location, regex_mode=False)
    problem = check_path(path)
    if problem:
        return Unusable(problem)
    return PathMatch(kind=PathKind.EXACT if exact else PathKind.PREFIX, value=path)


def search_pattern(path: str) -> str:
    """A pattern that fits a whole path exactly where nginx's `~* "^PATH"` finds something in it."""
    if "|" in path:
        # `^` binds to the first alternative only, also in nginx; the others are found anywhere.
        return f"(?is).*(?:^{path}).*"
    return f"(?is){path}.*"


def rewrite_pattern(path: str) -> str:
    """A pattern that fits the whole path with the groups of the leftmost place where PATH is found, as nginx's
    `rewrite "(?i)PATH" TARGET` finds it."""
    return f"(?is)^.*?(?:{path}).*$" if "|" in path else f"(?is)^{path}.*$"


def count_groups(path: str) -> int:
    """How many groups the regular expression has; it is known to be one."""
    return int(re2.compile(path).groups)


_CAPTURE: Final = re.compile(r"\$(?:([1-9])|\{([1-9])\})")


def substitution(target: str, groups: int) -> str:
    r"""A rewrite target with `\1` for `$1`; groups that the pattern does not have are empty, as in nginx."""

    def group(found: re.Match[str]) -> str:
        number = int(found[1] or found[2])
        return f"\\{number}" if number <= groups else ""

    return _CAPTURE.sub(group, target.replace("\\", "\\\\"))


def is_wildcard(host: str) -> bool:
    return host.startswith("*.")


def covered_labels(host: str) -> str:
    """Pattern of the authorities that a wildcard host stands for: exactly one label in place of the `*`, in any
    case."""
    return rf"(?i)[a-z0-9_-]+{re.escape(host[1:])}{PORT}"


def outside(host: str, aliases: tuple[str, ...]) -> tuple[ValueMatch, ...]:
    """All of these fit requests that a proxy finds by `*.suffix` but that the wildcard host does not stand for.

    Aliases keep nginx's own meaning of `*.`: any number of labels.
    """
    patterns = [rf"[a-z0-9_-]+{re.escape(host[1:])}"]
    patterns += [f".*{re.escape(alias[1:])}" if is_wildcard(alias) else re.escape(alias) for alias in aliases]
    return tuple(
        ValueMatch(name=":authority", kind=ValueKind.REGEX, value=rf"(?i)(?:{one}){PORT}", invert=True)
        for one in alternatives(patterns)
    )


ALTERNATIVES_CHARACTERS: Final = 2_000
"""So long is a pattern of alternatives at most. A step of an RE2 program stands for one character or so, hence it stays
below `MAX_REGEX_PROGRAM` with what is put around it; a single alternative must be checked by itself."""


def alternatives(patterns: Iterable[str]) -> Iterator[str]:
    """Patterns with `|` between them, as few as proxies take: a long list is several patterns."""
    together: list[str] = []
    size = 0
    for pattern in patterns:
        if together and size + len(pattern) > ALTERNATIVES_CHARACTERS:
            yield "|".join(together)
            together, size = [], 0
        together.append(pattern)
        size += len(pattern) + 1
    if together:
        yield "|".join(together)


def by_scheme(scheme: str) -> ValueMatch:
    """Fits requests of this scheme, `http` or `https`."""
    return ValueMatch(name=SCHEME_HEADER, value=scheme)
