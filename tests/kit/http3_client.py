"""An HTTP/3 client: any number of requests at once on one QUIC connection to the loopback.

aioquic does QUIC, TLS and the frames; here are connections as tests use them, and answers as other clients give them.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import msgspec
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset

from tests.kit.answer import Answer, ConnectionFailed, Failure

HANDSHAKE_S = 3.0
"""Longest wait for a connection: where nobody listens a client of UDP hears nothing."""


class Http3Connection(QuicConnectionProtocol):
    """One connection, see `http3_connection`."""

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]  # handed on
        self._http = H3Connection(self._quic)
        self._answers: dict[int, Answer] = {}
        self._done: dict[int, asyncio.Future[Answer]] = {}

    async def request(
        self,
        target: str,
        *,
        host: str,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Answer:
        """Send one request and wait for its answer; failures are in the answer. Arguments as of `Http2Connection`."""
        stream = self._quic.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":authority", host), (":path", target), *headers]
        self._answers[stream] = Answer()
        self._done[stream] = asyncio.get_running_loop().create_future()
        fields = [(name.lower().encode(), value.encode()) for name, value in head]
        self._http.send_headers(stream, fields, end_stream=not body)
        if body:
            self._http.send_data(stream, body, end_stream=True)
        self.transmit()
        return await self._done[stream]

    def quic_event_received(self, event: QuicEvent) -> None:
        """For aioquic."""
        if isinstance(event, StreamReset):
            self._finish(event.stream_id, Failure.RESET)
        elif isinstance(event, ConnectionTerminated):
            for stream in tuple(self._done):
                self._finish(stream, Failure.CLOSED)
        for part in self._http.handle_event(event):
            self._take(part)

    def _take(self, part: H3Event) -> None:
        if not isinstance(part, HeadersReceived | DataReceived) or part.stream_id not in self._answers:
            return
        answer = self._answers[part.stream_id]
        if isinstance(part, DataReceived):
            answer = msgspec.structs.replace(answer, body=answer.body + part.data)
        else:
            fields = tuple((name.decode(), value.decode("latin-1")) for name, value in part.headers)
            status = next((int(value) for name, value in fields if name == ":status"), None)
            plain = tuple(field for field in fields if not field[0].startswith(":"))
            if status is None:
                answer = msgspec.structs.replace(answer, trailers=plain)
            elif status < 200:
                answer = msgspec.structs.replace(answer, informational=(*answer.informational, status))
            else:
                answer = msgspec.structs.replace(answer, status=status, headers=plain)
        self._answers[part.stream_id] = answer
        if part.stream_ended:
            self._finish(part.stream_id, None)

    def _finish(self, stream: int, failure: Failure | None) -> None:
        done = self._done.pop(stream, None)
        if done is not None and not done.done():
            done.set_result(msgspec.structs.replace(self._answers.pop(stream), failure=failure))


@asynccontextmanager
async def http3_connection(
    port: int, server_name: str, *, authority: str | None = None
) -> AsyncIterator[Http3Connection]:
    """Connect to a UDP port of 127.0.0.1.

    Args:
        port: of the server.
        server_name: SNI, and the name that the certificate must have.
        authority: PEM of the authority to trust; `None`: accept any certificate.

    Raises:
        ConnectionFailed: nobody answers, or the handshake failed.
    """
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=server_name)
    if authority is None:
        configuration.verify_mode = ssl.CERT_NONE
    else:
        configuration.load_verify_locations(cadata=authority.encode())
    # The handshake is waited for here and not within `connect`: its failure is told from those of the block.
    opening = connect(
        "127.0.0.1", port, configuration=configuration, create_protocol=Http3Connection, wait_connected=False
    )
    async with opening as connection:
        assert isinstance(connection, Http3Connection)
        connection.transmit()
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await connection.wait_connected()
        except TimeoutError as error:
            raise ConnectionFailed(Failure.TIMEOUT, f"no handshake with port {port}") from error
        except ConnectionError as error:
            raise ConnectionFailed(Failure.TLS, str(error)) from error
        yield connection
