"""What stands in statuses is looked at again, with the rights that there are."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import msgspec
import pytest
from structlog.testing import capture_logs

from portway.kubernetes.errors import ApiError
from portway.model.condition import Condition, ObjectReport, ParentReport
from portway.objects.verdict import ObjectKey
from portway.status.merge import Statement
from portway.status.programmed import ROUTE_PROGRAMMED
from portway.status.raw import Raw, as_list, as_map
from portway.status.writer import StatusWriter, WriterSettings

OURS = "portway.dev/gateway-controller"
GROUP = "/apis/gateway.networking.k8s.io/v1"
ROUTE = ObjectKey("HTTPRoute", "shop", "cart")
ENTRY = {
    "parentRef": {"name": "public"},
    "controllerName": OURS,
    "conditions": [
        {
            "type": "Accepted",
            "status": "True",
            "reason": "Accepted",
            "message": "",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ],
}
LEFT_US = Statement(report=ObjectReport(object=ROUTE, ours=False), generation=1, uid="u")
IS_OURS = Statement(
    report=ObjectReport(
        object=ROUTE,
        parents=(
            ParentReport(
                parent=ObjectKey("Gateway", "shop", "public"),
                conditions=(Condition(type="Accepted", status=True, reason="Accepted"),),
            ),
        ),
    ),
    generation=1,
    uid="u",
)
SETTINGS = WriterSettings(audit=timedelta(minutes=1))


class Server:
    """One route, and who may list it: in which namespaces, empty for all of them at once."""

    def __init__(self, *listable: str, parent: str) -> None:
        self.listable = listable
        self.says_nonsense = False
        self.route: Raw = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "cart", "namespace": "shop", "uid": "u", "generation": 1, "resourceVersion": "7"},
            "spec": {"parentRefs": [{"name": parent}]},
            "status": {"parents": [ENTRY]},
        }

    @property
    def parents(self) -> list[object]:
        return list(as_list(as_map(self.route["status"]).get("parents")))

    def lose_status(self) -> None:
        """As when an older state of etcd is restored."""
        self.route = {**self.route, "status": {"parents": []}}

    async def get(self, path: str, params: Mapping[str, str] = {}, /) -> bytes:
        if self.says_nonsense:
            return b"<html>"
        if path.endswith("/cart"):
            return msgspec.json.encode(self.route)
        collections = {
            f"{GROUP}/namespaces/{one}/httproutes" if one else f"{GROUP}/httproutes" for one in self.listable
        }
        if path not in collections:
            raise ApiError("list", path, 403, "Forbidden", "it may not")
        return msgspec.json.encode({"items": [self.route], "metadata": {}})

    async def replace(self, path: str, body: bytes, /) -> bytes:
        self.route = msgspec.json.decode(body)
        return body

    async def patch(self, path: str, body: bytes, *, content_type: str) -> bytes:
        raise ApiError("patch", path, 422, "Invalid", "the status is not empty")


@asynccontextmanager
async def writing(server: Server, statement: Statement, *namespaces: str) -> AsyncIterator[None]:
    writer = StatusWriter(server, controller=OURS, namespaces=namespaces, settings=SETTINGS, chance=lambda: 0.25)
    writer.want(statement)
    running = asyncio.ensure_future(writer.run())  # noqa: TID251 - the test is its parent
    await asyncio.sleep(5)
    yield
    running.cancel()
    await asyncio.wait([running])


RIGHTS = {
    "everywhere": (("",), ()),
    "in the namespaces that are watched": (("shop", "pay"), ("pay", "shop")),
    "in some of them": (("pay",), ("pay", "shop")),
    "nowhere": ((), ()),
}


@pytest.mark.looptime
@pytest.mark.parametrize(("listable", "watched"), RIGHTS.values(), ids=RIGHTS.keys())
async def test_what_a_former_life_left_behind_is_removed(listable: tuple[str, ...], watched: tuple[str, ...]) -> None:
    server = Server(*listable, parent="somebody-elses")
    async with writing(server, LEFT_US, *watched):
        assert server.parents == []


@pytest.mark.looptime
@pytest.mark.parametrize(("listable", "watched"), RIGHTS.values(), ids=RIGHTS.keys())
async def test_a_status_that_was_lost_is_written_again(listable: tuple[str, ...], watched: tuple[str, ...]) -> None:
    server = Server(*listable, parent="public")
    async with writing(server, IS_OURS, *watched):
        assert len(server.parents) == 1
        server.lose_status()
        await asyncio.sleep(80)
        assert len(server.parents) == 1


@pytest.mark.looptime
async def test_that_statuses_may_not_be_listed_is_said_once() -> None:
    with capture_logs() as said:
        async with writing(Server(parent="public"), IS_OURS, "shop"):
            await asyncio.sleep(300)
    found = [one for one in said if "cannot be listed" in str(one["event"])]
    assert [(one["resource"], one["namespace"]) for one in found] == [("httproutes", "shop")]


@pytest.mark.looptime
async def test_that_they_may_be_listed_where_they_are_watched_is_enough() -> None:
    with capture_logs() as said:
        async with writing(Server("shop", parent="public"), IS_OURS, "shop"):
            await asyncio.sleep(300)
    assert [one for one in said if one["log_level"] in ("warning", "error")] == []


@pytest.mark.looptime
async def test_an_answer_that_is_no_list_is_an_outage_like_others() -> None:
    """As from a proxy between that answers in HTML."""
    server = Server("", parent="public")
    async with writing(server, IS_OURS):
        server.says_nonsense = True
        server.lose_status()
        await asyncio.sleep(80)
        assert server.parents == []
        server.says_nonsense = False
        await asyncio.sleep(80)
        assert len(server.parents) == 1


@pytest.mark.looptime
@pytest.mark.parametrize("stands", [False, True])
async def test_a_new_leader_says_programmed_when_it_has_heard_of_all_proxies(stands: bool) -> None:
    promise = Condition(type=ROUTE_PROGRAMMED, status=True, reason="Programmed")
    (parent,) = IS_OURS.report.parents
    told = msgspec.structs.replace(parent, conditions=(*parent.conditions, promise))
    statement = msgspec.structs.replace(IS_OURS, report=msgspec.structs.replace(IS_OURS.report, parents=(told,)))
    server = Server("", parent="public")
    if stands:
        accepted = as_map(as_list(ENTRY["conditions"])[0])
        conditions = [accepted, {**accepted, "type": ROUTE_PROGRAMMED, "reason": "Programmed"}]
        server.route = {**server.route, "status": {"parents": [{**ENTRY, "conditions": conditions}]}}

    def programmed() -> object:
        (entry,) = server.parents
        return {as_map(one)["type"]: as_map(one)["status"] for one in as_list(as_map(entry)["conditions"])}

    settings = WriterSettings(heard=timedelta(seconds=3))
    writer = StatusWriter(server, controller=OURS, settings=settings, chance=lambda: 0.25)
    writer.want(statement)
    running = asyncio.ensure_future(writer.run())  # noqa: TID251 - the test is its parent
    await asyncio.sleep(2)
    assert programmed() == {"Accepted": "True", ROUTE_PROGRAMMED: str(stands)}
    await asyncio.sleep(2)
    assert programmed() == {"Accepted": "True", ROUTE_PROGRAMMED: "True"}
    running.cancel()
    await asyncio.wait([running])
