"""What an action does with a request: where it sends it and how it changes it, or what it answers."""

from collections.abc import Callable, Iterator
from typing import assert_never

import msgspec

from portway.envoy.shares import has_particular_shares
from portway.explain.filters import filtered
from portway.explain.request import Request
from portway.explain.rewrites import edited, format_fields, location_of, rewritten
from portway.model.names import UpstreamKey
from portway.model.route import Forward, HeaderEdits, Redirect, Respond, Route, Source, VirtualHost, WeightedUpstream

__all__ = ["Answering", "Described", "Surroundings", "describe_action", "format_fields"]


UNUSABLE = 500
"""Status of Gateway API for rules and backends that cannot be used."""


class Answering(msgspec.Struct, frozen=True, kw_only=True):
    """What a proxy answers because an upstream cannot."""

    status: int
    text: str
    exists: bool = True
    """False: proxies do not know the upstream at all; its share is answered as if nothing usable were declared."""


def _can_answer(_upstream: UpstreamKey) -> Answering | None:
    return None


def _no_reason(_source: Source) -> str:
    return ""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What an action needs to know of the world around its route."""

    host: str = ""
    """The one name that the virtual host serves; empty: there are several, or a wildcard."""
    outer: tuple[tuple[HeaderEdits, HeaderEdits], ...] = ()
    """Edits of requests and responses by the table and the virtual host, the outermost first."""
    problem: Callable[[UpstreamKey], Answering | None] = _can_answer
    """Why an upstream cannot answer; `None`: it can."""
    reason: Callable[[Source], str] = _no_reason
    """What is wrong with what was declared there."""


ALONE = Surroundings()


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """One way that an action may go."""

    share: float
    status: int = 0
    """0: the upstream decides."""
    location: str = ""
    upstream: UpstreamKey | None = None
    host: str = ""
    target: str = ""
    request_headers: tuple[tuple[str, str], ...] = ()
    """Fields that the upstream receives, as far as declarations decide: those of the client after all edits."""
    response_headers: tuple[HeaderEdits, ...] = ()
    """Edits of the answer, in the order in which they are made."""
    text: str
    source: Source | None = None


def one_name(host: VirtualHost) -> str:
    """The one name that a virtual host serves; empty if there are several, or a wildcard."""
    return host.domains[0] if len(host.domains) == 1 and not host.domains[0].startswith("*") else ""


def describe_action(route: Route, request: Request, around: Surroundings = ALONE) -> list[Described]:
    """Every way the route's action may go, with its share (together 1)."""
    action = route.action
    responses = (*(edits for _, edits in around.outer), route.response_headers)
    refusal = filtered(route, request, forwards=can_forward(route, around))
    if refusal is not None:
        # Proxies edit answers of filters on routes that forward only.
        edits = responses if refusal.edited and can_forward(route, around) else ()
        return [Described(share=1.0, status=refusal.status, text=refusal.text, response_headers=edits)]
    match action:
        case Respond():
            return [_respond(action, route, request, responses, around)]
        case Redirect():
            location = location_of(action, route, request, around.host)
            text = f"{action.status} to {location}"
            return [
                Described(share=1.0, status=action.status, location=location, text=text, response_headers=responses)
            ]
        case Forward():
            return list(_describe_forward(action, route, request, around))
        case _:
            assert_never(action)


def can_forward(route: Route, around: Surroundings = ALONE) -> bool:
    """Whether some upstream of the route exists; else proxies answer themselves, and no CORS filter looks at it."""
    if not isinstance(route.action, Forward):
        return False
    return any(_exists(share, around) for share in route.action.upstreams if share.weight)


def _exists(share: WeightedUpstream, around: Surroundings) -> bool:
    if share.upstream is None:
        return False
    found = around.problem(share.upstream)
    return found is None or found.exists


def _respond(
    action: Respond, route: Route, request: Request, responses: tuple[HeaderEdits, ...], around: Surroundings
) -> Described:
    own = HeaderEdits(set=action.headers)
    fields = edited((), (own, *responses), request)
    location = next((value for name, value in fields if name == "location"), "")
    to = f" to {location}" if location else ""
    # What a translator says of all backends together is less than what is said of each.
    why = around.reason(route.source) if action.status == UNUSABLE else ""
    because = f": {why}" if why else f" ({action.reason})" if action.reason else ""
    text = f"{action.status}{to}{because}"
    return Described(share=1.0, status=action.status, location=location, text=text, response_headers=(own, *responses))


def _describe_forward(action: Forward, route: Route, request: Request, around: Surroundings) -> Iterator[Described]:
    total = sum(share.weight for share in action.upstreams)
    target = rewritten(action.path, route, request)
    forwards = can_forward(route, around)
    for share in action.upstreams:
        if not share.weight:
            continue
        part = share.weight / total
        requests = [*(edits for edits, _ in around.outer), route.request_headers, share.request_headers]
        responses = (*(edits for _, edits in around.outer), route.response_headers, share.response_headers)
        if not _exists(share, around) or share.upstream is None:
            why = around.reason(share.source or route.source) or "the backend cannot be used"
            text = f"{action.unusable_status}: {why}"
            edits = [edits for _, edits in around.outer]
            # Where a share has edits of its own, those of route and host are with the shares that can be used.
            own = (*edits[:1],) if has_particular_shares(route) and forwards else (*edits, route.response_headers)
            yield Described(
                share=part, status=action.unusable_status, text=text, source=share.source, response_headers=own
            )
            continue
        host = share.host or action.host or request.named
        found = around.problem(share.upstream)
        yield Described(
            share=part,
            status=0 if found is None else found.status,
            upstream=share.upstream,
            host=host,
            target=target,
            request_headers=edited(request.headers, requests, request),
            response_headers=responses,
            text=f"forwarded to {share.upstream.place} as {host}{target}"
            if found is None
            else f"{found.status}: {found.text} (it would be sent {host}{target})",
            source=share.source,
        )
