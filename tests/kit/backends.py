"""Echo backends on loopback: several in one process, or in a process of their own.

    async with Backends() as backends:
        a = await backends.start("a")                      # HTTP/1.1
        b = await backends.start("b", Kind.H2C)
        gone = await backends.start("gone", Kind.REFUSED)
        ... a.port, a.seen ...

`backend_process` runs specifications of the same kind apart, so that backends and load do not share an event loop.
"""

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self, assert_never

import msgspec

from tests.kit.certificates import KeyPair, server_context
from tests.kit.echo import Echo, EchoRequest, Identity
from tests.kit.grpc_backend import serve_grpc
from tests.kit.http1_backend import serve_http1
from tests.kit.http2_backend import serve_http2
from tests.kit.stream_backends import hang, refuse, reset, serve_tcp, serve_udp

ROOT = Path(__file__).parent.parent.parent


class Kind(StrEnum):
    """What a backend speaks. With a key pair, HTTP1, HTTP2, GRPC and TCP speak it over TLS."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    """Without a key pair: h2c with prior knowledge."""
    GRPC = "grpc"
    TCP = "tcp"
    UDP = "udp"
    REFUSED = "refused"
    """Refuses connections."""
    RESET = "reset"
    """Accepts and resets at the first bytes."""
    HANG = "hang"
    """Accepts and never answers."""


class BackendSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One backend to start."""

    name: str
    """The pod that it says it is."""
    kind: Kind = Kind.HTTP1
    host: str = "127.0.0.1"
    port: int = 0
    """0: any free one."""
    namespace: str = ""
    service: str = ""
    tls: KeyPair | None = None
    client_authority: str | None = None
    """PEM; with TLS, client certificates of this authority are asked for and reported."""


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """A running backend."""

    name: str
    kind: Kind
    host: str
    port: int
    seen: deque[EchoRequest] = msgspec.field(default_factory=deque)
    """HTTP/1.1 and HTTP/2 in this process: the last 10,000 requests, oldest first. Otherwise empty."""


class Backends:
    """Runs backends in this event loop until the block ends."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._running: dict[str, AsyncExitStack] = {}

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def start(
        self,
        name: str,
        kind: Kind = Kind.HTTP1,
        *,
        port: int = 0,
        tls: KeyPair | None = None,
        client_authority: str | None = None,
    ) -> Backend:
        """Start one on 127.0.0.1; `start_spec` takes the rarer options."""
        return await self.start_spec(
            BackendSpec(name=name, kind=kind, port=port, tls=tls, client_authority=client_authority)
        )

    async def start_spec(self, spec: BackendSpec) -> Backend:
        """Start one; names are unique among those that run.

        Raises:
            ValueError: the name is taken.
            OSError: the port is taken.
        """
        if spec.name in self._running:
            raise ValueError(f"a backend {spec.name} runs already")
        own = AsyncExitStack()
        echo = Echo(Identity(pod=spec.name, namespace=spec.namespace, service=spec.service), http_port=str(spec.port))
        port = await own.enter_async_context(_serve(spec, echo))
        await self._stack.enter_async_context(own)
        self._running[spec.name] = own
        return Backend(name=spec.name, kind=spec.kind, host=spec.host, port=port, seen=echo.seen)

    async def stop(self, name: str) -> None:
        """Stop one now, as a process that dies: its port closes, its connections too."""
        await self._running.pop(name).aclose()


def _serve(spec: BackendSpec, echo: Echo) -> AbstractAsyncContextManager[int]:
    tls_context = (
        None
        if spec.tls is None
        else server_context(
            spec.tls,
            alpn={Kind.HTTP1: ("http/1.1",), Kind.HTTP2: ("h2",)}.get(spec.kind, ()),
            client_authority=spec.client_authority,
        )
    )
    match spec.kind:
        case Kind.HTTP1:
            return serve_http1(echo, port=spec.port, host=spec.host, tls=tls_context)
        case Kind.HTTP2:
            return serve_http2(echo, port=spec.port, host=spec.host, tls=tls_context)
        case Kind.GRPC:
            return serve_grpc(echo.identity, port=spec.port, host=spec.host, tls=spec.tls)
        case Kind.TCP:
            return serve_tcp(echo.identity, port=spec.port, host=spec.host, tls=tls_context)
        case Kind.UDP:
            return serve_udp(echo.identity, port=spec.port, host=spec.host)
        case Kind.REFUSED:
            return refuse(port=spec.port, host=spec.host)
        case Kind.RESET:
            return reset(port=spec.port, host=spec.host)
        case Kind.HANG:
            return hang(port=spec.port, host=spec.host)
        case _:
            assert_never(spec.kind)


@asynccontextmanager
async def backend_process(*specs: BackendSpec) -> AsyncIterator[dict[str, Backend]]:
    """Run backends in a process of their own until the block ends; yields them by name.

    The process ends by itself when its standard input closes, so it cannot outlive a test that was killed.

    Raises:
        RuntimeError: it did not start; its messages are on our standard error.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.kit.backends"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(specs) + b"\n")
        line = await process.stdout.readline()
        if not line:
            raise RuntimeError("the backends' process ended before it was ready")
        ports = msgspec.json.decode(line, type=dict[str, int])
        yield {
            spec.name: Backend(name=spec.name, kind=spec.kind, host=spec.host, port=ports[spec.name]) for spec in specs
        }
    finally:
        process.stdin.close()
        await process.wait()


async def _run() -> None:
    """The process's side: specifications on standard input, ports on standard output, then until the input ends."""
    loop = asyncio.get_running_loop()
    specs = msgspec.json.decode(await loop.run_in_executor(None, sys.stdin.buffer.readline), type=list[BackendSpec])
    async with Backends() as backends:
        ports = {spec.name: (await backends.start_spec(spec)).port for spec in specs}
        sys.stdout.write(msgspec.json.encode(ports).decode() + "\n")
        sys.stdout.flush()
        await loop.run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(_run())
