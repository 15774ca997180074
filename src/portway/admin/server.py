"""The admin address: health, metrics, and what the commands ask a running Portway.

Meant for loopback or a network that only operators reach: nothing here changes anything, and nothing shows a key. Web
pages that their browsers show are kept out by `guard.py`.
"""

import socket
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Protocol, final

import msgspec
from aiohttp import web

from portway.admin.guard import Arrival, refusal

MAX_BODY_BYTES = 1 << 20
JSON = "application/json"
STOP = timedelta(seconds=1)
"""How long requests under way may still take: a client that sends slowly shall not keep Portway from ending."""


class BadQuestion(ValueError):
    """What was asked cannot be answered; the message says why. Becomes status 400."""


class NotNow(Exception):
    """What was asked will have an answer later; the message says why not yet. Becomes status 503."""


class Answers(Protocol):
    """What the admin server needs to know; the composition root answers it."""

    def not_ready_because(self) -> str:
        """Empty when requests are served as declared."""
        ...

    async def status(self, gateway: str, ingress_class: str) -> bytes:
        """JSON of the whole picture, or of the proxies of one Gateway (`namespace/name`) or IngressClass, and what
        they serve. Raises BadQuestion."""
        ...

    async def explain(self, body: bytes) -> bytes:
        """JSON of an explanation of the request in `body`. Raises BadQuestion, NotNow."""
        ...

    async def metrics(self) -> bytes:
        """Prometheus text."""
        ...


@final
class AdminServer:
    """Serves one address from `start` to `stop`."""

    def __init__(self, answers: Answers, host: str, *, among_pods: bool = False) -> None:
        """
        Args:
            host: name or address that it listens on, without brackets; requests may name it.
            among_pods: whether proxies in a cluster may reach it.
        """
        self._answers = answers
        self._host = host
        self._among_pods = among_pods
        application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._guard])
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/api/v1/status", self._status),
                web.post("/api/v1/explain", self._explain),
            ]
        )
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=STOP.total_seconds()
        )

    async def start(self, sockets: Iterable[socket.socket]) -> None:
        """Answer on sockets that listen (`sockets.listen`)."""
        await self._runner.setup()
        for one in sockets:
            await web.SockSite(self._runner, one).start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        local = request.transport.get_extra_info("sockname") if request.transport is not None else None
        arrival = Arrival(request.method, request.path, request.headers, str(local[0]) if local else "")
        refused = refusal(arrival, self._host, among_pods=self._among_pods)
        return await handler(request) if refused is None else _error(refused.reason, refused.status)

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        reason = self._answers.not_ready_because()
        return web.Response(text=f"{reason}\n" if reason else "ok\n", status=503 if reason else 200)

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = await self._answers.metrics()
        return web.Response(body=body, headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _status(self, request: web.Request) -> web.Response:
        return await self._json(self._answers.status(request.query.get("gateway", ""), request.query.get("class", "")))

    async def _explain(self, request: web.Request) -> web.Response:
        return await self._json(self._answers.explain(await request.read()))

    async def _json(self, answer: Awaitable[bytes]) -> web.Response:
        try:
            return web.Response(body=await answer, content_type=JSON)
        except BadQuestion as error:
            return _error(str(error), 400)
        except NotNow as error:
            return _error(str(error), 503)


def _error(reason: str, status: int) -> web.Response:
    return web.Response(body=msgspec.json.encode({"error": reason}), content_type=JSON, status=status)
