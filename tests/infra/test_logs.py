"""Following files that others write, rename and truncate; and what becomes of Envoy's lines."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from portway.infra import logs
from portway.infra.logs import LogFollower, LogRepeater, LogSettings, parse_line


class Writer:
    """Writes lines as Envoy does: keeps the file open until it is told to open it anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reopened = 0
        self._file = path.open("ab", buffering=0)

    def write(self, text: str) -> None:
        self._file.write(text.encode())

    def reopen(self) -> None:
        self._file.close()
        self._file = self.path.open("ab", buffering=0)
        self.reopened += 1

    def close(self) -> None:
        self._file.close()


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "POLL_S", 0.005)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextlib.asynccontextmanager
async def following(path: Path, settings: LogSettings, writer: Writer) -> AsyncIterator[list[str]]:
    seen: list[str] = []
    follower = LogFollower(
        path, lambda lines: seen.extend(lines.decode().splitlines()), writer.reopen, settings=settings
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(follower.run())
        try:
            yield seen
        finally:
            task.cancel()
            writer.close()


async def seen_all(seen: list[str], expected: list[str]) -> None:
    async with asyncio.timeout(5):
        while len(seen) < len(expected):  # noqa: ASYNC110 - the follower polls, so do we
            await asyncio.sleep(0.005)
    assert seen == expected


async def test_starts_at_the_end_and_delivers_whole_lines(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "x.log")
    writer.write("before\n")
    async with following(writer.path, LogSettings(), writer) as seen:
        writer.write("one\ntw")
        await seen_all(seen, ["one"])
        writer.write("o\n")
        await seen_all(seen, ["one", "two"])


async def test_file_that_appears_later_is_read_from_its_start(tmp_path: Path) -> None:
    other = Writer(tmp_path / "other.log")
    async with following(tmp_path / "x.log", LogSettings(), other) as seen:
        await asyncio.sleep(0.02)
        (tmp_path / "x.log").write_text("one\n")
        await seen_all(seen, ["one"])


async def test_rotates_by_size_and_loses_no_line(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "x.log")
    expected = []
    async with following(writer.path, LogSettings(max_bytes=300, kept=2), writer) as seen:
        for number in range(200):
            line = f"line {number:04}"
            expected.append(line)
            writer.write(f"{line}\n")
            await asyncio.sleep(0.001)
        await seen_all(seen, expected)
    assert writer.reopened >= 3
    assert names(tmp_path) == ["x.log", "x.log.1", "x.log.2"]


async def test_late_lines_in_a_renamed_file_are_read(tmp_path: Path) -> None:
    """Two Envoys write during a hot restart, and one opens the new file later than the other."""
    writer = Writer(tmp_path / "x.log")
    late = writer.path.open("ab", buffering=0)
    with late:
        async with following(writer.path, LogSettings(max_bytes=10), writer) as seen:
            writer.write("more than ten bytes\n")
            await seen_all(seen, ["more than ten bytes"])
            async with asyncio.timeout(5):
                while not writer.reopened:  # noqa: ASYNC110 - see above
                    await asyncio.sleep(0.001)
            late.write(b"late\n")
            await seen_all(seen, ["more than ten bytes", "late"])


async def test_truncated_by_somebody(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "x.log")
    async with following(writer.path, LogSettings(), writer) as seen:
        writer.write("a long line before\n")
        await seen_all(seen, ["a long line before"])
        with writer.path.open("r+b") as file:
            file.truncate(0)
        writer.write("after\n")
        await seen_all(seen, ["a long line before", "after"])


LINES = {
    '1795263273.090\t15556\twarning\tconfig\tgRPC config: \\"x\\" \\n rejected': (
        logging.WARNING,
        "config",
        'gRPC config: "x" \n rejected',
    ),
    "1795263273.090\t7\tcritical\tmain\tstops": (logging.CRITICAL, "main", "stops"),
    "1795263273.090\t7\ttrace\tmain\tbad \\escape": (logging.DEBUG, "main", "bad \\escape"),
    "#0: main [0x55]": (logging.ERROR, "", "#0: main [0x55]"),
}


@pytest.mark.parametrize("line", LINES)
def test_parse_line(line: str) -> None:
    record = parse_line(line)
    assert (record.level, record.component, record.text) == LINES[line]


def test_what_a_proxy_says_when_it_is_told_to_end_is_no_warning() -> None:
    def line(pid: int, level: str, text: str) -> bytes:
        return f"1795263273.090\t{pid}\t{level}\tmain\t{text}\n".encode()

    repeat = LogRepeater()
    with capture_logs() as records:
        repeat(line(7, "warning", "before") + line(7, "warning", "caught ENVOY_SIGTERM"))
        repeat(line(7, "warning", "stream closed") + line(7, "critical", "trouble") + line(8, "warning", "another"))
    assert [(record["text"], record["log_level"]) for record in records] == [
        ("before", "warning"),
        ("caught ENVOY_SIGTERM", "debug"),
        ("stream closed", "debug"),
        ("trouble", "critical"),
        ("another", "warning"),
    ]
