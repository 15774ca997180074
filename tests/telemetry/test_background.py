"""A reader that does not read: nobody waits for it, and it is told what it missed."""

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from portway.telemetry.background import BackgroundWriter, background_writer

LINE = b"x" * 99 + b"\n"
ROOM = 1_000 * len(LINE)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def read_until(descriptor: int, end: bytes) -> bytes:
    text = b""
    while not text.endswith(end):
        text += os.read(descriptor, 1 << 16)
    return text


def test_what_is_read_comes_whole_and_in_order(pipe: tuple[int, int]) -> None:
    writer = BackgroundWriter(pipe[1])
    for number in range(500):
        writer.write(f"{number}\n".encode())
    text = read_until(pipe[0], b"499\n")
    assert text.split() == [str(number).encode() for number in range(500)]
    assert writer.flush()
    assert writer.statistics().left_out == 0


def test_nobody_waits_for_a_reader_that_does_not_read(pipe: tuple[int, int]) -> None:
    writer = BackgroundWriter(pipe[1], apology=lambda count: f"{count} missing\n".encode(), room_bytes=ROOM)
    for _ in range(5_000):
        writer.write(LINE)
    assert not writer.flush(timedelta(milliseconds=20))
    seen = writer.statistics()
    assert seen.waiting_bytes <= ROOM
    assert seen.left_out >= 5_000 - 1_000 - (1 << 16) // len(LINE) - 1
    taken = 5_000 - seen.left_out
    # The reader is back: it is told what it missed before what comes next. While the pipe was filled there was room
    # again now and then, so it may be told in parts.
    rest = read_until(pipe[0], LINE)
    while (left := writer.statistics()).waiting_bytes:
        rest += os.read(pipe[0], 1 << 16)
        assert left.left_out == seen.left_out
    writer.write(b"next\n")
    rest += read_until(pipe[0], b"next\n")
    assert rest.endswith(b" missing\nnext\n")
    assert sum(map(int, re.findall(rb"(\d+) missing\n", rest))) == seen.left_out
    assert rest.count(LINE) <= taken


def test_a_reader_that_is_gone_ends_nothing(pipe: tuple[int, int]) -> None:
    writer = BackgroundWriter(pipe[1])
    os.close(pipe[0])
    writer.write(LINE)
    assert writer.flush()
    writer.write(LINE)
    assert writer.statistics().left_out == 2


def test_a_stream_that_was_closed_before_the_start_goes_nowhere(pipe: tuple[int, int]) -> None:
    writer = background_writer(None, lambda count: b"")
    writer.write(LINE)
    assert writer.flush()
