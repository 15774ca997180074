"""What is lost while things go wrong: requests through a fleet of two proxies, all answers counted.

Portway runs as its manifests install it, with two replicas. After each fault a new route must be served, so the outage
is over when that is; the time until then counts from the end of the fault. Run:

    python -m bench.cluster.faults [--only WORD] [--gateways N]
"""

import argparse
import asyncio
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec

from bench.cluster.contenders import start
from bench.cluster.stage import stage
from bench.report import table, title
from tests.cluster.control_plane import Component
from tests.cluster.outages import another_leader, go_back_in_time, kill_portway, lose
from tests.cluster.portway_in import PROXIES, SYSTEM, Shop, gateway, install, opened, route
from tests.kit.load import LoadProcess, LoadSpec, Report

RATE = 200.0
"""Requests a second."""
BACKENDS = ("a", "b")
OUTAGE_SECONDS = 60.0
LEADER_SECONDS = 60.0
"""Longest wait for one."""
GATEWAYS = 100
SIDE_BY_SIDE = 10
"""Gateways that are there at a time: each has two proxies."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One fault."""

    name: str
    rounds: int
    report: Report
    recovery: float
    """Seconds after the fault until a new route was served."""
    problem: str = ""


Fault = Callable[[Shop], Awaitable[int]]
"""Does it; returns how many times."""


async def roll_backends(shop: Shop) -> int:
    """New pods for old ones, three times."""
    for _ in range(3):
        await shop.restart("a", "app=a")
    return 3


async def switch_routes(shop: Shop) -> int:
    """Another backend, 50 times."""
    for number in range(50):
        name = "ba"[number % 2]
        await shop.apply(route("web", ("/", name)))
        await shop.until_served(by=name)
    await shop.apply(route("web", ("/", "a")))
    return 50


async def roll_fleet(shop: Shop) -> int:
    """New proxies for old ones, twice."""
    for _ in range(2):
        await shop.restart("portway-edge", PROXIES)
    return 2


async def kill_control_plane(shop: Shop) -> int:
    """All replicas at once, three times."""
    for _ in range(3):
        await kill_portway(shop.cluster)
        await install(shop.cluster)
    return 3


async def lose_leader(shop: Shop) -> int:
    """The one that leads is killed, twice."""
    for _ in range(2):
        old = await another_leader(shop.cluster, "", seconds=LEADER_SECONDS)
        await shop.cluster.api.delete(f"/api/v1/namespaces/{SYSTEM}/pods/{old}", grace_s=0)
        await another_leader(shop.cluster, old, seconds=LEADER_SECONDS)
        await install(shop.cluster)
    return 2


async def lose_api_server(shop: Shop) -> int:
    """For a minute, and all replicas are killed meanwhile."""
    await lose(shop.cluster, Component.API_SERVER, OUTAGE_SECONDS)
    return 1


async def restore_etcd(shop: Shop) -> int:
    """To an older state."""
    await go_back_in_time(shop)
    return 1


async def make_gateways(shop: Shop, *, count: int) -> int:
    """Gateways with a fleet each come, are programmed, and go."""
    for first in range(0, count, SIDE_BY_SIDE):
        names = [f"extra-{number}" for number in range(first, min(count, first + SIDE_BY_SIDE))]
        await shop.apply(*(gateway(name) for name in names))
        for name in names:
            await shop.until("gateways", name, "Programmed", seconds=120)
        for name in names:
            await shop.cluster.api.delete(shop.path("gateways", name))
        for name in names:
            path = f"/apis/apps/v1/namespaces/{shop.namespace}/deployments/portway-{name}"
            await shop.cluster.wait_gone(path, seconds=120)
    return count


async def measure(shop: Shop, name: str, fault: Fault, number: int) -> Outcome:
    """Under load, until a new route is served again."""
    loop = asyncio.get_running_loop()
    load = LoadProcess(LoadSpec(url="http://shop.test:80/", address=shop.address, rate=RATE, connections=8))
    rounds, recovery, problem = 0, float("nan"), ""
    async with load:
        try:
            rounds = await fault(shop)
            ended = loop.time()
            await shop.apply(route(f"after-{number}", ("/", "a"), hosts=[f"after-{number}.test"]))
            await shop.until_served("/", f"after-{number}.test", by="a", seconds=120)
            recovery = loop.time() - ended
        except AssertionError as error:
            traceback.print_exc()
            problem = str(error).partition("\n")[0][:200]
    return Outcome(name=name, rounds=rounds, report=load.report(), recovery=recovery, problem=problem)


async def run(given: argparse.Namespace) -> None:
    """One fault after the other, on one stage."""
    faults: dict[str, Fault] = {
        "backend of a route switched": switch_routes,
        "backends rolled out": roll_backends,
        "fleet rolled out": roll_fleet,
        "control plane killed": kill_control_plane,
        "leader lost": lose_leader,
        f"{given.gateways} Gateways made and removed": partial(make_gateways, count=given.gateways),
        f"API server down {OUTAGE_SECONDS:.0f} s, Portway restarted": lose_api_server,
        "etcd restored to an older state": restore_etcd,
    }
    outcomes: list[Outcome] = []
    async with stage() as cluster, opened(cluster, deployments=BACKENDS) as shop:
        await shop.scale("a", 2)
        await shop.apply(route("web", ("/", "a")))
        await shop.until_served(by="a")
        for number, (name, fault) in enumerate(faults.items()):
            if given.only in name:
                outcomes.append(await measure(shop, name, fault, number))
                print(f"{name}: {_said(outcomes[-1])}", flush=True)
    print_outcomes(outcomes)


def _wrong(report: Report) -> Counter[str]:
    """Requests that did not get a 200, by what they got."""
    return Counter(
        str(one.failure or one.status) for one in report.samples if one.failure is not None or one.status != 200
    )


def _said(one: Outcome) -> str:
    wrong = _wrong(one.report)
    return one.problem or (f"lost {dict(wrong)}" if wrong else "nothing lost")


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """One row for each fault."""
    title(f"Faults under {RATE:g} requests a second: what is lost, of a goal of 0")
    table(
        ["fault", "rounds", "requests", "p99 ms", "lost", "a new route served after s", "verdict"], map(_row, outcomes)
    )


def _row(one: Outcome) -> tuple[object, ...]:
    report = one.report
    lost = _wrong(report).total()
    return (one.name, one.rounds, len(report.samples), report.latency_ms(0.99), lost, one.recovery, _said(one))


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--only", default="", help="faults with this word in their name")
    flags.add_argument("--gateways", type=int, default=GATEWAYS)
    start(partial(run, flags.parse_args()))


if __name__ == "__main__":
    main()
