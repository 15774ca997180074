"""The last good text of every file, on disk: a file that is broken at the next start is served as it was before.

Written after each accepted change, changed chunks only: a file may be edited while Portway is down, and then it is too
late. SQLite, because it is in the standard library, survives a kill at any time and rewrites pages, not files. Nothing
waits for the disk: the last moments before a power cut may be lost, which only matters if the file is broken at the
same time.

The folder is 0700 and the database 0600: manifests hold Secrets.
"""

import os
import sqlite3
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Final, Self, final

import msgspec

from portway.sources.records import FileChange
from portway.sources.tree import Identity

FILE_NAME: Final = "last-good-files.sqlite"
_VERSION: Final = 1


SAVE_PAUSE: Final = 0.2
"""Seconds without a change before writing: the change that was just reported is being compiled and sent."""
SAVE_LATEST: Final = 5.0
"""Seconds after which it is written even if changes do not pause."""


SAVE_YIELD: Final = 0.005
"""Seconds between one part of a large write and the next."""
SAVE_CHUNKS: Final = 250
"""Written at a time; about 5 ms, then events have their turn."""
SAVE_AGAIN: Final = 10.0
"""Seconds before what could not be written (a full disk) is tried again."""


class _Unsaved(msgspec.Struct):
    """What is to be written of one file."""

    forget: bool = False
    """Remove what is there first."""
    removed: set[bytes] = msgspec.field(default_factory=set)
    texts: dict[bytes, tuple[int, str]] = msgspec.field(default_factory=dict)

    def first(self, limit: int) -> dict[bytes, tuple[int, str]]:
        """The chunks that are written next."""
        return dict(islice(self.texts.items(), limit))


