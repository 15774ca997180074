"""Filter chains that name their connection manager: which do, and what that changes for connections in a real Envoy."""

import msgspec
import pytest
from envoy.config.core.v3 import extension_pb2 as extensionv3
from envoy.config.listener.v3 import listener_pb2 as listenerv3
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcmv3

from portway.envoy.http_connection_manager import Peer
from portway.envoy.listener import build_listener
from portway.envoy.shared_manager import build_shared_manager
from portway.model.listener import Chain, DownstreamTls, HttpHandler, Listener, TcpHandler
from portway.model.names import Dialect, SecretKey, SecretUse, SocketKey, TableKey
from portway.settings import Edge
from tests.envoy.world import QUIET, SOURCE, World, certificate, certificate_key, serving
from tests.kit.certificates import Authority, client_context
from tests.kit.client import fetch
from tests.kit.connect import Endpoint, accept_any
from tests.kit.http1_client import Http1Connection
from tests.kit.lab import eventually
from tests.kit.ports import free_port

INGRESS = TableKey("host", "ingress", Dialect.INGRESS)
SOCKET = SocketKey("host", "127.0.0.1", 443)
DEFAULT = SecretKey(SecretUse.CERTIFICATE, ())


def secure(name: str, *server_names: str, table: TableKey = INGRESS, secret: SecretKey = DEFAULT) -> Chain:
    """A chain that ends TLS and looks requests up in a table."""
    tls = DownstreamTls(certificates=(secret,))
    return Chain(name=name, server_names=server_names, tls=tls, handler=HttpHandler(table=table), source=SOURCE)


def named(*hosts: str) -> tuple[Chain, ...]:
    """A chain with a certificate of its own for each host."""
    return tuple(secure(f"https/{host}", f"{host}.example", secret=certificate_key(host)) for host in hosts)


def managers(chains: tuple[Chain, ...], edge: Edge = QUIET) -> dict[str, str]:
    """Where each filter chain has its connection manager from: the name of a shared one, or `its own`."""
    built = build_listener(Listener(key=SOCKET, chains=chains), edge, lambda _: "")
    return {
        chain.name: chain.filters[0].name if chain.filters[0].HasField("config_discovery") else "its own"
        for chain in built.filter_chains
    }


def test_chains_of_certificates_share_the_manager_of_the_chain_without_server_names() -> None:
    assert managers((secure("https"), *named("a", "b"))) == {
        "https": "its own",
        "https/a": "manager/127.0.0.1:443/tcp/client",
        "https/b": "manager/127.0.0.1:443/tcp/client",
    }


def test_trusted_proxies_have_a_manager_of_their_own_to_share() -> None:
    edge = msgspec.structs.replace(QUIET, trusted_proxies=("10.0.0.0/8",))
    assert managers((secure("https"), *named("a")), edge) == {
        "https": "its own",
        "https trusted-proxy": "its own",
        "https/a": "manager/127.0.0.1:443/tcp/client",
        "https/a trusted-proxy": "manager/127.0.0.1:443/tcp/trusted-proxy",
    }


ALONE = {
    "no chain stands for all server names": named("a", "b"),
    "another table": (secure("https"), secure("a", "a.example", table=INGRESS._replace(name="other"))),
    "plain HTTP": (Chain(name="http", handler=HttpHandler(table=INGRESS), source=SOURCE), *named("a")),
    "TLS is passed through": (
        secure("https"),
        Chain(name="p", server_names=("p.example",), passthrough=True, handler=TcpHandler(), source=SOURCE),
    ),
}


@pytest.mark.parametrize("case", ALONE)
def test_others_keep_their_own(case: str) -> None:
    assert set(managers(ALONE[case]).values()) <= {"its own", "envoy.filters.network.tcp_proxy"}
    listener = Listener(key=SOCKET, chains=ALONE[case])
    assert build_shared_manager(listener, QUIET, Peer.CLIENT) is None


def test_a_chain_does_not_depend_on_the_other_certificates() -> None:
    few = build_listener(Listener(key=SOCKET, chains=(secure("https"), *named("a"))), QUIET, lambda _: "")
    many = build_listener(Listener(key=SOCKET, chains=(secure("https"), *named("a", "b", "c"))), QUIET, lambda _: "")
    assert list(few.filter_chains) == list(many.filter_chains)[:2]


