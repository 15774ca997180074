"""Which endpoint a request goes to, under each way of balancing, and while weights, hints and conditions change."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from tests.kit.backends import BackendSpec
from tests.kit.client import fetch
from tests.kit.manifests import backend, endpoint_slice, ingress, resource_ingress, service, upstream_policy
from tests.kit.world import World, world_fixture

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

# One worker of Envoy: each balances by itself, and few requests would hide how evenly.
world = world_fixture("--concurrency", "1", "--zone", "zone-1")

PODS = ("a", "b", "c", "d")


async def ports(world: World) -> dict[str, int]:
    """Ports of four backends that all tests share."""
    return {pod: (await world.backend(BackendSpec(name=pod))).port for pod in PODS}


async def declare(world: World, name: str, policy: str = "", pods: Sequence[str] = PODS, **annotations: str) -> None:
    """A Service with these endpoints behind an Ingress for `<name>.test`, and wait until all of them answer."""
    known = await ports(world)
    dashed = {key.replace("_", "-"): value for key, value in annotations.items()}
    documents = [
        service(name, [known[pod] for pod in pods]),
        ingress(name, f"{name}.test", [("/", name)], annotations=dashed),
    ]
    world.declare(name, *documents, *([upstream_policy(name, policy)] if policy else []))
    await world.answered(lambda: world.running.get(f"http://{name}.test/"))


async def counts(world: World, name: str, requests: int = 80, **more: object) -> Counter[str | None]:
    """Who answers how many of some requests, one after the other."""
    return Counter([(await world.running.get(f"http://{name}.test/", **more)).pod for _ in range(requests)])


async def spread_over(world: World, name: str, pods: Sequence[str]) -> None:
    """Wait until exactly these endpoints answer."""

    async def is_spread() -> bool:
        return set(await counts(world, name, 20)) == {*pods}

    await world.until(is_spread, f"{name} served by {pods}")


async def test_round_robin_is_even(world: World) -> None:
    await declare(world, "robin", load_balance="round_robin")
    assert set((await counts(world, "robin")).values()) == {20}


@pytest.mark.parametrize("policy", ["", "loadBalancer: {type: LeastRequest}", "loadBalancer: {type: Random}"])
async def test_the_default_and_random_use_every_endpoint(world: World, policy: str) -> None:
    name = f"drawn-{len(policy)}"
    await declare(world, name, policy)
    found = await counts(world, name)
    assert set(found) == {*PODS}
    assert min(found.values()) >= 8, found


@pytest.mark.parametrize("kind", ["RingHash", "Maglev"])
@pytest.mark.parametrize("source", ["header", "cookie", "query", "address"])
async def test_hashing(world: World, kind: str, source: str) -> None:
    name = f"{kind.lower()}-{source}"
    hash_on = {
        "header": "{type: Header, header: X-User}",
        "cookie": "{type: Cookie, cookie: {name: user}}",
        "query": "{type: QueryParam, queryParam: user}",
        "address": "{type: SourceAddress}",
    }[source]
    await declare(world, name, f"loadBalancer: {{type: {kind}, hashOn: [{hash_on}]}}")

    async def pods(user: str) -> set[str | None]:
        headers = {"header": [("x-user", user)], "cookie": [("cookie", f"user={user}")]}.get(source, [])
        path = f"?user={user}" if source == "query" else ""
        return {(await world.running.get(f"http://{name}.test/{path}", headers=headers)).pod for _ in range(3)}

    found = [await pods(f"user-{number}") for number in range(24)]
    assert all(len(each) == 1 for each in found), "one user at several endpoints"
    everywhere = {pod for each in found for pod in each}
    if source == "address":
        assert len(everywhere) == 1
    else:
        assert len(everywhere) >= 3


async def test_hashing_by_annotation(world: World) -> None:
    await declare(world, "hash-by", upstream_hash_by="$request_uri")
    found = [{(await world.running.get(f"http://hash-by.test/{number}")).pod for _ in range(3)} for number in range(24)]
    assert all(len(each) == 1 for each in found)
    assert len({pod for each in found for pod in each}) >= 3


async def test_a_made_cookie_keeps_a_client(world: World) -> None:
    await declare(
        world, "made", "loadBalancer: {type: RingHash, hashOn: [{type: Cookie, cookie: {name: seat, ttl: 1h}}]}"
    )
    pods = set()
    for _ in range(16):
        first = await world.running.get("http://made.test/")
        cookie = (first.header("set-cookie") or "").partition(";")[0]
        assert cookie.startswith("seat=")
        again = {(await world.running.get("http://made.test/", headers=[("cookie", cookie)])).pod for _ in range(3)}
        assert again == {first.pod}
        pods.add(first.pod)
    assert len(pods) > 1


@pytest.mark.parametrize("kind", ["RoundRobin", "LeastRequest"])
async def test_slow_start_gives_a_new_endpoint_less_at_first(world: World, kind: str) -> None:
    name, slow = f"slow-{kind.lower()}", f"loadBalancer: {{type: {kind}, slowStart: {{window: 3s, minPercent: 20}}}}"
    await declare(world, name, slow, pods=("a",))
    await asyncio.sleep(3)  # until the first endpoint is not new any more
    await declare(world, name, slow, pods=("a", "b"))
    await spread_over(world, name, ("a", "b"))
    found = await counts(world, name, 60)
    assert 0 < found["b"] < 22, found

    async def is_even() -> bool:
        return abs((await counts(world, name, 40))["b"] - 20) <= (1 if kind == "RoundRobin" else 6)

    await world.until(is_even, "even")


async def test_weights_of_a_backend_change_live(world: World) -> None:
    known = await ports(world)

    def weigh(a: int, b: int) -> None:
        addresses = ", ".join(
            f"{{address: 127.0.0.1, port: {known[pod]}, weight: {weight}}}" for pod, weight in (("a", a), ("b", b))
        )
        world.declare(
            "weights", backend("weights", f"addresses: [{addresses}]"), resource_ingress("w", "weights.test", "weights")
        )

    weigh(3, 1)
    await world.answered(lambda: world.running.get("http://weights.test/"))
    assert 57 <= (await counts(world, "weights"))["a"] <= 63
    weigh(1, 3)

    async def is_turned() -> bool:
        return (await counts(world, "weights", 40))["b"] >= 28

    await world.until(is_turned, "weighed anew")


async def test_shares_of_a_canary(world: World) -> None:
    await declare(world, "main", pods=("a",))
    known = await ports(world)
    canary = {"canary": "true", "canary-weight": "30"}
    world.declare(
        "next", service("next", [known["b"]]), ingress("next", "main.test", [("/", "next")], annotations=canary)
    )
    await spread_over(world, "main", ("a", "b"))
    found = await counts(world, "main", 200)
    assert 35 < found["b"] < 90, found


async def test_endpoints_that_are_not_ready_or_drain_get_nothing(world: World) -> None:
    known = await ports(world)

    def condition(**conditions: str) -> None:
        slices = [
            endpoint_slice("draining", [known[pod]], number=number, endpoint=conditions.get(pod, ""))
            for number, pod in enumerate(PODS)
        ]
        documents = [service("draining", []), *slices, ingress("draining", "draining.test", [("/", "draining")])]
        world.declare("draining", *documents)

    terminating = "conditions: {ready: false, serving: true, terminating: true}"
    condition(a="conditions: {ready: false}", b=terminating)
    await world.answered(lambda: world.running.get("http://draining.test/"))
    await spread_over(world, "draining", ("c", "d"))
    # When nobody else is left those that terminate go on serving (KEP-1669).
    condition(a="conditions: {ready: false}", b=terminating, c="conditions: {ready: false}", d=terminating)
    await spread_over(world, "draining", ("b", "d"))
    condition()
    await spread_over(world, "draining", PODS)


async def test_zone_hints_keep_traffic_in_the_zone(world: World) -> None:
    known = await ports(world)

    def hinted(zones: Sequence[str], policy: str = "") -> None:
        slices = [
            endpoint_slice(
                "zones", [known[pod]], number=number, endpoint=f"zone: {zone}, hints: {{forZones: [{{name: {zone}}}]}}"
            )
            for number, (pod, zone) in enumerate(zip(PODS, zones, strict=True))
        ]
        more = [upstream_policy("zones", policy)] if policy else []
        world.declare("zones", service("zones", []), *slices, ingress("zones", "zones.test", [("/", "zones")]), *more)

    hinted(["zone-1", "zone-1", "zone-2", "zone-2"])
    await world.answered(lambda: world.running.get("http://zones.test/"))
    await spread_over(world, "zones", ("a", "b"))
    # No hint for this zone: all are used.
    hinted(["zone-3", "zone-3", "zone-2", "zone-2"])
    await spread_over(world, "zones", PODS)
    hinted(["zone-1", "zone-1", "zone-2", "zone-2"], "zoneAware: {type: Disabled}")
    await spread_over(world, "zones", PODS)
    hinted(["zone-2", "zone-1", "zone-2", "zone-2"], "zoneAware: {type: PreferLocal, minEndpoints: 2}")
    await spread_over(world, "zones", ("b",))
    # Fewer endpoints in total than asked for: zones do not count.
    hinted(["zone-2", "zone-1", "zone-2", "zone-2"], "zoneAware: {type: PreferLocal, minEndpoints: 6}")
    await spread_over(world, "zones", PODS)


async def test_no_endpoints_and_back(world: World) -> None:
    await declare(world, "gone", pods=("a",))
    world.declare("gone", service("gone", []), ingress("gone", "gone.test", [("/", "gone")]))
    answer = await world.answered(lambda: world.running.get("http://gone.test/"), status=503)
    assert answer.pod is None
    await declare(world, "gone", pods=("b",))
    port = world.running.http_port
    assert (await fetch(f"http://gone.test:{port}/", http2=True)).pod == "b"
