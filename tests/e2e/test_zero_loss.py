"""Nothing is lost while things change: constant load over HTTP/1.1, HTTP/2 and WebSocket, many rounds of one change
each.

Right is an answer of a backend that was declared at some time of the request; everything else, any reset or refusal,
fails the test. After each change the test waits until the change is live, so a round is a whole change.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509

from tests.kit.backends import Backend, Backends
from tests.kit.certificates import Authority
from tests.kit.client import fetch
from tests.kit.load import Load, LoadProtocol
from tests.kit.manifests import CLASS, endpoint_slice, gateway, http_route, ingress, secret, service
from tests.kit.portway import portway

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ROUNDS = int(os.environ.get("ZERO_LOSS_ROUNDS", "25"))
HTTP = (LoadProtocol.HTTP1, LoadProtocol.HTTP2)
RATE = 100.0
"""Requests per second and protocol."""


@asynccontextmanager
async def under_load(
    url: str, allowed: Collection[str], protocols: Collection[LoadProtocol] = tuple(LoadProtocol), authority: str = ""
) -> AsyncIterator[None]:
    """Load on a URL; at the end every single answer must be one of the allowed backends'."""
    loads: list[Load] = []
    async with AsyncExitStack() as stack:
        for protocol in protocols:
            target = url.rstrip("/") + "/ws" if protocol is LoadProtocol.WEBSOCKET else url
            load = Load(target, rate=RATE, protocol=protocol, connections=4, authority=authority or None)
            await stack.enter_async_context(load)
            loads.append(load)
            await load.answered(4)
        yield
    for load, protocol in zip(loads, protocols, strict=True):
        report = load.report()
        # A WebSocket stays with the backend that it was opened to.
        wrong = report.wrong({*allowed}, status=101 if protocol is LoadProtocol.WEBSOCKET else 200)
        assert not wrong, f"{protocol}: {len(wrong)} wrong, first {wrong[0]}; {report.summary()}"


async def served_by(url: str, name: str) -> bool:
    return (await fetch(url)).pod == name


Change = Callable[[int], Awaitable[None]]


async def rounds(change: Change, count: int = ROUNDS) -> None:
    for number in range(count):
        await change(number)


@pytest.fixture
async def backends() -> AsyncIterator[dict[str, Backend]]:
    async with Backends() as running:
        yield {name: await running.start(name) for name in ("a", "b", "c", "d")}


def world(backends: dict[str, Backend]) -> dict[str, str]:
    services = "---\n".join(service(name, [backend.port]) for name, backend in backends.items())
    return {"class.yaml": CLASS, "services.yaml": services, "route.yaml": ingress("shop", "shop.test", [("/", "a")])}


async def test_backend_switched(tmp_path: Path, backends: dict[str, Backend]) -> None:
    async with portway(tmp_path, world(backends)) as running:
        url = f"http://shop.test:{running.http_port}/"

        async def switch(number: int) -> None:
            name = "ab"[(number + 1) % 2]
            running.write("route.yaml", ingress("shop", "shop.test", [("/", name)]))
            await running.until(lambda: served_by(url, name), f"served by {name}")

        async with under_load(url, "ab"):
            await rounds(switch)


async def test_rules_reordered(tmp_path: Path, backends: dict[str, Backend]) -> None:
    async with portway(tmp_path, world(backends)) as running:
        port = running.http_port + 7
        rules = [(f"/{name}{name}", name) for name in "abc"] + [("/ws", "d")]
        files = gateway("gw", [("http", port, "HTTP")])
        running.write("gateway.yaml", files)
        running.write("routes.yaml", http_route("shop", "gw", "gw.test", rules))
        url = f"http://gw.test:{port}"
        await running.until(lambda: served_by(f"{url}/aa", "a"), "served")

        async def reorder(number: int) -> None:
            turned = rules[number % 4 :] + rules[: number % 4]
            # The marker tells when the change is live; the others must not notice it.
            turned = [*turned, (f"/marker{number}", "d")]
            running.write("routes.yaml", http_route("shop", "gw", "gw.test", turned))
            await running.until(lambda: served_by(f"{url}/marker{number}", "d"), "reordered")

        async with AsyncExitStack() as stack:
            for name in "abc":
                await stack.enter_async_context(under_load(f"{url}/{name}{name}", name, HTTP))
            await stack.enter_async_context(under_load(f"{url}/", "d", [LoadProtocol.WEBSOCKET]))
            await rounds(reorder)


