"""Which files the given paths stand for, and which of them an event is about.

Folders are watched, never files: an atomic save replaces the file, and a watch would stay with the old one. Where a
path leads through symbolic links, the folder of every link is watched too, so that turning one (`..data` of a mounted
ConfigMap, `current -> releases/7`) is seen at once; of a path that is missing, the deepest folder that is there.

Blocking calls; `files.py` runs `scan` and `rescan` in a thread, never two at a time.
"""

# Paths are strings here: they are compared and joined by the thousand.
# ruff: noqa: PTH112, PTH114, PTH116, PTH118, PTH119, PTH120

import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, final

import msgspec

from portway.sources.file_names import STDIN, is_folder_name, is_manifest_name
from portway.sources.inotify import FileEvent, Inotify, Mask
from portway.sources.links import LinkTrail, follow_links
from portway.sources.problems import Problem
from portway.sources.watches import Watches

MAX_FOLDER_DEPTH: Final = 64
Identity = tuple[int, int]
"""Device and inode of a folder: another one under the same name has another."""


class Fingerprint(msgspec.Struct, frozen=True, gc=False):
    """Says cheaply whether a file may have changed."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


UNKNOWN: Final = Fingerprint(0, 0, 0, 0, 0)
"""Equal to none that a file has."""


def fingerprint(found: os.stat_result) -> Fingerprint:
    return Fingerprint(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Found(msgspec.Struct, frozen=True):
    """What a scan found below one path."""

    files: dict[str, Fingerprint]
    troubles: dict[str, Problem]
    """Per path that cannot be looked into."""
    outages: tuple[str, ...] = ()
    """Below these paths nothing can be said: what was there stays in force."""


@final
class FileTree:
    """The followed paths, with their watches.

    Args:
        roots: as given on the command line, normalised.
        inotify: None: nothing is watched, somebody scans from time to time.
    """

    def __init__(self, roots: Sequence[str], inotify: Inotify | None) -> None:
        self._roots = [root for root in dict.fromkeys(roots) if root != STDIN and not _is_covered(root, roots)]
        self._inotify = inotify
        self._identities: dict[str, Identity] = {}
        self._folders: set[str] = set()
        self._watches = Watches()
        self._steps = LinkTrail()
        self._targets = LinkTrail()
        self.watch_error = ""
        """Why not everything could be watched; empty if all is."""

    def roots(self) -> tuple[str, ...]:
        return tuple(self._roots)

    def expect(self, identities: Mapping[str, Identity]) -> None:
        """Which folders the roots were before a restart."""
        self._identities.update((root, identity) for root, identity in identities.items() if root in self._roots)

    def identities(self) -> Mapping[str, Identity]:
        """Which folders the roots are, as far as they were read; live."""
        return self._identities

    def scan(self, known: frozenset[str]) -> Found:
        """Look at everything. `known`: files that were there before, for telling an outage from a deletion."""
        files: dict[str, Fingerprint] = {}
        troubles: dict[str, Problem] = {}
        outages: list[str] = []
        for root in self._roots:
            found = self.rescan(root, known)
            files.update(found.files)
            troubles.update(found.troubles)
            outages.extend(found.outages)
        return Found(files, troubles, tuple(outages))

    def replaced_roots(self) -> list[str]:
        """Given folders that are not the ones that were read: removed, recreated, or hidden by a mount."""
        found = []
        for root, identity in self._identities.items():
            try:
                status = os.stat(root)
            except OSError:
                found.append(root)
                continue
            if (status.st_dev, status.st_ino) != identity:
                found.append(root)
        return found

    def topmost(self, paths: Mapping[str, bool]) -> dict[str, bool]:
        """Leave out paths that the look at another one reaches; what is true of a path must be so of all below it."""
        top: dict[str, bool] = {}
        for path, flag in paths.items():
            highest = path
            for here in _lineage(path):
                if here in paths:
                    highest = here
                if here in self._roots or not is_folder_name(os.path.basename(here)):
                    break
            top[highest] = flag and top.get(highest, True)
        return top

    def rescan(self, path: str, known: frozenset[str]) -> Found:
        """Look at one root, folder or file."""
        found = Found({}, {})
        outages: list[str] = []
        self._look_out(path)
        try:
            status = os.stat(path)
        except OSError as error:
            if path in self._roots:
                found.troubles[path] = unreadable(path, error)
                if path in self._identities or any(is_below(file, path) for file in known):
                    outages.append(path)
            elif not isinstance(error, FileNotFoundError | NotADirectoryError):
                found.troubles[path] = unreadable(path, error)
                outages.append(path)
            return Found(found.files, found.troubles, tuple(outages))
        if not stat.S_ISDIR(status.st_mode):
            if path in self._roots or (stat.S_ISREG(status.st_mode) and is_manifest_name(os.path.basename(path))):
                found.files[path] = fingerprint(status)
            return found
        self._walk(path, found, outages, ((status.st_dev, status.st_ino),))
        if path in self._roots:
            self._check_identity(path, status, found, known, outages)
        return Found(found.files, found.troubles, tuple(outages))

    def _check_identity(
        self, root: str, status: os.stat_result, found: Found, known: frozenset[str], outages: list[str]
    ) -> None:
        """Another folder under the same name that is empty is one that is not mounted, or not filled yet."""
        identity = (status.st_dev, status.st_ino)
        was = self._identities.get(root)
        if was not in (None, identity) and not found.files and any(is_below(file, root) for file in known):
            outages.append(root)
            found.troubles[root] = Problem(
                line=0,
                reason="FolderReplaced",
                problem="another folder has taken its place and holds no manifest; what was read before stays in force",
                remedy="mount or fill it; to delete the objects, put an empty .yaml file into it",
            )
            return
        self._identities[root] = identity

    def _walk(self, folder: str, found: Found, outages: list[str], ancestors: tuple[tuple[int, int], ...]) -> None:
        self._folders.add(folder)
        self._watch(folder)  # before listing: what appears in between is either listed or reported
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                found.troubles[folder] = unreadable(folder, error)
                outages.append(folder)
            return
        for entry in listed:
            path = os.path.join(folder, entry.name)
            is_link = entry.is_symlink()
            if not (is_manifest_name(entry.name) or (is_folder_name(entry.name) and (is_link or entry.is_dir()))):
                continue
            if is_link:
                self._look_out(path)
            try:
                status = entry.stat()
            except OSError as error:
                if is_link and is_manifest_name(entry.name) and error.errno in (errno.ENOENT, errno.ELOOP):
                    found.troubles[path] = unreadable(path, error)
                continue
            if stat.S_ISREG(status.st_mode) and is_manifest_name(entry.name):
                found.files[path] = fingerprint(status)
            elif stat.S_ISDIR(status.st_mode) and is_folder_name(entry.name):
                identity = (status.st_dev, status.st_ino)
                if identity not in ancestors and len(ancestors) < MAX_FOLDER_DEPTH:
                    self._walk(path, found, outages, (*ancestors, identity))

    def _watch(self, folder: str) -> None:
        if self._inotify is None:
            return
        try:
            watch = self._inotify.add(folder)
        except OSError as error:
            # A folder that is gone or closed to us is reported by whoever lists it; these two are about us.
            if error.errno in (errno.ENOSPC, errno.ENOMEM):
                self.watch_error = f"no more folders can be watched ({error.strerror})"
            return
        self._watches.add(folder, watch)

    def _look_out(self, path: str) -> None:
        """Watch whatever can change what the path means."""
        steps, real = follow_links(path)
        self._steps.set(path, steps)
        for step in steps:
            self._watch(os.path.dirname(step))
        if real is not None and (path in self._roots or steps):
            self._targets.set(path, (real,))
            self._watch(os.path.dirname(real))

    def places(self, event: FileEvent) -> Iterator["Place"]:
        """What an event is about."""
        if event.mask & Mask.OVERFLOW:
            yield from (Place(root, rescan=True) for root in self._roots)
            return
        folders = self._watches.folders(event.watch)
        if event.mask & Mask.IGNORED:
            self._watches.end(event.watch)
        for folder in folders:
            if not event.name:
                if event.mask & (Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT | Mask.IGNORED):
                    yield from self._lost(folder, event)
                continue
            path = os.path.join(folder, event.name)
            for dependent in self._steps.dependents(path):
                yield Place(dependent, rescan=True)
            for dependent in self._targets.dependents(path):
                if dependent != path:
                    yield Place(dependent)
            if folder in self._folders:
                yield from self._entry(path, event)
            elif path in self._roots:
                yield Place(path)

    def _entry(self, path: str, event: FileEvent) -> Iterator["Place"]:
        if is_manifest_name(event.name) and not event.mask & Mask.ISDIR:
            yield Place(path)
        elif is_folder_name(event.name):
            came = event.mask & (Mask.CREATE | Mask.MOVED_TO)
            if event.mask & Mask.ISDIR or path in self._folders or (came and os.path.islink(path)):
                yield Place(path, rescan=True)

    def _lost(self, folder: str, event: FileEvent) -> Iterator["Place"]:
        """A watched folder was removed or renamed: its watch is no longer about this path."""
        lost, unused = self._watches.lose(folder)
        self._folders -= lost
        if self._inotify is not None and not event.mask & Mask.IGNORED:
            for watch in unused:
                self._inotify.remove(watch)
        for root in self._roots:
            if folder == root or is_below(folder, root):
                yield Place(folder, rescan=True)
        for dependent in {*self._steps.below(folder), *self._targets.below(folder)}:
            yield Place(dependent, rescan=True)


class Place(msgspec.Struct, frozen=True, gc=False):
    """A path that an event is about."""

    path: str
    rescan: bool = False
    """Look at it and all below; else it is a file, and the event's bits say what happened to it."""


