"""Constant load that records every answer: what the zero-loss tests stand on.

    async with Load(f"http://shop.example:{port}/", rate=500) as load:
        ... change things ...
    report = load.report()
    assert not report.failures(), report.summary()

A request is due every 1/rate seconds whether or not earlier ones were answered, and its latency counts from when it was
due, so a proxy that stalls cannot hide it by slowing the load. Connections are kept alive and replaced as a real client
does: after `connection: close`, after GOAWAY (what it left out is sent again), and when the peer closed an idle one.
Everything else is a failure. `LoadProcess` does the same in a process of its own, for tests whose event loop is busy.
"""

import asyncio
import itertools
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Container
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from websockets.exceptions import ConnectionClosed

from tests.kit.answer import Answer, ConnectionFailed, Failure
from tests.kit.certificates import client_context
from tests.kit.client import parse_url
from tests.kit.http1_client import Http1Connection
from tests.kit.http2_client import Http2Connection
from tests.kit.stream_client import websocket, websocket_pod

ROOT = Path(__file__).parent.parent.parent

_REPEATS = 5  # of a request that GOAWAY left out; more means that the server never takes it


class LoadProtocol(StrEnum):
    """What the load speaks."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    WEBSOCKET = "websocket"
    """Each message on an open WebSocket is a request, its echo the answer; status 101."""


class LoadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to send, and how often."""

    url: str
    """Scheme `http` or `https` for every protocol; with WEBSOCKET the path should be `/ws`."""
    rate: float = 200.0
    """Requests per second, over all connections."""
    protocol: LoadProtocol = LoadProtocol.HTTP1
    connections: int = 8
    address: str = "127.0.0.1"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    authority: str | None = None
    """PEM to verify the server with; `None`: any certificate is accepted."""
    seconds: float = 15.0
    """Longest wait for one answer; afterwards it failed as TIMEOUT."""


