"""What Envoy acknowledges, and when: the facts on which the ordering in `xds/` stands, each against a real Envoy.

"Not acknowledged" is no matter of waiting: a later response of another type is, so Envoy has worked through this one.
"""

import socket

import envoy.extensions.network.dns_resolver.cares.v3.cares_dns_resolver_pb2  # noqa: F401
import pytest
from envoy.config.cluster.v3 import cluster_pb2 as clusterv3

from portway.model.resource import ResourceType
from tests.kit.ads import AdsServer
from tests.kit.backends import Kind
from tests.kit.certificates import Authority
from tests.kit.client import fetch
from tests.kit.lab import accepted, laboratory, serve_host, settled, until_answer, until_subscribed
from tests.kit.resources import (
    ADS,
    eds_cluster,
    endpoints,
    http_listener,
    parse,
    route,
    routes,
    secret,
    typed,
    upstream_tls_context,
    vhds_routes,
    virtual_host,
)

pytestmark = pytest.mark.e2e

HEALTH_CHECK = {
    "timeout": "5s",
    "interval": "0.2s",
    "no_traffic_interval": "0.2s",
    "unhealthy_threshold": 1,
    "healthy_threshold": 1,
    "http_health_check": {"path": "/status/200"},
}


async def test_clusters_are_acknowledged_together_once_all_are_warm() -> None:
    async with laboratory() as lab:
        ads = lab.ads
        ads.put(endpoints("c-warm", 1), eds_cluster("c-warm"), eds_cluster("c-cold"))
        sent = ads.push(ResourceType.CLUSTER, ["c-warm", "c-cold"])
        await until_subscribed(ads, ResourceType.ENDPOINTS, "c-warm", "c-cold")
        await settled(ads, ResourceType.ENDPOINTS)
        assert not sent.answered
        assert (await ads.update(endpoints("c-cold", 1))).error is None
        await accepted(sent)


async def test_the_initial_fetch_timeout_releases_a_cluster_without_endpoints() -> None:
    async with laboratory() as lab:
        config = {"eds_config": {**ADS, "initial_fetch_timeout": "0.3s"}}
        reply = await lab.ads.update(eds_cluster("c-cold", eds_cluster_config=config))
        assert reply.error is None


async def test_a_changed_cluster_waits_until_its_endpoints_are_sent_again() -> None:
    async with laboratory() as lab:
        ads = lab.ads
        await serve_host(lab, "a.example")
        await ads.send(ResourceType.ENDPOINTS, ["c-a"])  # before the cluster: does not count
        ads.put(eds_cluster("c-a", connect_timeout="2s"))
        sent = ads.push(ResourceType.CLUSTER, ["c-a"])
        await settled(ads, ResourceType.ROUTES)
        assert not sent.answered
        assert (await ads.send(ResourceType.ENDPOINTS, ["c-a"])).error is None
        await accepted(sent)


async def test_endpoints_of_a_health_checked_cluster_are_acknowledged_before_it_serves() -> None:
    async with laboratory() as lab:
        ads = lab.ads
        port = await serve_host(lab, "a.example")
        hanging, good = await lab.backends.start("hanging", Kind.HANG), await lab.backends.start("good")
        ads.put(eds_cluster("c-checked", health_checks=[HEALTH_CHECK]))
        sent = ads.push(ResourceType.CLUSTER, ["c-checked"])
        await until_subscribed(ads, ResourceType.ENDPOINTS, "c-checked")
        assert (await ads.update(endpoints("c-checked", hanging.port))).error is None
        assert not sent.answered  # its first check hangs, the cluster still warms
        assert (await ads.update(virtual_host("r/b", ["b.example"], route("c-checked")))).error is None
        assert (await fetch(f"http://b.example:{port}/")).status == 503
        assert (await ads.update(endpoints("c-checked", good.port))).error is None
        await until_answer(f"http://b.example:{port}/", pod="good")
        await accepted(sent)


async def test_endpoints_of_a_cluster_are_acknowledged_before_its_secret_is_there() -> None:
    async with laboratory() as lab:
        ads = lab.ads
        port = await serve_host(lab, "a.example")
        plain = await lab.backends.start("plain")
        ads.put(eds_cluster("c-tls", transport_socket=upstream_tls_context("key")))
        sent = ads.push(ResourceType.CLUSTER, ["c-tls"])
        await until_subscribed(ads, ResourceType.ENDPOINTS, "c-tls")
        assert not ads.subscribed[ResourceType.SECRET]
        assert (await ads.update(endpoints("c-tls", plain.port))).error is None
        await until_subscribed(ads, ResourceType.SECRET, "key")
        assert not sent.answered
        assert (await ads.update(virtual_host("r/b", ["b.example"], route("c-tls")))).error is None
        assert (await lab.envoy.statistics("cluster_manager.warming"))["cluster_manager.warming_clusters"] == 1
        assert (await fetch(f"http://b.example:{port}/")).status == 503
        assert (await ads.update(secret("key", Authority().issue("client")))).error is None
        await accepted(sent)


