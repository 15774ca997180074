"""Annotations about how the upstream is spoken to."""

import re
from datetime import timedelta
from enum import StrEnum
from typing import Final

import msgspec

from portway.model.route import HashOn
from portway.translate.ingress.annotations import parsers
from portway.translate.ingress.annotations.entry import Annotation, Group, Risk, Scope


class BackendProtocol(StrEnum):
    """What the upstream speaks."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"
    GRPC = "GRPC"
    GRPCS = "GRPCS"
    AUTO_HTTP = "AUTO_HTTP"
    FCGI = "FCGI"
    """Known, to be refused: the paths answer 503."""


class BalanceBy(StrEnum):
    """How an endpoint is chosen."""

    ROUND_ROBIN = "round_robin"
    EWMA = "ewma"


class HashBy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One variable of `upstream-hash-by`."""

    on: HashOn
    name: str = ""


CAUSES: Final = (
    "error",
    "timeout",
    "invalid_header",
    "http_500",
    "http_502",
    "http_503",
    "http_504",
    "http_403",
    "http_404",
    "http_429",
    "non_idempotent",
    "off",
)
"""Words of nginx's `proxy_next_upstream`."""

_FIXED: Final = {
    "request_uri": HashBy(on=HashOn.HEADER, name=":path"),
    "uri": HashBy(on=HashOn.HEADER, name=":path"),
    "host": HashBy(on=HashOn.HEADER, name=":authority"),
    "http_host": HashBy(on=HashOn.HEADER, name=":authority"),
    "remote_addr": HashBy(on=HashOn.SOURCE_ADDRESS),
    "binary_remote_addr": HashBy(on=HashOn.SOURCE_ADDRESS),
    "the_real_ip": HashBy(on=HashOn.SOURCE_ADDRESS),
    "request_method": HashBy(on=HashOn.HEADER, name=":method"),
}
_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))")
_FAMILIES: Final = (("http_", HashOn.HEADER), ("cookie_", HashOn.COOKIE), ("arg_", HashOn.QUERY_PARAMETER))


def _hash_by(text: str) -> tuple[HashBy, ...]:
    """The variables of the text in order; literal text between them hashes the same for all requests and is dropped."""
    found: list[HashBy] = []
    for match in _VARIABLE.finditer(text):
        variable = match[1] or match[2]
        known = _FIXED.get(variable)
        if known is None:
            family = next((family for family in _FAMILIES if variable.startswith(family[0])), None)
            if family is None or variable == family[0]:
                raise ValueError(f"the variable ${variable} is not supported")
            name = variable.removeprefix(family[0])
            known = HashBy(on=family[1], name=name.lower().replace("_", "-") if family[1] is HashOn.HEADER else name)
        if known not in found:
            found.append(known)
    if not found:
        raise ValueError("it holds no variable")
    return tuple(found)


