"""Portway itself as a process: what e2e tests and benchmarks start, feed with files, restart and kill."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import final

import msgspec

from tests.kit.answer import Answer
from tests.kit.client import fetch
from tests.kit.ports import Ports

START_S = 40.0
"""Longest wait for readiness: the test machines are small and shared."""
STOP_S = 40.0


class PortwayFailed(AssertionError):
    """It ended, or did not become ready; the message holds the end of its log."""


@final
class Portway:
    """One `portway run`, in a folder of its own. `files` is what it reads."""

    def __init__(self, folder: Path, ports: Ports, arguments: Sequence[str] = ()) -> None:
        self.folder = folder
        self.files = folder / "files"
        self.files.mkdir(parents=True, exist_ok=True)
        self.http_port = ports.take()
        self.https_port = ports.take()
        self.admin_port = ports.take()
        self.log = folder / "portway.log"
        self.arguments = tuple(arguments)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def write(self, name: str, text: str) -> None:
        """Put a file there as editors and `kubectl` users do: written beside it, then renamed."""
        path = self.files / name
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(text)
        temporary.replace(path)

    def remove(self, name: str) -> None:
        (self.files / name).unlink()

    async def start(self, *, ready: bool = True) -> None:
        """Start it; with `ready` wait until requests are served as declared."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PORTWAY_")}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "portway", "run", "-f", str(self.files)),
                *("--bind-address", "127.0.0.1", "--state-dir", str(self.folder / "state")),
                *("--http-port", str(self.http_port), "--https-port", str(self.https_port)),
                *("--admin-address", f"127.0.0.1:{self.admin_port}", "--log-format", "json", "--concurrency", "2"),
                *self.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        if ready:
            await self.wait_ready()

    async def wait_ready(self) -> None:
        await self.until(self._is_ready, "ready", seconds=START_S)

    async def _is_ready(self) -> bool:
        if self._process is not None and self._process.returncode is not None:
            raise PortwayFailed(f"portway ended with {self._process.returncode}:\n{self.log_end()}")
        return (await self.admin("/readyz")).status == 200

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str, *, seconds: float = 10.0) -> float:
        """Ask until the condition holds; returns how long it took in seconds."""
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            if await condition():
                return time.monotonic() - begin
            await asyncio.sleep(0.002)
        raise PortwayFailed(f"not {what} after {seconds:g} s:\n{self.log_end()}")

    async def admin(self, path: str) -> Answer:
        return await fetch(f"http://127.0.0.1:{self.admin_port}{path}", seconds=20)

    async def status(self) -> Mapping[str, object]:
        answer = await self.admin("/api/v1/status")
        return msgspec.json.decode(answer.body, type=dict[str, object])

    async def get(self, url: str, **more: object) -> Answer:
        """A request for an Ingress host; the URL names host and path only."""
        scheme, _, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        port = self.https_port if scheme == "https" else self.http_port
        return await fetch(f"{scheme}://{host}:{port}{slash}{path}", **more)  # type: ignore[arg-type]  # handed on

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_S):
            return await self._process.wait()

    async def ended(self) -> int:
        """Wait until it has ended by itself; returns the exit code."""
        assert self._process is not None
        async with asyncio.timeout(STOP_S):
            return await self._process.wait()

    async def kill(self) -> None:
        """SIGKILL to Portway; its Envoy lives on."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    def log_end(self, lines: int = 40) -> str:
        """The last lines of its log, without those of the access log."""
        every = self.log.read_text(errors="replace").splitlines()
        return "\n".join([line for line in every if '"event"' in line or not line.startswith("{")][-lines:])

    async def close(self) -> None:
        """End it and, where it was killed, the Envoy that it left."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(TimeoutError):
                await self.stop()
            if self._process.returncode is None:
                await self.kill()
        for pid in self.envoys():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def envoys(self) -> list[int]:
        """Process ids of the Envoys that run in this one's folder."""
        found: list[int] = []
        state = str(self.folder / "state")
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if (entry / "cwd").readlink().as_posix().startswith(state):
                        found.append(int(entry.name))
        return found


@asynccontextmanager
async def portway(
    folder: Path, files: Mapping[str, str], *arguments: str, ready: bool = True
) -> AsyncIterator[Portway]:
    """A running Portway that serves these files until the block ends."""
    with Ports() as ports:
        running = Portway(folder, ports, arguments)
        for name, text in files.items():
            running.write(name, text)
        try:
            await running.start(ready=ready)
            yield running
        finally:
            await running.close()
