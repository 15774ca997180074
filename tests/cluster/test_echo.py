"""The echo program answers as the conformance suite's backends must: every mode, asked by clients that are not Go's."""

import asyncio
import json
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from tests.cluster.programs import echo_program
from tests.kit.answer import Answer, ConnectionFailed, Failure
from tests.kit.certificates import Authority, client_context
from tests.kit.client import fetch
from tests.kit.connect import Endpoint
from tests.kit.grpc_backend import SERVICE, decode_fields
from tests.kit.http1_client import Http1Connection
from tests.kit.ports import Ports
from tests.kit.stream_client import LineConnection, ask_udp, websocket

# The first of all to ask may have to build it.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

IDENTITY = {"NAMESPACE": "shop", "INGRESS_NAME": "edge", "SERVICE_NAME": "cart", "POD_NAME": "cart-1-a"}
ANSWERED_IDENTITY = {"namespace": "shop", "ingress": "edge", "service": "cart", "pod": "cart-1-a"}
AUTHORITY = Authority()


class Echo:
    """A running echo program."""

    def __init__(self, process: asyncio.subprocess.Process, ports: dict[str, int]) -> None:
        self.process = process
        self.ports = ports

    def url(self, path: str, *, port: str = "HTTP_PORT", scheme: str = "http", host: str = "shop.example") -> str:
        return f"{scheme}://{host}:{self.ports[port]}{path}"

    async def log_line(self) -> str:
        """The next line of its log."""
        assert self.process.stdout is not None
        async with asyncio.timeout(10):
            return (await self.process.stdout.readline()).decode().rstrip()


