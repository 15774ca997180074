"""Orphans that come to a process which takes them in, as process 1 of a container does."""

import subprocess
import sys

PROGRAM = """
import asyncio, ctypes, os, subprocess
from datetime import timedelta
from pathlib import Path
from portway.infra.reaper import reap_orphans

def children():
    return {int(one) for one in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}

async def main():
    assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
    reaping = asyncio.ensure_future(reap_orphans(timedelta(milliseconds=50)))
    subprocess.run(["sh", "-c", "sleep 0.1 & sleep 0.2 &"], check=True)
    assert len(children()) == 2, "they came to us"
    own = await asyncio.to_thread(subprocess.run, ["sh", "-c", "sleep 0.3; exit 7"])
    while children():
        await asyncio.sleep(0.02)
    print("reaped", own.returncode)
    reaping.cancel()

asyncio.run(main())
"""


def test_orphans_are_reaped_and_own_children_are_left_to_who_waits_for_them() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "reaped 7"
