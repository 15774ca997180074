"""Nothing is lost while things change: the scenarios of `tests/e2e/test_zero_loss.py`, with their figures.

Each scenario is so many rounds of one change under constant load over HTTP/1.1, HTTP/2 and WebSocket. A wrong answer, a
reset or a refusal fails the scenario, and the run. `effect` is the time of a round: from the first thing that it does
to the moment at which the change is seen. Run:

    python -m bench.zero_loss [--rounds 200] [--only NAME ...]
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from bench.report import machine, quantile, table, title
from tests.e2e import test_zero_loss as scenarios
from tests.kit.backends import Backend, Backends
from tests.kit.load import Load, LoadProtocol

Scenario = Callable[[Path, dict[str, Backend]], Awaitable[None]]

SCENARIOS: dict[str, Scenario] = {
    "backend switched": scenarios.test_backend_switched,
    "rules reordered": scenarios.test_rules_reordered,
    "route added and removed": scenarios.test_route_added_and_removed_next_to_it,
    "endpoints replaced": scenarios.test_all_endpoints_replaced,
    "certificate rotated": scenarios.test_certificate_rotated,
    "listener added and removed": scenarios.test_listener_added,
    "Portway restarted": partial(scenarios.test_portway_itself, how="restarted"),
    "Portway killed": partial(scenarios.test_portway_itself, how="killed"),
}


class Outcome(msgspec.Struct):
    """What came of a scenario; filled while it runs."""

    effects: list[float] = []
    """Seconds of each round."""
    requests: int = 0
    wrong: int = 0
    problem: str = ""
    """Why the scenario failed; empty: it did not."""


class Recording:
    """Stands in for the load and the rounds of the scenarios, and keeps their figures."""

    def __init__(self, rounds: int) -> None:
        self.outcome = Outcome()
        self._rounds = rounds

    async def rounds(self, change: Callable[[int], Awaitable[None]], count: int = 0) -> None:
        """As in the tests, timed; the count is ours."""
        del count
        for number in range(self._rounds):
            started = time.monotonic()
            await change(number)
            self.outcome.effects.append(time.monotonic() - started)

    @asynccontextmanager
    async def under_load(
        self,
        url: str,
        allowed: Collection[str],
        protocols: Collection[LoadProtocol] = tuple(LoadProtocol),
        authority: str = "",
    ) -> AsyncIterator[None]:
        """As in the tests, counted."""
        async with AsyncExitStack() as stack:
            loads: list[tuple[LoadProtocol, Load]] = []
            for protocol in protocols:
                target = url.rstrip("/") + "/ws" if protocol is LoadProtocol.WEBSOCKET else url
                load = Load(target, rate=scenarios.RATE, protocol=protocol, connections=4, authority=authority or None)
                await stack.enter_async_context(load)
                loads.append((protocol, load))
                await load.answered(4)
            yield
        for protocol, load in loads:
            report = load.report()
            self.outcome.requests += len(report.samples)
            status = 101 if protocol is LoadProtocol.WEBSOCKET else 200
            self.outcome.wrong += len(report.wrong({*allowed}, status=status))


async def run_one(scenario: Scenario, rounds: int) -> Outcome:
    """One scenario from its start to its end."""
    recording = Recording(rounds)
    scenarios.rounds = recording.rounds
    scenarios.under_load = recording.under_load
    with tempfile.TemporaryDirectory(prefix="portway-bench-") as name:
        async with Backends() as running:
            backends = {letter: await running.start(letter) for letter in "abcd"}
            try:
                await scenario(Path(name), backends)
            except AssertionError as error:
                recording.outcome.problem = str(error).partition("\n")[0]
    return recording.outcome


async def run(names: Sequence[str], rounds: int) -> bool:
    """Run and print; whether nothing was lost."""
    found = {name: await run_one(SCENARIOS[name], rounds) for name in names}
    title("Zero loss: constant load over HTTP/1.1, HTTP/2 and WebSocket while things change")
    table(
        ["scenario", "rounds", "effect p50 ms", "effect p99 ms", "requests", "wrong or lost", "verdict"],
        [
            (
                *(name, len(one.effects), quantile(one.effects, 0.5) * 1000, quantile(one.effects, 0.99) * 1000),
                *(one.requests, one.wrong, one.problem or ("nothing lost" if not one.wrong else "LOST")),
            )
            for name, one in found.items()
        ],
    )
    return not any(one.wrong or one.problem for one in found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--only", nargs="*", choices=list(SCENARIOS), default=list(SCENARIOS))
    given = parser.parse_args()
    print(machine())
    if not asyncio.run(run(given.only, given.rounds)):
        sys.exit(1)


if __name__ == "__main__":
    main()
