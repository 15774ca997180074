"""Reads files whole, or says why not. Blocking; `abandonable` is for whoever may not wait."""

import asyncio
import errno
import io
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import BinaryIO, Final, TypeVar

import msgspec

from portway.sources.problems import Problem
from portway.sources.tree import Fingerprint, fingerprint, unreadable

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
"""20,000 routes with their Services and EndpointSlices are 20 MB. Above, parsing would take more than ten seconds."""


class Missing(msgspec.Struct, frozen=True):
    """There is no such file."""


class Bytes(msgspec.Struct, frozen=True):
    """A file's content."""

    data: bytes
    fingerprint: Fingerprint | None
    """None: it cannot be read again (a pipe)."""
    steady: bool = True
    """It did not change while it was read."""


Content = Bytes | Missing | Problem
T = TypeVar("T")


async def abandonable(read: Callable[[], T]) -> T:
    """Read in a thread that nobody waits for when this is cancelled, at the end of the process neither.

    Not `asyncio.to_thread`: the loop ends only when all threads of its executor have, and whoever writes to a pipe may
    never close it.
    """
    future: Future[T] = Future()

    def run() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(read())
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            future.set_exception(error)

    threading.Thread(target=run, name="read", daemon=True).start()
    return await asyncio.wrap_future(future)


def read_file(path: str) -> Content:
    """Read a file whole.

    A pipe (`-f <(helm template ...)`) is read to its end.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a million times in a load, and Path only wraps it
            before = os.fstat(file.fileno())
            if stat.S_ISFIFO(before.st_mode):
                return read_stream(file)
            if before.st_size > MAX_FILE_BYTES:
                return too_large(before.st_size)
            data = file.read()
            after = os.fstat(file.fileno())
    except OSError as error:
        # A folder under the name of what was read, or was told by an event: no file, and looked into by the watcher.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            return Missing()
        return unreadable(path, error)
    except ValueError as error:  # a NUL in the path
        return Problem(line=0, reason="NotFound", problem=f"not a path: {error}", remedy="correct it")
    mark = fingerprint(after)
    return Bytes(data, mark, fingerprint(before) == mark and len(data) == mark.size)


def read_stream(stream: BinaryIO | io.FileIO) -> Bytes | Problem:
    """Read a pipe or standard input to its end."""
    if isinstance(stream, io.BufferedReader):
        stream = stream.raw  # a thread that waits in a buffer holds its lock, and Python cannot end
    pieces: list[bytes] = []
    total = 0
    while piece := stream.read(1 << 20):
        pieces.append(piece)
        total += len(piece)
        if total > MAX_FILE_BYTES:
            return too_large(total)
    return Bytes(b"".join(pieces), None)


def too_large(size: int) -> Problem:
    limit = MAX_FILE_BYTES >> 20
    return Problem(
        line=0,
        reason="TooLarge",
        problem=f"{size:,} bytes are more than the {limit} MiB that one file may have",
        remedy="split it",
    )
