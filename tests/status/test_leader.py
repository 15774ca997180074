"""Candidates for a Lease when the network between them and the API server is cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import msgspec
import pytest

from portway.kubernetes.errors import ApiError
from portway.status.leader import Elector
from portway.status.lease import LeaseSettings
from portway.status.raw import Raw, as_map

SETTINGS = LeaseSettings()
DURATION = SETTINGS.duration / timedelta(seconds=1)


class Lease:
    """The object, as the API server keeps it."""

    def __init__(self) -> None:
        self.lease: Raw | None = None
        self._version = 0

    def write(self, body: bytes) -> bytes:
        lease: Raw = msgspec.json.decode(body)
        metadata = as_map(lease["metadata"])
        if self.lease is not None and metadata.get("resourceVersion") != self.version:
            raise ApiError("update", "lease", 409, "Conflict", "it has changed")
        self._version += 1
        self.lease = {**lease, "metadata": {**metadata, "resourceVersion": self.version}}
        return msgspec.json.encode(self.lease)

    @property
    def version(self) -> str:
        return str(self._version)


class Network:
    """What one candidate has of the API server. While it is cut, packets are repeated: requests are answered later."""

    def __init__(self, server: Lease) -> None:
        self._server = server
        self._works = asyncio.Event()
        self._works.set()

    def cut(self) -> None:
        self._works.clear()

    def mend(self) -> None:
        self._works.set()

    def forget(self) -> None:
        """What was asked is never answered; the next request is."""
        self._works = asyncio.Event()
        self._works.set()

    async def get(self, path: str, params: Mapping[str, str] = {}, /) -> bytes:
        await self._works.wait()
        if self._server.lease is None:
            raise ApiError("get", path, 404, "NotFound", "")
        return msgspec.json.encode(self._server.lease)

    async def create(self, path: str, body: bytes, /) -> bytes:
        return await self.replace(path, body)

    async def replace(self, path: str, body: bytes, /) -> bytes:
        await self._works.wait()
        return self._server.write(body)

    async def stream(self, path: str, params: Mapping[str, str], /) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""


@asynccontextmanager
async def competing(server: Lease, name: str) -> AsyncIterator[tuple[Elector, Network]]:
    network = Network(server)
    loop = asyncio.get_running_loop()
    elector = Elector(network, namespace="n", name="l", identity=name, settings=SETTINGS, clock=loop.time)
    running = asyncio.ensure_future(elector.run(asyncio.Event().wait))  # type: ignore[arg-type]  # noqa: TID251
    try:
        yield elector, network
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@pytest.mark.looptime
@pytest.mark.parametrize("seconds", [16.0, 29.9, 47.3, 60.0, 131.0])
async def test_a_candidate_that_was_cut_off_leaves_the_leader_alone(seconds: float) -> None:
    server = Lease()
    async with competing(server, "a") as (a, _):
        await asyncio.sleep(1)
        async with competing(server, "b") as (b, network):
            await asyncio.sleep(5)
            network.cut()
            await asyncio.sleep(seconds)
            network.mend()
            for _ in range(600):
                await asyncio.sleep(0.1)
                assert a.is_leader
                assert not b.is_leader


@pytest.mark.looptime
async def test_a_leader_that_was_cut_off_is_followed_and_leads_no_more() -> None:
    server = Lease()
    async with competing(server, "a") as (a, network):
        await asyncio.sleep(1)
        async with competing(server, "b") as (b, _):
            await asyncio.sleep(5)
            network.cut()
            for _ in range(400):
                await asyncio.sleep(0.1)
                assert not (a.is_leader and b.is_leader)
            assert b.is_leader
            network.mend()
            await asyncio.sleep(DURATION)
            assert b.is_leader
            assert not a.is_leader


@pytest.mark.looptime
async def test_a_request_that_is_never_answered_keeps_nobody_from_leading() -> None:
    server = Lease()
    async with competing(server, "a") as (a, network):
        network.cut()
        await asyncio.sleep(0.1)
        network.forget()
        await asyncio.sleep(DURATION)
        assert a.is_leader
