"""Every protocol that is promised, from a client through a real Portway and Envoy to a backend that speaks it."""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import msgspec
import pytest

from tests.kit.answer import Answer, ConnectionFailed
from tests.kit.backends import BackendSpec, Kind
from tests.kit.certificates import Authority, client_context
from tests.kit.client import fetch
from tests.kit.connect import Endpoint, accept_any
from tests.kit.grpc_backend import SERVICE, decode_pod
from tests.kit.http1_client import Http1Connection
from tests.kit.http2_client import Http2Connection
from tests.kit.manifests import (
    CLASS,
    backend,
    endpoint_slice,
    gateway_with,
    http_route,
    ingress,
    resource_ingress,
    secret,
    service,
    stream_route,
    upstream_policy,
)
from tests.kit.portway import portway
from tests.kit.stream_client import LineConnection, ask_udp, websocket, websocket_pod
from tests.kit.world import World, world_fixture

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

world = world_fixture("--http3", "--bind-address", "::1")

MEGABYTE = 1024 * 1024


async def serve(world: World, name: str, kind: Kind = Kind.HTTP1, **annotations: str) -> None:
    """A backend of this name behind an Ingress for `<name>.test`."""
    made = await world.backends.start(name, kind)
    dashed = {key.replace("_", "-"): value for key, value in annotations.items()}
    world.declare(name, service(name, [made.port]), ingress(name, f"{name}.test", [("/", name)], annotations=dashed))
    if kind in (Kind.HTTP1, Kind.HTTP2):
        await world.served(f"http://{name}.test/", by=name)


# HTTP/1.1 and HTTP/2


async def test_http1_and_http2_with_and_without_tls(world: World) -> None:
    await serve(world, "web", ssl_redirect="false")
    for scheme in ("http", "https"):
        for http2 in (False, True):
            answer = await world.running.get(f"{scheme}://web.test/x?y=1", http2=http2)
            assert (answer.status, answer.pod, answer.echoed().path) == (200, "web", "/x?y=1"), (scheme, http2)
            assert answer.echoed().header("x-forwarded-proto") == scheme


async def test_http10_is_answered(world: World) -> None:
    await serve(world, "old")
    async with await Http1Connection.open(Endpoint(port=world.running.http_port)) as connection:
        connection.write(b"GET / HTTP/1.0\r\nhost: old.test\r\n\r\n")
        assert (await connection.receive()).pod == "old"


async def test_h2c_to_a_service_that_says_so(world: World) -> None:
    made = await world.backends.start("h2c", Kind.HTTP2)
    world.declare(
        "h2c", service("h2c", [made.port], app_protocol="kubernetes.io/h2c"), ingress("h2c", "h2c.test", [("/", "h2c")])
    )
    await world.served("http://h2c.test/", by="h2c")
    assert (await world.running.get("http://h2c.test/")).echoed().proto == "HTTP/2.0"


# gRPC