async def test_route_added_and_removed_next_to_it(tmp_path: Path, backends: dict[str, Backend]) -> None:
    async with portway(tmp_path, world(backends)) as running:
        url = f"http://shop.test:{running.http_port}/"

        async def come_and_go(number: int) -> None:
            neighbour = f"http://next{number}.test:{running.http_port}/"
            running.write("next.yaml", ingress("next", f"next{number}.test", [("/", "b")]))
            await running.until(lambda: served_by(neighbour, "b"), "added")
            running.remove("next.yaml")

            async def gone() -> bool:
                return (await fetch(neighbour)).status == 404

            await running.until(gone, "removed")

        async with under_load(url, "a"):
            await rounds(come_and_go)


async def test_all_endpoints_replaced(tmp_path: Path, backends: dict[str, Backend]) -> None:
    async with portway(tmp_path, world(backends)) as running:
        url = f"http://shop.test:{running.http_port}/"
        own = service("own", [backends["a"].port])
        running.write("own.yaml", own)
        running.write("route.yaml", ingress("shop", "shop.test", [("/", "own")]))
        await running.until(lambda: served_by(url, "a"), "served")

        async def replace(number: int) -> None:
            name = "bcda"[number % 4]
            head = own.partition("---\n")[0]
            running.write("own.yaml", f"{head}---\n{endpoint_slice('own', [backends[name].port])}")
            await running.until(lambda: served_by(url, name), f"served by {name}")

        async with under_load(url, "abcd"):
            await rounds(replace)


async def test_certificate_rotated(tmp_path: Path, backends: dict[str, Backend]) -> None:
    authority = Authority()
    pairs = [authority.issue("shop.test") for _ in range(2)]
    files = world(backends)
    files["route.yaml"] = ingress("shop", "shop.test", [("/", "a")], tls="shop")
    files["secret.yaml"] = secret("shop", pairs[0].certificate, pairs[0].key)
    async with portway(tmp_path, files) as running:
        url = f"https://shop.test:{running.https_port}/"

        async def rotate(number: int) -> None:
            pair = pairs[(number + 1) % 2]
            running.write("secret.yaml", secret("shop", pair.certificate, pair.key))

            async def presented() -> bool:
                return await served_serial("shop.test", running.https_port) == pair.serial()

            await running.until(presented, "rotated")

        async with under_load(url, "a", authority=authority.certificate):
            await rounds(rotate)


async def served_serial(name: str, port: int) -> str:
    """Serial number of the certificate that a server name gets."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        encoded = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
    return format(x509.load_der_x509_certificate(encoded).serial_number, "x")


async def test_listener_added(tmp_path: Path, backends: dict[str, Backend]) -> None:
    async with portway(tmp_path, world(backends)) as running:
        fixed, other = running.http_port + 11, running.http_port + 12
        url = f"http://gw.test:{fixed}/"
        running.write("gateway.yaml", gateway("gw", [("http", fixed, "HTTP")]))
        running.write("routes.yaml", http_route("shop", "gw", "gw.test", [("/", "a")]))
        await running.until(lambda: served_by(url, "a"), "served")

        async def add_and_remove(_number: int) -> None:
            running.write("gateway.yaml", gateway("gw", [("http", fixed, "HTTP"), ("more", other, "HTTP")]))
            await running.until(lambda: served_by(f"http://gw.test:{other}/", "a"), "added")
            running.write("gateway.yaml", gateway("gw", [("http", fixed, "HTTP")]))

            async def closed() -> bool:
                return (await fetch(f"http://gw.test:{other}/")).status == 0

            await running.until(closed, "removed")

        async with under_load(url, "a"):
            await rounds(add_and_remove)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("how", ["restarted", "killed"])
async def test_portway_itself(tmp_path: Path, backends: dict[str, Backend], how: str) -> None:
    async with portway(tmp_path, world(backends), "--leave-running") as running:
        url = f"http://shop.test:{running.http_port}/"

        async def turn(number: int) -> None:
            name = "ab"[(number + 1) % 2]
            if how == "killed":
                await running.kill()
            else:
                assert await running.stop() == 0
            # What changes while nobody is there is live as soon as it is back.
            running.write("route.yaml", ingress("shop", "shop.test", [("/", name)]))
            await running.start()
            await running.until(lambda: served_by(url, name), f"served by {name}")

        envoys = running.envoys()
        async with under_load(url, "ab"):
            await rounds(turn)
        assert running.envoys() == envoys, "the same Envoy all the time"
