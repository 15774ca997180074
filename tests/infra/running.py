"""A supervised proxy for the length of a test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import cache
from pathlib import Path

from portway.infra.binary import EnvoyBinary, find_envoy
from portway.infra.drain import DrainSettings
from portway.infra.host import HostProxy
from portway.infra.process import find_processes
from portway.infra.proxy import HostSettings
from portway.infra.state import StateFolder

BRISK = HostSettings(
    concurrency=1,
    drain=timedelta(seconds=1),
    parent_shutdown=timedelta(seconds=2),
    stop=DrainSettings(settle=timedelta(milliseconds=100), longest=timedelta(seconds=10)),
)


@cache
def envoy() -> EnvoyBinary:
    return find_envoy()


@contextlib.asynccontextmanager
async def running(
    state: Path,
    bootstrap: bytes,
    settings: HostSettings = BRISK,
    *,
    binary: EnvoyBinary | None = None,
    access_log: Callable[[bytes], None] | None = None,
    leave_running: bool = False,
) -> AsyncIterator[HostProxy]:
    """A proxy that is live; stopped at the end (unless it is left running), and then nothing of it is there."""
    with StateFolder(state) as folder:
        place = folder.proxy_folder("test")
        proxy = HostProxy(place, binary or envoy(), bootstrap, settings, access_log=access_log)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(proxy.run())
            left = False
            try:
                await proxy.wait_ready()
                yield proxy
                left = leave_running
            finally:
                await proxy.stop(leave_running=left)
        try:
            if not left:
                assert find_processes(place) == ()
                assert not list(place.path.glob("hot_*"))
        finally:
            place.close()


async def reached(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - most of it happens in another process
            await asyncio.sleep(0.01)
