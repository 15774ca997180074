"""A raw HTTP/1.1 client: sees resets, truncated bodies and informational answers, and adds nothing of its own."""

import asyncio
import ssl
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import msgspec

from tests.kit.answer import Answer, Failure
from tests.kit.connect import Endpoint, open_streams

_WITHOUT_BODY = frozenset({204, 304})  # RFC 9112 §6.3
MAX_HEAD_BYTES = 4 * 1024 * 1024


class Http1Connection:
    """One connection; requests one after the other. An async context manager."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.usable = True
        """Whether another request may be sent: no failure so far and nobody said `connection: close`."""
        self.served = 0
        """Answers received completely."""

    @classmethod
    async def open(cls, endpoint: Endpoint) -> Self:
        """Connect.

        Raises:
            ConnectionFailed: refused, or the TLS handshake failed.
        """
        return cls(*await open_streams(endpoint))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; does not wait for the peer."""
        self.usable = False
        self._writer.transport.abort()
        await asyncio.sleep(0)

    @property
    def closed_by_peer(self) -> bool:
        """Whether the peer has closed it while it was idle; a client then takes a new one."""
        return self._reader.at_eof() or self._reader.exception() is not None

    def tls(self) -> ssl.SSLObject | None:
        """The TLS side of the connection: `version()`, `getpeercert()`; `None` without TLS."""
        connection: object = self._writer.get_extra_info("ssl_object")
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
        """Send one request and read its answer; failures are in the answer.

        Args:
            target: request target, sent as it stands.
            host: value of the Host header, unless `headers` has one; empty: none is sent.
            method: any token.
            headers: sent in this order, as they stand.
            body: sent with a content-length when not empty, unless `headers` say otherwise.
        """
        self._writer.write(encode_request(target, host=host, method=method, headers=headers, body=body))
        return await self.receive(method)

    def write(self, data: bytes) -> None:
        """Send raw bytes; for requests that no client would make."""
        self._writer.write(data)

    async def receive(self, method: str = "GET") -> Answer:
        """Read one answer to a request of that method."""
        answer = Answer()
        try:
            answer = await self._receive_head()
            if answer.status == 101:
                return answer
            return await self._receive_body(answer, method)
        except asyncio.IncompleteReadError as error:
            failure = Failure.TRUNCATED if answer.status or error.partial else Failure.CLOSED
        except (asyncio.LimitOverrunError, ValueError):
            failure = Failure.PROTOCOL
        except (ConnectionError, ssl.SSLError):
            failure = Failure.RESET
        self.usable = False
        return msgspec.structs.replace(answer, failure=failure)

    async def _receive_head(self) -> Answer:
        informational: list[int] = []
        while True:
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, *lines = head[:-4].decode("latin-1").split("\r\n")
            version, status, *_ = first.split(" ", 2)
            if not version.startswith("HTTP/1."):
                raise ValueError(first)
            headers = tuple(_parse_header(line) for line in lines)
            if int(status) < 200 and int(status) != 101:
                informational.append(int(status))
                continue
            return Answer(status=int(status), headers=headers, informational=tuple(informational))

    async def _receive_body(self, answer: Answer, method: str) -> Answer:
        connection = (answer.header("connection") or "").lower()
        if "close" in connection:
            self.usable = False
        length = answer.header("content-length")
        body, trailers, failure = b"", tuple[tuple[str, str], ...](), None
        if method == "HEAD" or answer.status in _WITHOUT_BODY:
            pass
        elif (answer.header("transfer-encoding") or "").lower() == "chunked":
            body, trailers, failure = await self._receive_chunks()
        elif length is not None:
            body, failure = await self._receive_exactly(int(length))
        else:
            body = await self._reader.read(-1)
            self.usable = False
        if failure is None:
            self.served += 1
        else:
            self.usable = False
        return msgspec.structs.replace(answer, body=body, trailers=trailers, failure=failure)

    async def _receive_exactly(self, length: int) -> tuple[bytes, Failure | None]:
        try:
            return await self._reader.readexactly(length), None
        except asyncio.IncompleteReadError as error:
            return error.partial, Failure.TRUNCATED

    async def _receive_chunks(self) -> tuple[bytes, tuple[tuple[str, str], ...], Failure | None]:
        body = bytearray()
        try:
            while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
                body += await self._reader.readexactly(size)
                await self._reader.readexactly(2)
            trailers: list[tuple[str, str]] = []
            while (line := await self._reader.readuntil(b"\r\n")) != b"\r\n":
                trailers.append(_parse_header(line[:-2].decode("latin-1")))
            return bytes(body), tuple(trailers), None
        except asyncio.IncompleteReadError:
            return bytes(body), (), Failure.TRUNCATED
        except ConnectionError:
            return bytes(body), (), Failure.RESET


def encode_request(
    target: str, *, host: str, method: str = "GET", headers: Iterable[tuple[str, str]] = (), body: bytes = b""
) -> bytes:
    """The bytes of a request; see `Http1Connection.request`."""
    given = list(headers)
    names = {name.lower() for name, _ in given}
    lines = [f"{method} {target} HTTP/1.1"]
    if host and "host" not in names:
        lines.append(f"host: {host}")
    lines += [f"{name}: {value}" for name, value in given]
    if body and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def _parse_header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise ValueError(line)
    return name, value.strip()
