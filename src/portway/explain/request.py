"""A request as `explain` sees it: what a client sends, in the form in which a proxy looks up its route."""

import re
from collections.abc import Iterable
from urllib.parse import quote, urlsplit

import msgspec

from portway.explain.paths import normalise_path
from portway.objects.rules.names import punycode

WELL_KNOWN_PORTS = {"http": 80, "https": 443}
_SENT_AS_IS = "".join(map(chr, range(33, 127)))
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 §9.1: a token."""
_FORWARDED = "x-forwarded-"
"""Fields that begin so are taken away from clients that are no trusted proxies, before a route is looked up."""
JOINED = frozenset(
    {
        *("accept", "accept-encoding", "access-control-request-headers", "access-control-request-method"),
        *("authorization", "cache-control", "content-type", "expect", "grpc-timeout", "if-match", "if-modified-since"),
        *("if-none-match", "if-range", "if-unmodified-since", "origin", "pragma", "referer", "user-agent", "via"),
        *("x-client-trace-id", "x-request-id"),
    }
)
"""Fields that Envoy 1.40 keeps as one, with commas, when they are repeated; of others routes see each. Found out by
asking it."""


class RequestError(ValueError):
    """What was asked about is no request. The message says why."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request. Made by `make_request`, which brings it into the form that proxies match on. Hashable."""

    method: str = "GET"
    scheme: str = "http"
    authority: str = ""
    """The Host field, or `:authority`: in the client's case, with the port if it names one, without a dot at the end of
    the name. Empty: `host` and `port`."""
    host: str
    """Lower case, without port and trailing dot."""
    port: int
    """That the client connected to."""
    path: str = "/"
    """Without query; normalised as proxies do."""
    query: str | None = None
    """Without the question mark; `None`: there is none."""
    headers: tuple[tuple[str, str], ...] = ()
    """Lower-case names, in the order sent, without Host and X-Forwarded fields; names may repeat."""
    forwarded: tuple[tuple[str, str], ...] = ()
    """X-Forwarded fields as sent; proxies believe those of trusted peers (`arrival.py`)."""
    client: str = "127.0.0.1"
    """Address of the client."""
    server_name: str = ""
    """SNI of a TLS connection; empty: none was sent."""

    @property
    def is_tls(self) -> bool:
        return self.scheme == "https"

    @property
    def target(self) -> str:
        return self.path if self.query is None else f"{self.path}?{self.query}"

    @property
    def named(self) -> str:
        """The authority, also where it follows from host and port."""
        return self.authority or _authority(self.scheme, self.host, self.port)

    @property
    def names_port(self) -> bool:
        """Whether the authority names a port."""
        return bool(_split(self.named)[1])

    @property
    def url(self) -> str:
        return f"{self.scheme}://{_authority(self.scheme, self.host, self.port)}{self.target}"

    def fields(self, name: str) -> tuple[str, ...]:
        """All values of a field or pseudo-field, its name in lower case, in the order sent."""
        match name:
            case ":authority" | "host":
                return (self.named,)
            case ":method":
                return (self.method,)
            case ":path":
                return (self.target,)
            case ":scheme" | "x-forwarded-proto":
                return (self.scheme,)
            case _:
                found = tuple(value for key, value in self.headers if key == name)
                return (",".join(found),) if len(found) > 1 and name in JOINED else found

    def field(self, name: str) -> str | None:
        """The first value of a field or pseudo-field; `None` if there is none."""
        return next(iter(self.fields(name)), None)


def make_request(
    method: str,
    url: str,
    headers: Iterable[tuple[str, str]] = (),
    *,
    client: str = "127.0.0.1",
    server_name: str | None = None,
) -> Request:
    """The request that a client would send for a URL, as it is after proxies have read it: the path is normalised.

    Args:
        headers: name and value, names may repeat; `Host` overrides the URL's.
        server_name: SNI; `None`: the URL's host, as clients do. Names that are not ASCII are taken in the form in
            which clients send them: `bücher.example` as `xn--bcher-kva.example`.

    Raises:
        RequestError: method or URL is none, the URL has no host, or proxies answer 400 whatever is declared.
    """
    if not _METHOD.fullmatch(method):
        raise RequestError(f'"{method}" is no HTTP method like GET')
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port
        hostname = _ascii(parts.hostname or "")
    except ValueError as error:
        raise RequestError(f'"{url}" is no URL: {error}') from error
    if scheme not in WELL_KNOWN_PORTS or not hostname:
        raise RequestError(f'"{url}" is no URL of the form http://HOST/PATH')
    number = port or WELL_KNOWN_PORTS[scheme]
    fields = [(name.lower(), value) for name, value in headers]
    authority = next((_ascii(value) for name, value in fields if name == "host"), _authority(scheme, hostname, number))
    path, mark, query = _encoded(rest).partition("?")
    normal = normalise_path(path or "/")
    if normal is None:
        raise RequestError(f'"{url}" has %00 in its path: proxies answer 400')
    name = hostname if server_name is None else _ascii(server_name)
    return Request(
        method=method.upper(),
        scheme=scheme,
        authority=without_dot(authority),
        host=host_of(authority),
        port=number,
        path=normal,
        query=query if mark else None,
        headers=tuple(field for field in fields if field[0] != "host" and not field[0].startswith(_FORWARDED)),
        forwarded=tuple(field for field in fields if field[0].startswith(_FORWARDED)),
        client=client,
        server_name=name.lower() if scheme == "https" else "",
    )


def _ascii(name: str) -> str:
    """A host name, or an authority, as clients send it."""
    if name.isascii():
        return name
    host, port = _split(name)
    encoded = punycode(host)
    if not encoded:
        raise RequestError(f'"{name}" is no host name')
    return encoded + port


def _encoded(rest: str) -> str:
    """What follows the authority of a URL, the fragment left out, as ASCII: clients encode what is none."""
    start = min((rest.index(mark) for mark in "/?#" if mark in rest), default=len(rest))
    return quote(rest[start:].partition("#")[0], safe=_SENT_AS_IS)


def _authority(scheme: str, host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port == WELL_KNOWN_PORTS.get(scheme) else f"{shown}:{port}"


def _split(authority: str) -> tuple[str, str]:
    """Name and `:port` of an authority."""
    name, colon, port = authority.rpartition(":")
    is_port = bool(name) and port.isdecimal() and not (":" in name and not name.endswith("]"))
    return (name, colon + port) if is_port else (authority, "")


def without_port(authority: str) -> str:
    return _split(authority)[0]


def without_dot(authority: str) -> str:
    """An authority without the dot at the end of its name."""
    name, port = _split(authority)
    return name.removesuffix(".") + port


def host_of(authority: str) -> str:
    """The host name of an authority: without port, in lower case, without trailing dot."""
    return _split(authority)[0].strip("[]").lower().removesuffix(".")
