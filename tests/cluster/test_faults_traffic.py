"""No request is lost while what is declared changes and while pods come and go: traffic through proxies in a cluster,
every answer counted."""

import asyncio

import pytest

from tests.cluster.cluster import MiniCluster
from tests.cluster.outline import NODES
from tests.cluster.portway_in import CONTROL_PLANE, PROXIES, SYSTEM, install, opened, route

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


BUDGET = """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: a}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: a}}}
"""


async def test_node_drained(cluster: MiniCluster) -> None:
    """Both proxies and both backends are on it. What their budgets, that of the proxies being Portway's, do not let it
    evict yet (429), kubectl tries again."""
    await install(cluster)
    drained, *others = (node.name for node in NODES)
    try:
        await asyncio.to_thread(cluster.kubectl, "cordon", *others)
        async with opened(cluster) as shop:
            await shop.apply(BUDGET, route("web", ("/", "a")))
            await shop.scale("a", 2)
            before = [*await shop.pods("app=a", count=2), *await shop.pods(PROXIES, count=2)]
            assert {pod.spec.node_name for pod in before} == {drained}
            await shop.until_served(by="a")
            await asyncio.to_thread(cluster.kubectl, "uncordon", *others)
            async with shop.load("a"):
                drain = ("drain", drained, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s")
                said = await asyncio.to_thread(cluster.kubectl, *drain)
                after = [*await shop.pods("app=a", count=2), *await shop.pods(PROXIES, count=2)]
                await shop.until_served(by="a")
            assert drained not in {pod.spec.node_name for pod in after}
            assert all(f"pod/{pod.metadata.name} evicted" in said for pod in before), said
    finally:
        await asyncio.to_thread(cluster.kubectl, "uncordon", drained, *others)
