"""What containers write, with the time of its arrival, as `kubectl logs` wants it."""

import asyncio
import bisect
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import final

_PIPE_BYTES = 1 << 20
"""Room between a busy container and us; the largest that the kernel gives without further rights."""

_CHUNK_BYTES = 1 << 16


@final
class ContainerLog:
    """The output of one container from its start to its end.

    Read in chunks as they come, each with one time: an access log of thousands of lines a second costs next to
    nothing. Who asks gets everything that was written until then, also what still waits in the pipe.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._times: list[float] = []
        self._offsets: list[int] = []
        self._size = 0
        self._file = path.open("wb", buffering=0)
        self._news = asyncio.Event()
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.fcntl(self._reader, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        os.set_blocking(self.writer, True)
        self.is_open = True
        asyncio.get_running_loop().add_reader(self._reader, self._receive)

    def started(self) -> None:
        """The container has the writing end now; with its last process the log is at its end."""
        os.close(self.writer)

    def close(self) -> None:
        """Take what is left. A process that outlived the container writes into nothing."""
        self._receive()
        if self.is_open:
            self._end()

    def since(self, moment: float) -> int:
        """Where the first line begins that arrived at or after a moment (seconds since 1970)."""
        self._receive()
        number = bisect.bisect_left(self._times, moment)
        if number == len(self._times):
            return self._size
        offset = self._offsets[number]
        if offset == 0 or self.read(offset - 1, offset) == b"\n":
            return offset
        # The chunk before ended in the middle of a line, which is thus older.
        end = self.read(offset).find(b"\n")
        return self._size if end < 0 else offset + end + 1

    def tail(self, lines: int, start: int) -> int:
        """Where the last lines begin, but not before `start`."""
        text = self.read(start)
        place = len(text)
        if text.endswith(b"\n"):
            place -= 1
        for _ in range(lines):
            place = text.rfind(b"\n", 0, max(place, 0))
            if place < 0:
                return start
        return start + place + 1 if lines else self._size

    def read(self, start: int, end: int | None = None) -> bytes:
        """The bytes between two places, by default until now."""
        self._receive()
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(self._size - start if end is None else end - start)

    def read_stamped(self, start: int) -> bytes:
        """As `read`, with the time of arrival before each line."""
        stamped = []
        for line in self.read(start).splitlines(keepends=True):
            number = bisect.bisect_right(self._offsets, start) - 1
            moment = datetime.fromtimestamp(self._times[number], UTC)
            stamped.append(f"{moment.isoformat()[:26]}Z ".encode() + line)
            start += len(line)
        return b"".join(stamped)

    async def follow(self, start: int) -> AsyncIterator[bytes]:
        """Everything from a place on, as it comes, until the container has ended."""
        while True:
            text = self.read(start)
            start += len(text)
            if text:
                yield text
            if not self.is_open:
                return
            news = self._news
            if self._size == start:
                await news.wait()

    def _receive(self) -> None:
        while self.is_open:
            try:
                chunk = os.read(self._reader, _CHUNK_BYTES)
            except BlockingIOError:
                break
            if not chunk:
                self._end()
                break
            self._times.append(datetime.now(UTC).timestamp())
            self._offsets.append(self._size)
            self._file.write(chunk)
            self._size += len(chunk)
            self._tell()

    def _end(self) -> None:
        self.is_open = False
        with contextlib.suppress(RuntimeError):  # the loop may be closed already
            asyncio.get_running_loop().remove_reader(self._reader)
        os.close(self._reader)
        self._file.close()
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
