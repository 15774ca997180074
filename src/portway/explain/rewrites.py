"""What becomes of a request's path, host and fields: rewrites, redirects, header edits."""

import re
from collections.abc import Iterable
from typing import assert_never

import msgspec
import re2  # type: ignore[import-untyped]  # ships no stubs

from portway.explain.match import compiled
from portway.explain.request import WELL_KNOWN_PORTS, Request, without_port
from portway.model.route import (
    HeaderEdits,
    PathKind,
    PathMatch,
    PathRewrite,
    PathRewriteKind,
    Redirect,
    Route,
)

_OPERATOR = re.compile(r"%([A-Z_]+)(?:\(([^)]*)\))?%|%%")


def rewritten(rewrite: PathRewrite | None, route: Route, request: Request) -> str:
    """Path and query after a rewrite."""
    if rewrite is None:
        return request.target
    match rewrite.kind:
        case PathRewriteKind.FULL:
            path = rewrite.value
        case PathRewriteKind.PREFIX:
            path = replace_prefix(request.path, route.match.path, rewrite.value)
        case PathRewriteKind.REGEX:
            path = str(re2.sub(compiled(rewrite.pattern), rewrite.value, request.path))
        case _:
            assert_never(rewrite.kind)
    # Never an empty path, whatever an expression leaves over.
    return (path or "/") if request.query is None else f"{path or '/'}?{request.query}"


def replace_prefix(path: str, match: PathMatch, value: str) -> str:
    """Replace what a path match calls its prefix: segment-wise never a doubled slash, never an empty path; all of the
    path for the other matches, but for a text prefix just that.

    Source: Gateway API, `HTTPPathModifier.replacePrefixMatch` (the table under it).
    """
    if match.kind is PathKind.TEXT_PREFIX:
        return value + path[len(match.value) :]
    if match.kind is not PathKind.PREFIX:
        return value
    prefix = match.value.removesuffix("/")
    rest = path[len(prefix) :]
    if not prefix:
        # The match is `/`, which stands for the slash that every path begins with.
        rest = path
    elif (prefix.endswith("/") or not value.removesuffix("/")) and not rest.startswith("/"):
        rest = f"/{rest}"
    return value.removesuffix("/") + rest


def location_of(action: Redirect, route: Route, request: Request, host: str = "") -> str:
    """The Location of a redirect.

    Args:
        host: the one name that the virtual host serves; empty: there are several, or a wildcard.
    """
    scheme = action.scheme or request.scheme
    name, port = action.host, action.port
    if action.scheme and not name and not port:
        # The port of the request must not come along: the other scheme is not spoken there.
        name = host
        port = 0 if host or not request.names_port else WELL_KNOWN_PORTS[scheme]
    authority = name or (without_port(request.named) if port else request.named)
    if port:
        authority = f"{authority}:{port}"
    # A path that is given may bring a query of its own, which takes the place of the request's.
    own = action.path is not None and action.path.kind is PathRewriteKind.FULL and "?" in action.path.value
    asked = msgspec.structs.replace(request, query=None) if own or action.strip_query else request
    target = rewritten(action.path, route, asked)
    return f"{scheme}://{authority}{target}"


def format_fields(text: str, request: Request) -> str:
    """A text in which `%REQ(name)%` and the like stand for what they mean to proxies and `%%` for a percent sign. Other
    operators stay as they are."""

    def meaning(found: re.Match[str]) -> str:
        match found[1]:
            case None:
                return "%"
            case "REQ":
                return request.field(found[2].lower()) or ""
            case "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":
                return request.client
            case "DOWNSTREAM_LOCAL_PORT":
                return str(request.port)
            case _:
                return found[0]

    return _OPERATOR.sub(meaning, text)


def edited(
    fields: Iterable[tuple[str, str]], levels: Iterable[HeaderEdits], request: Request
) -> tuple[tuple[str, str], ...]:
    """Header fields after edits, the outermost level first: each removes, sets, adds, fills in. Names in
    lower case."""
    found = [(name.lower(), value) for name, value in fields]
    for edits in levels:
        formatted = [(name, format_fields(text, request)) for name, text in edits.formatted]
        # A text that comes to nothing sets nothing.
        replacing = [*edits.set, *((name, value) for name, value in formatted if value)]
        gone = {name.lower() for name in edits.remove} | {name.lower() for name, _ in replacing}
        found = [field for field in found if field[0] not in gone]
        found += [(name.lower(), value) for name, value in (*replacing, *edits.add)]
        there = {name for name, _ in found}
        absent = [(name, format_fields(text, request)) for name, text in edits.if_absent if name.lower() not in there]
        found += [(name.lower(), value) for name, value in absent if value]
    return tuple(found)
