"""One Envoy process: how it is started, found again, watched and ended.

It lives longer than we may: it has a session of its own, no pipe to us (a dead reader would block its log) and takes
its files by relative names from its folder. Whoever looks for it later asks the process table: a process that works in
the folder and whose command line reads as ours is ours, and that command line says all about it (`Launch`): nothing is
recorded that could be stale, and process ids cannot be mistaken.

All waiting goes over a pidfd, since these processes are no children of ours (`launcher.py` says why they must not be).
Sources: Envoy docs, "Command line options" and "Hot restart"; pidfd_open(2).
"""

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import final

import msgspec

from portway.infra.binary import EnvoyBinary
from portway.infra.state import APPLICATION_LOG, HOT_RESTART_SOCKET, OUTPUT_LOG, ProxyFolder

# Time as seconds since the epoch, process, level, component, and the message with its line breaks escaped.
LOG_FORMAT = "%E.%e\t%P\t%l\t%n\t%j"

INHERITED = ("PATH", "HOME", "TZ", "TMPDIR")
"""What Envoy gets of our environment; the rest may hold secrets that are none of its business."""

MAX_BASE_ID = 2**31 // 10  # Envoy multiplies it by ten and keeps it in 32 bits
LAUNCHER = (sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py")))
OUTPUT_KEPT_BYTES = 1 << 20


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """The command line of an Envoy; `arguments` and `parse_launch` are inverse."""

    bootstrap: str
    """Name of the bootstrap file, which holds the digest of its content."""
    base_id: int
    """What sets its shared memory apart from that of every other Envoy on the machine; kept over hot restarts."""
    epoch: int = 0
    """How many hot restarts there were before it."""
    concurrency: int
    """Number of worker threads."""
    drain: timedelta
    """Over how long connections are asked to leave, after a hot restart or when their listener goes. Whole seconds."""
    parent_shutdown: timedelta
    """When the predecessor is ended after a hot restart; longer than `drain`. Whole seconds."""
    log_level: str = "warning"

    def arguments(self) -> tuple[str, ...]:
        """All of the command line but the program's path."""
        return (
            *("--config-path", self.bootstrap),
            *("--base-id", str(self.base_id)),
            *("--restart-epoch", str(self.epoch)),
            *("--concurrency", str(self.concurrency)),
            *("--drain-time-s", str(int(self.drain.total_seconds()))),
            *("--parent-shutdown-time-s", str(int(self.parent_shutdown.total_seconds()))),
            *("--log-level", self.log_level),
            *("--log-path", APPLICATION_LOG),
            *("--log-format", LOG_FORMAT),
            # Not in the abstract namespace, Envoy's default: there any local user could send it commands.
            *("--socket-path", HOT_RESTART_SOCKET),
            # Ten seconds is the default: too long for somebody who follows the log.
            *("--file-flush-interval-msec", "250"),
        )

    def is_same_work(self, other: "Launch") -> bool:
        """Whether a process started as `other` may stay where one as `self` is wanted. The log level can be changed."""
        return (self.bootstrap, self.concurrency, self.drain, self.parent_shutdown) == (
            other.bootstrap,
            other.concurrency,
            other.drain,
            other.parent_shutdown,
        )


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How a process ended; both `None` if we are not told, as it is no child of ours."""

    code: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        if self.signal is not None:
            return f"killed by {signal.Signals(self.signal).name}"
        return f"exit code {self.code}" if self.code is not None else "ended"


def parse_launch(arguments: list[str]) -> Launch | None:
    """What a command line (without the program) asks for. `None` if it is none of ours."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=False))
    try:
        launch = Launch(
            bootstrap=options["--config-path"],
            base_id=int(options["--base-id"]),
            epoch=int(options["--restart-epoch"]),
            concurrency=int(options["--concurrency"]),
            drain=timedelta(seconds=int(options["--drain-time-s"])),
            parent_shutdown=timedelta(seconds=int(options["--parent-shutdown-time-s"])),
            log_level=options["--log-level"],
        )
    except (KeyError, ValueError):
        return None
    return launch if launch.arguments() == tuple(arguments) else None


def new_base_id() -> int:
    """A base id that no other Envoy has. Drawn, not counted: processes outside of our sight count as well."""
    return 1 + secrets.randbelow(MAX_BASE_ID - 1)


@final
class EnvoyProcess:
    """A running Envoy. Make it in a running event loop; `close` lets go of it and leaves it running.

    Raises:
        ProcessLookupError: it is gone already.
    """

    def __init__(self, pid: int, launch: Launch, *, adopted: bool, on_exit: Callable[[], None] = lambda: None) -> None:
        self.pid = pid
        self.launch = launch
        self.adopted = adopted
        self.exit: Exit | None = None
        """Set once it has ended."""
        self.on_exit = on_exit
        """Called once, in the event loop, after `exit` was set."""
        self._ended = asyncio.Event()
        self._pidfd = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._end)

    def __repr__(self) -> str:
        return f"EnvoyProcess({self.pid}, epoch {self.launch.epoch})"

    async def wait(self) -> Exit:
        """Until it has ended. Any number of tasks may wait."""
        await self._ended.wait()
        assert self.exit is not None  # noqa: S101 - for the type checker; the event says so
        return self.exit

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens if it has ended. Never reaches another process that got its id."""
        if self._pidfd >= 0 and self.exit is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def close(self) -> None:
        """Stop watching. Idempotent."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _end(self) -> None:
        try:
            # Orphans come to process 1, and in a container that may be us.
            status = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            status = None
        if status is None:
            self.exit = Exit()
        elif status.si_code == os.CLD_EXITED:
            self.exit = Exit(code=status.si_status)
        else:
            self.exit = Exit(signal=status.si_status)
        self.close()
        self._ended.set()
        self.on_exit()