def test_the_shared_manager_is_the_one_of_the_guard() -> None:
    listener = Listener(key=SOCKET, chains=(secure("https"), *named("a")))
    shared = build_shared_manager(listener, QUIET, Peer.CLIENT)
    assert shared is not None
    assert shared.typed_config == build_listener(listener, QUIET, lambda _: "").filter_chains[0].filters[0].typed_config


AUTHORITY = Authority()
SECRETS = {DEFAULT: certificate(AUTHORITY.issue("default.example"))} | {
    certificate_key(host): certificate(AUTHORITY.issue(f"{host}.example")) for host in "abc"
}


def world(port: int, *hosts: str, edge: Edge = QUIET) -> World:
    """A port with the default certificate and a chain for each host."""
    listener = Listener(key=SOCKET._replace(port=port), chains=(secure("https"), *named(*hosts)))
    return World(listeners=(listener,), tables={INGRESS: ()}, secrets=SECRETS, edge=edge)


def listener_of(given: World) -> listenerv3.Listener:
    return build_listener(given.listeners[0], given.edge, given.cluster)


def manager_of(given: World) -> extensionv3.TypedExtensionConfig:
    manager = build_shared_manager(given.listeners[0], given.edge, Peer.CLIENT)
    assert manager is not None
    return manager


async def connected(port: int, host: str) -> Http1Connection:
    """A connection with that server name."""
    return await Http1Connection.open(Endpoint(port=port, tls=accept_any(), server_name=f"{host}.example"))


async def is_open(connection: Http1Connection) -> bool:
    """Whether it answers, and means to go on."""
    answer = await connection.request("/", host="ready.test")
    return answer.status == 200 and answer.header("connection") is None


async def shows(port: int, host: str) -> bool:
    """Whether the host is answered with its own certificate."""
    trusting = client_context(AUTHORITY.certificate)
    answer = await fetch(f"https://{host}.example:{port}/", headers=[("host", "ready.test")], tls=trusting)
    return answer.status == 200


@pytest.mark.e2e
async def test_a_new_certificate_leaves_connections_open() -> None:
    port = free_port()
    async with serving(world(port, "a", "b")) as lab:
        async with await connected(port, "a") as one, await connected(port, "other") as default:
            assert await is_open(one)
            assert await is_open(default)
            assert (await lab.ads.update(listener_of(world(port, "a", "c")))).error is None
            await eventually(lambda: shows(port, "c"))
            assert not await shows(port, "b")
            assert await is_open(one)
            assert await is_open(default)
        assert (await lab.envoy.statistics("listener_manager"))["listener_manager.listener_in_place_updated"] == 1


@pytest.mark.e2e
async def test_a_changed_manager_is_for_new_connections_and_breaks_none() -> None:
    port = free_port()
    before, after = world(port, "a"), world(port, "a", edge=msgspec.structs.replace(QUIET, hsts=True))
    async with serving(before) as lab, await connected(port, "a") as old:
        assert await is_open(old)
        assert (await lab.ads.update(manager_of(after))).error is None

        async def is_new() -> bool:
            async with await connected(port, "a") as connection:
                answer = await connection.request("/", host="ready.test")
            assert answer.status == 200
            return answer.header("strict-transport-security") is not None

        await eventually(is_new)
        answer = await old.request("/", host="ready.test")
        assert (answer.status, answer.header("connection")) == (200, None)
        assert answer.header("strict-transport-security") is None


@pytest.mark.e2e
async def test_a_manager_that_envoy_refuses_changes_nothing() -> None:
    port = free_port()
    good = world(port, "a", "b")
    async with serving(good) as lab:
        bad = hcmv3.HttpConnectionManager()
        manager = manager_of(good)
        assert manager.typed_config.Unpack(bad)
        bad.stat_prefix = ""
        manager.typed_config.Pack(bad)
        listener = listener_of(world(port, "a", "c"))
        listener.filter_chains[0].filters[0].typed_config.CopyFrom(manager.typed_config)
        assert (await lab.ads.update(manager)).error is not None
        assert (await lab.ads.update(listener)).error is not None
        assert [host for host in "abc" if await shows(port, host)] == ["a", "b"]
