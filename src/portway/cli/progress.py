"""One line that says how far long work has come, on a terminal only; it leaves nothing behind.

The cursor waits at the line's beginning, so that a log record that comes in between writes over it.
"""

import shutil
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TextIO, final

PATIENCE = timedelta(milliseconds=500)
"""Work that is done by then shows no line: a flicker helps nobody."""
ERASE = "\r\x1b[K"  # ECMA-48: to the beginning of the line, erase to its end


@final
class ProgressLine:
    """Shows the latest text; does nothing where standard error is no terminal."""

    def __init__(self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._is_terminal = self._stream.isatty()
        self._clock = clock
        self._begin = clock()
        self._shown = ""

    def show(self, text: str) -> None:
        """Show `text` instead of what was shown; empty: nothing is under way any more."""
        if not self._is_terminal or text == self._shown:
            return
        if text and self._clock() - self._begin < PATIENCE.total_seconds():
            return
        width = shutil.get_terminal_size().columns - 1
        self._shown = text
        self._stream.write(f"{ERASE}{text[:width]}\r" if text else ERASE)
        self._stream.flush()
