"""Annotations that redirect."""

from collections.abc import Callable
from typing import Final

from portway.translate.ingress.annotations import parsers
from portway.translate.ingress.annotations.entry import Annotation, Group, Remark, Risk, Scope


def _status(low: int, high: int, otherwise: int) -> parsers.Parser[int]:
    """Any integer passes; one that is no redirect means the default, as in ingress-nginx."""

    def parse(text: str) -> int:
        status = parsers.integer(-(2**31))(text)
        return status if low <= status <= high else otherwise

    return parse


def _replaced(low: int, high: int, otherwise: int) -> Callable[[str], Remark | None]:
    def remark(text: str) -> Remark | None:
        if low <= int(text) <= high:
            return None
        return Remark(f"{text} is no status from {low} to {high}; {otherwise} is sent", f"write {otherwise}")

    return remark


SSL_REDIRECT: Final = Annotation[bool | None](
    name="ssl-redirect",
    group=Group.REDIRECTS,
    parse=parsers.boolean,
    default=None,
    default_text="true (setting `ssl-redirect`)",
    form="true or false",
    example="false",
    text="Redirects plain HTTP to HTTPS with 308 where an Ingress of the host has a `tls` section; one `/` at the end"
    " of the URI is dropped. `/.well-known/acme-challenge` is left alone.",
)
FORCE_SSL_REDIRECT: Final = Annotation[bool | None](
    name="force-ssl-redirect",
    group=Group.REDIRECTS,
    risk=Risk.MEDIUM,
    parse=parsers.boolean,
    default=None,
    default_text="false (setting `force-ssl-redirect`)",
    form="true or false",
    example="true",
    text="The same redirect, also without a `tls` section.",
)
PERMANENT_REDIRECT: Final = Annotation(
    name="permanent-redirect",
    group=Group.REDIRECTS,
    risk=Risk.MEDIUM,
    parse=parsers.url,
    default="",
    default_text="no redirect",
    form="a URL",
    example="https://new.example.com",
    text="Answers every request of the path with 301 and this Location, verbatim; a path from the root becomes"
    " `<scheme>://<host><path>`. Before the HTTPS redirect, access lists and the upstream.",
)
PERMANENT_REDIRECT_CODE: Final = Annotation(
    name="permanent-redirect-code",
    group=Group.REDIRECTS,
    parse=_status(300, 308, 301),
    remark=_replaced(300, 308, 301),
    default=301,
    form="a status from 300 to 308",
    example="308",
    text="Status of `permanent-redirect`; a number outside 300 to 308 means 301.",
)
TEMPORAL_REDIRECT: Final = Annotation(
    name="temporal-redirect",
    group=Group.REDIRECTS,
    risk=Risk.MEDIUM,
    parse=parsers.http_url,
    default="",
    default_text="no redirect",
    form="an absolute http(s) URL",
    example="https://status.example.com",
    text="Answers every request of the path with 302 and this Location, verbatim. Wins over `permanent-redirect`.",
)
TEMPORAL_REDIRECT_CODE: Final = Annotation(
    name="temporal-redirect-code",
    group=Group.REDIRECTS,
    parse=_status(300, 307, 302),
    remark=_replaced(300, 307, 302),
    default=302,
    form="a status from 300 to 307",
    example="307",
    text="Status of `temporal-redirect`; a number outside 300 to 307 means 302.",
)
FROM_TO_WWW_REDIRECT: Final = Annotation(
    name="from-to-www-redirect",
    group=Group.REDIRECTS,
    scope=Scope.HOST,
    parse=parsers.boolean,
    default=False,
    form="true or false",
    example="true",
    text="Redirects `www.x` to the Ingress's host `x`, or `x` to its host `www.x`, with 308 and an explicit port; one"
    " `/` at the end of the URI is dropped. Not where an Ingress has the other name as host. Only from"
    " the namespace that declared the host first.",
)

TABLE: Final = (
    SSL_REDIRECT,
    FORCE_SSL_REDIRECT,
    PERMANENT_REDIRECT,
    PERMANENT_REDIRECT_CODE,
    TEMPORAL_REDIRECT,
    TEMPORAL_REDIRECT_CODE,
    FROM_TO_WWW_REDIRECT,
)
