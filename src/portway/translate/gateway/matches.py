"""Matches: from the API's to the model's, and the order in which they are tried.

Source: Gateway API, `HTTPRouteMatch`, `HTTPRouteRule.matches`, `GRPCRouteMatch`, `GRPCRouteRule.matches`. Where a
regular expression stands among paths is left to implementations; ours stands between exact paths and prefixes, so that
a prefix `/` never hides one.
"""

import re
from typing import NamedTuple

import msgspec

from portway.model.checks import CORRECT_PATH, CORRECT_REGEX, check_path, check_regex
from portway.model.route import PathKind, PathMatch, RouteMatch, ValueKind, ValueMatch
from portway.objects.grpcroute_v1 import GRPCHeaderMatchType, GRPCMethodMatch, GRPCMethodMatchType, GRPCRouteMatch
from portway.objects.httproute_v1 import HeaderMatchType, HTTPRouteMatch, PathMatchType, QueryParamMatchType


class Rank(NamedTuple):
    """Sorts the better match first, after the hosts have been compared."""

    kind: int
    """0: exact path, 1: regular expression, 2: prefix."""
    length: int
    """Negative length of the path, or of the gRPC service."""
    detail: int
    """Negative length of the gRPC method; for HTTP 0 with a method, else 1."""
    headers: int
    """Negative number."""
    query: int
    """Negative number."""


class Match(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One translated match."""

    match: RouteMatch
    rank: Rank


class BadMatch(NamedTuple):
    """A match that no proxy could evaluate."""

    field: str
    """Relative to the match."""
    problem: str
    remedy: str


_KINDS = {PathKind.EXACT: 0, PathKind.REGEX: 1, PathKind.PREFIX: 2, PathKind.TEXT_PREFIX: 2}


def http_match(declared: HTTPRouteMatch) -> Match | BadMatch:
    """Translate a match of an HTTPRoute."""
    path = _path(declared)
    headers: dict[str, ValueMatch] = {}
    for index, header in enumerate(declared.headers):
        is_regex = header.type is HeaderMatchType.REGULAR_EXPRESSION
        if is_regex and (problem := check_regex(header.value)):
            return BadMatch(f"headers[{index}].value", problem, CORRECT_REGEX)
        # Of equivalent names the first counts, the others must be ignored.
        headers.setdefault(header.name.lower(), _value(header.name.lower(), header.value, is_regex=is_regex))
    query: dict[str, ValueMatch] = {}
    for index, parameter in enumerate(declared.query_params):
        is_regex = parameter.type is QueryParamMatchType.REGULAR_EXPRESSION
        if is_regex and (problem := check_regex(parameter.value)):
            return BadMatch(f"queryParams[{index}].value", problem, CORRECT_REGEX)
        query.setdefault(parameter.name, _value(parameter.name, parameter.value, is_regex=is_regex))
    if problem := _path_problem(path):
        return BadMatch("path.value", problem, CORRECT_REGEX if path.kind is PathKind.REGEX else CORRECT_PATH)
    return Match(
        match=RouteMatch(
            path=path,
            method=declared.method.value if declared.method is not None else "",
            headers=tuple(headers[name] for name in sorted(headers)),
            query=tuple(query[name] for name in sorted(query)),
        ),
        rank=Rank(
            _KINDS[path.kind], -len(path.value), 0 if declared.method is not None else 1, -len(headers), -len(query)
        ),
    )


def _path_problem(path: PathMatch) -> str:
    return check_regex(path.value) if path.kind is PathKind.REGEX else check_path(path.value)


def _path(declared: HTTPRouteMatch) -> PathMatch:
    value = declared.path.value or "/"
    match declared.path.type:
        case PathMatchType.EXACT:
            return PathMatch(kind=PathKind.EXACT, value=value)
        case PathMatchType.REGULAR_EXPRESSION:
            return PathMatch(kind=PathKind.REGEX, value=value)
        case PathMatchType.PATH_PREFIX:
            # `/foo/` and `/foo` mean the same.
            return PathMatch(kind=PathKind.PREFIX, value=value.rstrip("/") or "/")


def _value(name: str, value: str, *, is_regex: bool) -> ValueMatch:
    return ValueMatch(name=name, kind=ValueKind.REGEX if is_regex else ValueKind.EXACT, value=value)


def grpc_match(declared: GRPCRouteMatch) -> Match | BadMatch:
    """Translate a match of a GRPCRoute: its service and method are segments of the path (gRPC over HTTP/2)."""
    headers: dict[str, ValueMatch] = {}
    for index, header in enumerate(declared.headers):
        is_regex = header.type is GRPCHeaderMatchType.REGULAR_EXPRESSION
        if is_regex and (problem := check_regex(header.value)):
            return BadMatch(f"headers[{index}].value", problem, CORRECT_REGEX)
        headers.setdefault(header.name.lower(), _value(header.name.lower(), header.value, is_regex=is_regex))
    method = declared.method or GRPCMethodMatch(service="")
    path = _grpc_path(method)
    if problem := _path_problem(path):
        return BadMatch("method", problem, CORRECT_REGEX)
    return Match(
        match=RouteMatch(path=path, headers=tuple(headers[name] for name in sorted(headers))),
        rank=Rank(_KINDS[path.kind], -len(method.service or ""), -len(method.method or ""), -len(headers), 0),
    )


def _grpc_path(method: GRPCMethodMatch) -> PathMatch:
    service, name = method.service or "", method.method or ""
    if not service and not name:
        return PathMatch(kind=PathKind.PREFIX, value="/")
    if method.type is GRPCMethodMatchType.REGULAR_EXPRESSION:
        return PathMatch(kind=PathKind.REGEX, value=f"/{service or '[^/]+'}/{name or '[^/]+'}")
    if not service:
        return PathMatch(kind=PathKind.REGEX, value=f"/[^/]+/{re.escape(name)}")
    if not name:
        return PathMatch(kind=PathKind.TEXT_PREFIX, value=f"/{service}/")
    return PathMatch(kind=PathKind.EXACT, value=f"/{service}/{name}")
