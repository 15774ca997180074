"""All of Portway before an API server whose watches hang, end, repeat or skip events, and which answers 429 and 500.

What the reflector does about each is in `tests/kubernetes/test_reflector.py`; here it costs no request, and what is
declared is served when it is over. One pod of the backend always stays where it is: who is kept from hearing of the
others has that to send to.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from portway.kubernetes.client import IDLE
from tests.cluster.cluster import MiniCluster
from tests.cluster.portway_in import Shop, route
from tests.cluster.test_outside import Outside, outside
from tests.kit.client import fetch
from tests.kubernetes.faulty import FaultyServer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

FAULT_S = 10.0
RECOVERY_S = 40.0
"""The longest wait of a watch that failed again and again, and some for a busy machine."""


class Case(msgspec.Struct, frozen=True):
    """A fault, for as long as its context lasts."""

    fault: Callable[[FaultyServer], AbstractAsyncContextManager[None]]
    is_followed: bool = False
    """What is declared meanwhile is served meanwhile."""
    is_noticed: bool = True
    """Portway finds out what it missed by itself; else by the next change of an object, or the hourly list."""
    recovery: float = RECOVERY_S
    """Seconds until it has found out."""


@asynccontextmanager
async def all_hangs(server: FaultyServer) -> AsyncIterator[None]:
    server.hang()
    try:
        yield
    finally:
        server.go_on()


@asynccontextmanager
async def watches_die(server: FaultyServer) -> AsyncIterator[None]:
    server.let_die()
    yield


@asynccontextmanager
async def watches_are_cut(server: FaultyServer) -> AsyncIterator[None]:
    async def cut() -> None:
        while True:
            server.cut()
            await asyncio.sleep(0.5)

    async with asyncio.TaskGroup() as tasks:
        cutting = tasks.create_task(cut())
        yield
        cutting.cancel()


class _Kind(msgspec.Struct, frozen=True):
    kind: str


class _Line(msgspec.Struct, frozen=True):
    type: str
    object: _Kind


@asynccontextmanager
async def edited(server: FaultyServer, edit: Callable[[_Line, bytes], Iterable[bytes]]) -> AsyncIterator[None]:
    before = server.edit
    server.edit = lambda line: edit(msgspec.json.decode(line, type=_Line), line)
    try:
        yield
    finally:
        server.edit = before


def events_repeat(server: FaultyServer) -> AbstractAsyncContextManager[None]:
    told: defaultdict[str, list[bytes]] = defaultdict(list)

    def repeat(said: _Line, line: bytes) -> Iterable[bytes]:
        of_kind = told[said.object.kind]
        of_kind.append(line)
        return [*of_kind[-3:], *reversed(of_kind[-20:])]

    return edited(server, repeat)


def events_are_left_out(server: FaultyServer) -> AbstractAsyncContextManager[None]:
    return edited(server, lambda said, line: (line,) if said.type == "BOOKMARK" else ())


def answers(status: int) -> Callable[[FaultyServer], AbstractAsyncContextManager[None]]:
    """To whatever it is asked. Watches end first, so that there is something to ask."""

    @asynccontextmanager
    async def fault(server: FaultyServer) -> AsyncIterator[None]:
        before = server.intercept
        server.intercept = lambda request: web.Response(status=status, headers={"Retry-After": "1"})
        server.cut()
        try:
            yield
        finally:
            server.intercept = before

    return fault


CASES = {
    "the server hangs": Case(all_hangs),
    "watches say nothing more": Case(watches_die, recovery=IDLE + RECOVERY_S),
    "watches are cut": Case(watches_are_cut, is_followed=True),
    "events repeat and come late": Case(events_repeat, is_followed=True),
    "events are left out": Case(events_are_left_out, is_noticed=False),
    "429": Case(answers(429)),
    "500": Case(answers(500)),
}


class World:
    """A Portway outside, whose API server has faults, and what the cluster knows."""

    def __init__(self, running: Outside) -> None:
        self.cluster = running.cluster
        self.shop = Shop(running.cluster, running.namespace, "127.0.0.1")
        self.gateway = running.gateway
        self.ports = (running.http, running.gateway)

    async def scale(self, replicas: int) -> None:
        await self.shop.scale("a", replicas)
        await self.shop.pods("app=a", count=replicas)

    async def roll_all_but_one(self) -> None:
        _, *going = pods = await self.shop.pods("app=a")
        for pod in going:
            await self.cluster.api.delete(pod.path)
            await self.cluster.wait_gone(pod.path)
            await self.shop.pods("app=a", count=len(pods))

    async def declare(self) -> None:
        """A route that comes and one that goes."""
        await self.shop.apply(route("comes", ("/", "a"), hosts=["comes.test"]))
        await self.cluster.api.delete(self.shop.path("httproutes", "goes"))

    async def change_all(self) -> None:
        """Once more, what `declare` and `roll_all_but_one` changed."""
        await self.cluster.api.patch(
            self.shop.path("httproutes", "comes"), {"metadata": {"labels": {"changed": "yes"}}}
        )
        await self.shop.apply(route("goes", ("/", "a"), hosts=["goes.test"]))
        await self.cluster.api.delete(self.shop.path("httproutes", "goes"))
        await self.scale(4)

    async def until_served(self, *, comes: int, goes: int, seconds: float = RECOVERY_S) -> None:
        """Until all pods that there are, and no others, answer; and the two routes with these statuses."""

        async def look() -> bool:
            there = {pod.metadata.name for pod in await self.cluster.pods(self.shop.namespace, "app=a")}
            for port in self.ports:
                found = {(await fetch("http://shop.test/", port=port)).pod for _ in range(8 * len(there))}
                assert found == there, (found, there)
            statuses = [(await fetch(f"http://{name}.test/", port=self.gateway)).status for name in ("comes", "goes")]
            assert statuses == [comes, goes], statuses
            return True

        await self.cluster.wait_for("what is declared is served", look, seconds=seconds)

    async def until_true(self, *, seconds: float = RECOVERY_S) -> None:
        """Until what was declared is served, and said to be."""
        await self.until_served(comes=200, goes=404, seconds=seconds)
        await self.shop.until("httproutes", "comes", "Accepted", seconds=seconds)

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as loads:
            for port in self.ports:
                await loads.enter_async_context(self.shop.load("a", host=f"shop.test:{port}", rate=30))
            yield


@asynccontextmanager
async def behind(server: FaultyServer, cluster: MiniCluster, namespace: str, folder: Path) -> AsyncIterator[World]:
    """Portway, with three pods of a backend."""
    kubeconfig = folder / "faulty.kubeconfig"
    kubeconfig.write_bytes(server.access.kubeconfig())
    async with outside(cluster, namespace, folder, name=namespace, kubeconfig=kubeconfig) as running:
        world = World(running)
        try:
            # For any host, as it is, it would hide that another one is gone.
            await world.shop.apply(
                route("shop", ("/", "a"), hosts=["shop.test"]), route("goes", ("/", "a"), hosts=["goes.test"])
            )
            await world.scale(3)
            await world.until_served(comes=404, goes=200)
            yield world
        finally:
            await cluster.api.delete(f"/apis/gateway.networking.k8s.io/v1/gatewayclasses/{namespace}")
            await cluster.api.delete(f"/apis/networking.k8s.io/v1/ingressclasses/{namespace}")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if case.recovery > IDLE else ()) for name, case in CASES.items()]
)
async def test_faults_of_watches(cluster: MiniCluster, namespace: str, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    async with (
        FaultyServer(cluster.api.access) as server,
        behind(server, cluster, namespace, tmp_path) as world,
        world.load(),
    ):
        async with case.fault(server):
            await world.declare()
            await world.roll_all_but_one()
            if case.is_followed:
                await world.until_true()
            else:
                await asyncio.sleep(FAULT_S)  # for whoever waits ever longer between two attempts, or gives up
        if not case.is_noticed:
            await world.change_all()
        await world.until_true(seconds=case.recovery)
