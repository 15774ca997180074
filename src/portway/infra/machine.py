"""What this machine lets its processes use: processors, memory, descriptors.

Limits of the container count as well as those of the hardware.
Sources: cgroups(7), the kernel's "Control Group v2" and "Memory Resource Controller".
"""

import math
import os
import resource
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
UNLIMITED_BYTES = 1 << 60  # cgroup v1 writes a number near 2^63 for "no limit"
HEAP_SHARE = 0.6
"""Of the memory that we may use, the part for Envoy's heap: Portway, page cache and stacks share the same limit."""


def processors(cgroup: Path = CGROUP) -> int:
    """How many processors this process may keep busy; at least 1. Affinity and CPU quota count."""
    allowed = len(os.sched_getaffinity(0))
    quota = _cpu_quota(cgroup)
    return max(1, min(allowed, math.ceil(quota)) if quota is not None else allowed)


def memory_limit_bytes(cgroup: Path = CGROUP) -> int:
    """What the processes of this container may use together; without a limit all of the machine's memory."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [
        int(text)
        for path in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes")
        if (text := _read(path)).isdigit()
    ]
    return min([physical, *(limit for limit in limits if limit < UNLIMITED_BYTES)])


def default_heap_bytes(proxies: int = 1, cgroup: Path = CGROUP) -> int:
    """`BootstrapSettings.max_heap_bytes` for each of so many Envoys on this machine, in whole MiB."""
    return int(memory_limit_bytes(cgroup) * HEAP_SHARE / proxies) >> 20 << 20


def default_max_connections(wished: int) -> int:
    """`BootstrapSettings.max_connections`: `wished`, or fewer where descriptors do not last for both sides of each."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return wished if hard == resource.RLIM_INFINITY else min(wished, max(100, (hard - 1_000) // 2))


def _cpu_quota(cgroup: Path) -> float | None:
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    if not quota:
        quota = _read(cgroup / "cpu" / "cpu.cfs_quota_us")
        period = _read(cgroup / "cpu" / "cpu.cfs_period_us")
    # "max" and -1 mean none.
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # another cgroup version, or none
        return ""
