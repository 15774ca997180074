"""The network fails between proxies, replicas of the control plane and the API server: no request is lost, and
afterwards all is as if nothing had been."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.cluster.cluster import MiniCluster
from tests.cluster.connections import connected
from tests.cluster.objects import Pod
from tests.cluster.outages import another_leader
from tests.cluster.portway_in import CONTROL_PLANE, PROGRAMMED, SYSTEM, Shop, backends, install, leader, opened, route

pytestmark = [pytest.mark.cluster, pytest.mark.disturbs, pytest.mark.timeout(300)]

OUTAGE_S = 15.0


async def serve(shop: Shop) -> None:
    """One route to `a`, served."""
    await shop.apply(route("web", ("/", "a")))
    await shop.until_served(by="a")
    await shop.until("httproutes", "web", PROGRAMMED)


async def test_proxies_cut_off_from_the_control_plane(cluster: MiniCluster) -> None:
    async with opened(cluster, deployments=("a", "b")) as shop:
        await serve(shop)
        replicas = [pod.status.pod_ip for pod in await cluster.pods(SYSTEM, CONTROL_PLANE)]
        proxies = [pod.status.pod_ip for pod in await shop.pods(count=2)]
        async with shop.load("a", "b"):
            async with AsyncExitStack() as cuts:
                for replica in replicas:
                    for proxy in proxies:
                        await cuts.enter_async_context(cluster.partition(proxy, replica))
                async with shop.load("a"):  # the change does not come through
                    await shop.apply(route("web", ("/", "b")))
                    await asyncio.sleep(OUTAGE_S)
            await shop.until_served(by="b")
            await shop.until("httproutes", "web", PROGRAMMED)


async def test_leader_cut_off_from_the_api_server(cluster: MiniCluster) -> None:
    async with opened(cluster, deployments=("a", "b")) as shop:
        await serve(shop)
        name = await leader(cluster)
        (cut,) = [pod.status.pod_ip for pod in await cluster.pods(SYSTEM, CONTROL_PLANE) if pod.metadata.name == name]
        async with shop.load("a", "b"):
            async with cluster.partition(cut):
                await another_leader(cluster, name)
                # Written by the new leader; proxies of the other replica wait.
                await shop.apply(route("web", ("/", "b")))
                await shop.until("httproutes", "web", "Accepted")
            await shop.until_served(by="b")
            await shop.until("httproutes", "web", PROGRAMMED)
        await install(cluster)


async def test_what_was_made_in_an_outage_appears_whole(cluster: MiniCluster) -> None:
    """The kinds come back one by one: no route is served before the endpoints that it leads to are known."""
    async with opened(cluster) as shop:
        await serve(shop)
        replicas = [pod.status.pod_ip for pod in await cluster.pods(SYSTEM, CONTROL_PLANE)]
        async with shop.load("a", "late", host="late.test"):
            async with AsyncExitStack() as cuts:
                for replica in replicas:
                    await cuts.enter_async_context(cluster.partition(replica))
                await asyncio.sleep(OUTAGE_S + 10)  # connections are given up, waits are long
                await shop.apply(backends("late"), route("late", ("/", "late"), hosts=["late.test"]))
                await shop.pods("app=late")
            await shop.until_served("/", "late.test", by="late")
            await shop.until("httproutes", "late", PROGRAMMED)


async def scale(cluster: MiniCluster, replicas: int) -> None:
    """The control plane."""
    await cluster.api.patch(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/portway", {"spec": {"replicas": replicas}})


async def alone(cluster: MiniCluster) -> tuple[Pod, ...]:
    """Wait until one replica is all there is; as a tuple."""

    async def look() -> tuple[Pod, ...]:
        pods = await cluster.pods(SYSTEM, CONTROL_PLANE)
        assert len(pods) == 1
        return pods

    return await cluster.wait_for("one replica of the control plane", look, seconds=30)


async def test_replica_that_was_cut_off_before_proxies_come_to_it(cluster: MiniCluster) -> None:
    """It knows backends that are gone by then. Another replica is there, or comes soon."""
    async with opened(cluster) as shop:
        await serve(shop)
        await scale(cluster, 1)
        (old,) = await alone(cluster)
        await scale(cluster, 2)  # and all proxies stay where they are
        (fresh,) = [pod for pod in await install(cluster) if pod.metadata.uid != old.metadata.uid]

        async def have_left() -> bool:
            found = await connected(cluster, shop)
            assert not found.pop(fresh.metadata.name), found
            return sum(map(len, found.values())) == 2

        async with shop.load("a"):
            async with cluster.partition(fresh.status.pod_ip):
                await shop.restart("a", "app=a")
                await asyncio.to_thread(
                    cluster.kubectl, "delete", "pod", "-n", SYSTEM, old.metadata.name, "--wait=false"
                )
                await asyncio.sleep(OUTAGE_S + 5)  # whatever the cut one does after some time
                await cluster.wait_for("both proxies at the other replica", have_left, seconds=150)  # by chance
                await shop.apply(route("after", ("/", "a"), hosts=["after.test"]))
                await shop.until_served("/", "after.test", by="a")
                await shop.restart("a", "app=a")
            await install(cluster)
            await shop.until("httproutes", "after", PROGRAMMED)