async def grpc_echo(port: int, host: str, method: str = "Echo") -> str:
    """Who answers a unary call."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.default_authority", host)]) as channel:
        call = channel.unary_unary(f"/{SERVICE}/{method}", bytes, bytes)
        return decode_pod(await call(b"", timeout=5))


async def grpc_chat(port: int, host: str, messages: list[bytes]) -> list[bytes]:
    """Send each message once the echo of the one before has come: both directions are open at a time."""
    got: list[bytes] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.default_authority", host)]) as channel:
        call = channel.stream_stream(f"/{SERVICE}/Chat", bytes, bytes)(None, timeout=5)
        for message in messages:
            await call.write(message)
            answer: object = await call.read()
            assert isinstance(answer, bytes)
            got.append(answer)
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
    return got


async def is_grpc_served(port: int, host: str, name: str) -> bool:
    try:
        return await grpc_echo(port, host) == name
    except grpc.aio.AioRpcError:
        return False


async def test_grpc_by_ingress(world: World) -> None:
    await serve(world, "rpc", Kind.GRPC, backend_protocol="GRPC")
    port = world.running.http_port
    await world.until(lambda: is_grpc_served(port, "rpc.test", "rpc"), "served")
    assert await grpc_chat(port, "rpc.test", [b"one", b"two"]) == [b"one", b"two"]
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await grpc_echo(port, "rpc.test", "EchoThree")
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def grpc_gateway(world: World) -> int:
    made = await world.backends.start("grpc", Kind.GRPC)
    port = world.ports.take()
    world.declare(
        "grpc",
        gateway_with("grpc", [f"name: http, port: {port}, protocol: HTTP"]),
        stream_route("GRPCRoute", "grpc", "grpc", [("grpc", 1)], hosts=["grpc.test"]),
        service("grpc", [made.port]),
    )
    await world.until(lambda: is_grpc_served(port, "grpc.test", "grpc"), "served")
    return port


async def test_grpc_and_grpc_web_by_grpcroute(world: World) -> None:
    port = await grpc_gateway(world)
    assert await grpc_chat(port, "grpc.test", [b"a" * 100_000, b"b"]) == [b"a" * 100_000, b"b"]
    answer = await fetch(
        f"http://grpc.test:{port}/{SERVICE}/Echo",
        method="POST",
        headers=[("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")],
        body=b"\0\0\0\0\0",
    )
    assert (answer.status, answer.header("content-type")) == (200, "application/grpc-web+proto")
    length = int.from_bytes(answer.body[1:5])
    assert decode_pod(answer.body[5 : 5 + length]) == "grpc"
    trailers = answer.body[5 + length :]
    assert trailers[0] == 0x80  # gRPC-Web: a frame of trailers
    assert b"grpc-status:0" in trailers


# WebSocket


async def test_websocket_by_ingress_without_annotation(world: World) -> None:
    await serve(world, "ws", ssl_redirect="false")
    for scheme, port in (("ws", world.running.http_port), ("wss", world.running.https_port)):
        async with websocket(f"{scheme}://ws.test:{port}/ws") as connection:
            assert websocket_pod(connection) == "ws"
            await connection.send("hello")
            assert await connection.recv() == "hello"
            await connection.send(b"x" * MEGABYTE)
            assert await connection.recv() == b"x" * MEGABYTE


async def test_websocket_by_gateway(world: World) -> None:
    made = await world.backends.start("wsgw")
    port = world.ports.take()
    world.declare(
        "wsgw",
        gateway_with("wsgw", [f"name: http, port: {port}, protocol: HTTP"]),
        http_route("wsgw", "wsgw", "wsgw.test", [("/", "wsgw")]),
        service("wsgw", [made.port], app_protocol="kubernetes.io/ws"),
    )
    await world.answered(lambda: fetch(f"http://wsgw.test:{port}/"))
    async with websocket(f"ws://wsgw.test:{port}/ws") as connection:
        await connection.send("hello")
        assert await connection.recv() == "hello"


# Bodies


async def test_bodies_stream_both_ways(world: World) -> None:
    await serve(world, "stream")
    reader, writer = await asyncio.open_connection("127.0.0.1", world.running.http_port)
    writer.write(b"GET /slow?chunks=4&interval=150ms HTTP/1.1\r\nhost: stream.test\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    await reader.readuntil(b"x")
    begin = asyncio.get_running_loop().time()
    await reader.readuntil(b"0\r\n\r\n")
    assert asyncio.get_running_loop().time() - begin > 0.3, "the first chunk waited for the last"
    # Chunked upload, in pieces and with a pause: what arrives is what was sent.
    writer.write(b"POST /body HTTP/1.1\r\nhost: stream.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await asyncio.sleep(0.05)
    writer.write(b"2\r\nde\r\n0\r\n\r\n")
    assert (await Http1Connection(reader, writer).receive()).body == b"abcde"
    writer.close()


@pytest.mark.parametrize("http2", [False, True])
async def test_large_bodies(world: World, http2: bool) -> None:
    name = f"large{int(http2)}"
    await serve(world, name)
    body = bytes(range(256)) * 4096 * 8
    answer = await world.running.get(f"http://{name}.test/body", method="POST", body=body, http2=http2)
    assert answer.status == 200
    assert answer.body == body
    down = await world.running.get(f"http://{name}.test/bytes/{16 * MEGABYTE}", http2=http2)
    assert len(down.body) == 16 * MEGABYTE


async def test_expect_100_continue(world: World) -> None:
    await serve(world, "expect")
    async with await Http1Connection.open(Endpoint(port=world.running.http_port)) as connection:
        head = b"POST /body HTTP/1.1\r\nhost: expect.test\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n"
        connection.write(head)
        await asyncio.sleep(0.1)
        connection.write(b"hello")
        answer = await connection.receive("POST")
    assert (answer.status, answer.body, answer.informational) == (200, b"hello", (100,))


# TCP, UDP, TLS streams


async def ask_tcp(port: int, **more: object) -> str | None:
    """Which backend is at the other end of a TCP or TLS connection; `None`: nobody."""
    try:
        async with await LineConnection.open(Endpoint(port=port, **more)) as connection:  # type: ignore[arg-type]  # handed on
            if await connection.read_line() is None:
                return None
            described = await connection.ask("TEST")
    except ConnectionFailed:
        return None
    return str(msgspec.json.decode(described, type=dict[str, object])["pod"]) if described else None


async def test_tcproute_by_weight(world: World) -> None:
    made = [await world.backends.start(name, Kind.TCP) for name in ("tcp-a", "tcp-b")]
    port = world.ports.take()
    world.declare(
        "tcp",
        gateway_with("tcp", [f"name: tcp, port: {port}, protocol: TCP"]),
        stream_route("TCPRoute", "tcp", "tcp", [("tcp-a", 3), ("tcp-b", 1)]),
        *(service(each.name, [each.port]) for each in made),
    )

    async def both() -> bool:
        return {await ask_tcp(port) for _ in range(8)} == {"tcp-a", "tcp-b"}

    await world.until(both, "served")
    counts = Counter([await ask_tcp(port) for _ in range(120)])
    assert counts.total() == counts["tcp-a"] + counts["tcp-b"]
    assert 65 < counts["tcp-a"] < 110


async def ask_datagram(port: int, payload: bytes = b"hi") -> str | None:
    """Who answers a datagram from a new local port; `None`: nobody within a moment."""
    try:
        async with asyncio.timeout(2):
            answer = await ask_udp(payload, port=port)
    except (TimeoutError, ConnectionFailed):
        return None
    return msgspec.json.decode(answer, type=dict[str, str])["pod"]


async def test_udproute_by_weight(world: World) -> None:
    made = [await world.backends.start(name, Kind.UDP) for name in ("udp-a", "udp-b")]
    port = world.ports.take()
    world.declare(
        "udp",
        gateway_with("udp", [f"name: udp, port: {port}, protocol: UDP"]),
        stream_route("UDPRoute", "udp", "udp", [("udp-a", 3), ("udp-b", 1)]),
        *(service(each.name, [each.port], transport="UDP") for each in made),
    )

    async def both() -> bool:
        return {await ask_datagram(port) for _ in range(8)} == {"udp-a", "udp-b"}

    await world.until(both, "served")
    counts = Counter([await ask_datagram(port) for _ in range(120)])
    assert counts[None] == 0
    assert 65 < counts["udp-a"] < 110
    # One backend alone, after a live change.
    world.declare(
        "udp",
        gateway_with("udp", [f"name: udp, port: {port}, protocol: UDP"]),
        stream_route("UDPRoute", "udp", "udp", [("udp-b", 1)]),
        *(service(each.name, [each.port], transport="UDP") for each in made),
    )

    async def only() -> bool:
        return {await ask_datagram(port) for _ in range(8)} == {"udp-b"}

    await world.until(only, "switched")


async def test_tlsroute_passthrough_and_terminate(world: World) -> None:
    authority = Authority()
    inner = await world.backends.start("pass", Kind.TCP, tls=authority.issue("pass.test"))
    plain = await world.backends.start("term", Kind.TCP)
    port = world.ports.take()
    pair = authority.issue("term.test")
    world.declare(
        "tls",
        gateway_with(
            "tls",
            [
                f"name: pass, port: {port}, protocol: TLS, hostname: pass.test, tls: {{mode: Passthrough}}",
                f"name: term, port: {port}, protocol: TLS, hostname: term.test,"
                " tls: {mode: Terminate, certificateRefs: [{name: term}]}",
            ],
        ),
        stream_route("TLSRoute", "pass", "tls", [("pass", 1)], section="pass", hosts=["pass.test"]),
        stream_route("TLSRoute", "term", "tls", [("term", 1)], section="term", hosts=["term.test"]),
        service("pass", [inner.port]),
        service("term", [plain.port]),
        secret("term", pair.certificate, pair.key),
    )
    for name in ("pass", "term"):
        context = client_context(authority.certificate)

        async def reached(name: str = name, context: ssl.SSLContext = context) -> bool:
            return await ask_tcp(port, tls=context, server_name=f"{name}.test") == name

        await world.until(reached, f"{name} served")
    assert await ask_tcp(port, tls=accept_any(), server_name="other.test") is None


async def test_ssl_passthrough_by_ingress(world: World) -> None:
    authority = Authority()
    made = await world.backends.start("through", tls=authority.issue("through.test"))
    world.declare(
        "through",
        service("through", [made.port]),
        ingress("through", "through.test", [("/", "through")], annotations={"ssl-passthrough": "true"}),
    )
    answer = await world.answered(
        lambda: world.running.get("https://through.test/", tls=client_context(authority.certificate))
    )
    tls = answer.echoed().tls
    assert tls is not None
    assert tls.server_name == "through.test"


# HTTP/3, IPv6


async def test_http3_is_offered(world: World) -> None:
    await serve(world, "quic", ssl_redirect="false")
    port = world.running.https_port
    assert (await world.running.get("https://quic.test/")).header("alt-svc") == f'h3=":{port}"; ma=86400'
    assert (await world.running.get("http://quic.test/")).header("alt-svc") is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, pytest.raises(OSError, match="in use"):
        probe.bind(("127.0.0.1", port))


async def test_ipv6_listeners_and_endpoints(world: World) -> None:
    made = await world.backends.start_spec(BackendSpec(name="six", host="::1"))
    world.declare(
        "six",
        service("six", []),
        endpoint_slice("six", [made.port], address="::1"),
        ingress("six", "six.test", [("/", "six")]),
    )
    await world.served("http://six.test/", by="six")
    for http2 in (False, True):
        answer = await world.running.get("http://six.test/", address="::1", http2=http2)
        assert (answer.pod, answer.echoed().header("x-forwarded-for")) == ("six", "::1")


# PROXY protocol


V1 = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n"
V2 = (  # PROXY protocol 2.2, §2.2: signature, version and command, TCP over IPv4, length, addresses and ports
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes((203, 0, 113, 9, 127, 0, 0, 1)) + b"\x12\x67\0\x50"
)


async def test_proxy_protocol_from_clients(world: World, tmp_path: Path) -> None:
    made = await world.backends.start("behind")
    files = {
        "all.yaml": "---\n".join([CLASS, service("behind", [made.port]), ingress("b", "b.test", [("/", "behind")])])
    }
    async with portway(tmp_path, files, "--proxy-protocol") as running:
        for header in (V1, V2):
            for scheme in ("http", "https"):
                answer = await running.get(f"{scheme}://b.test/", proxy_header=header)
                assert (answer.pod, answer.echoed().header("x-forwarded-for")) == ("behind", "203.0.113.9")
        assert (await running.get("http://b.test/", seconds=2)).status == 0, "a connection without a header"


@asynccontextmanager
async def first_bytes() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A port that keeps what each connection begins with, and answers 200."""
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b" HTTP/1.1\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], seen


