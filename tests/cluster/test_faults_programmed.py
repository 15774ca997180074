"""`Programmed` is true: of all proxies of a Gateway, whichever replica of the control plane they are connected to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from tests.cluster.cluster import MiniCluster
from tests.cluster.connections import spread
from tests.cluster.portway_in import (
    PROGRAMMED,
    PROXIES,
    Object,
    Shop,
    install,
    leader,
    opened,
    route,
)

pytestmark = [pytest.mark.cluster, pytest.mark.disturbs, pytest.mark.timeout(300)]


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
