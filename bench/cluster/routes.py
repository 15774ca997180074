"""A new HTTPRoute among N: from the API server's answer to the first 200; and what the same costs while all churn.

Portway and the floor (`bench/floor.py`: a bare delta-ADS server that sends the same resources, ready-made, to an Envoy
of its own) alternate route by route, in one network, both Envoys with one worker. Every route has a Service of its own,
which no route used before, so each needs a cluster and endpoints before its host. Run:

    python -m bench.cluster.routes [--routes N ...] [--changes N] [--profile] [--beside]
"""

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

import msgspec

from bench.change import Change, Share, shares_of
from bench.cluster.appearing import Appearance, Appearances, appear, prepare, vanish
from bench.cluster.contenders import contenders, parser, rounds_of, start
from bench.cluster.objects import create_routes, host
from bench.cluster.portway import CONTROL_PLANE, SYSTEM, Portway
from bench.cluster.requests import until_written
from bench.cluster.stage import Contender, Edge, standing
from bench.floor import Floor, floor
from bench.report import quantile, table, title

SIZES = (0, 1_000, 3_000)
GOALS_MS = {0: 15.0, 1_000: 20.0, 3_000: 30.0}
FIRST_GOALS_MS = {0: 15.0, 1_000: 25.0, 3_000: 45.0}
GOAL_P99_MS = 100.0
GOAL_OF_FLOOR = 1.3
PAUSE_SECONDS = 0.05
"""After each change, so that statuses and Events of it disturb the next one less."""
FIRST_NEW = 100_000
PROFILE = ("--log-level=debug",)


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one controller among so many routes."""

    name: str
    routes: int
    appearances: Appearances
    floor_ms: Sequence[float]
    """Empty: not beside this controller."""
    shares: Sequence[Share] = ()


async def among(edge: Edge, routes: int, numbers: Sequence[int], bare: Floor | None) -> Size:
    """New routes among those that are there, alternating with the floor. Each is gone before the next comes.

    Args:
        numbers: of the new routes.
    """
    found: list[Appearance] = []
    floor_ms: list[float] = []
    for number in numbers:
        await prepare(edge, number)
    for number in numbers:
        if bare is not None:
            floor_ms.append(await bare.add_route() * 1000)
            await asyncio.sleep(PAUSE_SECONDS)
        found.append(await appear(edge, number))
        await vanish(edge, number)
        await asyncio.sleep(PAUSE_SECONDS)
    return Size(name=edge.contender.name, routes=routes, appearances=Appearances(found), floor_ms=floor_ms)


async def measure(contender: Contender, sizes: Sequence[int], changes: int, *, profile: bool) -> list[Size]:
    """All sizes on one stage; the floor beside Portway only."""
    found: list[Size] = []
    is_portway = isinstance(contender, Portway)
    async with standing(contender) as edge:
        there = 0
        for place, routes in enumerate(sizes):
            await create_routes(edge.api, range(there, routes), edge.port)
            await edge.served(map(host, range(there, routes)))
            there = routes
            await until_written(edge.api)
            first = FIRST_NEW + place * changes
            numbers = range(first, first + rounds_of(contender, changes))
            async with AsyncExitStack() as stack:
                bare = (
                    await stack.enter_async_context(floor(max(routes, 1), edge.port, grown=True))
                    if is_portway
                    else None
                )
                found.append(await among(edge, routes, numbers, bare))
        if profile and is_portway:
            log = edge.cluster.kubectl("logs", "-n", SYSTEM, "-l", CONTROL_PLANE, "--tail=-1")
            found = [with_shares(size, log.encode()) for size in found]
    return found


def with_shares(size: Size, log: bytes) -> Size:
    """With what passed in Portway during each change."""
    changes = [Change(one.written, one.written + one.seconds) for one in size.appearances.of]
    return msgspec.structs.replace(size, shares=shares_of(changes, log))


def print_sizes(found: Sequence[Size]) -> None:
    """One row for each size."""
    title("A new HTTPRoute among N: from the API server's answer to the first 200")
    head = [
        "controller",
        "routes",
        "new ones",
        "p50 ms",
        "p99 ms",
        "floor p50",
        "floor p99",
        "of floor",
        "goal",
        "other answers",
    ]
    shared = any(size.shares for size in found)
    if shared:
        head += ["share p50", "of it: to change set", "compile"]
    table([*head, "verdict"], (_row(size, shared=shared) for size in found))


def _row(size: Size, *, shared: bool) -> tuple[object, ...]:
    p50, floor_p50 = size.appearances.quantile_ms(0.5), quantile(size.floor_ms, 0.5)
    p99 = size.appearances.quantile_ms(0.99)
    parts: tuple[object, ...] = ()
    if shared:
        parts = tuple(quantile((getattr(one, part) for one in size.shares), 0.5) for part in Share.__struct_fields__)
        parts = (parts[2], parts[0], parts[1])
    others = size.appearances.others
    return (
        *(size.name, size.routes, len(size.appearances.of), p50, p99),
        *((floor_p50, quantile(size.floor_ms, 0.99), p50 / floor_p50) if size.floor_ms else ("", "", "")),
        f"{GOALS_MS.get(size.routes, '')}",
        str(dict(others)) if others else 0,
        *parts,
        _verdict(size.routes, p50, p99, p50 / floor_p50, others=others.total()),
    )


def _verdict(routes: int, p50_ms: float, p99_ms: float, of_floor: float, *, others: int) -> str:
    missed: list[str] = []
    if of_floor > GOAL_OF_FLOOR:
        missed.append(f"> {GOAL_OF_FLOOR:g} x floor")
    goal, first = GOALS_MS.get(routes), FIRST_GOALS_MS.get(routes)
    if goal is not None and first is not None and p50_ms > goal:
        missed.append(f"p50 > {goal:g}" if p50_ms > first else f"p50 > {goal:g}, first goal {first:g} reached")
    if p99_ms > GOAL_P99_MS:
        missed.append(f"p99 > {GOAL_P99_MS:g}")
    if others:
        missed.append("wrong answers")
    return ", ".join(missed) or "reached"


async def run(given: argparse.Namespace) -> None:
    """Measure and print."""
    found: list[Size] = []
    for one in contenders(given, *(PROFILE if given.profile else ())):
        found += await measure(one, given.routes, given.changes, profile=given.profile)
    print_sizes(sorted(found, key=lambda size: size.routes))


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--routes", type=int, nargs="*", default=list(SIZES), help="in rising order")
    flags.add_argument("--changes", type=int, default=100, help="new routes among each number; fewer beside Portway")
    flags.add_argument("--profile", action="store_true", help="Portway's own share, from its debug log")
    start(partial(run, flags.parse_args()))


if __name__ == "__main__":
    main()
