"""Whether a request fits a route, and if not, why: evaluates the match tables that proxies are given.

Each function answers with the reason of a mismatch, empty for a match. Sources: the meaning of `model.route`, which is
that of `envoy.config.route.v3.RouteMatch`; `tests/e2e/test_differential.py` holds both to the same answers.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import assert_never

import re2  # type: ignore[import-untyped]  # ships no stubs

from portway.explain.request import Request
from portway.model.route import SCHEME_HEADER, PathKind, PathMatch, RouteMatch, ValueKind, ValueMatch

SHOWN = 60
"""Longest value shown in a reason."""


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> object:
    """An RE2 pattern, ready for use. It is known to be one: translators have asked."""
    return re2.compile(pattern)


def fits_whole(pattern: str, text: str) -> bool:
    """Whether an RE2 pattern fits the whole text."""
    return bool(re2.fullmatch(compiled(pattern), text))


def mismatch(match: RouteMatch, request: Request) -> str:
    """Why the request does not fit; empty if it does. The share of `match.share` is not drawn here."""
    problem = path_mismatch(match.path, request.path)
    if problem:
        return problem
    if match.method and match.method != request.method:
        return f"method {request.method} is not {match.method}"
    for header in match.headers:
        problem = value_mismatch(_what(header.name), header, request.fields(header.name))
        if problem:
            return problem
    for cookie in match.cookies:
        problem = value_mismatch(f"cookie {cookie.name}", cookie, cookie_values(request, cookie))
        if problem:
            return problem
    for parameter in match.query:
        value = query_value(request.query or "", parameter.name)
        problem = value_mismatch(f"query parameter {parameter.name}", parameter, () if value is None else (value,))
        if problem:
            return problem
    if match.grpc and not is_grpc(request):
        return "it is no gRPC request (content-type is not application/grpc)"
    return ""


_WORDS = {":authority": "host", ":path": "path", ":method": "method", ":scheme": "scheme", SCHEME_HEADER: "scheme"}


def _what(name: str) -> str:
    return _WORDS.get(name, f"header {name}")


def path_mismatch(match: PathMatch, path: str) -> str:
    wanted, given = (match.value.lower(), path.lower()) if match.ignore_case else (match.value, path)
    match match.kind:
        case PathKind.EXACT:
            return "" if given == wanted else f"path {_show(path)} is not {match.value}"
        case PathKind.PREFIX:
            prefix = wanted.removesuffix("/")
            fits = not prefix or given == prefix or given.startswith(prefix + "/")
            return "" if fits else f"path {_show(path)} is not below {match.value}"
        case PathKind.TEXT_PREFIX:
            return "" if given.startswith(wanted) else f"path {_show(path)} does not begin with {match.value}"
        case PathKind.REGEX:
            pattern = f"(?i){match.value}" if match.ignore_case else match.value
            return "" if fits_whole(pattern, path) else f"path {_show(path)} does not fit {match.value}"
        case _:
            assert_never(match.kind)


def value_mismatch(what: str, match: ValueMatch, values: Sequence[str]) -> str:
    """Why a field, cookie or parameter does not fit.

    Args:
        what: how it is called, `header x-user`.
        values: all there are; one that fits is enough, and none may where the match is inverted.
    """
    fits: bool
    if match.kind is ValueKind.PRESENT:
        fits, wanted = bool(values), "present"
    elif not values:
        # Inverted matches take an absent value for an empty one.
        fits, wanted = match.invert and _fits(match, ""), _wanted(match)
    else:
        fits, wanted = any(_fits(match, value) for value in values), _wanted(match)
    if fits is not match.invert:
        return ""
    if match.invert:
        return f"{what} is {_shown(values)}, which is excluded"
    return f"{what} is {_shown(values)}, not {wanted}" if values else f"{what} is missing"


def _fits(match: ValueMatch, value: str) -> bool:
    return value == match.value if match.kind is ValueKind.EXACT else fits_whole(match.value, value)


def _wanted(match: ValueMatch) -> str:
    return _show(match.value) if match.kind is ValueKind.EXACT else f"one that fits {_show(match.value)}"


def _shown(values: Sequence[str]) -> str:
    return " and ".join(_show(value) or "empty" for value in values)


def query_value(query: str, name: str) -> str | None:
    """The first value of a parameter as it stands there, not decoded; `None` if there is none."""
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key == name and part:
            return value
    return None


def cookie_values(request: Request, match: ValueMatch) -> tuple[str, ...]:
    """All values of a cookie in the order sent. Names keep their case."""
    found: list[str] = []
    for field in request.fields("cookie"):
        for part in field.split(";"):
            name, separator, value = part.strip().partition("=")
            if separator and name == match.name:
                found.append(value)
    return tuple(found)


def is_grpc(request: Request) -> bool:
    kind = request.field("content-type") or ""
    return kind == "application/grpc" or kind.startswith("application/grpc+")


def _show(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def domain_candidates(host: str) -> Iterator[str]:
    """The domains under which a host may be found, the best first: itself, wildcards by length, `*`."""
    yield host
    rest = host
    while "." in rest:
        rest = rest.partition(".")[2]
        yield f"*.{rest}"
    yield "*"
