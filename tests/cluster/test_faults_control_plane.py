"""What happens to the control plane, its leader and the API server costs no request, and is over when it is over."""

import asyncio

import pytest

from tests.cluster.cluster import MiniCluster
from tests.cluster.control_plane import Component
from tests.cluster.outages import LEASE_S, another_leader, go_back_in_time, kill_portway, lose
from tests.cluster.portway_in import (
    HTTP_LISTENER,
    PROGRAMMED,
    SYSTEM,
    Shop,
    gateway,
    install,
    leader,
    opened,
    route,
)

pytestmark = [pytest.mark.cluster, pytest.mark.disturbs, pytest.mark.timeout(300)]

OUTAGE_S = 15.0
ROLLOUT_S = 90.0


async def serve(shop: Shop) -> None:
    """One route to `a`, served."""
    await shop.apply(route("web", ("/", "a")))
    await shop.until_served(by="a")
    await shop.until("httproutes", "web", "Accepted")


async def works(shop: Shop, name: str) -> None:
    """A new route is served, and its status written."""
    await shop.apply(route(name, ("/", "a"), hosts=[f"{name}.test"]))
    await shop.until_served("/", f"{name}.test", by="a")
    await shop.until("httproutes", name, PROGRAMMED)


async def test_control_plane_killed(cluster: MiniCluster) -> None:
    async with opened(cluster) as shop:
        await serve(shop)
        async with shop.load("a"):
            await kill_portway(cluster)
            # Written before anybody leads, or even runs, again.
            await works(shop, "after")
            await install(cluster)


async def test_leader_killed(cluster: MiniCluster) -> None:
    async with opened(cluster) as shop:
        await serve(shop)
        async with shop.load("a"):
            name = await leader(cluster)
            await cluster.kill_pod(SYSTEM, name)
            await shop.apply(route("after", ("/", "a"), hosts=["after.test"]))
            await shop.until_served("/", "after.test", by="a", seconds=LEASE_S)
            await shop.until("httproutes", "after", PROGRAMMED, seconds=LEASE_S + 10)


async def test_leader_that_stops_for_a_while_leads_no_more(cluster: MiniCluster) -> None:
    """As on a machine that sleeps, or whose clock jumps: who is away for longer than the Lease finds another leader."""
    async with opened(cluster) as shop:
        await serve(shop)
        async with shop.load("a"):
            name = await leader(cluster)
            await cluster.pause_pod(SYSTEM, name)
            try:
                await another_leader(cluster, name)
                await works(shop, "meanwhile")
            finally:
                await cluster.pause_pod(SYSTEM, name, paused=False)
            await install(cluster)
            await works(shop, "afterwards")
            assert await leader(cluster) != name


async def test_lease_from_the_future_ends_too(cluster: MiniCluster) -> None:
    """Written by a replica whose clock was a century ahead, before it died."""
    async with opened(cluster) as shop:
        await serve(shop)
        path = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"
        name = cluster.kubectl("get", "lease", "-n", SYSTEM, "-o", "jsonpath={.items[0].metadata.name}")
        times = {"renewTime": "2126-01-01T00:00:00.000000Z", "acquireTime": "2126-01-01T00:00:00.000000Z"}
        await cluster.api.patch(f"{path}/{name}", {"spec": {"holderIdentity": "ghost_1", **times}})
        await another_leader(cluster, "ghost")
        await works(shop, "after")


@pytest.mark.slow
async def test_api_server_down_and_portway_restarted_meanwhile(cluster: MiniCluster) -> None:
    async with opened(cluster) as shop:
        await serve(shop)
        async with shop.load("a"):
            await lose(cluster, Component.API_SERVER, OUTAGE_S)
            await works(shop, "after")
            await install(cluster)


async def test_api_server_that_hangs(cluster: MiniCluster) -> None:
    async with opened(cluster) as shop:
        await serve(shop)
        async with shop.load("a"):
            await cluster.pause(Component.API_SERVER)
            await asyncio.sleep(OUTAGE_S)
            await cluster.resume(Component.API_SERVER)
            await works(shop, "after")
            await install(cluster)


@pytest.mark.slow
async def test_etcd_restored_to_an_older_state(cluster: MiniCluster) -> None:
    async with opened(cluster, deployments=("a", "b")) as shop:
        await serve(shop)
        async with shop.load("a", "b"):
            await go_back_in_time(shop)
            await works(shop, "after")
            await shop.until("httproutes", "web", PROGRAMMED)
            await install(cluster)


async def set_scope(cluster: MiniCluster, said: str) -> None:
    """Another environment of the control plane, rolled out."""
    await asyncio.to_thread(cluster.kubectl, "-n", SYSTEM, "set", "env", "deployment/portway", said)
    await asyncio.to_thread(
        cluster.kubectl, "-n", SYSTEM, "rollout", "status", "deployment/portway", f"--timeout={ROLLOUT_S:.0f}s"
    )


async def test_who_looks_at_other_namespaces_is_the_same_portway(cluster: MiniCluster) -> None:
    """A namespace more, as docs/rbac.md teaches: its fleets stay its own, addresses stay, changes go on."""
    async with opened(cluster) as shop:
        await serve(shop)
        try:
            async with shop.load("a"):
                await set_scope(cluster, f"PORTWAY_WATCH_NAMESPACE={SYSTEM},{shop.namespace}")
                await works(shop, "narrower")
                await shop.apply(gateway("edge", HTTP_LISTENER, "{name: more, port: 8081, protocol: HTTP}"))
                await shop.until("gateways", "edge", "Programmed", listener="more")
                ports = cluster.kubectl(
                    *("get", "service", "portway-edge", "-n", shop.namespace, "-o", "jsonpath={.spec.ports[*].port}")
                )
                assert ports.split() == ["80", "8081"]
        finally:
            await set_scope(cluster, "PORTWAY_WATCH_NAMESPACE-")
        await works(shop, "wider")
        await install(cluster)
