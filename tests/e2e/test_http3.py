"""HTTP/3 by a client that is not Envoy: over UDP on the loopback, through a real Portway and Envoy."""

import pytest

from tests.kit.answer import Answer, ConnectionFailed, Failure
from tests.kit.certificates import Authority
from tests.kit.client import fetch
from tests.kit.http3_client import http3_connection
from tests.kit.manifests import gateway_with, http_route, ingress, secret, service
from tests.kit.world import World, world_fixture

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

world = world_fixture("--http3")

AUTHORITY = Authority()
MEGABYTE = 1024 * 1024


async def get(world: World, host: str, path: str = "/", *, authority: Authority = AUTHORITY) -> Answer:
    """A GET on a connection of its own; one that cannot be had is a failed answer."""
    try:
        async with http3_connection(world.running.https_port, host, authority=authority.certificate) as connection:
            return await connection.request(path, host=host)
    except ConnectionFailed as error:
        return Answer(failure=error.failure)


async def serve(world: World, name: str, *, backends: tuple[str, ...] = ("",)) -> None:
    """Backends behind an Ingress with TLS for `<name>.test`; wait until HTTP/3 reaches the first."""
    pair = AUTHORITY.issue(f"{name}.test")
    services = []
    for suffix in backends:
        made = await world.backends.start(f"{name}{suffix}")
        services.append(service(f"{name}{suffix}", [made.port]))
    first = f"{name}{backends[0]}"
    world.declare(f"{name}-services", *services)
    world.declare(f"{name}-secret", secret(name, pair.certificate, pair.key))
    world.declare(name, ingress(name, f"{name}.test", [("/", first)], tls=name))
    await reaches(world, f"{name}.test", first)


async def reaches(world: World, host: str, backend: str) -> None:
    async def is_reached() -> bool:
        return (await get(world, host)).pod == backend

    await world.until(is_reached, f"{host} reaches {backend} over HTTP/3", seconds=20)


async def test_requests_are_answered_over_http3(world: World) -> None:
    await serve(world, "plain")
    async with http3_connection(world.running.https_port, "plain.test", authority=AUTHORITY.certificate) as connection:
        answer = await connection.request("/a?b=c", host="plain.test", headers=[("x-own", "1")])
        echoed = answer.echoed()
        assert (echoed.path, echoed.host, echoed.header("x-own")) == ("/a?b=c", "plain.test", "1")
        assert echoed.header("x-forwarded-proto") == "https"
        assert answer.header("alt-svc") is None  # it is here already
        upload = await connection.request("/", host="plain.test", method="POST", body=b"x" * MEGABYTE)
        assert upload.echoed().body_bytes == MEGABYTE
        # Ingress goes by the authority, whatever the server name was, as over HTTP/2.
        assert (await connection.request("/", host="unknown.test")).status == 404


async def test_http1_and_http2_say_that_there_is_http3(world: World) -> None:
    await serve(world, "said")
    port = world.running.https_port
    for http2 in (False, True):
        answer = await fetch(f"https://said.test:{port}/", http2=http2)
        assert answer.header("alt-svc") == f'h3=":{port}"; ma=86400'
    # The redirect of plain HTTP comes from an origin that has no HTTP/3.
    assert (await fetch(f"http://said.test:{world.running.http_port}/")).header("alt-svc") is None


async def test_a_changed_route_holds_on_open_connections(world: World) -> None:
    await serve(world, "moving", backends=("-old", "-new"))
    async with http3_connection(world.running.https_port, "moving.test", authority=AUTHORITY.certificate) as connection:
        assert (await connection.request("/", host="moving.test")).pod == "moving-old"
        world.declare("moving", ingress("moving", "moving.test", [("/", "moving-new")], tls="moving"))

        async def is_moved() -> bool:
            answer = await connection.request("/", host="moving.test")
            assert answer.failure is None
            return answer.pod == "moving-new"

        await world.until(is_moved, "moved")
    assert (await get(world, "moving.test")).pod == "moving-new"


async def test_new_connections_see_a_rotated_certificate(world: World) -> None:
    await serve(world, "rotated")
    successor = Authority("Portway test successor")
    assert (await get(world, "rotated.test", authority=successor)).failure is Failure.TLS
    async with http3_connection(
        world.running.https_port, "rotated.test", authority=AUTHORITY.certificate
    ) as connection:
        pair = successor.issue("rotated.test")
        world.declare("rotated-secret", secret("rotated", pair.certificate, pair.key))

        async def is_shown() -> bool:
            return (await get(world, "rotated.test", authority=successor)).status == 200

        await world.until(is_shown, "the successor's certificate is shown", seconds=20)
        assert (await connection.request("/", host="rotated.test")).pod == "rotated"
    assert (await get(world, "rotated.test")).failure is Failure.TLS


async def test_listeners_of_gateways_answer_http3(world: World) -> None:
    port = world.ports.take()
    pair = AUTHORITY.issue("gateway.test")
    made = await world.backends.start("gateway")
    world.declare(
        "gateway",
        service("gateway", [made.port]),
        secret("gateway", pair.certificate, pair.key),
        gateway_with(
            "gateway", [f"name: s, port: {port}, protocol: HTTPS, tls: {{certificateRefs: [{{name: gateway}}]}}"]
        ),
        http_route("gateway", "gateway", "gateway.test", [("/", "gateway")]),
    )

    async def ask() -> Answer:
        try:
            async with http3_connection(port, "gateway.test", authority=AUTHORITY.certificate) as connection:
                return await connection.request("/", host="gateway.test")
        except ConnectionFailed as error:
            return Answer(failure=error.failure)

    assert (await world.answered(ask)).pod == "gateway"
