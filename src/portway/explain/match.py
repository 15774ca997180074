"""Whether a request fits a route, and if not, why: evaluates the match tables that proxies are given.

Each function answers with the reason of a mismatch, empty for a match. Sources: the meaning of `model.route`, which is
that of `envoy.config.route.v3.RouteMatch`; a differential test holds both to the same answers.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import assert_never

import re2  # type: ignore[import-untyped]  # ships no stubs

from portway.explain.request import Request
from portway.model.route import PathKind, PathMatch, RouteMatch, ValueKind, ValueMatch

SHOWN = 60
"""Longest value shown in a reason."""


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> object:
    return re2.compile(pattern)


def fits_whole(pattern: str, text: str) -> bool:
    """Whether an RE2 pattern fits the whole text."""
    return bool(re2.fullmatch(_compiled(pattern), text))


def mismatch(match: RouteMatch, request: Request) -> str:
    """Why the request does not fit; empty if it does. The share of `match.share` is not drawn here."""
    problem = path_mismatch(match.path, request.path)
    if problem:
        return problem
    if match.method and match.method != request.method:
        return f"method {request.method} is not {match.method}"
    for header in match.headers:
        problem = value_mismatch("header", header, request.field(header.name))
        if problem:
            return problem
    if match.cookies:
        cookies = cookies_of(request)
        for cookie in match.cookies:
            problem = value_mismatch("cookie", cookie, cookies.get(cookie.name))
            if problem:
                return problem
    for parameter in match.query:
        problem = value_mismatch("query parameter", parameter, query_value(request.query, parameter.name))
        if problem:
            return problem
    if match.grpc and not is_grpc(request):
        return "it is no gRPC request (content-type is not application/grpc)"
    return ""


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


def value_mismatch(what: str, match: ValueMatch, value: str | None) -> str:
    """Why a field, cookie or parameter does not fit; `None` stands for an absent one."""
    fits: bool
    if match.kind is ValueKind.PRESENT:
        fits, wanted = value is not None, "present"
    elif value is None and not match.invert:
        return f"{what} {match.name} is missing"
    elif match.kind is ValueKind.EXACT:
        fits, wanted = value == match.value, _show(match.value)
    else:
        fits, wanted = value is not None and fits_whole(match.value, value), f"one that fits {_show(match.value)}"
    if fits is not match.invert:
        return ""
    shown = "missing" if value is None else _show(value)
    return f"{what} {match.name} is {shown}, {'which is excluded' if match.invert else f'not {wanted}'}"


def query_value(query: str, name: str) -> str | None:
    """The first value of a parameter as it stands there; `None` if there is none."""
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key == name and part:
            return value
    return None


def cookies_of(request: Request) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in request.headers.get("cookie", "").split(";"):
        name, separator, value = part.strip().partition("=")
        if separator:
            found.setdefault(name, value)
    return found


def is_grpc(request: Request) -> bool:
    kind = request.headers.get("content-type", "")
    return kind == "application/grpc" or kind.startswith(("application/grpc+", "application/grpc;"))


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
