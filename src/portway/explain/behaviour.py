"""What a client or a backend would notice of a request's way: comparable between worlds, whatever things are called.

Names of routes and objects that only declare are left out, and equal outcomes are one, however many declarations lead
to them; so a regrouped, reordered or renamed configuration behaves the same.
"""

from collections.abc import Sequence

import msgspec

from portway.explain.trace import Explanation, Outcome
from portway.model.names import UpstreamKey

SAME = "="
"""Stands for what is as in the request."""
REWRITTEN = "~"
"""Stands for whatever was made of it."""
_SAYS_NOTHING = "applies"
"""End of effects that only name an object."""


class Noticed(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One outcome, as far as anybody would notice."""

    closed: bool
    status: int
    location: str
    upstream: str
    host: str
    target: str
    request_headers: tuple[tuple[str, str], ...]
    response_headers: tuple[tuple[str, str], ...]


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """All outcomes with their shares, and what else happens. Equal for requests that fare alike: path, host and port
    count only where they are changed."""

    outcomes: tuple[tuple[Noticed, float], ...]
    """Sorted."""
    effects: tuple[str, ...]
    """Sorted, unique."""


def behaviour_of(found: Explanation) -> Behaviour:
    """How the request of an explanation fares."""
    shares: dict[Noticed, float] = {}
    for outcome in found.outcomes:
        if outcome.share > 0:
            noticed = _noticed(found, outcome)
            shares[noticed] = shares.get(noticed, 0) + outcome.share
    effects = {f"{effect.what}: {effect.text}" for effect in found.effects if effect.source is not None}
    return Behaviour(
        outcomes=tuple((noticed, round(shares[noticed], 6)) for noticed in sorted(shares)),
        effects=tuple(sorted(effect for effect in effects if not effect.endswith(_SAYS_NOTHING))),
    )


def sort_of(one: Explanation, other: Explanation) -> tuple[object, ...]:
    """Equal for requests of which one example says enough: their ways change alike, but for what is made of the path.
    Where it was something else before and after, by the same routes."""
    sides = [behaviour_of(found) for found in (one, other)]
    rewritten = all(REWRITTEN in _roughly(noticed) for side in sides for noticed, _ in side.outcomes)
    routes = [{outcome.route for outcome in found.outcomes} for found in (one, other)] if rewritten else []
    return (
        *(tuple((_roughly(noticed), share) for noticed, share in side.outcomes) for side in sides),
        *(side.effects for side in sides),
        *(tuple(sorted(names)) for names in routes),
    )


def _roughly(noticed: Noticed) -> tuple[object, ...]:
    parts = (noticed.location, noticed.host, noticed.target)
    rough = tuple(part if part in ("", SAME) else REWRITTEN for part in parts)
    # Values that declarations set are among the effects; those that proxies make of a request differ for each.
    fields = [tuple(name for name, _ in given) for given in (noticed.request_headers, noticed.response_headers)]
    return (*rough, noticed.closed, noticed.status, noticed.upstream, *fields)


def _noticed(found: Explanation, outcome: Outcome) -> Noticed:
    request = found.request
    given = {name for name, _ in request.headers}
    return Noticed(
        closed=outcome.closed,
        status=outcome.status,
        location=_like(_like(outcome.location, request.target), request.named),
        upstream=upstream_text(outcome.upstream),
        host=SAME if outcome.host == request.named else outcome.host,
        target=_like(outcome.target, request.target),
        # Fields that pass through unchanged say nothing; those that are missing afterwards do.
        request_headers=(
            *(field for field in outcome.request_headers if field not in request.headers),
            *(
                (name, "")
                for name in sorted(given - {name for name, _ in outcome.request_headers})
                if outcome.upstream is not None
            ),
        ),
        response_headers=outcome.response_headers,
    )


def _like(text: str, of_request: str) -> str:
    if text == of_request:
        return SAME
    return text.replace(of_request, SAME) if len(of_request) > 1 else text


def upstream_text(key: UpstreamKey | None) -> str:
    """An upstream in words: what is reached, and in which way if that is not the default."""
    if key is None:
        return ""
    return f"{key.place} {key.variant}" if key.variant else key.place


def differing_texts(before: Explanation, after: Explanation) -> tuple[str, str]:
    """Both explanations in words; of what else happens only what is not the same."""
    effects = [behaviour_of(found).effects for found in (before, after)]
    common = set(effects[0]) & set(effects[1])
    one, other = (
        "; ".join([*_outcome_texts(found.outcomes), *(effect for effect in own if effect not in common)])
        for found, own in zip((before, after), effects, strict=True)
    )
    if one != other:
        return one, other
    # What differs is in fields or in how an upstream is spoken to, which the words leave out.
    return tuple("; ".join((one, *map(_details, found.outcomes))) for found in (before, after))  # type: ignore[return-value]  # two


def _outcome_texts(outcomes: Sequence[Outcome]) -> list[str]:
    shares: dict[str, float] = {}
    for outcome in outcomes:
        if outcome.share > 0:
            shares[outcome.text] = shares.get(outcome.text, 0) + outcome.share
    return [text if share >= 1 - 1e-9 else f"{share:.1%} {text}" for text, share in sorted(shares.items())]


def _details(outcome: Outcome) -> str:
    fields = [f"{name}: {value}" for name, value in (*outcome.request_headers, *outcome.response_headers)]
    variant = outcome.upstream.variant if outcome.upstream is not None else ""
    return "; ".join([*([variant] if variant else []), *fields]) or "no fields"
