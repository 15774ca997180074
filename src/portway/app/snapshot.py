"""The last acknowledged configuration on disk, so that a start without readable sources serves the last good one.

One SQLite file per state folder (mode 0600: it holds private keys), one row per resource. What proxies acknowledged
since the last write goes in with one transaction, so the cost follows the change, and a crash leaves the state before
or after it. A resource that proxies refuse stays in the version that they hold.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import final

import msgspec

from portway.model.resource import Readiness, Resource, ResourceKey, ResourceType
from portway.objects.verdict import ObjectKey

FILE = "acknowledged.sqlite"
SCHEMA = """
CREATE TABLE IF NOT EXISTS resources (
  fleet TEXT NOT NULL, type TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, body BLOB NOT NULL,
  readiness TEXT NOT NULL, requires BLOB NOT NULL, origins BLOB NOT NULL,
  PRIMARY KEY (fleet, type, name)
) WITHOUT ROWID
"""
FORMAT = 1
"""`user_version` of the file; another one is made afresh, as a cache may be."""

Row = tuple[str, str, str, str, bytes, str, bytes, bytes]


@final
class SnapshotFile:
    """The file of one state folder. Blocking; to be used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        """Opens or makes the file; one that cannot be used is put aside and made anew."""
        self._path = folder / FILE
        try:
            self._database = self._open()
        except sqlite3.DatabaseError:
            self._path.replace(self._path.with_suffix(".broken"))
            self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)
        self._path.chmod(0o600)
        database = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        # After a power cut the last change may be missing; the file stays whole.
        database.execute("PRAGMA synchronous=NORMAL")
        if database.execute("PRAGMA user_version").fetchone() != (FORMAT,):
            database.execute("DROP TABLE IF EXISTS resources")
        database.execute(SCHEMA)
        database.execute(f"PRAGMA user_version={FORMAT}")
        return database

    def close(self) -> None:
        self._database.close()

    def write(self, fleet: str, changed: Sequence[Resource], removed: Iterable[ResourceKey]) -> None:
        """Take in what a fleet's proxies have acknowledged, as one step."""
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
            )
            for resource in changed
        ]
        with self._database:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR REPLACE INTO resources VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._database.executemany(
                "DELETE FROM resources WHERE fleet = ? AND type = ? AND name = ?",
                [(fleet, key.type, key.name) for key in removed],
            )

    def read(self, fleet: str) -> tuple[Resource, ...]:
        """All resources that the fleet's proxies last acknowledged; empty if none ever did."""
        cursor = self._database.execute(
            "SELECT type, name, version, body, readiness, requires, origins FROM resources WHERE fleet = ?", (fleet,)
        )
        return tuple(
            Resource(
                key=ResourceKey(ResourceType(kind), name),
                version=version,
                body=body,
                readiness=Readiness(readiness),
                requires=msgspec.msgpack.decode(requires, type=tuple[ResourceKey, ...]),
                origins=msgspec.msgpack.decode(origins, type=tuple[ObjectKey, ...]),
            )
            for kind, name, version, body, readiness, requires, origins in cursor
        )
