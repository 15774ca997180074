"""Which folders are watched, and by which inotify watches: found quickly by number, by path, and by what is around."""

from bisect import bisect_left, insort
from typing import Final, final

_AFTER_SLASH: Final = "0"
"""The character that follows the slash: what is below a folder sorts before the folder's name with it."""


@final
class Watches:
    """A folder with several paths (links) has one watch; a path whose folder was replaced has, for a moment, two."""

    def __init__(self) -> None:
        self._folders: dict[int, set[str]] = {}
        self._watches: dict[str, set[int]] = {}
        self._sorted: list[str] = []
        """Paths with a slash at the end, so that those below a folder stand together."""

    def add(self, folder: str, watch: int) -> None:
        """The watch is about that path, too."""
        self._folders.setdefault(watch, set()).add(folder)
        if folder not in self._watches:
            insort(self._sorted, _with_slash(folder))
        self._watches.setdefault(folder, set()).add(watch)

    def folders(self, watch: int) -> tuple[str, ...]:
        """The paths that a watch is about."""
        return tuple(self._folders.get(watch, ()))

    def end(self, watch: int) -> None:
        """There is no such watch any more."""
        for folder in self._folders.pop(watch, ()):
            watches = self._watches[folder]
            watches.discard(watch)
            if not watches:
                del self._watches[folder]
                del self._sorted[bisect_left(self._sorted, _with_slash(folder))]

    def lose(self, folder: str) -> tuple[set[str], list[int]]:
        """A path and all below it mean something else now: returns these paths, and watches that are about none."""
        prefix = _with_slash(folder)
        start = bisect_left(self._sorted, prefix)
        stop = bisect_left(self._sorted, prefix[:-1] + _AFTER_SLASH)
        lost = {path[:-1] or "/" for path in self._sorted[start:stop]}
        del self._sorted[start:stop]
        unused = []
        for path in lost:
            for watch in self._watches.pop(path):
                self._folders[watch].discard(path)
                if not self._folders[watch]:
                    del self._folders[watch]
                    unused.append(watch)
        return lost, unused


def _with_slash(folder: str) -> str:
    return folder if folder.endswith("/") else folder + "/"
