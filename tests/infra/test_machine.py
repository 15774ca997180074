"""Limits as containers write them."""

import os
import resource
from pathlib import Path

import pytest

from portway.infra.machine import default_heap_bytes, default_max_connections, memory_limit_bytes, processors

PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
ALLOWED = len(os.sched_getaffinity(0))

LIMITS = {
    "none": ({}, PHYSICAL, ALLOWED),
    "version 2": ({"memory.max": "268435456", "cpu.max": "50000 100000"}, 268435456, 1),
    "version 2, unlimited": ({"memory.max": "max", "cpu.max": "max 100000"}, PHYSICAL, ALLOWED),
    "version 1": (
        {
            "memory/memory.limit_in_bytes": "536870912",
            "cpu/cpu.cfs_quota_us": "100000",
            "cpu/cpu.cfs_period_us": "100000",
        },
        536870912,
        1,
    ),
    "version 1, unlimited": (
        {
            "memory/memory.limit_in_bytes": "9223372036854771712",
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
        },
        PHYSICAL,
        ALLOWED,
    ),
}


@pytest.mark.parametrize("case", LIMITS)
def test_limits(case: str, tmp_path: Path) -> None:
    files, memory, cpus = LIMITS[case]
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{text}\n")
    assert memory_limit_bytes(tmp_path) == memory
    assert processors(tmp_path) == cpus
    assert 0 < default_heap_bytes(2, tmp_path) < memory / 2
    assert default_heap_bytes(1, tmp_path) % (1 << 20) == 0


def test_connections_need_descriptors_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert default_max_connections(50_000) == 1548
    assert default_max_connections(60) == 60
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))
    assert default_max_connections(50_000) == 50_000
