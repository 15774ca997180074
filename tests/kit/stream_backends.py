"""Backends below HTTP: TCP and TLS lines, UDP datagrams, and ports that misbehave."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

from tests.kit.certificates import record_server_names
from tests.kit.echo import Identity, TlsFacts
from tests.kit.http1_backend import reset_on_close, tls_facts

WELCOME = "Gateway API Test TCP Server\n"


@asynccontextmanager
async def serve_tcp(
    identity: Identity, *, port: int = 0, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Lines over TCP: a welcome, then `TEST` -> JSON, `IS_TLS` -> true or false, `PING` -> PONG; others are ignored."""
    if tls is not None:
        record_server_names(tls)
    async with _listen(lambda open_: _Lines(identity, open_), host, port, tls) as bound:
        yield bound


@asynccontextmanager
async def serve_udp(identity: Identity, *, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Each datagram is answered by one of JSON: `request`, `namespace`, `ingress`, `service`, `pod`."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(identity), local_addr=(host, port))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def refuse(*, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A port that is bound but not listened on: connections are refused, and nobody else gets it meanwhile."""
    with socket.socket() as bound:
        bound.bind((host, port))
        yield bound.getsockname()[1]


@asynccontextmanager
async def reset(*, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Accepts, waits for the first bytes, then sends RST."""
    async with _listen(_Resetting, host, port, None) as bound:
        yield bound


@asynccontextmanager
async def hang(*, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Accepts, reads, and never answers."""
    async with _listen(_Connection, host, port, None) as bound:
        yield bound


@asynccontextmanager
async def _listen(
    make: Callable[[set["_Connection"]], "_Connection"], host: str, port: int, tls: ssl.SSLContext | None
) -> AsyncIterator[int]:
    open_ = set[_Connection]()
    server = await asyncio.get_running_loop().create_server(lambda: make(open_), host, port, ssl=tls, backlog=1024)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in tuple(open_):
            connection.abort()
        await asyncio.sleep(0)


class _Connection(asyncio.Protocol):
    """Reads and says nothing; the others build on it."""

    def __init__(self, open_: set["_Connection"]) -> None:
        self._open = open_
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._open.discard(self)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class _Resetting(_Connection):
    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        reset_on_close(self.transport)
        self.transport.abort()


class _Lines(_Connection):
    def __init__(self, identity: Identity, open_: set[_Connection]) -> None:
        super().__init__(open_)
        self._identity = identity
        self._buffer = b""
        self._tls: TlsFacts | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._tls = tls_facts(transport)
        self._write(WELCOME)

    def data_received(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            match line.strip():
                case b"TEST":
                    self._write(json.dumps(self._described()) + "\n")
                case b"IS_TLS":
                    self._write("true\n" if self._tls is not None else "false\n")
                case b"PING":
                    self._write("PONG\n")

    def _described(self) -> dict[str, object]:
        assert self.transport is not None
        port = str(self.transport.get_extra_info("sockname")[1])
        described: dict[str, object] = {
            **_identity(self._identity),
            "tcpport": "" if self._tls else port,
            "tlsport": port if self._tls else "",
            "isTLS": self._tls is not None,
        }
        if self._tls is not None:
            described["tls"] = {
                "version": self._tls.version,
                "serverName": self._tls.server_name,
                "negotiatedProtocol": self._tls.negotiated_protocol,
                "cipherSuite": self._tls.cipher_suite,
            }
        return described

    def _write(self, text: str) -> None:
        assert self.transport is not None
        self.transport.write(text.encode())


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Python 3.11's datagram transport does not derive from DatagramTransport.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str | int, ...]) -> None:
        assert self._transport is not None
        answer = {"request": data.decode(errors="replace"), **_identity(self._identity)}
        self._transport.sendto(json.dumps(answer).encode(), address)


def _identity(identity: Identity) -> dict[str, str]:
    return {
        "namespace": identity.namespace,
        "ingress": identity.ingress,
        "service": identity.service,
        "pod": identity.pod,
    }
