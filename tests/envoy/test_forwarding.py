"""What a real Envoy does to requests and answers on their way: edits, shares, mirrors, answers of its own, limits."""

from collections import Counter
from datetime import timedelta

import msgspec
import pytest

from portway.envoy.endpoint import build_endpoints
from portway.model.route import (
    AccessList,
    CorsPolicy,
    Forward,
    Fraction,
    HeaderEdits,
    Mirror,
    Respond,
    StickyCookie,
    VirtualHost,
    WeightedUpstream,
)
from portway.model.upstream import Endpoints, Upstream
from portway.settings import Edge
from tests.envoy.world import World, at, host, hosts, prefix, route, to, upstream_key
from tests.kit.client import fetch
from tests.kit.lab import eventually

pytestmark = pytest.mark.e2e


async def test_header_edits() -> None:
    request = HeaderEdits(set=(("X-Set", "50% %x"),), add=(("x-add", "2"),), remove=("x-remove",))
    response = HeaderEdits(set=(("x-s", "1"), ("x-empty", "")), add=(("x-a", "2"),), remove=("x-echo-pod",))
    formatted = HeaderEdits(formatted=(("x-host", "%REQ(:AUTHORITY)%"),))
    async with hosts(
        host("edit.test", route("/", to("a"), request_headers=request, response_headers=response)),
        host("format.test", route("/", to("a"), request_headers=formatted)),
    ) as proxy:
        sent = (("x-set", "old"), ("x-add", "1"), ("x-remove", "1"), ("x-echo-set-header", "x-s:old,x-a:1"))
        answer = await proxy.get("edit.test", "/", *sent)
        seen = answer.echoed().headers
        assert (seen["X-Set"], seen["X-Add"]) == (("50% %x",), ("1", "2"))
        assert "X-Remove" not in seen
        assert answer.header_values("x-s") == ("1",)
        assert answer.header_values("x-a") == ("1", "2")
        assert answer.header_values("x-empty") == ("",)
        assert answer.pod is None
        assert (await proxy.get("format.test")).echoed().header("x-host") == "format.test"


async def test_an_inner_level_has_the_last_word() -> None:
    def named(text: str) -> HeaderEdits:
        return HeaderEdits(set=(("x-level", text),), add=(("x-levels", text),))

    share = WeightedUpstream(upstream=upstream_key("a"), request_headers=named("share"))
    inner = VirtualHost(
        domains=("levels.test",),
        routes=(route("/", Forward(upstreams=(share,)), request_headers=named("route")),),
        request_headers=named("host"),
    )
    async with hosts(inner) as proxy:
        seen = (await proxy.get("levels.test")).echoed().headers
        assert (seen["X-Level"], seen["X-Levels"]) == (("share",), ("host", "route", "share"))


async def test_upstreams_and_clients_see_nothing_of_envoy() -> None:
    forward = msgspec.structs.replace(to("a"), timeout=timedelta(seconds=3))
    async with hosts(host("plain.test", route("/nothing", Respond(status=204)), route("/", forward))) as proxy:
        forged = (
            ("x-forwarded-for", "1.2.3.4"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "evil.test"),
            ("x-forwarded-scheme", "https"),
        )
        answer = await proxy.get("plain.test", "/", *forged, ("x-envoy-retry-on", "5xx"), ("x-request-id", "mine"))
        seen = answer.echoed()
        assert set(seen.headers) == {"X-Forwarded-For", "X-Forwarded-Proto", "X-Request-Id"}
        assert (seen.header("x-forwarded-proto"), seen.header("x-request-id")) == ("http", "mine")
        assert "1.2.3.4" not in (seen.header("x-forwarded-for") or "")
        own = await proxy.get("plain.test", "/nothing")
        names = {name.lower() for name, _ in (*answer.headers, *own.headers)}
        assert not {name for name in names if name.startswith("x-envoy")}
        assert own.header("server") is None


