"""Which servers are asked through the proxy that the environment names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from portway.kubernetes.client import ApiClient, Connection
from portway.kubernetes.forward_proxy import proxy_of

PROXY = "http://proxy:3128"

IS_DIRECT = {
    # NO_PROXY, server: is it asked directly?
    ("", "https://10.96.0.1:443"): False,
    # networks
    ("10.0.0.0/8,.svc", "https://10.96.0.1:443"): True,
    ("10.0.0.0/8", "https://11.0.0.1"): False,
    (" 192.0.2.0/24 , 10.96.0.1/8 ", "https://10.1.2.3"): True,  # blanks; bits behind the mask
    ("fd00::/8", "https://[fd00::1]:443"): True,
    ("10.0.0.0/8", "https://[fd00::1]:443"): False,
    ("10.0.0.0/8", "https://ten.example"): False,  # names are not looked up
    ("10.0.0.0/88", "https://10.0.0.1"): False,
    # addresses
    ("10.96.0.1", "https://10.96.0.1:443"): True,
    ("10.96.0.1", "https://10.96.0.11:443"): False,
    ("10.96", "https://1.2.10.96"): False,  # the end of an address is no domain
    (".0.1", "https://10.96.0.1"): False,
    ("fd00::1", "https://[fd00:0::1]:443"): True,
    ("[fd00::1]:443", "https://[fd00::1]"): True,
    ("[fd00::1]:6443", "https://[fd00::1]"): False,
    # names
    ("example.com", "https://example.com"): True,
    ("example.com", "https://api.Example.com"): True,
    ("Example.com", "https://api.example.com"): True,
    ("example.com", "https://anexample.com"): False,
    (".example.com", "https://api.example.com"): True,
    (".example.com", "https://example.com"): False,
    ("*.example.com", "https://api.example.com"): True,
    ("*.example.com", "https://example.com"): False,
    (".svc", "https://kubernetes.default.svc"): True,
    # ports, also those that go without saying
    ("example.com:6443", "https://example.com:6443"): True,
    ("example.com:6443", "https://example.com"): False,
    ("example.com:443", "https://example.com"): True,
    ("10.96.0.1:443", "https://10.96.0.1"): True,
    ("10.96.0.1:6443", "https://10.96.0.1"): False,
    # everything
    ("*", "https://10.96.0.1:443"): True,
    ("example.com,*", "https://other.example"): True,
    # nothing: what makes no sense harms nobody
    (",:443,", "https://10.96.0.1:443"): False,
    # the machine itself
    ("", "https://localhost:6443"): True,
    ("", "https://127.0.0.1:6443"): True,
    ("", "https://[::1]:6443"): True,
}


@pytest.mark.parametrize(("no_proxy", "server"), IS_DIRECT)
def test_no_proxy_is_read_as_other_clients_read_it(no_proxy: str, server: str) -> None:
    proxy = proxy_of(server, {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy})
    assert (proxy == "") is IS_DIRECT[no_proxy, server]


PROXIES = {
    # variables, server: its proxy
    ((), "https://one.example"): "",
    ((("HTTPS_PROXY", PROXY),), "https://one.example"): PROXY,
    ((("https_proxy", PROXY),), "https://one.example"): PROXY,
    ((("https_proxy", "http://other"), ("HTTPS_PROXY", PROXY)), "https://one.example"): PROXY,
    ((("https_proxy", PROXY), ("HTTPS_PROXY", "")), "https://one.example"): PROXY,  # unset in a manifest
    ((("HTTPS_PROXY", "proxy:3128"),), "https://one.example"): PROXY,
    ((("HTTP_PROXY", PROXY),), "https://one.example"): "",
    ((("HTTP_PROXY", PROXY),), "http://one.example"): PROXY,
    ((("HTTPS_PROXY", PROXY), ("no_proxy", "example")), "https://one.example"): "",
}


@pytest.mark.parametrize(("variables", "server"), PROXIES)
def test_the_proxy_of_a_server(variables: tuple[tuple[str, str], ...], server: str) -> None:
    assert proxy_of(server, dict(variables)) == PROXIES[variables, server]


@pytest.mark.parametrize("no_proxy", ["", "0.0.0.0/8"])
async def test_requests_go_the_way_that_the_environment_says(no_proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering("server") as server, answering("proxy") as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy}")
        monkeypatch.setenv("NO_PROXY", no_proxy)
        # This machine, and not by an address that never goes through a proxy.
        client = ApiClient(Connection(server=f"http://0.0.0.0:{server}"))
        assert await client.get("/version") == (b"server" if no_proxy else b"proxy")
        await client.close()


@asynccontextmanager
async def answering(name: str) -> AsyncIterator[int]:
    """The port of a server that answers everything with its name."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=name)

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()
