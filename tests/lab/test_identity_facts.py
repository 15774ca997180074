"""Names, hosts and statistics: where identity may be kept cheaply, and what can be switched on while running."""

from pathlib import Path

import envoy.extensions.access_loggers.file.v3.file_pb2  # noqa: F401
import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2 as bootstrapv3

from portway.model.resource import ResourceType
from tests.kit.client import fetch
from tests.kit.lab import eventually, laboratory, serve_host, settled, until_answer, until_subscribed
from tests.kit.resources import eds_cluster, endpoints, http_listener, parse, route, typed, vhds_routes, virtual_host

pytestmark = pytest.mark.e2e


async def test_the_access_log_prints_the_route_s_name(tmp_path: Path) -> None:
    async with laboratory() as lab:
        ads, port, backend = lab.ads, lab.ports.take(), await lab.backends.start("a")
        log = tmp_path / "access.log"
        line = {"text_format_source": {"inline_string": "%ROUTE_NAME% %VIRTUAL_CLUSTER_NAME% %UPSTREAM_CLUSTER%\n"}}
        sink = typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", path=str(log), log_format=line)
        named = route("c-a", name="HTTPRoute/shop/cart/0")
        ads.put(endpoints("c-a", backend.port), vhds_routes("r"), virtual_host("r/a", ["a.example"], named))
        assert (await ads.update(eds_cluster("c-a"))).error is None
        flush = {"name": "file", "typed_config": sink}
        assert (await ads.update(http_listener("l", port, "r", access_log=[flush]))).error is None
        await until_answer(f"http://a.example:{port}/", pod="a")
        await lab.envoy.admin("/reopen_logs", method="POST")  # flushes what is buffered

        async def logged() -> bool:
            return "HTTPRoute/shop/cart/0 - c-a" in log.read_text()

        await eventually(logged)


HOSTS = {
    # Host header: does it find the virtual host of `a.example`?
    "a.example": True,
    "a.example:8080": True,  # any port: ignore_port_in_host_matching
    "A.Example": True,
    "A.EXAMPLE:1": True,
    "a.example.": False,  # strip_trailing_host_dot is the connection manager's
    "b.a.example": False,
}


async def test_ports_and_case_of_the_host_are_ignored_with_vhds_too() -> None:
    async with laboratory() as lab:
        port = await serve_host(lab, "a.example")
        found = {host: (await fetch(f"http://x:{port}/", headers=[("host", host)])).pod == "a" for host in HOSTS}
        assert found == HOSTS


async def test_a_route_configuration_may_have_virtual_hosts_of_its_own_beside_vhds() -> None:
    async with laboratory() as lab:
        ads, port, backend = lab.ads, lab.ports.take(), await lab.backends.start("a")
        own = virtual_host("own", ["own.example"], route("c-a"))
        ads.put(endpoints("c-a", backend.port), vhds_routes("r", own))
        ads.put(virtual_host("r/a", ["a.example"], route("c-a")))
        assert (await ads.update(eds_cluster("c-a"))).error is None
        assert (await ads.update(http_listener("l", port, "r"))).error is None
        await until_answer(f"http://own.example:{port}/", pod="a")
        await until_answer(f"http://a.example:{port}/", pod="a")
        # Changing one kind leaves the other alone.
        assert (await ads.update(virtual_host("r/b", ["b.example"], route("c-a")))).error is None
        await until_answer(f"http://own.example:{port}/", pod="a")
        assert (await ads.update(vhds_routes("r"))).error is None
        assert (await fetch(f"http://own.example:{port}/")).status == 404
        assert (await fetch(f"http://a.example:{port}/")).pod == "a"
        assert (await fetch(f"http://b.example:{port}/")).pod == "a"


async def test_an_alternative_name_that_the_matcher_admits_switches_statistics_on_while_running() -> None:
    def only_watched(bootstrap: bootstrapv3.Bootstrap) -> None:
        admitted = {"stats_matcher": {"inclusion_list": {"patterns": [{"prefix": "cluster.watched."}]}}}
        bootstrap.stats_config.Clear()
        parse(bootstrap.stats_config, admitted)

    async with laboratory(change=only_watched) as lab:
        ads = lab.ads
        port = await serve_host(lab, "a.example")
        assert await lab.envoy.statistics("cluster.") == {}
        ads.put(eds_cluster("c-a", alt_stat_name="watched.shop.cart"))
        sent = ads.push(ResourceType.CLUSTER, ["c-a"])
        await until_subscribed(ads, ResourceType.ENDPOINTS, "c-a")
        await settled(ads, ResourceType.ROUTES)
        ads.push(ResourceType.ENDPOINTS, ["c-a"])
        assert (await sent.reply()).error is None
        assert (await fetch(f"http://a.example:{port}/")).pod == "a"
        counted = await lab.envoy.statistics("cluster.watched.shop.cart.upstream_rq_total")
        assert counted == {"cluster.watched.shop.cart.upstream_rq_total": 1}
        ads.put(eds_cluster("c-a"))
        sent = ads.push(ResourceType.CLUSTER, ["c-a"])
        await settled(ads, ResourceType.ROUTES)
        ads.push(ResourceType.ENDPOINTS, ["c-a"])
        assert (await sent.reply()).error is None
        assert (await fetch(f"http://a.example:{port}/")).pod == "a"
        assert await lab.envoy.statistics("cluster.") == {}  # and off again
