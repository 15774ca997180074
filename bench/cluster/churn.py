"""3,000 routes that churn: 20 endpoint and 2 route updates a second, as in a cluster in which people work.

Printed are the processor time that this takes, and how long a new HTTPRoute takes meanwhile. Run:

    python -m bench.cluster.churn [--routes N] [--changes N] [--beside]
"""

import argparse
import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import msgspec

from bench.cluster.appearing import Appearances, appear, prepare, vanish
from bench.cluster.contenders import contenders, parser, rounds_of, start
from bench.cluster.objects import ROUTES, SLICES, address, create_routes, host, rule
from bench.cluster.requests import until_written
from bench.cluster.stage import Contender, Edge, Usage, standing
from bench.report import table, title
from tests.cluster.api import Api

ROUTES_THERE = 3_000
ENDPOINT_RATE = 20.0
"""Changed EndpointSlices a second: a pod is replaced."""
ROUTE_RATE = 2.0
"""Changed HTTPRoutes a second."""
FIRST_NEW = 100_000

GOAL_P50_MS = 60.0
GOAL_LONGEST_MS = 150.0
GOAL_CPU = Usage(control_plane=0.2, proxy=0.1)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one controller."""

    name: str
    cores: Usage
    """Processor seconds a second under churn alone."""
    idle: Usage
    """The same before it."""
    updates: int
    appearances: Appearances


async def _at_rate(rate: float, work: AsyncIterator[None]) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    for number in itertools.count(1):
        await anext(work)
        await asyncio.sleep(max(0.0, started + number / rate - loop.time()))


async def _replace_endpoints(api: Api, routes: int, done: list[int]) -> AsyncIterator[None]:
    for number in itertools.count(1):
        target = number * 7 % routes
        endpoints = [{"addresses": [address(target + number)], "conditions": {"ready": True}}]
        await api.patch(f"{SLICES}/svc-{target}-a", {"endpoints": endpoints})
        done[0] += 1
        yield


async def _change_routes(api: Api, routes: int, done: list[int]) -> AsyncIterator[None]:
    for number in itertools.count(1):
        target = number * 11 % routes
        change = {"spec": {"rules": [rule(f"svc-{target}", marker=f"m{number}")]}}
        await api.patch(f"{ROUTES}/route-{target}", change)
        done[0] += 1
        yield


@asynccontextmanager
async def churning(edge: Edge, routes: int) -> AsyncIterator[list[int]]:
    """Change things for as long as the block runs; yields how many were changed so far, a list of one."""
    done = [0]
    async with asyncio.TaskGroup() as tasks:
        endpoints = _at_rate(ENDPOINT_RATE, _replace_endpoints(edge.api, routes, done))
        changes = _at_rate(ROUTE_RATE, _change_routes(edge.api, routes, done))
        running = [tasks.create_task(endpoints), tasks.create_task(changes)]
        yield done
        for task in running:
            task.cancel()


async def cores(edge: Edge, seconds: float) -> Usage:
    """Processor seconds a second over some time."""
    loop = asyncio.get_running_loop()
    before, began = await edge.cpu(), loop.time()
    await asyncio.sleep(seconds)
    used, took = (await edge.cpu()).since(before), loop.time() - began
    return Usage(control_plane=used.control_plane / took, proxy=used.proxy / took)


async def measure(contender: Contender, routes: int, changes: int, seconds: float) -> Outcome:
    """Churn alone, then with new routes."""
    async with standing(contender) as edge:
        await create_routes(edge.api, range(routes), edge.port)
        await edge.served(map(host, range(routes)))
        numbers = range(FIRST_NEW, FIRST_NEW + rounds_of(contender, changes))
        for number in numbers:
            await prepare(edge, number)
        await until_written(edge.api)
        idle = await cores(edge, seconds / 2)
        async with churning(edge, routes) as done:
            await asyncio.sleep(1.0)
            used, updates = await cores(edge, seconds), done[0]
            found = []
            for number in numbers:
                found.append(await appear(edge, number))
                await vanish(edge, number)
        return Outcome(name=contender.name, cores=used, idle=idle, updates=updates, appearances=Appearances(found))


def print_outcomes(outcomes: Sequence[Outcome], routes: int) -> None:
    """Two tables."""
    title(f"{routes:,} routes churn ({ENDPOINT_RATE:g} endpoint, {ROUTE_RATE:g} route updates a second): cores used")
    head = ["controller", "updates", "control plane, idle", "proxy, idle", "control plane", "goal", "proxy", "goal"]
    table([*head, "verdict"], (_cpu_row(one) for one in outcomes))
    title("A new HTTPRoute meanwhile")
    head = ["controller", "new ones", "p50 ms", "goal", "longest ms", "goal", "other answers", "verdict"]
    table(head, (_row(one) for one in outcomes))


def _cpu_row(one: Outcome) -> tuple[object, ...]:
    missed = []
    if one.cores.control_plane > GOAL_CPU.control_plane:
        missed.append("control plane")
    if one.cores.proxy > GOAL_CPU.proxy:
        missed.append("proxy")
    return (
        *(one.name, one.updates, one.idle.control_plane, one.idle.proxy),
        *(one.cores.control_plane, f"{GOAL_CPU.control_plane}", one.cores.proxy, f"{GOAL_CPU.proxy}"),
        f"more: {', '.join(missed)}" if missed else "reached",
    )


def _row(one: Outcome) -> tuple[object, ...]:
    p50, longest, others = one.appearances.quantile_ms(0.5), one.appearances.longest_ms, one.appearances.others
    missed = []
    if p50 > GOAL_P50_MS:
        missed.append(f"p50 > {GOAL_P50_MS:g}")
    if longest > GOAL_LONGEST_MS:
        missed.append(f"longest > {GOAL_LONGEST_MS:g}")
    if others:
        missed.append("wrong answers")
    return (
        *(one.name, len(one.appearances.of), p50, f"{GOAL_P50_MS:g}", longest, f"{GOAL_LONGEST_MS:g}"),
        *(str(dict(others)) if others else 0, ", ".join(missed) or "reached"),
    )


async def run(given: argparse.Namespace) -> None:
    """Measure and print."""
    outcomes = [await measure(one, given.routes, given.changes, given.seconds) for one in contenders(given)]
    print_outcomes(outcomes, given.routes)


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--routes", type=int, default=ROUTES_THERE)
    flags.add_argument("--changes", type=int, default=100, help="new routes meanwhile")
    flags.add_argument("--seconds", type=float, default=30.0, help="for which processor time is counted")
    start(partial(run, flags.parse_args()))


if __name__ == "__main__":
    main()
