"""Clients below and beside HTTP requests: WebSocket, TCP lines, UDP datagrams."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import InvalidHandshake

from tests.kit.answer import ConnectionFailed, Failure
from tests.kit.client import parse_url
from tests.kit.connect import Endpoint, open_streams
from tests.kit.echo import POD_HEADER


@asynccontextmanager
async def websocket(
    url: str,
    *,
    address: str = "127.0.0.1",
    headers: Iterable[tuple[str, str]] = (),
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[ClientConnection]:
    """An open WebSocket; `websocket_pod(...)` says who is at its other end.

    Args:
        url: scheme `ws` or `wss`; its host and port become the Host header and the server name.
        address: where to connect to.
        headers: sent with the handshake, besides its own.
        tls: for `wss`; `None`: any certificate is accepted.

    Raises:
        ConnectionFailed: refused, or the server did not upgrade (PROTOCOL, with its status in the text).
    """
    endpoint, _, _ = parse_url(url.replace("ws", "http", 1), address=address, tls=tls)
    opening = connect_websocket(
        url,
        host=endpoint.host,
        port=endpoint.port,
        ssl=endpoint.tls,
        server_hostname=endpoint.server_name if endpoint.tls else None,
        additional_headers=list(headers),
        proxy=None,
        ping_interval=None,
        max_size=None,
    )
    try:
        connection = await opening
    except InvalidHandshake as error:
        raise ConnectionFailed(Failure.PROTOCOL, str(error)) from error
    except OSError as error:
        raise ConnectionFailed(Failure.REFUSED, str(error)) from error
    try:
        yield connection
    finally:
        connection.transport.abort()
        await connection.wait_closed()


def websocket_pod(connection: ClientConnection) -> str | None:
    """Which backend is at the other end; `None`: none of ours."""
    return connection.response.headers.get(POD_HEADER) if connection.response is not None else None


class LineConnection:
    """A TCP or TLS connection that talks in lines. An async context manager."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, endpoint: Endpoint) -> Self:
        """Connect; raises ConnectionFailed."""
        return cls(*await open_streams(endpoint))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.transport.abort()
        await asyncio.sleep(0)

    async def read_line(self) -> str | None:
        """The next line without its end; `None`: the peer closed or reset."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        return line.decode().rstrip("\r\n") if line.endswith(b"\n") else None

    async def ask(self, line: str) -> str | None:
        """Send one line and read one; `None`: the peer closed or reset."""
        self._writer.write(line.encode() + b"\n")
        return await self.read_line()


async def ask_udp(payload: bytes, *, port: int, host: str = "127.0.0.1") -> bytes:
    """Send one datagram and wait for the answer; the caller sets the timeout.

    Raises:
        ConnectionFailed: the port is closed (ICMP).
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Asking(answer), remote_addr=(host, port))
    try:
        transport.sendto(payload)
        return await answer
    except OSError as error:
        raise ConnectionFailed(Failure.REFUSED, str(error)) from error
    finally:
        transport.close()
        await asyncio.sleep(0)


class _Asking(asyncio.DatagramProtocol):
    def __init__(self, answer: asyncio.Future[bytes]) -> None:
        self._answer = answer

    def datagram_received(self, data: bytes, address: tuple[str | int, ...]) -> None:
        if not self._answer.done():
            self._answer.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)
