"""Linux calls that Python 3.11's standard library lacks: namespaces, mounts, the parent-death signal.

All of them act on the calling thread (namespaces) or process. They raise `OSError` as the standard library does.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
CLONE_NEWUTS = 0x04000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Leave the shared namespaces of these kinds for fresh ones."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def enter(namespace: int, kind: int = 0) -> None:
    """Move the calling thread into the namespace of this file descriptor. `kind` 0: whatever it is."""
    _check(_libc.setns(ctypes.c_int(namespace), ctypes.c_int(kind)), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    _check(
        _libc.mount(
            os.fsencode(source), os.fsencode(target), os.fsencode(kind), ctypes.c_ulong(flags), os.fsencode(data)
        ),
        f"mount {source} on {target}",
    )


def bind(source: str, target: str, *, recursive: bool = False, read_only: bool = False) -> None:
    """Show a file or folder at a second place."""
    mount(source, target, flags=MS_BIND | (MS_REC if recursive else 0))
    if read_only:
        mount("", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def make_mounts_private() -> None:
    """After `unshare(CLONE_NEWNS)`: what is mounted from here on stays unseen outside."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this signal to us when the thread that started us ends. Undone by a change of user."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal_number), 0, 0, 0), "prctl")


def new_network_namespace() -> int:
    """A file descriptor of a fresh network namespace. It lives as long as the descriptor or a process in it does.

    Only for a process with one thread: it goes there and back.
    """
    home = open_namespace("net")
    try:
        unshare(CLONE_NEWNET)
        made = open_namespace("net")
        enter(home, CLONE_NEWNET)
    finally:
        os.close(home)
    return made


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Be in another network namespace for a moment: sockets made there stay there."""
    home = open_namespace("net")
    enter(namespace, CLONE_NEWNET)
    try:
        yield
    finally:
        enter(home, CLONE_NEWNET)
        os.close(home)


def open_namespace(kind: str, pid: str | int = "thread-self") -> int:
    """A file descriptor of a namespace (`net`, `mnt`) of a process, by default of the calling thread."""
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


def mount_points() -> tuple[str, ...]:
    """Where something is mounted in our mount namespace, parents before children."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    # Field 5, with blanks written as octal escapes: proc(5).
    return tuple(sorted({line.split()[4].encode().decode("unicode_escape") for line in lines}))


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
