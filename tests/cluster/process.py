"""A program of the cluster as a child process: started, watched for its end, killed, paused.

Not `asyncio.subprocess`: on Python 3.11 it watches children with a thread each, and the process that holds the network
namespaces must not have threads, since they do not follow it from one namespace to another. The end of a child is
heard from a pidfd instead.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import final


@final
class Process:
    """A running child, the leader of its own process group. It dies with the process that started it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        output: int,
        environment: Mapping[str, str] | None = None,
        working_directory: str | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """Start it.

        Args:
            command: the program and its arguments; without a slash it is looked for in `PATH` of the environment.
            output: file descriptor of both its output streams; stays the caller's.
            environment: all of it; `None`: as ours.
            working_directory: of the program, after `prepare`; `None`: as ours.
            prepare: runs in the child, before the program. Only for a caller without threads. What goes wrong in it is
                written to the output.

        Raises:
            OSError, subprocess.SubprocessError: it cannot be started.
        """
        self._descriptor = -1
        self._popen = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if environment is None else dict(environment),
            cwd=working_directory,
            start_new_session=True,
            preexec_fn=None if prepare is None else _told(prepare),
        )
        self.pid = self._popen.pid
        self._descriptor = os.pidfd_open(self.pid)

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; `None` while it runs."""
        return self._popen.poll()

    async def wait(self) -> int:
        """Until it has ended; its exit code. May be awaited by several, in any event loop."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        watched = os.dup(self._descriptor)
        loop.add_reader(watched, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(watched)
            os.close(watched)
        return self._popen.wait()

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send it a signal, or its whole process group. Nothing happens when it has ended."""
        if self._popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.pid, number)

    async def kill(self) -> None:
        """SIGKILL to its process group, and wait. It may have ended before."""
        self.signal(signal.SIGKILL, group=True)
        await self.wait()

    async def stop(self, seconds: float) -> None:
        """SIGTERM, and after these seconds SIGKILL. It may have ended before."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)  # a paused one hears nothing else
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wait()
        await self.kill()

    def leave(self) -> None:
        """Let it live on after us, without a word."""
        # Else `subprocess` warns of a child that nobody waited for.
        self._popen.returncode = self._popen.returncode or 0

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _told(prepare: Callable[[], None]) -> Callable[[], None]:
    def tell() -> None:
        try:
            prepare()
        except BaseException:
            # `subprocess` only says that something went wrong.
            os.write(2, traceback.format_exc().encode())
            raise

    return tell


def start_logged(command: Sequence[str], log: Path) -> Process:
    """Start a helper program whose output goes to the end of a file, and which does not outlive this process."""
    with log.open("ab") as output:
        return Process(["setpriv", "--pdeathsig", "KILL", "--", *command], output=output.fileno())


def log_end(log: Path, size_bytes: int = 3000) -> str:
    """The last lines of a log, for messages."""
    return log.read_text(errors="replace")[-size_bytes:] if log.exists() else "(no log)"
