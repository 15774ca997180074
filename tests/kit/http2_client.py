"""An HTTP/2 client: any number of requests at once on one connection, over TLS by ALPN or with prior knowledge.

GOAWAY is handled here and not by the h2 library, which refuses every further frame after one: Envoy drains with a first
GOAWAY that allows all streams, finishes those in flight, and only then closes.
"""

import asyncio
import ssl
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import msgspec

from tests.kit.answer import Answer, ConnectionFailed, Failure
from tests.kit.connect import Endpoint, connect

_FRAME_HEADER_BYTES = 9  # RFC 9113 §4.1: length (3), type (1), flags (1), stream (4)
_GOAWAY = 7
_WINDOW = 2**24  # bytes that the peer may send unasked, of the connection and of each stream


class Http2Connection:
    """One connection. An async context manager."""

    def __init__(self, transport: asyncio.Transport, protocol: "_Protocol") -> None:
        self._transport = transport
        self._protocol = protocol

    @classmethod
    async def open(cls, endpoint: Endpoint) -> Self:
        """Connect.

        Raises:
            ConnectionFailed: refused, the handshake failed, or over TLS the server did not choose `h2`.
        """
        transport, protocol = await connect(endpoint, _Protocol)
        secured: object = transport.get_extra_info("ssl_object")
        if isinstance(secured, ssl.SSLObject) and secured.selected_alpn_protocol() != "h2":
            transport.abort()
            raise ConnectionFailed(Failure.TLS, f"ALPN: {secured.selected_alpn_protocol()}, not h2")
        return cls(transport, protocol)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; answers under way fail as RESET."""
        self._transport.abort()
        await asyncio.sleep(0)

    @property
    def usable(self) -> bool:
        """Whether another request may be sent: open, and no GOAWAY came."""
        return self._protocol.usable

    @property
    def closed_by_peer(self) -> bool:
        """Whether the connection is gone."""
        return self._protocol.lost

    def tls(self) -> ssl.SSLObject | None:
        """The TLS side of the connection; `None` without TLS."""
        connection: object = self._transport.get_extra_info("ssl_object")
        return connection if isinstance(connection, ssl.SSLObject) else None

    async def request(
        self,
        target: str,
        *,
        host: str,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Answer:
        """Send one request and wait for its answer; failures are in the answer.

        Args:
            target: `:path`, sent as it stands.
            host: `:authority`; a `host` in `headers` replaces it.
            method: `:method`.
            headers: names are sent in lower case.
            body: sent in DATA frames as flow control allows.
        """
        given = [(name.lower(), value) for name, value in headers]
        authority = next((value for name, value in given if name == "host"), host)
        head = [
            (":method", method),
            (":scheme", "https" if self.tls() else "http"),
            (":authority", authority),
            (":path", target),
            *((name, value) for name, value in given if name != "host"),
        ]
        if not self.usable:
            return Answer(failure=Failure.UNPROCESSED)
        stream = self._protocol.send(head, body)
        try:
            return await stream.done
        except asyncio.CancelledError:
            self._protocol.cancel(stream)
            raise


class _Stream:
    def __init__(self, stream_id: int, body: bytes) -> None:
        self.id = stream_id
        self.unsent = bytearray(body)
        self.answer = Answer()
        self.received = bytearray()
        self.done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()


class _Protocol(asyncio.Protocol):
    def __init__(self) -> None:
        self.usable = True
        self.lost = False
        self._streams: dict[int, _Stream] = {}
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._http2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=True,
                header_encoding="latin-1",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._http2.initiate_connection()
        self._http2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW})
        self._http2.increment_flow_control_window(_WINDOW)
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self.usable, self.lost = False, True
        for stream in tuple(self._streams.values()):
            if error is not None:
                self._finish(stream, Failure.RESET)
            else:
                self._finish(stream, Failure.TRUNCATED if stream.answer.status else Failure.CLOSED)

    def send(self, head: list[tuple[str, str]], body: bytes) -> _Stream:
        stream = _Stream(self._http2.get_next_available_stream_id(), body)
        self._streams[stream.id] = stream
        self._http2.send_headers(stream.id, head, end_stream=not body)
        self._send_unsent(stream)
        self._flush()
        return stream

    def cancel(self, stream: _Stream) -> None:
        if self._streams.pop(stream.id, None) is not None and not self.lost:
            self._http2.reset_stream(stream.id)
            self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            # One by one: what an event asks to be sent must not find the stream closed by a later frame.
            for frame in self._without_goaway(data):
                for event in self._http2.receive_data(frame):
                    self._handle(event)
        except h2.exceptions.ProtocolError:
            for stream in tuple(self._streams.values()):
                self._finish(stream, Failure.PROTOCOL)
            if self._transport is not None:
                self._transport.abort()
            return
        self._flush()

    def _without_goaway(self, data: bytes) -> list[bytes]:
        """Whole frames but GOAWAY, which is acted on; the rest of a frame waits in the buffer."""
        self._buffer += data
        whole: list[bytes] = []
        while len(self._buffer) >= _FRAME_HEADER_BYTES:
            size = _FRAME_HEADER_BYTES + int.from_bytes(self._buffer[:3])
            if len(self._buffer) < size:
                break
            frame, self._buffer = self._buffer[:size], self._buffer[size:]
            if frame[3] == _GOAWAY:
                self._go_away(int.from_bytes(frame[9:13]) & 0x7FFFFFFF)
            else:
                whole.append(frame)
        return whole

    def _go_away(self, last_stream_id: int) -> None:
        self.usable = False
        for stream in tuple(self._streams.values()):
            if stream.id > last_stream_id:
                self._finish(stream, Failure.UNPROCESSED)

    def _handle(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.WindowUpdated | h2.events.RemoteSettingsChanged):
            for stream in tuple(self._streams.values()):
                self._send_unsent(stream)
            return
        if isinstance(event, h2.events.DataReceived):
            # Also for a stream that nobody waits for: its bytes count against the connection's window.
            self._http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        found: object = getattr(event, "stream_id", None)
        if not isinstance(found, int) or found not in self._streams:
            return
        stream = self._streams[found]
        match event:
            case h2.events.InformationalResponseReceived():
                stream.answer = msgspec.structs.replace(
                    stream.answer, informational=(*stream.answer.informational, int(_pairs(event.headers)[0][1]))
                )
            case h2.events.ResponseReceived():
                pairs = _pairs(event.headers)
                stream.answer = msgspec.structs.replace(
                    stream.answer,
                    status=int(dict(pairs)[":status"]),
                    headers=tuple(pair for pair in pairs if not pair[0].startswith(":")),
                )
            case h2.events.DataReceived():
                stream.received += event.data
            case h2.events.TrailersReceived():
                stream.answer = msgspec.structs.replace(stream.answer, trailers=_pairs(event.headers))
            case h2.events.StreamEnded():
                self._finish(stream, None)
            case h2.events.StreamReset():
                self._finish(stream, Failure.RESET)
            case _:
                pass

    def _finish(self, stream: _Stream, failure: Failure | None) -> None:
        self._streams.pop(stream.id, None)
        if not stream.done.done():
            stream.done.set_result(msgspec.structs.replace(stream.answer, body=bytes(stream.received), failure=failure))

    def _send_unsent(self, stream: _Stream) -> None:
        while stream.unsent:
            window = min(self._http2.local_flow_control_window(stream.id), self._http2.max_outbound_frame_size)
            if window <= 0:
                return
            last = len(stream.unsent) <= window
            self._http2.send_data(stream.id, bytes(stream.unsent[:window]), end_stream=last)
            del stream.unsent[:window]

    def _flush(self) -> None:
        if self._transport is not None and not self.lost:
            self._transport.write(self._http2.data_to_send())


def _pairs(headers: Iterable[tuple[str | bytes, str | bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((_text(name), _text(value)) for name, value in headers)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
