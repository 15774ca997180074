"""The supervisor with a real Envoy: start, crash, hot restart, drain. Adoption after a kill: `test_adoption.py`."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from portway.infra.binary import EnvoyBinary, find_envoy
from portway.infra.drain import DrainSettings
from portway.infra.envoy_admin import ServerState
from portway.infra.host import HostProxy
from portway.infra.plan import Start
from portway.infra.process import find_processes
from portway.infra.proxy import HostSettings, ProxyState
from portway.infra.state import ProxyFolder, StateFolder
from tests.infra.serving import constant_requests, free_port, get, serving_bootstrap, slow_backend

pytestmark = pytest.mark.e2e

BRISK = HostSettings(
    concurrency=1,
    drain=timedelta(seconds=1),
    parent_shutdown=timedelta(seconds=2),
    stop=DrainSettings(settle=timedelta(milliseconds=100), longest=timedelta(seconds=10)),
)


@pytest.fixture(scope="module")
def binary() -> EnvoyBinary:
    return find_envoy()


@contextlib.asynccontextmanager
async def running(
    state: Path, binary: EnvoyBinary, bootstrap: bytes, settings: HostSettings = BRISK
) -> AsyncIterator[HostProxy]:
    """A supervised proxy; stopped at the end, and then nothing of it is left."""
    with StateFolder(state) as folder:
        place = folder.proxy_folder("test")
        proxy = HostProxy(place, binary, bootstrap, settings)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(proxy.run())
            try:
                yield proxy
            finally:
                await proxy.stop()
        try:
            assert find_processes(place) == ()
            assert not list(place.path.glob("hot_*"))
        finally:
            place.close()


async def reached(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - most of it happens in another process
            await asyncio.sleep(0.01)


async def test_starts_serves_and_stops(tmp_path: Path, binary: EnvoyBinary) -> None:
    port = free_port()
    async with running(tmp_path / "state", binary, serving_bootstrap(port, "one")) as proxy:
        await proxy.wait_ready()
        assert await get(port) == "one"
        statistics = proxy.statistics()
        assert (statistics.state, statistics.origin, statistics.epoch) == (ProxyState.LIVE, Start.FRESH, 0)
        info = await proxy.admin.server_info()
        assert (info.version, info.state) == (binary.build, ServerState.LIVE)
        assert info.hot_restart_version == binary.hot_restart_version
    assert proxy.statistics().state is ProxyState.STOPPED
    with pytest.raises(OSError, match="Connect call failed"):
        await get(port)


async def test_works_in_a_folder_with_a_long_name(tmp_path: Path, binary: EnvoyBinary) -> None:
    port = free_port()
    state = tmp_path / ("long" * 30) / "state"
    async with running(state, binary, serving_bootstrap(port, "far")) as proxy:
        await proxy.wait_ready()
        assert await get(port) == "far"


async def test_comes_back_after_a_crash(tmp_path: Path, binary: EnvoyBinary) -> None:
    port = free_port()
    async with running(tmp_path / "state", binary, serving_bootstrap(port, "one")) as proxy:
        await proxy.wait_ready()
        first = proxy.statistics().pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await reached(lambda: proxy.statistics().pid != first)
        await proxy.wait_ready()
        assert await get(port) == "one"
        statistics = proxy.statistics()
        assert (statistics.restarts, statistics.last_exit) == (1, "ended")


async def test_hot_restart_loses_nothing(tmp_path: Path, binary: EnvoyBinary) -> None:
    port = free_port()
    async with running(tmp_path / "state", binary, serving_bootstrap(port, "one")) as proxy:
        await proxy.wait_ready()
        first = proxy.statistics().pid
        async with constant_requests(port) as tally:
            await reached(lambda: tally.answers > 50)
            proxy.replace(serving_bootstrap(port, "two"))
            await reached(lambda: proxy.statistics().epoch == 1 and "two" in tally.texts)
            await reached(lambda: proxy.statistics().retiring == ())
            answered = tally.answers
            await reached(lambda: tally.answers > answered + 50)
        assert tally.failures == []
        assert await get(port) == "two"
        statistics = proxy.statistics()
        assert (statistics.hand_overs, statistics.restarts) == (1, 0)
        assert statistics.pid != first


async def test_refused_bootstrap_changes_nothing(tmp_path: Path, binary: EnvoyBinary) -> None:
    port = free_port()
    async with running(tmp_path / "state", binary, serving_bootstrap(port, "one")) as proxy:
        await proxy.wait_ready()
        before = proxy.statistics()
        proxy.replace(b'{"node": {"id": 7}, "no_such_field": 1}')
        await reached(lambda: proxy.is_refused)
        assert await get(port) == "one"
        assert proxy.statistics().pid == before.pid


async def test_running_request_finishes_before_the_end(tmp_path: Path, binary: EnvoyBinary) -> None:
    port = free_port()
    async with (
        slow_backend(1.5) as (backend, arrived),
        running(tmp_path / "state", binary, serving_bootstrap(port, "one", backend)) as proxy,
    ):
        await proxy.wait_ready()
        async with asyncio.TaskGroup() as tasks:
            request = tasks.create_task(get(port, "/backend"))
            await arrived.wait()
            stopping = tasks.create_task(proxy.stop())
            await reached(lambda: proxy.statistics().state is ProxyState.DRAINING)
            await stopping
        assert request.result() == "slow"


async def test_second_stop_does_not_wait(tmp_path: Path, binary: EnvoyBinary) -> None:
    port = free_port()
    async with (
        slow_backend(60) as (backend, arrived),
        running(tmp_path / "state", binary, serving_bootstrap(port, "one", backend)) as proxy,
    ):
        await proxy.wait_ready()
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            request = tasks.create_task(_failing(get(port, "/backend")))
            await arrived.wait()
            tasks.create_task(proxy.stop())
            await reached(lambda: proxy.statistics().state is ProxyState.DRAINING)
            await proxy.stop()
        assert request.result()


async def _failing(request: object) -> bool:
    assert asyncio.iscoroutine(request)
    try:
        await request
    except OSError:
        return True
    return False


async def test_left_running_it_serves_and_is_adopted(tmp_path: Path, binary: EnvoyBinary) -> None:
    port = free_port()
    state = tmp_path / "state"
    bootstrap = serving_bootstrap(port, "one")
    with StateFolder(state) as folder:
        place: ProxyFolder = folder.proxy_folder("test")
        proxy = HostProxy(place, binary, bootstrap, BRISK)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(proxy.run())
            await proxy.wait_ready()
            await proxy.stop(leave_running=True)
        place.close()
    first = proxy.statistics()
    assert first.state is ProxyState.LEFT
    assert await get(port) == "one"
    async with running(state, binary, bootstrap) as proxy:
        await proxy.wait_ready()
        second = proxy.statistics()
        assert (second.pid, second.origin, second.epoch) == (first.pid, Start.ADOPT, 0)
        assert await get(port) == "one"
