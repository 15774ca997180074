"""The first status of a new route, and a real API server: one request, and nobody's words are lost."""

from collections.abc import Mapping

import msgspec
import pytest

from portway.kubernetes.errors import ApiError
from portway.model.condition import Condition, ObjectReport, ParentReport
from portway.objects.verdict import ObjectKey
from portway.status.first import first_status
from portway.status.merge import Statement
from portway.status.raw import as_map, as_text, uid_of
from tests.cluster.control_plane import ControlPlane
from tests.status.test_writer_on_api_server import GATEWAY_GROUP, ODD, OURS, World, at_work, plane

__all__ = ["plane"]
pytestmark = pytest.mark.cluster

HTTPROUTE = """
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: %s},
  spec: {parentRefs: [{name: web, sectionName: a}, {name: theirs}, {name: web, namespace: default, port: 80}]}}
"""
CONDITIONS = (Condition(type="Accepted", status=True, reason="Accepted"),)
WEB = ObjectKey("Gateway", "default", "web")


def key_of(name: str) -> ObjectKey:
    return ObjectKey("HTTPRoute", "default", name)


def statement(name: str, uid: str, *, conditions: tuple[Condition, ...] = CONDITIONS) -> Statement:
    parents = (
        ParentReport(parent=WEB, section="a", index=0, conditions=conditions),
        ParentReport(parent=WEB, port=80, index=2, conditions=conditions),
    )
    return Statement(report=ObjectReport(object=key_of(name), parents=parents), generation=1, uid=uid)


async def create(world: World, name: str) -> str:
    """A new route; its uid."""
    await world.writer.drained()  # it has looked at what there is
    await world.admin.apply(HTTPROUTE % name)
    return uid_of(await world.read(key_of(name)))


def asked(world: World) -> Mapping[tuple[str, str], int]:
    """Requests about statuses of routes, but for lists."""
    requests = world.client.statistics().requests
    return {what: number for what, number in requests.items() if what[1].startswith("httproutes") and what[0] != "list"}


async def test_it_is_one_request_and_names_parents_as_their_owner_does(plane: ControlPlane) -> None:
    async with at_work(plane) as world:
        uid = await create(world, "new")
        world.writer.want(statement("new", uid))
        await world.writer.drained()
        gateway = {"group": GATEWAY_GROUP, "kind": "Gateway", "name": "web"}
        assert [entry["parentRef"] for entry in await world.parents(key_of("new"))] == [
            {**gateway, "sectionName": "a"},
            {**gateway, "namespace": "default", "port": 80},
        ]
        assert asked(world) == {("patch", "httproutes/status"): 1}
        # What is said next needs no reading either.
        world.writer.want(statement("new", uid, conditions=(Condition(type="Accepted", status=False, reason="No"),)))
        await world.writer.drained()
        assert asked(world) == {("patch", "httproutes/status"): 1, ("update", "httproutes/status"): 1}


async def test_who_spoke_first_is_not_overwritten(plane: ControlPlane) -> None:
    async with at_work(plane) as world:
        uid = await create(world, "spoken-of")
        theirs = {
            "parentRef": {"group": GATEWAY_GROUP, "kind": "Gateway", "name": "theirs"},
            "controllerName": "other.example/controller",
            "conditions": [ODD],
        }
        await world.write_status(key_of("spoken-of"), {"parents": [theirs]})
        world.writer.want(statement("spoken-of", uid))
        await world.writer.drained()
        found = await world.parents(key_of("spoken-of"))
        assert found[0] == theirs
        assert [as_text(entry["controllerName"]) for entry in found[1:]] == [OURS, OURS]
        assert world.writer.statistics().reads == 1


async def test_many_controllers_that_come_at_once_all_find_their_words(plane: ControlPlane) -> None:
    async with at_work(plane) as one, at_work(plane, controller="other.example/controller") as other:
        for number in range(10):
            name = f"contested-{number}"
            uid = await create(one, name)
            one.writer.want(statement(name, uid))
            other.writer.want(statement(name, uid))
        await one.writer.drained()
        await other.writer.drained()
        for number in range(10):
            entries = await one.parents(key_of(f"contested-{number}"))
            assert {as_text(entry["controllerName"]) for entry in entries} == {OURS, "other.example/controller"}


@pytest.mark.parametrize("uid", ["another", ""], ids=["another object of that name", "it is not known which"])
async def test_an_object_that_is_not_meant_or_not_known_is_read(plane: ControlPlane, uid: str) -> None:
    async with at_work(plane) as world:
        name = f"other-{bool(uid)}".lower()
        await create(world, name)
        world.writer.want(statement(name, uid))
        await world.writer.drained()
        assert world.writer.statistics().reads == 1
        # What is known to be about another object is not written.
        assert len(await world.parents(key_of(name))) == (0 if uid else 2)


async def test_a_newer_generation_is_read(plane: ControlPlane) -> None:
    async with at_work(plane) as world:
        uid = await create(world, "moved")
        path = f"/apis/{GATEWAY_GROUP}/v1/namespaces/default/httproutes/moved"
        await world.admin.patch(path, {"spec": {"parentRefs": [{"name": "web", "sectionName": "a"}]}})
        world.writer.want(statement("moved", uid))
        await world.writer.drained()
        found = await world.parents(key_of("moved"))
        # The parent that the spec does not name any more gets no entry.
        assert [as_map(entry["parentRef"]).get("sectionName") for entry in found] == ["a"]


async def test_without_the_right_to_patch_it_reads(plane: ControlPlane) -> None:
    class Strict:
        """A server that forbids to patch."""

        def __init__(self, world: World) -> None:
            self.get, self.replace = world.client.get, world.client.replace
            self.patched = 0

        async def patch(self, path: str, body: bytes, *, content_type: str) -> bytes:
            del body, content_type
            self.patched += 1
            raise ApiError("patch", path, 403, "Forbidden", "not you")

    async with at_work(plane) as world:
        api = Strict(world)
        async with at_work(plane, api=api) as strict:
            for name in ("strict-1", "strict-2"):
                strict.writer.want(statement(name, await create(strict, name)))
                await strict.writer.drained()
                assert len(await strict.parents(key_of(name))) == 2
            assert api.patched == 1


def test_it_says_what_a_merge_says() -> None:
    said = statement("new", "u")
    merged, patch = first_status(said, controller=OURS, now="NOW")
    operations = msgspec.json.decode(patch)
    assert operations[3] == {"op": "add", "path": "/status", "value": merged.status}
    assert [one["from"] for one in operations[4:]] == ["/spec/parentRefs/0", "/spec/parentRefs/2"]
