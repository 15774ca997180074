"""A rolling update of a fleet under load: each proxy is replaced by another, and nothing is lost.

In front stands a balancer that looks at `/readyz` every 0.3 s; the load is constant, over kept connections.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.app.balancer import Balancer, balancer
from tests.app.proxies import ControlPlane, Proxy, control_plane, proxy
from tests.kit.backends import Backends
from tests.kit.load import Load, LoadProtocol
from tests.kit.ports import Ports
from tests.kit.stream_client import websocket

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

RATE = 100.0
REPLACED = 3


class Fleet:
    """Proxies behind a balancer, of which one is replaced at a time."""

    def __init__(self, folder: Path, plane: ControlPlane, ports: Ports, front: Balancer, backend_port: int) -> None:
        self._folder, self._plane, self._ports, self._front = folder, plane, ports, front
        self._backend_port = backend_port
        self._count = 0
        self.stack = AsyncExitStack()
        self.pods: list[Proxy] = []

    async def grow(self) -> Proxy:
        """Another pod, which is ready when this returns."""
        self._count += 1
        name = f"pod{self._count}"
        pod = await self.stack.enter_async_context(
            proxy(self._folder / name, name, self._plane, self._ports, self._backend_port)
        )
        await pod.wait_ready()
        self._front.add(pod.port, pod.health_port)
        self.pods.append(pod)
        return pod

    async def retire_oldest(self) -> None:
        """SIGTERM to the oldest, as the kubelet sends it; returns when it has ended."""
        pod = self.pods.pop(0)
        pod.signal()
        assert await pod.ended() == 0
        self._front.remove(pod.port)


@pytest.mark.parametrize("protocol", [LoadProtocol.HTTP1, LoadProtocol.HTTP2])
async def test_no_request_is_lost(protocol: LoadProtocol, tmp_path: Path) -> None:
    with Ports() as ports:
        async with Backends() as backends, control_plane(ports) as plane, balancer() as front:
            backend = await backends.start("a")
            fleet = Fleet(tmp_path, plane, ports, front, backend.port)
            async with fleet.stack:
                await fleet.grow()
                await asyncio.sleep(1)
                load = Load(f"http://shop.test:{front.port}/", rate=RATE, protocol=protocol, connections=6)
                async with load:
                    await load.answered(20)
                    for _ in range(REPLACED):
                        await fleet.grow()
                        await asyncio.sleep(0.5)  # until the balancer knows it
                        await fleet.retire_oldest()
                    await load.answered(20)
                report = load.report()
    assert not report.wrong({"a"}), report.summary()
    assert len(report.samples) > 200


async def test_a_websocket_goes_on_until_its_client_ends_it(tmp_path: Path) -> None:
    """Its proxy waits for it, and ends as soon as it is over."""
    with Ports() as ports:
        async with Backends() as backends, control_plane(ports) as plane:
            backend = await backends.start("a")
            async with proxy(tmp_path / "one", "one", plane, ports, backend.port) as pod:
                await pod.wait_ready()
                async with websocket(f"ws://shop.test:{pod.port}/ws") as talk:
                    pod.signal()
                    for number in range(20):  # four seconds, withdrawal and drain
                        await talk.send(str(number))
                        assert await talk.recv() == str(number)
                        await asyncio.sleep(0.2)
                    assert pod.is_running
                assert await pod.ended(8) == 0
