"""Files, folders and standard input as a source of objects; follows every change.

The shell around parts that decide: `watcher` (which files to read, when), `contents` (what a file says, last good
included), `catalog` (who owns an object, what changed), `last_good` (over a restart). Files are read in threads;
parsed here, in slices, because parsing holds the interpreter's lock wherever it runs. `docs/design/file-source.md` has
the reasons.

What it does not do: writing, expanding templates, following a pipe or standard input (they are read once).
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, final

import msgspec

from portway.objects.defaults import DEFAULT_NAMESPACE
from portway.objects.verdict import ObjectKey, Severity
from portway.sources.catalog import Catalog
from portway.sources.contents import FileReading, is_unchanged
from portway.sources.file_names import STDIN, display_path, is_json_name
from portway.sources.last_good import Keeper
from portway.sources.locate import FileLines, Locate
from portway.sources.problems import Problem
from portway.sources.reading import Bytes, Content, Missing, abandonable, read_file, read_stream
from portway.sources.records import EMPTY, Drift, FileChange, FileRecord, straighten
from portway.sources.settling import GRACE, Why
from portway.sources.tree import UNKNOWN, Fingerprint, is_below
from portway.sources.watcher import Watcher
from portway.store import ChangeSet

SLICE: Final = 0.005
"""Seconds that parsing may hold the event loop: an ACK or an endpoint change waits no longer."""
LARGE_CHUNK: Final = 256 * 1024
"""Characters. A larger document is parsed in a thread: it would hold the loop for more than 50 ms."""
OVERTAKE: Final = 0.02
"""Seconds of a bulk change after which others have a look in: endpoints must not wait for it."""
OVERTAKE_LATEST: Final = 2.0
"""Seconds after which no others are taken in: a bulk change must come to an end, too."""
OVERTAKE_FILES: Final = 10
BATCH_FILES: Final = 200
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Read ahead, at most."""
LOAD_DOCUMENTS: Final = 3_000
"""In one change set of the first load, about."""


class FileStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the source has done; for a progress line, metrics and `status`."""

    files: int
    """Followed now."""
    files_found: int
    """During the first load: how many there are to read."""
    broken_files: int
    """With something refused or unreadable now."""
    documents: int
    """In all files now."""
    documents_parsed: int
    """Since the start; a changed file costs its changed documents."""
    objects: int
    """Declared now; one declared twice counts once, a synthesised Namespace not at all."""
    change_sets: int
    last_change: float
    """Unix time of the last change set; 0 before the first."""
    synced: bool
    watching: str
    """How changes are noticed: `inotify`, `polling`, or empty if they are not followed."""
    watch_error: str
    """Why not everything can be watched; empty if all is."""


@final
class FileSource:
    """Files, folders (with their folders) and `-` for standard input.

    Args:
        paths: as the user wrote them; messages and origins begin with them.
        state_dir: where last good versions are kept over a restart; None: nowhere.
        follow: report changes after the first load; else `changes()` ends after it.
        poll_interval: look for changes in this interval instead of using inotify, for filesystems that have none.
        stdin: read for `-`.
        namespace: of objects that name none.
        clock: monotonic seconds.
        wall_clock: Unix time, comparable to the filesystem's.
    """

    def __init__(
        self,
        paths: Sequence[str],
        *,
        state_dir: Path | None = None,
        follow: bool = True,
        poll_interval: timedelta | None = None,
        stdin: BinaryIO | None = None,
        namespace: str = DEFAULT_NAMESPACE,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._paths = [display_path(path) for path in paths]
        self._follow = follow
        self._stdin = stdin
        self._namespace = namespace
        self._piped: Content | None = None
        """Standard input, which cannot be read again to find a line."""
        self._clock = clock
        self._wall_clock = wall_clock
        poll = poll_interval.total_seconds() if poll_interval else None
        self._watcher = Watcher(self._paths, follow=follow, poll=poll, clock=clock, wall_clock=wall_clock)
        self._catalog = Catalog()
        self._records: dict[str, FileRecord] = {}
        self._drifts: dict[str, Drift] = {}
        self._doubted: dict[str, frozenset[ObjectKey]] = {}
        """What files declare that look half-written and wait for a second look."""
        self._keeper = Keeper(state_dir)
        self._slice_ends = 0.0
        self._files_found = 0
        self._parsed = 0
        self._change_sets = 0
        self._last_change = 0.0
        self._synced = False

    def statistics(self) -> FileStatistics:
        """Cost: the number of files."""
        return FileStatistics(
            files=len(self._records),
            files_found=self._files_found,
            broken_files=sum(not record.whole for record in self._records.values()),
            documents=sum(record.documents for record in self._records.values()),
            documents_parsed=self._parsed,
            objects=len(self._catalog),
            change_sets=self._change_sets,
            last_change=self._last_change,
            synced=self._synced,
            watching=self._watcher.method,
            watch_error=self._watcher.watch_error,
        )

    def locate(self, key: ObjectKey, field: str = "") -> tuple[str, int] | None:
        """File and line of a field (`spec.rules[0].backendRefs[1].name`); of its nearest parent if it is missing.

        Blocking, a few milliseconds: the file is read again. None: no file declares the object.
        """
        return self.locator()(key, field)

    def locator(self) -> Locate:
        """`locate` for many questions at once: each file is read once, and quickest if they are sorted by object.

        To be let go of afterwards: it holds the files' texts and knows nothing of later changes.
        """
        files: dict[str, FileLines | None] = {}

        def locate(key: ObjectKey, field: str) -> tuple[str, int] | None:
            claim = self._catalog.owner(key)
            if claim is None:
                return None
            if claim.file not in files:
                files[claim.file] = self._lines_of(claim.file)
            lines = files[claim.file]
            line = 0 if lines is None else lines.line_of(key, claim.chunk, field)
            return claim.file, line or claim.line

        return locate

    def _lines_of(self, file: str) -> FileLines | None:
        content = read_file(file) if file != STDIN else self._piped
        if not isinstance(content, Bytes) or file not in self._records:
            return None
        text = content.data.decode(errors="replace").removeprefix("\ufeff")
        return FileLines(text, self._records[file], is_json=is_json_name(file))

    async def changes(self) -> AsyncIterator[ChangeSet]:
        """As `portway.store.Source` says. One consumer, once."""
        with self._watcher, self._keeper:
            async for change in self._load():
                yield self._counted(change)
            while self._follow:
                async for change in self._follow_once():
                    yield self._counted(change)
                for change in self._flush():
                    yield self._counted(change)

    def _flush(self) -> Iterator[ChangeSet]:
        """Changes first; then, in change sets of their own, objects that only stand on another line now."""
        # What moved into a file that is not believed yet is not gone from where it was.
        awaited = frozenset[ObjectKey]().union(*self._doubted.values())
        yield from self._catalog.flush(awaited)
        for path, drift in self._drifts.items():
            self._put(path, straighten(path, self._records[path], drift))
        self._drifts.clear()
        yield from self._catalog.flush(awaited)

    def _counted(self, change: ChangeSet) -> ChangeSet:
        self._change_sets += 1
        self._last_change = self._wall_clock()
        self._synced = self._synced or change.synced
        return change

    async def _load(self) -> AsyncIterator[ChangeSet]:
        """Everything that is there, in slices; the last change set is the one with `synced`."""
        restorable = self._keeper.files()
        self._watcher.expect(self._keeper.roots())
        found = await self._watcher.scan(restorable)
        for item, failure in (("inotify", self._watcher.failure), ("last-good", self._keeper.failure)):
            if failure:
                self._report(item, _degraded(item, failure))
        await self._restore(file for file in restorable if any(is_below(file, outage) for outage in found.outages))
        for file in restorable - found.files.keys() - self._records.keys():
            self._keeper.forget(file, self._clock())
        self._keeper.note_roots(self._watcher.identities(), self._clock())
        self._files_found = len(found.files)
        if STDIN in self._paths:
            self._piped = await abandonable(partial(read_stream, self._stdin or sys.stdin.buffer))
            await self._accept(STDIN, Why.GRACE, self._piped)
        reported = 0
        for batch in _batches(found.files):
            async for change in self._take(dict.fromkeys(batch, Why.WHOLE)):
                yield change
            if self._parsed - reported >= LOAD_DOCUMENTS:
                reported = self._parsed
                for change in self._flush():
                    yield change
        # Who writes to a file right now may end first: what is served at once shall be whole.
        if self._follow:
            await self._watcher.notice()
            while not self._watcher.is_quiet:
                async for change in self._follow_once():
                    yield change
        self._report_troubles()
        for change in self._flush():
            yield change
        yield ChangeSet(synced=True)

    async def _restore(self, files: Iterable[str]) -> None:
        """Serve files that cannot be reached as they were before the restart; why is said of their folder."""
        for file in files:
            unreachable = Problem(line=0, reason="Unreachable", problem="it cannot be reached", remedy="bring it back")
            change = FileReading(file, unreachable, EMPTY, self._keeper.texts_of(file)).result()
            record = msgspec.structs.replace(change.record, findings=())
            self._put(file, FileChange(record, declared=change.declared))
            self._watcher.seen(file, UNKNOWN)  # so that its absence is noticed when the folder is back
            await self._breathe()

    async def _follow_once(self) -> AsyncIterator[ChangeSet]:
        """Wait for something to happen and take it in. Yields what is too urgent for the next flush."""
        # Nobody waits for the disk: it gets its turn when nothing happens for a moment, or has waited long.
        if await self._watcher.wait(self._keeper.delay(self._clock())):
            await self._watcher.notice()
            self._keeper.note_roots(self._watcher.identities(), self._clock())
            self._report_troubles()
            async for change in self._take(self._watcher.take_due()):
                yield change
        else:
            await asyncio.to_thread(self._keeper.save)
            self._report("last-good", _degraded("last-good", self._keeper.failure) if self._keeper.failure else None)

    def _report_troubles(self) -> None:
        for path, trouble in self._watcher.take_troubles().items():
            self._report(path + "/", trouble, path)

    def _report(self, item: str, problem: Problem | None, file: str = "") -> None:
        self._catalog.say(item, (problem.at(file, 1),) if problem else ())

    async def _take(self, due: Mapping[str, Why]) -> AsyncIterator[ChangeSet]:
        """Read files and take in what they say. While that goes on, yields changes of endpoints: those among it, and
        those that come meanwhile."""
        waiting = dict(due)
        begin = looked = self._clock()
        while waiting:
            batch = dict(islice(waiting.items(), BATCH_FILES))
            for path, content in await abandonable(partial(_read_all, list(batch))):
                if path not in batch:
                    continue  # it changed again meanwhile: this is an old version
                del waiting[path]
                await self._accept(path, batch[path], content)
                if self._synced and waiting and self._clock() - looked > OVERTAKE:
                    if self._clock() - begin < OVERTAKE_LATEST:
                        await self._overtake(waiting, batch)
                    for change in self._catalog.flush_endpoints():
                        yield change
                    looked = self._clock()

    async def _overtake(self, waiting: dict[str, Why], batch: dict[str, Why]) -> None:
        """Take in some of what has changed since; the rest joins those that are waiting. `batch`: read already."""
        await self._watcher.notice()
        newer = self._watcher.take_due()
        for path, why in newer.items():
            batch.pop(path, None)
            waiting.pop(path, None)
            waiting[path] = why
        for path, content in await abandonable(partial(_read_all, list(islice(newer, OVERTAKE_FILES)))):
            del waiting[path]
            await self._accept(path, newer[path], content)

    async def _accept(self, path: str, why: Why, content: Content) -> None:
        if isinstance(content, Bytes) and self._follow and not content.steady and why is not Why.GRACE:
            self._watcher.suspicious(path)
            return
        self._doubted.pop(path, None)
        if isinstance(content, Missing):
            self._drop(path)
            return
        drift = self._drifts.pop(path, None)
        if drift is not None:  # the second change before a flush starts from the lines of the first
            self._put(path, straighten(path, self._records[path], drift))
        before = self._records.get(path, EMPTY)
        if isinstance(content, Bytes):
            if content.fingerprint is not None:
                self._watcher.seen(path, content.fingerprint)
            if is_unchanged(before, content.data):
                return
        data = content.data if isinstance(content, Bytes) else content
        reading = FileReading(path, data, before, self._keeper.texts_of(path), self._namespace)
        await self._parse(reading)
        change = reading.result()
        may_be_half = why is Why.WHOLE and self._follow and _looks_half_written(change.record, before)
        if may_be_half and (self._synced or self._is_young(content)):
            self._watcher.suspicious(path)
            self._doubted[path] = frozenset(claim.key for claim in change.record.claims())
            return
        self._put(path, change)
        if path != STDIN:
            self._keeper.keep(path, change, reading.texts, self._clock())

    async def _parse(self, reading: FileReading) -> None:
        if reading.largest > LARGE_CHUNK:
            await asyncio.to_thread(reading.finish)
        for _ in reading:
            await self._breathe()
        self._parsed += reading.parsed

    async def _breathe(self) -> None:
        """Let others run if our slice is over."""
        if self._clock() >= self._slice_ends:
            await asyncio.sleep(0)
            self._slice_ends = self._clock() + SLICE

    def _is_young(self, content: Content) -> bool:
        mark: Fingerprint | None = content.fingerprint if isinstance(content, Bytes) else None
        return mark is not None and 0 <= self._wall_clock() - mark.modified_ns / 1e9 < GRACE

    def _put(self, path: str, change: FileChange) -> None:
        self._records[path] = change.record
        if change.drift is not None:
            self._drifts[path] = change.drift
        self._catalog.change(change.withdrawn, change.declared)
        self._catalog.say(path, change.record.findings)

    def _drop(self, path: str) -> None:
        """The file is gone, and with it what it declared; unless its whole folder cannot be reached."""
        if self._watcher.is_in_outage(path):
            return
        self._watcher.forgotten(path)
        record = self._records.pop(path, None)
        self._drifts.pop(path, None)
        if record is not None:
            self._catalog.change(list(record.claims()), ())
            self._catalog.say(path, ())
            self._keeper.forget(path, self._clock())


def _read_all(paths: Sequence[str]) -> list[tuple[str, Content]]:
    """Read files; the smallest first, as it is done with soonest. Whose turn it is changes no outcome."""
    read = [(path, read_file(path)) for path in paths]
    return sorted(read, key=lambda one: len(one[1].data) if isinstance(one[1], Bytes) else 0)


def _batches(files: Mapping[str, Fingerprint]) -> Iterator[list[str]]:
    """Files in order of path, some megabytes at a time."""
    batch: list[str] = []
    size = 0
    for path in sorted(files):
        batch.append(path)
        size += files[path].size
        if size >= BATCH_BYTES or len(batch) >= BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _looks_half_written(record: FileRecord, before: FileRecord) -> bool:
    return not record.whole or (before.documents > 0 and not record.documents)


_RESTORE: Mapping[str, str] = {
    "inotify": "raise fs.inotify.max_user_instances (sysctl), or close programs that watch files",
    "last-good": "look at the state folder: its free space, its permissions",
}
"""What to do about a part of the source that does not work."""


def _degraded(item: str, problem: str) -> Problem:
    return Problem(line=0, reason="Degraded", problem=problem, remedy=_RESTORE[item], severity=Severity.WARNING)
