"""What an action does with a request: where it sends it and how it changes it, or what it answers."""

import ipaddress
import re
from collections.abc import Iterator
from typing import assert_never

import msgspec
import re2  # type: ignore[import-untyped]  # ships no stubs

from portway.explain.request import Request
from portway.model.names import UpstreamKey
from portway.model.route import (
    AccessList,
    Forward,
    HeaderEdits,
    PathRewrite,
    PathRewriteKind,
    Redirect,
    Respond,
    Route,
    Source,
)

_REQUEST_FIELD = re.compile(r"%REQ\(([^)]+)\)%|%%")


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """One way that an action may go."""

    share: float
    status: int = 0
    location: str = ""
    upstream: UpstreamKey | None = None
    host: str = ""
    target: str = ""
    text: str
    source: Source | None = None


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Something besides the action that happens to the request or its answer."""

    what: str
    """`access list`, `request headers`, `timeout` ..."""
    text: str
    source: Source


def describe_action(route: Route, request: Request) -> list[Described]:
    """Every way the route's action may go, with its share (together 1)."""
    if route.access is not None and (problem := access_problem(route.access, request.client)):
        return [Described(share=1.0, status=403, text=f"403: {problem}")]
    action = route.action
    match action:
        case Respond():
            location = _said_location(action, route, request)
            because = f" ({action.reason})" if action.reason else ""
            to = f" to {location}" if location else ""
            return [Described(share=1.0, status=action.status, location=location, text=f"{action.status}{to}{because}")]
        case Redirect():
            location = location_of(action, route, request)
            text = f"{action.status} to {location}"
            return [Described(share=1.0, status=action.status, location=location, text=text)]
        case Forward():
            return list(_describe_forward(action, route, request))
        case _:
            assert_never(action)


def _said_location(action: Respond, route: Route, request: Request) -> str:
    """The Location that stands in the answer itself, or in the fields that the route sets."""
    for name, value in (*action.headers, *route.response_headers.set):
        if name.lower() == "location":
            return value
    texts = [value for name, value in route.response_headers.formatted if name.lower() == "location"]
    return format_fields(texts[0], request) if texts else ""


def format_fields(text: str, request: Request) -> str:
    """A text in which `%REQ(name)%` stands for fields of the request and `%%` for a percent sign; other command
    operators of Envoy stay."""
    return _REQUEST_FIELD.sub(lambda found: (request.field(found[1].lower()) or "") if found[1] else "%", text)


def _describe_forward(action: Forward, route: Route, request: Request) -> Iterator[Described]:
    total = sum(share.weight for share in action.upstreams)
    target = rewritten(action.path, route, request)
    for share in action.upstreams:
        if not share.weight:
            continue
        part = share.weight / total
        if share.upstream is None:
            text = f"{action.unusable_status}: the backend cannot be used"
            yield Described(share=part, status=action.unusable_status, text=text, source=share.source)
            continue
        host = share.host or action.host or request.authority
        text = f"forwarded to {share.upstream.object} port {share.upstream.port} as {host}{target}"
        yield Described(share=part, upstream=share.upstream, host=host, target=target, text=text, source=share.source)


def rewritten(rewrite: PathRewrite | None, route: Route, request: Request) -> str:
    """Path and query after a rewrite."""
    if rewrite is None:
        return request.target
    query = f"?{request.query}" if request.query else ""
    match rewrite.kind:
        case PathRewriteKind.FULL:
            path = rewrite.value
        case PathRewriteKind.PREFIX:
            path = replace_prefix(request.path, route.match.path.value, rewrite.value)
        case PathRewriteKind.REGEX:
            path = str(re2.sub(rewrite.pattern, rewrite.value, request.path))
        case _:
            assert_never(rewrite.kind)
    return path + query


def replace_prefix(path: str, prefix: str, value: str) -> str:
    """Replace a matched prefix, segment-wise: never a doubled slash, never an empty path.

    Source: Gateway API, `HTTPPathModifier.replacePrefixMatch` (the table under it).
    """
    rest = path[len(prefix.removesuffix("/")) :]
    replaced = value.removesuffix("/") + (rest if rest.startswith("/") or not rest else f"/{rest}")
    return replaced or "/"


def location_of(action: Redirect, route: Route, request: Request) -> str:
    """The Location of a redirect."""
    scheme = action.scheme or request.scheme
    host = action.host or request.host
    # A port that the action names is always written; otherwise a URL leaves the scheme's own out.
    port = action.port or (request.port if scheme == request.scheme else 0)
    well_known = {"http": 80, "https": 443}
    shown = "" if not port or (not action.port and port == well_known.get(scheme)) else f":{port}"
    target = rewritten(action.path, route, request)
    if action.strip_query:
        target = target.partition("?")[0]
    return f"{scheme}://{host}{shown}{target}"


def access_problem(access: AccessList, client: str) -> str:
    """Why a client's address may not pass; empty if it may."""
    address = ipaddress.ip_address(client)
    if any(address in ipaddress.ip_network(network) for network in access.deny):
        return f"{client} is on the deny list"
    if access.allow and not any(address in ipaddress.ip_network(network) for network in access.allow):
        return f"{client} is not on the allow list"
    return ""


def effects_of(route: Route, request: Request) -> list[Effect]:
    """What else the route does, in the order in which it happens."""
    found: list[tuple[str, str]] = []
    if route.cors is not None:
        found.append(("CORS", f"origins {', '.join(route.cors.allow_origins) or 'none'}"))
    if route.access is not None:
        found.append(
            (
                "access list",
                f"{request.client} passes" if not access_problem(route.access, request.client) else "refused",
            )
        )
    if route.auth is not None:
        asked = route.auth.upstream.object if route.auth.upstream is not None else "nobody (refused)"
        found.append(("external authentication", f"{asked} is asked first"))
    if route.max_body_bytes:
        found.append(("body limit", f"more than {route.max_body_bytes:,} bytes get 413"))
    found += [("request headers", text) for text in _edits(route.request_headers)]
    found += [("response headers", text) for text in _edits(route.response_headers)]
    if isinstance(route.action, Forward):
        found += _forward_effects(route.action)
    return [Effect(what=what, text=text, source=route.source) for what, text in found]


def _edits(edits: HeaderEdits) -> Iterator[str]:
    yield from (f"removes {name}" for name in edits.remove)
    yield from (f"sets {name}: {value}" for name, value in (*edits.set, *edits.formatted))
    yield from (f"adds {name}: {value}" for name, value in edits.add)


def _forward_effects(action: Forward) -> Iterator[tuple[str, str]]:
    if action.timeout is not None:
        yield "timeout", f"504 after {action.timeout.total_seconds():g} s"
    if action.idle_timeout is not None:
        yield "timeout", f"ended after {action.idle_timeout.total_seconds():g} s of silence"
    if action.retry is not None:
        causes = ", ".join(sorted(action.retry.causes)) or "no cause"
        yield "retries", f"up to {action.retry.attempts} more tries on {causes}"
    for mirror in action.mirrors:
        share = "" if mirror.share is None else f" ({mirror.share.numerator}/{mirror.share.denominator} of requests)"
        yield "mirror", f"a copy goes to {mirror.upstream.object}{share}"
    for entry in action.hash:
        yield "hashing", f"endpoint chosen by {entry.on} {entry.name}".rstrip()
    if action.sticky is not None:
        yield "stickiness", f"cookie {action.sticky.name} names the endpoint"
