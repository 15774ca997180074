"""HTTP/2 shell of the echo backend: h2c with prior knowledge, or TLS with ALPN. No tasks: timers and callbacks only."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from tests.kit.certificates import record_server_names
from tests.kit.echo import Echo, EchoAnswer, EchoRequest
from tests.kit.http1_backend import tls_facts


@asynccontextmanager
async def serve_http2(
    echo: Echo, *, port: int = 0, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port. A context for TLS must offer `h2` by ALPN.

    A client that does not begin with the HTTP/2 preface is answered 400 and closed.

    Raises:
        OSError: the port is taken.
    """
    if tls is not None:
        record_server_names(tls)
    connections = set[_Connection]()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: _Connection(echo, connections), host, port, ssl=tls, backlog=1024)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for connection in tuple(connections):
            connection.close()
        await asyncio.sleep(0)  # lets the loop run the transports' closing callbacks


class _Stream:
    """One request while it arrives, and what of its answer waits for flow control."""

    def __init__(self, headers: list[tuple[str, str]]) -> None:
        self.headers = headers
        self.body = bytearray()
        self.unsent = bytearray()
        self.complete = False


class _Connection(asyncio.Protocol):
    def __init__(self, echo: Echo, connections: set["_Connection"]) -> None:
        self._echo = echo
        self._connections = connections
        self._streams: dict[int, _Stream] = {}
        self._http2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="latin-1", validate_inbound_headers=False)
        )
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)
        self._http2.initiate_connection()
        self._http2.increment_flow_control_window(2**24)
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = None
        self._streams.clear()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            events = self._http2.receive_data(data)
        except h2.exceptions.ProtocolError:
            if self._transport is not None:
                self._transport.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                self._transport.close()
            return
        for event in events:
            self._handle(event)
        self._flush()

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self._streams[event.stream_id] = _Stream([(str(name), str(value)) for name, value in event.headers])
            case h2.events.DataReceived():
                self._http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if event.stream_id in self._streams:
                    self._streams[event.stream_id].body += event.data
            case h2.events.StreamEnded():
                self._receive(event.stream_id)
            case h2.events.StreamReset():
                self._streams.pop(event.stream_id, None)
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                for stream_id in tuple(self._streams):
                    self._send_unsent(stream_id)
            case _:
                pass  # settings acknowledged, pings, priorities: the library answers them

    def _receive(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        pseudo = dict(stream.headers)
        answer = self._echo.answer(
            EchoRequest(
                method=pseudo.get(":method", ""),
                target=pseudo.get(":path", ""),
                protocol="HTTP/2.0",
                authority=pseudo.get(":authority", pseudo.get("host", "")),
                headers=tuple((name, value) for name, value in stream.headers if name[0] != ":" and name != "host"),
                body=bytes(stream.body),
                tls=tls_facts(self._transport),
            )
        )
        if answer.delay:
            asyncio.get_running_loop().call_later(answer.delay.total_seconds(), self._answer, stream_id, answer)
        else:
            self._answer(stream_id, answer)

    def _answer(self, stream_id: int, answer: EchoAnswer) -> None:
        """Send the head, and the body or its first chunk."""
        if stream_id not in self._streams or self._transport is None:
            return
        if answer.reset:
            self._reset(stream_id)
            return
        headers = [(":status", str(answer.status)), *((name.lower(), value) for name, value in answer.headers)]
        if answer.truncate:
            headers.append(("content-length", str(2 * sum(map(len, answer.chunks)))))
        elif len(answer.chunks) <= 1:
            headers.append(("content-length", str(sum(map(len, answer.chunks)))))
        self._http2.send_headers(stream_id, headers)
        if answer.interval:
            self._flush()
            self._later(stream_id, answer, 0)
            return
        stream = self._streams[stream_id]
        stream.unsent += b"".join(answer.chunks)
        if answer.truncate:
            self._send_unsent(stream_id)
            self._reset(stream_id)
            return
        stream.complete = True
        self._send_unsent(stream_id)

    def _later(self, stream_id: int, answer: EchoAnswer, index: int) -> None:
        asyncio.get_running_loop().call_later(answer.interval.total_seconds(), self._chunk, stream_id, answer, index)

    def _chunk(self, stream_id: int, answer: EchoAnswer, index: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or self._transport is None:
            return
        stream.unsent += answer.chunks[index]
        stream.complete = index + 1 == len(answer.chunks)
        if not stream.complete:
            self._later(stream_id, answer, index + 1)
        self._send_unsent(stream_id)

    def _send_unsent(self, stream_id: int) -> None:
        stream = self._streams[stream_id]
        while stream.unsent:
            window = min(self._http2.local_flow_control_window(stream_id), self._http2.max_outbound_frame_size)
            if window <= 0:
                self._flush()
                return
            self._http2.send_data(stream_id, bytes(stream.unsent[:window]))
            del stream.unsent[:window]
        if stream.complete:
            self._http2.end_stream(stream_id)
            del self._streams[stream_id]
        self._flush()

    def _reset(self, stream_id: int) -> None:
        """Reset the stream only: its neighbours on the connection belong to other requests."""
        self._streams.pop(stream_id, None)
        self._http2.reset_stream(stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
        self._flush()

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(self._http2.data_to_send())
