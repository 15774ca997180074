"""Leader election, Events and the exchange between replicas, against a real API server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta

import msgspec
import pytest

from portway.model.condition import Condition, ListenerReport, ObjectReport, Reported, Serving
from portway.model.names import SocketKey
from portway.model.resource import ResourceDelta
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.status.events import EventWriter
from portway.status.exchange import Exchange
from portway.status.leader import Elector
from portway.status.lease import LeaseSettings
from portway.status.news import NewsDesk
from portway.status.raw import Raw, as_list, as_map, as_text
from portway.status.replicas import Replicas, Teller
from portway.status.served import ServedVersions
from portway.status.service import StatusService
from portway.status.writer import StatusWriter
from tests.cluster.api import Api
from tests.cluster.control_plane import Component, ControlPlane
from tests.kubernetes.planes import client_of, running_plane
from tests.xds.conversation import Conversation
from tests.xds.wanted import listener, routes

pytestmark = pytest.mark.cluster

QUICK = LeaseSettings(
    duration=timedelta(seconds=3), renew_within=timedelta(seconds=2), retry=timedelta(milliseconds=400)
)
GATEWAY = ObjectKey("Gateway", "default", "led")
MANIFESTS = """
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: led},
  spec: {gatewayClassName: portway, listeners: [{name: http, port: 80, protocol: HTTP}]}}
"""
FLEET = "gateway/default/led"
SERVED = ServedVersions()
"""The first ones."""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    yield from running_plane(tmp_path_factory.mktemp("plane"), "standard")


async def until(condition: Callable[[], bool], seconds: float = 20) -> float:
    """Waits for it; how long that was."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - several parts are asked
            await asyncio.sleep(0.005)
    return loop.time() - began


class Candidate:
    """A replica that wants to lead."""

    def __init__(self, plane: ControlPlane, lease: str, name: str, settings: LeaseSettings = QUICK) -> None:
        self.client = client_of(plane.administrator)
        self.leads = False
        self.elector = Elector(
            self.client, namespace="default", name=lease, identity=name, address=f"{name}:1", settings=settings
        )
        self.task = asyncio.ensure_future(self.elector.run(self.lead))  # noqa: TID251 - ended by `stop`

    async def lead(self) -> None:
        self.leads = True
        try:
            await asyncio.Event().wait()
        finally:
            self.leads = False

    async def stop(self) -> None:
        """A clean end."""
        self.task.cancel()
        await asyncio.wait([self.task])
        await self.client.close()


async def test_one_leads_and_hands_over_in_no_time(plane: ControlPlane) -> None:
    first, second = Candidate(plane, "hand-over", "first"), Candidate(plane, "hand-over", "second", LeaseSettings())
    await until(lambda: first.leads or second.leads)
    leader, follower = (first, second) if first.leads else (second, first)
    await asyncio.sleep(1)
    assert not follower.leads
    assert follower.elector.held.address == f"{'first' if leader is first else 'second'}:1"
    stopped = asyncio.ensure_future(leader.stop())  # noqa: TID251 - awaited below
    took = await until(lambda: follower.leads)
    assert took < 1
    assert not leader.leads
    await stopped
    await follower.stop()


async def test_a_leader_that_dies_is_followed(plane: ControlPlane) -> None:
    first = Candidate(plane, "death", "first")
    await until(lambda: first.leads)
    second = Candidate(plane, "death", "second")
    await asyncio.sleep(1)
    assert not second.leads
    # Its requests do not arrive any more: so it gives up before the other begins.
    broken = asyncio.ensure_future(cut_off(first))  # noqa: TID251 - awaited below
    await until(lambda: not first.leads)
    assert not second.leads
    took = await until(lambda: second.leads)
    assert took < 3
    await broken
    await first.stop()
    await second.stop()


async def cut_off(candidate: Candidate) -> None:
    """The network between it and the API server is gone."""
    candidate.client.connection = msgspec.structs.replace(candidate.client.connection, server="https://127.0.0.1:1")
    await candidate.client.close()


async def test_an_outage_ends_leadership_and_it_comes_back(plane: ControlPlane) -> None:
    only = Candidate(plane, "outage", "only")
    await until(lambda: only.leads)
    plane.pause(Component.API_SERVER)
    try:
        took = await until(lambda: not only.leads)
        assert took < QUICK.renew_within.total_seconds() + 1
        assert not only.elector.is_leader
    finally:
        plane.resume(Component.API_SERVER)
    await until(lambda: only.leads, 70)
    await only.stop()


