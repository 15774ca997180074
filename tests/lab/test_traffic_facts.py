"""What happens to requests and connections while the configuration under them changes."""

import asyncio
import ssl

import envoy.extensions.filters.http.header_mutation.v3.header_mutation_pb2  # noqa: F401
import pytest
from cryptography import x509
from envoy.config.listener.v3 import listener_pb2 as listenerv3

from portway.model.resource import ResourceType
from tests.kit.backends import Kind
from tests.kit.certificates import Authority
from tests.kit.client import fetch
from tests.kit.connect import Endpoint, accept_any
from tests.kit.http1_client import Http1Connection
from tests.kit.lab import Laboratory, eventually, laboratory, serve_host, settled, until_answer, until_subscribed
from tests.kit.resources import (
    connection_manager,
    eds_cluster,
    endpoints,
    listener,
    route,
    router_filter,
    routes,
    secret,
    tcp_proxy,
    tls_context,
    tls_inspector,
    typed,
    virtual_host,
)
from tests.kit.stream_client import LineConnection, websocket

pytestmark = pytest.mark.e2e

HEADER_MUTATION = "envoy.extensions.filters.http.header_mutation.v3"


async def remove_cluster(lab: Laboratory) -> None:
    """Take away the cluster `c-a`, and wait until Envoy has."""
    assert (await lab.ads.send(ResourceType.CLUSTER, removed=["c-a"])).error is None
    await settled(lab.ads, ResourceType.LISTENER)
    assert "c-a::" not in await lab.envoy.admin("/clusters")


async def test_requests_in_flight_survive_the_removal_of_their_cluster() -> None:
    async with laboratory() as lab:
        port = await serve_host(lab, "a.example")
        async with asyncio.TaskGroup() as group, websocket(f"ws://a.example:{port}/ws") as socket:
            await socket.send("before")
            assert await socket.recv() == "before"
            plain = group.create_task(fetch(f"http://a.example:{port}/?delay=500ms"))
            chunked = group.create_task(fetch(f"http://a.example:{port}/slow?chunks=5&interval=100ms"))
            await eventually(lambda: _active(lab, 3))
            await remove_cluster(lab)
            assert (await fetch(f"http://a.example:{port}/")).status == 503
            assert (await plain).pod == "a"
            assert (await chunked).body == b"xxxxx"
            await socket.send("after")
            assert await socket.recv() == "after"


async def _active(lab: Laboratory, count: int) -> bool:
    return (await lab.envoy.statistics("http.lab.downstream_rq_active")).get("http.lab.downstream_rq_active") == count


async def test_tcp_connections_survive_the_removal_of_their_cluster() -> None:
    async with laboratory() as lab:
        lines, port = await lab.backends.start("lines", Kind.TCP), lab.ports.take()
        lab.ads.put(endpoints("c-a", lines.port))
        assert (await lab.ads.update(eds_cluster("c-a"))).error is None
        assert (await lab.ads.update(listener("l", port, {"filters": [tcp_proxy("c-a")]}))).error is None
        await eventually(lambda: _listens(port))
        async with await LineConnection.open(Endpoint(port=port)) as connection:
            assert await connection.read_line() == "Gateway API Test TCP Server"
            await remove_cluster(lab)
            assert await connection.ask("PING") == "PONG"


async def _listens(port: int) -> bool:
    return (await fetch(f"http://x:{port}/", seconds=1)).failure != "refused"


async def serve_tls(lab: Laboratory, authority: Authority, *chains: str) -> int:
    """A TLS listener with one filter chain per name (secret of the same name), all to backend `a`; its port."""
    port, ads, backend = lab.ports.take(), lab.ads, await lab.backends.start("a")
    ads.put(
        endpoints("c-a", backend.port),
        routes("r", virtual_host("a", ["*"], route("c-a"))),
        *(secret(name, authority.issue(name)) for name in chains),
    )
    assert (await ads.update(eds_cluster("c-a"))).error is None
    assert (await ads.update(tls_listener(port, *chains))).error is None
    for name in chains:
        await until_answer(f"https://{name}:{port}/", pod="a")
    return port


