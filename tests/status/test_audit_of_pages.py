"""A list in pages is as of its first page; what is written meanwhile is not in it."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import msgspec
import pytest

from portway.kubernetes.errors import ApiError
from portway.model.condition import Condition, ObjectReport, ParentReport
from portway.objects.verdict import ObjectKey
from portway.status.merge import Statement
from portway.status.raw import Raw, as_list, as_map
from portway.status.writer import StatusWriter, WriterSettings

NAMES = ("first", "second")


class Server:
    """Two routes, one a page. From when it is slow the second page takes until it is quick again."""

    def __init__(self) -> None:
        self._version = 1
        self.routes = {name: self._route(name) for name in NAMES}
        self._snapshot: Mapping[str, Raw] = {}
        self._is_quick = asyncio.Event()
        self.quick()
        self.is_asked = asyncio.Event()
        """For a second page, while it is slow."""

    def slow(self) -> None:
        self._is_quick.clear()

    def quick(self) -> None:
        self._is_quick.set()

    def condition(self, name: str) -> object:
        (parent,) = as_list(as_map(self.routes[name]["status"]).get("parents"))
        return as_map(as_list(as_map(parent).get("conditions"))[0])["status"]

    async def get(self, path: str, params: Mapping[str, str] = {}, /) -> bytes:
        name = path.rsplit("/", 1)[1]
        if name in self.routes:
            return msgspec.json.encode(self.routes[name])
        if "continue" not in params:
            self._snapshot = dict(self.routes)
            return msgspec.json.encode({"items": [self._snapshot["first"]], "metadata": {"continue": "second"}})
        if not self._is_quick.is_set():
            self.is_asked.set()
            await self._is_quick.wait()
        return msgspec.json.encode({"items": [self._snapshot["second"]], "metadata": {}})

    async def replace(self, path: str, body: bytes, /) -> bytes:
        route = msgspec.json.decode(body, type=dict[str, object])
        metadata = as_map(route["metadata"])
        name = str(metadata["name"])
        if as_map(self.routes[name]["metadata"])["resourceVersion"] != metadata["resourceVersion"]:
            raise ApiError("update", path, 409, "Conflict", "it has changed")
        self._version += 1
        self.routes[name] = {**route, "metadata": {**metadata, "resourceVersion": str(self._version)}}
        return msgspec.json.encode(self.routes[name])

    async def patch(self, path: str, body: bytes, *, content_type: str) -> bytes:
        raise ApiError("patch", path, 422, "Invalid", "the status is not empty")

    def _route(self, name: str) -> Raw:
        metadata = {"name": name, "namespace": "shop", "uid": name, "generation": 1, "resourceVersion": "1"}
        return {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": metadata,
            "spec": {"parentRefs": [{"name": "public"}]},
        }


def statement(name: str, *, is_resolved: bool) -> Statement:
    said = Condition(type="ResolvedRefs", status=is_resolved, reason="ResolvedRefs")
    parent = ParentReport(parent=ObjectKey("Gateway", "shop", "public"), conditions=(said,))
    report = ObjectReport(object=ObjectKey("HTTPRoute", "shop", name), parents=(parent,))
    return Statement(report=report, generation=1, uid=name)


@pytest.mark.looptime
async def test_what_waits_is_not_dropped_since_the_past_agrees() -> None:
    """As of a Service that is deleted and made anew while statuses are listed."""
    server = Server()
    writer = StatusWriter(
        server, controller="portway.dev/gateway-controller", settings=WriterSettings(audit=timedelta(minutes=1))
    )
    for name in NAMES:
        writer.want(statement(name, is_resolved=True))
    running = asyncio.ensure_future(writer.run())  # noqa: TID251 - the test is its parent
    await asyncio.sleep(5)
    assert [server.condition(name) for name in NAMES] == ["True", "True"]
    server.slow()
    await server.is_asked.wait()
    writer.want(statement("second", is_resolved=False))
    while server.condition("second") != "False":  # noqa: ASYNC110 - what follows waits for the pause after a write
        await asyncio.sleep(0.001)
    writer.want(statement("second", is_resolved=True))
    server.quick()
    await asyncio.sleep(1)
    assert server.condition("second") == "True"
    running.cancel()
    await asyncio.wait([running])
