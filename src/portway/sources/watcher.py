"""Notices what happens to the followed paths, and says which files are worth reading now.

Three ways, each for what the one before cannot see: inotify events; every `ROOT_CHECK` a look at the given paths
themselves (something may have been mounted over a folder); every `SAFETY_SCAN` a look at every file's fingerprint (a
network filesystem does not tell what its server's other clients do). Where there is no inotify, the last one alone,
more often.
"""

# Paths are strings here: they are compared and joined by the thousand.
# ruff: noqa: PTH114

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Self, final

from portway.sources.inotify import FileEvent, Inotify, Mask
from portway.sources.problems import Problem
from portway.sources.settling import Settling, Why
from portway.sources.tree import FileTree, Fingerprint, Found, Identity, Place, group_by_path, is_below

YOUNG: Final = 0.1
"""Seconds. A file that was found by looking, not by an event, and is younger may still be written to."""
ROOT_CHECK: Final = 2.0
SAFETY_SCAN: Final = 30.0
FALLBACK_POLL: Final = 1.0
"""Seconds between scans if inotify is not to be had."""


class _Differences(NamedTuple):
    """What a look at a path found."""

    found: Found
    changed: Mapping[str, Fingerprint]
    """Files that are new or other than they were."""
    missing: frozenset[str]


