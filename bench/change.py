"""How long a change takes, from the file's write to the first changed answer that a client sees.

A file is written beside its place and then moved there, as editors and `kubectl` users do; the time runs from the move.

Portway and the floor (`bench/floor.py`: a bare delta-ADS server with ready-made resources, an Envoy of its own)
alternate change by change in one run; both Envoys have one worker, both clients ask in the same way on a kept-alive
connection. Every host has one plain route with a response header, and a Service of its own with one endpoint. Kinds:

- changed route: another value of the response header,
- new upstream and route: a file with an HTTPRoute, a Service and an EndpointSlice,
- changed endpoints: another backend in the EndpointSlice of a host.

Portway's share is what passes in Portway itself: from the file's write to the first response handed to gRPC, and then
from each acknowledgement that was waited for to the response that follows. It is read from Portway's debug log. Run:

    python -m bench.change [--hosts N ...] [--large] [--changes N] [--per-file N ...]
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import final

import msgspec

from bench.floor import LARGE, SIZES, Floor, domain, floor, until_changed
from bench.report import machine, quantile, table, title
from bench.worlds import endpoint_slice, route, service
from tests.kit.answer import Answer
from tests.kit.backends import Backend, BackendSpec, backend_process
from tests.kit.connect import Endpoint
from tests.kit.http1_client import Http1Connection
from tests.kit.manifests import CLASS, gateway
from tests.kit.ports import Ports
from tests.kit.portway import Portway

START_SECONDS = 240.0
"""For 20,000 hosts on a busy machine."""
PAUSE_SECONDS = 0.02
"""After each change, so that what is still to be done about it disturbs the next one less."""

KINDS = ("changed route", "new upstream and route", "changed endpoints")
GOAL_OF_FLOOR = 1.3
GOAL_SHARE_MS = 10.0
GOAL_ENDPOINTS_MS = 15.0


class Change(msgspec.Struct, frozen=True):
    """One change through Portway; Unix times."""

    written: float
    seen: float


class Share(msgspec.Struct, frozen=True):
    """What passed in Portway, in milliseconds."""

    source: float
    """From the file's write to the change set: notice, read, parse."""
    compiled: float
    """From the change set to the resources that changed."""
    total: float


class Line(msgspec.Struct, frozen=True):
    """The fields of Portway's log that count here."""

    timestamp: datetime
    event: str
    nonce: str = ""
    took_ms: float = 0.0


@final
class Declared:
    """A Portway that serves N plain hosts; one change of a file at a time."""

    def __init__(self, running: Portway, hosts: int, per_file: int, backend: int, port: int) -> None:
        self.running = running
        self.hosts = hosts
        self.per_file = per_file
        self.port = port
        self._backend = backend
        self._routes = [route(number, marker="m0") for number in range(hosts)]
        self._services = [service(number, backend) for number in range(hosts)]
        self._changes = 0
        self._next = hosts

    def write_all(self) -> None:
        """Every file, before the start."""
        self.running.write("gateway.yaml", f"{CLASS}---\n{gateway('gw', [('http', self.port, 'HTTP')])}")
        for start in range(0, self.hosts, self.per_file):
            self._write("routes", self._routes, start)
            self._write("services", self._services, start)

    def _write(self, name: str, documents: Sequence[str], number: int) -> None:
        """Write the file that a document lies in."""
        self._replacement(name, documents, number)()

    def _replacement(self, name: str, documents: Sequence[str], number: int) -> Callable[[], object]:
        """The file that a document lies in, written beside its place; the call moves it there."""
        start = number - number % self.per_file
        return self._prepared(f"{name}-{start}.yaml", "---\n".join(documents[start : start + self.per_file]))

    def _prepared(self, file: str, text: str) -> Callable[[], object]:
        path = self.running.files / file
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(text)
        return lambda: temporary.replace(path)

    async def wait_served(self) -> None:
        """Until the first and the last host answer."""

        async def is_ready() -> bool:
            return (await self.running.admin("/readyz")).status == 200

        await self.running.until(is_ready, "ready", seconds=START_SECONDS)
        async with await Http1Connection.open(Endpoint(port=self.port)) as connection:
            for number in (0, self.hosts - 1):
                await until_changed(connection, domain(number), lambda answer: answer.status == 200)

    async def change_route(self) -> Change:
        self._changes += 1
        number, marker = self._changes * 7 % self.hosts, f"m{self._changes}"
        self._routes[number] = route(number, marker=marker)
        write = self._replacement("routes", self._routes, number)
        return await self._timed(number, write, lambda answer: answer.header("x-marker") == marker)

    async def add_route(self) -> Change:
        number = self._next
        self._next += 1
        text = f"{route(number, marker='m0')}---\n{service(number, self._backend)}"

        def changed(answer: Answer) -> bool:
            if answer.status not in {200, 404}:
                raise RuntimeError(f"{domain(number)}: {answer.status} while it was added")
            return answer.status == 200

        return await self._timed(number, self._prepared(f"new-{number}.yaml", text), changed)

    async def change_endpoints(self, backend_port: int, pod: str) -> Change:
        """To another backend than all had at the start; a host comes twice only after as many changes as hosts."""
        self._changes += 1
        number = self._changes * 7 % self.hosts
        head = self._services[number].partition("---\n")[0]
        self._services[number] = f"{head}---\n{endpoint_slice(number, backend_port)}"
        write = self._replacement("services", self._services, number)
        return await self._timed(number, write, lambda answer: answer.pod == pod)

    async def _timed(self, number: int, write: Callable[[], object], changed: Callable[[Answer], bool]) -> Change:
        async with await Http1Connection.open(Endpoint(port=self.port)) as connection:
            assert not changed(await connection.request("/status/200", host=domain(number)))
            written = time.time()
            write()
            await until_changed(connection, domain(number), changed)
            return Change(written, time.time())


