"""How long it takes from `portway run` to all routes served, and where the time goes.

One plain route, Service and EndpointSlice for each host. The timeline is read from Portway's log: the process with its
imports up to its first line, reading and compiling up to "configuration compiled" (Envoy starts beside that), sending
up to the last response, then Envoy. Beside it, alone and in this process: reading the files, and compiling them. Run:

    python -m bench.cold_start [--hosts N ...] [--rounds N] [--per-file N ...]
"""

import argparse
import asyncio
import gc
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from bench.report import machine, median, table, title
from bench.serving import Serving, serving
from bench.worlds import files
from portway.app.collector import expect_growth
from portway.app.compiler import make_engine
from portway.app.fallback import make_fallback_certificate
from portway.settings import Edge
from portway.sources.files import FileSource
from tests.kit.backends import BackendSpec, backend_process
from tests.kit.ports import Ports

SIZES = (5_000, 20_000)
GOAL_SECONDS = 4.0
GOAL_HOSTS = 5_000
LINEAR = 1.25
"""Seconds a host may be so many times those of the smallest size and still count as linear."""


class Line(msgspec.Struct, frozen=True):
    """The fields of Portway's log that count here."""

    timestamp: datetime
    event: str


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """One start, in seconds; the parts follow one another."""

    total: float
    process: float
    """Interpreter and imports."""
    compiled: float
    """Reading and compiling, Envoy starting beside it."""
    sent: float
    """Until the last response that came before all was served."""
    envoy: float
    """What is left."""


class Alone(msgspec.Struct, frozen=True):
    """The parts by themselves, in seconds."""

    read: float
    compiled: float


def timeline(run: Serving) -> Start:
    """The parts of a start, by the log."""
    decoder = msgspec.json.Decoder(Line)
    texts = run.portway.log.read_bytes().splitlines()
    lines = [decoder.decode(text) for text in texts if text.startswith(b"{")]
    at = {line.event: line.timestamp.timestamp() for line in lines if line.timestamp.timestamp() <= run.served}
    first = lines[0].timestamp.timestamp()
    compiled, sent = at["configuration compiled"], at["response sent"]
    return Start(
        total=run.served - run.started,
        process=first - run.started,
        compiled=compiled - first,
        sent=sent - compiled,
        envoy=run.served - sent,
    )


async def alone(declared: Mapping[str, str]) -> Alone:
    """Read and compile in this process."""
    with tempfile.TemporaryDirectory(prefix="portway-bench-") as name:
        for file, text in declared.items():
            (Path(name) / file).write_text(text)
        engine = make_engine(Edge(access_log=""), make_fallback_certificate())
        gc.collect()
        expect_growth()
        started = time.perf_counter()
        found = [change async for change in FileSource([name], follow=False).changes()]
        read = time.perf_counter()
        for change in found:
            engine.apply(change)
        engine.settle()
        return Alone(read - started, time.perf_counter() - read)


async def measure(hosts: int, per_file: int, rounds: int, backend: int) -> tuple[list[Start], Alone]:
    """So many starts, each from nothing."""
    starts: list[Start] = []
    with Ports() as ports:
        port = ports.take()
        declared = files(hosts, backend, port, per_file=per_file)
        for _ in range(rounds):
            async with serving(declared, port, hosts) as running:
                starts.append(timeline(running))
        return starts, await alone(declared)


async def run(sizes: Sequence[int], layouts: Sequence[int], rounds: int) -> None:
    """Measure and print."""
    rows: list[tuple[object, ...]] = []
    per_host: dict[int, float] = {}
    async with backend_process(BackendSpec(name="a")) as backends:
        for hosts in sizes:
            for per_file in layouts:
                starts, apart = await measure(hosts, per_file, rounds, backends["a"].port)
                total = median(start.total for start in starts)
                smallest = per_host.setdefault(per_file, total / hosts)
                rows.append(
                    (
                        *(hosts, per_file, rounds, total, max(start.total for start in starts)),
                        *(median(getattr(start, part) for start in starts) for part in PARTS),
                        *(apart.read, apart.compiled, total / hosts * 1000, _verdict(hosts, total, smallest)),
                    )
                )
    title("Cold start: seconds from `portway run` to all routes served")
    head = ["hosts", "routes a file", "starts", "median", "longest", "process", "read and compile", "send", "Envoy"]
    table([*head, "alone: read", "alone: compile", "ms a host", "verdict"], rows)


PARTS = ("process", "compiled", "sent", "envoy")


def _verdict(hosts: int, total: float, smallest: float) -> str:
    if hosts == GOAL_HOSTS:
        return "reached" if total <= GOAL_SECONDS else f"> {GOAL_SECONDS:g} s"
    return "linear" if total / hosts <= LINEAR * smallest else f"{total / hosts / smallest:.2f} x as long a host"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--per-file", type=int, nargs="*", default=[1, 100])
    given = parser.parse_args()
    print(machine())
    asyncio.run(run(given.hosts, given.per_file, given.rounds))


if __name__ == "__main__":
    main()