@asynccontextmanager
async def running_echo(*ports: str, **environment: str) -> AsyncIterator[Echo]:
    """The program, listening on a free port for each of these variables."""
    with Ports() as free:
        numbers = {name: free.take() for name in ports}
        process = await asyncio.create_subprocess_exec(
            echo_program(),
            env=IDENTITY | {name: str(number) for name, number in numbers.items()} | environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        echo = Echo(process, numbers)
        try:
            for _ in ports:
                assert "Listening on" in (line := await echo.log_line()), line
            yield echo
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def http_echo(**environment: str) -> AsyncIterator[Echo]:
    async with running_echo("HTTP_PORT", "H2C_PORT", **environment) as echo:
        yield echo


def certificate_files(folder: Path, key_variable: str) -> dict[str, str]:
    pair = AUTHORITY.issue("abc.example")
    (folder / "crt").write_text(pair.certificate)
    (folder / "key").write_text(pair.key)
    return {"TLS_SERVER_CERT": str(folder / "crt"), key_variable: str(folder / "key")}


def body(answer: Answer) -> dict[str, object]:
    assert answer.failure is None
    decoded: dict[str, object] = json.loads(answer.body)
    return decoded


async def test_an_echo_tells_the_request_and_who_answers() -> None:
    async with http_echo() as echo:
        target = "/v2//a/../%41?q=%20&delay=1ms"
        answer = await fetch(
            echo.url(target), method="POST", headers=[("x-one", "1"), ("X-One", "2")], body=b"not looked at"
        )
        assert answer.status == 200
        assert answer.header_values("content-type") == ("application/json",)
        assert answer.header("x-content-type-options") == "nosniff"
        headers = {"X-One": ["1", "2"], "Content-Length": ["13"]}
        assert body(answer) == ANSWERED_IDENTITY | {
            "path": target,
            "host": f"shop.example:{echo.ports['HTTP_PORT']}",
            "method": "POST",
            "proto": "HTTP/1.1",
            "headers": headers,
            "httpPort": str(echo.ports["HTTP_PORT"]),
        }


async def test_an_echo_is_logged_before_it_is_answered() -> None:
    async with http_echo() as echo:
        await fetch(echo.url("/mirror?id=7"))
        assert (await echo.log_line()).startswith("Echoing back request made to /mirror?id=7 to client (127.0.0.1:")


PATHS = {
    "/health": (200, "OK"),
    "//health": (200, "OK"),  # doubled slashes count once for choosing the answer
    "/status/418": (418, ""),
    "/status/503?x=y": (503, ""),
    "/status/42": (400, None),
    "/status/1000": (400, None),
    "/status/": (400, None),
    "/retry/": (400, None),
    "/retry/x?uuid=1": (400, None),
    "/retry/x?succeedAfter=1": (400, None),
    "/retry/x?uuid=1&succeedAfter=one": (400, None),
    "/retry/x?uuid=1&succeedAfter=1&responseCode=7": (400, None),
    "/?delay=soon": (400, None),
}


async def test_paths_with_answers_of_their_own() -> None:
    async with http_echo() as echo:
        for path, (status, text) in PATHS.items():
            answer = await fetch(echo.url(path))
            assert answer.status == status, path
            assert text is None or answer.text == text, path


@pytest.mark.parametrize(
    "path", ["/", "/a//b", "/a/", "/healthy", "/statuses", "/retry", "/retry-on-x", "/ws/x", "/../x"]
)
async def test_all_other_paths_are_echoed_as_they_came(path: str) -> None:
    async with http_echo() as echo:
        answer = await fetch(echo.url(path))
        assert answer.status == 200
        assert answer.echoed().path == path


ASKED_HEADERS = {
    "X-One:1": {("X-One", "1")},
    "x-one:1, X-Two: a:b ": {("x-one", "1"), ("X-Two", "a:b")},
    "x-one:1,x-two:2,x-one:3": {("x-one", "1,3"), ("x-two", "2")},
    "": set(),
    "x-empty:": {("x-empty", "")},
    ":nameless": set(),
}


@pytest.mark.parametrize("asked", ASKED_HEADERS)
async def test_response_headers_are_set_as_asked(asked: str) -> None:
    async with http_echo() as echo:
        answer = await fetch(echo.url("/"), headers=[("X-Echo-Set-Header", asked)])
        own = {"content-type", "x-content-type-options", "content-length", "date"}
        assert {pair for pair in answer.headers if pair[0].lower() not in own} == ASKED_HEADERS[asked]


async def test_a_delay_holds_only_its_own_request() -> None:
    async with http_echo() as echo, asyncio.TaskGroup() as tasks:
        late = tasks.create_task(fetch(echo.url("/?delay=30s"), seconds=1))
        assert (await fetch(echo.url("/"))).status == 200
        assert (await late).failure is Failure.TIMEOUT


async def test_retry_fails_so_many_times_with_a_code() -> None:
    async with http_echo() as echo:
        path = "/retry/code-500?uuid={}&succeedAfter=2&responseCode=503"
        statuses = [(await fetch(echo.url(path.format("a")))).status for _ in range(4)]
        assert statuses == [503, 503, 200, 200]
        assert (await fetch(echo.url(path.format("b")))).status == 503  # counted by uuid
        assert (await fetch(echo.url(path.format("a")))).echoed().path == path.format("a")


async def test_retry_without_a_code_resets_the_connection() -> None:
    async with http_echo() as echo:
        path = "/retry/x?uuid=a&succeedAfter=1"
        assert (await fetch(echo.url(path))).failure is Failure.RESET
        assert (await fetch(echo.url(path))).status == 200
        path = "/retry/x?uuid=b&succeedAfter=1"
        assert (await fetch(echo.url(path, port="H2C_PORT"), http2=True)).failure is Failure.RESET
        assert (await fetch(echo.url(path, port="H2C_PORT"), http2=True)).status == 200


async def test_a_retry_overtakes_the_try_that_was_given_up() -> None:
    async with http_echo() as echo:
        path = "/retry/x?uuid=a&succeedAfter=1&responseCode=500&delayRetry=30s"
        assert (await fetch(echo.url(path), seconds=0.5)).failure is Failure.TIMEOUT
        assert (await fetch(echo.url(path))).status == 200


async def test_websocket_frames_come_back_as_text_and_as_binary() -> None:
    async with http_echo() as echo, websocket(echo.url("/ws", scheme="ws")) as connection:
        for message in ("hello", "grüße", b"\x00\xff", "", "x" * 70_000):
            await connection.send(message)
            async with asyncio.timeout(10):
                assert await connection.recv() == message


async def test_the_h2c_port_wants_prior_knowledge() -> None:
    async with http_echo() as echo:
        answer = await fetch(echo.url("/a//b?c", port="H2C_PORT"), http2=True)
        assert (answer.status, answer.header("content-type")) == (200, "application/json")
        echoed = answer.echoed()
        assert (echoed.proto, echoed.path, echoed.pod) == ("HTTP/2.0", "/a//b?c", "cart-1-a")
        assert (await fetch(echo.url("/", port="H2C_PORT"))).status == 400
        upgrade = [
            ("connection", "upgrade, http2-settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
        ]
        assert (await fetch(echo.url("/", port="H2C_PORT"), headers=upgrade)).status == 400


@asynccontextmanager
async def https_echo(folder: Path, **environment: str) -> AsyncIterator[Echo]:
    files = certificate_files(folder, "TLS_SERVER_PRIVKEY")
    async with running_echo("HTTP_PORT", "H2C_PORT", "HTTPS_PORT", **files, **environment) as echo:
        yield echo


@pytest.mark.parametrize(("alpn", "proto"), [("h2", "HTTP/2.0"), ("http/1.1", "HTTP/1.1")])
async def test_https_tells_what_the_handshake_agreed_on(tmp_path: Path, alpn: str, proto: str) -> None:
    async with https_echo(tmp_path) as echo:
        url = echo.url("/", port="HTTPS_PORT", scheme="https", host="abc.example")
        answer = await fetch(url, tls=client_context(AUTHORITY.certificate, alpn=(alpn,)), http2=alpn == "h2")
        told = body(answer)
        tls = told["tls"]
        assert isinstance(tls, dict)
        assert told["proto"] == proto
        assert told["httpPort"] == str(echo.ports["HTTP_PORT"])
        assert tls.pop("cipherSuite").startswith("TLS_")
        assert tls == {"version": "TLSv1.3", "serverName": "abc.example", "negotiatedProtocol": alpn}


async def test_https_without_alpn_leaves_the_protocol_out(tmp_path: Path) -> None:
    async with https_echo(tmp_path) as echo:
        context = client_context(AUTHORITY.certificate)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        answer = await fetch(echo.url("/", port="HTTPS_PORT", scheme="https", host="abc.example"), tls=context)
        tls = body(answer)["tls"]
        assert isinstance(tls, dict)
        assert tls["version"] == "TLSv1.2"
        assert "negotiatedProtocol" not in tls


async def test_a_client_certificate_is_asked_for_verified_and_told(tmp_path: Path) -> None:
    clients = Authority()
    (tmp_path / "ca").write_text(clients.certificate)
    async with https_echo(tmp_path, TLS_CLIENT_CACERTS=str(tmp_path / "ca")) as echo:
        url = echo.url("/", port="HTTPS_PORT", scheme="https", host="abc.example")
        pair = clients.issue("gateway")
        answer = await fetch(url, tls=client_context(AUTHORITY.certificate, pair=pair))
        tls = answer.echoed().tls
        assert tls is not None
        assert tls.peer_certificates == (pair.certificate,)
        answer = await fetch(url, tls=client_context(AUTHORITY.certificate))
        assert answer.status == 200, "none is fine"
        foreign = await fetch(url, tls=client_context(AUTHORITY.certificate, pair=Authority().issue("gateway")))
        assert foreign.failure is not None


async def test_the_key_is_spelt_as_the_mode_spells_it(tmp_path: Path) -> None:
    files = certificate_files(tmp_path, "TLS_SERVER_PRIV_KEY")  # the spelling of gRPC and TCP
    with Ports() as free:
        number = free.take()
        async with http_echo(**files, HTTPS_PORT=str(number)):
            with pytest.raises(ConnectionFailed, match="refused"):
                await Http1Connection.open(Endpoint(port=number))


async def test_tcp_talks_in_lines() -> None:
    async with (
        running_echo("TCP_PORT", TCP_ECHO_SERVER="true", TLS_PORT="8443") as echo,
        await LineConnection.open(Endpoint(port=echo.ports["TCP_PORT"])) as connection,
    ):
        assert await connection.read_line() == "Gateway API Test TCP Server"
        assert await connection.ask("PING") == "PONG"
        assert await connection.ask("unknown\nIS_TLS") == "false"
        assert json.loads(await connection.ask("TEST") or "") == ANSWERED_IDENTITY | {
            "tcpport": str(echo.ports["TCP_PORT"]),
            "tlsport": "8443",
            "isTLS": False,
        }
        assert await connection.ask("PING") == "PONG", "exactly one line each"


async def test_tcp_over_tls_tells_the_server_name(tmp_path: Path) -> None:
    files = certificate_files(tmp_path, "TLS_SERVER_PRIV_KEY")
    async with running_echo("TCP_PORT", "TLS_PORT", TCP_ECHO_SERVER="true", **files) as echo:
        context = client_context(AUTHORITY.certificate)
        endpoint = Endpoint(port=echo.ports["TLS_PORT"], tls=context, server_name="abc.example")
        async with await LineConnection.open(endpoint) as connection:
            assert await connection.read_line() == "Gateway API Test TCP Server"
            assert await connection.ask("IS_TLS") == "true"
            answer = json.loads(await connection.ask("TEST") or "")
            assert answer["isTLS"] is True
            assert sorted(answer["tls"]) == ["cipherSuite", "curves", "negotiatedProtocol", "serverName", "version"]
            assert (answer["tls"]["serverName"], answer["tls"]["version"]) == ("abc.example", "TLSv1.3")
            assert answer["tls"]["curves"]


async def test_udp_answers_each_datagram() -> None:
    async with running_echo("UDP_PORT", UDP_ECHO_SERVER="true") as echo:
        for payload in ("ping", "line\n", "x" * 900):
            async with asyncio.timeout(10):
                answer = await ask_udp(payload.encode(), port=echo.ports["UDP_PORT"])
            assert json.loads(answer) == ANSWERED_IDENTITY | {"request": payload}


async def ask_grpc(channel: grpc.aio.Channel, method: str) -> list[tuple[int, bytes]]:
    """The fields of the answer's assertions."""
    call = channel.unary_unary(f"/{SERVICE}/{method}", bytes, bytes)
    answer = await call(b"", metadata=(("x-one", "1"), ("x-one", "2")), timeout=10)
    return decode_fields(dict(decode_fields(answer))[1])


@asynccontextmanager
async def grpc_echo(folder: Path) -> AsyncIterator[Echo]:
    files = certificate_files(folder, "TLS_SERVER_PRIV_KEY")
    async with running_echo("HTTP_PORT", "HTTPS_PORT", GRPC_ECHO_SERVER="1", **files) as echo:
        yield echo


async def test_grpc_answers_two_methods_of_three(tmp_path: Path) -> None:
    async with grpc_echo(tmp_path) as echo:
        address = f"127.0.0.1:{echo.ports['HTTP_PORT']}"
        async with grpc.aio.insecure_channel(address, [("grpc.default_authority", "shop.example")]) as channel:
            for method in ("Echo", "EchoTwo"):
                fields = await ask_grpc(channel, method)
                assert dict(fields)[1].decode() == f"/{SERVICE}/{method}"
                headers = [dict(decode_fields(value)) for number, value in fields if number == 2]
                assert [header[2] for header in headers if header[1] == b"x-one"] == [b"1", b"2"]
                assert {1: b":authority", 2: b"shop.example"} in headers
                assert dict(fields)[3] == b"shop.example"
                assert decode_fields(dict(fields)[4]) == [(1, b"shop"), (2, b"edge"), (3, b"cart"), (4, b"cart-1-a")]
                assert 5 not in dict(fields)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask_grpc(channel, "EchoThree")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_grpc_over_tls(tmp_path: Path) -> None:
    async with grpc_echo(tmp_path) as echo:
        credentials = grpc.ssl_channel_credentials(AUTHORITY.certificate.encode())
        name = [("grpc.ssl_target_name_override", "abc.example")]
        async with grpc.aio.secure_channel(f"127.0.0.1:{echo.ports['HTTPS_PORT']}", credentials, name) as channel:
            tls = dict(decode_fields(dict(await ask_grpc(channel, "Echo"))[5]))
            assert (tls[1], tls[2], tls[3]) == (b"TLSv1.3", b"h2", b"abc.example")


async def test_grpc_reflection_lists_the_service(tmp_path: Path) -> None:
    list_services = b"\x3a\x01*"  # ServerReflectionRequest, field 7
    async with (
        grpc_echo(tmp_path) as echo,
        grpc.aio.insecure_channel(f"127.0.0.1:{echo.ports['HTTP_PORT']}") as channel,
    ):
        call = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", bytes, bytes)
        answers = [answer async for answer in call(iter([list_services]), timeout=10)]
        assert [SERVICE.encode() in answer for answer in answers] == [True]


async def test_a_signal_ends_it_at_once() -> None:
    async with http_echo() as echo, asyncio.TaskGroup() as tasks:
        late = tasks.create_task(fetch(echo.url("/?delay=30s")))
        await echo.log_line()
        echo.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            assert await echo.process.wait() == 0
            assert (await late).failure is not None


async def test_a_taken_port_is_an_error() -> None:
    async with http_echo() as echo:
        process = await asyncio.create_subprocess_exec(
            echo_program(),
            env={"HTTP_PORT": str(echo.ports["HTTP_PORT"])},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(10):
            _, stderr = await process.communicate()
        assert process.returncode == 1
        assert b"address already in use" in stderr
