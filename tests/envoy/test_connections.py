"""Protocols through a real Envoy: TLS both ways, streams, datagrams, HTTP/2, gRPC, WebSocket, PROXY headers."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

import grpc
import msgspec
import pytest

from portway.model.listener import (
    Chain,
    ClientValidation,
    DownstreamTls,
    HttpHandler,
    Listener,
    TcpHandler,
    UdpHandler,
)
from portway.model.names import SocketKey, Transport, UpstreamKey
from portway.model.route import WeightedUpstream
from portway.model.upstream import Endpoints, Protocol, Upstream, UpstreamTls
from tests.envoy.world import (
    SOURCE,
    TABLE,
    World,
    at,
    authorities,
    authorities_key,
    certificate,
    certificate_key,
    host,
    hosts,
    http_listener,
    route,
    serving,
    to,
    upstream_key,
)
from tests.kit.answer import ConnectionFailed, Failure
from tests.kit.backends import Backend, Backends, Kind
from tests.kit.certificates import Authority, client_context
from tests.kit.client import fetch
from tests.kit.connect import Endpoint
from tests.kit.ports import free_port
from tests.kit.stream_client import LineConnection, ask_udp, websocket, websocket_pod

pytestmark = pytest.mark.e2e

AUTHORITY = Authority()
STRANGER = Authority("somebody else")


def upstream(
    name: str, endpoints: Iterable[Backend], **fields: object
) -> dict[UpstreamKey, tuple[Upstream, Endpoints]]:
    plain = Upstream(name=f"shop/{name}:80")
    return {upstream_key(name): (msgspec.structs.replace(plain, **fields), at(*endpoints))}


def tls_chain(name: str, *names: str, tls: DownstreamTls | None = None) -> Chain:
    return Chain(
        name=name,
        server_names=names,
        tls=tls or DownstreamTls(certificates=(certificate_key(name),)),
        handler=HttpHandler(table=TABLE),
        source=SOURCE,
    )


def listener(port: int, *chains: Chain, transport: Transport = Transport.TCP) -> Listener:
    return Listener(key=SocketKey("host", "127.0.0.1", port, transport), chains=chains)


async def test_tls_is_ended_by_server_name() -> None:
    port = free_port()
    chains = (
        tls_chain("exact", "shop.example"),
        tls_chain("wild", "*.wild.example"),
        tls_chain("default"),
    )
    secrets = {
        certificate_key("exact"): certificate(AUTHORITY.issue("shop.example")),
        certificate_key("wild"): certificate(AUTHORITY.issue("*.wild.example")),
        certificate_key("default"): certificate(AUTHORITY.issue("default.test")),
    }
    given = [host(name, route("/", to("a"))) for name in ("shop.example", "x.wild.example", "default.test")]
    trusting = client_context(AUTHORITY.certificate, alpn=("http/1.1",))
    async with hosts(*given, world=World(listeners=(listener(port, *chains),), secrets=secrets)) as proxy:
        for name in ("shop.example", "x.wild.example", "default.test"):
            answer = await fetch(f"https://{name}/", port=port, tls=trusting)
            assert (answer.status, answer.pod) == (200, "a"), name
            assert answer.echoed().header("x-forwarded-proto") == "https"
        assert (await fetch("https://shop.example/", port=port, http2=True)).pod == "a"
        # Plain HTTP on a TLS port has no chain.
        assert (await fetch("http://shop.example/", port=port)).failure is not None
        assert (await proxy.get("shop.example")).pod == "a"


async def test_client_certificates() -> None:
    strict, lax = free_port(), free_port()
    validated = DownstreamTls(
        certificates=(certificate_key("server"),), client_authorities=authorities_key("clients"), alpn=("http/1.1",)
    )
    optional = msgspec.structs.replace(validated, client_validation=ClientValidation.OPTIONAL_UNVERIFIED)
    world = World(
        listeners=(
            listener(strict, tls_chain("server", tls=validated)),
            listener(lax, tls_chain("server", tls=optional)),
        ),
        secrets={
            certificate_key("server"): certificate(AUTHORITY.issue("shop.example")),
            authorities_key("clients"): authorities(AUTHORITY.certificate),
        },
    )
    known = client_context(None, pair=AUTHORITY.issue("client"))
    unknown = client_context(None, pair=STRANGER.issue("client"))
    nobody = client_context(None)
    async with hosts(host("shop.example", route("/", to("a"))), world=world):
        url = "https://shop.example/"
        assert (await fetch(url, port=strict, tls=known)).status == 200
        # With TLS 1.3 the client learns of the refusal after its own handshake.
        for context in (unknown, nobody):
            assert (await fetch(url, port=strict, tls=context)).failure is not None
        for context in (known, unknown, nobody):
            assert (await fetch(url, port=lax, tls=context)).status == 200


async def test_tls_to_upstreams() -> None:
    async with Backends() as more:
        pair = AUTHORITY.issue("inner.example")
        one = await more.start("one", tls=pair, client_authority=AUTHORITY.certificate)
        two = await more.start("two", Kind.HTTP2, tls=pair)
        verified = UpstreamTls(
            sni="inner.example",
            authorities=authorities_key("upstreams"),
            names=(("DNS", "inner.example"),),
            certificate=certificate_key("client"),
        )
        wrong = msgspec.structs.replace(verified, names=(("DNS", "other.example"),))
        strange = msgspec.structs.replace(verified, authorities=authorities_key("strangers"))
        by_host = UpstreamTls(auto_sni=True, authorities=authorities_key("upstreams"))
        world = World(
            upstreams={
                **upstream("verified", [one], tls=verified),
                **upstream("h2", [two], tls=verified, protocol=Protocol.HTTP2),
                **upstream("either", [two], tls=verified, protocol=Protocol.AS_DOWNSTREAM),
                **upstream("unverified", [one], tls=UpstreamTls()),
                **upstream("wrong", [one], tls=wrong),
                **upstream("strange", [one], tls=strange),
                **upstream("by-host", [one], tls=by_host),
            },
            secrets={
                authorities_key("upstreams"): authorities(AUTHORITY.certificate),
                authorities_key("strangers"): authorities(STRANGER.certificate),
                certificate_key("client"): certificate(AUTHORITY.issue("client")),
            },
        )
        names = ("verified", "h2", "either", "unverified", "wrong", "strange")
        given = [host(f"{name}.test", route("/", to(name))) for name in names]
        by_name = [host(name, route("/", to("by-host"))) for name in ("inner.example", "outer.example")]
        async with hosts(*given, *by_name, world=world) as proxy:
            facts = (await proxy.get("verified.test")).echoed().tls
            assert facts is not None
            assert (facts.server_name, len(facts.peer_certificates)) == ("inner.example", 1)
            facts = (await proxy.get("h2.test")).echoed().tls
            assert facts is not None
            assert facts.negotiated_protocol == "h2"
            assert (await fetch("http://either.test/", port=proxy.port, http2=True)).pod == "two"
            assert (await proxy.get("unverified.test")).pod == "one"
            for name in ("wrong.test", "strange.test"):
                assert (await proxy.get(name)).status == 503, name
            assert (await proxy.get("inner.example")).pod == "one"
            assert (await proxy.get("outer.example")).status == 503


async def test_http2_grpc_and_websocket() -> None:
    async with Backends() as more:
        h2c, rpc = await more.start("h2c", Kind.HTTP2), await more.start("rpc", Kind.GRPC)
        world = World(
            upstreams={
                **upstream("h2c", [h2c], protocol=Protocol.HTTP2),
                **upstream("rpc", [rpc], protocol=Protocol.HTTP2),
            }
        )
        async with hosts(
            host("h2c.test", route("/", to("h2c"))),
            host("rpc.test", route("/", to("rpc"), grpc_web=True)),
            host("ws.test", route("/", to("a"))),
            world=world,
        ) as proxy:
            assert (await fetch("http://h2c.test/", port=proxy.port, http2=True)).echoed().proto == "HTTP/2.0"
            assert (await proxy.get("h2c.test")).echoed().proto == "HTTP/2.0"
            async with websocket(f"ws://ws.test:{proxy.port}/ws") as socket:
                await socket.send("hello")
                assert (await socket.recv(), websocket_pod(socket)) == ("hello", "a")
            options = [("grpc.default_authority", "rpc.test")]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{proxy.port}", options=options) as channel:
                assert b"rpc" in await call(channel, "/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/Echo")
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call(channel, "/a.B/C")
                assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
            web = [("content-type", "application/grpc-web"), ("x-grpc-web", "1")]
            url = "http://rpc.test/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/Echo"
            answer = await fetch(url, port=proxy.port, method="POST", headers=web, body=b"\0\0\0\0\0")
            assert (answer.status, answer.header("content-type")) == (200, "application/grpc-web+proto")
            assert b"grpc-status:0" in answer.body.replace(b" ", b"")


async def call(channel: "grpc.aio.Channel", method: str) -> bytes:
    """A gRPC call with an empty message."""
    ask = channel.unary_unary(method, lambda message: message, lambda message: message)
    answer: bytes = await ask(b"")
    return answer


async def test_streams_and_passthrough() -> None:
    plain, weighted, secure, closed = (free_port() for _ in range(4))
    async with Backends() as more:
        x, y = await more.start("x", Kind.TCP), await more.start("y", Kind.TCP)
        z = await more.start("z", Kind.TCP, tls=AUTHORITY.issue("z.example"))
        world = World(
            upstreams={
                name: found
                for one in (x, y, z)
                for name, found in upstream(one.name, [one], protocol=Protocol.TCP).items()
            },
            secrets={certificate_key("w"): certificate(AUTHORITY.issue("w.example"))},
            listeners=(
                listener(plain, stream("tcp", "x")),
                listener(weighted, stream("tcp", "x", "y", "")),
                listener(
                    secure,
                    msgspec.structs.replace(stream("z", "z"), server_names=("z.example",), passthrough=True),
                    msgspec.structs.replace(stream("gone", ""), server_names=("gone.example",), passthrough=True),
                    msgspec.structs.replace(
                        stream("w", "x"),
                        server_names=("w.example",),
                        tls=DownstreamTls(certificates=(certificate_key("w"),), alpn=()),
                    ),
                ),
                listener(closed, stream("tcp")),
            ),
        )
        async with serving(world):
            assert await who(plain) == "x"
            found = Counter([await who(weighted) for _ in range(60)])
            assert set(found) == {"x", "y", None}
            assert await who(secure, "z.example") == "z"
            assert await who(secure, "w.example") == "x"
            for name in ("gone.example", "unknown.example"):
                assert await who(secure, name) is None, name
            assert await who(closed) is None


def stream(name: str, *upstreams: str) -> Chain:
    shares = tuple(WeightedUpstream(upstream=upstream_key(one) if one else None) for one in upstreams)
    return Chain(name=name, handler=TcpHandler(upstreams=shares), source=SOURCE)


class Line(msgspec.Struct):
    """As far as we read what a TCP backend says of itself."""

    pod: str


async def who(port: int, name: str = "") -> str | None:
    """Which TCP backend answers; `None`: the connection is closed."""
    tls = client_context(AUTHORITY.certificate) if name else None
    try:
        async with await LineConnection.open(Endpoint(port=port, tls=tls, server_name=name)) as connection:
            if await connection.read_line() is None:
                return None
            answer = await connection.ask("TEST")
            return msgspec.json.decode(answer, type=Line).pod if answer else None
    except ConnectionFailed:
        return None


async def test_datagrams() -> None:
    single, weighted, nobody = (free_port() for _ in range(3))

    def udp(port: int, *shares: tuple[str, int]) -> Listener:
        upstreams = tuple(
            WeightedUpstream(upstream=upstream_key(name) if name else None, weight=weight) for name, weight in shares
        )
        key = SocketKey("host", "127.0.0.1", port, Transport.UDP)
        return Listener(key=key, udp=UdpHandler(upstreams=upstreams))

    async with Backends() as more:
        x, y = await more.start("x", Kind.UDP), await more.start("y", Kind.UDP)
        world = World(
            upstreams={**upstream("x", [x], protocol=Protocol.UDP), **upstream("y", [y], protocol=Protocol.UDP)},
            listeners=(
                udp(single, ("x", 1)),
                udp(weighted, ("x", 9), ("y", 1), ("", 2)),
                udp(nobody, ("", 1)),
            ),
        )

        async def pod(port: int) -> str | None:
            try:
                async with asyncio.timeout(3):
                    answer = msgspec.json.decode(await ask_udp(b"hi", port=port), type=dict[str, str])
            except TimeoutError:
                return None
            return answer["pod"]

        async with serving(world):
            assert await pod(single) == "x"
            found = Counter(await asyncio.gather(*(pod(weighted) for _ in range(120))))
            assert 70 <= found["x"] <= 105
            assert 2 <= found["y"] <= 20
            assert 8 <= found[None] <= 35
            assert await pod(nobody) is None


async def test_proxy_headers_in_and_out() -> None:
    port = free_port()
    guarded = msgspec.structs.replace(http_listener(port), proxy_protocol=True)
    async with hosts(host("p.test", route("/", to("a"))), world=World(listeners=(guarded,))):
        header = b"PROXY TCP4 203.0.113.7 127.0.0.1 40000 80\r\n"
        answer = await fetch("http://p.test/", port=port, proxy_header=header)
        assert answer.echoed().header("x-forwarded-for") == "203.0.113.7"
        assert (await fetch("http://p.test/", port=port)).failure in (Failure.CLOSED, Failure.RESET)
    seen = asyncio.Queue[bytes]()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await seen.put(await reader.read(16))
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1")
    async with server:
        backend = Backend(name="raw", kind=Kind.TCP, host="127.0.0.1", port=server.sockets[0].getsockname()[1])
        world = World(
            upstreams={**upstream("v1", [backend], proxy_protocol=1), **upstream("v2", [backend], proxy_protocol=2)}
        )
        async with hosts(*(host(f"{name}.test", route("/", to(name))) for name in ("v1", "v2")), world=world) as proxy:
            await proxy.get("v1.test")
            assert (await seen.get()).startswith(b"PROXY TCP4 ")
            while not seen.empty():
                seen.get_nowait()
            await proxy.get("v2.test")
            assert (await seen.get()).startswith(b"\r\n\r\n\0\r\nQUIT\n")


async def test_a_listener_may_be_less_patient_with_its_streams() -> None:
    port = free_port()
    patient = http_listener(port)
    handler = HttpHandler(table=TABLE, idle_timeout=timedelta(milliseconds=100))
    chain = msgspec.structs.replace(patient.chains[0], handler=handler)
    world = World(listeners=(msgspec.structs.replace(patient, chains=(chain,)),))
    async with hosts(host("p.test", route("/", to("a"))), world=world) as proxy:
        assert (await fetch("http://p.test/?delay=2s", port=port)).status == 504
        assert (await proxy.get("p.test", "/?delay=200ms")).status == 200
