"""A control plane for a test module, and connections to it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.kubernetes.client import ApiClient, Connection, FixedCredentials, Tls
from tests.cluster.api import Access
from tests.cluster.control_plane import ControlPlane


def connection_of(access: Access) -> Connection:
    """A connection as that user."""
    pair = access.certificate
    tls = Tls(
        ca=access.authority.encode(),
        certificate=pair.certificate.encode() if pair is not None else b"",
        key=pair.key.encode() if pair is not None else b"",
    )
    return Connection(server=access.server, credentials=FixedCredentials(token=access.token, tls=tls))


def client_of(access: Access) -> ApiClient:
    return ApiClient(connection_of(access))


def running_plane(folder: Path, channel: str = "experimental") -> Iterator[ControlPlane]:
    """A control plane with Gateway API's CRDs, in no event loop of its own. `channel` empty: without them."""
    plane = ControlPlane(folder)
    try:
        asyncio.run(_start(plane, channel))
        yield plane
    finally:
        asyncio.run(plane.stop())


async def _start(plane: ControlPlane, channel: str) -> None:
    await plane.start()
    if channel:
        await plane.apply_gateway_api(channel)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One control plane for all tests of a module."""
    yield from running_plane(tmp_path_factory.mktemp("plane"))
