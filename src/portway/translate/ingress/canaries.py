"""Which requests of a path go to its canary.

The decision is a list of routes: a header decides first, then a cookie, then chance. Each route is for the requests
that nothing before it has decided. Where sessions are sticky, a client stays on the side that it reached first, before
any of that: a second cookie says which (ingress-nginx keeps it in the session's cookie, which proxies make themselves).

Source: ingress-nginx, "Canary".
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from portway.model.checks import check_regex
from portway.model.route import ValueKind, ValueMatch
from portway.translate.ingress.annotations.canary import (
    CANARY_BY_COOKIE,
    CANARY_BY_HEADER,
    CANARY_BY_HEADER_PATTERN,
    CANARY_BY_HEADER_VALUE,
    CANARY_WEIGHT,
    CANARY_WEIGHT_TOTAL,
    MIN_TOTAL,
)
from portway.translate.ingress.annotations.entry import Settings


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Requests whose way is decided: the canary's share of them is `weight` of `total`."""

    headers: tuple[ValueMatch, ...] = ()
    cookies: tuple[ValueMatch, ...] = ()
    weight: int
    total: int
    bound: bool = False
    """The client said itself which side it is on."""


ALL_TO_PRIMARY: Final = Choice(weight=0, total=1, bound=True)
SIDE_CANARY: Final = "canary"
SIDE_PRIMARY: Final = "primary"


def choices(settings: Settings, side_cookie: str) -> Iterator[Choice]:
    """The decisions in match order; the last one is for all requests that are left.

    Args:
        settings: those of the canary.
        side_cookie: name of the cookie that keeps a client on its side; empty: none does.
    """
    if side_cookie:
        yield Choice(cookies=(ValueMatch(name=side_cookie, value=SIDE_CANARY),), weight=1, total=1, bound=True)
        yield Choice(cookies=(ValueMatch(name=side_cookie, value=SIDE_PRIMARY),), weight=0, total=1, bound=True)
    header = settings.get(CANARY_BY_HEADER)
    if header:
        yield from _by_header(header.lower(), settings)
    cookie = settings.get(CANARY_BY_COOKIE)
    if cookie:
        yield Choice(cookies=(ValueMatch(name=cookie, value="always"),), weight=1, total=1)
        yield Choice(cookies=(ValueMatch(name=cookie, value="never"),), weight=0, total=1)
    total = max(settings.get(CANARY_WEIGHT_TOTAL), MIN_TOTAL)
    yield Choice(weight=min(settings.get(CANARY_WEIGHT), total), total=total)


def _by_header(header: str, settings: Settings) -> Iterator[Choice]:
    value, pattern = settings.get(CANARY_BY_HEADER_VALUE), settings.get(CANARY_BY_HEADER_PATTERN)
    if value:
        yield Choice(headers=(ValueMatch(name=header, value=value),), weight=1, total=1)
    elif pattern:
        if check_regex(searched_for(pattern)):
            yield Choice(headers=(ValueMatch(name=header, kind=ValueKind.PRESENT),), weight=0, total=1)
            return
        found = ValueMatch(name=header, kind=ValueKind.REGEX, value=searched_for(pattern))
        yield Choice(headers=(found,), weight=1, total=1)
    else:
        yield Choice(headers=(ValueMatch(name=header, value="always"),), weight=1, total=1)
        yield Choice(headers=(ValueMatch(name=header, value="never"),), weight=0, total=1)


def pattern_problem(settings: Settings) -> str:
    """What is wrong with the pattern that is to decide, the middle of a sentence; empty: nothing."""
    pattern = settings.get(CANARY_BY_HEADER_PATTERN)
    if not pattern or settings.get(CANARY_BY_HEADER_VALUE) or not settings.get(CANARY_BY_HEADER):
        return ""
    return check_regex(pattern) or check_regex(searched_for(pattern))


def searched_for(pattern: str) -> str:
    """The pattern that fits a whole value in which the other one is found."""
    return f"(?s).*(?:{pattern}).*"
