"""One new HTTPRoute: from the API server's answer to the first 200."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from bench.cluster.objects import ROUTES, create, endpoint_slice, host, route, service
from bench.cluster.stage import ASK_SECONDS, Edge
from bench.report import quantile

AFTER = 5
"""Further questions after the first 200, which all should get the same."""
LONGEST_SECONDS = 60.0


class Appearance(msgspec.Struct, frozen=True, kw_only=True):
    """How one route appeared."""

    written: float
    """Unix time of the API server's answer."""
    seconds: float
    others: Counter[int]
    """Answers other than 404 before and 200 afterwards, by status."""


class Appearances(msgspec.Struct, frozen=True):
    """Several, one after the other."""

    of: Sequence[Appearance]

    def quantile_ms(self, share: float) -> float:
        return quantile((one.seconds * 1000 for one in self.of), share)

    @property
    def longest_ms(self) -> float:
        return max(one.seconds for one in self.of) * 1000

    @property
    def others(self) -> Counter[int]:
        return sum((one.others for one in self.of), Counter[int]())


async def prepare(edge: Edge, number: int) -> None:
    """Make the Service and the endpoints of a route to be."""
    await create(edge.api, endpoint_slice(number, edge.port))
    await create(edge.api, service(number))


async def appear(edge: Edge, number: int) -> Appearance:
    """Make a route, whose Service is there, and ask until it is served; 1 ms lies between two questions.

    Raises:
        TimeoutError: it is not served in time.
    """
    connection = await edge.connected()
    try:
        assert (await edge.ask(connection, host(number))).status == 404
        others: Counter[int] = Counter()
        await create(edge.api, route(number))
        loop = asyncio.get_running_loop()
        written, started = time.time(), loop.time()
        async with asyncio.timeout(LONGEST_SECONDS):
            while (status := (await edge.ask(connection, host(number))).status) != 200:
                others[status] += status != 404
                await asyncio.sleep(ASK_SECONDS)
        seconds = loop.time() - started
        for _ in range(AFTER):
            status = (await edge.ask(connection, host(number))).status
            others[status] += status != 200
            await asyncio.sleep(ASK_SECONDS)
    finally:
        await connection.close()
    return Appearance(written=written, seconds=seconds, others=+others)


async def vanish(edge: Edge, number: int) -> None:
    """Delete a route and wait until it is gone."""
    await edge.api.delete(f"{ROUTES}/route-{number}")
    await edge.served([host(number)], status=404)