async def test_two_controllers_do_not_meet(plane: ControlPlane) -> None:
    ours, theirs = Candidate(plane, "ours", "a"), Candidate(plane, "theirs", "b")
    await until(lambda: ours.leads and theirs.leads)
    await ours.stop()
    await theirs.stop()


async def test_events_are_written_once_and_counted(plane: ControlPlane) -> None:
    client = client_of(plane.administrator)
    desk = NewsDesk()
    writer = EventWriter(client, desk, controller="portway.dev/gateway-controller", instance="replica-a")
    key = ObjectKey("GatewayClass", "", "portway")
    verdict = Verdict(object=key, severity=Severity.ERROR, reason="InvalidParameters", problem="x", remedy="y")
    running = asyncio.ensure_future(writer.run())  # noqa: TID251 - the test is its parent
    for number in range(3):
        desk.judged(ObjectReport(object=key, verdicts=(verdict,)), "8c6f5a3e-0000-4000-8000-000000000000", 0.0)
        await until(lambda: writer.written > number)  # noqa: B023 - awaited before the next
        desk.judged(ObjectReport(object=key), "8c6f5a3e-0000-4000-8000-000000000000", 0.0)
    async with Api(plane.administrator) as api:
        answer = await api.request("GET", "/apis/events.k8s.io/v1/namespaces/default/events")
    running.cancel()
    await asyncio.wait([running])
    await client.close()
    items = as_list(msgspec.json.decode(answer, type=dict[str, object])["items"])
    (event,) = [as_map(item) for item in items if as_map(as_map(item)["regarding"]).get("kind") == "GatewayClass"]
    assert (event["type"], event["reason"], event["note"]) == ("Warning", "InvalidParameters", "x; y")
    assert as_map(event["series"])["count"] == 3


class Member:
    """A whole replica: proxies of its own, status service, election, exchange."""

    def __init__(self, plane: ControlPlane, name: str) -> None:
        self.name = name
        self.client = client_of(plane.administrator)
        self.talk = Conversation()
        self.replicas, self.teller = Replicas(), Teller()
        self.writer = StatusWriter(
            self.client, controller="portway.dev/gateway-controller", may_write=lambda: self.elector.is_leader
        )
        self.service = StatusService(
            lambda: {FLEET: self.talk.fleet}, self.writer, replicas=self.replicas, teller=self.teller
        )
        self.exchange = Exchange(
            self.replicas,
            self.teller,
            identity=name,
            on_heard=self.service.others_said,
            on_change=self.service.others_changed,
            authorize=lambda peer: True,
            client=None,
        )
        self.service.use(self.exchange)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Member"]:
        port = await self.exchange.start("127.0.0.1", 0, None)
        self.elector = Elector(
            self.client,
            namespace="default",
            name="members",
            identity=self.name,
            address=f"127.0.0.1:{port}",
            settings=QUICK,
        )
        task = asyncio.ensure_future(self._run())  # noqa: TID251 - ended below
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])
            await self.exchange.stop()
            await self.client.close()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.service.run())
            tasks.create_task(self.exchange.follow(self.elector))
            tasks.create_task(self.elector.run(self._lead))

    async def _lead(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.writer.run())
            tasks.create_task(self.exchange.lead())

    def hears(self, other: "Member") -> bool:
        """Whether it knows of the other's proxies."""
        return any(one.name == other.name and one.proxies for one in self.replicas.statistics())

    def publish(self, number: int, generation: int) -> None:
        """Compile the same as everybody."""
        delta = ResourceDelta(changed=(listener("127.0.0.1:80/tcp", "web", number=number), routes("web")))
        self.talk.apply_delta(delta)
        self.service.published(FLEET, delta)
        promise = Condition(type="Programmed", status=True, reason="Programmed")
        serving = Serving(sockets=(SocketKey(FLEET, "127.0.0.1", 80),))
        report = ObjectReport(
            object=GATEWAY,
            conditions=(promise,),
            listeners=(ListenerReport(name="http", conditions=(promise,), serving=serving),),
            serving=(serving,),
        )
        self.service.reported([Reported(report=report, generation=generation)])

    def acknowledge(self) -> None:
        """Let the proxies answer."""
        heard = len(self.talk.outcomes)
        self.talk.settle()
        for outcome in self.talk.outcomes[heard:]:
            self.service.answered(FLEET, "proxy", outcome)


