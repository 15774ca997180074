"""The kit's clients against the kit's backends: each is the other's test."""

import asyncio
import gc

import msgspec
import pytest
import websockets

from tests.kit.answer import Failure
from tests.kit.backends import Backends, BackendSpec, Kind, backend_process
from tests.kit.certificates import Authority, client_context
from tests.kit.client import fetch
from tests.kit.connect import Endpoint
from tests.kit.http1_client import Http1Connection
from tests.kit.http2_client import Http2Connection
from tests.kit.load import Load, LoadProcess, LoadProtocol, LoadSpec
from tests.kit.ports import Ports
from tests.kit.relay import carry
from tests.kit.stream_client import LineConnection, ask_udp, websocket, websocket_pod

BOTH = pytest.mark.parametrize("kind", [Kind.HTTP1, Kind.HTTP2])


@BOTH
async def test_echo_tells_the_request(kind: Kind) -> None:
    async with Backends() as backends:
        backend = await backends.start("a", kind)
        url = f"http://shop.example:{backend.port}//x/%41?q=%20"
        answer = await fetch(url, headers=[("X-One", "1"), ("x-echo-set-header", "A:b,A:c")], http2=kind is Kind.HTTP2)
        echoed = answer.echoed()
        assert (answer.status, answer.pod, answer.header("a")) == (200, "a", "b,c")
        assert (echoed.path, echoed.pod, echoed.header("x-one")) == ("//x/%41?q=%20", "a", "1")
        assert echoed.host == f"shop.example:{backend.port}"
        assert [request.target for request in backend.seen] == ["//x/%41?q=%20"]


@BOTH
async def test_paths_with_answers_of_their_own(kind: Kind) -> None:
    async with Backends() as backends:
        backend = await backends.start("a", kind)
        base, http2 = f"http://a:{backend.port}", kind is Kind.HTTP2
        assert (await fetch(f"{base}/status/503", http2=http2)).status == 503
        assert (await fetch(f"{base}/status/9", http2=http2)).status == 400
        assert len((await fetch(f"{base}/bytes/200000", http2=http2)).body) == 200_000
        big = b"y" * 200_000
        assert (await fetch(f"{base}/body", method="POST", body=big, http2=http2)).body == big
        assert (await fetch(f"{base}/slow?chunks=5&interval=1ms", http2=http2)).body == b"xxxxx"
        truncated = await fetch(f"{base}/truncated", http2=http2)
        assert (truncated.status, truncated.failure) == (200, Failure.RESET if http2 else Failure.TRUNCATED) or (
            truncated.failure is Failure.RESET
        )
        retry = f"{base}/retry/x?uuid=1&succeedAfter=1"
        assert (await fetch(retry, http2=http2)).failure is Failure.RESET
        assert (await fetch(retry, http2=http2)).status == 200
        late = await fetch(f"{base}/?delay=5s", http2=http2, seconds=0.05)
        assert late.failure is Failure.TIMEOUT


@BOTH
async def test_tls_with_a_server_name_and_a_client_certificate(kind: Kind) -> None:
    authority = Authority()
    async with Backends() as backends:
        backend = await backends.start(
            "a", kind, tls=authority.issue("shop.example"), client_authority=authority.certificate
        )
        alpn = "h2" if kind is Kind.HTTP2 else "http/1.1"
        tls = client_context(authority.certificate, alpn=(alpn,), pair=authority.issue("client"))
        answer = await fetch(f"https://shop.example:{backend.port}/", tls=tls, http2=kind is Kind.HTTP2)
        facts = answer.echoed().tls
        assert facts is not None
        assert (facts.server_name, facts.negotiated_protocol) == ("shop.example", alpn)
        assert len(facts.peer_certificates) == 1
        other = await fetch(f"https://other.example:{backend.port}/", tls=tls, http2=kind is Kind.HTTP2)
        assert other.failure is Failure.TLS


async def test_http2_requests_share_a_connection() -> None:
    async with Backends() as backends:
        backend = await backends.start("a", Kind.HTTP2)
        async with await Http2Connection.open(Endpoint(port=backend.port)) as connection:
            answers = await asyncio.gather(*(connection.request(f"/{i}", host="a") for i in range(50)))
            assert {answer.echoed().path for answer in answers} == {f"/{i}" for i in range(50)}


