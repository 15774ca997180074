"""A request as `explain` sees it: what a proxy would know when it looks up a route."""

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import msgspec

from portway.model.route import SCHEME_HEADER


class RequestError(ValueError):
    """What was asked about is no request. The message says why."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request. Made by `make_request`, which brings it into the form that proxies match on."""

    method: str = "GET"
    scheme: str = "http"
    host: str
    """Lower case, without port and trailing dot."""
    port: int
    """That the client connected to."""
    path: str = "/"
    """Without query; normalised as proxies do."""
    query: str = ""
    """Without the question mark."""
    headers: Mapping[str, str] = {}
    """Lower-case names; several values of one name joined with a comma."""
    client: str = "127.0.0.1"
    """Address of the client."""
    server_name: str = ""
    """SNI of a TLS connection; empty: none was sent."""

    @property
    def is_tls(self) -> bool:
        return self.scheme == "https"

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def url(self) -> str:
        well_known = self.port == (443 if self.is_tls else 80)
        return f"{self.scheme}://{self.host}{'' if well_known else f':{self.port}'}{self.target}"

    def field(self, name: str) -> str | None:
        """A field or pseudo-field of the request; `None` if it has none."""
        pseudo = {":authority": self.authority, ":method": self.method, ":path": self.target, ":scheme": self.scheme}
        pseudo[SCHEME_HEADER] = self.scheme
        return pseudo.get(name) or self.headers.get(name)

    @property
    def authority(self) -> str:
        return self.headers.get("host", self.host)


def make_request(
    method: str,
    url: str,
    headers: Iterable[tuple[str, str]] = (),
    *,
    client: str = "127.0.0.1",
    server_name: str | None = None,
) -> Request:
    """The request that a client would send for a URL.

    Args:
        headers: name and value, names may repeat; `Host` overrides the URL's.
        server_name: SNI; `None`: the URL's host, as clients do.

    Raises:
        RequestError: the URL is none, or has no host.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise RequestError(f'"{url}" is no URL: {error}') from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RequestError(f'"{url}" is no URL of the form http://HOST/PATH')
    fields: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        fields[key] = f"{fields[key]},{value}" if key in fields else value
    host = host_of(fields.get("host", parts.hostname))
    name = parts.hostname if server_name is None else server_name
    return Request(
        method=method.upper(),
        scheme=parts.scheme,
        host=host,
        port=port or (443 if parts.scheme == "https" else 80),
        path=normalise_path(parts.path or "/"),
        query=parts.query,
        headers=fields,
        client=client,
        server_name=name.lower() if parts.scheme == "https" else "",
    )


def host_of(authority: str) -> str:
    """The host name of an authority: without port, in lower case, without trailing dot."""
    if authority.startswith("["):
        return authority.partition("]")[0].lstrip("[").lower()
    name, _, port = authority.rpartition(":")
    return (name if name and port.isdigit() else authority).lower().rstrip(".")


def normalise_path(path: str) -> str:
    """Resolve `.` and `..` as proxies do before they match (RFC 3986 §5.2.4); doubled slashes stay.

    Also as they do: an unreserved character that is percent-encoded is decoded, and no other.
    """
    output: list[str] = []
    segments = _decode_unreserved(path).replace("\\", "/").split("/")
    for position, segment in enumerate(segments):
        last = position == len(segments) - 1
        if segment == "..":
            if len(output) > 1:
                output.pop()
            if last:
                output.append("")
        elif segment == ".":
            if last:
                output.append("")
        else:
            output.append(segment)
    return "/".join(output) or "/"


_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def _decode_unreserved(path: str) -> str:
    pieces = path.split("%")
    decoded = [pieces[0]]
    for piece in pieces[1:]:
        try:
            character = chr(int(piece[:2], 16)) if len(piece) >= 2 else ""
        except ValueError:
            character = ""
        decoded.append(character + piece[2:] if character in _UNRESERVED and character else "%" + piece)
    return "".join(decoded)
