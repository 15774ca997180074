"""Fixtures of the cluster tests: one miniature cluster for all of them, shared by the workers of a run.

Tests that disturb it (kill the API server, a node, the Portway that is installed there) must not run beside others:
they are marked `disturbs`, and have it for themselves. By a lock: `xdist_group` groups nothing without
`--dist loadgroup`, nor with it in pytest 9.2 and pytest-xdist 3.8, which sets `Item._nodeid`.
"""

import asyncio
import contextlib
import fcntl
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cluster.cluster import MiniCluster, start, wait_started
from tests.cluster.containers import Image, any_image, portway_image
from tests.cluster.outline import Outline
from tests.cluster.programs import echo_program


@pytest.fixture(scope="session")
def cluster_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running cluster, started by the first worker that asks; it ends when the last one is done."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, server = shared / "cluster", None
    with (shared / "cluster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = _connect(folder)
        if connection is None:
            echo = Image(name="echo-basic", entrypoint=(str(echo_program()),))
            server = start(Outline(folder=folder, images=(any_image(), portway_image(), echo)))
            with contextlib.closing(asyncio.new_event_loop()) as loop:
                loop.run_until_complete(wait_started(folder, server))
            connection = _connect(folder)
    assert connection is not None
    with connection:
        yield folder
    if server is not None:
        server.leave()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The time limit of a test that waits for its turn holds from then on: others may have it for minutes."""
    for item in items:
        if isinstance(item, pytest.Function) and "turn" in item.fixturenames:
            limit = item.get_closest_marker("timeout")
            seconds = float(limit.args[0] if limit else config.getini("timeout"))
            item.add_marker(pytest.mark.timeout(seconds, func_only=True), append=False)


@pytest.fixture
def turn(request: pytest.FixtureRequest, cluster_folder: Path) -> Iterator[None]:
    """The right to use the cluster, with others or, marked `disturbs`, alone; in the order of asking."""
    kind = fcntl.LOCK_EX if request.node.get_closest_marker("disturbs") else fcntl.LOCK_SH
    with (cluster_folder.parent / "cluster.turn").open("w") as lock:
        with (cluster_folder.parent / "cluster.queue").open("w") as queue:
            fcntl.flock(queue, fcntl.LOCK_EX)
            fcntl.flock(lock, kind)
        yield


@pytest_asyncio.fixture
async def cluster(cluster_folder: Path, turn: None) -> AsyncIterator[MiniCluster]:
    """The cluster, for one test, which runs in the cluster's network: it dials pods and Services by their addresses."""
    async with MiniCluster.attached(cluster_folder) as outside:
        with outside.inside():
            async with MiniCluster.attached(cluster_folder) as inside:
                yield inside


@pytest_asyncio.fixture
async def namespace(cluster: MiniCluster) -> AsyncIterator[str]:
    """A fresh namespace, removed with all that is in it."""
    name = f"test-{secrets.token_hex(4)}"
    await cluster.api.apply(f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}")
    yield name
    await cluster.api.delete(f"/api/v1/namespaces/{name}")


def _connect(folder: Path) -> socket.socket | None:
    """A connection keeps the cluster alive. `None`: none runs there."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(folder / "control"))
    except OSError:
        connection.close()
        return None
    return connection
