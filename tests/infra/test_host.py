"""The supervisor with a real Envoy: start, crash, hot restart, drain. Adoption after a kill: `test_adoption.py`."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import msgspec
import pytest

from portway.infra.envoy_admin import ServerState
from portway.infra.host import HostProxy
from portway.infra.plan import Start
from portway.infra.proxy import ProxyState
from portway.infra.state import ADMIN_SOCKET, StateFolder
from tests.infra.running import BRISK, envoy, reached, running
from tests.infra.serving import constant_requests, free_port, get, serving_bootstrap, slow_backend

pytestmark = pytest.mark.e2e


async def test_starts_serves_and_stops(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path / "state", serving_bootstrap(port, "one")) as proxy:
        assert await get(port) == "one"
        statistics = proxy.statistics()
        assert (statistics.state, statistics.origin, statistics.epoch) == (ProxyState.LIVE, Start.FRESH, 0)
        info = await proxy.admin.server_info()
        assert (info.version, info.state) == (envoy().build, ServerState.LIVE)
        assert info.hot_restart_version == envoy().hot_restart_version
    assert proxy.statistics().state is ProxyState.STOPPED
    with pytest.raises(OSError, match="Connect call failed"):
        await get(port)


async def test_works_in_a_folder_with_a_long_name(tmp_path: Path) -> None:
    port = free_port()
    state = tmp_path / ("long" * 30) / "state"
    async with running(state, serving_bootstrap(port, "far")):
        assert await get(port) == "far"


async def test_comes_back_after_a_crash(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path / "state", serving_bootstrap(port, "one")) as proxy:
        first = proxy.statistics().pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await reached(lambda: not proxy.is_live)
        await proxy.wait_ready()
        assert proxy.statistics().pid != first
        assert await get(port) == "one"
        statistics = proxy.statistics()
        assert (statistics.restarts, statistics.last_exit) == (1, "ended")


async def test_hot_restart_loses_nothing(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path / "state", serving_bootstrap(port, "one")) as proxy:
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


async def test_refused_bootstrap_changes_nothing(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path / "state", serving_bootstrap(port, "one")) as proxy:
        before = proxy.statistics()
        proxy.replace(b'{"node": {"id": 7}, "no_such_field": 1}')
        await reached(lambda: proxy.is_refused)
        assert await get(port) == "one"
        assert proxy.statistics().pid == before.pid


async def test_bad_bootstrap_from_the_start_is_tried_again_and_healed_by_a_good_one(tmp_path: Path) -> None:
    port = free_port()
    with StateFolder(tmp_path / "state") as folder:
        place = folder.proxy_folder("test")
        proxy = HostProxy(place, envoy(), b'{"no_such_field": 1}', BRISK)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(proxy.run())
            await reached(lambda: proxy.statistics().early_deaths >= 3)
            assert not proxy.is_live
            proxy.replace(serving_bootstrap(port, "healed"))
            await proxy.wait_ready()
            assert await get(port) == "healed"
            await proxy.stop()
        place.close()


async def test_connections_past_the_limit_are_closed(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path / "state", serving_bootstrap(port, "one", max_connections=2)) as proxy:
        kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert await kept[2][0].read() == b""
        assert (await proxy.admin.state()) is ServerState.LIVE  # it does not count
        for _, writer in kept:
            writer.close()


async def test_running_request_finishes_before_the_end(tmp_path: Path) -> None:
    port = free_port()
    async with (
        slow_backend(1.5) as (backend, arrived),
        running(tmp_path / "state", serving_bootstrap(port, "one", backend)) as proxy,
    ):
        async with asyncio.TaskGroup() as tasks:
            request = tasks.create_task(get(port, "/backend"))
            await arrived.wait()
            stopping = tasks.create_task(proxy.stop())
            await reached(lambda: proxy.statistics().state is ProxyState.DRAINING)
            await stopping
        assert request.result() == "slow"


async def test_it_drains_although_its_folder_is_gone(tmp_path: Path) -> None:
    port = free_port()
    async with (
        slow_backend(1.5) as (backend, arrived),
        running(tmp_path / "state", serving_bootstrap(port, "one", backend)) as proxy,
    ):
        async with asyncio.TaskGroup() as tasks:
            answer = tasks.create_task(get(port, "/backend"))
            await arrived.wait()
            shutil.rmtree(tmp_path / "state")
            await proxy.stop()
        assert answer.result() == "slow"


async def test_second_stop_does_not_wait(tmp_path: Path) -> None:
    port = free_port()
    async with (
        slow_backend(60) as (backend, arrived),
        running(tmp_path / "state", serving_bootstrap(port, "one", backend)) as proxy,
    ):
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


async def test_left_running_it_serves_and_is_adopted(tmp_path: Path) -> None:
    port = free_port()
    state, bootstrap = tmp_path / "state", serving_bootstrap(port, "one")
    async with running(state, bootstrap, leave_running=True) as proxy:
        pass
    first = proxy.statistics()
    assert first.state is ProxyState.LEFT
    assert await get(port) == "one"
    async with running(state, bootstrap) as proxy:
        second = proxy.statistics()
        assert (second.pid, second.origin, second.epoch) == (first.pid, Start.ADOPT, 0)
        assert await get(port) == "one"


async def test_one_without_admin_interface_hands_over(tmp_path: Path) -> None:
    """As a predecessor whose successor died while nobody watched: it serves, but cannot be asked."""
    port = free_port()
    state, bootstrap = tmp_path / "state", serving_bootstrap(port, "one")
    async with running(state, bootstrap, leave_running=True):
        pass
    (state / "proxies" / "test" / ADMIN_SOCKET).unlink()
    async with constant_requests(port) as tally, running(state, bootstrap) as proxy:
        statistics = proxy.statistics()
        assert (statistics.origin, statistics.epoch) == (Start.HAND_OVER, 1)
        await reached(lambda: proxy.statistics().retiring == ())
        seen = tally.answers
        await reached(lambda: tally.answers > seen + 20)
        assert tally.failures == []
        tally.over.set()


async def test_another_hot_restart_version_is_started_beside(tmp_path: Path) -> None:
    port = free_port()
    state = tmp_path / "state"
    async with running(state, serving_bootstrap(port, "one"), leave_running=True) as proxy:
        first = proxy.statistics().pid
    newer = msgspec.structs.replace(envoy(), build="0/9.9.9/Clean/RELEASE/BoringSSL", hot_restart_version="99.1")
    async with running(state, serving_bootstrap(port, "two"), binary=newer) as proxy:
        statistics = proxy.statistics()
        assert (statistics.origin, statistics.epoch) == (Start.BESIDE, 0)
        assert statistics.pid != first
        await reached(lambda: proxy.statistics().retiring == ())
        assert await get(port) == "two"
        assert not [path for path in listed(state / "proxies" / "test") if path.startswith("admin-")]


async def test_failed_hot_restart_keeps_serving(tmp_path: Path) -> None:
    """The bootstrap is valid, but the successor cannot start: its hot restart socket is not where it should be."""
    port = free_port()
    async with running(tmp_path / "state", serving_bootstrap(port, "one")) as proxy, constant_requests(port) as tally:
        folder = tmp_path / "state" / "proxies" / "test"
        for name in listed(folder):
            if name.startswith("hot_"):
                (folder / name).unlink()
        proxy.replace(serving_bootstrap(port, "two"))
        await reached(lambda: proxy.statistics().origin is Start.BESIDE and proxy.is_live)
        await reached(lambda: "two" in tally.texts)
        tally.over.set()


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
