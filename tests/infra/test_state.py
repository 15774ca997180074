"""The state folder: who may see it, who holds it, and its names."""

import asyncio
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from portway.infra.state import (
    MAX_SOCKET_PATH_BYTES,
    StateFolder,
    StateFolderError,
    StateFolderInUse,
    folder_name,
    wait_lost,
)


def test_folders_are_private_even_if_they_were_not(tmp_path: Path) -> None:
    loose = tmp_path / "state"
    loose.mkdir(mode=0o755)
    with StateFolder(loose) as folder:
        place = folder.proxy_folder("host")
        place.write("bootstrap.json", b"{}")
        modes = {path.name: path.stat().st_mode & 0o777 for path in (loose, place.path, place.path / "bootstrap.json")}
        place.close()
    assert modes == {"state": 0o700, "host": 0o700, "bootstrap.json": 0o600}


def test_lock_names_its_holder_and_falls_with_it(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "state"):
        with pytest.raises(StateFolderInUse, match=f"process {os.getpid()}") as caught:
            StateFolder(tmp_path / "state")
        assert caught.value.pid == os.getpid()
    StateFolder(tmp_path / "state").close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a folder of another user")
def test_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "state"
    foreign.mkdir()
    os.chown(foreign, 65534, 65534)
    with pytest.raises(StateFolderError, match="belongs to user 65534"):
        StateFolder(foreign)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateFolderError, match="--state-dir"):
        StateFolder(tmp_path / "state")


def test_sockets_in_a_folder_with_a_long_name(tmp_path: Path) -> None:
    with StateFolder(tmp_path / ("long" * 40)) as folder:
        path = folder.xds_socket
        assert len(path) <= MAX_SOCKET_PATH_BYTES
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(path)
            server.listen()
            client.connect(path)
        assert (folder.path / "xds.sock").is_socket()


NAMES = {
    "host": "host",
    "shop/gateway": "shop%2Fgateway",
    "..": "%2E%2E",
    "a%2Fb": "a%252Fb",  # not the name of a/b
}


@pytest.mark.parametrize("fleet", NAMES)
def test_folder_names(fleet: str) -> None:
    assert folder_name(fleet) == NAMES[fleet]


def test_long_fleets_have_different_folders() -> None:
    names = {folder_name("x" * 300 + end) for end in ("a", "b")}
    assert len(names) == 2
    assert max(map(len, names)) < 255


def test_a_folder_that_others_use_is_not_taken_from_them(tmp_path: Path) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "somebody's").touch()
    with pytest.raises(StateFolderError, match="somebody's"):
        StateFolder(shared)
    assert shared.stat().st_mode & 0o7777 == 0o1777
    (shared / "somebody's").unlink()
    (shared / "lost+found").mkdir()
    StateFolder(shared).close()


def removed(state: Path) -> None:
    shutil.rmtree(state)


def moved(state: Path) -> None:
    state.rename(state.with_name("elsewhere"))


def emptied(state: Path) -> None:
    for name in state.iterdir():
        name.unlink() if name.is_file() else shutil.rmtree(name)


def replaced(state: Path) -> None:
    shutil.rmtree(state)
    StateFolder(state).close()


@pytest.mark.parametrize("happen", [removed, moved, emptied, replaced])
async def test_what_happens_to_the_folder_is_noticed(tmp_path: Path, happen: Callable[[Path], None]) -> None:
    with StateFolder(tmp_path / "state") as state:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await wait_lost(state)
        happen(tmp_path / "state")
        async with asyncio.timeout(1):
            assert "was removed or replaced" in str(await wait_lost(state))


async def test_a_proxy_folder_that_goes_is_noticed(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "state") as state:
        place = state.proxy_folder("host")
        shutil.rmtree(tmp_path / "state" / "proxies")
        async with asyncio.timeout(1):
            assert str(await wait_lost(state, place)).startswith(str(place.path))
        place.close()
