"""Parsers of annotation values: text in, a frozen value out, `ValueError` for what is not of the form.

The forms are ingress-nginx's ("Validation" in its annotation parsers): Go's `ParseBool` and `Atoi`, anchored character
classes. On top of those nothing with a control character passes, whatever the form says: `reading.py` refuses such
values before any parser sees them.
"""

import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Final, TypeVar

from portway.model.checks import check_domain, check_regex
from portway.objects.problems import quoted

E = TypeVar("E")
P = TypeVar("P")
Parser = Callable[[str], P]

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}\Z")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+\Z")
_COOKIE_ATTRIBUTE: Final = re.compile(r"[A-Za-z0-9\-._~:/]+\Z")
_PATH_WITH_CAPTURES: Final = re.compile(r"/?[A-Za-z0-9\-._~/:$]+\Z")
_URL: Final = re.compile(r"[A-Za-z0-9\-._~/:,?&=%#+@!;*'()]+\Z")
"""ingress-nginx's class plus the other characters that RFC 3986 allows; the value is never a part of a text that
somebody parses as configuration."""
_SIZE: Final = re.compile(r"([0-9]{1,15})([kmg]?)\Z", re.IGNORECASE)
_SERVICE_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?\Z")


def boolean(text: str) -> bool:
    """Go's `strconv.ParseBool`."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError


def integer(low: int, high: int = 2**31 - 1) -> Callable[[str], int]:
    """A parser of Go's `strconv.Atoi` with bounds, both inclusive."""

    def parse(text: str) -> int:
        if not _INTEGER.match(text):
            raise ValueError
        value = int(text)
        if not low <= value <= high:
            raise ValueError(f"it must lie between {low} and {high}")
        return value

    return parse


def seconds(text: str) -> timedelta:
    """A whole number of seconds, without a unit."""
    return timedelta(seconds=integer(0)(text))


def text(value: str) -> str:
    """Any text."""
    return value


def one_of(words: Mapping[str, E], *, ignore_case: bool = False) -> Callable[[str], E]:
    """A parser of one of the words; with `ignore_case` their keys must be lower case."""

    def parse(value: str) -> E:
        try:
            return words[value.lower() if ignore_case else value]
        except KeyError:
            raise ValueError from None

    return parse


def words(allowed: Collection[str]) -> Callable[[str], frozenset[str]]:
    """A parser of words with spaces between them."""

    def parse(value: str) -> frozenset[str]:
        found = frozenset(value.split())
        unknown = sorted(found.difference(allowed))
        if unknown or not found:
            raise ValueError(f"{quoted(unknown[0])} is none of them" if unknown else "it names none")
        return found

    return parse


def items(value: str) -> tuple[str, ...]:
    """The non-empty items of a list with commas, trimmed."""
    return tuple(item for item in (part.strip() for part in value.split(",")) if item)


def token(value: str) -> str:
    """A header or cookie name (RFC 9110 §5.6.2)."""
    if not _TOKEN.match(value):
        raise ValueError
    return value


def header_names(value: str) -> tuple[str, ...]:
    """Header names with commas between them."""
    return tuple(token(item) for item in items(value))


def cookie_attribute(value: str) -> str:
    """Value of a cookie's Path or Domain attribute."""
    if not _COOKIE_ATTRIBUTE.match(value):
        raise ValueError
    return value


def path_with_captures(value: str) -> str:
    """A path in which `$1` to `$9` may stand for captures."""
    if not _PATH_WITH_CAPTURES.match(value):
        raise ValueError
    return value


def absolute_path(value: str) -> str:
    """A path from the root; not an URL."""
    if not value.startswith("/") or value.startswith("//") or not _URL.match(value):
        raise ValueError
    return value


def url(value: str) -> str:
    """A URL, or a path from the root."""
    if not _URL.match(value):
        raise ValueError
    return value


def http_url(value: str) -> str:
    """An absolute `http` or `https` URL."""
    if not value.lower().startswith(("http://", "https://")):
        raise ValueError("it must begin with http:// or https://")
    return url(value)


def host(value: str) -> str:
    """A host name, in lower case; `*.` may stand before it."""
    name = value.lower().rstrip(".")
    if name == "*" or check_domain(name):
        raise ValueError
    return name


def hosts(value: str) -> tuple[str, ...]:
    """Host names and `~` regular expressions of host names: sorted, unique."""
    found: set[str] = set()
    patterns: set[str] = set()
    for item in items(value):
        if item.startswith("~"):
            pattern = item.lstrip("~*")
            problem = check_regex(pattern)
            if problem:
                raise ValueError(f"{quoted(item)} {problem}")
            patterns.add(pattern)
            found.add(item)
            continue
        try:
            found.add(host(item))
        except ValueError:
            raise ValueError(f"{quoted(item)} is not a host name") from None
    problem = check_regex(named_like(patterns)) if patterns else ""
    if problem:
        raise ValueError(f"what its regular expressions make together {problem}")
    return tuple(sorted(found))


_TO_ITS_END: Final = re.compile(
    r"\\Q.*?\\E|\\.|\[\^?\]?(?:\\.|\[:\^?[a-z]+:\]|[^\]\\])*\]|(?P<end>\$)", re.DOTALL | re.IGNORECASE
)
"""Finds each `$` of an RE2 pattern that means the end: neither escaped nor quoted, nor one of a class of characters."""


def named_like(patterns: Collection[str]) -> str:
    """A pattern that fits authorities in which one of the patterns is found, as nginx finds `~` server names.

    nginx looks without the port, so where a name has to end a port may follow.
    """

    def before_port(found: re.Match[str]) -> str:
        return "(?::[0-9]+)?$" if found["end"] else found[0]

    return f"(?is).*(?:{'|'.join(_TO_ITS_END.sub(before_port, pattern) for pattern in sorted(patterns))}).*"


def cidrs(value: str) -> tuple[str, ...]:
    """Addresses and networks, as networks in canonical text: sorted, unique; bits beyond the prefix are cleared."""
    found = set()
    for item in items(value):
        try:
            found.add(ipaddress.ip_network(item, strict=False))
        except ValueError:
            raise ValueError(f"{quoted(item)} is neither an address nor a network") from None
    if not found:
        raise ValueError("it names no network")
    return tuple(str(network) for network in sorted(found, key=lambda network: (network.version, str(network))))


def size_bytes(value: str) -> int:
    """A number of bytes; `k`, `m` and `g` multiply by 1,024 once, twice and thrice. 0: no limit."""
    found = _SIZE.match(value.strip())
    if not found:
        raise ValueError
    return int(found[1]) << (10 * "_kmg".index(found[2].lower() or "_"))


def service_name(value: str) -> str:
    """Name of a Service."""
    if not _SERVICE_NAME.match(value) or len(value) > 253:
        raise ValueError
    return value


_UPSTREAM_HOST: Final = re.compile(r"[A-Za-z0-9\-._]+(?::[0-9]{1,5})?\Z|\[[0-9a-fA-F:.]+\](?::[0-9]{1,5})?\Z")


def upstream_host(value: str) -> str:
    """A host with an optional port; empty for nginx's variables that stand for the client's own."""
    if value in {"$host", "$http_host", "${host}", "${http_host}", "$best_http_host"}:
        return ""
    if "$" in value:
        raise ValueError("nginx variables are not supported here")
    if not _UPSTREAM_HOST.match(value):
        raise ValueError
    return value


def literal_path(value: str) -> str:
    """A path without captures."""
    if "$" in value:
        raise ValueError("captures are not supported here")
    return path_with_captures(value)
