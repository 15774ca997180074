"""Retries, ejection and draining with a real Envoy: what the defaults are for."""

from collections import Counter
from datetime import timedelta

import msgspec
import pytest

from portway.envoy.endpoint import build_endpoints
from portway.model.names import UpstreamKey
from portway.model.route import Forward, Mirror, RetryCause, RetryPolicy, StickyCookie
from portway.model.upstream import (
    Balancer,
    BalancerKind,
    Discovery,
    Endpoint,
    EndpointHealth,
    Endpoints,
    HealthCheck,
    HealthCheckKind,
    Outliers,
    Upstream,
)
from portway.settings import Edge
from tests.envoy.world import Hosts, World, at, host, hosts, route, to, upstream_key
from tests.kit.backends import Backend, Backends, Kind
from tests.kit.client import fetch
from tests.kit.lab import eventually

pytestmark = pytest.mark.e2e


def one(name: str, *endpoints: Backend, **fields: object) -> dict[UpstreamKey, tuple[Upstream, Endpoints]]:
    """An upstream of these backends."""
    plain = Upstream(name=f"shop/{name}:80")
    return {upstream_key(name): (msgspec.structs.replace(plain, **fields), at(*endpoints))}


async def test_a_dead_endpoint_costs_no_request() -> None:
    """One of two endpoints refuses connections: every request is answered, POST too, and soon nobody asks it."""
    async with Backends() as more:
        good, dead = await more.start("good"), await more.start("dead", Kind.REFUSED)
        world = World(upstreams=one("half", good, dead))
        async with hosts(host("half.test", route("/", to("half"))), world=world) as proxy:
            for number in range(200):
                url, method = "http://half.test/", ("GET", "POST")[number % 2]
                answer = await fetch(url, port=proxy.port, method=method, body=b"x" * 1000 if number % 2 else b"")
                assert (answer.status, answer.pod) == (200, "good"), number


async def test_what_is_repeated() -> None:
    def forward(retry: RetryPolicy) -> Forward:
        return msgspec.structs.replace(to("a"), retry=retry)

    status = RetryPolicy(attempts=2, causes=frozenset({RetryCause.STATUS}), statuses=(503,))
    every = msgspec.structs.replace(status, non_idempotent=True)
    per_try = RetryPolicy(
        attempts=1, causes=frozenset({RetryCause.TIMEOUT}), per_try=timedelta(milliseconds=50), non_idempotent=True
    )
    reset = RetryPolicy(attempts=1, causes=frozenset({RetryCause.RESET}))
    async with hosts(
        host("default.test", route("/", to("a"))),
        host("status.test", route("/", forward(status))),
        host("every.test", route("/", forward(every))),
        host("never.test", route("/", forward(RetryPolicy(attempts=0)))),
        host("reset.test", route("/", forward(reset))),
        host("timeout.test", route("/", forward(per_try))),
    ) as proxy:

        async def tries(name: str, target: str, method: str = "GET") -> tuple[int, int]:
            seen = proxy.backends["a"].seen
            before = len(seen)
            answer = await proxy.get(name, target, method=method)
            return answer.status, len(seen) - before

        assert await tries("default.test", "/status/503") == (503, 1)
        assert await tries("status.test", "/status/503") == (503, 3)
        assert await tries("status.test", "/status/500") == (500, 1)
        assert await tries("status.test", "/status/503", "PUT") == (503, 3)
        assert await tries("status.test", "/status/503", "POST") == (503, 1)
        assert await tries("every.test", "/status/503", "POST") == (503, 3)
        assert await tries("never.test", "/status/503") == (503, 1)
        assert await tries("reset.test", "/retry/x?uuid=1&succeedAfter=1") == (200, 2)
        assert await tries("reset.test", "/retry/x?uuid=2&succeedAfter=1", "POST") == (503, 1)
        assert await tries("timeout.test", "/?delay=1s") == (504, 2)