def is_below(path: str, folder: str) -> bool:
    """Is the path inside the folder?"""
    return path.startswith(folder if folder.endswith("/") else folder + "/") or (folder == "." and path[:1] not in "/.")


def group_by_path(files: Iterable[str], paths: Collection[str]) -> dict[str, list[str]]:
    """The files at or below each of the paths. Cost: the files and folders, however many paths."""
    groups: dict[str, list[str]] = {path: [] for path in paths}
    of_folder: dict[str, list[list[str]]] = {}
    for file in files:
        if file in groups:
            groups[file].append(file)
        folder = os.path.dirname(file)
        if folder not in of_folder:
            of_folder[folder] = [groups[above] for above in _lineage(folder) if above in groups]
        for group in of_folder[folder]:
            group.append(file)
    return groups


def _lineage(path: str) -> Iterator[str]:
    """A path and the folders around it, from the inside out."""
    yield path
    while (above := os.path.dirname(path)) != path:
        yield above
        path = above


def _is_covered(root: str, roots: Sequence[str]) -> bool:
    """Would a root be read twice? Only for plain sub-paths of another root that its scan reaches."""
    return any(
        other != root
        and is_below(root, other)
        and all(is_folder_name(part) for part in os.path.relpath(root, other).split("/"))
        and (os.path.isdir(root) or is_manifest_name(os.path.basename(root)))
        for other in roots
        if other != STDIN
    )


def unreadable(path: str, error: OSError) -> Problem:
    reason, problem, remedy = {
        errno.ENOENT: ("NotFound", "there is no such file or folder", "create it, or correct the path"),
        errno.ENOTDIR: ("NotFound", "a part of the path is not a folder", "correct the path"),
        errno.EACCES: (
            "PermissionDenied",
            "Portway may not read it",
            "allow its user to read it, and its folders to be entered",
        ),
        errno.ELOOP: ("LinkLoop", "symbolic links lead in a circle", "correct the link"),
    }.get(error.errno or 0, ("Unreadable", f"it cannot be read: {error.strerror}", "see to the disk or mount"))
    return Problem(line=0, reason=reason, problem=problem, remedy=remedy)
