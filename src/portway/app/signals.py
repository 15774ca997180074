"""What signals mean to a running Portway."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger(__name__)


@contextmanager
def ending_signals(stop: asyncio.Event) -> Iterator[None]:
    """SIGTERM and SIGINT end Portway; so does SIGHUP when its terminal goes. A daemon that gets that is meant to read
    its files again, which happens by itself: to end would be the opposite of what was asked for.

    Those that come when nothing is left but the end of the process end it at once, except where it still has to say
    why it failed."""
    loop = asyncio.get_running_loop()
    handled = [signal.SIGTERM, signal.SIGINT]
    for number in handled:
        loop.add_signal_handler(number, stop.set)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # else nohup(1) wants it ignored
        handled.append(signal.SIGHUP)
        loop.add_signal_handler(signal.SIGHUP, stop.set if _has_terminal() else _note_hang_up)
    failed = True
    try:
        yield
        failed = False
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN if failed else lambda *_: os._exit(0))


def _note_hang_up() -> None:
    log.info("SIGHUP: nothing to do, files and settings are followed by themselves")


def _has_terminal() -> bool:
    """Whether there is a terminal that could hang up."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True
