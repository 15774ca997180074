"""Changes under load, and what clients see of them: a backend switched, rules reordered, an endpoint replaced.

- switched: the backendRef of a route goes to a Service that has just been made, the old one is deleted once the new
  one answers; under 500 requests a second.
- reordered: the 16 rules of a route, each with a path and a backend of its own, in another order; under 500 requests
  a second over all paths. An answer from another path's backend is wrong.
- replaced: the only endpoint of a Service is another one. From the API server's answer to its first answer.

Run:

    python -m bench.cluster.changes [--rounds N] [--beside]
"""

import argparse
import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

import msgspec

from bench.cluster.contenders import contenders, parser, rounds_of, start
from bench.cluster.objects import ROUTES, SERVICES, SLICES, create, endpoint_slice, host, route, rule, service
from bench.cluster.stage import ASK_SECONDS, Contender, Edge, standing
from bench.report import quantile, table, title
from tests.kit.answer import Answer
from tests.kit.backends import BackendSpec, backend_process
from tests.kit.load import Load, LoadProcess, LoadSpec, Sample

RATE = 500.0
"""Requests a second."""
RULES = 16
PAUSE_SECONDS = 0.1
"""Between two changes; longer than one takes."""
LONGEST_SECONDS = 30.0

SWITCHED, REORDERED, REPLACED = "backend switched", "16 rules reordered", "endpoint replaced"
GOAL_P50_MS = {SWITCHED: 10.0, REPLACED: 4.0}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of change of one controller."""

    name: str
    kind: str
    effects: Sequence[float]
    """Seconds from the API server's answer to the first answer of the new state; empty: not looked for."""
    rounds: int
    requests: int
    wrong: Sequence[Sample]


async def effect_of(
    edge: Edge, path: str, patch: Mapping[str, object], host_name: str, changed: Callable[[Answer], bool]
) -> float:
    """Patch an object and ask until an answer is the changed one; seconds from the API server's answer.

    Asked is one question after the other: a pause of a millisecond would be a fifth of what is measured.
    """
    loop = asyncio.get_running_loop()
    async with await edge.connected() as connection:
        await edge.api.patch(path, patch)
        started = loop.time()
        async with asyncio.timeout(LONGEST_SECONDS):
            while not changed(await edge.ask(connection, host_name)):
                pass
        return loop.time() - started


def answered_by(pod: str) -> Callable[[Answer], bool]:
    """Whether an answer is this backend's."""
    return lambda answer: answer.pod == pod


async def switch(edge: Edge, rounds: int) -> Outcome:
    """The backend of a route, to new Services."""
    effects: list[float] = []

    async def make(number: int) -> str:
        pod = "ab"[number % 2]
        await create(edge.api, endpoint_slice(number, edge.backends[pod].port, name=f"switched-{number}"))
        await create(edge.api, service(number, name=f"switched-{number}"))
        return pod

    await make(0)
    await create(edge.api, route(0, name="switched", rules=[rule("switched-0")]))
    await edge.served([host(0)])
    spec = LoadSpec(url=f"http://{host(0)}:80/", rate=RATE, address=edge.address, seconds=LONGEST_SECONDS)
    async with LoadProcess(spec) as running:
        for number in range(1, rounds + 1):
            pod = await make(number)
            patch = {"spec": {"rules": [rule(f"switched-{number}")]}}
            effects.append(await effect_of(edge, f"{ROUTES}/switched", patch, host(0), answered_by(pod)))
            for collection, name in ((SERVICES, ""), (SLICES, "-a")):
                await edge.api.delete(f"{collection}/switched-{number - 1}{name}")
            await asyncio.sleep(PAUSE_SECONDS)
    report = running.report()
    return Outcome(
        name=edge.contender.name,
        kind=SWITCHED,
        effects=effects,
        rounds=rounds,
        requests=len(report.samples),
        wrong=report.wrong("ab"),
    )


