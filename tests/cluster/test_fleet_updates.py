"""Another version of all proxies, and who fights over their objects: fleets against a real API server."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from portway.model.fleet import Fleet
from tests.cluster.api import Api, Refused
from tests.cluster.control_plane import ControlPlane
from tests.cluster.fleet_world import LIMIT, NAMESPACE, WHOLE, World, fleet, fleet_plane, part, portway
from tests.kubernetes.planes import client_of

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    yield from fleet_plane(tmp_path_factory.mktemp("fleets"))


class _Meta(msgspec.Struct, frozen=True):
    name: str


class _Status(msgspec.Struct, frozen=True):
    phase: str = ""


class _Container(msgspec.Struct, frozen=True):
    image: str


class _PodSpec(msgspec.Struct, frozen=True):
    containers: tuple[_Container, ...]


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: _PodSpec
    status: _Status = _Status()


class _Pods(msgspec.Struct, frozen=True):
    items: tuple[_Pod, ...]


@asynccontextmanager
async def kubelet(plane: ControlPlane) -> AsyncIterator[asyncio.Event]:
    """Says of all pods that they are ready; but of those of image `portway:2` only when the event is set."""
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    starts = asyncio.Event()

    async def run() -> None:
        async with Api(plane.administrator) as api:
            while True:
                for pod in (await api.get(pods, _Pods)).items:
                    if pod.status.phase != "Running" and (
                        pod.spec.containers[0].image != "portway:2" or starts.is_set()
                    ):
                        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
                        with suppress(Refused):  # it is gone
                            await api.patch(f"{pods}/{pod.metadata.name}/status", {"status": ready})
                await asyncio.sleep(0.05)

    task = asyncio.ensure_future(run())  # noqa: TID251 - ended below
    try:
        yield starts
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


CONTROLLERS = 90.0
"""Seconds for what the cluster's own controllers do, which start with the test, on a busy machine."""
FIVE = ("one", "two", "three", "four", "five")


def images(world: World, names: Sequence[str]) -> list[str]:
    """Of the fleets' Deployments, each once."""
    text = world.plane.kubectl(
        "get", "deployment", "-n", NAMESPACE, *(f"portway-{name}" for name in names),
        "-o", "jsonpath={range .items[*]}{.spec.template.spec.containers[0].image} {end}",
    )  # fmt: skip
    return sorted(text.split())


def all_of(names: Sequence[str], **more: Mapping[str, object]) -> Mapping[str, Fleet]:
    wanted: dict[str, Fleet] = {}
    for name in names:
        wanted.update(fleet(name, parameters=more.get(name)))
    return wanted


async def test_another_version_goes_to_a_few_fleets_at_a_time(plane: ControlPlane) -> None:
    async with kubelet(plane) as starts:
        async with portway(plane, "rolls", image="portway:1") as world:
            world.applier.want(all_of(FIVE))
            await world.settled()
            await world.until(lambda: all(one.is_settled for one in world.workloads()), seconds=CONTROLLERS)
        # The control plane has been updated. Its proxies do not start, for now.
        async with portway(plane, "rolls", image="portway:2") as world:
            await world.until(lambda: world.inventory.is_listed)
            world.applier.want(all_of(FIVE))
            await world.until(lambda: world.applier.statistics().to_update == 2)
            await world.until(lambda: images(world, FIVE) == ["portway:1"] * 2 + ["portway:2"] * 3)
            waiting = [name for name in FIVE if world.observed[f"gateway/{NAMESPACE}/{name}"].waiting]
            assert len(waiting) == 2
            # What users want waits for nobody.
            world.applier.want(all_of(["sixth", waiting[0]], **{waiting[0]: {"pod": {"labels": {"a": "b"}}}}))
            await world.until(lambda: world.applier.statistics().to_update == 1)
            await world.until(lambda: world.kinds("portway-sixth") == WHOLE)
            await world.until(lambda: images(world, FIVE) == ["portway:1"] + ["portway:2"] * 4)
            # They start.
            starts.set()
            await world.until(lambda: world.applier.statistics().updating == 0, seconds=CONTROLLERS)
            await world.settled()
            assert images(world, FIVE) == ["portway:2"] * 5
            assert not any(observed.waiting or observed.failed for observed in world.observed.values())


