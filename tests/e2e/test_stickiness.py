"""Sessions stay with their endpoint: whoever restarts, whatever is added."""

import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.kit.backends import Backends
from tests.kit.client import fetch
from tests.kit.manifests import (
    CLASS,
    GATEWAY_CLASS,
    endpoint_slice,
    gateway_with,
    http_route,
    ingress,
    service,
    upstream_policy,
)
from tests.kit.ports import Ports
from tests.kit.portway import Portway, portway

pytestmark = pytest.mark.e2e

PODS = ("a", "b", "c")
CLIENTS = 12

INGRESSES: Mapping[str, Mapping[str, str]] = {
    "balanced": {"affinity": "cookie"},
    "persistent": {"affinity": "cookie", "affinity-mode": "persistent"},
    "policy": {},
}
GATEWAYS = ("route", "rule")
"""By the policy of the Service, and by the rule's own `sessionPersistence`."""
NAMING = ("persistent", "policy", *GATEWAYS)
"""Ways whose cookie names the endpoint; only with `balanced` some sessions may move when endpoints come."""

AFFINITY = "sessionAffinity: {cookie: {name: stay, ttl: 1h}}"


class Shop:
    """A Portway with one Service per way of stickiness, each with the same endpoints."""

    def __init__(self, running: Portway, ports: Mapping[str, int], gateway_port: int) -> None:
        self.running = running
        self._ports = ports
        self._gateway_port = gateway_port

    def url(self, way: str) -> str:
        port = self._gateway_port if way in GATEWAYS else self.running.http_port
        return f"http://{way}.test:{port}/"

    def serve(self, pods: Mapping[str, str]) -> None:
        """Declare the endpoints; values are more of the endpoint (`conditions: ...`)."""
        for way in (*INGRESSES, *GATEWAYS):
            slices = [
                endpoint_slice(way, [self._ports[pod]], number=ord(pod), endpoint=more) for pod, more in pods.items()
            ]
            self.running.write(f"{way}-service.yaml", "---\n".join([service(way, []), *slices]))

    async def answer(self, way: str, cookie: str = "") -> tuple[str, str]:
        """Who answers, and the cookie to bring the next time."""
        answer = await fetch(self.url(way), headers=[("cookie", cookie)] if cookie else [])
        assert answer.status == 200, (way, answer)
        given = answer.header("set-cookie")
        return answer.pod or "", given.partition(";")[0] if given else cookie

    async def login(self) -> dict[str, list[tuple[str, str]]]:
        """New sessions of each way, at every endpoint: cookie and endpoint."""
        sessions: dict[str, list[tuple[str, str]]] = {}
        for way in (*INGRESSES, *GATEWAYS):
            sessions[way] = []
            while len(sessions[way]) < CLIENTS or len({pod for _, pod in sessions[way]}) < len(PODS):
                assert len(sessions[way]) < 10 * CLIENTS, f"{way} leaves endpoints out"
                pod, cookie = await self.answer(way)
                assert cookie, f"{way} gives no cookie"
                # `balanced` hashes the cookie, so the first request that has it decides.
                if way == "balanced":
                    pod, _ = await self.answer(way, cookie)
                sessions[way].append((cookie, pod))
        return sessions

    async def moved(self, sessions: Mapping[str, list[tuple[str, str]]]) -> dict[str, set[str]]:
        """Endpoints from which sessions have moved, by way; ways without are left out."""
        found: dict[str, set[str]] = {}
        for way, pairs in sessions.items():
            for cookie, pod in pairs:
                now, _ = await self.answer(way, cookie)
                if now != pod:
                    found.setdefault(way, set()).add(pod)
        return found


