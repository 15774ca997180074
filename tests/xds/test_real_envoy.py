"""The server under test against a real Envoy: what `envoy.md` says about ordering has to come true in requests."""

import asyncio

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2 as bootstrapv3
from envoy.config.core.v3 import extension_pb2 as extensionv3
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as http_optionsv3

from portway.model.resource import Readiness, Resource, ResourceType
from portway.xds.ordering import Timing
from tests.kit.client import fetch
from tests.kit.lab import eventually, until_answer
from tests.kit.load import LoadProcess, LoadSpec
from tests.kit.resources import connection_manager, parse, static_cluster
from tests.kit.resources import listener as made_listener
from tests.kit.tls_chains import named_manager
from tests.xds.world import (
    ROUTES,
    World,
    cluster,
    cluster_of,
    endpoints_of,
    host,
    listener,
    of,
    poisoned_host,
    route_configuration,
    world,
)

pytestmark = pytest.mark.e2e


async def serve(it: World, *hosts: str) -> tuple[int, int]:
    """Serve these hosts from backend `a`; the listener's port and the backend's."""
    port = it.ports.take()
    a = await it.backends.start("a")
    wanted = (
        cluster("c-a"),
        endpoints_of("c-a", a.port),
        listener("http", port),
        route_configuration(),
        *(host(name, "c-a") for name in hosts),
    )
    it.apply(*wanted)
    await it.delivered(*wanted)
    return port, a.port


async def test_switching_a_backend_loses_no_request() -> None:
    async with world(timing=Timing(grace=0.5)) as it:
        port, _ = await serve(it, "shop.example", "other.example")
        b = await it.backends.start("b")
        spec = LoadSpec(url=f"http://shop.example:{port}/", rate=300)
        old = "c-a"
        removed: list[Resource] = []
        async with LoadProcess(spec) as load:
            for turn in range(50):
                new = f"c-{turn}"
                shop = host("shop.example", new)
                it.apply(cluster(new), endpoints_of(new, b.port), shop, removed=removed)
                await it.delivered(shop)
                removed = [cluster(old), endpoints_of(old)]
                old = new
        report = load.report()
        assert not report.wrong({"a", "b"}), report.summary()
        assert not it.overdue
        clusters = await it.envoy.admin("/clusters")
        await asyncio.sleep(0.7)  # the grace, so that the last round's clusters are gone
        clusters = await it.envoy.admin("/clusters")
        assert clusters.count("::added_via_api::true") <= 3, clusters


async def test_a_poisoned_host_among_twenty_is_isolated() -> None:
    async with world() as it:
        port, _ = await serve(it)
        hosts = [host(f"h{number}.example", "c-a") for number in range(20)]
        it.apply(*hosts[:10], poisoned_host("bad.example"), *hosts[10:])
        await it.delivered(*hosts)
        for name in ("h0.example", "h19.example"):
            assert (await fetch(f"http://{name}:{port}/")).pod == "a"
        assert [refusal.key.name for refusal in it.refusals] == ["gateway/http/bad.example"]
        assert "regex" in it.refusals[0].message or "missing" in it.refusals[0].message
        assert [origin.name for origin in it.refusals[0].origins] == ["bad.example"]


async def test_a_cluster_without_endpoints_holds_back_only_its_host() -> None:
    async with world(timing=Timing(wait=2.0)) as it:
        port, _ = await serve(it, "shop.example", "other.example")
        b = await it.backends.start("b")
        stuck, fine = host("shop.example", "c-stuck"), host("other.example", "c-b")
        it.apply(cluster("c-stuck"), stuck, cluster("c-b"), endpoints_of("c-b", b.port), fine)
        await it.delivered(fine, seconds=1.5)
        assert (await fetch(f"http://other.example:{port}/")).pod == "b"
        assert (await fetch(f"http://shop.example:{port}/")).pod == "a"
        assert not it.overdue
        await it.delivered(stuck)
        assert it.overdue == ["c-stuck"]
        assert (await fetch(f"http://shop.example:{port}/")).status == 503


async def test_a_new_server_resends_nothing_and_loses_nothing() -> None:
    async with world() as it:
        port = it.ports.take()
        a = await it.backends.start("a")
        wanted = [cluster("c-a"), endpoints_of("c-a", a.port), listener("http", port), route_configuration()]
        wanted += [host(f"h{number}.example", "c-a") for number in range(20)]
        it.apply(*wanted)
        await it.delivered(*wanted)
        spec = LoadSpec(url=f"http://h3.example:{port}/", rate=200)
        async with LoadProcess(spec) as load:
            await it.restart_server(*wanted)
            await it.delivered(*wanted)
            assert it.fleet.sessions[0].statistics().resources_sent == 0
        assert not load.report().wrong({"a"}), load.report().summary()


