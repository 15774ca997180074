"""Services: cluster addresses for everybody, and addresses of a pool for those of type LoadBalancer.

What kube-proxy and a cloud's controller do together. Connections are translated in the kernel (`tests.cluster.network`)
to the endpoints that are ready, or, if there are none, to those that end but still serve, as kube-proxy does. With
`externalTrafficPolicy: Local` the client's address would be kept; here it is always kept, and every node is near.

Translation by the kernel, not a program that copies bytes: client addresses come through, UDP works as TCP does, and a
connection costs the two processors nothing that a measurement would see.
"""

import asyncio
import ipaddress
from collections import defaultdict
from collections.abc import Iterator
from typing import final

import aiohttp

from tests.cluster.api import Api, Refused, follow
from tests.cluster.network import LOAD_BALANCERS, Backend, Frontend, Network
from tests.cluster.objects import EndpointSlice, Service, ServicePort

_RETRY_S = 0.2


@final
class LoadBalancer:
    """Follows Services and EndpointSlices."""

    def __init__(self, api: Api, network: Network) -> None:
        self._api = api
        self._network = network
        self.services: dict[str, Service] = {}
        self.slices: dict[str, dict[str, EndpointSlice]] = defaultdict(dict)
        """By Service, then by name."""

        self._frontends: dict[str, set[Frontend]] = {}
        self._addresses: dict[str, str] = {}
        """LoadBalancer addresses by Service."""

        self._pool: Iterator[str] = _endless_pool()
        self._dirty: set[str] = set()
        self._unsettled: set[str] = set()
        self._wake = asyncio.Event()
        self._wake_addresses = asyncio.Event()
        self.ready = asyncio.Event()
        """Set when all Services have been seen once."""

    async def run(self) -> None:
        """Serve, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_services())
            tasks.create_task(self._follow_slices())
            tasks.create_task(self._program())
            tasks.create_task(self._give_addresses())

    async def _follow_services(self) -> None:
        async for change in follow(self._api, "/api/v1/services", Service):
            if change is None:
                # Only now: addresses that are given out already must not be given out again.
                self.ready.set()
                self._wake_addresses.set()
                continue
            service = change.object
            if change.gone:
                self.services.pop(service.key, None)
                self._addresses.pop(service.key, None)
            else:
                self.services[service.key] = service
                for ingress in service.status.load_balancer.ingress:
                    self._addresses.setdefault(service.key, ingress.ip)
            self._unsettled.add(service.key)
            self._wake_addresses.set()
            self._touch(service.key)

    async def _follow_slices(self) -> None:
        async for change in follow(self._api, "/apis/discovery.k8s.io/v1/endpointslices", EndpointSlice):
            if change is None:
                continue
            endpoints = self.slices[change.object.service]
            if change.gone:
                endpoints.pop(change.object.metadata.name, None)
            else:
                endpoints[change.object.metadata.name] = change.object
            self._touch(change.object.service)

    def _touch(self, key: str) -> None:
        self._dirty.add(key)
        self._wake.set()

    async def _program(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            dirty, self._dirty = self._dirty, set()
            wanted: dict[Frontend, list[Backend]] = {}
            for key in dirty:
                mine = self._wanted(key)
                old = self._frontends.get(key, set()) - mine.keys()
                wanted |= {frontend: [] for frontend in old if frontend not in wanted} | mine
                self._frontends[key] = set(mine)
            self._network.serve(wanted)

    def _wanted(self, key: str) -> dict[Frontend, list[Backend]]:
        service = self.services.get(key)
        if service is None or service.spec.type == "ExternalName":
            return {}
        addresses = [service.spec.cluster_ip, self._addresses.get(key, "")]
        return {
            Frontend(address, port.protocol, port.port): self._backends(key, port)
            for address in addresses
            if address not in ("", "None") and ":" not in address
            for port in service.spec.ports
            if port.protocol in ("TCP", "UDP")
        }

    def _backends(self, key: str, port: ServicePort) -> list[Backend]:
        ready, last = [], []
        for endpoints in self.slices[key].values():
            numbers = [one.port for one in endpoints.ports or () if one.name == port.name and one.port]
            for endpoint in endpoints.endpoints or ():
                backends = [Backend(address, number) for address in endpoint.addresses for number in numbers]
                if endpoint.conditions.ready is not False:
                    ready += backends
                elif endpoint.conditions.serving and endpoint.conditions.terminating:
                    last += backends
        return ready or last

    async def _give_addresses(self) -> None:
        await self.ready.wait()
        while True:
            await self._wake_addresses.wait()
            self._wake_addresses.clear()
            unsettled, self._unsettled = self._unsettled, set()
            for key in sorted(unsettled | self._waiting()):
                try:
                    await self._settle(key)
                except (aiohttp.ClientError, OSError, TimeoutError, Refused):
                    self._unsettled.add(key)
            if self._unsettled:
                await asyncio.sleep(_RETRY_S)
                self._wake_addresses.set()

    def _waiting(self) -> set[str]:
        """Services whose wish was not met: another one may have given the address back."""
        return {
            key
            for key, service in self.services.items()
            if service.spec.type == "LoadBalancer" and key not in self._addresses
        }

    async def _settle(self, key: str) -> None:
        service = self.services.get(key)
        if service is None:
            return
        wanted = self._address_for(service)
        if wanted:
            self._addresses[key] = wanted
        else:
            self._addresses.pop(key, None)
        now = tuple(ingress.ip for ingress in service.status.load_balancer.ingress)
        if now != ((wanted,) if wanted else ()):
            path = f"/api/v1/namespaces/{service.metadata.namespace}/services/{service.metadata.name}/status"
            status = {"loadBalancer": {"ingress": [{"ip": wanted, "ipMode": "VIP"}] if wanted else None}}
            await self._api.patch(path, {"status": status})
        self._touch(key)

    def _address_for(self, service: Service) -> str:
        """Empty: none, or none that may be given."""
        if service.spec.type != "LoadBalancer" or service.spec.load_balancer_class:
            return ""
        taken = {address for key, address in self._addresses.items() if key != service.key}
        wish = service.spec.load_balancer_ip
        if wish:
            return wish if wish not in taken and _is_in_pool(wish) else ""
        if service.key in self._addresses:
            return self._addresses[service.key]
        return next(address for address in self._pool if address not in taken)


def _is_in_pool(address: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(LOAD_BALANCERS)
    except ValueError:
        return False


def _endless_pool() -> Iterator[str]:
    # From .1.1 on: the first block is left to those who ask for an address by name.
    hosts = [str(address) for address in ipaddress.ip_network(LOAD_BALANCERS)][257:]
    while True:
        yield from hosts
