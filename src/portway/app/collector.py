"""When Python's cycle collector may run.

Objects here are freed by their reference counts: loading 5,000 routes leaves 652,000 objects and not one cycle that is
garbage. By itself the collector looks at all of them again and again: 0.6 of the 3.1 s in which 5,000 routes are read
and compiled, and up to 15 ms in the midst of a change. So it does not run while a command starts; then it looks at what
is young only, rarely while there is work, and else when nobody waits. What exists when the first configuration is
complete is left out for good: it mostly stays.

What was freed goes back to the system in such moments too, as far as the C library can (glibc; musl does by itself): a
start with 3,000 routes leaves 6 MiB that are never used again.
Figures: CPython 3.11, 2 cores.
"""

import ctypes
import gc
from itertools import count

YOUNG_OBJECTS = 20_000
"""New objects before the collector runs in the midst of work: about 2 ms. CPython's 700 make 1,100 runs of a start with
5,000 routes."""

NEVER = 1_000
"""Runs over the young before one over the middle-aged, and so on: those are for moments without work."""


def expect_growth() -> None:
    """Modules and sources are about to be read: nearly all that is made now stays."""
    gc.disable()


def keep_all() -> None:
    """The first configuration is complete: look at what comes, but not at what exists."""
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, NEVER, NEVER)
    gc.enable()
    _trim()


FULL = 100
"""Moments without work before everything that came since the start is looked at: a cycle that was in use at the first
one has ended by then. Such a look costs what the objects that came since cost, 0.1 s for all of 5,000 routes."""

TRIM = 10
"""Moments without work before free memory goes back: 1 to 3 ms for a heap of 150 MiB."""

_tidied = count(1)


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None


_LIBC = _glibc()


def tidy() -> None:
    """Nobody waits: look at what came since. It costs what was made since the last time, but for every `FULL`th."""
    number = next(_tidied)
    gc.collect(2 if number % FULL == 0 else 1)
    if number % TRIM == 0:
        _trim()


def _trim() -> None:
    if _LIBC is not None:
        _LIBC.malloc_trim(0)
