"""Replicas of the control plane lose the API server: their proxies look for a better one, and lose nothing if there is
none."""

import asyncio
import re

import pytest

from tests.cluster.cluster import MiniCluster
from tests.cluster.connections import connected, forwarded, spread
from tests.cluster.control_plane import Component
from tests.cluster.portway_in import CONTROL_PLANE, PROGRAMMED, SYSTEM, Shop, install, opened, route

pytestmark = [pytest.mark.cluster, pytest.mark.disturbs, pytest.mark.timeout(300)]

PROXIES = 4


async def serve(shop: Shop, name: str = "web") -> None:
    """A route to `a` with a host of its own, served by all that should."""
    await shop.apply(route(name, ("/", "a"), hosts=[f"{name}.test"]))
    await shop.until_served("/", f"{name}.test", by="a")
    await shop.until("httproutes", name, PROGRAMMED)


async def test_proxies_of_a_replica_that_is_cut_off_find_another(cluster: MiniCluster) -> None:
    """It knows backends that are gone by then, and nobody tells it so."""
    async with opened(cluster, proxies=PROXIES) as shop:
        await serve(shop)
        by_replica = await spread(cluster, shop, PROXIES)
        name = min(by_replica, key=lambda one: len(by_replica[one]))
        (cut,) = [pod.status.pod_ip for pod in await cluster.pods(SYSTEM, CONTROL_PLANE) if pod.metadata.name == name]

        async def left() -> bool:
            found = await connected(cluster, shop)
            assert sum(len(proxies) for one, proxies in found.items() if one != name) == PROXIES, found
            return True

        async with cluster.partition(cut):
            await shop.restart("a", "app=a")
            await cluster.wait_for("all proxies at the other replica", left, seconds=200)
            await shop.until_served("/", "web.test", by="a")
            async with shop.load("a", host="web.test"):
                await shop.restart("a", "app=a")
            await serve(shop, "after")
        await install(cluster)
        await shop.until("httproutes", "web", PROGRAMMED)


async def test_where_no_replica_is_better_proxies_come_again_and_lose_nothing(cluster: MiniCluster) -> None:
    async with opened(cluster) as shop:
        await serve(shop)
        pods = await cluster.pods(SYSTEM, CONTROL_PLANE)
        processes = [(await cluster.processes(SYSTEM, pod.metadata.name))[0] for pod in pods]

        async def sent_on() -> float:
            pages = [await asyncio.to_thread(forwarded, process, "/metrics") for process in processes]
            counts = [re.search(rb"^portway_proxies_sent_on_total (.*)$", page, re.MULTILINE) for page in pages]
            return sum(float(count[1]) for count in counts if count)

        before = await sent_on()

        async def come_again() -> bool:
            assert (count := await sent_on()) >= before + 4, count
            return True

        async with shop.load("a", host="web.test"):
            await cluster.kill(Component.API_SERVER)
            try:
                await cluster.wait_for("both proxies came again, twice", come_again, seconds=120)
            finally:
                await cluster.restart(Component.API_SERVER)
            await serve(shop, "after")
        await install(cluster)
