"""Writes to a file descriptor from a thread of its own, so that whoever reads there, slowly or not at all, holds up
nobody else: a pager that waits, a log collector that hangs.

What does not fit into the room for it is left out and counted; once the reader is back it is told how much that was.
The descriptor is written to directly: a blocked write inside Python's own buffers would keep the interpreter from
ending.
"""

import atexit
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import TextIO, final

import msgspec

ROOM_BYTES = 8 << 20
"""Seconds of the busiest access log."""
LAST_WORDS = timedelta(seconds=1)
"""How long the end of the process waits for the reader."""


class BackgroundStatistics(msgspec.Struct, frozen=True, kw_only=True):
    waiting_bytes: int
    written_bytes: int
    left_out: int
    """Pieces (records, or several lines at once) that found no room."""


@final
class BackgroundWriter:
    """One descriptor. `write` never blocks; the thread starts with the first.

    Args:
        descriptor: written to; not closed.
        apology: what to say to the reader about so many pieces that were left out.
        room_bytes: how much may wait.
    """

    def __init__(
        self,
        descriptor: int,
        *,
        apology: Callable[[int], bytes] = lambda count: b"",
        room_bytes: int = ROOM_BYTES,
    ) -> None:
        self._descriptor = descriptor
        self._apology = apology
        self._room_bytes = room_bytes
        self._changed = threading.Condition()
        self._pieces: deque[bytes] = deque()
        self._waiting_bytes = self._written_bytes = self._left_out = self._unsaid = 0
        self._broken = False
        self._thread: threading.Thread | None = None

    def write(self, piece: bytes) -> None:
        """Hand over whole lines."""
        with self._changed:
            if self._broken or self._waiting_bytes + len(piece) > self._room_bytes:
                self._left_out += 1
                self._unsaid += 1
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"writer {self._descriptor}", daemon=True)
                self._thread.start()
                atexit.register(self.flush)
            if self._unsaid:
                piece = self._apology(self._unsaid) + piece
                self._unsaid = 0
            self._pieces.append(piece)
            self._waiting_bytes += len(piece)
            self._changed.notify_all()

    def flush(self, patience: timedelta = LAST_WORDS) -> bool:
        """Wait until all is written, but not for ever; returns whether it is."""
        end = time.monotonic() + patience.total_seconds()
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting_bytes, max(0.0, end - time.monotonic()))

    def statistics(self) -> BackgroundStatistics:
        with self._changed:
            return BackgroundStatistics(
                waiting_bytes=self._waiting_bytes, written_bytes=self._written_bytes, left_out=self._left_out
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pieces)
                piece = self._pieces.popleft()
            try:
                _write_all(self._descriptor, piece)
            except OSError:  # the reader is gone for good, and there is nobody left to tell
                with self._changed:
                    self._broken = True
                    self._left_out += 1 + len(self._pieces)
                    self._pieces.clear()
                    self._waiting_bytes = 0
                    self._changed.notify_all()
                return
            with self._changed:
                self._waiting_bytes -= len(piece)
                self._written_bytes += len(piece)
                self._changed.notify_all()


def background_writer(stream: TextIO | None, apology: Callable[[int], bytes]) -> BackgroundWriter:
    """For what Python calls a standard stream; `None`, as it says of one that was closed before the start, goes
    nowhere: its number may be some file's by now."""
    descriptor = stream.fileno() if stream is not None else os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    return BackgroundWriter(descriptor, apology=apology)


def _write_all(descriptor: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # somebody made it non-blocking
            select.select((), (descriptor,), ())
