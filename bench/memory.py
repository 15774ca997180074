"""What N hosts weigh: resident memory of Portway and of its Envoy, and the series on the metrics page.

Measured when all is served, and again after one request to each of up to 5,000 hosts (a cluster that nobody used has no
connection pool). Lean
hosts have one plain route, rich ones three with matches, filters, timeouts and retries (`bench.worlds`); each has a
Service and an EndpointSlice of its own. A further namespace has ten hosts; it is switched on for the second count of
series. Envoy has one worker: each further one weighs some more. Run:

    python -m bench.memory [--hosts N ...] [--large]
"""

import argparse
import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from bench.report import machine, rss_mib, table, title
from bench.serving import Serving, ask_each, serving
from bench.worlds import Shape, files
from tests.kit.backends import BackendSpec, backend_process
from tests.kit.manifests import gateway, http_route, service
from tests.kit.ports import Ports

SIZES = (1, 5_000)
LARGE = 20_000
GOAL_HOSTS = 5_000
GOAL_PORTWAY_MIB = 250.0
GOAL_ENVOY_MIB = 330.0
GOAL_SERIES = 5_000

USED_HOSTS = 5_000
"""Each used one keeps an upstream connection, and so a descriptor in Envoy and in the backend: most machines allow a
process 20,000 of them."""

COUNTED = "counted"
"""The namespace that is switched on."""
COUNTED_HOSTS = 10


class Weight(msgspec.Struct, frozen=True, kw_only=True):
    """What was found with one world."""

    hosts: int
    shape: Shape
    portway_mib: float
    envoy_mib: float
    used_portway_mib: float
    """After a request to each of up to `USED_HOSTS` hosts."""
    used_envoy_mib: float
    series: int
    """Of the proxy, on Portway's metrics page."""


def more(port: int, backend: int) -> Mapping[str, str]:
    """A namespace with ten hosts, on a Gateway of its own."""
    pieces = [gateway("more", [("http", port, "HTTP")], COUNTED).partition("---\n")[2]]
    for number in range(COUNTED_HOSTS):
        pieces.append(service(f"c{number}", [backend], COUNTED))
        pieces.append(http_route(f"c{number}", "more", f"c{number}.counted.test", [("/", f"c{number}")], COUNTED))
    return {"counted.yaml": "---\n".join(pieces)}


async def weigh(hosts: int, shape: Shape, backend: int, arguments: Sequence[str] = ()) -> Weight:
    """Start, weigh, ask each host once, weigh again."""
    with Ports() as ports:
        port = ports.take()
        declared = {**files(hosts, backend, port, shape, per_file=100), **more(ports.take(), backend)}
        async with serving(declared, port, hosts, arguments, log_level="info") as running:
            await _wait_ready(running)
            fresh = rss_mib(running.portway.pid), rss_mib(running.envoy)
            await ask_each(port, min(hosts, USED_HOSTS))
            return Weight(
                hosts=hosts,
                shape=shape,
                portway_mib=fresh[0],
                envoy_mib=fresh[1],
                used_portway_mib=rss_mib(running.portway.pid),
                used_envoy_mib=rss_mib(running.envoy),
                series=await series(running),
            )


async def _wait_ready(running: Serving) -> None:
    async def is_ready() -> bool:
        return (await running.portway.admin("/readyz")).status == 200

    await running.portway.until(is_ready, "ready", seconds=60)


async def series(running: Serving) -> int:
    """Series of the proxy on Portway's metrics page."""
    page = (await running.portway.admin("/metrics")).body.decode()
    return sum(line.startswith("envoy_") for line in page.splitlines())


async def run(sizes: Sequence[int]) -> None:
    """Measure and print."""
    found: list[Weight] = []
    async with backend_process(BackendSpec(name="a")) as backends:
        backend = backends["a"].port
        for hosts in sizes:
            shapes = (Shape.LEAN, Shape.RICH) if hosts <= GOAL_HOSTS else (Shape.LEAN,)
            found += [await weigh(hosts, shape, backend) for shape in shapes if hosts > 1 or shape is Shape.LEAN]
        counted = await weigh(GOAL_HOSTS, Shape.LEAN, backend, ("--statistics-for", COUNTED))
    empty = found[0]
    title("Memory (MiB, resident) and metric series")
    head = [
        "hosts",
        "shape",
        "Portway",
        "Envoy",
        "Portway, each used",
        "Envoy, each used",
        "KiB a host: Portway",
        "Envoy",
    ]
    table([*head, "series of the proxy", "verdict"], (_row(one, empty) for one in found))
    title(f"Series with a namespace of {COUNTED_HOSTS} Services counted one by one (--statistics-for {COUNTED})")
    default = next(one.series for one in found if (one.hosts, one.shape) == (GOAL_HOSTS, Shape.LEAN))
    more_each = (counted.series - default) / COUNTED_HOSTS
    table(
        ["hosts", "series by default", "with the namespace", "a Service"],
        [(GOAL_HOSTS, default, counted.series, more_each)],
    )


def _row(one: Weight, empty: Weight) -> tuple[object, ...]:
    each = max(one.hosts - empty.hosts, 1)
    return (
        *(one.hosts, one.shape, one.portway_mib, one.envoy_mib, one.used_portway_mib, one.used_envoy_mib),
        (one.portway_mib - empty.portway_mib) * 1024 / each,
        (one.envoy_mib - empty.envoy_mib) * 1024 / each,
        *(one.series, _verdict(one)),
    )


def _verdict(one: Weight) -> str:
    missed: list[str] = []
    has_goal = one.hosts == GOAL_HOSTS and one.shape is Shape.LEAN
    if has_goal and one.portway_mib > GOAL_PORTWAY_MIB:
        missed.append(f"Portway > {GOAL_PORTWAY_MIB:g}")
    if has_goal and one.envoy_mib > GOAL_ENVOY_MIB:
        missed.append(f"Envoy > {GOAL_ENVOY_MIB:g}")
    if one.series > GOAL_SERIES:
        missed.append(f"series > {GOAL_SERIES:,}")
    if missed:
        return ", ".join(missed)
    return "reached" if has_goal else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="*", default=list(SIZES), help="the first is the base of comparison")
    parser.add_argument("--large", action="store_true", help="also 20000")
    given = parser.parse_args()
    print(machine())
    asyncio.run(run([*given.hosts, *([LARGE] if given.large else [])]))


if __name__ == "__main__":
    main()
