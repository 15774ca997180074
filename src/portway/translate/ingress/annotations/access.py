"""Annotations about who may call: cross-origin rules and source addresses."""

import ipaddress
import re
from typing import Final

from portway.objects.problems import quoted
from portway.translate.ingress.annotations import parsers
from portway.translate.ingress.annotations.entry import Annotation, Group, OnInvalid, Remark, Risk

_ORIGIN: Final = re.compile(
    r"[A-Za-z][A-Za-z0-9+.\-]*://(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.\-]*[A-Za-z0-9])?(?::[0-9]{1,5})?\Z"
)
_MAX_ORIGIN: Final = 300  # A host name has at most 253 characters (RFC 1123); the rest is scheme and port.
ANY: Final = ("*",)


def _odd_origins(text: str) -> Remark | None:
    entries = parsers.items(text)
    odd = [entry for entry in entries if entry != "*" and not _is_origin(entry)]
    if not odd or "*" in entries:
        return None
    rest = "the others are allowed" if len(odd) < len(entries) else "no origin is left, so no field is sent"
    return Remark(
        f"{', '.join(map(quoted, odd[:3]))} is no origin; {rest}", "write origins like https://app.example.com"
    )


def _narrowed(text: str) -> Remark | None:
    """Networks with bits beyond their prefix, which do not count."""
    odd = [item for item in parsers.items(text) if "/" in item and ipaddress.ip_interface(item).ip != _first(item)]
    if not odd:
        return None
    network = ipaddress.ip_network(odd[0], strict=False)
    return Remark(f"{odd[0]} means {network}", f"write {network}, or {odd[0].partition('/')[0]} for the address alone")


def _first(item: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_network(item, strict=False).network_address


def _origins(text: str) -> tuple[str, ...]:
    """The valid entries in their order, in lower case; `("*",)` if any is `*` or the text is blank; empty if none is
    valid."""
    entries = parsers.items(text)
    if not entries or "*" in entries:
        return ANY
    return tuple(dict.fromkeys(entry.lower() for entry in entries if _is_origin(entry)))


def _is_origin(entry: str) -> bool:
    return entry == "null" or (len(entry) <= _MAX_ORIGIN and _ORIGIN.match(entry) is not None)


def _methods(text: str) -> str:
    for item in parsers.items(text):
        if not item.isascii() or not item.isalpha():
            raise ValueError(f"{quoted(item)} is not a method")
    return text


def _headers(text: str) -> str:
    for item in parsers.items(text):
        if item != "*":
            parsers.token(item)
    return text


ENABLE_CORS: Final = Annotation(
    name="enable-cors",
    group=Group.ACCESS,
    parse=parsers.boolean,
    default=False,
    form="true or false",
    example="true",
    text="Answers every OPTIONS request of an allowed origin with 204 and sets the Access-Control-* fields on every"
    " answer, in place of the upstream's. Before redirects and access lists. The fields go out without an Origin"
    " too if every origin is allowed.",
)
CORS_ALLOW_ORIGIN: Final = Annotation[tuple[str, ...]](
    name="cors-allow-origin",
    group=Group.ACCESS,
    risk=Risk.MEDIUM,
    parse=_origins,
    remark=_odd_origins,
    default=ANY,
    default_text="*",
    form="a list of origins scheme://host[:port], null or *",
    example="https://app.example.com, https://*.example.org",
    text="Allowed origins; `*.` stands for one label. Entries that are no origin are left out one by one; if none is"
    " left no field is sent.",
)
CORS_ALLOW_METHODS: Final = Annotation(
    name="cors-allow-methods",
    group=Group.ACCESS,
    risk=Risk.MEDIUM,
    parse=_methods,
    default="GET, PUT, POST, DELETE, PATCH, OPTIONS",
    form="a list of methods",
    example="GET, POST",
    text="Value of Access-Control-Allow-Methods.",
)
CORS_ALLOW_HEADERS: Final = Annotation(
    name="cors-allow-headers",
    group=Group.ACCESS,
    risk=Risk.MEDIUM,
    parse=_headers,
    default="DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization",
    form="a list of header names",
    example="Content-Type, Authorization",
    text="Value of Access-Control-Allow-Headers.",
)
CORS_ALLOW_CREDENTIALS: Final = Annotation(
    name="cors-allow-credentials",
    group=Group.ACCESS,
    parse=parsers.boolean,
    default=True,
    form="true or false",
    example="false",
    text="Whether Access-Control-Allow-Credentials: true is sent.",
)
CORS_EXPOSE_HEADERS: Final = Annotation(
    name="cors-expose-headers",
    group=Group.ACCESS,
    risk=Risk.MEDIUM,
    parse=_headers,
    default="",
    default_text="not sent",
    form="a list of header names",
    example="X-Request-ID",
    text="Value of Access-Control-Expose-Headers.",
)
CORS_MAX_AGE: Final = Annotation(
    name="cors-max-age",
    group=Group.ACCESS,
    parse=parsers.integer(0),
    default=1_728_000,
    form="a whole number of seconds",
    example="600",
    text="Value of Access-Control-Max-Age.",
)
ALLOWLIST_SOURCE_RANGE: Final = Annotation[tuple[str, ...]](
    name="allowlist-source-range",
    alias="whitelist-source-range",
    group=Group.ACCESS,
    risk=Risk.MEDIUM,
    on_invalid=OnInvalid.DENY,
    parse=parsers.cidrs,
    remark=_narrowed,
    default=(),
    default_text="all",
    form="a list of addresses and networks",
    example="10.0.0.0/8, 192.0.2.7",
    text="Only clients from these networks may pass, others get 403; `denylist-source-range` is looked at first. The"
    " client's address is the peer's unless trusted proxies are set. Holds for `//a` and `%2Fa` as for `/a`, which"
    " nginx takes for the same path; where paths of a host are protected differently, those that are ambiguous (a dot"
    " segment next to an escaped slash, in regex mode every escaped or doubled slash) get 400.",
)
DENYLIST_SOURCE_RANGE: Final = Annotation[tuple[str, ...]](
    name="denylist-source-range",
    group=Group.ACCESS,
    risk=Risk.MEDIUM,
    on_invalid=OnInvalid.DENY,
    parse=parsers.cidrs,
    remark=_narrowed,
    default=(),
    default_text="none",
    form="a list of addresses and networks",
    example="192.0.2.0/24",
    text="Clients from these networks get 403.",
)

TABLE: Final = (
    ENABLE_CORS,
    CORS_ALLOW_ORIGIN,
    CORS_ALLOW_METHODS,
    CORS_ALLOW_HEADERS,
    CORS_ALLOW_CREDENTIALS,
    CORS_EXPOSE_HEADERS,
    CORS_MAX_AGE,
    ALLOWLIST_SOURCE_RANGE,
    DENYLIST_SOURCE_RANGE,
)
