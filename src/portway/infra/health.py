"""What a proxy's pod answers on its own address: `/healthz`, `/readyz` and `/metrics`, plain HTTP/1.1.

For the kubelet's probes, for load balancers in front, and for Prometheus; Envoy's admin interface, which can do much
more, stays behind its Unix socket. Written on asyncio's streams: a server from a library costs each proxy 8 MB and a
quarter of a second. One request for each connection, of which there are few.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import final

import structlog

from portway.identity.listening import listen

MAX_HEAD_BYTES = 16 * 1024
PATIENCE_S = 10.0
MAX_CONNECTIONS = 64
TEXT = "text/plain; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Unavailable(Exception):
    """The metrics cannot be had now. The message says why."""


@final
class HealthServer:
    """Serves one address from `start` to `stop`.

    Args:
        not_ready_because: empty if requests should be sent here.
        metrics: the page; raises Unavailable.
    """

    def __init__(self, not_ready_because: Callable[[], str], metrics: Callable[[], Awaitable[str]]) -> None:
        self._not_ready_because = not_ready_because
        self._metrics = metrics
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self, host: str, port: int) -> int:
        """Listen, on `::` for both IP families; returns the port. Raises OSError: it cannot."""
        self._server = await asyncio.start_server(self._serve, sock=listen(host, port), limit=MAX_HEAD_BYTES)
        bound: int = self._server.sockets[0].getsockname()[1]
        log.info("health server listens", address=f"{host}:{bound}")
        return bound

    async def stop(self) -> None:
        """Close the port. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= MAX_CONNECTIONS:
                async with asyncio.timeout(PATIENCE_S):
                    writer.write(await self._answer(await reader.readuntil(b"\r\n\r\n")))
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):  # TimeoutError is an OSError
            log.debug("health request was not completed")
        finally:
            self._connections -= 1
            writer.close()

    async def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _response(405, "GET or HEAD", TEXT, method)
        match path:
            case "/healthz":
                return _response(200, "ok", TEXT, method)
            case "/readyz":
                problem = self._not_ready_because()
                return _response(503 if problem else 200, problem or "ok", TEXT, method)
            case "/metrics":
                try:
                    return _response(200, await self._metrics(), PROMETHEUS, method)
                except Unavailable as error:
                    return _response(503, str(error), TEXT, method)
        return _response(404, "here are /healthz, /readyz and /metrics", TEXT, method)


def _response(status: int, text: str, content_type: str, method: str) -> bytes:
    body = text.encode() if text.endswith("\n") else f"{text}\n".encode()
    head = (
        f"HTTP/1.1 {status} {REASONS[status]}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
        "cache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == "HEAD" else body)
