"""Cross-origin rules as ingress-nginx has them, by routes.

Not the proxies' CORS filter: it answers preflights with 200, only those with Access-Control-Request-Method, and sets
fewer fields on other answers. Here every OPTIONS request of an allowed origin gets 204, and the fields stand on every
answer of the path, in place of the upstream's. Where origins are listed each route of the path comes twice: for
requests of an allowed origin, with the fields, and for all others.
"""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from portway.model.route import NO_EDITS, HeaderEdits, Respond, ValueKind, ValueMatch
from portway.translate.ingress.annotations.access import (
    CORS_ALLOW_CREDENTIALS,
    CORS_ALLOW_HEADERS,
    CORS_ALLOW_METHODS,
    CORS_ALLOW_ORIGIN,
    CORS_EXPOSE_HEADERS,
    CORS_MAX_AGE,
    ENABLE_CORS,
)
from portway.translate.ingress.annotations.entry import Settings
from portway.translate.ingress.matching import alternatives

ANY_ORIGIN: Final = ("*",)
PREFLIGHT: Final = Respond(status=204, reason="CORS preflight")
"""Without the Content-Type and Content-Length that nginx sends: there is no content (RFC 9110 §8.6, §15.3.5)."""


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the requests of a path, by their origin."""

    matches: tuple[ValueMatch, ...] = ()
    allowed: bool = False
    """Preflights are answered, and the fields are set."""
    response_headers: HeaderEdits = NO_EDITS


EVERYBODY: Final = Audience()


def audiences(settings: Settings) -> Iterator[Audience]:
    """Those whose requests are to be treated differently, in match order; the last one is everybody else."""
    origins = settings.get(CORS_ALLOW_ORIGIN)
    if not settings.get(ENABLE_CORS) or not origins:
        yield EVERYBODY
        return
    if origins == ANY_ORIGIN:
        edits = HeaderEdits(set=(("access-control-allow-origin", "*"), *_fields(settings)))
        yield Audience(allowed=True, response_headers=edits)
        return
    edits = HeaderEdits(set=_fields(settings), formatted=(("access-control-allow-origin", "%REQ(ORIGIN)%"),))
    for pattern in origin_patterns(origins):
        origin = ValueMatch(name="origin", kind=ValueKind.REGEX, value=pattern)
        yield Audience(matches=(origin,), allowed=True, response_headers=edits)
    yield EVERYBODY


def origin_patterns(origins: tuple[str, ...]) -> Iterator[str]:
    """Patterns that fit the allowed origins as a whole: a wildcard is one label of letters, digits and dashes. One for
    a list of usual length."""
    for patterns in alternatives(re.escape(origin).replace(r"://\*", "://[a-z0-9-]+") for origin in origins):
        yield f"(?i)(?:{patterns})"


def _fields(settings: Settings) -> tuple[tuple[str, str], ...]:
    fields = [
        ("access-control-allow-methods", settings.get(CORS_ALLOW_METHODS)),
        ("access-control-allow-headers", settings.get(CORS_ALLOW_HEADERS)),
        ("access-control-max-age", str(settings.get(CORS_MAX_AGE))),
    ]
    if settings.get(CORS_ALLOW_CREDENTIALS):
        fields.append(("access-control-allow-credentials", "true"))
    if settings.get(CORS_EXPOSE_HEADERS):
        fields.append(("access-control-expose-headers", settings.get(CORS_EXPOSE_HEADERS)))
    return tuple(fields)
