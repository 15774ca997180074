"""How benchmarks print: rows of figures, each with what it is compared with in the same run."""

import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which this share of the values lies; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else float("nan")


def title(text: str) -> None:
    print(f"\n## {text}\n", flush=True)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A Markdown table, so that the output can stand in docs/benchmarks.md as it is."""
    print(f"| {' | '.join(head)} |")
    print(f"|{'|'.join('---' for _ in head)}|")
    for row in rows:
        print(f"| {' | '.join(_cell(value) for value in row)} |")
    sys.stdout.flush()


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def machine() -> str:
    """The machine on one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return (
        f"{os.cpu_count()} x {model}, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"
    )


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def cpu_seconds(pid: int) -> float:
    """Processor time that the threads of a process have used so far; to the nanosecond, where `stat` counts ticks."""
    used = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            used += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            continue  # it has just ended
    return used / 1e9
