"""The progress line: on terminals only, only where somebody waits, gone at the end."""

import io

from portway.cli.progress import ERASE, ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_waits_replaces_and_erases() -> None:
    terminal, clock = Terminal(), Clock()
    line = ProgressLine(terminal, clock=clock)
    line.show("reading")
    assert terminal.getvalue() == ""  # short work shows nothing
    clock.now = 1.0
    line.show("reading 1")
    line.show("reading 1")
    line.show("reading 2")
    line.show("")
    line.show("")
    assert terminal.getvalue() == f"{ERASE}reading 1\r{ERASE}reading 2\r{ERASE}"


def test_it_never_breaks_the_line() -> None:
    terminal, clock = Terminal(), Clock()
    line = ProgressLine(terminal, clock=clock)
    clock.now = 1.0
    line.show("x" * 10_000)
    assert len(terminal.getvalue()) < 1_000


def test_it_is_silent_where_there_is_no_terminal() -> None:
    stream, clock = io.StringIO(), Clock()
    line = ProgressLine(stream, clock=clock)
    clock.now = 1.0
    line.show("reading")
    assert stream.getvalue() == ""