def tls_listener(port: int, *chains: str) -> listenerv3.Listener:
    """A listener whose filter chains differ by server name and secret."""
    return listener(
        "l",
        port,
        *(
            {
                "name": name,
                "filter_chain_match": {"server_names": [name]},
                "filters": [connection_manager("r")],
                "transport_socket": tls_context(name),
            }
            for name in chains
        ),
        listener_filters=[tls_inspector()],
    )


def _endpoint(port: int, name: str) -> Endpoint:
    return Endpoint(port=port, tls=accept_any(("http/1.1",)), server_name=name)


def _serial(connection: Http1Connection) -> str:
    tls = connection.tls()
    assert isinstance(tls, ssl.SSLObject)
    encoded = tls.getpeercert(binary_form=True)
    assert encoded is not None
    return f"{x509.load_der_x509_certificate(encoded).serial_number:x}"


async def test_adding_a_filter_chain_keeps_the_connections_of_the_others() -> None:
    async with laboratory() as lab:
        authority = Authority()
        port = await serve_tls(lab, authority, "a.example")
        async with await Http1Connection.open(_endpoint(port, "a.example")) as connection:
            assert (await connection.request("/", host="a.example")).pod == "a"
            lab.ads.put(secret("b.example", authority.issue("b.example")))
            assert (await lab.ads.update(tls_listener(port, "a.example", "b.example"))).error is None
            await until_answer(f"https://b.example:{port}/", pod="a")
            answer = await connection.request("/", host="a.example")
            assert (answer.pod, connection.usable) == ("a", True)


async def test_listener_that_waits_for_a_secret_leaves_the_old_one_serving() -> None:
    async with laboratory() as lab:
        authority = Authority()
        port = await serve_tls(lab, authority, "a.example")
        assert (await lab.ads.update(tls_listener(port, "a.example", "late.example"))).error is None
        await until_subscribed(lab.ads, ResourceType.SECRET, "late.example")
        assert (await fetch(f"https://a.example:{port}/")).pod == "a"
        assert (await fetch(f"https://late.example:{port}/")).status == 0
        assert (await lab.ads.update(secret("late.example", authority.issue("late.example")))).error is None
        await until_answer(f"https://late.example:{port}/", pod="a")


async def test_a_new_certificate_reaches_new_connections_and_keeps_the_old_ones() -> None:
    async with laboratory() as lab:
        authority = Authority()
        port = await serve_tls(lab, authority, "a.example")
        async with await Http1Connection.open(_endpoint(port, "a.example")) as connection:
            before = _serial(connection)
            renewed = authority.issue("a.example")
            assert (await lab.ads.update(secret("a.example", renewed))).error is None

            async def shown() -> bool:
                async with await Http1Connection.open(_endpoint(port, "a.example")) as fresh:
                    return _serial(fresh) == renewed.serial() != before

            await eventually(shown)
            answer = await connection.request("/", host="a.example")
            assert (answer.pod, connection.usable) == ("a", True)


async def test_a_filter_that_is_disabled_until_a_route_enables_it_never_touches_the_listener() -> None:
    async with laboratory() as lab:
        ads, port, backend = lab.ads, lab.ports.take(), await lab.backends.start("a")
        header = {"append": {"header": {"key": "x-filter", "value": "on"}}}
        idle = {"name": "mutate", "disabled": True, "typed_config": typed(f"{HEADER_MUTATION}.HeaderMutation")}
        enabled = typed(
            "envoy.config.route.v3.FilterConfig",
            config=typed(f"{HEADER_MUTATION}.HeaderMutationPerRoute", mutations={"response_mutations": [header]}),
        )
        manager = connection_manager("r", http_filters=[idle, router_filter()])
        ads.put(endpoints("c-a", backend.port), routes("r", virtual_host("a", ["*"], route("c-a"))))
        assert (await ads.update(eds_cluster("c-a"))).error is None
        assert (await ads.update(listener("l", port, {"filters": [manager]}))).error is None
        await until_answer(f"http://a.example:{port}/", pod="a")
        async with await Http1Connection.open(Endpoint(port=port)) as connection:
            assert (await connection.request("/", host="a.example")).header("x-filter") is None
            with_filter = route("c-a", typed_per_filter_config={"mutate": enabled})
            assert (await ads.update(routes("r", virtual_host("a", ["*"], with_filter)))).error is None

            async def filtered() -> bool:
                return (await connection.request("/", host="a.example")).header("x-filter") == "on"

            await eventually(filtered)
            assert connection.usable
