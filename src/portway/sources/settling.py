"""When is a changed file worth reading? Pure: events and times in, due paths out.

    event                         then
    ----------------------------  ------------------------------------------------------------------------------------
    closed after writing, moved   read at once: its writer says that it is whole
    created, modified             its writer is at work: wait for the close, at most `WRITER_SILENCE` after the last
    write deleted, moved away           wait `REAPPEARANCE`: editors and git delete, then create; objects must not blink
    moved within what we follow   old and new path at once: its objects change their place in one change set
    read, but broken or empty     look again after `GRACE`: the writer may be between two writes

Times are seconds of a monotonic clock.
"""

from enum import StrEnum
from typing import Final, final

import msgspec

WRITER_SILENCE: Final = 2.0
"""A writer that neither writes nor closes for so long is taken as done (it may keep the file open for ever)."""
REAPPEARANCE: Final = 0.2
"""vim and git need under 10 ms between removing a file and creating it again; a slow disk gets twenty times that."""
YOUTH: Final = 0.1
"""How long a file that was found without an event is left to its writer; if there is one, events follow."""
GRACE: Final = 0.3
"""How long a file that does not parse, or is suddenly empty, may stay so before it counts."""


class Why(StrEnum):
    """What a path waits for."""

    WHOLE = "whole"
    """Nothing: read it."""
    WRITER = "writer"
    GONE = "gone"
    GRACE = "grace"


class _Waiting(msgspec.Struct, frozen=True, gc=False):
    until: float
    why: Why


@final
class Settling:
    """Paths that changed, until they are worth reading. At most one entry a path, so it never grows past the tree."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def whole(self, path: str, now: float) -> None:
        """The path can be read (or is known to be gone)."""
        self._waiting[path] = _Waiting(now, Why.WHOLE)

    def being_written(self, path: str, now: float) -> None:
        """Somebody writes to it."""
        self._waiting[path] = _Waiting(now + WRITER_SILENCE, Why.WRITER)

    def gone(self, path: str, now: float) -> None:
        """It is not there any more, perhaps for a moment only."""
        self._waiting[path] = _Waiting(now + REAPPEARANCE, Why.GONE)

    def found(self, path: str, now: float) -> None:
        """It was seen by looking, without an event, to differ. Says nothing about a writer at work."""
        self._waiting.setdefault(path, _Waiting(now, Why.WHOLE))

    def young(self, path: str, now: float) -> None:
        """As `found`, and it changed so lately that a writer may be at work."""
        self._waiting.setdefault(path, _Waiting(now + YOUTH, Why.WHOLE))

    def missing(self, path: str, now: float) -> None:
        """It was seen by looking, without an event, to be gone."""
        self._waiting.setdefault(path, _Waiting(now + REAPPEARANCE, Why.GONE))

    def suspicious(self, path: str, now: float) -> None:
        """It was read and looks half-written."""
        self._waiting.setdefault(path, _Waiting(now + GRACE, Why.GRACE))

    def next_due(self) -> float | None:
        """When the first of them is due; None if none waits."""
        return min((waiting.until for waiting in self._waiting.values()), default=None)

    def take_due(self, now: float) -> dict[str, Why]:
        """Those that are due, sorted by path; they wait no longer."""
        due = {path: waiting.why for path, waiting in sorted(self._waiting.items()) if waiting.until <= now}
        for path in due:
            del self._waiting[path]
        return due