async def test_trusted_proxies_say_who_the_client_is() -> None:
    edge = Edge(access_log="", trusted_proxies=("127.0.0.0/8",))
    only = AccessList(allow=("198.51.100.0/24",))
    world = World(edge=edge)
    async with hosts(host("xff.test", route("/", to("a"), access=only)), world=world) as proxy:
        forwarded = (("x-forwarded-for", "203.0.113.9, 198.51.100.7"), ("x-forwarded-proto", "https"))
        answer = await proxy.get("xff.test", "/", *forwarded)
        seen = answer.echoed()
        assert (answer.status, seen.header("x-forwarded-proto")) == (200, "https")
        assert (seen.header("x-forwarded-for") or "").startswith("203.0.113.9, 198.51.100.7")
        # The last one that is not a proxy of ours counts, not what a client put before it.
        assert (await proxy.get("xff.test", "/", ("x-forwarded-for", "198.51.100.7, 203.0.113.9"))).status == 403


async def test_an_unusable_share_answers_500_and_the_others_keep_theirs() -> None:
    forward = Forward(
        upstreams=(
            WeightedUpstream(upstream=upstream_key("a"), weight=1),
            WeightedUpstream(upstream=upstream_key("b"), weight=3),
            WeightedUpstream(upstream=None, weight=4),
            WeightedUpstream(upstream=upstream_key("c"), weight=0),
        )
    )
    cors = CorsPolicy(allow_origins=("https://x.test",))
    async with hosts(
        host("share.test", route("/", forward, cors=cors)),
        host("all.test", route("/", to(""))),
        host("gone.test", route("/", to("nobody"))),
        host("zero.test", route("/", Forward(upstreams=(WeightedUpstream(upstream=None),), unusable_status=503))),
    ) as proxy:
        answers = [await proxy.get("share.test") for _ in range(800)]
        seen = Counter((answer.status, answer.pod) for answer in answers)
        assert set(seen) == {(200, "a"), (200, "b"), (500, None)}
        # 800 draws: four standard deviations are 57, 56 and 38.
        assert abs(seen[500, None] - 400) < 57
        assert abs(seen[200, "b"] - 300) < 56
        assert abs(seen[200, "a"] - 100) < 38
        assert (await proxy.get("all.test")).status == 500
        assert (await proxy.get("gone.test")).status == 500
        assert (await proxy.get("zero.test")).status == 503


async def test_shares_of_routes_are_cumulative() -> None:
    """Two routes by share and one for the rest: what a URL rewrite per backend needs."""
    match = prefix("/")
    fifth = msgspec.structs.replace(match, share=Fraction(numerator=20))
    half = msgspec.structs.replace(match, share=Fraction(numerator=50))
    async with hosts(host("draw.test", route(fifth, to("a")), route(half, to("b")), route(match, to("c")))) as proxy:
        seen = Counter([(await proxy.get("draw.test")).pod for _ in range(800)])
        assert abs(seen["a"] - 160) < 46
        assert abs(seen["b"] - 240) < 52
        assert abs(seen["c"] - 400) < 57


async def test_mirrors_get_copies_and_nobody_their_answers() -> None:
    forward = msgspec.structs.replace(
        to("a"),
        mirrors=(Mirror(upstream=upstream_key("b")), Mirror(upstream=upstream_key("c"), share=Fraction(numerator=50))),
    )
    async with hosts(host("mirror.test", route("/", forward))) as proxy:
        answers = [await proxy.get("mirror.test", f"/{number}") for number in range(200)]
        assert {answer.pod for answer in answers} == {"a"}

        async def copied() -> bool:
            return len(proxy.backends["b"].seen) == 200

        await eventually(copied)
        assert {request.authority for request in proxy.backends["b"].seen} == {"mirror.test"}
        assert 60 < len(proxy.backends["c"].seen) < 140


async def test_hosts_are_rewritten() -> None:
    literal = msgspec.structs.replace(to("a"), host="inner.test")
    share = WeightedUpstream(upstream=upstream_key("a"), host="share.test")
    async with hosts(
        host("host.test", route("/", literal)),
        host("share-host.test", route("/", msgspec.structs.replace(literal, upstreams=(share,)))),
    ) as proxy:
        assert (await proxy.get("host.test")).echoed().host == "inner.test"
        assert (await proxy.get("share-host.test")).echoed().host == "share.test"


