"""What clients may do: who they are taken for, how much they may send, and which paths they mean."""

import asyncio
import time
from pathlib import Path

import pytest
from h2.exceptions import TooManyStreamsError

from tests.kit.answer import Answer, ConnectionFailed, Failure
from tests.kit.connect import Endpoint
from tests.kit.http1_client import Http1Connection
from tests.kit.http2_client import Http2Connection
from tests.kit.manifests import CLASS, gateway_with, http_route, ingress, service
from tests.kit.portway import portway
from tests.kit.stream_client import websocket
from tests.kit.world import World, world_fixture

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

TRUSTED = "::1"
"""Requests over IPv6 come from a trusted proxy, those over IPv4 from anybody."""

world = world_fixture(
    *("--bind-address", "::1", "--trusted-proxies", f"{TRUSTED}/128", "--trusted-proxies", "198.51.100.0/24"),
    *("--max-header-bytes", "16384", "--max-headers", "40", "--headers-timeout", "1s", "--idle-timeout", "1s"),
    *("--http2-max-streams", "10", "--max-connections", "60", "--underscores-in-headers", "drop"),
)


async def serve(world: World, name: str, **annotations: str) -> None:
    made = await world.backends.start(name)
    dashed = {key.replace("_", "-"): value for key, value in annotations.items()}
    world.declare(name, service(name, [made.port]), ingress(name, f"{name}.test", [("/", name)], annotations=dashed))


async def served(world: World, name: str, **annotations: str) -> None:
    await serve(world, name, **annotations)
    await world.served(f"http://{name}.test/", by=name)


