"""Which requests to the admin address are a web page's doing."""

from collections.abc import AsyncIterator, Mapping

import pytest
from multidict import CIMultiDict

from portway.admin.guard import Arrival, refusal
from portway.admin.server import AdminServer
from portway.admin.sockets import listen
from tests.kit.answer import Answer
from tests.kit.client import fetch

STATUS = "/api/v1/status"
EXPLAIN = "/api/v1/explain"
LOOPBACK = "127.0.0.1"
POD = "10.1.2.3"

HOSTS = {
    # path, Host, our end of the connection: status
    (STATUS, "127.0.0.1:9902", LOOPBACK): None,
    (STATUS, "localhost:9902", LOOPBACK): None,
    (STATUS, "LOCALHOST.", LOOPBACK): None,
    (STATUS, "portway.localhost", LOOPBACK): None,
    (STATUS, "[::1]:9902", "::1"): None,
    (STATUS, "localhost:19902", POD): None,  # a port forwarded into a container
    (STATUS, "10.96.0.7:9902", POD): None,  # a Service's cluster address
    (STATUS, "Admin.Internal:9902", POD): None,  # as in --admin-address
    (STATUS, "evil.example:9902", LOOPBACK): 421,
    (STATUS, "evil.example", POD): 421,
    (STATUS, "127.0.0.1.evil.example", LOOPBACK): 421,
    (STATUS, "localhost.evil.example", LOOPBACK): 421,
    (STATUS, "[evil.example]", LOOPBACK): 421,
    (STATUS, "", LOOPBACK): 421,
    (EXPLAIN, "evil.example:9902", LOOPBACK): 421,
    ("/what/comes/later", "evil.example", LOOPBACK): 421,
    # Probes are told any Host.
    ("/healthz", "shop.example", LOOPBACK): None,
    ("/readyz", "", POD): None,
    # Scrapers ask by a Service's name, but not on the loopback.
    ("/metrics", "10.1.2.3:9902", POD): None,
    ("/metrics", "portway.portway-system.svc:9902", POD): None,
    ("/metrics", "localhost:9902", LOOPBACK): None,
    ("/metrics", "evil.example:9902", LOOPBACK): 421,
    ("/metrics", "evil.example:9902", "::ffff:127.0.0.1"): 421,
}


@pytest.mark.parametrize(("path", "host", "local"), HOSTS)
def test_names_that_are_not_ours_are_misdirected(path: str, host: str, local: str) -> None:
    found = refusal(Arrival("GET", path, CIMultiDict(host=host), local), "admin.internal")
    assert (found.status if found else None) == HOSTS[path, host, local]


AMONG_PODS = {
    (STATUS, "127.0.0.1:9902", POD): 403,  # an Ingress whose backend is our Service, with an upstream-vhost
    (STATUS, "10.96.0.7:9902", POD): 403,
    (EXPLAIN, "10.1.2.3:9902", POD): 403,
    ("/what/comes/later", "localhost", POD): 403,
    (STATUS, "127.0.0.1:9902", "::ffff:127.0.0.1"): None,  # kubectl port-forward
    (STATUS, "localhost:19902", "::1"): None,
    (STATUS, "evil.example", LOOPBACK): 421,
    ("/metrics", "portway-admin.portway-system.svc:9902", POD): None,
    ("/readyz", "10.1.2.3:9902", POD): None,
}


@pytest.mark.parametrize(("path", "host", "local"), AMONG_PODS)
def test_proxies_in_a_cluster_read_nothing(path: str, host: str, local: str) -> None:
    found = refusal(Arrival("GET", path, CIMultiDict(host=host), local), "::", among_pods=True)
    assert (found.status if found else None) == AMONG_PODS[path, host, local]


PAGES: list[tuple[str, str, Mapping[str, str], int | None]] = [
    ("POST", EXPLAIN, {}, None),  # a command
    ("POST", EXPLAIN, {"origin": "http://127.0.0.1:9902"}, None),
    ("POST", EXPLAIN, {"origin": "http://127.0.0.1:8000"}, 403),  # another server of this machine
    ("POST", EXPLAIN, {"origin": "https://evil.example"}, 403),
    ("POST", EXPLAIN, {"origin": "null"}, 403),
    ("GET", STATUS, {"sec-fetch-site": "none"}, None),  # typed into the address bar
    ("GET", STATUS, {"sec-fetch-site": "same-origin"}, None),
    ("GET", STATUS, {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
    ("GET", STATUS, {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, 403),
    (
        *("GET", STATUS),
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
        None,  # a link in a runbook
    ),
    (
        *("GET", STATUS),
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
        403,
    ),
    ("GET", "/metrics", {"origin": "https://evil.example"}, 403),
    ("GET", "/healthz", {"origin": "https://evil.example"}, None),
]


@pytest.mark.parametrize(("method", "path", "fields", "status"), PAGES)
def test_pages_of_other_origins_are_refused(
    method: str, path: str, fields: Mapping[str, str], status: int | None
) -> None:
    arrival = Arrival(method, path, CIMultiDict({"Host": "127.0.0.1:9902", **fields}), LOOPBACK)
    found = refusal(arrival, LOOPBACK)
    assert (found.status if found else None) == status


class Reader:
    """Answers that show that somebody got through."""

    def not_ready_because(self) -> str:
        return ""

    async def status(self, gateway: str, ingress_class: str) -> bytes:
        return b'"status"'

    async def explain(self, body: bytes) -> bytes:
        return body

    async def metrics(self) -> bytes:
        return b"portway_objects 1\n"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = AdminServer(Reader(), LOOPBACK)
    (listening,) = listen(LOOPBACK, 0)
    await server.start([listening])
    yield int(listening.getsockname()[1])
    await server.stop()


async def ask(port: int, path: str, host: str = "", *, method: str = "GET", **fields: str) -> Answer:
    headers = [("host", host), *fields.items()] if host else list(fields.items())
    body = b'"question"' if method == "POST" else b""
    return await fetch(f"http://127.0.0.1:{port}{path}", method=method, headers=headers, body=body)


async def test_a_rebound_name_reads_nothing(port: int) -> None:
    for path in (STATUS, "/metrics", "/what/comes/later"):
        answer = await ask(port, path, "evil.example:9902")
        assert answer.status == 421
        assert "names evil.example" in answer.text
    assert (await ask(port, EXPLAIN, "evil.example", method="POST")).status == 421
    assert (await ask(port, "/readyz", "evil.example")).body == b"ok\n"


async def test_a_page_is_refused_and_commands_are_answered(port: int) -> None:
    assert (await ask(port, EXPLAIN, method="POST", origin="https://evil.example")).status == 403
    assert (await ask(port, EXPLAIN, method="POST")).body == b'"question"'
    assert (await ask(port, STATUS, "localhost")).body == b'"status"'
    assert (await ask(port, "/metrics")).body == b"portway_objects 1\n"
