"""What process 1 of a container owes to the others: whoever lost its parent comes to it, and stays as a zombie until it
asks.

Envoy and what starts it are waited for by those who know them, at once; so whoever is still a zombie at the second look
is nobody's: what `kubectl exec` left, say. Source: wait(2), "a process whose parent has terminated".
"""

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import structlog

LOOK = timedelta(seconds=15)

log: structlog.stdlib.BoundLogger = structlog.get_logger()


async def reap_orphans(look: timedelta = LOOK) -> None:
    """Until cancelled. Of use where this process takes in orphans: as process 1, or as a subreaper."""
    seen: frozenset[int] = frozenset()
    while True:
        await asyncio.sleep(look.total_seconds())
        zombies = _zombies()
        for pid in zombies & seen:
            _reap(pid)
        seen = zombies


def _zombies() -> frozenset[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # proc_pid_stat(5): the name in brackets may hold anything, behind it stand state and parent.
                state, parent = (entry / "stat").read_bytes().rpartition(b")")[2].split()[:2]
            except OSError:
                continue
            if state == b"Z" and int(parent) == os.getpid():
                found.add(int(entry.name))
    return frozenset(found)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
    log.debug("orphan reaped", pid=pid)
