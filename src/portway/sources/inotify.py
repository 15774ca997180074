"""The kernel's file notifications (inotify(7)), as asyncio reads them.

A thin binding by ctypes: four system calls and one struct. Libraries exist; `watchfiles`, the best kept, polls its
queue every `step` milliseconds in a thread (so it trades idle CPU for latency) and folds what we need to tell apart: a
file that was closed after writing, and one that is still being written. See `docs/design/file-source.md`.
"""

import asyncio
import ctypes
import os
import struct
from collections.abc import Iterator
from enum import IntFlag
from typing import Final, Self, final

import msgspec


class Mask(IntFlag):
    """Event bits, `<linux/inotify.h>`."""

    MODIFY = 0x2
    ATTRIB = 0x4
    CLOSE_WRITE = 0x8
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800
    UNMOUNT = 0x2000
    OVERFLOW = 0x4000
    IGNORED = 0x8000
    ONLYDIR = 0x01000000
    ISDIR = 0x40000000


FOLDER_MASK: Final = (
    Mask.MODIFY
    | Mask.ATTRIB
    | Mask.CLOSE_WRITE
    | Mask.MOVED_FROM
    | Mask.MOVED_TO
    | Mask.CREATE
    | Mask.DELETE
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
    | Mask.ONLYDIR
)

_HEADER: Final = struct.Struct("iIII")
_BUFFER_BYTES: Final = 256 * 1024


class FileEvent(msgspec.Struct, frozen=True, gc=False):
    """One notification."""

    watch: int
    """Which folder, as `add` returned it; -1 for `OVERFLOW`."""
    mask: int
    cookie: int
    """The same for both halves of a rename; else 0."""
    name: str
    """Of the entry in the folder; empty if the event is about the folder itself."""


@final
class Inotify:
    """An inotify instance. Belongs to one event loop; `close` it.

    Raises:
        OSError: there is no inotify, or the user has no more instances (`fs.inotify.max_user_instances`).
    """

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            self._add_watch = libc.inotify_add_watch
            self._rm_watch = libc.inotify_rm_watch
            init = libc.inotify_init1
        except AttributeError as error:
            raise OSError("this system has no inotify") from error
        self._add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
        self._rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)
        self._fd: int = init(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _last_error("inotify")
        self._readable = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._is_listening = False
        self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give everything back to the kernel."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def add(self, folder: str) -> int:
        """Watch a folder; again for the same folder gives the same number. Thread-safe.

        Raises:
            OSError: it is not there, no folder, not readable, or the user's watches are used up (`ENOSPC`).
        """
        watch: int = self._add_watch(self._fd, os.fsencode(folder), int(FOLDER_MASK))
        if watch < 0:
            raise _last_error(folder)
        return watch

    def remove(self, watch: int) -> None:
        """Stop watching. A watch that is gone already is no error: the kernel removes those of deleted folders."""
        self._rm_watch(self._fd, watch)

    def _listen(self) -> None:
        if not self._is_listening:
            self._is_listening = True
            self._loop.add_reader(self._fd, self._wake)

    def _wake(self) -> None:
        # Until somebody reads, the descriptor stays readable: listening on would keep the loop spinning.
        self._loop.remove_reader(self._fd)
        self._is_listening = False
        self._readable.set()

    async def wait(self) -> None:
        """Return when there is something to read."""
        await self._readable.wait()

    def read(self) -> list[FileEvent]:
        """All that is there now, without waiting."""
        self._readable.clear()
        self._listen()
        events: list[FileEvent] = []
        while True:
            try:
                data = os.read(self._fd, _BUFFER_BYTES)
            except BlockingIOError:
                return events
            events.extend(_decode(data))


def _decode(data: bytes) -> Iterator[FileEvent]:
    position = 0
    while position < len(data):
        watch, mask, cookie, length = _HEADER.unpack_from(data, position)
        position += _HEADER.size
        name = data[position : position + length].rstrip(b"\0")
        position += length
        yield FileEvent(watch, mask, cookie, os.fsdecode(name))


def _last_error(subject: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), subject)