async def start_process(binary: EnvoyBinary, launch: Launch, folder: ProxyFolder) -> EnvoyProcess:
    """Start an Envoy in its folder. A bad bootstrap shows as an early end.

    Raises:
        OSError: no process can be made.
        ProcessLookupError: it was gone at once.
    """
    pid = await asyncio.to_thread(_launch, binary, launch, folder)
    return EnvoyProcess(pid, launch, adopted=False)


def _launch(binary: EnvoyBinary, launch: Launch, folder: ProxyFolder) -> int:
    """Start it by `launcher.py`, so that it is not our child; see there. Returns its process id. Takes 20 ms."""
    output = folder.path / OUTPUT_LOG
    with output.open("ab") as file:
        if file.tell() > OUTPUT_KEPT_BYTES:
            file.truncate(0)
        command = [*LAUNCHER, OUTPUT_LOG, str(binary.path), *launch.arguments()]
        with subprocess.Popen(  # noqa: S603 - our own binary and arguments
            command,
            cwd=folder.path,
            env={name: value for name, value in os.environ.items() if name in INHERITED},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            start_new_session=True,
        ) as launcher:
            if launcher.stdin is None or launcher.stdout is None:
                raise OSError("pipes were asked for")
            answer = launcher.stdout.readline().strip()
            code = launcher.wait()
            if code or not answer.isdigit():
                raise OSError(f"{command[0]} cannot start Envoy: exit code {code}; see {output}")
            with contextlib.suppress(BrokenPipeError):
                launcher.stdin.write(b"\n")
                launcher.stdin.flush()
    return int(answer)


def find_processes(folder: ProxyFolder) -> tuple[EnvoyProcess, ...]:
    """The Envoys that work in this folder, the oldest first; those that drain after a hot restart among them."""
    found = []
    for pid, launch in _candidates(folder.identity()):
        with contextlib.suppress(ProcessLookupError):
            process = EnvoyProcess(pid, launch, adopted=True)
            # Only now is the id held by the pidfd; it may have been another's since we looked.
            if _works_in(pid, folder.identity()) and _launch_of(pid) == launch:
                found.append((_started(pid), process))
            else:
                process.close()
    return tuple(process for _, process in sorted(found, key=lambda entry: entry[0]))


def remove_remains(folder: ProxyFolder) -> None:
    """Take away what ended Envoys left: shared memory and sockets, which Envoy never removes. Only when none runs."""
    for path in folder.path.glob(f"{HOT_RESTART_SOCKET}_*"):
        # Envoy appends its base id times ten, plus the epoch modulo three; the shared memory goes without the epoch.
        digits = path.name.rpartition("_")[2]
        if digits.isdigit():
            memory = f"envoy_shared_memory_{int(digits) // 10 * 10}"
            Path("/dev/shm", memory).unlink(missing_ok=True)  # noqa: S108 - where shm_open(3) keeps it
        path.unlink(missing_ok=True)


def validate(binary: EnvoyBinary, launch: Launch, folder: ProxyFolder) -> str:
    """Why Envoy would not start with this bootstrap, in its own words; empty if it would. Takes 0.2 s and more."""
    run = subprocess.run(  # noqa: S603 - our own binary and arguments
        [str(binary.path), "--mode", "validate", "--config-path", launch.bootstrap, "--log-level", "error"],
        cwd=folder.path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if run.returncode == 0 else (run.stderr or run.stdout).strip()[-1_000:] or f"exit code {run.returncode}"


def _candidates(folder: tuple[int, int]) -> Iterator[tuple[int, Launch]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _works_in(int(entry.name), folder):
            launch = _launch_of(int(entry.name))
            if launch is not None:
                yield int(entry.name), launch


def _works_in(pid: int, folder: tuple[int, int]) -> bool:
    try:
        status = Path(f"/proc/{pid}/cwd").stat()
    except OSError:  # gone, a zombie, or another user's
        return False
    return (status.st_dev, status.st_ino) == folder


def _launch_of(pid: int) -> Launch | None:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    return parse_launch([os.fsdecode(part) for part in command.split(b"\0")[1:-1]])


def _started(pid: int) -> int:
    """Start time in clock ticks since boot: field 22 of proc_pid_stat(5), counted from behind the name in brackets."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except OSError:
        return 0