@final
class Keeper:
    """Keeps chunks by file. A context manager; blocking where it says so; one thread at a time.

    Args:
        state_dir: made if it is missing; None: nothing is kept.
    """

    def __init__(self, state_dir: Path | None) -> None:
        self._state_dir = state_dir
        self._database: sqlite3.Connection | None = None
        self._from_before: dict[str, set[bytes]] = {}
        self._unsaved: dict[str, _Unsaved] = {}
        self._roots: dict[str, Identity] = {}
        self._unsaved_roots = False
        self._since = 0.0
        self._pause = SAVE_PAUSE
        self._is_failing = False
        self._again = 0.0
        self.failure = ""
        """Why nothing is kept although it should be; empty if all is well."""

    def __enter__(self) -> Self:
        if self._state_dir is not None:
            try:
                self._database = _open_database(self._state_dir)
                for file, digest in self._database.execute("SELECT file, digest FROM chunk"):
                    self._from_before.setdefault(file, set()).add(digest)
                for path, device, inode in self._database.execute("SELECT path, device, inode FROM root"):
                    self._roots[path] = (int(device), int(inode))
            except (OSError, sqlite3.Error) as error:
                self.failure = f"last good versions are not kept over a restart: {error}"
        return self

    def __exit__(self, *_: object) -> None:
        if self._database is not None:
            while self._unsaved or self._unsaved_roots:
                self.save()
                if self._is_failing:
                    break
            self._database.close()
            self._database = None

    def delay(self, now: float) -> float | None:
        """Seconds to wait for another change before writing; None: there is nothing to write."""
        if not (self._unsaved or self._unsaved_roots):
            return None
        if self._is_failing:
            self._again = self._again or now + SAVE_AGAIN
            return max(0.0, self._again - now)
        return max(0.0, min(self._pause, self._since + SAVE_LATEST - now))

    def files(self) -> frozenset[str]:
        """The files of which something was kept before the start."""
        return frozenset(self._from_before)

    def roots(self) -> Mapping[str, Identity]:
        """Which folders the given paths were before the start."""
        return dict(self._roots)

    def note_roots(self, roots: Mapping[str, Identity], now: float) -> None:
        """Which folders they are now."""
        if self._database is not None and roots != self._roots:
            if not self._unsaved:
                self._since = now
            self._roots = dict(roots)
            self._unsaved_roots = True

    def texts_of(self, file: str) -> Callable[[], list[str]]:
        """Reads the kept chunks of a file, in its order. Blocking."""
        return lambda: self._texts(file)

    def _texts(self, file: str) -> list[str]:
        if self._database is None:
            return []
        try:
            rows = self._database.execute("SELECT text FROM chunk WHERE file = ? ORDER BY line, digest", (file,))
            return [text for (text,) in rows]
        except sqlite3.Error as error:
            self.failure = f"last good versions cannot be read: {error}"
            return []

    def keep(self, file: str, change: FileChange, texts: Mapping[bytes, tuple[int, str]], now: float) -> None:
        """Note what a change of a file means for what is kept.

        Args:
            file: its path.
            change: what was read; what is in force now comes from its chunks, and from chunks that are kept already.
            texts: line and text of the chunks that were read anew.
            now: monotonic seconds.
        """
        if self._database is None:
            return
        there = self._from_before.pop(file, set())
        removed = there.difference(claim.chunk for claim in change.record.claims()) if there else set()
        removed.update(change.removed_chunks)
        new = {digest: text for digest, text in texts.items() if digest not in there}
        if not (removed or new):
            return
        unsaved = self._pending(file, now)
        for digest in removed:
            unsaved.texts.pop(digest, None)
        unsaved.removed |= removed
        unsaved.removed.difference_update(new)
        unsaved.texts.update(new)

    def forget(self, file: str, now: float) -> None:
        """The file is gone."""
        if self._database is not None:
            self._from_before.pop(file, None)
            pending = self._pending(file, now)
            pending.forget = True
            pending.texts.clear()

    def _pending(self, file: str, now: float) -> _Unsaved:
        if not self._unsaved:
            self._since = now
        self._pause = SAVE_PAUSE
        return self._unsaved.setdefault(file, _Unsaved())

    def save(self) -> None:
        """Write some of what there is to write, a few milliseconds' worth; all of it is still there if that fails.
        Blocking."""
        if self._database is None:
            return
        self._pause = SAVE_YIELD
        self._again = 0.0
        written: dict[str, dict[bytes, tuple[int, str]]] = {}
        try:
            with self._database:
                if self._unsaved_roots:
                    self._write_roots(self._database)
                left = SAVE_CHUNKS
                for file, changes in self._unsaved.items():
                    if left <= 0:
                        break
                    written[file] = changes.first(left)
                    left -= _write_some(self._database, file, changes, written[file])
        except sqlite3.Error as error:
            self._is_failing = True
            self.failure = f"last good versions cannot be written: {error}"
        else:
            self._is_failing = self._unsaved_roots = False
            self.failure = ""
            self._settle(written)

    def _settle(self, written: Mapping[str, Mapping[bytes, tuple[int, str]]]) -> None:
        """These changes are on disk."""
        for file, chunks in written.items():
            changes = self._unsaved[file]
            changes.forget = False
            changes.removed.clear()
            for digest in chunks:
                del changes.texts[digest]
            if not changes.texts:
                del self._unsaved[file]

    def _write_roots(self, database: sqlite3.Connection) -> None:
        database.execute("DELETE FROM root")
        rows = [(path, *map(str, identity)) for path, identity in self._roots.items()]
        database.executemany("INSERT INTO root (path, device, inode) VALUES (?, ?, ?)", rows)


def _write_some(
    database: sqlite3.Connection, file: str, changes: _Unsaved, chunks: Mapping[bytes, tuple[int, str]]
) -> int:
    """Write what changed in one file, of the new chunks those given; returns how many rows that were."""
    if changes.forget:
        database.execute("DELETE FROM chunk WHERE file = ?", (file,))
    gone = [(file, digest) for digest in changes.removed]
    database.executemany("DELETE FROM chunk WHERE file = ? AND digest = ?", gone)
    new = [(file, digest, line, text) for digest, (line, text) in chunks.items()]
    database.executemany("INSERT OR IGNORE INTO chunk (file, digest, line, text) VALUES (?, ?, ?, ?)", new)
    return len(gone) + len(new) + 1


def _open_database(state_dir: Path) -> sqlite3.Connection:
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = state_dir / FILE_NAME
    try:
        return _open(path)
    except sqlite3.DatabaseError:
        # From another version, or damaged. It is only a spare copy.
        for name in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
            name.unlink(missing_ok=True)
        return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    database = sqlite3.connect(path, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"version {version}")
        database.execute(
            "CREATE TABLE IF NOT EXISTS chunk (file TEXT, digest BLOB, line INTEGER, text TEXT,"
            " PRIMARY KEY (file, digest))"
        )
        # As texts: inodes have 64 bits without a sign.
        database.execute("CREATE TABLE IF NOT EXISTS root (path TEXT PRIMARY KEY, device TEXT, inode TEXT)")
        database.execute(f"PRAGMA user_version = {_VERSION}")
        database.commit()
    except sqlite3.Error:
        database.close()
        raise
    return database