class Sample(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request and its answer."""

    due: float
    """When it was to be sent; CLOCK_MONOTONIC, seconds, comparable between processes of one machine."""
    sent: float
    """When it was sent."""
    done: float
    """When its answer was complete, or its failure known."""
    status: int
    pod: str | None
    """Who answered; `None`: the proxy itself, or nobody."""
    failure: Failure | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was seen, in the order of completion."""

    samples: tuple[Sample, ...]
    connections: int
    """Opened in total: those of the start and the replacements."""

    def failures(self) -> Counter[Failure]:
        """How many requests got no complete answer, by kind."""
        return Counter(sample.failure for sample in self.samples if sample.failure is not None)

    def answers(self, *, since: float = 0.0, until: float = float("inf")) -> Counter[tuple[int, str | None]]:
        """Complete answers by status and who answered, of requests sent from `since` and answered by `until`."""
        return Counter(
            (sample.status, sample.pod)
            for sample in self.samples
            if sample.failure is None and sample.sent >= since and sample.done <= until
        )

    def wrong(
        self, pods: Container[str | None], *, status: int = 200, since: float = 0.0, until: float = float("inf")
    ) -> tuple[Sample, ...]:
        """Requests sent from `since` and answered by `until` that failed, or whose status or pod is another."""
        return tuple(
            sample
            for sample in self.samples
            if sample.sent >= since
            and sample.done <= until
            and (sample.failure is not None or sample.status != status or sample.pod not in pods)
        )

    def latency_ms(self, quantile: float) -> float:
        """A quantile (0 to 1) of the time from due to answered, over complete answers; NaN when there is none."""
        waits = sorted(sample.done - sample.due for sample in self.samples if sample.failure is None)
        return waits[min(len(waits) - 1, int(quantile * len(waits)))] * 1000 if waits else float("nan")

    def summary(self) -> str:
        """One line for an assertion's message."""
        return (
            f"{len(self.samples)} requests over {self.connections} connections, "
            f"answers {dict(self.answers())}, failures {dict(self.failures())}, "
            f"p50 {self.latency_ms(0.5):.1f} ms, p99 {self.latency_ms(0.99):.1f} ms"
        )


class Load:
    """Load from this event loop, for as long as the block runs; see the module. Waits for open requests at the end."""

    def __init__(
        self,
        url: str,
        *,
        rate: float = 200.0,
        protocol: LoadProtocol = LoadProtocol.HTTP1,
        connections: int = 8,
        address: str = "127.0.0.1",
        headers: tuple[tuple[str, str], ...] = (),
        authority: str | None = None,
    ) -> None:
        self._run = _Run(
            LoadSpec(
                url=url,
                rate=rate,
                protocol=protocol,
                connections=connections,
                address=address,
                headers=headers,
                authority=authority,
            )
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._run.running())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def report(self) -> Report:
        """What was seen so far."""
        return self._run.report()

    async def answered(self, count: int) -> None:
        """Wait until `count` more requests are complete; the caller sets the timeout."""
        await self._run.completed(len(self._run.samples) + count)


class LoadProcess:
    """Load from a process of its own, for as long as the block runs. The report exists after the block."""

    def __init__(self, spec: LoadSpec) -> None:
        self._spec = spec
        self._process: asyncio.subprocess.Process | None = None
        self._report: Report | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.kit.load"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**30,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(self._spec) + b"\n")
        if not await self._process.stdout.readline():
            raise RuntimeError("the load's process ended before its first request was complete")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        encoded = await self._process.stdout.read()
        await self._process.wait()
        if error is None:
            self._report = msgspec.msgpack.decode(encoded, type=Report)

    def report(self) -> Report:
        """What was seen.

        Raises:
            RuntimeError: the load still runs.
        """
        if self._report is None:
            raise RuntimeError("the load still runs; its report exists after the block")
        return self._report


class _Run:
    """The load itself: workers that take the next due request, each with a connection of its own."""

    def __init__(self, spec: LoadSpec) -> None:
        self.spec = spec
        self.samples: list[Sample] = []
        self._opened = 0
        self._stopped = False
        self._numbers = itertools.count()
        self._progress = asyncio.Event()
        alpn = "h2" if spec.protocol is LoadProtocol.HTTP2 else "http/1.1"
        tls = client_context(spec.authority, alpn=(alpn,)) if spec.url.startswith("https") else None
        self._endpoint, self._host, self._target = parse_url(spec.url, address=spec.address, tls=tls)

    def report(self) -> Report:
        return Report(samples=tuple(self.samples), connections=self._opened)

    async def completed(self, total: int) -> None:
        while len(self.samples) < total:
            self._progress.clear()
            await self._progress.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        started = asyncio.get_running_loop().time()
        worker = self._websocket_worker if self.spec.protocol is LoadProtocol.WEBSOCKET else self._http_worker
        async with asyncio.TaskGroup() as group:
            for _ in range(self.spec.connections):
                group.create_task(worker(started))
            try:
                yield
            finally:
                self._stopped = True

    async def _due(self, started: float) -> AsyncIterator[float]:
        """When this worker's next request is due, having waited for it."""
        loop = asyncio.get_running_loop()
        while True:
            due = started + next(self._numbers) / self.spec.rate
            wait = due - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            if self._stopped:
                return
            yield due

    def _record(self, due: float, sent: float, answer: Answer) -> None:
        self.samples.append(
            Sample(
                due=due,
                sent=sent,
                done=asyncio.get_running_loop().time(),
                status=answer.status,
                pod=answer.pod,
                failure=answer.failure,
            )
        )
        self._progress.set()

    async def _http_worker(self, started: float) -> None:
        loop = asyncio.get_running_loop()
        connection: Http1Connection | Http2Connection | None = None
        try:
            async for due in self._due(started):
                sent = loop.time()
                answer = Answer(failure=Failure.TIMEOUT)
                try:
                    async with asyncio.timeout(self.spec.seconds):
                        for _ in range(_REPEATS):
                            if connection is None or not connection.usable or connection.closed_by_peer:
                                if connection is not None:
                                    await connection.close()
                                connection = None
                                connection = await self._open()
                            answer = await connection.request(
                                self._target,
                                host=self._host,
                                method=self.spec.method,
                                headers=self.spec.headers,
                                body=self.spec.body,
                            )
                            if answer.failure is not Failure.UNPROCESSED:
                                break
                except TimeoutError:
                    answer = Answer(failure=Failure.TIMEOUT)
                    if connection is not None:
                        await connection.close()
                    connection = None
                except ConnectionFailed as error:
                    answer = Answer(failure=error.failure)
                self._record(due, sent, answer)
        finally:
            if connection is not None:
                await connection.close()

    async def _open(self) -> Http1Connection | Http2Connection:
        self._opened += 1
        if self.spec.protocol is LoadProtocol.HTTP2:
            return await Http2Connection.open(self._endpoint)
        return await Http1Connection.open(self._endpoint)

    async def _websocket_worker(self, started: float) -> None:
        loop = asyncio.get_running_loop()
        dues = self._due(started)
        while not self._stopped:
            async for due in dues:
                sent = loop.time()
                try:
                    await self._converse(due, sent, dues)
                except ConnectionFailed as error:
                    self._record(due, sent, Answer(failure=error.failure))
                break

    async def _converse(self, due: float, sent: float, dues: AsyncIterator[float]) -> None:
        """Send and receive on one WebSocket until it fails or the load ends."""
        loop = asyncio.get_running_loop()
        self._opened += 1
        url = self.spec.url.replace("http", "ws", 1)
        async with websocket(
            url, address=self.spec.address, headers=self.spec.headers, tls=self._endpoint.tls
        ) as connection:
            pod = websocket_pod(connection)
            headers = (("x-echo-pod", pod),) if pod is not None else ()
            while True:
                text = str(due)
                try:
                    async with asyncio.timeout(self.spec.seconds):
                        await connection.send(text)
                        echoed = await connection.recv()
                except TimeoutError:
                    self._record(due, sent, Answer(failure=Failure.TIMEOUT))
                    return
                except ConnectionClosed:
                    self._record(due, sent, Answer(failure=Failure.CLOSED))
                    return
                failure = None if echoed == text else Failure.PROTOCOL
                self._record(due, sent, Answer(status=101, headers=headers, failure=failure))
                try:
                    due = await anext(dues)
                except StopAsyncIteration:
                    return
                sent = loop.time()


async def _main() -> None:
    """The process's side: a spec on standard input; a line once the first request is complete; the report last."""
    loop = asyncio.get_running_loop()
    spec = msgspec.json.decode(await loop.run_in_executor(None, sys.stdin.buffer.readline), type=LoadSpec)
    run = _Run(spec)
    async with run.running():
        await run.completed(1)
        sys.stdout.buffer.write(b"started\n")
        sys.stdout.buffer.flush()
        await loop.run_in_executor(None, sys.stdin.buffer.read)
    sys.stdout.buffer.write(msgspec.msgpack.encode(run.report()))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(_main())
