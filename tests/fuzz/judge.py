"""A real Envoy that judges worlds: it gets all resources of one after the other and says which it refuses.

Everything is as in production (bootstrap, discovery server, isolation of what is refused) but for three things without
which a judgement would wait for the world outside: listeners listen on loopback, on ports that are free; endpoints are
on a loopback port where nobody is; names are asked of a server that knows none. Runs an event loop in a thread of its
own, since hypothesis calls tests as plain functions.
"""

import asyncio
import ipaddress
import struct
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from envoy.config.core.v3 import address_pb2 as addressv3
from envoy.config.endpoint.v3 import endpoint_pb2 as endpointv3
from envoy.config.listener.v3 import listener_pb2 as listenerv3

from portway.envoy.bootstrap import BootstrapSettings, build_bootstrap
from portway.model.resource import Resource, ResourceDelta, ResourceKey, ResourceType, make_resource
from portway.xds.messages import Refusal
from portway.xds.ordering import Timing
from portway.xds.server import DiscoveryServer
from tests.kit.envoy import EnvoyProcess, running_envoy
from tests.kit.lab import eventually
from tests.kit.ports import Ports

FLEET = "host"
ZONE = "z1"
"""Where the Envoy says that it runs."""
LOOPBACK = "127.0.0.1"
NOBODY = 1  # a port on loopback that refuses connections at once
PATIENCE_S = 30.0


class _NoNames(asyncio.DatagramProtocol):
    """A name server that knows no name."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not by `isinstance`: before Python 3.12 asyncio's own datagram transport is none.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        # The question again, with the flags of an answer: NXDOMAIN (RFC 1035 §4.1.1).
        self._transport.sendto(data[:2] + struct.pack("!HHHHH", 0x8183, 1, 0, 0, 0) + data[12:], addr)


class Judge:
    """The Envoy, its server, and what it was given last."""

    def __init__(self, server: DiscoveryServer, envoy: EnvoyProcess, ports: Ports, loop: asyncio.AbstractEventLoop):
        self._server = server
        self._envoy = envoy
        self._ports = ports
        self._loop = loop
        self._real: dict[tuple[str, int], int] = {}
        self._given: dict[ResourceKey, Resource] = {}
        self.worlds = self.resources = 0

    def refused(self, resources: Iterable[Resource]) -> tuple[Refusal, ...]:
        """Give Envoy exactly these resources; what it refuses of them.

        Raises:
            AssertionError: it died.
            TimeoutError: it took neither part nor position.
        """
        return asyncio.run_coroutine_threadsafe(self._refused(list(resources)), self._loop).result(PATIENCE_S * 2)

    async def _refused(self, resources: list[Resource]) -> tuple[Refusal, ...]:
        wanted = {resource.key: self._on_loopback(resource) for resource in resources}
        changed = tuple(
            each for key, each in wanted.items() if key not in self._given or self._given[key].version != each.version
        )
        removed = tuple(resource.key for key, resource in self._given.items() if key not in wanted)
        self._given = dict(wanted)
        self.worlds += 1
        self.resources += len(changed)
        self._server.apply(FLEET, ResourceDelta(changed=changed, removed=removed))
        fleet = self._server.fleet(FLEET)

        async def decided() -> bool:
            assert self._is_running(), f"Envoy died:\n{self._envoy.log()[-3000:]}"
            refused = {refusal.key for refusal in fleet.refusals()}
            if not fleet.progress(key for key in wanted if key not in refused).complete:
                return False
            # Endpoints and secrets are asked for by what uses them, later; and whoever lacks them is warming.
            return bool(refused) or not await self._is_warming()

        await eventually(decided, seconds=PATIENCE_S)
        return fleet.refusals()

    async def _is_warming(self) -> bool:
        gauges = await self._envoy.statistics("(listener_manager.total_listeners_|cluster_manager.)warming")
        assert gauges
        return any(gauges.values())

    def _is_running(self) -> bool:
        return Path(f"/proc/{self._envoy.pid}").exists()

    def _on_loopback(self, resource: Resource) -> Resource:
        match resource.key.type:
            case ResourceType.LISTENER:
                listener = listenerv3.Listener.FromString(resource.body)
                self._place(listener.address.socket_address)
                body = listener.SerializeToString(deterministic=True)
            case ResourceType.ENDPOINTS:
                assignment = endpointv3.ClusterLoadAssignment.FromString(resource.body_for(ZONE))
                for locality in assignment.endpoints:
                    for endpoint in locality.lb_endpoints:
                        _nobody(endpoint.endpoint.address)
                body = assignment.SerializeToString(deterministic=True)
            case _:
                return resource
        return make_resource(
            resource.key,
            body,
            requires=resource.requires,
            readiness=resource.readiness,
            origins=resource.origins,
        )

    def _place(self, address: addressv3.SocketAddress) -> None:
        ipaddress.ip_address(address.address)
        declared = (address.address, address.port_value)
        if declared not in self._real:
            self._real[declared] = self._ports.take()
        address.address, address.port_value = LOOPBACK, self._real[declared]


def _nobody(address: addressv3.Address) -> None:
    if address.WhichOneof("address") == "socket_address":
        ipaddress.ip_address(address.socket_address.address)
        address.socket_address.address, address.socket_address.port_value = LOOPBACK, NOBODY


@contextmanager
def judging() -> Iterator[Judge]:
    """Run a judge until the block ends."""
    ready: list[Judge | BaseException] = []
    begun = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        over = asyncio.Event()
        loops.append((asyncio.get_running_loop(), over))
        server = DiscoveryServer(timing=Timing(wait=0.3, grace=0.0, settle=0.05))
        with tempfile.TemporaryDirectory(prefix="pw") as name, Ports() as ports:
            socket = Path(name) / "ads.sock"
            dns = ports.take()
            names, _ = await asyncio.get_running_loop().create_datagram_endpoint(_NoNames, (LOOPBACK, dns))
            server.mark_synced(FLEET)
            await server.start(f"unix:{socket}")
            bootstrap = build_bootstrap(
                BootstrapSettings(
                    node_id="judge", fleet=FLEET, zone=ZONE, control_plane=str(socket), dns_resolvers=((LOOPBACK, dns),)
                )
            )
            try:
                async with running_envoy(Path(name), bootstrap) as envoy:

                    async def connected() -> bool:
                        return bool(server.fleet(FLEET).sessions)

                    await eventually(connected)
                    ready.append(Judge(server, envoy, ports, asyncio.get_running_loop()))
                    begun.set()
                    await over.wait()
            finally:
                await server.stop()
                names.close()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            ready.append(error)
        finally:
            begun.set()

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    try:
        first = ready[0]
        if isinstance(first, BaseException):
            raise first
        yield first
    finally:
        for loop, over in loops:
            if not loop.is_closed():
                loop.call_soon_threadsafe(over.set)
        thread.join()
    for outcome in ready[1:]:
        assert not isinstance(outcome, BaseException), outcome
