"""`::` means everybody, whatever IP family they speak."""

import socket

import pytest

from portway.admin import sockets
from portway.identity.listening import listen
from portway.infra.health import HealthServer
from tests.kit.client import fetch


@pytest.mark.parametrize(("host", "heard"), [("::", True), ("127.0.0.1", True), ("0.0.0.0", True), ("::1", False)])
def test_who_speaks_ipv4_is_heard(host: str, heard: bool) -> None:
    try:
        listening = listen(host, 0)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with listening:
        assert hears_ipv4(listening) is heard


def hears_ipv4(listening: socket.socket) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", listening.getsockname()[1])) == 0


@pytest.mark.parametrize("host", ["::", ""])
def test_so_does_the_admin_address(host: str) -> None:
    (listening,) = sockets.listen(host, 0)
    with listening:
        assert hears_ipv4(listening)
        assert (listening.family is socket.AF_INET6) is socket.has_dualstack_ipv6()


async def test_so_does_the_health_address_of_a_proxy() -> None:
    async def no_metrics() -> str:
        return ""

    server = HealthServer(lambda: "", no_metrics)
    port = await server.start("::", 0)
    try:
        for host in ("127.0.0.1", "[::1]") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
            assert (await fetch(f"http://{host}:{port}/healthz")).status == 200
    finally:
        await server.stop()