BACKEND_PROTOCOL: Final = Annotation(
    name="backend-protocol",
    group=Group.UPSTREAM,
    parse=parsers.one_of({protocol.value.lower(): protocol for protocol in BackendProtocol}, ignore_case=True),
    default=BackendProtocol.HTTP,
    form="one of HTTP, HTTPS, GRPC, GRPCS, AUTO_HTTP",
    example="GRPC",
    text="What the upstream speaks, in any case. HTTPS and GRPCS do not verify its certificate. AUTO_HTTP uses what"
    " the client speaks. FCGI is refused.",
)
PROXY_CONNECT_TIMEOUT: Final = Annotation[timedelta | None](
    name="proxy-connect-timeout",
    group=Group.UPSTREAM,
    parse=parsers.seconds,
    default=None,
    default_text="5 (setting `connect-timeout`)",
    form="a whole number of seconds",
    example="10",
    text="How long connecting to an endpoint may take.",
)
PROXY_READ_TIMEOUT: Final = Annotation[timedelta | None](
    name="proxy-read-timeout",
    group=Group.UPSTREAM,
    parse=parsers.seconds,
    default=None,
    default_text="60 (setting `read-timeout`)",
    form="a whole number of seconds",
    example="300",
    text="Longest silence on the exchange; 504 if the answer has not begun by then. Holds for idle WebSockets too.",
)
PROXY_SEND_TIMEOUT: Final = Annotation[timedelta | None](
    name="proxy-send-timeout",
    group=Group.UPSTREAM,
    parse=parsers.seconds,
    default=None,
    default_text="that of `proxy-read-timeout`",
    form="a whole number of seconds",
    example="300",
    text="Longest silence while the request is sent upstream. Proxies know one limit for both directions: the longer"
    " of this and `proxy-read-timeout` holds.",
)
PROXY_NEXT_UPSTREAM: Final = Annotation[frozenset[str] | None](
    name="proxy-next-upstream",
    group=Group.UPSTREAM,
    risk=Risk.MEDIUM,
    parse=parsers.words(CAUSES),
    default=None,
    default_text="failed connections are tried again, once or twice",
    form=f"a list, with spaces, of {', '.join(CAUSES)}",
    example="error timeout http_502",
    text="What makes the request go to another endpoint. POST, LOCK and PATCH are repeated only if they were not sent"
    " yet, unless `non_idempotent` is there.",
)
PROXY_NEXT_UPSTREAM_TRIES: Final = Annotation[int | None](
    name="proxy-next-upstream-tries",
    group=Group.UPSTREAM,
    parse=parsers.integer(0),
    default=None,
    default_text="3",
    form="a whole number",
    example="2",
    text="Tries in total, the first one included; 0: as many as there are endpoints (Portway: 10).",
)
PROXY_NEXT_UPSTREAM_TIMEOUT: Final = Annotation[timedelta | None](
    name="proxy-next-upstream-timeout",
    group=Group.UPSTREAM,
    parse=parsers.seconds,
    default=None,
    default_text="0: no limit",
    form="a whole number of seconds",
    example="30",
    text="After this time no further try begins.",
)
PROXY_BODY_SIZE: Final = Annotation(
    name="proxy-body-size",
    group=Group.UPSTREAM,
    risk=Risk.MEDIUM,
    parse=parsers.size_bytes,
    default=0,
    default_text="no limit",
    form="a number of bytes, with k, m or g behind it for larger units",
    example="8m",
    text="Larger requests get 413; 0: no limit. ingress-nginx's global default of 1m does not apply.",
)
LOAD_BALANCE: Final = Annotation[BalanceBy | None](
    name="load-balance",
    group=Group.UPSTREAM,
    parse=parsers.one_of({by.value: by for by in BalanceBy}),
    default=None,
    default_text="ewma",
    form="round_robin or ewma",
    example="round_robin",
    text="How an endpoint is chosen. ewma: of two drawn at random the one with fewer active requests, which is the"
    " nearest to ingress-nginx's that proxies have. ingress-nginx's default is round_robin, which goes on sending to an"
    " endpoint that hangs.",
)
UPSTREAM_HASH_BY: Final = Annotation[tuple[HashBy, ...]](
    name="upstream-hash-by",
    group=Group.UPSTREAM,
    risk=Risk.HIGH,
    parse=_hash_by,
    default=(),
    default_text="no hashing",
    form="a text with the variables $request_uri, $host, $remote_addr, $http_<name>, $cookie_<name> or $arg_<name>",
    example="$request_uri",
    text="Requests with the same value go to the same endpoint (consistent hashing). Cookie affinity wins over it.",
)
SSL_PASSTHROUGH: Final = Annotation(
    name="ssl-passthrough",
    group=Group.UPSTREAM,
    scope=Scope.HOST,
    parse=parsers.boolean,
    default=False,
    form="true or false",
    example="true",
    text="TLS connections for the Ingress's hosts (by SNI, exact names only) go to the Service of path `/` as they"
    " are; no other annotation has an effect on them. Plain HTTP is routed as usual. Only from the"
    " namespace that declared the host first.",
)

TABLE: Final = (
    BACKEND_PROTOCOL,
    PROXY_CONNECT_TIMEOUT,
    PROXY_READ_TIMEOUT,
    PROXY_SEND_TIMEOUT,
    PROXY_NEXT_UPSTREAM,
    PROXY_NEXT_UPSTREAM_TRIES,
    PROXY_NEXT_UPSTREAM_TIMEOUT,
    PROXY_BODY_SIZE,
    LOAD_BALANCE,
    UPSTREAM_HASH_BY,
    SSL_PASSTHROUGH,
)
