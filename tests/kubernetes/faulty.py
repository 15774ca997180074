"""A reverse proxy before an API server that does to answers what networks, proxies and servers do.

It speaks plain HTTP on the loopback and hands requests on as they are. Lines of watches go through `edit`, one by one.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Self, final

from aiohttp import web

from portway.kubernetes.client import Connection
from portway.kubernetes.transport import Answer, Transport
from tests.cluster.api import Access
from tests.kubernetes.planes import connection_of

SILENCE = 600.0
"""Seconds for which the server behind may say nothing: longer than any test."""
LONGEST = 1 << 28
Edit = Callable[[bytes], Iterable[bytes]]
Intercept = Callable[[web.Request], web.Response | None]


def _as_it_is(line: bytes) -> Iterable[bytes]:
    return (line,)


def _nothing(request: web.Request) -> web.Response | None:
    return None


@final
class FaultyServer:
    """An async context manager; faults are set while it runs."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.edit: Edit = _as_it_is
        """What becomes of a line of a watch, without its line break; none: it is left out."""
        self.intercept: Intercept = _nothing
        """An answer instead of the server's; None: its own."""
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        """Method, path and parameters of all requests so far."""
        self._open = asyncio.Event()
        self._open.set()
        self._watches: set[asyncio.Task[None]] = set()
        self._dead: set[asyncio.Task[None]] = set()

    @property
    def connection(self) -> Connection:
        """Through the proxy, which adds the credentials."""
        return Connection(server=self.access.server)

    @property
    def access(self) -> Access:
        """The same, for a kubeconfig."""
        return Access(server=f"http://127.0.0.1:{self._port}", authority=self._access.authority)

    def hang(self) -> None:
        """From now on nothing comes through; connections stay."""
        self._open.clear()

    def go_on(self) -> None:
        self._open.set()

    def cut(self) -> None:
        """End all watches in the middle."""
        for task in self._watches:
            task.cancel()

    def let_die(self) -> None:
        """The watches that are open say nothing more, for ever; their connections stay. New ones are as always."""
        self._dead |= self._watches

    @property
    def watches(self) -> int:
        """Open now."""
        return len(self._watches)

    def paths(self, **params: str) -> list[str]:
        """Paths of the requests so far that had these parameters."""
        return [path for _, path, given in self.requests if params.items() <= given.items()]

    async def __aenter__(self) -> Self:
        connection = connection_of(self._access)
        self._identity = await connection.credentials.identity()
        self._transport = Transport(connection, "faulty")
        application = web.Application(client_max_size=1 << 24)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port: int = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self.cut()
        await self._runner.cleanup()
        await self._transport.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, dict(request.query)))
        await self._open.wait()
        given = self.intercept(request)
        if given is not None:
            return given
        async with self._transport.request(
            self._identity,
            request.method,
            request.rel_url.raw_path,
            request.query,
            body=await request.read(),
            content_type=request.headers.get("Content-Type", ""),
            accept="application/json",
            silence=SILENCE,
            total=None,
        ) as answer:
            if "watch" not in request.query or answer.status != 200:
                body = await answer.body(LONGEST)
                await self._open.wait()
                return web.Response(status=answer.status, body=body, content_type="application/json")
            response = web.StreamResponse()
            await response.prepare(request)
            await self._as_watch(request, answer, response)
            return response

    async def _as_watch(self, request: web.Request, answer: Answer, response: web.StreamResponse) -> None:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self._forward(answer, response))
            self._watches.add(task)
            try:
                await asyncio.wait([task])
            finally:
                self._watches.discard(task)
                self._dead.discard(task)
                if task.cancelled() and request.transport is not None:
                    request.transport.abort()

    async def _forward(self, answer: Answer, response: web.StreamResponse) -> None:
        rest = b""
        async for part in answer.parts():
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                await self._open.wait()
                if asyncio.current_task() in self._dead:
                    continue
                try:
                    for edited in self.edit(line):
                        await response.write(edited + b"\n")
                except ConnectionError:
                    return  # who watched has gone