async def test_a_manager_that_listeners_name_survives_a_new_server() -> None:
    async with world() as it:
        port = it.ports.take()
        a = await it.backends.start("a")
        tree = {"name": "l", "filters": [named_manager("m")]}
        wanted = [
            cluster("c-a"),
            endpoints_of("c-a", a.port),
            of(ResourceType.LISTENER, made_listener("l", port, tree)),
            manager("m"),
            route_configuration(),
            host("shop.example", "c-a"),
        ]
        it.apply(*wanted)
        await it.delivered(*wanted)
        await until_answer(f"http://shop.example:{port}/", pod="a")
        await it.restart_server(*wanted)
        await it.delivered(*wanted)
        assert it.fleet.sessions[0].statistics().resources_sent == 0
        it.apply(manager("m", server_name="changed", server_header_transformation="OVERWRITE"))

        async def is_new() -> bool:
            answer = await fetch(f"http://shop.example:{port}/")
            assert answer.pod == "a"
            return answer.header("server") == "changed"

        await eventually(is_new)
        assert it.fleet.sessions[0].statistics().resources_sent == 1


def manager(name: str, **fields: object) -> Resource:
    """A connection manager of its own."""
    tree = {**connection_manager(ROUTES, **fields), "name": name}
    return of(ResourceType.EXTENSION, parse(extensionv3.TypedExtensionConfig(), tree))


async def test_what_went_while_no_server_ran_is_removed() -> None:
    async with world() as it:
        port, backend = await serve(it, "shop.example", "gone.example")
        kept = [
            cluster("c-a"),
            endpoints_of("c-a", backend),
            listener("http", port),
            route_configuration(),
            host("shop.example", "c-a"),
        ]
        await it.restart_server(*kept)
        await until_answer(f"http://gone.example:{port}/", status=404)
        assert (await fetch(f"http://shop.example:{port}/")).pod == "a"


async def test_a_cluster_that_was_warming_when_the_stream_broke_gets_its_endpoints() -> None:
    async with world() as it:
        port, backend = await serve(it, "shop.example")
        changed = cluster("c-a", connect_timeout="2s")
        kept = [
            endpoints_of("c-a", backend),
            listener("http", port),
            route_configuration(),
            host("shop.example", "c-a"),
        ]
        # The server dies between the changed cluster and its endpoints: this session never sends the latter.
        session = it.fleet.sessions[0]
        session._holdings.endpoints.names.clear()
        it.apply(changed)
        await asyncio.sleep(0.3)
        assert not session.holds(changed.key, changed.version)
        await it.restart_server(changed, *kept)
        await it.delivered(changed, *kept, seconds=5)
        assert (await fetch(f"http://shop.example:{port}/")).pod == "a"


async def test_a_second_listener_and_an_empty_route_configuration_open_at_once() -> None:
    async with world() as it:
        port, _ = await serve(it, "shop.example")
        second, third = it.ports.take(), it.ports.take()
        wanted = [
            listener("second", second, routes="gateway/second"),
            route_configuration("gateway/second"),
            host("shop.example", "c-a", routes="gateway/second"),
            listener("empty", third, routes="gateway/empty"),
            route_configuration("gateway/empty"),
        ]
        it.apply(*wanted)
        await until_answer(f"http://shop.example:{second}/", pod="a", seconds=3)
        await until_answer(f"http://shop.example:{third}/", status=404, seconds=3)
        assert (await fetch(f"http://shop.example:{port}/")).pod == "a"


async def test_a_static_cluster_is_no_obstacle() -> None:
    async with world() as it:
        port, backend = await serve(it, "shop.example")
        static = cluster_of(static_cluster("c-static", backend), Readiness.AT_ONCE)
        shop = host("shop.example", "c-static")
        it.apply(static, shop)
        await it.delivered(shop, seconds=2)
        assert (await fetch(f"http://shop.example:{port}/")).pod == "a"


def ask_often(bootstrap: bootstrapv3.Bootstrap) -> None:
    """Let Envoy ask every second whether its control plane is there; a real one does it every 30 s."""
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = http_optionsv3.HttpProtocolOptions()
    packed = bootstrap.static_resources.clusters[0].typed_extension_protocol_options[name]
    packed.Unpack(options)
    keepalive = options.explicit_http_config.http2_protocol_options.connection_keepalive
    keepalive.interval.FromMilliseconds(1_050)
    keepalive.timeout.FromSeconds(5)
    packed.Pack(options)


async def test_a_proxy_that_asks_whether_we_are_there_keeps_its_stream() -> None:
    async with world(change=ask_often) as it:
        await serve(it, "shop.example")
        # gRPC ends a connection at the third ping that it takes for abuse; that nothing happens has no event.
        await asyncio.sleep(5)
        statistics = it.server.statistics()
        assert (statistics.streams, statistics.streams_opened) == (1, 1)