@final
class Watcher:
    """The followed paths, watched. A context manager; inside it belongs to one task.

    Args:
        paths: normalised.
        follow: False: only `scan` will be called.
        poll: seconds between scans instead of inotify; None: inotify.
        clock: monotonic seconds.
        wall_clock: Unix time, comparable to the filesystem's.
    """

    def __init__(
        self,
        paths: Sequence[str],
        *,
        follow: bool = True,
        poll: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._follow = follow
        self._poll = poll
        self._clock = clock
        self._wall_clock = wall_clock
        self._stack = contextlib.ExitStack()
        self._inotify: Inotify | None = None
        self._tree = FileTree(paths, None)
        self._settling = Settling()
        self._fingerprints: dict[str, Fingerprint] = {}
        self._troubles: dict[str, Problem] = {}
        self._told: dict[str, Problem] = {}
        self._outages: set[str] = set()
        self._next_check = 0.0
        self._next_scan = 0.0
        self.failure = ""
        """Why there is no inotify although it was wanted; empty if all is well."""

    def __enter__(self) -> Self:
        if self._follow and self._poll is None:
            try:
                self._inotify = self._stack.enter_context(Inotify())
            except OSError as error:
                self._poll = FALLBACK_POLL
                self.failure = (
                    f"inotify is not to be had ({error.strerror or error}); looking every {FALLBACK_POLL:g} s"
                )
        self._tree = FileTree(self._tree.roots(), self._inotify)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._inotify = None

    def expect(self, identities: Mapping[str, Identity]) -> None:
        """Which folders the given paths were before a restart: an empty one in the place of another is not believed.
        Inside the context, before the scan."""
        self._tree.expect(identities)

    def identities(self) -> Mapping[str, Identity]:
        """Which folders the given paths are; live."""
        return self._tree.identities()

    @property
    def method(self) -> str:
        """How changes are noticed: `inotify`, `polling`, or empty if they are not."""
        if not self._follow:
            return ""
        return "inotify" if self._inotify else "polling"

    @property
    def watch_error(self) -> str:
        """Why some folders are not watched; empty if all are."""
        return self.failure or self._tree.watch_error

    @property
    def is_quiet(self) -> bool:
        """Is nobody waiting to be read?"""
        return not len(self._settling)

    def outages(self) -> frozenset[str]:
        """Paths below which nothing can be said now: what was there stays in force."""
        return frozenset(self._outages)

    def is_in_outage(self, path: str) -> bool:
        return any(path == outage or is_below(path, outage) for outage in self._outages)

    def seen(self, path: str, mark: Fingerprint) -> None:
        """The file was read as it is with this fingerprint."""
        self._fingerprints[path] = mark

    def forgotten(self, path: str) -> None:
        """There is no such file any more."""
        self._fingerprints.pop(path, None)

    def suspicious(self, path: str) -> None:
        """The file looks half-written: it will be due once more, with `Why.GRACE`."""
        self._settling.suspicious(path, self._clock())

    def take_troubles(self) -> dict[str, Problem | None]:
        """Paths whose trouble changed since the last time; None: it is over."""
        changed: dict[str, Problem | None] = {
            path: trouble for path, trouble in self._troubles.items() if self._told.get(path) != trouble
        }
        changed.update((path, None) for path in self._told if path not in self._troubles)
        self._told = dict(self._troubles)
        return changed

    def take_due(self) -> dict[str, Why]:
        """Files that are to be read now."""
        return self._settling.take_due(self._clock())

    async def scan(self, restorable: frozenset[str]) -> Found:
        """Look at everything for the first time. `restorable`: files that were there before the restart."""
        found = await asyncio.to_thread(self._tree.scan, restorable)
        self._troubles.update(found.troubles)
        self._outages.update(found.outages)
        now = self._clock()
        self._next_check = now + ROOT_CHECK
        self._next_scan = now + (self._poll or SAFETY_SCAN)
        return found

    async def wait(self, at_most: float | None = None) -> bool:
        """Until there is an event, a look is due, or a file. False: `at_most` seconds passed before."""
        due = self._settling.next_due()
        until = self._next_scan if self._inotify is None else min(self._next_scan, self._next_check)
        delay = max(0.0, min(until, until if due is None else due) - self._clock())
        is_short = at_most is not None and at_most < delay
        if at_most is not None and is_short:
            delay = at_most
        if self._inotify is None:
            await asyncio.sleep(delay)
            return not is_short
        try:
            async with asyncio.timeout(delay):
                await self._inotify.wait()
        except TimeoutError:
            return not is_short
        return True

    async def notice(self) -> None:
        """Take in what happened; then `take_due` and `take_troubles` are up to date."""
        rescans: dict[str, bool] = {}
        for path, is_whole in self._interpret(self._inotify.read() if self._inotify else []):
            rescans[path] = is_whole and rescans.get(path, True)
        now = self._clock()
        if now >= self._next_scan:
            self._next_scan = now + (self._poll or SAFETY_SCAN)
            rescans = dict.fromkeys(self._tree.roots(), False)
        elif now >= self._next_check:
            rescans.update(dict.fromkeys(await asyncio.to_thread(self._tree.replaced_roots), False))
        if now >= self._next_check:
            self._next_check = now + ROOT_CHECK
        if rescans:
            looks = self._tree.topmost(rescans)
            # In a thread, with a copy: to look through 40,000 files takes a third of a second.
            seen = await asyncio.to_thread(self._differences, tuple(looks), dict(self._fingerprints))
            for (path, is_whole), differences in zip(looks.items(), seen, strict=True):
                self._compare(path, differences, is_whole)

    def _interpret(self, events: Sequence[FileEvent]) -> Iterator[tuple[str, bool]]:
        """Feed `settling`; yields paths to look at again, and whether what is there was moved there whole."""
        now = self._clock()
        departed: dict[int, set[str]] = {}
        moved_folders: set[str] = set()
        for event in events:
            for place in self._tree.places(event):
                if place.rescan:
                    yield place.path, bool(event.mask & Mask.MOVED_TO)
                else:
                    self._file_event(place, event, now)
                # Both halves of a rename among the followed paths are one change: neither waits for the other.
                if event.cookie and event.mask & Mask.MOVED_FROM:
                    departed.setdefault(event.cookie, set()).add(place.path)
                elif event.cookie and event.mask & Mask.MOVED_TO:
                    for path in departed.pop(event.cookie, set()) - {place.path}:
                        if path in self._fingerprints:
                            self._settling.whole(path, now)
                        else:
                            moved_folders.add(path)
        if moved_folders:
            for files in group_by_path(self._fingerprints, moved_folders).values():
                for file in files:
                    self._settling.whole(file, now)

    def _file_event(self, place: Place, event: FileEvent, now: float) -> None:
        path, mask = place.path, event.mask
        if mask & (Mask.CLOSE_WRITE | Mask.MOVED_TO) or (mask & Mask.CREATE and _is_made_whole(path)):
            self._settling.whole(path, now)
        elif mask & (Mask.CREATE | Mask.MODIFY):
            self._settling.being_written(path, now)
        elif mask & (Mask.DELETE | Mask.MOVED_FROM):
            self._settling.gone(path, now)
        elif mask & Mask.ATTRIB:
            self._settling.found(path, now)

    def _differences(self, paths: Sequence[str], before: Mapping[str, Fingerprint]) -> list[_Differences]:
        """Look at paths. Cost: what is there, and a pass over all that was."""
        known = group_by_path(before, paths)
        differences = []
        for path in paths:
            found = self._tree.rescan(path, frozenset(known[path]))
            changed = {file: mark for file, mark in found.files.items() if before.get(file) != mark}
            differences.append(_Differences(found, changed, frozenset(known[path]) - found.files.keys()))
        return differences

    def _compare(self, path: str, seen: _Differences, is_whole: bool) -> None:
        now, wall = self._clock(), self._wall_clock()
        found = seen.found
        below = [trouble for trouble in self._troubles if trouble == path or is_below(trouble, path)]
        for trouble in below:
            del self._troubles[trouble]
        self._troubles.update(found.troubles)
        self._outages -= {outage for outage in self._outages if outage == path or is_below(outage, path)}
        self._outages.update(found.outages)
        for file, mark in seen.changed.items():
            if self._fingerprints.get(file) != mark:
                is_young = not is_whole and 0 <= wall - mark.modified_ns / 1e9 < YOUNG
                (self._settling.young if is_young else self._settling.found)(file, now)
        for file in seen.missing:
            if not self.is_in_outage(file):
                self._settling.missing(file, now)


def _is_made_whole(path: str) -> bool:
    """Was an entry that appeared complete at once? Links are: a symbolic one, or another name of a file."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return os.path.islink(path) or status.st_nlink > 1
