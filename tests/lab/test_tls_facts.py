"""Many certificates on one port: what the ways besides a filter chain for each cost or break in Envoy 1.40.

Behind docs/design/tls-hosts.md. A test that fails with a newer Envoy says that the decision there is to be looked at
again.
"""

import asyncio

import pytest
from envoy.config.core.v3 import extension_pb2 as extensionv3
from envoy.config.listener.v3 import listener_components_pb2 as listener_componentsv3
from envoy.config.listener.v3 import listener_pb2 as listenerv3

from portway.model.resource import ResourceType
from tests.kit.ads import type_of
from tests.kit.certificates import Authority, client_context
from tests.kit.client import fetch
from tests.kit.connect import Endpoint, accept_any
from tests.kit.http1_client import Http1Connection
from tests.kit.lab import Laboratory, eventually, laboratory, until_answer, until_subscribed
from tests.kit.resources import (
    ADS,
    connection_manager,
    eds_cluster,
    endpoints,
    listener,
    parse,
    route,
    routes,
    secret,
    tls_context,
    tls_inspector,
    virtual_host,
)
from tests.kit.tls_chains import by_server_name, discovered_chain, named_manager, on_demand

pytestmark = pytest.mark.e2e

CHAIN = type_of(listener_componentsv3.FilterChain())
AUTHORITY = Authority()


async def start(lab: Laboratory) -> int:
    """A backend behind every host; the default certificate. A port for a listener."""
    backend = await lab.backends.start("a")
    lab.ads.put(endpoints("c-a", backend.port), routes("r", virtual_host("a", ["*"], route("c-a"))))
    lab.ads.put(secret("default", AUTHORITY.issue("default")))
    assert (await lab.ads.update(eds_cluster("c-a"))).error is None
    return lab.ports.take()


def chain(name: str, socket: dict[str, object]) -> dict[str, object]:
    return {"name": name, "filters": [connection_manager("r")], "transport_socket": socket}


async def answers(port: int, host: str, *, seconds: float = 5.0) -> bool:
    """Whether the host is served, with a certificate for it."""
    trusting = client_context(AUTHORITY.certificate)
    return (await fetch(f"https://{host}:{port}/", tls=trusting, seconds=seconds)).status == 200


def discovering(port: int, *hosts: str) -> listenerv3.Listener:
    """A listener whose chains, but the default, come by discovery."""
    return listener(
        "l",
        port,
        chain("default", tls_context("default")),
        filter_chain_matcher=by_server_name({host: host for host in hosts}, "default"),
        fcds_config={"config_source": ADS},
        listener_filters=[tls_inspector()],
    )


async def test_discovered_chains_come_and_go_without_the_others() -> None:
    async with laboratory() as lab:
        port = await start(lab)
        lab.ads.put(*(discovered_chain(host, "r", AUTHORITY.issue(host)) for host in ("a.example", "b.example")))
        assert (await lab.ads.update(discovering(port, "a.example"))).error is None
        await until_answer(f"https://a.example:{port}/", pod="a")
        endpoint = Endpoint(port=port, tls=accept_any(("http/1.1",)), server_name="a.example")
        async with await Http1Connection.open(endpoint) as connection:
            assert (await connection.request("/", host="a.example")).pod == "a"
            assert (await lab.ads.update(discovering(port, "a.example", "b.example"))).error is None
            async with asyncio.timeout(10):
                # Until its chain is there the default one answers.
                while not await answers(port, "b.example"):  # noqa: ASYNC110 - a proxy
                    await asyncio.sleep(0.01)
            assert (await connection.request("/", host="a.example")).pod == "a"
            assert connection.usable


async def test_a_discovered_chain_never_asks_for_its_secret() -> None:
    async with laboratory() as lab:
        port = await start(lab)
        lab.ads.put(secret("a.example", AUTHORITY.issue("a.example")), discovered_chain("a.example", "r", None))
        assert (await lab.ads.update(discovering(port, "a.example"))).error is None
        await until_subscribed(lab.ads, CHAIN, "a.example")
        await until_answer(f"https://other.example:{port}/", pod="a")
        assert not await answers(port, "a.example")
        assert "a.example" not in lab.ads.subscribed[ResourceType.SECRET]


async def test_certificates_on_demand_need_session_resumption_off() -> None:
    async with laboratory() as lab:
        port = await start(lab)
        reply = await lab.ads.update(listener("l", port, chain("on demand", on_demand(resumption=True))))
        assert reply.error is not None
        assert "not integrated with session resumption" in reply.error


async def test_every_name_that_a_client_makes_up_is_asked_for_and_kept() -> None:
    async with laboratory() as lab:
        port = await start(lab)
        lab.ads.put(secret("a.example", AUTHORITY.issue("a.example")))
        assert (await lab.ads.update(listener("l", port, chain("on demand", on_demand())))).error is None
        await until_answer(f"https://a.example:{port}/", pod="a")
        made_up = [f"n{number}.example" for number in range(50)]
        served = await asyncio.gather(*(answers(port, name, seconds=0.5) for name in made_up))
        assert not any(served)  # the handshake waits; no other certificate is shown
        await until_subscribed(lab.ads, ResourceType.SECRET, *made_up)  # though all these clients are gone


async def test_another_certificate_in_a_chain_drains_it() -> None:
    async with laboratory() as lab:
        port = await start(lab)
        lab.ads.put(*(secret(host, AUTHORITY.issue(host)) for host in ("a.example", "b.example")))
        assert (await lab.ads.update(listener("l", port, chain("all", tls_context("a.example"))))).error is None
        await until_answer(f"https://a.example:{port}/", pod="a")
        both = listener("l", port, chain("all", tls_context("a.example", "b.example")))
        endpoint = Endpoint(port=port, tls=accept_any(("http/1.1",)), server_name="a.example")
        async with await Http1Connection.open(endpoint) as connection:
            assert (await connection.request("/", host="a.example")).pod == "a"
            assert (await lab.ads.update(both)).error is None
            await until_answer(f"https://b.example:{port}/", pod="a")
            name = "listener_manager.total_filter_chains_draining"
            assert (await lab.envoy.statistics(name))[name] == 1


async def test_a_refused_manager_closes_connections_of_the_chains_that_name_it() -> None:
    async with laboratory() as lab:
        port = await start(lab)
        assert (await lab.ads.update(listener("l", port, chain("default", tls_context("default"))))).error is None
        await until_answer(f"https://a.example:{port}/", pod="a")
        manager = connection_manager("r", stat_prefix="")  # which Envoy wants
        lab.ads.put(parse(extensionv3.TypedExtensionConfig(), {**manager, "name": "m"}))
        changed = {**chain("default", tls_context("default")), "filters": [named_manager("m")]}
        assert (await lab.ads.update(listener("l", port, changed))).error is None

        async def refused() -> bool:
            return (await fetch(f"https://a.example:{port}/")).status == 0 and bool(lab.ads.refusals)

        await eventually(refused)
