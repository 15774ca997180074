"""What a machine does to Portway: disks fill up, files break, ports are taken by others."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from portway.app.snapshot import FILE
from portway.app.status import Status
from tests.kit.backends import Backend, Backends
from tests.kit.client import fetch
from tests.kit.manifests import CLASS, gateway, http_route, ingress, service
from tests.kit.portway import Portway, portway

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture
async def backends() -> AsyncIterator[dict[str, Backend]]:
    async with Backends() as running:
        yield {name: await running.start(name) for name in ("a", "b")}


def world(backends: dict[str, Backend]) -> dict[str, str]:
    services = "---\n".join(service(name, [backend.port]) for name, backend in backends.items())
    return {"class.yaml": CLASS, "services.yaml": services, "route.yaml": ingress("shop", "shop.test", [("/", "a")])}


async def served_by(url: str, name: str) -> bool:
    return (await fetch(url)).pod == name


async def programmed(running: Portway, listener: str) -> str:
    """`status/reason` of a listener of Gateway shop/gw, as `portway status -o json` has it."""
    found = msgspec.json.decode((await running.admin("/api/v1/status")).body, type=Status)
    (gateway_status,) = (report.status for report in found.reports if report.object == "Gateway shop/gw")
    (conditions,) = (one.conditions for one in gateway_status.listeners or () if one.name == listener)
    return next(f"{one.status}/{one.reason}" for one in conditions if one.type == "Programmed")


def said(running: Portway, event: str) -> int:
    return running.log.read_text().count(f'"event": "{event}"')


async def test_a_restart_that_changes_nothing_says_that_it_is_ready(
    tmp_path: Path, backends: dict[str, Backend]
) -> None:
    """The adopted proxy has all already, so it acknowledges nothing that one could wait for."""
    async with portway(tmp_path, world(backends)) as running:
        await running.kill()
        await running.start()

        async def told() -> bool:
            return said(running, "ready") == 2

        await running.until(told, "said to be ready")


async def test_a_damaged_snapshot_does_not_keep_it_from_starting(tmp_path: Path, backends: dict[str, Backend]) -> None:
    async with portway(tmp_path, world(backends)) as running:
        assert await running.stop() == 0
        path = running.folder / "state" / FILE
        data = path.read_bytes()
        path.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))
        await running.start()
        assert await served_by(f"http://shop.test:{running.http_port}/", "a")


async def test_a_snapshot_that_cannot_be_written_ends_nothing(tmp_path: Path, backends: dict[str, Backend]) -> None:
    """As on a full disk, but without filling one: somebody else holds the file for longer than SQLite waits."""
    async with portway(tmp_path, world(backends)) as running:
        url = f"http://shop.test:{running.http_port}/"
        path = running.folder / "state" / FILE

        async def told() -> bool:
            return "acknowledged configuration cannot be written" in running.log.read_text()

        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            running.write("route.yaml", ingress("shop", "shop.test", [("/", "b")]))
            await running.until(lambda: served_by(url, "b"), "changed")
            await running.until(told, "said", seconds=20)
        running.write("route.yaml", ingress("shop", "shop.test", [("/", "a")]))
        await running.until(lambda: served_by(url, "a"), "changed again")


async def test_a_port_that_is_stolen_before_the_proxy_opens_it(tmp_path: Path, backends: dict[str, Backend]) -> None:
    async with portway(tmp_path, world(backends)) as running:
        mine, stolen = running.http_port + 13, running.http_port + 14
        running.write("gateway.yaml", gateway("gw", [("mine", mine, "HTTP")]))
        running.write("route.yaml", http_route("shop", "gw", "gw.test", [("/", "a")]))
        await running.until(lambda: served_by(f"http://gw.test:{mine}/", "a"), "served")
        for pid in running.envoys():
            os.kill(pid, signal.SIGSTOP)
        running.write("gateway.yaml", gateway("gw", [("mine", mine, "HTTP"), ("stolen", stolen, "HTTP")]))
        await asyncio.sleep(0.5)  # Portway has looked: the port was free
        assert await programmed(running, "mine") == "True/Programmed"
        assert await programmed(running, "stolen") == "False/Pending"
        with socket.socket() as thief:
            thief.bind(("127.0.0.1", stolen))
            thief.listen()
            for pid in running.envoys():
                os.kill(pid, signal.SIGCONT)

            async def told() -> bool:
                return f"{stolen} is in use by" in (await running.admin("/api/v1/status")).body.decode()

            await running.until(told, "said whose the port is")
            assert await programmed(running, "stolen") == "False/Invalid"
            assert await served_by(f"http://gw.test:{mine}/", "a")
        await running.until(lambda: served_by(f"http://gw.test:{stolen}/", "a"), "opened soon after it is free")
        assert await programmed(running, "stolen") == "True/Programmed"


async def test_the_state_folder_is_removed(tmp_path: Path, backends: dict[str, Backend]) -> None:
    """It says so and ends when requests have drained, also where Envoy was to be left running: the next Portway would
    not find it."""
    async with portway(tmp_path, world(backends), "--leave-running") as running:
        url = f"http://shop.test:{running.http_port}/"
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(fetch(f"{url}?delay=4s", seconds=20))
            await asyncio.sleep(0.5)
            shutil.rmtree(running.folder / "state")
            assert await running.ended() == 1
        assert slow.result().status == 200
        assert f"portway run: {running.folder}/state was removed" in running.log.read_text()
        assert (await fetch(url)).status == 0, "an Envoy that nobody would find"


SIGTERM_IS_CAUGHT = re.compile(r"SigCgt:\t([0-9a-f]+)")


def handles_sigterm(pid: int) -> bool:
    found = SIGTERM_IS_CAUGHT.search(Path(f"/proc/{pid}/status").read_text())
    return found is not None and bool(int(found[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("later", [0.0, 0.2, 0.5, 1.0])
async def test_a_stop_in_the_first_second_is_no_failure(
    tmp_path: Path, backends: dict[str, Backend], later: float
) -> None:
    async with portway(tmp_path, world(backends), ready=False) as running:

        async def handled() -> bool:
            return handles_sigterm(running.pid)

        await running.until(handled, "handled")
        await asyncio.sleep(later)
        async with asyncio.timeout(10):
            assert await running.stop() == 0
        assert "Traceback" not in running.log.read_text()
        assert not running.envoys()


def has_terminal() -> bool:
    try:
        with Path("/dev/tty").open("rb"):
            return True
    except OSError:
        return False


@pytest.fixture
def heeds_hang_ups() -> Iterator[None]:
    """Processes that are started here, even where nohup(1) runs the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(has_terminal(), reason="where there is a terminal, it means the end")
@pytest.mark.usefixtures("heeds_hang_ups")
async def test_a_hang_up_without_a_terminal_ends_nothing(tmp_path: Path, backends: dict[str, Backend]) -> None:
    async with portway(tmp_path, world(backends)) as running:
        os.kill(running.pid, signal.SIGHUP)

        async def told() -> bool:
            return "SIGHUP" in running.log.read_text()

        await running.until(told, "said that there is nothing to do")
        assert await served_by(f"http://shop.test:{running.http_port}/", "a")


async def test_a_slow_admin_client_does_not_keep_it_from_ending(tmp_path: Path, backends: dict[str, Backend]) -> None:
    async with portway(tmp_path, world(backends)) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.admin_port)
        writer.write(b"POST /api/v1/explain HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nslow")
        await asyncio.sleep(0.2)
        async with asyncio.timeout(10):
            assert await running.stop() == 0
        writer.close()
