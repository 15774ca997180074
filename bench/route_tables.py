"""What one changed virtual host costs among N, by how the hosts are spread over route tables behind one HTTP port.

Any change inside a route configuration rebuilds all of it on Envoy's main thread, so its cost follows the number of
hosts in that table. This compares one table with scoped routes (SRDS), which choose a table by the value of a header.
The hosts' first characters are spread evenly, which is the best case: hosts that share them share a table. Run:

    python -m bench.route_tables --hosts 3000
"""

import argparse
import asyncio
import itertools
import statistics
import string
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import envoy.extensions.http.early_header_mutation.header_mutation.v3.header_mutation_pb2  # noqa: F401
import msgspec
from envoy.config.route.v3 import route_components_pb2 as routev3
from envoy.config.route.v3 import route_pb2 as route_configv3
from envoy.config.route.v3 import scoped_route_pb2 as scoped_routev3

from portway.model.resource import ResourceType
from tests.kit.ads import AdsServer, type_of
from tests.kit.backends import BackendSpec, backend_process
from tests.kit.client import fetch
from tests.kit.connect import Endpoint
from tests.kit.http1_client import Http1Connection, encode_request
from tests.kit.lab import Laboratory, eventually, laboratory, settled
from tests.kit.resources import (
    ADS,
    eds_cluster,
    endpoints,
    http_listener,
    parse,
    route,
    routes,
    typed,
    vhds_routes,
    virtual_host,
)

SCOPED = type_of(scoped_routev3.ScopedRouteConfiguration())
TABLE_HEADER = "x-portway-table"

_HOST_CHARACTERS = string.ascii_letters + string.digits + "-_.:["


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """How hosts are spread."""

    name: str
    tables: int
    """1: plain RDS and VHDS. 0: a table for each host."""
    prefix: int = 0
    """0: the scope is the whole Host header; else its first characters, copied to a header before routing."""
    vhds: bool = True
    covered: bool = False
    """A scope for every prefix that a host may have, as wildcard hosts need; else only for those in use."""


