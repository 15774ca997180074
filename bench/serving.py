"""A Portway that serves N hosts, started as a user would; what the benchmarks of start and memory share."""

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from bench.worlds import host
from tests.kit.answer import ConnectionFailed
from tests.kit.connect import Endpoint
from tests.kit.http1_client import Http1Connection
from tests.kit.ports import Ports
from tests.kit.portway import Portway

START_SECONDS = 240.0
"""For 20,000 hosts on a busy machine."""
ASK_SECONDS = 0.005
SAMPLE = 200
"""Hosts that are asked to say that all are served; the first and the last are among them."""


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """It serves all hosts."""

    portway: Portway
    port: int
    hosts: int
    started: float
    """Unix time of the start of the process."""
    served: float
    """Unix time at which the last of the asked hosts answered."""

    @property
    def envoy(self) -> int:
        """Process id."""
        (pid,) = self.portway.envoys()
        return pid


@asynccontextmanager
async def serving(
    files: Mapping[str, str], port: int, hosts: int, arguments: Sequence[str] = (), *, log_level: str = "debug"
) -> AsyncIterator[Serving]:
    """Run until the block ends; the block begins when all hosts are served.

    Args:
        files: what is declared: an HTTP socket on `port` with `hosts` hosts named as in `bench.worlds`.
        arguments: further ones of `portway run`.
    """
    with tempfile.TemporaryDirectory(prefix="portway-bench-") as name, Ports() as ports:
        given = ("--concurrency", "1", "--access-log", "", "--log-level", log_level, *arguments)
        running = Portway(Path(name), ports, given)
        for file, text in files.items():
            running.write(file, text)
        try:
            started = time.time()
            await running.start(ready=False)
            async with asyncio.timeout(START_SECONDS):
                await wait_all_served(port, hosts)
            yield Serving(portway=running, port=port, hosts=hosts, started=started, served=time.time())
        finally:
            await running.close()


async def wait_all_served(port: int, hosts: int) -> None:
    """Until a sample of the hosts has answered 200, each asked again until it does."""
    numbers = {0, hosts - 1, *random.sample(range(hosts), min(hosts, SAMPLE))}
    async with await _connected(port) as connection:
        for number in sorted(numbers, reverse=True):
            while (await connection.request("/status/200", host=host(number))).status != 200:  # noqa: ASYNC110 - a proxy
                await asyncio.sleep(ASK_SECONDS)


async def ask_each(port: int, hosts: int) -> None:
    """One request to each of the first hosts, each of which keeps a connection to the backend afterwards.

    Raises:
        RuntimeError: a host does not answer 200.
    """
    async with await _connected(port) as connection:
        for number in range(hosts):
            status = (await connection.request("/status/200", host=host(number))).status
            if status != 200:
                raise RuntimeError(f"{host(number)} answers {status}")


async def _connected(port: int) -> Http1Connection:
    while True:
        try:
            return await Http1Connection.open(Endpoint(port=port))
        except ConnectionFailed:
            await asyncio.sleep(ASK_SECONDS)