async def programmed(api: Api) -> tuple[str, int, str]:
    found: Raw = msgspec.json.decode(await api.request("GET", SERVED.object(GATEWAY)), type=dict[str, object])
    for entry in map(as_map, as_list(as_map(found.get("status")).get("conditions"))):
        if entry["type"] == "Programmed":
            generation = entry.get("observedGeneration")
            return as_text(entry["status"]), generation if isinstance(generation, int) else 0, as_text(entry["message"])
    return "", 0, ""


async def reads(api: Api, status: str, generation: int) -> None:
    found = await programmed(api)
    for _ in range(500):
        if found[:2] == (status, generation):
            return
        await asyncio.sleep(0.02)
        found = await programmed(api)
    raise AssertionError(f"Programmed is {found}, not {status} of generation {generation}")


async def test_programmed_waits_for_the_proxies_of_all_replicas(plane: ControlPlane) -> None:
    async with Api(plane.administrator) as api, Member(plane, "second").running() as second:
        await api.apply(MANIFESTS)
        await until(lambda: second.elector.is_leader)
        async with Member(plane, "first").running() as first:
            await until(lambda: second.hears(first))
            # `second` leads, `first` follows.
            for member in (first, second):
                member.publish(1, 1)
            second.acknowledge()
            await reads(api, "False", 1)
            await asyncio.sleep(0.3)
            assert (await programmed(api))[0] == "False", "the follower's proxy has not answered"
            first.acknowledge()
            await reads(api, "True", 1)

            await api.patch(
                SERVED.object(GATEWAY), {"spec": {"listeners": [{"name": "http", "port": 81, "protocol": "HTTP"}]}}
            )
            for member in (first, second):
                member.publish(2, 2)
            first.acknowledge()
            await reads(api, "False", 2)
            second.acknowledge()
            await reads(api, "True", 2)

            # Another proxy connects to the follower and has everything to read: nothing flaps.
            first.talk.fleet.connect("another", first.talk.now)
            await asyncio.sleep(1.0)
            assert (await programmed(api))[:2] == ("True", 2)
        # The follower is gone, and its proxies with it: they are awaited no more.
        await api.patch(
            SERVED.object(GATEWAY), {"spec": {"listeners": [{"name": "http", "port": 82, "protocol": "HTTP"}]}}
        )
        second.publish(3, 3)
        second.acknowledge()
        await reads(api, "True", 3)
        await api.delete_manifests(MANIFESTS)


async def test_the_next_leader_knows_what_the_last_one_knew(plane: ControlPlane) -> None:
    async with Api(plane.administrator) as api, Member(plane, "third").running() as third:
        await api.apply(MANIFESTS)
        await until(lambda: third.elector.is_leader)
        async with Member(plane, "fourth").running() as fourth:
            await until(lambda: third.hears(fourth))
            async with Member(plane, "fifth").running() as fifth:
                await until(lambda: third.hears(fifth))
                members = (third, fourth, fifth)
                for member in members:
                    member.publish(1, 1)
                    member.acknowledge()
                await reads(api, "True", 1)
                spec = {"listeners": [{"name": "http", "port": 81, "protocol": "HTTP"}]}
                await api.patch(SERVED.object(GATEWAY), {"spec": spec})
                await cut_off_member(third)
                await until(lambda: fourth.elector.is_leader or fifth.elector.is_leader)
                leader, follower = (fourth, fifth) if fourth.elector.is_leader else (fifth, fourth)
                await until(lambda: leader.hears(follower))
                for member in (leader, follower):
                    member.publish(2, 2)
                leader.acknowledge()
                await reads(api, "False", 2)
                follower.acknowledge()
                await reads(api, "True", 2)
        await api.delete_manifests(MANIFESTS)


async def cut_off_member(member: Member) -> None:
    """The API server does not hear it any more, nor do its followers."""
    member.client.connection = msgspec.structs.replace(member.client.connection, server="https://127.0.0.1:1")
    await member.client.close()
