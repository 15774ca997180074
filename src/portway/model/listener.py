"""Where proxies listen, and what they do with a connection."""

from datetime import timedelta
from enum import StrEnum

import msgspec

from portway.model.names import SecretKey, SocketKey, TableKey
from portway.model.route import Source, WeightedUpstream
from portway.objects.verdict import ObjectKey


class ClientValidation(StrEnum):
    REQUIRE = "require"
    """No valid client certificate, no connection."""
    OPTIONAL_UNVERIFIED = "optional-unverified"
    """A certificate is asked for; none, or one of an unknown authority, passes (Gateway API
    `AllowInsecureFallback`)."""


class DownstreamTls(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    certificates: tuple[SecretKey, ...]
    """At least one; the proxy chooses by server name and key type."""
    first_for_others: bool = False
    """Clients whose name is in none of the certificates get the first one; else the first that suits their keys."""
    client_authorities: SecretKey | None = None
    client_validation: ClientValidation = ClientValidation.REQUIRE
    alpn: tuple[str, ...] = ("h2", "http/1.1")
    min_version: str = "1.2"
    max_version: str = ""
    ciphers: tuple[str, ...] = ()
    """Empty: the proxy's default."""


class HttpHandler(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Looks requests up in a route table."""

    table: TableKey
    scheme_port: int = 0
    """Port that clients connect to, where it is not the socket's own."""
    idle_timeout: timedelta | None = None
    """Longest silence on a stream; `None`: the edge's `stream_idle_timeout`."""


class TcpHandler(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Passes bytes on. No usable upstream: the connection is closed."""

    upstreams: tuple[WeightedUpstream, ...] = ()
    idle_timeout: timedelta | None = None


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to the connections of one socket that bear one of these server names."""

    name: str
    """Unique in the socket, stable: a change of one chain leaves the connections of the others alone."""
    server_names: tuple[str, ...] = ()
    """Lower case, sorted, `*.suffix` allowed. Empty: connections that no other chain fits."""
    tls: DownstreamTls | None = None
    """`None` with server names: TLS is passed through."""
    passthrough: bool = False
    handler: HttpHandler | TcpHandler
    source: Source


class UdpHandler(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    upstreams: tuple[WeightedUpstream, ...] = ()
    idle_timeout: timedelta | None = None


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """One socket."""

    key: SocketKey
    chains: tuple[Chain, ...] = ()
    """Sorted by name; empty for UDP."""
    udp: UdpHandler | None = None
    proxy_protocol: bool = False
    """A PROXY header is required in front of each connection."""
    http3: bool = False
    """The same port answers HTTP/3 over UDP, and HTTP answers say so (Alt-Svc)."""
    origins: tuple[ObjectKey, ...] = ()
