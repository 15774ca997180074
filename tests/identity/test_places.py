"""Where Nodes are: asked once, remembered for a while, and no proxy's certificate depends on it."""

from collections.abc import Mapping

import msgspec

from portway.identity.messages import Place
from portway.identity.places import ASKED_AGAIN, REMEMBERED, Places
from portway.kubernetes.errors import ApiError, ApiUnreachable

ZONE_A = {"topology.kubernetes.io/zone": "zone-a", "topology.kubernetes.io/region": "region-1"}


class Cluster:
    """Nodes with labels, as an API server lists them; `error` is its answer if it has one."""

    def __init__(self, **nodes: Mapping[str, str]) -> None:
        self.nodes = dict(nodes)
        self.error: Exception | None = None
        self.asked: list[str] = []
        self.now = 0.0
        self.places = Places(self, clock=lambda: self.now)

    async def get(self, path: str, params: Mapping[str, str]) -> bytes:
        self.asked.append(f"{path}?{params['fieldSelector']}")
        if self.error is not None:
            raise self.error
        name = params["fieldSelector"].removeprefix("metadata.name=")
        found = [self.nodes[name]] if name in self.nodes else []
        return msgspec.json.encode({"items": [{"metadata": {"labels": labels}} for labels in found]})


async def test_a_node_is_asked_for_once_and_again_after_a_while() -> None:
    cluster = Cluster(one=ZONE_A)
    for _ in range(3):
        assert await cluster.places.of("one") == Place(zone="zone-a", region="region-1")
    assert cluster.asked == ["/api/v1/nodes?metadata.name=one"]
    cluster.nodes["one"] = {"topology.kubernetes.io/zone": "zone-b"}
    cluster.now = REMEMBERED
    assert await cluster.places.of("one") == Place(zone="zone-b")


async def test_a_label_that_comes_late_is_found_soon() -> None:
    cluster = Cluster(one={})
    assert await cluster.places.of("one") == Place()
    cluster.nodes["one"] = ZONE_A
    assert await cluster.places.of("one") == Place()
    cluster.now = ASKED_AGAIN
    assert (await cluster.places.of("one")).zone == "zone-a"


async def test_without_a_node_nobody_is_asked() -> None:
    cluster = Cluster()
    assert (await cluster.places.of(""), cluster.asked) == (Place(), [])


async def test_an_error_costs_the_zone_and_nothing_else() -> None:
    cluster = Cluster(one=ZONE_A)
    for error in (ApiError("list", "/api/v1/nodes", 403, "Forbidden", "no"), ApiUnreachable("refused")):
        cluster.error = error
        assert await cluster.places.of("one") == Place()
    cluster.error = None
    assert (await cluster.places.of("one")).zone == "zone-a"
    # Where it was known, that counts until somebody can be asked again.
    cluster.error, cluster.now = ApiUnreachable("refused"), REMEMBERED
    assert (await cluster.places.of("one")).zone == "zone-a"
