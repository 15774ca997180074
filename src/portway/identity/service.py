"""The issuer's door: one path, HTTPS, TLS 1.3. `POST /v1/certificate`, token as bearer, JSON both ways.

It is open to every pod of the cluster, so little is done for who has shown no good token: what is read is small and
waited for briefly, a connection is for one request and ends soon, and each address has only so many (`visitors.py`).
"""

import asyncio
import math
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import final

import msgspec
import structlog
from aiohttp import web

from portway.identity.credit import Credits
from portway.identity.issuer import Issuer, Refused
from portway.identity.listening import listen
from portway.identity.messages import PATH, CertificateRequest, IssuedCertificate, Problem
from portway.identity.visitors import VisitorLimits, Visits

MAX_REQUEST_BYTES = 64 * 1024
NO_ROOM_WAIT_S = 1.0
"""After the machine had no file descriptor for a connection."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@final
class IssuingService:
    """Serves an issuer. `start`, then `stop`.

    Args:
        context: shows the control plane's certificate.
        monotonic: seconds, never going back.
    """

    def __init__(
        self,
        issuer: Issuer,
        context: ssl.SSLContext,
        *,
        limits: VisitorLimits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._context = context
        self._limits = limits or VisitorLimits()
        self._monotonic = monotonic
        self._credits: Credits[str] = Credits(
            burst=self._limits.credit, interval_s=self._limits.credit_s, remembered=self._limits.addresses
        )
        self._visits: Visits[asyncio.Task[None]] = Visits(self._limits)
        self._tasks: set[asyncio.Task[None]] = set()
        self._one_left = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError: it cannot."""
        listening = listen(host, port)
        listening.setblocking(False)
        application = web.Application(client_max_size=MAX_REQUEST_BYTES)
        application.router.add_post(PATH, self._answer)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        bound: int = listening.getsockname()[1]
        self._begin(self._accept(listening))
        await asyncio.sleep(0)  # so that it has begun, and will close what it has if it is cancelled
        log.info("identity service listens", address=f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}")
        return bound

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # Connections.

    async def _accept(self, listening: socket.socket) -> None:
        # Not a server of asyncio's: that tells nobody of a connection before its TLS handshake is over.
        with listening:
            while True:
                try:
                    connection, peer = await asyncio.get_running_loop().sock_accept(listening)
                except OSError as error:
                    log.warning("connection cannot be accepted", problem=error.strerror)
                    await asyncio.sleep(NO_ROOM_WAIT_S)
                    continue
                address = str(peer[0])
                if self._visits.has_enough(address):
                    connection.close()
                    continue
                try:
                    await self._make_room()
                except asyncio.CancelledError:
                    connection.close()
                    raise
                self._visits.begin(self._begin(self._host(connection)), address)
                await asyncio.sleep(0)  # as above

    async def _make_room(self) -> None:
        while self._visits.is_full:
            self._one_left.clear()
            if (visit := self._visits.to_go()) is not None:
                visit.cancel()
            await self._one_left.wait()

    async def _host(self, connection: socket.socket) -> None:
        """One connection, to its end."""
        assert self._runner is not None and self._runner.server is not None  # noqa: S101, PT018 - since `start`
        visit = _Visit(self._runner.server())
        loop, lifetime = asyncio.get_running_loop(), self._limits.lifetime_s
        try:
            async with asyncio.timeout(lifetime):
                await loop.connect_accepted_socket(
                    lambda: visit, connection, ssl=self._context, ssl_handshake_timeout=lifetime
                )
                await visit.over.wait()
        except (OSError, TimeoutError) as error:  # of those who come: scanners, the impatient, those with other CAs
            log.debug("connection ended early", problem=str(error))
        finally:
            visit.abort()

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        # No TaskGroup: it would have to be entered and left by one task, and whoever calls `stop` is another.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._visits.end(task)
        self._one_left.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("identity service failed", exc_info=error)

    # Requests.

    async def _answer(self, request: web.Request) -> web.Response:
        address = request.remote or ""
        if wait := self._credits.take(address, self._monotonic()):
            return _refusal(Refused(429, "too many requests from this address were refused", math.ceil(wait)))
        try:
            response = await self._decide(request)
        except Refused as error:
            if error.status != 401:
                self._credits.give_back(address)
            return _refusal(error)
        self._credits.give_back(address)
        return response

    async def _decide(self, request: web.Request) -> web.Response:
        """Raises Refused."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            raise Refused(401, "show a ServiceAccount token: Authorization: Bearer ...")
        try:
            async with asyncio.timeout(self._limits.reading_s):
                body = await request.read()
            wanted = msgspec.json.decode(body, type=CertificateRequest)
        except TimeoutError as error:
            raise Refused(408, "the request does not come") from error
        except ConnectionError as error:
            raise Refused(400, "the request was broken off") from error
        except msgspec.DecodeError as error:
            raise Refused(400, f"the request cannot be read: {error}") from error
        return _json(200, await self._issuer.issue(token.strip(), wanted))


@final
class _Visit(asyncio.Protocol):
    """What aiohttp makes of a connection, and when it is over."""

    def __init__(self, handler: asyncio.Protocol) -> None:
        self._handler = handler
        self._transport: asyncio.BaseTransport | None = None
        self.over = asyncio.Event()

    def abort(self) -> None:
        if isinstance(self._transport, asyncio.Transport):
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._handler.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._handler.connection_lost(exc)
        self.over.set()

    def data_received(self, data: bytes) -> None:
        self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()


def _refusal(error: Refused) -> web.Response:
    response = _json(error.status, Problem(problem=error.problem))
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _json(status: int, content: Problem | IssuedCertificate) -> web.Response:
    response = web.Response(status=status, body=msgspec.json.encode(content), content_type="application/json")
    response.force_close()
    return response
