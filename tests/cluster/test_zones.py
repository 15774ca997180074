"""Requests stay in the zone of the proxy that took them, where the Service asks for that and its endpoints allow it."""

import pytest

from tests.cluster.cluster import MiniCluster
from tests.cluster.portway_in import PROXIES, Shop, opened, route
from tests.kit.client import fetch

pytestmark = [pytest.mark.cluster, pytest.mark.disturbs, pytest.mark.timeout(300)]

ASKED = 20
LOCAL = '{"spec": {"trafficDistribution": "PreferClose"}}'
ZONE = r".metadata.labels.topology\.kubernetes\.io/zone"


def zones(shop: Shop, selector: str) -> dict[str, tuple[str, str]]:
    """Zone and address of the selected pods, by name."""
    each = f"{{range .items[*]}}{{.metadata.name}} {{{ZONE}}}{{'\\n'}}{{end}}"
    nodes = shop.cluster.kubectl("get", "nodes", "-o", f"jsonpath={each}")
    zone_of = dict(line.split() for line in nodes.splitlines())
    each = "{range .items[*]}{.metadata.name} {.spec.nodeName} {.status.podIP}{'\\n'}{end}"
    pods = shop.cluster.kubectl("get", "pods", "-n", shop.namespace, "-l", selector, "-o", f"jsonpath={each}")
    found = [line.split() for line in pods.splitlines()]
    return {name: (zone_of[node], address) for name, node, address in found}


async def test_hints_of_the_cluster_keep_requests_in_the_zone(cluster: MiniCluster) -> None:
    async with opened(cluster) as shop:
        await shop.scale("a", 4)
        await shop.pods("app=a", count=4)
        await shop.apply(route("web", ("/", "a")))
        await shop.until_served(by="a")
        proxies, backends = zones(shop, PROXIES), zones(shop, "app=a")
        assert {zone for zone, _ in proxies.values()} == {zone for zone, _ in backends.values()}
        port = int(
            cluster.kubectl(
                *("get", "endpointslices", "-n", shop.namespace, "-l", "kubernetes.io/service-name=portway-edge"),
                *("-o", "jsonpath={.items[0].ports[0].port}"),
            )
        )

        async def answering(address: str) -> set[str]:
            found = [await fetch(f"http://shop.test:{port}/", address=address) for _ in range(ASKED)]
            return {backends[str(answer.pod)][0] for answer in found}

        for _, address in proxies.values():
            assert len(await answering(address)) == 2, "nobody has asked for zones yet"
        cluster.kubectl("patch", "service", "a", "-n", shop.namespace, "-p", LOCAL)
        for zone, address in proxies.values():

            async def look(zone: str = zone, address: str = address) -> bool:
                return await answering(address) == {zone}

            await cluster.wait_for(f"answers from {zone} only", look)
        # A zone whose backends are gone is served by the others.
        await shop.scale("a", 1)
        await shop.pods("app=a", count=1)

        async def served() -> bool:
            backends.update(zones(shop, "app=a"))
            return all([len(await answering(address)) == 1 for _, address in proxies.values()])

        await cluster.wait_for("one backend serves both zones", served)
