"""Symbolic links on the way to a file: what must be watched to notice that a path leads elsewhere now."""

# Paths are strings here: they are compared and joined by the thousand.
# ruff: noqa: PTH100, PTH115, PTH118, PTH120

import os
import stat
from collections.abc import Iterable
from typing import Final, final

MAX_LINKS: Final = 40
"""Links followed for one path; Linux stops there too (path_resolution(7))."""


def follow_links(path: str) -> tuple[tuple[str, ...], str | None]:
    """The entries that decide what a path means, and what it means.

    Returns:
        Absolute paths of the links on the way (and of the part that is missing, if one is), each in its real folder;
        and the real path, None if something is missing or the links lead in a circle.
    """
    parts = [part for part in os.path.abspath(path).split("/") if part][::-1]
    here = "/"
    decisive: list[str] = []
    while parts:
        name = parts.pop()
        if name == "..":
            here = os.path.dirname(here)
            continue
        entry = os.path.join(here, name)
        try:
            is_link = stat.S_ISLNK(os.lstat(entry).st_mode)
            target = os.readlink(entry) if is_link else ""
        except OSError:
            return (*decisive, entry), None
        if not is_link:
            here = entry
            continue
        decisive.append(entry)
        if len(decisive) > MAX_LINKS:
            return tuple(decisive), None
        if target.startswith("/"):
            here = "/"
        parts.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
    return tuple(decisive), here


@final
class LinkTrail:
    """Which followed paths depend on which entries."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[str, ...]] = {}
        self._dependents: dict[str, set[str]] = {}

    def set(self, dependent: str, entries: Iterable[str]) -> None:
        """From now on the path depends on exactly these entries."""
        for entry in self._entries.pop(dependent, ()):
            others = self._dependents[entry]
            others.discard(dependent)
            if not others:
                del self._dependents[entry]
        found = tuple(dict.fromkeys(entries))
        if found:
            self._entries[dependent] = found
        for entry in found:
            self._dependents.setdefault(entry, set()).add(dependent)

    def dependents(self, entry: str) -> tuple[str, ...]:
        """Who depends on the entry."""
        return tuple(self._dependents.get(entry, ()))

    def below(self, folder: str) -> tuple[str, ...]:
        """Who depends on anything in the folder."""
        prefix = folder + "/"
        found = [paths for entry, paths in self._dependents.items() if entry == folder or entry.startswith(prefix)]
        return tuple(set().union(*found))
