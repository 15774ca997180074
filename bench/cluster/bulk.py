"""Many routes: made in bulk, weighed, control plane and proxy restarted.

Each route has a Service and endpoints of its own; they are made triple by triple, some at a time. Times: from the API
server's last answer until a sample of the hosts, the last ones among them, is served; from the start of the first of
the processes that were killed until all hosts of such a sample are, asked at the proxy's own address, since how soon
its pod is found ready is the cluster's affair. Afterwards all hosts are asked once, and memory and series are looked at
then (a cluster that nobody used has no connection pool); of more than 5,000 only so many. Run:

    python -m bench.cluster.bulk [--routes N ...] [--endpoints N] [--beside]
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec

from bench.cluster.contenders import contenders, parser, start
from bench.cluster.objects import Written, address, create_all, endpoint_slice, host, route, service
from bench.cluster.requests import Requests, requests_so_far, until_written
from bench.cluster.stage import Contender, Edge, Processes, Usage, standing
from bench.report import table, title

SIZES = (3_000,)
SAMPLE = 200
LAST = 50
"""Of those written last, all are asked."""
USED = 5_000
"""Of more hosts, only some are asked each: every one keeps a connection to an endpoint of its own, and the echo server
may not have 20,000 of them."""
IDLE_SECONDS = 5.0

GOAL_BULK_SECONDS = {3_000: 1.5}
GOAL_RESTART_SECONDS = {3_000: 2.0, 5_000: 5.0}
GOAL_MIB = {3_000: Usage(control_plane=150, proxy=230), 5_000: Usage(control_plane=300, proxy=float("inf"))}
GOAL_SERIES = 5_000


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one controller with so many routes."""

    name: str
    routes: int
    endpoints: int
    writing: float
    """Seconds in which all was written."""
    served: float
    """Seconds after the last write."""
    restart: float
    """Seconds from the start of the first process."""
    restart_requests: Requests
    """To the API server meanwhile, by everybody."""
    fresh_mib: Usage
    """When all is served, after the restart."""
    used_mib: Usage
    """After a request to each host, or to 5,000 of them."""
    series: int
    wrong: int
    """Of these hosts, how many are not served in the end."""


def triples(routes: int, endpoints: int, port: int) -> Iterator[Written]:
    """Endpoints, Service and route, one after the other."""
    for number in range(routes):
        addresses = [address(number * endpoints + place) for place in range(endpoints)]
        yield endpoint_slice(number, port, addresses=addresses)
        yield service(number)
        yield route(number)


def sample(routes: int) -> list[str]:
    """Hosts that stand for all, those that were written last at the end."""
    chosen = random.sample(range(routes), min(routes, SAMPLE))
    return [host(number) for number in (*chosen, *range(max(0, routes - LAST), routes))]


def used(routes: int) -> list[str]:
    """Hosts that are asked each, evenly among all."""
    return [host(number) for number in range(0, routes, -(-routes // USED))]


async def restarted(edge: Edge, routes: int) -> float:
    """Kill control plane and proxy; seconds from the start of the first new process until all is served."""
    before, inner = await edge.contender.processes(edge.cluster), await edge.inner()
    for pid in _all(before):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    old = set(_all(before))

    async def look() -> Processes | None:
        found = await edge.contender.processes(edge.cluster)
        is_new = found.control_plane and not old & set(_all(found))
        return found if is_new and bool(found.proxy) == bool(before.proxy) else None

    new = await edge.cluster.wait_for("new processes", look)
    assert new is not None
    began = min(map(started_at, _all(new)))
    return await edge.served(sample(routes), at=inner) - began


def _all(found: Processes) -> tuple[int, ...]:
    return (*found.control_plane, *found.proxy)


def started_at(pid: int) -> float:
    """When a process started, by the clock of the event loop; to a hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


async def measure(contender: Contender, routes: int, endpoints: int) -> Outcome:
    """All of it, on a stage of its own."""
    async with standing(contender) as edge:
        loop = asyncio.get_running_loop()
        began = loop.time()
        written = await create_all(edge.api, triples(routes, endpoints, edge.port))
        served = await edge.served(sample(routes))
        await edge.served(used(routes))
        await until_written(edge.api)
        asked = await requests_so_far(edge.api)
        restart = await restarted(edge, routes)
        answered = (await requests_so_far(edge.api)).since(asked)
        await asyncio.sleep(IDLE_SECONDS)
        fresh = await edge.memory()
        wrong = await _ask_each(edge, routes)
        page = await contender.metrics(edge.cluster)
        return Outcome(
            name=contender.name,
            routes=routes,
            endpoints=routes * endpoints,
            writing=written - began,
            served=served - written,
            restart=restart,
            restart_requests=answered,
            fresh_mib=fresh,
            used_mib=await edge.memory(),
            series=sum(not line.startswith("#") for line in page.splitlines()),
            wrong=wrong,
        )


async def _ask_each(edge: Edge, routes: int) -> int:
    async with await edge.connected() as connection:
        return sum([(await edge.ask(connection, one)).status != 200 for one in used(routes)])


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Two tables."""
    title("Routes in bulk, and a restart of control plane and proxy: seconds until all is served")
    head = ["controller", "routes", "endpoints", "writing", "after the last write", "goal", "after the start", "goal"]
    table([*head, "API requests of the start", "not served", "verdict"], map(_time_row, outcomes))
    title("Memory (MiB, resident) and series of the proxy")
    head = ["controller", "routes", "control plane", "goal", "proxy", "goal", "each used: control plane", "proxy"]
    table([*head, "series", "goal", "verdict"], map(_memory_row, outcomes))


def _time_row(one: Outcome) -> tuple[object, ...]:
    bulk, restart = GOAL_BULK_SECONDS.get(one.routes), GOAL_RESTART_SECONDS.get(one.routes)
    missed = []
    if bulk is not None and one.served > bulk:
        missed.append(f"bulk > {bulk:g}")
    if restart is not None and one.restart > restart:
        missed.append(f"restart > {restart:g}")
    if one.wrong:
        missed.append("not all served")
    return (
        *(one.name, one.routes, one.endpoints, one.writing, one.served, bulk or "", one.restart, restart or ""),
        *(str(one.restart_requests), one.wrong, ", ".join(missed) or _reached(bulk or restart)),
    )


def _memory_row(one: Outcome) -> tuple[object, ...]:
    goal = GOAL_MIB.get(one.routes)
    missed = []
    if goal is not None and one.fresh_mib.control_plane > goal.control_plane:
        missed.append("control plane")
    if goal is not None and one.fresh_mib.proxy > goal.proxy:
        missed.append("proxy")
    if one.series > GOAL_SERIES:
        missed.append("series")
    return (
        *(one.name, one.routes, one.fresh_mib.control_plane, goal.control_plane if goal else ""),
        *(one.fresh_mib.proxy, goal.proxy if goal else "", one.used_mib.control_plane, one.used_mib.proxy),
        *(one.series, GOAL_SERIES, f"more: {', '.join(missed)}" if missed else _reached(goal)),
    )


def _reached(goal: object) -> str:
    return "reached" if goal else ""


async def run(given: argparse.Namespace) -> None:
    """Measure and print."""
    outcomes: list[Outcome] = []
    try:
        for routes in given.routes:
            outcomes += [await measure(one, routes, given.endpoints) for one in contenders(given)]
    finally:  # what was measured before one that failed
        print_outcomes(outcomes)


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--routes", type=int, nargs="*", default=list(SIZES))
    flags.add_argument("--endpoints", type=int, default=1, help="of each Service")
    start(partial(run, flags.parse_args()))


if __name__ == "__main__":
    main()
