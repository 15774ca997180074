"""`Programmed` is true: of all proxies of a Gateway, whichever replica of the control plane they are connected to."""

import asyncio
import os
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from tests.cluster import kernel
from tests.cluster.cluster import MiniCluster
from tests.cluster.portway_in import (
    CONTROL_PLANE,
    PROGRAMMED,
    PROXIES,
    SYSTEM,
    Object,
    Shop,
    install,
    leader,
    opened,
    route,
)

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster"), pytest.mark.timeout(300)]


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


@pytest.mark.slow
async def test_a_proxy_that_hangs_is_missed_at_whichever_replica_it_is(cluster: MiniCluster) -> None:
    async with opened(cluster, proxies=3) as shop:
        await shop.apply(route("web", ("/", "a")))
        await shop.until("httproutes", "web", PROGRAMMED)
        by_replica = await spread(cluster, shop, 3)
        leading = await leader(cluster)
        for replica, proxies in by_replica.items():
            proxy, name = next(iter(proxies)), "leads" if replica == leading else "follows"
            await cluster.pause_pod(shop.namespace, proxy)
            try:
                await shop.apply(route(f"{name}-1", ("/", "a"), hosts=[f"{name}.test"]))
                await shop.until("httproutes", f"{name}-1", "Accepted")
                await shop.until("httproutes", f"{name}-1", PROGRAMMED, "False", has="2 of 3 proxies hold it")
            finally:
                await cluster.pause_pod(shop.namespace, proxy, paused=False)
            await shop.until("httproutes", f"{name}-1", PROGRAMMED)
            await shop.pods(count=3)


@asynccontextmanager
async def watched(cluster: MiniCluster, shop: Shop) -> AsyncIterator[set[str]]:
    """Collect all that the Gateway's `Programmed` says meanwhile."""
    seen: set[str] = set()
    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{shop.namespace}/gateways"

    class Event(msgspec.Struct):
        type: str
        object: Object

    async def follow() -> None:
        async for line in cluster.api.stream(path, {"watch": "1"}):
            seen.add(str(msgspec.json.decode(line, type=Event).object.find("Programmed")))

    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follow())
        try:
            yield seen
        finally:
            following.cancel()


async def test_it_stays_while_the_fleet_scales(cluster: MiniCluster) -> None:
    async with opened(cluster) as shop:
        await shop.apply(route("web", ("/", "a")))
        await shop.until("httproutes", "web", PROGRAMMED)
        async with watched(cluster, shop) as seen, shop.load("a"):
            for replicas in (4, 1, 2):
                await shop.scale("portway-edge", replicas)
                await shop.pods(count=replicas)
        assert all(one.startswith("Programmed=True") for one in seen), seen
        assert seen


async def test_the_node_of_a_proxy_dies(cluster: MiniCluster) -> None:
    async with opened(cluster) as shop:
        await shop.apply(route("web", ("/", "a")))
        await shop.until("httproutes", "web", PROGRAMMED)
        (backend,) = await shop.pods("app=a")
        proxies = await shop.pods(count=2)
        # Not the backend's: what is looked at is the proxy.
        proxy = next(one for one in proxies if one.spec.node_name != backend.spec.node_name)
        await cluster.kill_node(proxy.spec.node_name)
        try:
            await shop.apply(route("after", ("/", "a"), hosts=["after.test"]))

            async def replaced() -> bool:
                # What ran there is Terminating for as long as the node says nothing.
                pods = await cluster.pods(shop.namespace, PROXIES)
                return sum(one.is_ready and one.metadata.uid != proxy.metadata.uid for one in pods) == 2

            await cluster.wait_for("another proxy", replaced)
            await shop.until_served("/", "after.test", by="a")
            await shop.until("httproutes", "after", PROGRAMMED)
            async with shop.load("a"):
                await shop.until("gateways", "edge", "Programmed")
        finally:
            await cluster.start_node(proxy.spec.node_name)
        await install(cluster)