def shares_of(changes: Iterable[Change], log: bytes) -> list[Share]:
    """What passed in Portway during each of the changes, which are in the order of time.

    Args:
        log: with lines "response sent", "request received" and "change compiled".
    """
    decoder = msgspec.json.Decoder(Line)
    wanted = ("response sent", "request received", "change compiled")
    lines = [decoder.decode(text) for text in log.splitlines() if text.startswith(b"{")]
    events = [(line.timestamp.timestamp(), line) for line in lines if line.event in wanted]
    found: list[Share] = []
    position = 0
    for change in changes:
        while position < len(events) and events[position][0] < change.written:
            position += 1
        end = position
        while end < len(events) and events[end][0] <= change.seen:
            end += 1
        found.append(_share(change, events[position:end]))
    return found


def _share(change: Change, events: Iterable[tuple[float, Line]]) -> Share:
    source = compiled = total = 0.0
    since: float | None = change.written
    for at, line in events:
        if line.event == "change compiled" and not source:
            compiled = line.took_ms
            source = (at - change.written) * 1000 - compiled
        elif line.event == "request received":
            since = at if since is None else since
        elif line.event == "response sent":
            # Between two responses that no request parts we are at work, too.
            total += (at - since) * 1000 if since is not None else 0.0
            since = None if line.nonce else since
    return Share(source, compiled, total)


class Outcome(msgspec.Struct, frozen=True):
    """All changes of one size and one way to lay out files."""

    hosts: int
    per_file: int
    portway: dict[str, list[Change]]
    shares: dict[str, list[Share]]
    floor: dict[str, list[float]]
    """Seconds."""


@asynccontextmanager
async def declared(hosts: int, per_file: int, backend: int, port: int) -> AsyncIterator[Declared]:
    """A Portway that serves the hosts until the block ends."""
    with tempfile.TemporaryDirectory(prefix="portway-bench-") as name, Ports() as ports:
        arguments = ("--concurrency", "1", "--access-log", "", "--log-level", "debug")
        running = Portway(Path(name), ports, arguments)
        world = Declared(running, hosts, per_file, backend, port)
        world.write_all()
        try:
            await running.start(ready=False)
            await world.wait_served()
            yield world
        finally:
            await running.close()


async def measure(hosts: int, per_file: int, changes: int, backends: dict[str, Backend]) -> Outcome:
    """All kinds of change, Portway and the floor alternating."""
    async with AsyncExitStack() as stack:
        bare = await stack.enter_async_context(floor(hosts, backends["a"].port))
        world = await stack.enter_async_context(declared(hosts, per_file, backends["a"].port, bare.lab.ports.take()))
        through: dict[str, list[Change]] = {kind: [] for kind in KINDS}
        beside: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for _ in range(changes):
            await _one_of_each(world, bare, through, beside, backends["b"])
        everything = sorted((change for found in through.values() for change in found), key=lambda one: one.written)
        by_change = dict(zip(everything, shares_of(everything, world.running.log.read_bytes()), strict=True))
    found = {kind: [by_change[change] for change in through[kind]] for kind in KINDS}
    return Outcome(hosts, per_file, through, found, beside)


