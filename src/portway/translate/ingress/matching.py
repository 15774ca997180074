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
from urllib.parse import quote, unquote

import msgspec
import re2  # type: ignore[import-untyped]  # ships no stubs

from portway.model.checks import CORRECT_PATH, CORRECT_REGEX, check_header_value, check_path, check_regex
from portway.model.route import SCHEME_HEADER, PathKind, PathMatch, ValueKind, ValueMatch
from portway.translate.ingress.shares import Location

PORT: Final = r"(?::[0-9]+)?"
"""`:authority` may hold a port; hosts are compared without."""


class Unusable(msgspec.Struct, frozen=True):
    """Why a path cannot be matched."""

    problem: str
    remedy: str


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
        problem = (
            check_header_value(location.path)  # it may become a cookie's path
            or check_regex(location.path)
            or check_regex(rewrite_pattern(location.path))
        )
        if problem:
            return Unusable(
                f"{problem} (a path of this host is a regular expression or is rewritten, so all are)",
                f"{CORRECT_REGEX}: what it should not take can have a longer path of its own, which is tried first; or"
                " give it another host",
            )
        return PathMatch(kind=PathKind.REGEX, value=search_pattern(location.path))
    path, exact = path_key(location, regex_mode=False)
    problem = check_path(path)
    if problem:
        return Unusable(problem, CORRECT_PATH)
    return PathMatch(kind=PathKind.EXACT if exact else PathKind.PREFIX, value=escaped_path(path))


_ESCAPED: Final = frozenset(' "<>^`{|}')
"""ASCII characters that proxies escape in the paths of requests, as the URL library of browsers does."""


def escaped_path(path: str) -> str:
    """A path as proxies see it in requests: `/über` is `/%C3%BCber` there."""
    if path.isascii() and _ESCAPED.isdisjoint(path):
        return path
    return "".join(quote(letter) if letter in _ESCAPED or not letter.isascii() else letter for letter in path)


_SLASH: Final = r"(?:/|(?i:%2f|%5c))"
_DOT_SEGMENT: Final = rf"{_SLASH}\.\.?(?:{_SLASH}.*)?"


def ambiguous_paths(*, regex_mode: bool) -> PathMatch:
    """Fits paths that a server may take for another path than the one that is routed, and that `other_spellings` do not
    cover. Proxies resolve dot segments, but not those next to an escaped slash. In regex mode, where nobody can tell
    how a pattern would be spelled otherwise, these are all paths with escaped or doubled slashes."""
    slashes = rf"{_SLASH}{{2}}.*|(?i:%2f|%5c).*|{_DOT_SEGMENT}" if regex_mode else _DOT_SEGMENT
    return PathMatch(kind=PathKind.REGEX, value=f"(?s).*(?:{slashes})")


def other_spellings(match: PathMatch) -> PathMatch | None:
    """Fits what nginx takes for the same path, since it decodes paths and merges their slashes before it looks: `//a`,
    `/a%2Fb`, `/a%40b`. `None`: there is nothing but the path itself, or it is a regular expression."""
    if match.kind not in (PathKind.EXACT, PathKind.PREFIX) or match.value == "/":
        return None
    segments = [segment for segment in unquote(match.value).split("/") if segment]
    path = "".join(f"{_SLASH}+{''.join(map(_spelled, segment))}" for segment in segments)
    rest = f"(?:{_SLASH}.*)?" if match.kind is PathKind.PREFIX else f"{_SLASH}+" if match.value.endswith("/") else ""
    return PathMatch(kind=PathKind.REGEX, value=f"(?s){path}{rest}")


def _spelled(letter: str) -> str:
    """Pattern of a character as it may stand in a normalised path: as it is, or escaped unless it never needs to be."""
    if letter.isascii() and (letter.isalnum() or letter in "-._~"):
        return re.escape(letter)
    code = "".join(f"%{byte:02x}" for byte in letter.encode())
    return f"(?:{re.escape(letter)}|(?i:{code}))" if letter.isascii() else f"(?i:{code})"


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