async def test_a_refused_first_answer_keeps_no_envoy_from_starting() -> None:
    ads = AdsServer()
    ads.put(eds_cluster("c-bad", connect_timeout="-1s"))
    async with laboratory(ads=ads):  # it begins once Envoy has asked for listeners
        await settled(ads, ResourceType.LISTENER)
        assert len(ads.refusals) == 1
        assert "duration" in ads.refusals[0]


@pytest.mark.parametrize("waits", [True, False])
async def test_a_dns_cluster_holds_the_acknowledgement_only_if_it_is_to_be_warm(waits: bool) -> None:
    # A server that never answers: a closed port would fail at once.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        resolver = typed(
            "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            resolvers=[_address("127.0.0.1", silent.getsockname()[1])],
        )
        cluster = parse(
            clusterv3.Cluster(),
            {
                "name": "c-dns",
                "type": "STRICT_DNS",
                "connect_timeout": "1s",
                "wait_for_warm_on_init": waits,
                "typed_dns_resolver_config": {"name": "cares", "typed_config": resolver},
                "load_assignment": {
                    "cluster_name": "c-dns",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address("gone.test", 80)}}]}],
                },
            },
        )
        async with laboratory() as lab:
            lab.ads.put(cluster)
            sent = lab.ads.push(ResourceType.CLUSTER, ["c-dns"])
            await settled(lab.ads, ResourceType.LISTENER)
            assert sent.answered is not waits
            if not waits:
                await accepted(sent)


def _address(host: str, port: int) -> dict[str, object]:
    return {"socket_address": {"address": host, "port_value": port}}


async def test_a_host_whose_cluster_is_cold_is_held_back_alone() -> None:
    async with laboratory() as lab:
        ads = lab.ads
        port = await serve_host(lab, "a.example")
        ads.put(eds_cluster("c-cold"))
        ads.push(ResourceType.CLUSTER, ["c-cold"])
        # The host of the cold cluster is not sent yet; this one is, and goes live meanwhile.
        assert (await ads.update(virtual_host("r/b", ["b.example"], route("c-a")))).error is None
        await until_answer(f"http://b.example:{port}/", pod="a")
        assert (await fetch(f"http://a.example:{port}/")).pod == "a"
        assert (await fetch(f"http://cold.example:{port}/")).status == 404


async def test_an_acknowledged_listener_without_its_routes_does_not_listen() -> None:
    async with laboratory() as lab:
        port, ads = lab.ports.take(), lab.ads
        assert (await ads.update(http_listener("l", port, "late"))).error is None
        await until_subscribed(ads, ResourceType.ROUTES, "late")
        assert (await fetch(f"http://a.example:{port}/")).status == 0
        backend = await lab.backends.start("a")
        ads.put(endpoints("c-a", backend.port))
        assert (await ads.update(eds_cluster("c-a"))).error is None
        assert (await ads.update(routes("late", virtual_host("a", ["*"], route("c-a"))))).error is None
        await until_answer(f"http://a.example:{port}/", pod="a")


async def test_virtual_hosts_of_a_second_route_configuration_must_be_sent_unasked() -> None:
    async with laboratory() as lab:
        ads, port = lab.ads, lab.ports.take()
        await serve_host(lab, "a.example")
        ads.put(vhds_routes("s"), virtual_host("s/a", ["a.example"], route("c-a")))
        assert (await ads.update(http_listener("second", port, "s"))).error is None
        await until_subscribed(ads, ResourceType.ROUTES, "s")
        await settled(ads, ResourceType.ROUTES)
        # No request for them came: the server answers one by itself, and none of the names was ever asked for.
        assert not ads.subscribed[ResourceType.VIRTUAL_HOST]
        assert (await fetch(f"http://a.example:{port}/")).pod is None
        assert (await ads.send(ResourceType.VIRTUAL_HOST, ["s/a"])).error is None
        await until_answer(f"http://a.example:{port}/", pod="a")
