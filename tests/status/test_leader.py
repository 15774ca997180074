"""Candidates for a Lease when the network between them and the API server is cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
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
        self.reads = 0
        self.refusals = 0
        """So many writes are refused."""
        self.says_nonsense = False

    def cut(self) -> None:
        self._works.clear()

    def mend(self) -> None:
        self._works.set()

    def forget(self) -> None:
        """What was asked is never answered; the next request is."""
        self._works = asyncio.Event()
        self._works.set()

    async def get(self, path: str, params: Mapping[str, str] = {}, /) -> bytes:
        self.reads += 1
        await self._works.wait()
        if self.says_nonsense:
            return b"<html>maintenance</html>"
        if self._server.lease is None:
            raise ApiError("get", path, 404, "NotFound", "")
        return msgspec.json.encode(self._server.lease)

    async def create(self, path: str, body: bytes, /) -> bytes:
        return await self.replace(path, body)

    async def replace(self, path: str, body: bytes, /) -> bytes:
        await self._works.wait()
        if self.refusals:
            self.refusals -= 1
            raise ApiError("update", path, 500, "InternalError", "etcdserver: request timed out")
        answer = self._server.write(body)
        return b"[]" if self.says_nonsense else answer

    async def stream(self, path: str, params: Mapping[str, str], /) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""


@asynccontextmanager
async def competing(
    server: Lease, name: str, is_informed: Callable[[], bool] = lambda: True
) -> AsyncIterator[tuple[Elector, Network]]:
    network = Network(server)
    loop = asyncio.get_running_loop()
    elector = Elector(
        network,
        namespace="n",
        name="l",
        identity=name,
        settings=SETTINGS,
        is_informed=is_informed,
        clock=loop.time,
    )
    running = asyncio.ensure_future(elector.run(asyncio.Event().wait))  # type: ignore[arg-type]  # noqa: TID251
    try:
        yield elector, network
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@asynccontextmanager
async def two_competing() -> AsyncIterator[tuple[tuple[Elector, Network], tuple[Elector, Network]]]:
    """The first one leads, and the second one knows."""
    server = Lease()
    async with competing(server, "a") as a:
        await asyncio.sleep(1)
        async with competing(server, "b") as b:
            await asyncio.sleep(5)
            yield a, b


def leads(candidate: Elector) -> bool:
    """Now."""
    return candidate.is_leader


@pytest.mark.looptime
@pytest.mark.parametrize("seconds", [16.0, 29.9, 47.3, 60.0, 131.0])
async def test_a_candidate_that_was_cut_off_leaves_the_leader_alone(seconds: float) -> None:
    async with two_competing() as ((a, _), (b, network)):
        network.cut()
        await asyncio.sleep(seconds)
        network.mend()
        for _ in range(600):
            await asyncio.sleep(0.1)
            assert leads(a)
            assert not leads(b)


@pytest.mark.looptime
async def test_a_leader_that_was_cut_off_is_followed_and_leads_no_more() -> None:
    async with two_competing() as ((a, network), (b, _)):
        network.cut()
        for _ in range(400):
            await asyncio.sleep(0.1)
            assert not (leads(a) and leads(b))
        assert leads(b)
        network.mend()
        await asyncio.sleep(DURATION)
        assert leads(b)
        assert not leads(a)


@pytest.mark.looptime
async def test_a_request_that_is_never_answered_keeps_nobody_from_leading() -> None:
    server = Lease()
    async with competing(server, "a") as (a, network):
        network.cut()
        await asyncio.sleep(0.1)
        network.forget()
        await asyncio.sleep(DURATION)
        assert leads(a)


@pytest.mark.looptime
async def test_who_has_not_read_the_cluster_again_does_not_lead_yet() -> None:
    server = Lease()
    is_informed = True
    async with competing(server, "a", lambda: is_informed) as (a, network):
        await asyncio.sleep(1)
        assert leads(a)
        network.cut()
        is_informed = False
        await asyncio.sleep(60)
        network.mend()
        await asyncio.sleep(5)
        assert not leads(a), "it would write what it knew before"
        is_informed = True
        await asyncio.sleep(3)
        assert leads(a)


@pytest.mark.looptime
async def test_where_nobody_knows_better_somebody_leads_all_the_same() -> None:
    """As where one kind of many cannot be read."""
    server = Lease()
    async with competing(server, "a", lambda: False) as (a, network):
        await asyncio.sleep(DURATION - 1)
        assert not leads(a)
        await asyncio.sleep(4)
        assert leads(a)
        await asyncio.sleep(100)
        assert leads(a)
        assert network.reads < 12, "it asks in its time"


@pytest.mark.looptime
async def test_who_leads_goes_on_though_a_renewal_failed_and_a_kind_cannot_be_read() -> None:
    server = Lease()
    is_informed = True
    async with competing(server, "a", lambda: is_informed) as (a, network):
        await asyncio.sleep(1)
        is_informed = False
        network.refusals = 1
        for _ in range(450):
            await asyncio.sleep(0.1)
            assert leads(a)
        assert not network.refusals


@pytest.mark.looptime
async def test_an_answer_that_is_no_lease_is_none() -> None:
    """As from a proxy before the API server that answers itself, with status 200."""
    server = Lease()
    async with competing(server, "a") as (a, network):
        await asyncio.sleep(1)
        network.says_nonsense = True
        await asyncio.sleep(30)
        assert not leads(a)
        assert a.statistics().failures
        network.says_nonsense = False
        await asyncio.sleep(DURATION)
        assert leads(a)


@pytest.mark.looptime
async def test_who_is_informed_leads_before_who_is_not() -> None:
    server = Lease()
    async with competing(server, "a", lambda: False) as (a, _), competing(server, "b") as (b, _):
        await asyncio.sleep(60)
        assert leads(b)
        assert not leads(a)
