"""Requests to a real API server, and what is said when they fail."""

import asyncio
import gc
import socket
import ssl
import threading
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from portway.kubernetes.client import (
    JSON_PATCH,
    MERGE_PATCH,
    ApiClient,
    ApiError,
    ApiUnreachable,
    Connection,
    FixedCredentials,
    Tls,
    resource_path,
)
from portway.kubernetes.connection import Identity
from tests.cluster.control_plane import ControlPlane
from tests.kit.certificates import Authority
from tests.kit.ports import free_port
from tests.kubernetes.faulty import FaultyServer
from tests.kubernetes.planes import client_of, connection_of, plane

__all__ = ["plane"]
pytestmark = pytest.mark.cluster

MAPS = resource_path("", "v1", "configmaps", "default")


@pytest_asyncio.fixture
async def client(plane: ControlPlane) -> AsyncIterator[ApiClient]:
    client = client_of(plane.administrator)
    yield client
    await client.close()


class _Meta(msgspec.Struct):
    name: str
    uid: str = ""
    resource_version: str = msgspec.field(default="", name="resourceVersion")


class _Map(msgspec.Struct):
    metadata: _Meta
    data: dict[str, str] = {}


def a_map(name: str, version: str = "", **data: str) -> bytes:
    metadata = {"name": name} | ({"resourceVersion": version} if version else {})
    return msgspec.json.encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def read(data: bytes) -> _Map:
    return msgspec.json.decode(data, type=_Map)


async def test_an_object_lives_and_ends(client: ApiClient) -> None:
    path = f"{MAPS}/life"
    made = read(await client.create(MAPS, a_map("life", sky="blue")))
    assert read(await client.get(path)).data == {"sky": "blue"}
    replaced = read(await client.replace(path, a_map("life", made.metadata.resource_version, sky="grey")))
    with pytest.raises(ApiError, match="409 Conflict"):
        await client.replace(path, a_map("life", made.metadata.resource_version, sky="red"))
    await client.patch(path, b'{"data":{"sea":"green"}}', content_type=MERGE_PATCH)
    await client.patch(path, b'[{"op":"remove","path":"/data/sky"}]', content_type=JSON_PATCH)
    applied = read(await client.apply(path, a_map("life", sun="yellow"), manager="other"))
    assert applied.data == {"sea": "green", "sun": "yellow"}
    with pytest.raises(ApiError, match="409 Conflict"):
        await client.delete(path, uid="another")
    await client.delete(path, uid=replaced.metadata.uid)
    await client.delete(path)
    with pytest.raises(ApiError, match="404 NotFound"):
        await client.get(path)
    assert client.statistics().requests["delete", "configmaps"] == 3


async def test_a_taken_name_is_a_conflict(client: ApiClient) -> None:
    await client.create(MAPS, a_map("taken"))
    with pytest.raises(ApiError, match="409 AlreadyExists") as caught:
        await client.create(MAPS, a_map("taken"))
    assert caught.value.reason == "AlreadyExists"


async def test_who_may_not_is_told_which_rule_is_missing(plane: ControlPlane) -> None:
    client = client_of(plane.user("joe"))
    with pytest.raises(ApiError) as caught:
        await client.get(resource_path("", "v1", "secrets"))
    assert 'User "joe" cannot list resource "secrets"' in str(caught.value)
    assert 'add the rule {apiGroups: [""], resources: ["secrets"], verbs: ["list", "watch"]}' in str(caught.value)
    await client.close()


async def test_a_watch_tells_what_happens_until_its_time_is_over(client: ApiClient) -> None:
    opened = asyncio.Event()
    params = {"timeoutSeconds": "1", "resourceVersion": "0", "fieldSelector": "metadata.name=watched"}
    async with asyncio.TaskGroup() as tasks:
        lines: list[bytes] = []

        async def follow() -> None:
            async for line in client.stream(MAPS, params, on_open=opened.set):
                lines.append(line)

        tasks.create_task(follow())
        await opened.wait()
        assert client.statistics().watches == 1
        await client.create(MAPS, a_map("watched"))
    assert [msgspec.json.decode(line)["type"] for line in lines] == ["ADDED"]
    assert client.statistics().watches == 0


async def test_a_silent_watch_is_noticed(plane: ControlPlane) -> None:
    async with FaultyServer(plane.administrator) as server:
        client = ApiClient(server.connection)
        server.edit = lambda line: ()
        with pytest.raises(ApiUnreachable, match="does not answer in time"):
            async for _ in client.stream(MAPS, {"resourceVersion": "0"}, idle=0.3):
                pass
        await client.close()


async def test_an_answer_that_is_too_long_is_not_read(client: ApiClient) -> None:
    await client.create(MAPS, a_map("long", text="x" * 10_000))
    with pytest.raises(ApiUnreachable, match="more than 5,000 bytes"):
        await client.get(f"{MAPS}/long", limit_bytes=5_000)