async def test_draining_endpoints_keep_their_sessions_and_get_no_new_ones() -> None:
    sticky = StickyCookie(name="s")
    forward = msgspec.structs.replace(to("two"), sticky=sticky)
    async with Backends() as more:
        x, y = await more.start("x"), await more.start("y")
        world = World(upstreams=one("two", x, y, host_override=True))
        async with hosts(host("two.test", route("/", forward)), world=world) as proxy:
            cookies: dict[str | None, str] = {}
            while len(cookies) < 2:
                answer = await proxy.get("two.test")
                cookies[answer.pod] = (answer.header("set-cookie") or "").split(";")[0]
            draining = Endpoint(address=x.host, port=x.port, health=EndpointHealth.DRAINING)
            good = Endpoint(address=y.host, port=y.port)
            await proxy.lab.ads.update(build_endpoints("shop/two:80", (draining, good)))
            assert {(await proxy.get("two.test")).pod for _ in range(20)} == {"y"}
            assert {(await proxy.get("two.test", "/", ("cookie", cookies["x"]))).pod for _ in range(5)} == {"x"}
            # The only one left serves all the same.
            await proxy.lab.ads.update(build_endpoints("shop/two:80", (draining,)))
            assert (await proxy.get("two.test")).pod == "x"
            # And when it is gone the session goes elsewhere.
            await proxy.lab.ads.update(build_endpoints("shop/two:80", (good,)))
            assert (await proxy.get("two.test", "/", ("cookie", cookies["x"]))).pod == "y"


async def test_weights_zones_and_empty_upstreams() -> None:
    async with Backends() as more:
        x, y = await more.start("x"), await more.start("y")
        weighted = Endpoints(
            endpoints=(
                Endpoint(address=x.host, port=x.port, weight=3, zone="east"),
                Endpoint(address=y.host, port=y.port, weight=1, zone="west"),
            )
        )
        nowhere = Endpoints(endpoints=(Endpoint(address=x.host, port=x.port, weight=0),))
        world = World(
            edge=Edge(access_log="", zone="west"),
            upstreams={
                upstream_key("weighted"): (Upstream(name="shop/weighted:80"), weighted),
                upstream_key("zone"): (Upstream(name="shop/zone:80", balancer=Balancer(zone_aware=True)), weighted),
                upstream_key("nowhere"): (Upstream(name="shop/nowhere:80"), nowhere),
            },
        )
        given = [host(f"{name}.test", route("/", to(name))) for name in ("weighted", "zone", "nowhere")]
        async with hosts(*given, world=world) as proxy:
            assert await pods(proxy, "weighted.test", 40) == {"x": 30, "y": 10}
            assert await pods(proxy, "zone.test", 20) == {"y": 20}
            assert (await proxy.get("nowhere.test")).status == 503


async def pods(proxy: Hosts, name: str, requests: int) -> Counter[str | None]:
    return Counter([(await proxy.get(name)).pod for _ in range(requests)])


async def test_checked_and_resolved_upstreams() -> None:
    """Active checks take an endpoint out; a name is resolved by the proxy; an upstream may be a Unix socket."""
    check = HealthCheck(kind=HealthCheckKind.HTTP, path="/status/200", interval=timedelta(milliseconds=50))
    sick = msgspec.structs.replace(check, path="/status/500", unhealthy_threshold=1)
    ejecting = Outliers(consecutive_5xx=2, base_ejection=timedelta(seconds=60), max_ejected_percent=100)
    async with Backends() as more:
        x = await more.start("x")
        dns = Upstream(name="dns/x:80", discovery=Discovery.DNS, dns_name="localhost", dns_port=x.port, dns_family="v4")
        world = World(
            upstreams={
                **one("checked", x, health_check=check),
                **one("sick", x, health_check=sick, outliers=None),
                **one("ejected", x, outliers=ejecting),
                **one("hash", x, balancer=Balancer(kind=BalancerKind.MAGLEV)),
                upstream_key("dns"): (dns, Endpoints()),
            }
        )
        mirrored = msgspec.structs.replace(to("a"), mirrors=(Mirror(upstream=upstream_key("gone")),))
        names = ("checked", "sick", "ejected", "dns", "hash")
        given = [host(f"{name}.test", route("/", to(name))) for name in names]
        async with hosts(*given, host("mirrored.test", route("/", mirrored)), world=world) as proxy:

            async def serves(name: str = "checked.test") -> bool:
                return (await proxy.get(name)).pod == "x"

            await eventually(serves)
            await eventually(lambda: serves("dns.test"))
            assert await serves("hash.test")
            # All are unhealthy: then all are asked, rather than nobody.
            assert await serves("sick.test")
            assert (await proxy.get("mirrored.test")).pod == "a"
