"""Opening connections: TCP or Unix socket, with or without TLS, with a PROXY protocol header before either."""

import asyncio
import errno
import ssl
from collections.abc import Callable
from typing import TypeVar

import msgspec

from tests.kit.answer import ConnectionFailed, Failure
from tests.kit.certificates import client_context

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)

_STREAM_LIMIT = 4 * 1024 * 1024  # bytes of an answer's head that a reader takes


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where to connect to, and how."""

    host: str = "127.0.0.1"
    port: int = 0
    path: str = ""
    """Of a Unix socket; empty: TCP."""
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    """SNI and the name that is verified; empty: none is sent."""
    preamble: bytes = b""
    """Sent before anything else, before the TLS handshake too (PROXY protocol)."""


async def open_streams(endpoint: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, and talk by streams.

    Raises:
        ConnectionFailed: refused, or the handshake failed.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_STREAM_LIMIT, loop=loop)
    transport, protocol = await connect(endpoint, lambda: asyncio.StreamReaderProtocol(reader, loop=loop))
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def connect(endpoint: Endpoint, make: Callable[[], _Protocol]) -> tuple[asyncio.Transport, _Protocol]:
    """Connect, and talk by a protocol.

    Raises:
        ConnectionFailed: refused, or the handshake failed.
    """
    try:
        if endpoint.preamble:
            return await _connect_with_preamble(endpoint, make)
        return await _connect(endpoint, make)
    except ssl.SSLError as error:
        raise ConnectionFailed(Failure.TLS, str(error)) from error
    except (ConnectionRefusedError, FileNotFoundError) as error:
        raise ConnectionFailed(Failure.REFUSED, str(error)) from error
    except ConnectionError as error:
        # During the handshake: before it there is nothing that could be reset.
        raise ConnectionFailed(Failure.TLS if endpoint.tls else Failure.RESET, str(error)) from error
    except OSError as error:
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            raise ConnectionFailed(Failure.UNREACHABLE, str(error)) from error
        raise


async def _connect(endpoint: Endpoint, make: Callable[[], _Protocol]) -> tuple[asyncio.Transport, _Protocol]:
    loop = asyncio.get_running_loop()
    name = endpoint.server_name if endpoint.tls else None
    if endpoint.path:
        return await loop.create_unix_connection(make, endpoint.path, ssl=endpoint.tls, server_hostname=name)
    return await loop.create_connection(make, endpoint.host, endpoint.port, ssl=endpoint.tls, server_hostname=name)


async def _connect_with_preamble(
    endpoint: Endpoint, make: Callable[[], _Protocol]
) -> tuple[asyncio.Transport, _Protocol]:
    plain = msgspec.structs.replace(endpoint, tls=None, preamble=b"")
    if endpoint.tls is None:
        transport, protocol = await _connect(plain, make)
        transport.write(endpoint.preamble)
        return transport, protocol
    # The protocol meets one transport only, the secured one: a stream reader refuses a second.
    bare, _ = await _connect(plain, asyncio.Protocol)
    bare.write(endpoint.preamble)
    protocol = make()
    loop = asyncio.get_running_loop()
    secured = await loop.start_tls(bare, protocol, endpoint.tls, server_hostname=endpoint.server_name)
    assert secured is not None
    protocol.connection_made(secured)
    return secured, protocol


def accept_any(alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """A client context that accepts any certificate."""
    return client_context(None, alpn=alpn)