LAYOUTS = (
    Layout(name="one table, VHDS", tables=1),
    Layout(name="one table, RDS", tables=1, vhds=False),
    Layout(name="64 tables by host, VHDS", tables=64),
    Layout(name="64 tables by host, RDS", tables=64, vhds=False),
    Layout(name="a table for each host, RDS", tables=0, vhds=False),
    Layout(name="64 tables by 4 characters, VHDS", tables=64, prefix=4),
    Layout(name="16 tables by first character, VHDS", tables=16, prefix=1),
    Layout(name="64 tables by 2 characters, VHDS", tables=64, prefix=2),
    Layout(name="64 tables by 2 characters, covered", tables=64, prefix=2, covered=True),
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One measured layout."""

    layout: str
    change_ms: float
    """Median from sending the changed host to Envoy's acknowledgement."""
    change_cpu_ms: float
    """Median CPU time of Envoy's main thread for one change; hardly depends on what else the machine does."""
    seen_ms: float
    """Median from sending it to the first changed answer on a kept-alive connection."""
    memory_mb: float
    cpu_us: float
    """Envoy's CPU time per proxied request, all threads, busy connections, requests spread over all hosts."""

    def text(self) -> str:
        """For people."""
        return (
            f"{self.layout:36s} ack {self.change_ms:6.1f} ms  CPU {self.change_cpu_ms:5.1f} ms  "
            f"seen {self.seen_ms:6.1f} ms  {self.memory_mb:5.0f} MB  {self.cpu_us:6.1f} us/request"
        )


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One changed host, in seconds."""

    acknowledged: float
    seen: float
    cpu: float


class Tables:
    """The resources of one layout."""

    def __init__(self, layout: Layout, hosts: int) -> None:
        self.layout = layout
        self.hosts = hosts
        self.count = layout.tables or hosts

    def table(self, number: int) -> str:
        return f"r{number % self.count}"

    def domain(self, number: int) -> str:
        """Hexadecimal digits, the fastest changing first: the first characters of all hosts are spread evenly."""
        return f"{f'{number:04x}'[::-1]}.example.com"

    def host(self, number: int, marker: str = "0") -> routev3.VirtualHost:
        header = {"header": {"key": "x-marker", "value": marker}}
        return virtual_host(
            f"{self.table(number)}/h{number}",
            [self.domain(number)],
            route("c0", response_headers_to_add=[header]),
        )

    def scopes(self) -> list[scoped_routev3.ScopedRouteConfiguration]:
        """A scope for each prefix in use, and for all others if they are to be covered."""
        prefixes = map("".join, itertools.product(_HOST_CHARACTERS, repeat=self.layout.prefix))
        tables = dict.fromkeys(prefixes, "r0") if self.layout.covered else {}
        for number in range(self.hosts):
            tables[self.domain(number)[: self.layout.prefix or None]] = self.table(number)
        return [
            parse(
                scoped_routev3.ScopedRouteConfiguration(),
                {
                    "name": f"s/{key}",
                    "route_configuration_name": table,
                    "key": {"fragments": [{"string_key": key}]},
                },
            )
            for key, table in tables.items()
        ]

    def manager(self) -> dict[str, object]:
        """Fields of the connection manager, besides RDS."""
        if self.layout.tables == 1:
            return {}
        header = TABLE_HEADER if self.layout.prefix else ":authority"
        fragment = {"header_value_extractor": {"name": header, "element_separator": "", "index": 0}}
        fields: dict[str, object] = {
            "rds": None,
            "scoped_routes": {
                "name": "s",
                "scope_key_builder": {"fragments": [fragment]},
                "rds_config_source": ADS,
                "scoped_rds": {"scoped_rds_config_source": ADS},
            },
        }
        if self.layout.prefix:
            value = {"key": TABLE_HEADER, "value": f"%REQ(:authority):{self.layout.prefix}%"}
            mutation = {"append": {"header": value, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
            name = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
            fields["early_header_mutation_extensions"] = [
                {"name": "table", "typed_config": typed(name, mutations=[mutation])}
            ]
        return fields


@asynccontextmanager
async def serving(tables: Tables, backend_port: int) -> AsyncIterator[tuple[Laboratory, int]]:
    """An Envoy that serves all hosts of a layout; yields its HTTP port."""
    async with laboratory() as lab:
        port, ads = lab.ports.take(), lab.ads
        hosts = [tables.host(number) for number in range(tables.hosts)]
        ads.put(endpoints("c0", backend_port))
        if tables.layout.vhds:
            ads.manual.add(ResourceType.VIRTUAL_HOST)
            ads.put(*hosts, *(vhds_routes(tables.table(number)) for number in range(tables.count)))
        else:
            ads.put(*(_table(tables, number, hosts) for number in range(tables.count)))
        if tables.layout.tables != 1:
            ads.put(*tables.scopes())
        await ads.update(eds_cluster("c0"))
        reply = await ads.update(http_listener("l", port, "r0", **tables.manager()))
        assert reply.error is None, reply.error
        if tables.layout.tables != 1:
            reply = await ads.send(SCOPED, list(ads.resources[SCOPED]))
            assert reply.error is None, reply.error
        if tables.layout.vhds:
            await _until_routes_held(ads, tables.count)
            reply = await ads.send(ResourceType.VIRTUAL_HOST, list(ads.resources[ResourceType.VIRTUAL_HOST]))
            assert reply.error is None, reply.error
        for number in (0, tables.hosts - 1):
            await _until_served(tables.domain(number), port)
        yield lab, port


async def _until_served(domain: str, port: int) -> None:
    async def check() -> bool:
        # Without the port, which would be part of a scope's key.
        return (await fetch(f"http://x:{port}/status/200", headers=[("host", domain)])).status == 200

    await eventually(check)


async def _until_routes_held(ads: AdsServer, count: int) -> None:
    """Virtual hosts that come before their route configuration are dropped, and Envoy does not ask for them again."""

    async def check() -> bool:
        return len(ads.subscribed[ResourceType.ROUTES]) >= count

    await eventually(check)
    # Subscribed is not yet applied: one more response of this type is acknowledged after those before it.
    await ads.send(ResourceType.ROUTES)


def _table(tables: Tables, number: int, hosts: Sequence[routev3.VirtualHost]) -> route_configv3.RouteConfiguration:
    return routes(tables.table(number), *hosts[number :: tables.count])


async def change(lab: Laboratory, tables: Tables, port: int, number: int, marker: str) -> Change:
    """Change one host."""
    loop, ads = asyncio.get_running_loop(), lab.ads
    host = tables.host(number, marker)
    if tables.layout.vhds:
        ads.put(host)
        type_, name = ResourceType.VIRTUAL_HOST, host.name
    else:
        hosts = [tables.host(other) for other in range(number % tables.count, tables.hosts, tables.count)]
        hosts[number // tables.count] = host
        ads.put(routes(tables.table(number), *hosts))
        type_, name = ResourceType.ROUTES, tables.table(number)
    async with await Http1Connection.open(Endpoint(port=port)) as connection:
        before, started = lab.envoy.main_thread_seconds(), loop.time()
        sent = ads.push(type_, [name])
        while True:
            answer = await connection.request("/status/200", host=tables.domain(number))
            if answer.header("x-marker") == marker:
                break
        seen = loop.time() - started
        reply = await sent.reply()
        assert reply.error is None, reply.error
        await settled(ads, ResourceType.LISTENER)
        return Change(acknowledged=reply.seconds, seen=seen, cpu=lab.envoy.main_thread_seconds() - before)


async def cpu_per_request(lab: Laboratory, tables: Tables, port: int, *, rounds: int = 150, repeats: int = 5) -> float:
    """Seconds of Envoy's CPU per request: the least of some repeats, since others use this machine too."""
    least = float("inf")
    for repeat in range(repeats):
        async with AsyncExitStack() as stack:
            connections = [
                await stack.enter_async_context(await Http1Connection.open(Endpoint(port=port))) for _ in range(32)
            ]
            before = lab.envoy.cpu_seconds()
            for index in range(rounds):
                for place, connection in enumerate(connections):
                    number = (index * 32 + place + repeat) * 7919 % tables.hosts
                    connection.write(encode_request("/status/200", host=tables.domain(number)))
                for connection in connections:
                    answer = await connection.receive()
                    assert answer.status == 200
            least = min(least, (lab.envoy.cpu_seconds() - before) / (rounds * len(connections)))
    return least


async def measure(layout: Layout, hosts: int, backend_port: int, *, changes: int = 15) -> Row:
    """Serve a layout, change some hosts, put load on it."""
    tables = Tables(layout, hosts)
    async with serving(tables, backend_port) as (lab, port):
        await asyncio.sleep(0.5)
        memory = lab.envoy.memory_mb()
        taken = [await change(lab, tables, port, index * 7 % hosts, str(index + 1)) for index in range(changes)]
        cpu = await cpu_per_request(lab, tables, port)
    return Row(
        layout=layout.name,
        change_ms=statistics.median(one.acknowledged for one in taken) * 1000,
        change_cpu_ms=statistics.median(one.cpu for one in taken) * 1000,
        seen_ms=statistics.median(one.seen for one in taken) * 1000,
        memory_mb=memory,
        cpu_us=cpu * 1e6,
    )


async def main() -> None:
    """Print one row per layout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=3000)
    parser.add_argument("--layout", type=int, action="append", help="index of a layout; default: all")
    arguments = parser.parse_args()
    async with backend_process(BackendSpec(name="a")) as backends:
        for index in arguments.layout or range(len(LAYOUTS)):
            row = await measure(LAYOUTS[index], arguments.hosts, backends["a"].port)
            print(row.text(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
