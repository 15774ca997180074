"""1,000 routes attach to one Gateway at once: when is `attachedRoutes` right, at the price of how many writes, and does
it delay configuration?

Counted are the versions of the Gateway that a watch sees, each of which somebody has written; who wrote what is in the
API server's count of requests. A new HTTPRoute is made beside while statuses are still written, and afterwards,
when nothing is. Run:

    python -m bench.cluster.attached [--routes N] [--beside]
"""

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import msgspec

from bench.cluster.appearing import Appearances, appear, prepare, vanish
from bench.cluster.contenders import contenders, parser, start
from bench.cluster.objects import GATEWAY, GATEWAYS, create_all, endpoint_slice, host, route, service
from bench.cluster.requests import requests_so_far, until_written
from bench.cluster.stage import Contender, Edge, standing
from bench.report import table, title
from tests.cluster.api import Api

ROUTES = 1_000
FIRST_NEW = 100_000
NEW = 20
"""Routes that are made beside."""
GOAL_SECONDS = 2.0
GOAL_WRITES = 300
GOAL_DELAYED = 1.3
"""A new route while statuses are written, of one while nothing is."""
LONGEST_SECONDS = 120.0


class _Listener(msgspec.Struct, frozen=True):
    attached_routes: int = msgspec.field(name="attachedRoutes", default=0)


class _Status(msgspec.Struct, frozen=True):
    listeners: tuple[_Listener, ...] = ()


class _Gateway(msgspec.Struct, frozen=True):
    status: _Status = _Status()

    @property
    def attached(self) -> int:
        return sum(one.attached_routes for one in self.status.listeners)


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    routes: int
    right: float
    """Seconds after the last write, until `attachedRoutes` is right."""
    writes: int
    """Versions of the Gateway."""
    route_writes: int
    """Statuses of routes that were written meanwhile."""
    quiet: Appearances
    busy: Appearances
    busy_writes: int
    """Statuses of routes that were written while new routes were made beside."""


class Watched:
    """Versions of the Gateway, and when each came."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int]] = []
        """Moment and attached routes."""

    async def follow(self, api: Api) -> None:
        """For ever."""
        params = {"watch": "1", "fieldSelector": f"metadata.name={GATEWAY}"}
        async for line in api.stream(GATEWAYS, params):
            event = msgspec.json.decode(line, type=_Event)
            if event.type in ("ADDED", "MODIFIED"):
                gateway = msgspec.json.decode(event.object, type=_Gateway)
                self.seen.append((asyncio.get_running_loop().time(), gateway.attached))

    async def until(self, attached: int) -> float:
        """When it was right first, and is still."""
        async with asyncio.timeout(LONGEST_SECONDS):
            while not self.seen or self.seen[-1][1] != attached:  # noqa: ASYNC110 - a watch
                await asyncio.sleep(0.005)
        moment = self.seen[-1][0]
        for at, number in reversed(self.seen):
            if number != attached:
                break
            moment = at
        return moment


async def measure(contender: Contender, routes: int) -> Outcome:
    """On a stage of its own."""
    async with standing(contender) as edge:
        await create_all(edge.api, (endpoint_slice(number, edge.port) for number in range(2 * routes)))
        await create_all(edge.api, (service(number) for number in range(2 * routes)))
        for number in range(FIRST_NEW, FIRST_NEW + 2 * NEW):
            await prepare(edge, number)
        watched = Watched()
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(watched.follow(edge.api))
            await until_written(edge.api)
            versions, asked = len(watched.seen), await requests_so_far(edge.api)
            written = await create_all(edge.api, map(route, range(routes)))
            right = await watched.until(routes) - written
            await edge.served(map(host, range(routes)))
            await until_written(edge.api)
            versions = len(watched.seen) - versions
            route_writes = (await requests_so_far(edge.api)).since(asked).writes("httproutes/status")
            # Now again as many routes, and new ones while the statuses of those are written.
            await create_all(edge.api, map(route, range(routes, 2 * routes)))
            asked = await requests_so_far(edge.api)
            busy = await _appear(edge, FIRST_NEW)
            busy_writes = (await requests_so_far(edge.api)).since(asked).writes("httproutes/status")
            await until_written(edge.api)
            quiet = await _appear(edge, FIRST_NEW + NEW)
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
    return Outcome(
        name=contender.name,
        routes=routes,
        right=right,
        writes=versions,
        route_writes=route_writes,
        quiet=quiet,
        busy=busy,
        busy_writes=busy_writes,
    )


async def _appear(edge: Edge, first: int) -> Appearances:
    found = []
    for number in range(first, first + NEW):
        found.append(await appear(edge, number))
    for number in range(first, first + NEW):
        await vanish(edge, number)
    return Appearances(found)


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """One row for each controller."""
    title("Routes attach to one Gateway at once")
    head = ["controller", "routes", "attachedRoutes right after s", "goal", "writes to the Gateway", "goal"]
    head += ["statuses of routes", "a new route, quiet, p50 ms", "while statuses are written", "written meanwhile"]
    table([*head, "verdict"], map(_row, outcomes))


def _row(one: Outcome) -> tuple[object, ...]:
    quiet, busy = one.quiet.quantile_ms(0.5), one.busy.quantile_ms(0.5)
    missed = []
    if one.right > GOAL_SECONDS:
        missed.append(f"> {GOAL_SECONDS:g} s")
    if one.writes > GOAL_WRITES:
        missed.append(f"> {GOAL_WRITES} writes")
    if busy > GOAL_DELAYED * quiet:
        missed.append(f"delays configuration, {busy / quiet:.1f} x")
    return (
        *(one.name, one.routes, one.right, f"{GOAL_SECONDS:g}", one.writes, GOAL_WRITES, one.route_writes),
        *(quiet, busy, one.busy_writes, ", ".join(missed) or "reached"),
    )


async def run(given: argparse.Namespace) -> None:
    """Measure and print."""
    print_outcomes([await measure(one, given.routes) for one in contenders(given)])


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--routes", type=int, default=ROUTES)
    start(partial(run, flags.parse_args()))


if __name__ == "__main__":
    main()
