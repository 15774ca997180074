"""Whoever reads from a writer that never ends can be stopped all the same."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sources.test_files import service

PROGRAM = """\
import asyncio, signal, sys
from portway.sources.files import FileSource

async def read() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    async for change in FileSource(sys.argv[1:], follow=False).changes():
        print(*(stored.key.name for stored in change.changed), "synced" * change.synced, flush=True)

asyncio.run(read())
"""


MORE_THAN_A_PIPE_HOLDS = 200_000


def start(path: str, stdin: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", PROGRAM, path]
    return subprocess.Popen(arguments, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("path", ["-", "/dev/stdin"])
def test_a_stop_does_not_wait_for_the_end_of_a_pipe(path: str) -> None:
    read_end, write_end = os.pipe()
    with start(path, read_end) as process:
        os.write(write_end, b"#" * MORE_THAN_A_PIPE_HOLDS)  # returns when it is being read
        process.send_signal(signal.SIGTERM)
        try:
            _, said = process.communicate(timeout=10)
        finally:
            os.close(write_end)
            os.close(read_end)
    assert said.splitlines()[-1:] == ["asyncio.exceptions.CancelledError"]


@pytest.mark.parametrize("path", ["-", "/dev/stdin"])
def test_a_regular_file_may_be_standard_input(tmp_path: Path, path: str) -> None:
    manifest = tmp_path / "a.yaml"
    manifest.write_text(service("a"))
    with manifest.open("rb") as file, start(path, file.fileno()) as process:
        out, said = process.communicate(timeout=20)
    assert (out.split(), said) == (["a", "shop", "synced"], "")