async def test_nobody_there(plane: ControlPlane) -> None:
    client = ApiClient(Connection(server=f"https://127.0.0.1:{free_port()}"))
    with pytest.raises(ApiUnreachable, match=r"cannot be connected \(Connection refused\)"):
        await client.get("/readyz")
    assert client.statistics().failed == 1
    await client.close()


async def test_a_server_that_is_not_trusted(plane: ControlPlane) -> None:
    client = ApiClient(Connection(server=plane.url, credentials=FixedCredentials(token="administrator")))
    with pytest.raises(ApiUnreachable, match="certificate is not trusted"):
        await client.get("/readyz")
    await client.close()


async def test_a_kubeconfig_leads_to_the_server(plane: ControlPlane) -> None:
    from portway.kubernetes.client import connect

    client = ApiClient(await connect(str(plane.kubeconfig)))
    assert await client.get("/readyz") == b"ok"
    await client.close()


class Renewing:
    """Credentials with a token that is renewed when it is refused."""

    def __init__(self, tls: Tls, tokens: list[str]) -> None:
        self._tls = tls
        self._tokens = tokens

    async def identity(self) -> Identity:
        return Identity(f"Bearer {self._tokens[0]}", self._tls)

    def refused(self, identity: Identity) -> None:
        if len(self._tokens) > 1:
            self._tokens.pop(0)


async def test_an_old_token_is_renewed_and_the_request_repeated(plane: ControlPlane) -> None:
    connection = connection_of(plane.administrator)
    tls = (await connection.credentials.identity()).tls
    client = ApiClient(Connection(server=plane.url, credentials=Renewing(tls, ["old", "administrator"])))
    assert read(await client.create(MAPS, a_map("renewed"))).metadata.name == "renewed"
    await client.close()
    client = ApiClient(Connection(server=plane.url, credentials=Renewing(tls, ["old", "older"])))
    with pytest.raises(ApiError, match="401 Unauthorized") as caught:
        await client.get(MAPS)
    assert "older" not in str(caught.value)
    assert client.statistics().requests["list", "configmaps"] == 2
    await client.close()


async def test_a_renewed_certificate_is_taken_without_breaking_a_watch(plane: ControlPlane) -> None:
    class Switching:
        def __init__(self, *identities: Identity) -> None:
            self.identities = list(identities)

        async def identity(self) -> Identity:
            return self.identities[0]

        def refused(self, identity: Identity) -> None:
            raise AssertionError("nobody refuses these")

    who = [connection_of(plane.user(name, ["system:masters"])) for name in ("joe", "ann")]
    credentials = Switching(*[await one.credentials.identity() for one in who])
    client = ApiClient(Connection(server=plane.url, credentials=credentials))
    params = {"resourceVersion": "0", "fieldSelector": "metadata.name=rotated"}
    opened = asyncio.Event()
    lines = client.stream(MAPS, params, on_open=opened.set)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(anext(lines))
        await opened.wait()
        credentials.identities.pop(0)
        await client.create(MAPS, a_map("rotated"))
    assert b"rotated" in first.result()
    await lines.aclose()
    await client.close()


def test_a_connection_of_a_request_that_was_given_up_ends_with_the_client(tmp_path: Path) -> None:
    """A server that does not answer the polite end of TLS either, and an event loop that ends at once."""
    authority = Authority()
    pair = authority.issue("localhost")
    for name, text in (("certificate", pair.certificate), ("key", pair.key)):
        (tmp_path / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    asked, over = threading.Event(), threading.Event()

    def serve(listening: socket.socket) -> None:
        accepted, _ = listening.accept()
        with context.wrap_socket(accepted, server_side=True) as connection:
            connection.recv(1)
            asked.set()
            over.wait()

    async def give_up(port: int) -> None:
        credentials = FixedCredentials(tls=Tls(ca=authority.certificate.encode()))
        client = ApiClient(Connection(server=f"https://localhost:{port}", credentials=credentials))
        async with asyncio.TaskGroup() as tasks:
            request = tasks.create_task(client.get("/readyz"))
            await asyncio.to_thread(asked.wait)
            request.cancel()
        await client.close()

    with socket.create_server(("127.0.0.1", 0)) as listening, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            asyncio.run(give_up(listening.getsockname()[1]))
        finally:
            over.set()
            thread.join()
        gc.collect()
    assert [str(each.message) for each in told if each.category is ResourceWarning] == []


async def test_a_redirect_does_not_take_the_token_elsewhere() -> None:
    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})

    application = web.Application()
    application.router.add_get("/{path:.*}", redirect)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    client = ApiClient(Connection(server=f"http://{host}:{port}", credentials=FixedCredentials(token="abc")))
    with pytest.raises(ApiError, match="302"):
        await client.get("/readyz")
    await client.close()
    await runner.cleanup()
