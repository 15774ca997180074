"""What becomes of the proxy when its supervisor is killed: it serves on, and the next supervisor goes on with it."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.infra.process import find_processes
from portway.infra.state import StateFolder, StateFolderInUse
from tests.infra.serving import constant_requests, free_port, get, serving_bootstrap

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parent.parent.parent


started: list[Process] = []
"""Supervisors of the running test."""


async def start_supervisor(state: Path, bootstrap: Path) -> Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.infra.supervisor",
        str(state),
        str(bootstrap),
        cwd=ROOT,
        stdout=PIPE,
        stderr=PIPE,
    )
    started.append(process)
    return process


async def live(process: Process) -> tuple[int, int, str]:
    """Process id, epoch and origin of its proxy, once that is live."""
    assert process.stdout is not None
    async with asyncio.timeout(20):
        while line := (await process.stdout.readline()).decode():
            if line.startswith("live "):
                _, pid, epoch, origin = line.strip().split(" ", 3)
                return int(pid), int(epoch), origin
    raise AssertionError(f"ended: {await output(process)}")


async def output(process: Process) -> str:
    _, errors = await process.communicate()
    return errors.decode()


async def kill(process: Process) -> None:
    process.kill()
    await output(process)


async def finish(process: Process) -> None:
    process.terminate()
    await output(process)
    assert process.returncode == 0


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@contextlib.asynccontextmanager
async def nothing_left(state: Path) -> AsyncIterator[None]:
    """At the end no Envoy of this folder runs; what a failed test left is ended."""
    try:
        yield
    finally:
        while started:
            process = started.pop()
            if process.returncode is None:
                await kill(process)
        with StateFolder(state) as folder:
            place = folder.proxy_folder("test")
            left = find_processes(place)
            for envoy in left:
                envoy.send(signal.SIGKILL)
                await envoy.wait()
            place.close()
    assert left == ()


async def test_killed_supervisor_leaves_it_serving_and_the_next_adopts_it(tmp_path: Path) -> None:
    port = free_port()
    state, bootstrap = tmp_path / "state", tmp_path / "bootstrap.json"
    write(bootstrap, serving_bootstrap(port, "one"))
    async with nothing_left(state):
        first = await start_supervisor(state, bootstrap)
        pid, epoch, origin = await live(first)
        assert (epoch, origin) == (0, "started")
        async with constant_requests(port) as tally:
            await kill(first)
            second = await start_supervisor(state, bootstrap)
            assert await live(second) == (pid, 0, "adopted")
            await kill(second)
            third = await start_supervisor(state, bootstrap)
            assert await live(third) == (pid, 0, "adopted")
        assert tally.failures == []
        assert tally.answers > 20
        await finish(third)


async def test_changed_bootstrap_after_a_kill_is_a_hot_restart(tmp_path: Path) -> None:
    port = free_port()
    state, bootstrap = tmp_path / "state", tmp_path / "bootstrap.json"
    write(bootstrap, serving_bootstrap(port, "one"))
    async with nothing_left(state):
        first = await start_supervisor(state, bootstrap)
        pid, _, _ = await live(first)
        async with constant_requests(port) as tally:
            await kill(first)
            write(bootstrap, serving_bootstrap(port, "two"))
            second = await start_supervisor(state, bootstrap)
            successor, epoch, origin = await live(second)
            assert (epoch, origin) == (1, "hot restart")
            assert successor != pid
            async with asyncio.timeout(10):
                while "two" not in tally.texts:  # noqa: ASYNC110 - another process does it
                    await asyncio.sleep(0.01)
        assert tally.failures == []
        await finish(second)


async def test_kill_of_both_is_a_fresh_start(tmp_path: Path) -> None:
    port = free_port()
    state, bootstrap = tmp_path / "state", tmp_path / "bootstrap.json"
    write(bootstrap, serving_bootstrap(port, "one"))
    async with nothing_left(state):
        first = await start_supervisor(state, bootstrap)
        pid, _, _ = await live(first)
        await kill(first)
        os.kill(pid, signal.SIGKILL)
        second = await start_supervisor(state, bootstrap)
        assert (await live(second))[1:] == (0, "started")
        assert await get(port) == "one"
        await finish(second)


async def test_second_supervisor_names_the_first(tmp_path: Path) -> None:
    state, bootstrap = tmp_path / "state", tmp_path / "bootstrap.json"
    write(bootstrap, serving_bootstrap(free_port(), "one"))
    with StateFolder(state):
        second = await start_supervisor(state, bootstrap)
        errors = await output(second)
        assert second.returncode == 1
        assert f"{state} is in use by process {os.getpid()}" in errors
        assert "--state-dir" in errors
        with pytest.raises(StateFolderInUse):
            StateFolder(state)
    StateFolder(state).close()
