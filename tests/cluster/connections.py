"""Which proxy is connected to which replica of the control plane."""

import asyncio
import os
import urllib.request

import msgspec

from tests.cluster import kernel
from tests.cluster.cluster import MiniCluster
from tests.cluster.portway_in import CONTROL_PLANE, SYSTEM, Shop


class _Proxy(msgspec.Struct):
    name: str
    fleet: str


class _Status(msgspec.Struct):
    proxies: tuple[_Proxy, ...]


async def connected(cluster: MiniCluster, shop: Shop) -> dict[str, set[str]]:
    """Names of the proxies of the shop's Gateway by the replica that they are connected to."""
    found = {}
    for pod in await cluster.pods(SYSTEM, CONTROL_PLANE):
        process, *_ = await cluster.processes(SYSTEM, pod.metadata.name)
        status = msgspec.json.decode(await asyncio.to_thread(forwarded, process, "/api/v1/status"), type=_Status)
        fleet = f"gateway/{shop.namespace}/edge"
        found[pod.metadata.name] = {proxy.name for proxy in status.proxies if proxy.fleet == fleet}
    return found


def forwarded(process: int, path: str) -> bytes:
    """What the admin port of a process in a pod answers over its own loopback, where `kubectl port-forward` arrives."""
    namespace = kernel.open_namespace("net", process)
    try:
        with kernel.inside(namespace), urllib.request.urlopen(f"http://127.0.0.1:9902{path}", timeout=10) as answer:
            return bytes(answer.read())
    finally:
        os.close(namespace)


async def spread(cluster: MiniCluster, shop: Shop, proxies: int) -> dict[str, set[str]]:
    """Replace proxies until both replicas have some: a Service chooses at random."""
    while True:

        async def look() -> dict[str, set[str]]:
            found = await connected(cluster, shop)
            return found if sum(map(len, found.values())) == proxies else {}

        found = await cluster.wait_for("all proxies connected", look)
        if all(found.values()):
            return found
        pod = next(name for names in found.values() for name in names)
        await cluster.api.delete(f"/api/v1/namespaces/{shop.namespace}/pods/{pod}", grace_s=0)
        await cluster.wait_gone(f"/api/v1/namespaces/{shop.namespace}/pods/{pod}")
        await shop.pods(count=proxies)
