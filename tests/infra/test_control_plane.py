"""The proxy and its control plane: Portway's bootstrap against Portway's xDS server, while either comes and goes."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from envoy.config.listener.v3 import listener_pb2 as listenerv3
from google.protobuf import json_format

from portway.envoy.bootstrap import BootstrapSettings, build_bootstrap, encode_bootstrap
from portway.infra.host import HostProxy
from portway.infra.plan import Start
from portway.infra.proxy import ProxyState
from portway.infra.state import StateFolder
from portway.model.resource import ResourceDelta, ResourceKey, ResourceType, make_resource
from portway.xds.server import DiscoveryServer
from tests.infra.running import BRISK, envoy, reached
from tests.infra.serving import constant_requests, free_port, get, http_listener

pytestmark = pytest.mark.e2e

FLEET = "test"


def bootstrap(control_plane: str, zone: str = "") -> bytes:
    settings = BootstrapSettings(node_id="host", fleet=FLEET, zone=zone, control_plane=control_plane)
    return encode_bootstrap(build_bootstrap(settings))


def listener(port: int, text: str) -> ResourceDelta:
    message = json_format.ParseDict(http_listener(port, text), listenerv3.Listener())
    key = ResourceKey(ResourceType.LISTENER, "http")
    return ResourceDelta(changed=(make_resource(key, message.SerializeToString(deterministic=True)),))


@contextlib.asynccontextmanager
async def control_plane(state: StateFolder, port: int, text: str) -> AsyncIterator[DiscoveryServer]:
    server = DiscoveryServer()
    server.apply(FLEET, listener(port, text))
    server.mark_synced(FLEET)
    await server.start(f"unix:{state.xds_socket}")
    try:
        yield server
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def waiting_proxy(state: StateFolder) -> AsyncIterator[HostProxy]:
    """A proxy that is run; it is not live before it has a control plane."""
    folder = state.proxy_folder(FLEET)
    proxy = HostProxy(folder, envoy(), bootstrap(folder.xds_socket), BRISK)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(proxy.run())
        try:
            yield proxy
        finally:
            await proxy.stop()
    folder.close()


async def test_waits_for_its_control_plane(tmp_path: Path) -> None:
    port = free_port()
    with StateFolder(tmp_path / ("deep" * 30)) as state:
        async with waiting_proxy(state) as proxy:
            await reached(lambda: proxy.statistics().state is ProxyState.STARTING)
            assert not proxy.is_live
            async with control_plane(state, port, "one"):
                await proxy.wait_ready()
                await reached_text(port, "one")
                assert [found.active for found in await proxy.admin.listeners()] == [True]


async def test_control_plane_comes_back(tmp_path: Path) -> None:
    port = free_port()
    with StateFolder(tmp_path / "state") as state:
        async with waiting_proxy(state) as proxy:
            async with control_plane(state, port, "one"):
                await proxy.wait_ready()
                await reached_text(port, "one")
            async with constant_requests(port) as tally:
                await reached(lambda: tally.answers > 100)
                assert tally.texts == {"one"}
                async with control_plane(state, port, "two") as server:
                    await reached(lambda: server.statistics().streams == 1)
                    await reached(lambda: "two" in tally.texts)
                tally.over.set()
            assert proxy.statistics().restarts == 0


async def test_new_bootstrap_under_load(tmp_path: Path) -> None:
    """The successor takes over with its listeners, not before it has them."""
    port = free_port()
    with StateFolder(tmp_path / "state") as state:
        async with waiting_proxy(state) as proxy, control_plane(state, port, "one") as server:
            await proxy.wait_ready()
            await reached_text(port, "one")
            async with constant_requests(port) as tally:
                await reached(lambda: tally.answers > 50)
                proxy.replace(bootstrap("../../xds.sock", zone="another"))
                await reached(lambda: proxy.statistics().origin is Start.HAND_OVER and proxy.is_live)
                await reached(lambda: proxy.statistics().retiring == () and server.statistics().streams == 1)
                tally.over.set()
            assert tally.failures == []


async def test_crash_under_a_control_plane(tmp_path: Path) -> None:
    port = free_port()
    with StateFolder(tmp_path / "state") as state:
        async with waiting_proxy(state) as proxy, control_plane(state, port, "one"):
            await proxy.wait_ready()
            await reached_text(port, "one")
            pid = proxy.statistics().pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await reached(lambda: proxy.statistics().restarts == 1 and proxy.is_live)
            await reached_text(port, "one")


async def reached_text(port: int, text: str) -> None:
    """A listener opens its port a moment after the proxy is live."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(ConnectionError):
                assert await get(port) == text
                return
            await asyncio.sleep(0.01)
