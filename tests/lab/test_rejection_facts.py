"""What a rejected resource takes down with it, by type: the facts on which isolating a culprit in `xds/` stands."""

import socket

import pytest

from portway.model.resource import ResourceType
from tests.kit.client import fetch
from tests.kit.lab import laboratory, serve_host, settled, until_answer, until_subscribed
from tests.kit.resources import (
    eds_cluster,
    endpoints,
    http_listener,
    route,
    routes,
    static_cluster,
    vhds_routes,
    virtual_host,
)

pytestmark = pytest.mark.e2e


async def test_one_bad_virtual_host_voids_those_of_its_route_configuration() -> None:
    async with laboratory() as lab:
        ads, port = lab.ads, lab.ports.take()
        first = await serve_host(lab, "a.example")
        ads.put(vhds_routes("s"))
        assert (await ads.update(http_listener("second", port, "s"))).error is None
        await until_subscribed(ads, ResourceType.ROUTES, "s")
        await settled(ads, ResourceType.ROUTES)
        assert (await ads.update(virtual_host("s/a", ["a.example"], route("c-a")))).error is None
        good = virtual_host("r/good", ["good.example"], route("c-a"))
        other = virtual_host("s/good", ["good.example"], route("c-a"))
        bad = virtual_host("r/bad", ["a.example"], route("c-a"))  # the domain of r/a
        error = (await ads.update(good, other, bad)).error
        assert error is not None
        assert "a.example" in error
        assert "r/bad" not in error  # the culprit's own name is not told
        assert (await fetch(f"http://good.example:{first}/")).status == 404
        # Whether the other route configuration took its share is Envoy's whim: it applies them one by one in an order
        # that varies from run to run, and stops at the first error. Only sending again makes it certain.
        assert (await fetch(f"http://a.example:{first}/")).pod == "a"
        assert (await ads.send(ResourceType.VIRTUAL_HOST, ["r/good", "s/good"], removed=["r/bad"])).error is None
        await until_answer(f"http://good.example:{first}/", pod="a")
        await until_answer(f"http://good.example:{port}/", pod="a")


async def test_one_bad_route_refuses_the_whole_route_configuration() -> None:
    async with laboratory() as lab:
        ads, port = lab.ads, lab.ports.take()
        backend = await lab.backends.start("a")
        host = virtual_host("a", ["a.example"], route("c-a"))
        ads.put(endpoints("c-a", backend.port), routes("r", host))
        assert (await ads.update(eds_cluster("c-a"))).error is None
        assert (await ads.update(http_listener("l", port, "r"))).error is None
        await until_answer(f"http://a.example:{port}/", pod="a")
        new = virtual_host("new", ["new.example"], route("c-a"))
        bad = virtual_host("bad", ["bad.example"], {**route("c-a"), "match": {"safe_regex": {"regex": "("}}})
        assert (await ads.update(routes("r", host, new, bad))).error is not None
        assert (await fetch(f"http://new.example:{port}/")).status == 404
        assert (await fetch(f"http://a.example:{port}/")).pod == "a"


async def test_a_cluster_with_a_semantic_error_is_named_and_the_others_are_applied() -> None:
    async with laboratory() as lab:
        bad = static_cluster("c-bad", 1, 2, type="LOGICAL_DNS")  # takes one endpoint only
        error = (await lab.ads.update(static_cluster("c-good", 1), bad, static_cluster("c-later", 1))).error
        assert error is not None
        assert "c-bad" in error
        held = await lab.envoy.admin("/clusters")
        assert "c-good::" in held
        assert "c-later::" in held
        assert "c-bad::" not in held


async def test_a_cluster_that_fails_validation_voids_the_response() -> None:
    async with laboratory() as lab:
        bad = static_cluster("c-bad", 1, connect_timeout="0s")  # the API wants more than 0
        error = (await lab.ads.update(static_cluster("c-good", 1), bad)).error
        assert error is not None
        assert 'name: "c-bad"' in error  # in the text of the whole message, which Envoy quotes; no field of its own
        assert "c-good::" not in await lab.envoy.admin("/clusters")


@pytest.mark.parametrize(("length", "accepted"), [(20, True), (200, False)])
async def test_a_regex_with_a_large_program_is_refused_by_default(length: int, accepted: bool) -> None:
    async with laboratory() as lab:
        await serve_host(lab, "a.example")
        match = {"safe_regex": {"regex": "/" + "a" * length}}
        host = virtual_host("r/regex", ["regex.example"], {**route("c-a"), "match": match})
        error = (await lab.ads.update(host)).error
        assert (error is None) is accepted, error


async def test_a_port_that_is_taken_is_a_refusal_that_names_the_listener() -> None:
    async with laboratory() as lab:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            lab.ads.put(routes("r", virtual_host("a", ["*"], route("c-a"))))
            error = (await lab.ads.update(http_listener("clash", taken.getsockname()[1], "r"))).error
            assert error is not None
            assert "clash" in error