async def reorder(edge: Edge, rounds: int) -> Outcome:
    """The rules of a route, each of which has a backend of its own."""
    paths = [f"/p{number}" for number in range(RULES)]
    names = [f"ordered-{number}" for number in range(RULES)]
    async with backend_process(*(BackendSpec(name=name, host="0.0.0.0") for name in names)) as backends:
        for number, name in enumerate(names):
            await create(edge.api, endpoint_slice(number, backends[name].port, name=name))
            await create(edge.api, service(number, name=name))
        rules = [rule(name, prefix=path) for path, name in zip(paths, names, strict=True)]
        await create(edge.api, route(1, name="ordered", rules=rules))
        await edge.served([host(1)], status=404)
        for path in paths:
            await _until_path(edge, path)
        async with AsyncExitStack() as stack:
            running = [
                await stack.enter_async_context(
                    Load(f"http://{host(1)}:80{path}", rate=RATE / RULES, connections=1, address=edge.address)
                )
                for path in paths
            ]
            for _ in range(rounds):
                random.shuffle(rules)
                await edge.api.patch(f"{ROUTES}/ordered", {"spec": {"rules": rules}})
                await asyncio.sleep(2 * PAUSE_SECONDS)
        reports = [one.report() for one in running]
    return Outcome(
        name=edge.contender.name,
        kind=REORDERED,
        effects=(),
        rounds=rounds,
        requests=sum(len(one.samples) for one in reports),
        wrong=[sample for one, name in zip(reports, names, strict=True) for sample in one.wrong((name,))],
    )


async def _until_path(edge: Edge, path: str) -> None:
    async with await edge.connected() as connection:
        while (await connection.request(path, host=host(1))).status != 200:  # noqa: ASYNC110 - a proxy
            await asyncio.sleep(ASK_SECONDS)


async def replace(edge: Edge, rounds: int) -> Outcome:
    """The endpoint of a Service."""
    effects: list[float] = []
    await create(edge.api, endpoint_slice(2, edge.backends["a"].port))
    await create(edge.api, service(2))
    await create(edge.api, route(2))
    await edge.served([host(2)])
    for number in range(rounds):
        pod = "ba"[number % 2]
        patch = {"ports": [{"name": "http", "port": edge.backends[pod].port, "protocol": "TCP"}]}
        effects.append(await effect_of(edge, f"{SLICES}/svc-2-a", patch, host(2), answered_by(pod)))
        await asyncio.sleep(PAUSE_SECONDS)
    return Outcome(name=edge.contender.name, kind=REPLACED, effects=effects, rounds=rounds, requests=rounds, wrong=())


async def measure(contender: Contender, rounds: int) -> list[Outcome]:
    """All kinds, on a stage of its own."""
    async with standing(contender) as edge:
        return [
            await switch(edge, rounds_of(contender, rounds)),
            await reorder(edge, rounds),
            await replace(edge, rounds_of(contender, 2 * rounds)),
        ]


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """One row for each kind and controller."""
    title(f"Changes under {RATE:g} requests a second")
    head = ["change", "controller", "rounds", "effect p50 ms", "effect p99 ms", "goal", "requests", "wrong or lost"]
    table([*head, "verdict"], map(_row, outcomes))


def _row(one: Outcome) -> tuple[object, ...]:
    p50 = quantile((seconds * 1000 for seconds in one.effects), 0.5)
    goal = GOAL_P50_MS.get(one.kind)
    missed = []
    if goal is not None and p50 > goal:
        missed.append(f"p50 > {goal:g}")
    if one.wrong:
        missed.append("wrong answers")
    p99 = quantile((seconds * 1000 for seconds in one.effects), 0.99)
    return (
        *(one.kind, one.name, one.rounds, p50 if one.effects else "", p99 if one.effects else ""),
        *(f"{goal:g}" if goal else "", one.requests, len(one.wrong), ", ".join(missed) or "reached"),
    )


async def run(given: argparse.Namespace) -> None:
    """Measure and print."""
    outcomes = [outcome for one in contenders(given) for outcome in await measure(one, given.rounds)]
    print_outcomes(sorted(outcomes, key=lambda one: one.kind))


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--rounds", type=int, default=50)
    start(partial(run, flags.parse_args()))


if __name__ == "__main__":
    main()
