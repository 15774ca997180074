"""HTTP/1.1 shell of the echo backend, over plain TCP or TLS, with WebSocket on `/ws`."""

import asyncio
import socket
import ssl
import struct
from asyncio.trsock import TransportSocket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import WSMsgType, web
from multidict import CIMultiDict

from tests.kit.certificates import record_server_names, server_name
from tests.kit.echo import POD_HEADER, Echo, EchoAnswer, EchoRequest, TlsFacts

# Larger than any limit that a proxy in front might have: the backend never is what refuses.
_MAX_HEADER_BYTES = 1024 * 1024


@asynccontextmanager
async def serve_http1(
    echo: Echo, *, port: int = 0, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port. Open connections are closed at the end.

    Raises:
        OSError: the port is taken.
    """
    if tls is not None:
        record_server_names(tls)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await _respond(echo, request)

    server = web.Server(
        handle,
        max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
        max_headers=10_000,
        auto_decompress=False,
    )
    listening = await asyncio.get_running_loop().create_server(server, host, port, ssl=tls, backlog=1024)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await server.shutdown(0.1)


async def _respond(echo: Echo, request: web.BaseRequest) -> web.StreamResponse:
    if request.path == "/ws" and request.headers.get("upgrade", "").lower() == "websocket":
        return await _respond_websocket(echo, request)
    if request.headers.get("expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    answer = echo.answer(_received(request, await request.content.read()))
    if answer.delay:
        await asyncio.sleep(answer.delay.total_seconds())
    if answer.reset:
        _reset(request)
        return web.Response()
    if answer.truncate:
        return await _truncate(request, answer)
    if len(answer.chunks) > 1:
        return await _stream(request, answer)
    return web.Response(status=answer.status, headers=CIMultiDict(answer.headers), body=b"".join(answer.chunks))


async def _stream(request: web.BaseRequest, answer: EchoAnswer) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=CIMultiDict(answer.headers))
    if request.version.minor == 1:
        response.enable_chunked_encoding()
    await response.prepare(request)
    for chunk in answer.chunks:
        await asyncio.sleep(answer.interval.total_seconds())
        await response.write(chunk)
    await response.write_eof()
    return response


async def _truncate(request: web.BaseRequest, answer: EchoAnswer) -> web.StreamResponse:
    body = b"".join(answer.chunks)
    response = web.StreamResponse(status=answer.status, headers=CIMultiDict(answer.headers))
    response.content_length = 2 * len(body)
    await response.prepare(request)
    await response.write(body)
    # The peer has read them before the reset arrives, or the kernel would drop them with it.
    await asyncio.sleep(0.05)
    _reset(request)
    return response


async def _respond_websocket(echo: Echo, request: web.BaseRequest) -> web.WebSocketResponse:
    echo.seen.append(_received(request, b""))
    socket_ = web.WebSocketResponse(max_msg_size=0)
    socket_.headers[POD_HEADER] = echo.identity.pod
    await socket_.prepare(request)
    async for message in socket_:
        if message.type == WSMsgType.TEXT:
            await socket_.send_str(message.data)
        elif message.type == WSMsgType.BINARY:
            await socket_.send_bytes(message.data)
    return socket_


def _received(request: web.BaseRequest, body: bytes) -> EchoRequest:
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers)
    return EchoRequest(
        method=request.method,
        target=request.raw_path,
        protocol=f"HTTP/{request.version.major}.{request.version.minor}",
        authority=request.headers.get("host", ""),
        headers=tuple((name, value) for name, value in headers if name.lower() != "host"),
        body=body,
        tls=tls_facts(request.transport),
    )


def tls_facts(transport: asyncio.BaseTransport | None) -> TlsFacts | None:
    """What is known of the TLS connection below; `None` without TLS."""
    connection: object = transport.get_extra_info("ssl_object") if transport is not None else None
    if not isinstance(connection, ssl.SSLObject):
        return None
    peer, cipher = connection.getpeercert(binary_form=True), connection.cipher()
    return TlsFacts(
        version=connection.version() or "",
        server_name=server_name(connection),
        negotiated_protocol=connection.selected_alpn_protocol() or "",
        cipher_suite=cipher[0] if cipher is not None else "",
        peer_certificates=(ssl.DER_cert_to_PEM_cert(peer),) if peer else (),
    )


def reset_on_close(transport: asyncio.BaseTransport) -> None:
    """Make the kernel send RST, not FIN, when this connection closes."""
    connection: object = transport.get_extra_info("socket")
    assert isinstance(connection, TransportSocket)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _reset(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is not None:
        reset_on_close(transport)
        transport.abort()
