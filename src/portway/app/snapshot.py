"""The last acknowledged configuration on disk, so that a start without readable sources serves the last good one.

One SQLite file per state folder (mode 0600: it holds private keys), one row per resource. What proxies acknowledged
since the last write goes in with one transaction, so the cost follows the change, and a crash leaves the state before
or after it. A resource that proxies refuse stays in the version that they hold.

A damaged file is put aside and begun anew: it is a spare copy, and no reason not to start.
"""

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import final

import msgspec
import structlog

from portway.infra.state import StateFolderError
from portway.model.resource import Readiness, Resource, ResourceKey, ResourceType
from portway.objects.verdict import ObjectKey

FILE = "acknowledged.sqlite"
SCHEMA = """
CREATE TABLE IF NOT EXISTS resources (
  fleet TEXT NOT NULL, type TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, body BLOB NOT NULL,
  readiness TEXT NOT NULL, requires BLOB NOT NULL, origins BLOB NOT NULL, by_zone BLOB NOT NULL,
  PRIMARY KEY (fleet, type, name)
) WITHOUT ROWID
"""
FORMAT = 2
"""`user_version` of the file; another one is made afresh, as a cache may be."""

Row = tuple[str, str, str, str, bytes, str, bytes, bytes, bytes]

log = structlog.get_logger(__name__)


class SnapshotUnwritable(Exception):
    """Nothing was written; the message says why. With `lost`, nothing that was written before is there either."""

    def __init__(self, problem: str, *, lost: bool = False) -> None:
        super().__init__(problem)
        self.lost = lost


@final
class SnapshotFile:
    """The file of one state folder. Blocking; threads take turns."""

    def __init__(self, folder: Path, *, patience: timedelta = timedelta(seconds=5)) -> None:
        """Opens or makes the file.

        Args:
            patience: how long to wait for somebody else (a backup) who holds the file.

        Raises:
            StateFolderError: it can be neither used nor made: a full disk, a folder that may not be written to.
        """
        self._path = folder / FILE
        self._lock = threading.Lock()
        self._patience = patience.total_seconds()
        try:
            try:
                self._database = self._open()
            except sqlite3.OperationalError:
                raise  # of the disk, not of the file: what is in it may be good
            except sqlite3.DatabaseError as error:
                self._put_aside(str(error))
        except (sqlite3.Error, OSError) as error:
            raise StateFolderError(
                f"{self._path} cannot be used: {error}; see to the disk, or choose another folder (--state-dir)"
            ) from error

    def _put_aside(self, problem: str) -> None:
        """Begin anew. What other files SQLite has keeps its name, which is not that of the new file's."""
        broken = self._path.with_suffix(".broken")
        for suffix in ("-wal", "-shm", ""):
            name = Path(f"{self._path}{suffix}")
            if name.exists():
                name.replace(f"{broken}{suffix}")
        log.error("kept configuration is damaged, a new one is begun", file=str(broken), problem=problem)
        self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)
        self._path.chmod(0o600)
        database = sqlite3.connect(self._path, timeout=self._patience, check_same_thread=False, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            # After a power cut the last change may be missing; the file stays whole.
            database.execute("PRAGMA synchronous=NORMAL")
            if database.execute("PRAGMA user_version").fetchone() != (FORMAT,):
                database.execute("DROP TABLE IF EXISTS resources")
            database.execute(SCHEMA)
            database.execute(f"PRAGMA user_version={FORMAT}")
        except sqlite3.Error:
            database.close()
            raise
        return database

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def write(self, fleet: str, changed: Sequence[Resource], removed: Iterable[ResourceKey]) -> None:
        """Take in what a fleet's proxies have acknowledged, as one step. To say the same twice is harmless.

        Raises:
            SnapshotUnwritable: nothing of it was taken in.
        """
        rows: list[Row] = [
            (
                fleet,
                resource.key.type,
                resource.key.name,
                resource.version,
                resource.body,
                resource.readiness,
                msgspec.msgpack.encode(resource.requires),
                msgspec.msgpack.encode(resource.origins),
                msgspec.msgpack.encode(resource.by_zone),
            )
            for resource in changed
        ]
        names = [(fleet, key.type, key.name) for key in removed]
        with self._lock:
            try:
                self._write(rows, names)
            except sqlite3.OperationalError as error:
                raise SnapshotUnwritable(str(error)) from error
            except sqlite3.DatabaseError as error:
                self._renew(str(error))

    def _write(self, rows: Sequence[Row], names: Sequence[tuple[str, str, str]]) -> None:
        with self._database:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR REPLACE INTO resources VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._database.executemany("DELETE FROM resources WHERE fleet = ? AND type = ? AND name = ?", names)

    def _renew(self, problem: str) -> None:
        try:
            self._database.close()
            self._put_aside(problem)
        except (sqlite3.Error, OSError) as error:
            raise SnapshotUnwritable(str(error), lost=True) from error
        raise SnapshotUnwritable(problem, lost=True)

    def read(self, fleet: str) -> tuple[Resource, ...]:
        """All resources that the fleet's proxies last acknowledged; empty if none ever did, or the file is damaged.

        Raises:
            StateFolderError: the file is damaged and no other can be made.
        """
        with self._lock:
            try:
                return self._read(fleet)
            except (sqlite3.Error, ValueError) as damage:  # ValueError: what msgspec and the enumerations raise
                try:
                    self._database.close()
                    self._put_aside(str(damage))
                except (sqlite3.Error, OSError) as error:
                    raise StateFolderError(
                        f"{self._path} is damaged ({damage}) and cannot be renewed: {error}"
                    ) from error
                return ()

    def _read(self, fleet: str) -> tuple[Resource, ...]:
        cursor = self._database.execute(
            "SELECT type, name, version, body, readiness, requires, origins, by_zone FROM resources WHERE fleet = ?",
            (fleet,),
        )
        return tuple(
            Resource(
                key=ResourceKey(ResourceType(kind), name),
                version=version,
                body=body,
                readiness=Readiness(readiness),
                requires=msgspec.msgpack.decode(requires, type=tuple[ResourceKey, ...]),
                origins=msgspec.msgpack.decode(origins, type=tuple[ObjectKey, ...]),
                by_zone=msgspec.msgpack.decode(by_zone, type=tuple[tuple[str, bytes], ...]),
            )
            for kind, name, version, body, readiness, requires, origins, by_zone in cursor
        )
