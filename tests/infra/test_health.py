"""What a proxy's pod answers about itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from portway.infra.health import HealthServer, Unavailable
from tests.kit.client import fetch


class State:
    problem = ""
    metrics = "up 1\n"

    async def page(self) -> str:
        if not self.metrics:
            raise Unavailable("no proxy")
        return self.metrics


@asynccontextmanager
async def health(state: State) -> AsyncIterator[str]:
    server = HealthServer(lambda: state.problem, state.page)
    port = await server.start("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop()


CASES = [
    # path, what is the matter, metrics: status, body
    ("/healthz", "stopping", "", 200, b"ok\n"),
    ("/readyz", "", "", 200, b"ok\n"),
    ("/readyz?verbose", "", "", 200, b"ok\n"),
    ("/readyz", "stopping", "", 503, b"stopping\n"),
    ("/metrics", "", "up 1\n", 200, b"up 1\n"),
    ("/metrics", "", "", 503, b"no proxy\n"),
    ("/config_dump", "", "", 404, b"here are /healthz, /readyz and /metrics\n"),
]


@pytest.mark.parametrize(("path", "problem", "metrics", "status", "body"), CASES)
async def test_answers(path: str, problem: str, metrics: str, status: int, body: bytes) -> None:
    state = State()
    state.problem, state.metrics = problem, metrics
    async with health(state) as url:
        answer = await fetch(url + path)
        assert (answer.status, answer.body) == (status, body)


async def test_nothing_can_be_changed() -> None:
    async with health(State()) as url:
        assert (await fetch(f"{url}/readyz", method="POST", body=b"x")).status == 405
        answer = await fetch(f"{url}/readyz", method="HEAD")
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("text", [b"", b"\r\n\r\n", b"GET /readyz", b"\xff" * 40_000, b"GET  HTTP/1.1\r\n\r\n"])
async def test_who_talks_nonsense_disturbs_nobody(text: bytes) -> None:
    async with health(State()) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(text)
        writer.write_eof()
        assert b" 200 " not in (await reader.read()).partition(b"\r\n")[0]
        writer.close()
        assert (await fetch(f"{url}/readyz")).status == 200