FORWARDED = [("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "other.test")]


async def test_an_untrusted_client_cannot_say_who_it_is(world: World) -> None:
    await served(world, "who")
    for http2 in (False, True):
        seen = (await world.running.get("http://who.test/", headers=FORWARDED, http2=http2)).echoed()
        assert seen.header("x-forwarded-for") == "127.0.0.1"
        assert seen.header("x-real-ip") == "127.0.0.1"
        assert seen.header("x-forwarded-proto") == "http"
        assert (seen.header("x-forwarded-host") or "").startswith("who.test")
        assert "other.test" not in str(seen.headers)


async def test_a_trusted_proxy_says_who_the_client_is(world: World) -> None:
    await served(world, "trusted", ssl_redirect="false")
    seen = (await world.running.get("http://trusted.test/", headers=FORWARDED, address=TRUSTED)).echoed()
    addresses = [each.strip() for each in (seen.header("x-forwarded-for") or "").split(",")]
    assert addresses[0] == "203.0.113.7"
    assert seen.header("x-forwarded-proto") == "https"
    assert seen.header("x-real-ip") == "203.0.113.7"
    assert seen.header("x-forwarded-host") == "other.test"
    assert seen.header("x-forwarded-port") == str(world.running.http_port)
    behind = [*FORWARDED, ("x-forwarded-port", "8443")]
    seen = (await world.running.get("http://trusted.test/", headers=behind, address=TRUSTED)).echoed()
    assert seen.header("x-forwarded-port") == "8443"
    # Beyond the trusted ones the last address counts: what a client wrote before it is not believed.
    chain = [("x-forwarded-for", "10.9.9.9, 203.0.113.7, 198.51.100.2")]
    seen = (await world.running.get("http://trusted.test/", headers=chain, address=TRUSTED)).echoed()
    assert seen.header("x-real-ip") == "203.0.113.7"


async def test_allow_and_deny_lists_see_the_client(world: World) -> None:
    await serve(world, "allowed", allowlist_source_range="203.0.113.0/24")
    await served(world, "denied", denylist_source_range="203.0.113.0/24")

    async def status(name: str, client: str, address: str = TRUSTED) -> int:
        headers = [("x-forwarded-for", client)]
        return (await world.running.get(f"http://{name}.test/", headers=headers, address=address)).status

    assert await status("allowed", "203.0.113.7") == 200
    assert await status("allowed", "192.0.2.1") == 403
    assert await status("allowed", "203.0.113.7", "127.0.0.1") == 403
    assert await status("denied", "203.0.113.7") == 403
    assert await status("denied", "192.0.2.1") == 200
    assert await status("denied", "203.0.113.7", "127.0.0.1") == 200


async def test_headers_that_are_too_many_or_too_large(world: World) -> None:
    await served(world, "large")
    for http2 in (False, True):

        async def status(headers: list[tuple[str, str]], http2: bool = http2) -> int:
            return (await world.running.get("http://large.test/", headers=headers, http2=http2)).status

        # On HTTP/2 the stream is reset: what was not kept cannot be answered.
        refused = 0 if http2 else 431
        assert await status([("x-large", "x" * 12_000)]) == 200
        assert await status([("x-large", "x" * 17_000)]) == refused
        assert await status([(f"x-{number}", "x") for number in range(20)]) == 200
        assert await status([(f"x-{number}", "x") for number in range(45)]) == refused


async def test_a_slow_header_is_answered_with_408(world: World) -> None:
    await served(world, "loris")
    async with await Http1Connection.open(Endpoint(port=world.running.http_port)) as connection:
        begin = time.monotonic()
        connection.write(b"GET / HTTP/1.1\r\nhost: loris.test\r\n")
        answer = await connection.receive()
        assert answer.status == 408
        assert 0.5 < time.monotonic() - begin < 5
        assert not connection.usable


async def test_idle_connections_are_closed(world: World) -> None:
    await served(world, "idle")
    async with await Http1Connection.open(Endpoint(port=world.running.http_port)) as connection:
        assert (await connection.request("/", host="idle.test")).status == 200
        assert (await connection.request("/", host="idle.test")).status == 200

        async def is_closed() -> bool:
            return connection.closed_by_peer

        # Envoy drains an idle connection for 5 s more: a request that is on its way is still answered.
        assert await world.until(is_closed, "closed", seconds=15) > 0.5


async def test_a_connection_has_a_limited_number_of_streams(world: World) -> None:
    await served(world, "streams")
    async with await Http2Connection.open(Endpoint(port=world.running.http_port)) as connection:
        assert (await connection.request("/", host="streams.test")).status == 200
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(connection.request("/?delay=300ms", host="streams.test")) for _ in range(10)]
            await asyncio.sleep(0)
            # The limit is told in the server's settings, and the client's library keeps to it.
            with pytest.raises(TooManyStreamsError):
                await connection.request("/", host="streams.test")
    assert {task.result().status for task in tasks} == {200}


async def test_the_number_of_connections_is_limited(world: World) -> None:
    await served(world, "crowd")
    opened: list[Http1Connection] = []

    async def answered() -> bool:
        try:
            connection = await Http1Connection.open(Endpoint(port=world.running.http_port))
        except ConnectionFailed:
            return False
        opened.append(connection)
        return (await connection.request("/", host="crowd.test")).failure is None

    try:
        async with asyncio.timeout(20):
            results = [await answered() for _ in range(80)]
    finally:
        for connection in opened:
            await connection.close()
    # Others of this proxy's connections count too, so a few less than the limit may pass.
    assert 40 <= sum(results) <= 60

    async def is_open_again() -> bool:
        return (await world.running.get("http://crowd.test/")).status == 200

    await world.until(is_open_again, "open again")


PATHS = {
    "/a/../b": "/b",
    "/a/./b": "/a/b",
    "/a/%2e%2e/b": "/b",
    "/a/%2E/b": "/a/b",
    "/%61": "/a",  # unreserved characters need no escape (RFC 3986 §6.2.2.2)
    "/a%20b": "/a%20b",
    "/a%2Fb": "/a%2Fb",
    "/a//b": "/a//b",
    "/../../etc": "/etc",  # there is nothing above the root (RFC 3986 §5.2.4)
}
"""What a client sends, and what the backend gets."""


async def test_paths_are_normalised(world: World) -> None:
    await served(world, "paths")
    for sent, expected in PATHS.items():
        answer = await world.running.get(f"http://paths.test{sent}")
        assert (answer.status, answer.echoed().path) == (200, expected), sent


async def test_a_path_cannot_slip_past_a_rule(world: World) -> None:
    made = await world.backends.start("open")
    secret = await world.backends.start("closed")
    world.declare(
        "slip",
        service("open", [made.port]),
        service("closed", [secret.port]),
        ingress("open", "slip.test", [("/", "open")]),
        ingress(
            "closed", "slip.test", [("/admin", "closed")], annotations={"allowlist-source-range": "203.0.113.0/24"}
        ),
    )
    await world.served("http://slip.test/", by="open")
    for path in ("/admin", "/x/../admin", "/./admin", "/x/%2e%2e/admin", "/admin/", "/admin/x"):
        assert (await world.running.get(f"http://slip.test{path}")).status == 403, path


async def test_fields_with_underscores(world: World) -> None:
    await served(world, "under")
    seen = (await world.running.get("http://under.test/", headers=[("x_user", "root"), ("x-user", "me")])).echoed()
    assert "root" not in str(seen.headers)
    assert seen.header("x-user") == "me"


async def test_requests_that_could_be_smuggled_are_refused(world: World) -> None:
    await served(world, "smuggle")

    async def raw(lines: bytes) -> Answer:
        async with await Http1Connection.open(Endpoint(port=world.running.http_port)) as connection:
            connection.write(b"POST / HTTP/1.1\r\nhost: smuggle.test\r\n" + lines)
            return await connection.receive("POST")

    for lines in (
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"content-length: +5\r\n\r\nhello",
    ):
        answer = await raw(lines)
        assert answer.status in {400, 501}, (lines, answer)
    assert (await raw(b"content-length: 5\r\n\r\nhello")).status == 200


async def test_escaped_slashes_rejected_and_underscores_refused(world: World, tmp_path: Path) -> None:
    made = await world.backends.start("strict")
    documents = [CLASS, service("strict", [made.port]), ingress("strict", "strict.test", [("/", "strict")])]
    arguments = ("--escaped-slashes", "reject", "--underscores-in-headers", "reject", "--server-header", "portway")
    async with portway(tmp_path, {"all.yaml": "---\n".join(documents)}, *arguments) as running:
        assert (await running.get("http://strict.test/a%2Fb")).status == 400
        assert (await running.get("http://strict.test/", headers=[("x_user", "me")])).status == 400
        answer = await running.get("http://strict.test/a%20b")
        assert (answer.status, answer.header("server")) == (200, "portway")


async def test_body_limit_and_silence_of_websockets(world: World) -> None:
    await served(world, "body", proxy_body_size="64k")
    for http2 in (False, True):
        # Over HTTP/2 the length is not declared.
        big = await world.running.get("http://body.test/body", method="POST", body=b"x" * 1_000_000, http2=http2)
        assert big.status == 413
        small = await world.running.get("http://body.test/body", method="POST", body=b"x" * 512, http2=http2)
        assert small.body == b"x" * 512
    # The idle timeout of connections (1 s here) is not that of a WebSocket.
    async with websocket(f"ws://body.test:{world.running.http_port}/ws") as connection:
        await asyncio.sleep(1.5)
        await connection.send("still here")
        assert await connection.recv() == "still here"


async def test_the_edge_holds_for_gateways_too(world: World) -> None:
    made = await world.backends.start("gatewayed")
    port = world.ports.take()
    world.declare(
        "gatewayed",
        service("gatewayed", [made.port]),
        gateway_with("edge", [f"name: http, port: {port}, protocol: HTTP"]),
        http_route("edge", "edge", "edge.test", [("/", "gatewayed")]),
    )

    async def ask(**more: object) -> Answer:
        return await world.running.get("http://edge.test/", port=port, **more)

    answer = await world.answered(ask)
    assert (await ask(headers=FORWARDED)).echoed().header("x-forwarded-for") == "127.0.0.1"
    trusted = (await ask(headers=FORWARDED, address=TRUSTED)).echoed()
    assert (trusted.header("x-forwarded-for") or "").startswith("203.0.113.7")
    assert (await ask(headers=[("x-large", "x" * 40_000)])).status == 431
    assert answer.failure is not Failure.PROTOCOL
