"""A laboratory: a real Envoy, a delta-ADS server that one drives by hand, backends and ports; all gone at the end.

async with laboratory() as lab:
    a = await lab.backends.start("a")
    lab.ads.put(...)
    assert (await lab.ads.update(eds_cluster("c-a"))).error is None
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from envoy.config.bootstrap.v3 import bootstrap_pb2 as bootstrapv3

from tests.kit.ads import AdsServer
from tests.kit.answer import Answer
from tests.kit.backends import Backends
from tests.kit.client import fetch
from tests.kit.envoy import EnvoyProcess, minimal_bootstrap, running_envoy
from tests.kit.ports import Ports

_POLL_SECONDS = 0.005  # Envoy offers no event for "live now": we ask


class Laboratory(msgspec.Struct, frozen=True, kw_only=True):
    """What a test works with."""

    ads: AdsServer
    envoy: EnvoyProcess
    backends: Backends
    ports: Ports


@asynccontextmanager
async def laboratory(
    *,
    concurrency: int = 1,
    log_level: str = "warning",
    change: Callable[[bootstrapv3.Bootstrap], None] | None = None,
    ads: AdsServer | None = None,
) -> AsyncIterator[Laboratory]:
    """Start everything; Envoy has asked for clusters and listeners when the block begins.

    Args:
        concurrency: Envoy's worker threads.
        log_level: of Envoy's log, in `lab.envoy.log()`.
        change: a last change to the bootstrap.
        ads: with resources that Envoy is to find when it starts; `None`: an empty server.
    """
    server = ads or AdsServer()
    with tempfile.TemporaryDirectory(prefix="pw") as name, Ports() as ports:
        folder = Path(name)
        socket = folder / "ads.sock"
        async with (
            Backends() as backends,
            server.serving(socket),
            running_envoy(
                folder, minimal_bootstrap(socket), concurrency=concurrency, log_level=log_level, change=change
            ) as envoy,
        ):
            async with asyncio.timeout(20):
                await server.listening.wait()
            yield Laboratory(ads=server, envoy=envoy, backends=backends, ports=ports)


async def eventually(check: Callable[[], Awaitable[bool]], *, seconds: float = 15.0) -> None:
    """Ask until it holds.

    Raises:
        TimeoutError: it did not within that time.
    """
    async with asyncio.timeout(seconds):
        while True:
            if await check():
                return
            await asyncio.sleep(_POLL_SECONDS)


async def until_answer(url: str, *, status: int = 200, pod: str | None = None, seconds: float = 15.0) -> Answer:
    """Ask a URL until it answers with this status (and from this backend, if one is named); returns that answer.

    Raises:
        TimeoutError: it did not within that time; the message tells the last answer.
    """
    answer: Answer | None = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                answer = await fetch(url)
                if answer.status == status and pod in (None, answer.pod):
                    return answer
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        raise TimeoutError(f"{url}: wanted {status} from {pod}, the last answer was {answer}") from error