async def test_ports_that_misbehave() -> None:
    async with Backends() as backends:
        refused = await backends.start("refused", Kind.REFUSED)
        reset = await backends.start("reset", Kind.RESET)
        hang = await backends.start("hang", Kind.HANG)
        assert (await fetch(f"http://a:{refused.port}/")).failure is Failure.REFUSED
        assert (await fetch(f"http://a:{reset.port}/")).failure is Failure.RESET
        assert (await fetch(f"http://a:{hang.port}/", seconds=0.05)).failure is Failure.TIMEOUT


async def test_lines_datagrams_and_websockets() -> None:
    authority = Authority()
    async with Backends() as backends:
        lines = await backends.start("lines", Kind.TCP, tls=authority.issue("tcp.example"))
        datagrams = await backends.start("datagrams", Kind.UDP)
        http = await backends.start("http")
        endpoint = Endpoint(port=lines.port, tls=client_context(authority.certificate), server_name="tcp.example")
        async with await LineConnection.open(endpoint) as connection:
            assert await connection.read_line() == "Gateway API Test TCP Server"
            assert await connection.ask("PING") == "PONG"
            assert '"serverName": "tcp.example"' in (await connection.ask("TEST") or "")
        assert msgspec.json.decode(await ask_udp(b"hi", port=datagrams.port), type=dict[str, str])["request"] == "hi"
        async with websocket(f"ws://a:{http.port}/ws") as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
            assert websocket_pod(socket) == "http"
            await backends.stop("http")
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                await socket.recv()


async def test_connection_close_is_seen() -> None:
    async with Backends() as backends:
        backend = await backends.start("a")
        async with await Http1Connection.open(Endpoint(port=backend.port)) as connection:
            assert (await connection.request("/", host="a")).status == 200
            assert connection.usable
            assert (await connection.request("/", host="a", headers=[("connection", "close")])).status == 200
            assert not connection.usable


@pytest.mark.parametrize("protocol", LoadProtocol)
async def test_load_records_every_answer(protocol: LoadProtocol) -> None:
    kind = Kind.HTTP2 if protocol is LoadProtocol.HTTP2 else Kind.HTTP1
    async with Backends() as backends:
        backend = await backends.start("a", kind)
        path = "/ws" if protocol is LoadProtocol.WEBSOCKET else "/"
        async with Load(f"http://a:{backend.port}{path}", rate=500, protocol=protocol, connections=4) as load:
            await load.answered(40)
            assert not load.report().failures(), load.report().summary()
            await backends.stop("a")
            await load.answered(10)
        report = load.report()
        status = 101 if protocol is LoadProtocol.WEBSOCKET else 200
        assert report.answers()[(status, "a")] >= 40, report.summary()
        assert report.failures().total() >= 8, report.summary()
        assert report.wrong({"b"}, status=status)


async def test_load_and_backends_in_processes_of_their_own() -> None:
    async with backend_process(BackendSpec(name="a"), BackendSpec(name="b", kind=Kind.TCP)) as backends:
        url = f"http://a:{backends['a'].port}/"
        async with LoadProcess(LoadSpec(url=url, rate=200, connections=2)) as load:
            await fetch(url)
        assert not load.report().wrong({"a"}), load.report().summary()
        assert load.report().samples


def test_ports_are_given_out_once() -> None:
    with Ports() as first, Ports() as second:
        taken = [first.take() for _ in range(20)] + [second.take() for _ in range(20)]
        assert len(set(taken)) == 40


async def test_a_relay_ends_with_its_client_whatever_the_other_side_does() -> None:
    class Silent(asyncio.Protocol):
        """Goes on when its peer has ended."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def eof_received(self) -> bool:
            return True

    silent = Silent()
    behind = await asyncio.get_running_loop().create_server(lambda: silent, "127.0.0.1")
    port = behind.sockets[0].getsockname()[1]
    ended = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await carry(reader, writer, "127.0.0.1", port)
        ended.set()

    async with behind, await asyncio.start_server(accept, "127.0.0.1") as front:
        _, writer = await asyncio.open_connection("127.0.0.1", front.sockets[0].getsockname()[1])
        writer.write(b"hello")
        await asyncio.sleep(0.1)
        writer.close()
        await asyncio.sleep(0.1)
        gc.collect()
        await ended.wait()
        silent.transport.close()