async def test_an_update_that_gets_stuck_is_told_and_the_next_one_follows(plane: ControlPlane) -> None:
    names = [f"stuck-{name}" for name in FIVE]
    async with kubelet(plane) as starts:
        async with portway(plane, "stuck", image="portway:1") as world:
            world.applier.want(all_of(names))
            await world.until(
                lambda: len(world.workloads()) == 5 and all(one.is_settled for one in world.workloads()),
                seconds=CONTROLLERS,
            )
        async with portway(plane, "stuck", image="portway:2") as world:
            await world.until(lambda: world.inventory.is_listed)
            world.applier.want(all_of(names))
            await world.until(lambda: world.applier.statistics().to_update == 2)
            await world.until(lambda: sum(one.updated == 1 for one in world.workloads()) == 3, seconds=CONTROLLERS)
            world.ahead += 601
            world.applier.want(all_of(["stuck-more"]))
            await world.until(lambda: world.applier.statistics().to_update == 0)
            await world.until(lambda: images(world, names) == ["portway:2"] * 5)
            told = [observed.failed for observed in world.observed.values() if observed.failed]
            assert len(told) == 3
            assert "got no further with its update: 1 of 2 proxies are new, 2 are ready" in told[0]
            starts.set()
            await world.until(
                lambda: not any(observed.failed for observed in world.observed.values()), seconds=CONTROLLERS
            )


async def test_parameters_of_a_class_go_to_a_few_fleets_at_a_time(plane: ControlPlane) -> None:
    async with kubelet(plane), portway(plane, "class", image="portway:2") as world:

        def want(*names: str, **said: Mapping[str, object]) -> None:
            for name in names:
                world.applier.want(fleet(f"class-{name}", of_class=said))

        # These pods never start.
        want("one", "two", "three", "four")
        want("five", workload={"type": "DaemonSet"})
        await world.until(lambda: len(world.workloads()) == 4)
        # More of the same is no update.
        want("one", "two", "three", "four", workload={"replicas": 3})
        await world.until(lambda: all(one.wanted == 3 for one in world.workloads()))
        assert world.applier.statistics().updating == 0
        want("one", "two", "three", pod={"labels": {"a": "b"}})
        await world.until(lambda: world.applier.statistics().updating == 3)
        # So is a workload that takes the place of another; what is there stays until then.
        want("four", workload={"type": "DaemonSet"}, container={"hostPorts": True})
        want("five")
        await world.until(lambda: world.applier.statistics().to_update == 2)
        await world.settled()
        assert {"deployment", "service"} <= world.kinds("portway-class-four")
        assert {"daemonset", "service"} <= world.kinds("portway-class-five")
        assert not {"daemonset"} & world.kinds("portway-class-four")
        assert not {"deployment"} & world.kinds("portway-class-five")
        assert not any(observed.failed for observed in world.observed.values())


async def test_who_fights_over_a_field_is_named_and_answered_ever_more_rarely(plane: ControlPlane) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/services/portway-fought"
    fights = 0

    async def fight() -> None:
        nonlocal fights
        theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "portway-fought"}}
        body = msgspec.json.encode({**theirs, "spec": {"type": "ClusterIP"}})
        client = client_of(plane.administrator)
        try:
            while True:
                found = msgspec.json.decode(await client.get(path))
                if found["spec"]["type"] != "ClusterIP":
                    await client.apply(path, body, manager="meddler")
                    fights += 1
                await asyncio.sleep(0.01)
        finally:
            await client.close()

    async with portway(plane, "fought") as world:
        world.applier.want(fleet("fought"))
        await world.settled()
        before = world.applier.statistics().applied
        task = asyncio.ensure_future(fight())  # noqa: TID251 - ended below
        try:
            name = f"gateway/{NAMESPACE}/fought"
            await world.until(lambda: "changed again and again" in world.observed[name].failed)
            assert world.observed[name].failed.startswith(
                f"Service {NAMESPACE}/portway-fought: spec.type: changed again and again by meddler"
            )
            # Other objects, of this fleet and of others, are changed at once.
            began = time.monotonic()
            world.applier.want({**fleet("fought", parameters={"workload": {"replicas": 3}}), **fleet("beside")})
            await world.until(
                lambda: (
                    part(world.get("deployment", "portway-fought"), "spec", "replicas") == 3
                    and world.kinds("portway-beside") == WHOLE
                )
            )
            assert time.monotonic() - began < LIMIT / 2
            await asyncio.sleep(4)
            # 0, 1, 3 and 7 seconds after the first.
            assert 2 <= fights <= 5
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        # It is quiet.
        await world.until(lambda: part(world.get("service", "portway-fought"), "spec", "type") == "LoadBalancer")
        await world.settled()
        world.ahead += 3600
        world.applier.want(fleet("after"))
        await world.until(lambda: not world.observed[name].failed)
        assert world.applier.statistics().applied - before < 30
