"""A new HTTPRoute among N: from the API server's answer to the first 200; and what the same costs while all churn.

Portway and the floor (`bench/floor.py`: a bare delta-ADS server that sends the same resources, ready-made, to an Envoy
of its own) alternate route by route, in one network, both Envoys with one worker. Every route has a Service of its own,
which no route used before, so each needs a cluster and endpoints before its host. Run:

    python -m bench.cluster.routes [--routes N ...] [--changes N] [--profile]
"""

import argparse
import asyncio
from collections.abc import Sequence

import msgspec

from bench.change import Change, Share, shares_of
from bench.cluster.appearing import Appearance, Appearances, appear, prepare, vanish
from bench.cluster.objects import create_routes, host
from bench.cluster.portway import CONTROL_PLANE, SYSTEM, Portway
from bench.cluster.stage import Edge, standing
from bench.floor import Floor, floor
from bench.report import machine, quantile, table, title

SIZES = (0, 1_000, 3_000)
GOALS_MS = {0: 15.0, 1_000: 20.0, 3_000: 30.0}
FIRST_GOALS_MS = {0: 15.0, 1_000: 25.0, 3_000: 45.0}
GOAL_P99_MS = 100.0
GOAL_OF_FLOOR = 1.3
PAUSE_SECONDS = 0.05
"""After each change, so that statuses and Events of it disturb the next one less."""
PROFILE = ("--log-level=debug",)


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured among so many routes."""

    routes: int
    appearances: Appearances
    floor_ms: Sequence[float]
    shares: Sequence[Share] = ()


async def among(edge: Edge, routes: int, changes: int, first: int) -> Size:
    """New routes among those that are there, Portway and the floor alternating. Each is gone before the next comes.

    Args:
        first: number of the first new route.
    """
    found: list[Appearance] = []
    floor_ms: list[float] = []
    async with floor(max(routes, 1), edge.port) as bare:
        for number in range(first, first + changes):
            await prepare(edge, number)
        for number in range(first, first + changes):
            floor_ms.append(await _add_bare(bare) * 1000)
            await asyncio.sleep(PAUSE_SECONDS)
            found.append(await appear(edge, number))
            await vanish(edge, number)
            await asyncio.sleep(PAUSE_SECONDS)
    return Size(routes=routes, appearances=Appearances(found), floor_ms=floor_ms)


async def _add_bare(bare: Floor) -> float:
    return await bare.add_route()


async def run(sizes: Sequence[int], changes: int, *, profile: bool) -> None:
    """Measure and print."""
    found: list[Size] = []
    async with standing(Portway(arguments=PROFILE if profile else ())) as edge:
        there, next_number = 0, 100_000
        for routes in sizes:
            await create_routes(edge.api, range(there, routes), edge.port)
            await edge.served(map(host, range(there, routes)))
            there = routes
            await asyncio.sleep(2.0)  # statuses of all of them are written
            found.append(await among(edge, routes, changes, next_number))
            next_number += changes
        if profile:
            log = edge.cluster.kubectl("logs", "-n", SYSTEM, "-l", CONTROL_PLANE, "--tail=-1")
            found = [with_shares(size, log.encode()) for size in found]
    print_sizes(found)


def with_shares(size: Size, log: bytes) -> Size:
    """With what passed in Portway during each change."""
    changes = [Change(one.written, one.written + one.seconds) for one in size.appearances.of]
    return msgspec.structs.replace(size, shares=shares_of(changes, log))


def print_sizes(found: Sequence[Size]) -> None:
    """One row for each size."""
    title("A new HTTPRoute among N: from the API server's answer to the first 200")
    head = ["routes", "new ones", "p50 ms", "p99 ms", "floor p50", "floor p99", "of floor", "goal", "other answers"]
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
        *(size.routes, len(size.floor_ms), p50, p99, floor_p50, quantile(size.floor_ms, 0.99), p50 / floor_p50),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--routes", type=int, nargs="*", default=list(SIZES), help="in rising order")
    parser.add_argument("--changes", type=int, default=100, help="new routes among each number")
    parser.add_argument("--profile", action="store_true", help="Portway's own share, from its debug log")
    given = parser.parse_args()
    print(machine())
    asyncio.run(run(given.routes, given.changes, profile=given.profile))


if __name__ == "__main__":
    main()