@asynccontextmanager
async def shop(folder: Path) -> AsyncIterator[Shop]:
    async with Backends() as backends:
        ports = {pod: (await backends.start(pod)).port for pod in (*PODS, "d")}
        with Ports() as own:
            gateway_port = own.take()
            rule = http_route("rule", "gw", "rule.test", [("/", "rule")])
            documents = [
                CLASS,
                GATEWAY_CLASS,
                *(ingress(way, f"{way}.test", [("/", way)], annotations=more) for way, more in INGRESSES.items()),
                gateway_with("gw", [f"name: http, port: {gateway_port}, protocol: HTTP"]),
                http_route("route", "gw", "route.test", [("/", "route")]),
                rule.rstrip() + "\n    sessionPersistence: {cookie: {name: kept}}\n",
                upstream_policy("policy", AFFINITY),
                upstream_policy("route", AFFINITY),
            ]
            async with portway(
                folder, {"all.yaml": "---\n".join(documents)}, "--drain-time", "2s", ready=False
            ) as running:
                made = Shop(running, ports, gateway_port)
                made.serve(dict.fromkeys(PODS, ""))
                await running.wait_ready()
                for way in (*INGRESSES, *GATEWAYS):

                    async def is_served(way: str = way) -> bool:
                        return (await fetch(made.url(way))).status == 200

                    await running.until(is_served, f"{way} served")
                yield made


async def test_sessions_survive_restarts_and_endpoints(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        running = made.running
        sessions = await made.login()
        assert not await made.moved(sessions)
        # Portway with its Envoy.
        assert await running.stop() == 0
        await running.start()
        assert not await made.moved(sessions)
        # Portway alone.
        await running.kill()
        assert not await made.moved(sessions)
        await running.start()
        assert not await made.moved(sessions)
        # Envoy alone.
        await kill_envoy(running)
        assert not await made.moved(sessions)
        # One more endpoint: sessions whose cookie names theirs stay.
        made.serve(dict.fromkeys((*PODS, "d"), ""))
        await until_seen(made, "d")
        assert set(await made.moved(sessions)) <= {"balanced"}
        # One that drains keeps its sessions and gets no new ones; what is gone loses them.
        made.serve({"a": "conditions: {ready: false, serving: true, terminating: true}", "b": "", "c": "", "d": ""})
        await until_unseen(made, "a")
        assert set(await made.moved(sessions)) <= {"balanced"}
        made.serve({"b": "", "c": "", "d": ""})

        async def all_moved() -> bool:
            moved = await made.moved(sessions)
            return all(way in moved for way in NAMING)

        await running.until(all_moved, "moved away from the endpoint that is gone")
        moved = await made.moved(sessions)
        assert {way: moved[way] for way in NAMING} == {way: {"a"} for way in NAMING}


async def kill_envoy(running: Portway) -> None:
    before = running.envoys()
    for pid in before:
        os.kill(pid, signal.SIGKILL)

    async def is_back() -> bool:
        now = running.envoys()
        return bool(now) and not set(now) & set(before) and (await running.admin("/readyz")).status == 200

    await running.until(is_back, "started again", seconds=20)


async def new_pods(made: Shop, way: str) -> set[str]:
    return {(await made.answer(way))[0] for _ in range(12)}


async def until_seen(made: Shop, pod: str) -> None:
    """Wait until new sessions of each way reach an endpoint."""
    for way in (*INGRESSES, *GATEWAYS):

        async def is_seen(way: str = way) -> bool:
            return pod in await new_pods(made, way)

        await made.running.until(is_seen, f"{pod} gets new sessions of {way}")


async def until_unseen(made: Shop, pod: str) -> None:
    """Wait until new sessions of each way do not reach an endpoint any more."""
    for way in (*INGRESSES, *GATEWAYS):

        async def is_unseen(way: str = way) -> bool:
            return pod not in await new_pods(made, way)

        await made.running.until(is_unseen, f"{pod} gets no new sessions of {way}")


async def test_cookies_are_as_declared(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        balanced = (await fetch(made.url("balanced"))).header("set-cookie") or ""
        assert balanced.startswith("INGRESSCOOKIE=")
        assert "HttpOnly" in balanced
        policy = (await fetch(made.url("policy"))).header("set-cookie") or ""
        assert policy.startswith("stay=")
        assert "Max-Age=3600" in policy
        rule = (await fetch(made.url("rule"))).header("set-cookie") or ""
        assert rule.startswith("kept=")
        assert "Max-Age" not in rule
        # A forged or stale cookie is no error: the client gets a new session.
        for way in NAMING:
            name = {"persistent": "INGRESSCOOKIE", "rule": "kept"}.get(way, "stay")
            for value in ("nonsense", "MTI3LjAuMC4xOjE="):  # 127.0.0.1:1
                pod, cookie = await made.answer(way, f"{name}={value}")
                assert pod in PODS
                assert cookie != f"{name}={value}", way