@pytest.mark.parametrize("version", ["V1", "V2"])
async def test_proxy_protocol_to_upstreams(world: World, version: str) -> None:
    name = f"out-{version.lower()}"
    async with first_bytes() as (port, seen):
        world.declare(
            name,
            service(name, [port]),
            ingress(name, f"{name}.test", [("/", name)]),
            upstream_policy(name, f"proxyProtocol: {version}"),
        )
        await world.answered(lambda: world.running.get(f"http://{name}.test/"))
    expected = b"PROXY TCP4 127.0.0.1 127.0.0.1 " if version == "V1" else V2[:13] + b"\x11"
    assert seen[0].startswith(expected), seen[0]


# Backends that are no endpoints of Services


async def test_backend_by_unix_socket(world: World, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nunix")
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(handle, path):
        world.declare(
            "unix", backend("unix", f"unixSocket: {{path: {path}}}"), resource_ingress("unix", "unix.test", "unix")
        )
        answer: Answer = await world.answered(lambda: world.running.get("http://unix.test/"))
    assert answer.body == b"unix"


async def test_backend_and_externalname_by_dns(world: World) -> None:
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        pytest.skip(f"{name}, the name of this machine, does not resolve")
    made = await world.backends.start_spec(BackendSpec(name="dns", host=address))
    external = f"""\
apiVersion: v1
kind: Service
metadata: {{name: external, namespace: shop}}
spec: {{type: ExternalName, externalName: {name}, ports: [{{port: 80, targetPort: {made.port}}}]}}
"""
    world.declare(
        "dns",
        backend("dns", f"dns: {{name: {name}, port: {made.port}, family: IPv4}}"),
        resource_ingress("dns", "dns.test", "dns"),
        external,
        ingress("external", "external.test", [("/", "external")]),
    )
    await world.served("http://dns.test/", by="dns")
    await world.served("http://external.test/", by="dns")


async def test_many_requests_share_one_http2_connection(world: World) -> None:
    await serve(world, "multi")
    async with await Http2Connection.open(Endpoint(port=world.running.http_port)) as connection:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(connection.request("/?delay=50ms", host="multi.test")) for _ in range(100)]
        assert {(task.result().status, task.result().pod) for task in tasks} == {(200, "multi")}
