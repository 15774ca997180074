"""Probes and lifecycle hooks: HTTP requests, TCP connections and programs in the container."""

import asyncio
import contextlib
import os
import ssl
from typing import final

import aiohttp

from tests.cluster.containers import Running
from tests.cluster.objects import Container, Exec, Handler, HttpGet, TcpSocket


@final
class Prober:
    """Runs probes and hooks for all pods; an async context manager holds its connections."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Prober":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # as the kubelet does
        connector = aiohttp.TCPConnector(ssl=context, force_close=True, limit=0)
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def ask(self, handler: Handler, container: Container, running: Running, address: str) -> str:
        """Do what a handler says once. Empty: success, else what went wrong. The caller sets the time limit."""
        try:
            if handler.http_get is not None:
                return await self._http(handler.http_get, container, address)
            if handler.tcp_socket is not None:
                return await _connect(handler.tcp_socket, container, address)
            if handler.exec is not None:
                return await _execute(handler.exec, running)
            if handler.sleep is not None:
                await asyncio.sleep(handler.sleep.seconds)
        except (aiohttp.ClientError, OSError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    async def _http(self, request: HttpGet, container: Container, address: str) -> str:
        assert self._session is not None
        url = f"{request.scheme.lower()}://{request.host or address}:{port_of(request.port, container)}{request.path}"
        headers = {"User-Agent": "kube-probe/1.37"} | {one.name: one.value for one in request.http_headers}
        async with self._session.get(url, headers=headers, allow_redirects=False) as answer:
            return "" if 200 <= answer.status < 400 else f"GET {url}: {answer.status}"


def port_of(port: int | str, container: Container) -> int:
    """A port by number or by name.

    Raises:
        OSError: the container has no port of that name.
    """
    if isinstance(port, int):
        return port
    for one in container.ports:
        if one.name == port:
            return one.container_port
    if port.isdigit():
        return int(port)
    raise OSError(f"container {container.name} has no port named {port!r}")


async def _connect(target: TcpSocket, container: Container, address: str) -> str:
    _, writer = await asyncio.open_connection(target.host or address, port_of(target.port, container))
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return ""


async def _execute(action: Exec, running: Running) -> str:
    output = os.open(os.devnull, os.O_WRONLY)
    try:
        process = running.execute(action.command, output)
    finally:
        os.close(output)
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        await process.kill()
        raise
    return f"{' '.join(action.command)} ended with {code}" if code else ""
