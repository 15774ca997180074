"""What tests and benchmarks do to all of Portway at once, and to the control plane that it lives on."""

import asyncio

from tests.cluster.cluster import MiniCluster
from tests.cluster.control_plane import Component
from tests.cluster.portway_in import CONTROL_PLANE, SYSTEM, Shop, leader, route

LEASE_S = 15.0
"""For which a leader's Lease is good."""


async def kill_portway(cluster: MiniCluster) -> None:
    """All replicas, none of which says good-bye. Back when their containers have started again."""
    before = {pod.metadata.name: pod.status.restarts for pod in await cluster.pods(SYSTEM, CONTROL_PLANE)}
    for name in before:
        await cluster.kill_pod(SYSTEM, name)

    async def have_started() -> bool:
        now = {pod.metadata.name: pod.status.restarts for pod in await cluster.pods(SYSTEM, CONTROL_PLANE)}
        return all(now[name] > count for name, count in before.items())

    await cluster.wait_for("the killed containers started again", have_started)


async def lose(cluster: MiniCluster, component: Component, seconds: float) -> None:
    """A part of the control plane is away for so long; after a third of it all replicas are killed."""
    pods = await cluster.pods(SYSTEM, CONTROL_PLANE)  # later there is nobody to ask
    await cluster.kill(component)
    await asyncio.sleep(seconds / 3)
    for pod in pods:
        await cluster.kill_pod(SYSTEM, pod.metadata.name)
    await asyncio.sleep(seconds * 2 / 3)
    await cluster.restart(component)


async def go_back_in_time(shop: Shop) -> None:
    """Etcd is restored to a state in which the route `web` led to `a`, not `b`, and another one was not there."""
    await shop.cluster.save_etcd("before")
    await shop.apply(route("web", ("/", "b")), route("lost", ("/", "b"), hosts=["lost.test"]))
    await shop.until_served(by="b")
    await shop.until_served("/", "lost.test", by="b")
    await shop.cluster.restore_etcd("before")
    await shop.until_served(by="a")
    await shop.until_served("/", "lost.test", by="a")


async def another_leader(cluster: MiniCluster, than: str, *, seconds: float = LEASE_S + 10) -> str:
    """Wait until a pod of another name leads; its name.

    Args:
        than: empty: any.

    Raises:
        ClusterFailed: not in time.
    """

    async def look() -> str:
        found = await leader(cluster)
        return "" if found == than else found

    return await cluster.wait_for("another leader", look, seconds=seconds)