async def _one_of_each(
    world: Declared, bare: Floor, through: dict[str, list[Change]], beside: dict[str, list[float]], other: Backend
) -> None:
    route_kind, add_kind, endpoint_kind = KINDS
    beside[route_kind].append(await bare.change_route())
    await asyncio.sleep(PAUSE_SECONDS)
    through[route_kind].append(await world.change_route())
    await asyncio.sleep(PAUSE_SECONDS)
    beside[add_kind].append(await bare.add_route())
    await asyncio.sleep(PAUSE_SECONDS)
    through[add_kind].append(await world.add_route())
    await asyncio.sleep(PAUSE_SECONDS)
    beside[endpoint_kind].append(await bare.change_endpoints(other.port, other.name))
    await asyncio.sleep(PAUSE_SECONDS)
    through[endpoint_kind].append(await world.change_endpoints(other.port, other.name))
    await asyncio.sleep(PAUSE_SECONDS)


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """One row for each kind of change, size and layout of files."""
    title("One change among N plain hosts: from the file's write to the first changed answer")
    head = ["change", "hosts", "routes a file", "changes", "p50 ms", "p99 ms", "floor p50", "floor p99", "of floor"]
    table([*head, "share p50", "share p99", "of it: to change set", "compile", "verdict"], map(_row, _flat(outcomes)))


def _flat(outcomes: Sequence[Outcome]) -> Iterable[tuple[str, Outcome]]:
    return ((kind, outcome) for kind in KINDS for outcome in outcomes)


def _row(of: tuple[str, Outcome]) -> tuple[object, ...]:
    kind, outcome = of
    took = [(one.seen - one.written) * 1000 for one in outcome.portway[kind]]
    floor_ms = [seconds * 1000 for seconds in outcome.floor[kind]]
    share = outcome.shares[kind]
    p50, floor_p50 = quantile(took, 0.5), quantile(floor_ms, 0.5)
    share_p50 = quantile((one.total for one in share), 0.5)
    return (
        kind,
        outcome.hosts,
        outcome.per_file,
        len(took),
        p50,
        quantile(took, 0.99),
        floor_p50,
        quantile(floor_ms, 0.99),
        p50 / floor_p50,
        share_p50,
        quantile((one.total for one in share), 0.99),
        quantile((one.source for one in share), 0.5),
        quantile((one.compiled for one in share), 0.5),
        _verdict(kind, p50, p50 / floor_p50, share_p50),
    )


def _verdict(kind: str, p50_ms: float, of_floor: float, share_ms: float) -> str:
    missed: list[str] = []
    if kind == "changed endpoints":
        if p50_ms > GOAL_ENDPOINTS_MS:
            missed.append(f"p50 > {GOAL_ENDPOINTS_MS:g} ms")
    elif of_floor > GOAL_OF_FLOOR:
        missed.append(f"> {GOAL_OF_FLOOR:g} x floor")
    if share_ms > GOAL_SHARE_MS:
        missed.append(f"share > {GOAL_SHARE_MS:g} ms")
    return ", ".join(missed) or "reached"


async def run(sizes: Sequence[int], layouts: Sequence[int], changes: int) -> None:
    """Measure and print."""
    outcomes: list[Outcome] = []
    async with backend_process(BackendSpec(name="a"), BackendSpec(name="b")) as backends:
        for hosts in sizes:
            outcomes += [await measure(hosts, per_file, changes, backends) for per_file in layouts]
    print_outcomes(outcomes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--large", action="store_true", help="also 20000")
    parser.add_argument("--changes", type=int, default=100, help="of each kind")
    parser.add_argument("--per-file", type=int, nargs="*", default=[1, 100])
    given = parser.parse_args()
    sizes = [*given.hosts, *([LARGE] if given.large else [])]
    if 2 * given.changes > min(sizes):
        parser.error("--changes may be at most half of --hosts")
    print(machine())
    asyncio.run(run(sizes, given.per_file, given.changes))


if __name__ == "__main__":
    main()
