"""Envoy's log files: followed, passed on, rotated.

Envoy writes to files and not to us, so that it neither waits for nor dies with its reader. We look at the files four
times a second (a notification of each write would cost more than it tells), pass on what is new as whole lines, and
rotate by size: rename, then make every Envoy that may write to the file open it anew (SIGUSR1; it does the same as
`POST /reopen_logs`, but reaches a predecessor too, whose admin interface is shut). Lines written meanwhile are in the
renamed file, which is read to its end. Somebody else's rotation (logrotate, also with copytruncate) is followed alike.

Source: Envoy docs, "Access logging", "Administration interface"; spdlog's patterns for the application log.
"""

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, final

import msgspec
import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger()

POLL_S = 0.25
CHUNK_BYTES = 1 << 16  # a chunk of the application log takes 20 ms to repeat, in which nothing else is done
ROUNDS_AFTER_ROTATION = 8
"""How often an old file is still looked at: Envoy flushes every 250 ms, and one of two may be late."""


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Room that one log file may take: `max_bytes` times `kept` + 1."""

    max_bytes: int = 20 << 20
    kept: int = 3
    """Older files: `envoy.log.1` is the newest of them."""


class LogStatistics(msgspec.Struct, frozen=True, kw_only=True):
    read_bytes: int
    rotations: int


@final
class LogFollower:
    """Reads one file from where it ends now, for ever.

    Args:
        deliver: gets whole lines, several at once, each with its line break. Must not block.
        reopen: makes all writers open the file anew.
        may_rotate: whether they can all do so now; one that is still starting would die of the signal.
    """

    def __init__(
        self,
        path: Path,
        deliver: Callable[[bytes], None],
        reopen: Callable[[], None],
        may_rotate: Callable[[], bool] = lambda: True,
        settings: LogSettings | None = None,
    ) -> None:
        self._path = path
        self._deliver = deliver
        self._reopen = reopen
        self._may_rotate = may_rotate
        self._settings = settings or LogSettings()
        self._read_bytes = self._rotations = 0
        self._rest = b""
        self._old: BinaryIO | None = None
        self._old_rounds = 0
        self._file = self._open()
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def statistics(self) -> LogStatistics:
        return LogStatistics(read_bytes=self._read_bytes, rotations=self._rotations)

    async def run(self) -> None:
        """Follow until cancelled; then what is there already is still delivered.

        What the file system or the reader of the lines refuses is reported once and tried again: a full disk shall not
        end the proxy's supervisor.
        """
        failing = ""
        try:
            while True:
                try:
                    await self._round()
                except OSError as error:
                    if str(error) != failing:
                        failing = str(error)
                        log.error("proxy log cannot be followed", path=str(self._path), error=failing)  # noqa: TRY400
                await asyncio.sleep(POLL_S)
        finally:
            with contextlib.suppress(OSError):
                while self._read_some():
                    pass
            self._close()

    async def _round(self) -> None:
        while self._read_some():  # noqa: ASYNC110 - nothing is waited for
            await asyncio.sleep(0)  # a flood of lines must not hold up the rest of Portway
        self._follow_rename()
        size = os.fstat(self._file.fileno()).st_size if self._file is not None else 0
        if size > self._settings.max_bytes and self._may_rotate():
            self._rotate()

    def _read_some(self) -> bool:
        """Deliver a chunk, of the older file first. False if there is nothing new."""
        for file in (self._old, self._file):
            if file is None:
                continue
            if os.fstat(file.fileno()).st_size < file.tell():
                file.seek(0)  # truncated by somebody
                self._rest = b""
            chunk = file.read(CHUNK_BYTES)
            if chunk:
                self._read_bytes += len(chunk)
                whole, line_break, self._rest = (self._rest + chunk).rpartition(b"\n")
                if whole:
                    self._deliver(whole + line_break)
                return True
        return False

    def _follow_rename(self) -> None:
        """Open the file that is under the path now, if it is another one."""
        if self._old is not None:
            self._old_rounds -= 1
            if self._old_rounds <= 0:
                self._old.close()
                self._old = None
        elif self._file is None:
            self._file = self._open()
        elif not self._is_in_place(self._file):
            successor = self._open()
            if successor is not None:
                self._old, self._old_rounds = self._file, ROUNDS_AFTER_ROTATION
                self._file = successor

    def _is_in_place(self, file: BinaryIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False

    def _rotate(self) -> None:
        """`x` becomes `x.1`, that `x.2` and so on; the last goes."""
        if self._file is None or self._old is not None or not self._is_in_place(self._file):
            return
        kept = self._settings.kept
        for number in range(kept, 0, -1):
            older = self._numbered(number)
            with contextlib.suppress(FileNotFoundError):
                self._numbered(number - 1).replace(older)
        if kept == 0:
            self._path.unlink(missing_ok=True)
        self._rotations += 1
        self._reopen()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path

    def _open(self) -> BinaryIO | None:
        try:
            return self._path.open("rb")
        except FileNotFoundError:
            return None

    def _close(self) -> None:
        for file in (self._old, self._file):
            if file is not None:
                file.close()
        self._old = self._file = None


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One record of Envoy's application log."""

    level: int
    """A level of the standard library's `logging`."""
    component: str
    """Envoy's name for the part that speaks: `config`, `upstream` ... Empty if the line is no record of the log."""
    text: str
    pid: int | None


LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
RECORD = re.compile(r"[\d.]+\t(\d+)\t(\w+)\t([^\t]*)\t(.*)")


def parse_line(line: str) -> LogLine:
    """A line written with `process.LOG_FORMAT`. Any other, say of a stack trace, is an error with the whole line."""
    found = RECORD.fullmatch(line)
    if found is None:
        return LogLine(level=logging.ERROR, component="", text=line, pid=None)
    pid, level, component, text = found.groups()
    with contextlib.suppress(msgspec.DecodeError):  # not escaped as it should be: better as it is than not at all
        text = msgspec.json.decode(f'"{text}"', type=str)
    return LogLine(level=LEVELS.get(level, logging.ERROR), component=component, text=text, pid=int(pid))


FAREWELL = "caught ENVOY_SIGTERM"


@final
class LogRepeater:
    """Passes Envoy's application log on to Portway's, record by record, with its levels.

    But for the warnings of a process that was told to end, that it was and that its streams break: they are what was
    wanted, and if it was not us who told it, the supervisor says so.
    """

    def __init__(self) -> None:
        self._ending: set[int | None] = set()

    def __call__(self, lines: bytes) -> None:
        """Takes whole lines."""
        for line in lines.decode(errors="replace").splitlines():
            record = parse_line(line)
            if record.text == FAREWELL:
                self._ending.add(record.pid)
            expected = record.level == logging.WARNING and record.pid in self._ending
            level = logging.DEBUG if expected else record.level
            if record.text:
                log.log(level, "proxy says", component=record.component, pid=record.pid, text=record.text)
