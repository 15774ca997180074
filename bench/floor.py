"""The floor for "change one route of N": a bare delta-ADS server that sends ready-made resources to a real Envoy.

No translation, no sources, one plain route for each host and an EDS cluster for each. Times run from sending to the
first changed answer that a client sees; it asks on a kept-alive connection, again one millisecond after each answer.
They depend on what else the machine does: compare only what alternates in one run. Run:

    python -m bench.floor [--hosts N ...] [--large] [--changes N]

Other benchmarks call `floor(...)` and alternate with it in one run.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
from envoy.config.route.v3 import route_components_pb2 as routev3

from portway.model.resource import ResourceType
from tests.kit.answer import Answer
from tests.kit.backends import BackendSpec, backend_process
from tests.kit.connect import Endpoint
from tests.kit.http1_client import Http1Connection
from tests.kit.lab import Laboratory, laboratory, settled, until_subscribed
from tests.kit.resources import eds_cluster, endpoints, http_listener, route, vhds_routes, virtual_host

TABLE = "r"
POLL_SECONDS = 0.001
SIZES = (1_000, 5_000)
LARGE = 20_000
AT_ONCE = 4
"""Hosts that come together while an Envoy grows."""
_START_SECONDS = 120  # 20,000 hosts on a busy machine


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Times of one kind of change."""

    name: str
    seconds: tuple[float, ...]
    """In the order of measurement; at least one."""

    def quantile_ms(self, quantile: float) -> float:
        """Nearest rank; with fewer than 100 changes the 0.99 is the largest."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] * 1000

    def row(self) -> str:
        """For people."""
        return (
            f"{self.name:44s} p50 {self.quantile_ms(0.5):7.1f} ms  p99 {self.quantile_ms(0.99):7.1f} ms  "
            f"({len(self.seconds)} changes)"
        )


class Floor:
    """An Envoy that serves N plain hosts; one change at a time."""

    def __init__(self, lab: Laboratory, port: int, hosts: int, backend_port: int) -> None:
        self.lab = lab
        self.port = port
        self.hosts = hosts
        self._backend_port = backend_port
        self._changes = 0
        self._next = hosts

    async def change_route(self) -> float:
        """Change the one route of some host; seconds until a client sees it."""
        self._changes += 1
        number, marker = self._changes * 7 % self.hosts, f"m{self._changes}"
        host = plain_host(number, marker)
        self.lab.ads.put(host)

        def send() -> None:
            self.lab.ads.push(ResourceType.VIRTUAL_HOST, [host.name])

        return await self._timed(number, send, lambda answer: answer.header("x-marker") == marker)

    async def add_route(self) -> float:
        """Add a host with a cluster of its own, the route once its endpoints are there; seconds until it answers."""
        number, ads = self._next, self.lab.ads
        self._next += 1
        host, cluster = plain_host(number), f"c{number}"
        ads.put(eds_cluster(cluster), endpoints(cluster, self._backend_port), host)
        async with asyncio.TaskGroup() as group:

            async def send() -> None:
                ads.push(ResourceType.CLUSTER, [cluster])
                reply = await ads.send(ResourceType.ENDPOINTS, [cluster])
                assert reply.error is None, reply.error
                ads.push(ResourceType.VIRTUAL_HOST, [host.name])

            def changed(answer: Answer) -> bool:
                # A 503 would mean that the route came before its cluster: no floor to be compared with.
                if answer.status not in {200, 404}:
                    raise RuntimeError(f"{host.name}: {answer.status} while it was added")
                return answer.status == 200

            return await self._timed(number, lambda: group.create_task(send()), changed)

    async def grow(self, hosts: int) -> None:
        """Add hosts, a few at a time, until there are so many.

        Each time Envoy builds all of them anew, between clusters that stay, so that they end scattered over its memory:
        at 3,000 a change then takes half as much again of its time as in an Envoy that got all at once.
        """
        ads = self.lab.ads
        while self.hosts < hosts:
            numbers = range(self.hosts, min(self.hosts + AT_ONCE, hosts))
            clusters, added = [f"c{number}" for number in numbers], list(map(plain_host, numbers))
            for cluster in clusters:
                ads.put(eds_cluster(cluster), endpoints(cluster, self._backend_port))
            ads.put(*added)
            ads.push(ResourceType.CLUSTER, clusters)
            for type_, names in (
                (ResourceType.ENDPOINTS, clusters),
                (ResourceType.VIRTUAL_HOST, [host.name for host in added]),
            ):
                reply = await ads.send(type_, names)
                assert reply.error is None, reply.error
            self.hosts = self._next = numbers.stop

    async def change_endpoints(self, backend_port: int, pod: str) -> float:
        """Point the cluster of some host at another backend; seconds until that one answers."""
        self._changes += 1
        number, ads = self._changes * 7 % self.hosts, self.lab.ads
        ads.put(endpoints(f"c{number}", backend_port))

        def send() -> None:
            ads.push(ResourceType.ENDPOINTS, [f"c{number}"])

        return await self._timed(number, send, lambda answer: answer.pod == pod)

    async def _timed(self, number: int, send: Callable[[], object], changed: Callable[[Answer], bool]) -> float:
        loop = asyncio.get_running_loop()
        async with await Http1Connection.open(Endpoint(port=self.port)) as connection:
            assert not changed(await connection.request("/status/200", host=domain(number)))
            started = loop.time()
            send()
            await until_changed(connection, domain(number), changed)
            return loop.time() - started


async def until_changed(connection: Http1Connection, host: str, changed: Callable[[Answer], bool]) -> None:
    """Ask until an answer is the changed one; the way in which every benchmark of changes looks.

    Raises:
        RuntimeError: a request failed.
    """
    while True:
        answer = await connection.request("/status/200", host=host)
        if answer.failure is not None:
            raise RuntimeError(f"{host}: {answer.failure}")
        if changed(answer):
            return
        await asyncio.sleep(POLL_SECONDS)


def domain(number: int) -> str:
    """The host name of that number."""
    return f"h{number}.example.com"


def plain_host(number: int, marker: str = "m0") -> routev3.VirtualHost:
    """One plain route to a cluster of its own; the marker is a response header."""
    header = {"header": {"key": "x-marker", "value": marker}}
    return virtual_host(f"{TABLE}/h{number}", [domain(number)], route(f"c{number}", response_headers_to_add=[header]))


@asynccontextmanager
async def floor(hosts: int, backend_port: int, *, grown: bool = False) -> AsyncIterator[Floor]:
    """Serve that many hosts from one backend until the block ends.

    Args:
        grown: they came one after the other, not all at the start.

    Raises:
        TimeoutError: not all were served in time.
    """
    async with laboratory() as lab:
        port, ads = lab.ports.take(), lab.ads
        at_start = min(hosts, AT_ONCE) if grown else hosts
        for number in range(at_start):
            cluster = f"c{number}"
            ads.put(eds_cluster(cluster), endpoints(cluster, backend_port), plain_host(number))
        ads.put(vhds_routes(TABLE))
        async with asyncio.timeout(_START_SECONDS):
            assert (await ads.send(ResourceType.CLUSTER, list(ads.resources[ResourceType.CLUSTER]))).error is None
            assert (await ads.update(http_listener("l", port, TABLE))).error is None
            await until_subscribed(ads, ResourceType.ROUTES, TABLE)
            await settled(ads, ResourceType.ROUTES)
            ads.manual.add(ResourceType.ENDPOINTS)  # from now on they are pushed right behind their cluster
            running = Floor(lab, port, at_start, backend_port)
            await _until_listening(port)
            await running.grow(hosts)
            async with await Http1Connection.open(Endpoint(port=port)) as connection:
                for number in (0, hosts - 1):
                    await until_changed(connection, domain(number), lambda answer: answer.status == 200)
        yield running


async def _until_listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(POLL_SECONDS)
            continue
        writer.transport.abort()
        return


async def measure(hosts: int, backend_port: int, *, changes: int = 100) -> Sequence[Series]:
    """Both kinds of change, alternating, among that many hosts."""
    changed: list[float] = []
    added: list[float] = []
    async with floor(hosts, backend_port) as running:
        for _ in range(changes):
            changed.append(await running.change_route())
            added.append(await running.add_route())
    return (
        Series(name=f"floor: changed route, {hosts:,} hosts", seconds=tuple(changed)),
        Series(name=f"floor: new cluster and route, {hosts:,} hosts", seconds=tuple(added)),
    )


async def main() -> None:
    """Print a row for each kind of change and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, action="append", help="default: 1000 and 5000")
    parser.add_argument("--large", action="store_true", help="also 20000")
    parser.add_argument("--changes", type=int, default=100, help="of each kind")
    arguments = parser.parse_args()
    sizes = [*(arguments.hosts or SIZES), *([LARGE] if arguments.large else [])]
    async with backend_process(BackendSpec(name="a")) as backends:
        for hosts in sizes:
            for series in await measure(hosts, backends["a"].port, changes=arguments.changes):
                print(series.row(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
