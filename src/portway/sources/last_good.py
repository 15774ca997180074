"""The last good text of every file, on disk: a file that is broken at the next start is served as it was before.

Written after each accepted change, changed chunks only: a file may be edited while Portway is down, and then it is too
late. SQLite, because it is in the standard library, survives a kill at any time and rewrites pages, not files. Nothing
waits for the disk: the last moments before a power cut may be lost, which only matters if the file is broken at the
same time.

The folder is 0700 and the database 0600: manifests hold Secrets.
"""

import os
import sqlite3
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, final

FILE_NAME: Final = "last-good-files.sqlite"
_VERSION: Final = 1


@final
class LastGood:
    """Chunks by file. Blocking; one thread at a time.

    Args:
        state_dir: made if it is missing.

    Raises:
        OSError: the folder or the file cannot be made or written.
    """

    def __init__(self, state_dir: Path) -> None:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = state_dir / FILE_NAME
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        try:
            self._database = _open(path)
        except sqlite3.DatabaseError:
            path.unlink()  # from another version, or damaged: it is only a spare copy
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._database = _open(path)

    def close(self) -> None:
        self._database.close()

    def texts(self, file: str) -> list[str]:
        """The chunks of a file, in its order."""
        rows = self._database.execute("SELECT text FROM chunk WHERE file = ? ORDER BY line, digest", (file,))
        return [text for (text,) in rows]

    def files(self) -> frozenset[str]:
        """All files that have chunks."""
        return frozenset(file for (file,) in self._database.execute("SELECT DISTINCT file FROM chunk"))

    def save(self, changes: Mapping[str, "FileChunks"]) -> None:
        """Bring files up to date, all or nothing."""
        with self._database:
            for file, chunks in changes.items():
                self._save(file, chunks)

    def _save(self, file: str, chunks: "FileChunks") -> None:
        rows = self._database.execute("SELECT digest FROM chunk WHERE file = ?", (file,))
        there = {digest for (digest,) in rows}
        gone = [(file, digest) for digest in there - chunks.digests]
        self._database.executemany("DELETE FROM chunk WHERE file = ? AND digest = ?", gone)
        new = [(file, digest, *chunks.texts[digest]) for digest in chunks.digests - there if digest in chunks.texts]
        self._database.executemany("INSERT INTO chunk (file, digest, line, text) VALUES (?, ?, ?, ?)", new)


@final
class FileChunks:
    """What shall be kept of a file."""

    __slots__ = ("digests", "texts")

    def __init__(self, digests: Collection[bytes] = (), texts: Mapping[bytes, tuple[int, str]] | None = None) -> None:
        self.digests = frozenset(digests)
        self.texts = texts or {}
        """Line and text of those that may not be there yet."""


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"version {version}")
        database.execute(
            "CREATE TABLE IF NOT EXISTS chunk (file TEXT, digest BLOB, line INTEGER, text TEXT,"
            " PRIMARY KEY (file, digest)) WITHOUT ROWID"
        )
        database.execute(f"PRAGMA user_version = {_VERSION}")
        database.commit()
    except sqlite3.Error:
        database.close()
        raise
    return database