async def test_own_answers() -> None:
    verbatim = Respond(status=418, body="100% tea\n", headers=(("x-why", "50%"), ("content-type", "text/tea")))
    location = Respond(status=302, headers=(("Location", "https://%other.test/%20"),))
    grpc = (("content-type", "application/grpc"), ("te", "trailers"))
    async with hosts(host("own.test", route("/tea", verbatim), route("/away", location))) as proxy:
        answer = await proxy.get("own.test", "/tea")
        assert (answer.status, answer.text, answer.header("x-why")) == (418, "100% tea\n", "50%")
        assert answer.header("content-type") == "text/tea"
        assert (await proxy.get("own.test", "/away")).header("location") == "https://%other.test/%20"
        url = "http://own.test/none"
        answer = await fetch(url, port=proxy.port, method="POST", headers=grpc, http2=True)
        assert (answer.status, answer.header("grpc-status")) == (200, "12")
        assert (await proxy.get("other.test")).status == 404


async def test_access_lists() -> None:
    async with hosts(
        host("allowed.test", route("/", to("a"), access=AccessList(allow=("10.0.0.0/8", "127.0.0.1/32")))),
        host("denied.test", route("/", to("a"), access=AccessList(deny=("127.0.0.0/8",)))),
        host("other.test", route("/", to("a"), access=AccessList(allow=("10.0.0.0/8", "fd00::/8")))),
        host("both.test", route("/", to("a"), access=AccessList(allow=("127.0.0.0/8",), deny=("127.0.0.1/32",)))),
        host("answer.test", route("/", Respond(status=200), access=AccessList(deny=("127.0.0.0/8",)))),
    ) as proxy:
        assert (await proxy.get("allowed.test")).status == 200
        for name in ("denied.test", "other.test", "both.test", "answer.test"):
            assert (await proxy.get(name)).status == 403, name


async def test_bodies_that_declare_too_much() -> None:
    async with hosts(host("body.test", route("/", to("a"), max_body_bytes=10))) as proxy:

        async def post(size: int, *headers: tuple[str, str], http2: bool = False) -> int:
            url, data = "http://body.test/", b"x" * size
            return (await fetch(url, port=proxy.port, method="POST", body=data, headers=headers, http2=http2)).status

        assert [await post(size) for size in (0, 10, 11, 100_000)] == [200, 200, 413, 413]
        # The kit's HTTP/2 client declares no length.
        assert [await post(size, http2=True) for size in (0, 10, 30_000)] == [200, 200, 413]
        assert await post(11, ("content-length", "11"), http2=True) == 413
        assert await post(11, ("content-type", "application/grpc"), http2=True) == 200


async def test_timeouts() -> None:
    short = msgspec.structs.replace(to("a"), timeout=timedelta(milliseconds=100))
    idle = msgspec.structs.replace(to("a"), idle_timeout=timedelta(milliseconds=100))
    async with hosts(host("short.test", route("/", short)), host("idle.test", route("/", idle))) as proxy:
        assert (await proxy.get("short.test", "/?delay=2s")).status == 504
        assert (await proxy.get("idle.test", "/?delay=2s")).status == 504
        assert (await proxy.get("idle.test", "/slow?chunks=6&interval=40ms")).status == 200


async def test_sticky_cookies_stay_with_their_endpoint() -> None:
    sticky = StickyCookie(name="route", path="/shop", attributes=(("SameSite", "Lax"), ("HttpOnly", "")))
    key = upstream_key("both")

    def world(endpoints: Endpoints) -> World:
        return World(upstreams={key: (Upstream(name="shop/both:80", host_override=True), endpoints)})

    async with hosts(edge_of(sticky), world=world(Endpoints())) as proxy:
        both = at(proxy.backends["a"], proxy.backends["b"])
        await proxy.lab.ads.update(build_endpoints("shop/both:80", both.endpoints))
        first = await proxy.get("sticky.test", "/shop")
        cookie = first.header("set-cookie") or ""
        assert cookie.startswith("route=")
        assert {"Path=/shop", "SameSite=Lax", "HttpOnly"} <= set(cookie.split("; "))
        assert cookie.count("HttpOnly") == 1
        sent = ("cookie", cookie.split(";")[0])
        assert {(await proxy.get("sticky.test", "/shop", sent)).pod for _ in range(20)} == {first.pod}


def edge_of(sticky: StickyCookie) -> VirtualHost:
    forward = msgspec.structs.replace(to("both"), sticky=sticky)
    return host("sticky.test", route("/", forward))
