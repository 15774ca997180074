"""No request is lost while what is declared changes and while pods come and go: traffic through proxies in a cluster,
every answer counted."""

import pytest

from tests.cluster.cluster import MiniCluster
from tests.cluster.portway_in import CONTROL_PLANE, PROXIES, SYSTEM, opened, route

pytestmark = [pytest.mark.cluster, pytest.mark.disturbs, pytest.mark.timeout(300)]

ROUNDS = 8


async def test_backends_switched(cluster: MiniCluster) -> None:
    async with opened(cluster, deployments=("a", "b")) as shop:
        await shop.apply(route("web", ("/", "a")))
        await shop.until_served(by="a")
        async with shop.load("a", "b"):
            for number in range(ROUNDS):
                name = "ba"[number % 2]
                await shop.apply(route("web", ("/", name)))
                await shop.until_served(by=name)


async def test_rules_reordered(cluster: MiniCluster) -> None:
    rules = [("/aa", "a"), ("/bb", "b"), ("/aab", "b"), ("/bba", "a")]
    async with opened(cluster, deployments=("a", "b")) as shop:
        await shop.apply(route("web", *rules))
        await shop.until_served("/aa", by="a")
        async with shop.load("a", path="/aa"), shop.load("b", path="/bb"):
            for number in range(ROUNDS):
                turn = number % len(rules)
                turned = [*rules[turn:], *rules[:turn], (f"/marker{number}", "ab"[number % 2])]
                await shop.apply(route("web", *turned))
                await shop.until_served(f"/marker{number}", by="ab"[number % 2])


async def test_backends_rolled_out(cluster: MiniCluster) -> None:
    async with opened(cluster) as shop:
        await shop.scale("a", 2)
        await shop.apply(route("web", ("/", "a")))
        await shop.pods("app=a", count=2)
        await shop.until_served(by="a")
        async with shop.load("a"):
            await shop.restart("a", "app=a")


async def test_fleet_rolled_out(cluster: MiniCluster) -> None:
    async with opened(cluster) as shop:
        await shop.apply(route("web", ("/", "a")))
        await shop.until_served(by="a")
        async with shop.load("a"):
            await shop.restart("portway-edge", PROXIES)
            await shop.until_served(by="a")


async def test_control_plane_rolled_out(cluster: MiniCluster) -> None:
    async with opened(cluster) as shop:
        await shop.apply(route("web", ("/", "a")))
        await shop.until_served(by="a")
        async with shop.load("a"):
            await shop.restart("portway", CONTROL_PLANE, namespace=SYSTEM)
            await shop.apply(route("web", ("/", "a"), ("/new", "a")))
            await shop.until_served("/new", by="a")
