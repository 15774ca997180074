"""The kept configuration on disk: whatever happens to the file or the disk, Portway starts and goes on."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from portway.app.recorder import Recorder
from portway.app.snapshot import FILE, SnapshotFile, SnapshotUnwritable
from portway.infra.state import StateFolderError
from portway.model.resource import Readiness, Resource, ResourceDelta, ResourceKey, ResourceType
from portway.xds.messages import Acceptance
from tests.kit.lab import eventually

FLEET = "host"


def make(name: str, kind: ResourceType = ResourceType.SECRET, *, body: bytes = b"body") -> Resource:
    return Resource(key=ResourceKey(kind, name), version="1", body=body, readiness=Readiness.ENDPOINTS)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SnapshotFile]:
    made = SnapshotFile(tmp_path, patience=timedelta(0))
    yield made
    made.close()


def test_what_is_written_is_read(file: SnapshotFile) -> None:
    file.write(FLEET, [make("a"), make("b")], [])
    file.write(FLEET, [make("b", body=b"other")], [make("a").key])
    assert file.read(FLEET) == (make("b", body=b"other"),)
    assert not file.read("another")


@pytest.mark.parametrize("keep", [0, 100, 4096], ids=["all", "behind the magic", "all but the first page"])
def test_a_damaged_file_is_put_aside(tmp_path: Path, keep: int) -> None:
    first = SnapshotFile(tmp_path)
    first.write(FLEET, [make(f"n{number}", body=bytes(500)) for number in range(50)], [])
    first.close()
    path = tmp_path / FILE
    data = path.read_bytes()
    path.write_bytes(data[:keep] + b"\xa5" * (len(data) - keep))
    second = SnapshotFile(tmp_path)
    assert second.read(FLEET) == ()
    second.write(FLEET, [make("a")], [])
    assert second.read(FLEET) == (make("a"),)
    second.close()
    assert path.with_suffix(".broken").stat().st_mode & 0o777 == 0o600, "it holds keys"


def test_what_no_version_of_ours_wrote_is_put_aside(tmp_path: Path, file: SnapshotFile) -> None:
    file.write(FLEET, [make("a")], [])
    with contextlib.closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        other.execute("UPDATE resources SET type = 'nonsense'")
    assert file.read(FLEET) == ()
    file.write(FLEET, [make("b")], [])
    assert file.read(FLEET) == (make("b"),)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(StateFolderError, match=FILE):
        SnapshotFile(tmp_path)


def hold(path: Path) -> contextlib.closing[sqlite3.Connection]:
    """Let writes fail with the class of error that a full disk is: somebody else holds the file."""
    other = sqlite3.connect(path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return contextlib.closing(other)


@contextlib.asynccontextmanager
async def running(recorder: Recorder) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(recorder.run())
        yield
        assert not task.done(), "a failed write ends nothing"
        task.cancel()


async def holds(file: SnapshotFile, count: int) -> bool:
    return len(file.read(FLEET)) == count


def accepted(*resources: Resource) -> Acceptance:
    return Acceptance(type=ResourceType.SECRET, resources=resources, removed=())


def test_a_failed_write_says_why(tmp_path: Path, file: SnapshotFile) -> None:
    with hold(tmp_path), pytest.raises(SnapshotUnwritable, match="locked") as caught:
        file.write(FLEET, [make("a")], [])
    assert not caught.value.lost


async def test_what_could_not_be_written_is_written_later(tmp_path: Path, file: SnapshotFile) -> None:
    recorder = Recorder(file, lambda fleet: (), pause=timedelta(0), try_again=timedelta(milliseconds=20))
    async with running(recorder):
        with hold(tmp_path):
            recorder.note(FLEET, "proxy", accepted(make("a")))
            await asyncio.sleep(0.1)
            recorder.note(FLEET, "proxy", accepted(make("b")))
            await asyncio.sleep(0.1)
        await eventually(lambda: holds(file, 2))


async def test_a_file_that_breaks_meanwhile_is_written_anew(tmp_path: Path, file: SnapshotFile) -> None:
    everything = [make(f"n{number}", body=bytes(500)) for number in range(50)]
    file.write(FLEET, everything, [])
    path = tmp_path / FILE
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as raw:
        raw.seek(4096)
        raw.write(b"\xa5" * (path.stat().st_size - 4096))
    recorder = Recorder(file, lambda fleet: everything, pause=timedelta(0), try_again=timedelta(0))
    recorder.note(FLEET, "proxy", accepted(make("new")))
    recorder.flush()  # meets the damage
    recorder.flush()
    assert len(file.read(FLEET)) == 51


async def test_what_is_not_wanted_any_more_goes_after_a_while(file: SnapshotFile) -> None:
    now = 0.0
    recorder = Recorder(file, lambda fleet: (), clock=lambda: now)
    recorder.note(FLEET, "proxy", accepted(make("a"), make("b")))
    recorder.follow(FLEET, ResourceDelta(removed=(make("a").key, make("b").key)))
    recorder.flush()
    assert len(file.read(FLEET)) == 2, "a proxy may still use them"
    now = 500.0
    recorder.follow(FLEET, ResourceDelta(changed=(make("b"),)))
    now = 601.0
    recorder.flush()
    assert file.read(FLEET) == (make("b"),)


async def test_an_end_in_the_middle_of_a_write_loses_nothing(file: SnapshotFile) -> None:
    recorder = Recorder(file, lambda fleet: (), pause=timedelta(0))
    async with running(recorder):
        recorder.note(FLEET, "proxy", accepted(*(make(f"n{number}") for number in range(2_000))))
        await asyncio.sleep(0.005)
        recorder.note(FLEET, "proxy", accepted(make("last")))
    recorder.flush()
    assert len(file.read(FLEET)) == 2_001
