"""A backend that behaves as one should: it names its pod in each answer, and leaves without losing a request.

Run in pods as `python backend.py`; only the standard library is imported, so it is up at once. At SIGTERM it goes on
answering with `connection: close` for a second, as whoever sends to it may not have heard yet. Then it takes no more
connections, and those that there are have two seconds for a last request: a proxy that hears nothing for longer finds
out that way.
"""

import asyncio
import os
import signal
from contextlib import suppress

PORT = 8080
LEAVING_S = 1.0
NOBODY_S = 0.3
LAST_S = 2.0


class Backend(asyncio.Protocol):
    """One connection; requests without a body, one after the other."""

    leaving = False
    connections = 0
    last: asyncio.Event | None = None
    """Set by the first connection that comes while it is there."""

    def __init__(self, pod: str) -> None:
        self._pod = pod
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        Backend.connections += 1
        if Backend.last is not None:
            Backend.last.set()

    def connection_lost(self, error: Exception | None) -> None:
        Backend.connections -= 1

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received and self._transport is not None:
            head, self._received = self._received.split(b"\r\n\r\n", 1)
            target = head.split(b" ", 2)[1]
            body = b"ok" if target == b"/ready" else target
            end = "connection: close\r\n" if Backend.leaving else ""
            answer = f"HTTP/1.1 200 OK\r\nx-echo-pod: {self._pod}\r\n{end}content-length: {len(body)}\r\n\r\n"
            self._transport.write(answer.encode() + body)
            if Backend.leaving:
                self._transport.close()


async def main() -> None:
    """Serve until SIGTERM, and a little longer."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(lambda: Backend(os.environ["POD"]), "0.0.0.0", PORT, backlog=1024)
    await stop.wait()
    Backend.leaving = True
    await asyncio.sleep(LEAVING_S)
    Backend.last = asyncio.Event()
    with suppress(TimeoutError):
        # At once after one came: the kernel resets those that came and were not accepted yet.
        async with asyncio.timeout(NOBODY_S):
            await Backend.last.wait()
    server.close()
    ends = loop.time() + LAST_S
    while Backend.connections and loop.time() < ends:  # noqa: ASYNC110 - two conditions
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main())
