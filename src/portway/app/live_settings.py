"""Settings that change while Portway runs: its settings file is followed.

What is compiled into routes, listeners and upstreams takes effect at once, over xDS like everything that is declared;
what Envoy's bootstrap, this process or its sockets were made from needs a restart, and the log says so.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from portway.settings import Edge, Settings, SettingsError, all_settings

log = structlog.get_logger(__name__)

LOOK = timedelta(seconds=1)
"""Pause between looks at the file: settings change rarely, and one `stat` is nothing. A version is read when it has
been there for two looks: its writer has finished then."""

NEEDS_RESTART = frozenset({"fleet", "zone", "max_connections", "access_log"})
"""Fields of the edge that the bootstrap or this process was made from."""


class Mark(NamedTuple):
    """What tells one version of a file from another."""

    modified: int
    changed: int
    size: int
    inode: int


class SettingsFile(msgspec.Struct, frozen=True, kw_only=True):
    """Where settings come from besides the command line and the environment."""

    path: Path
    read: Callable[[], Settings]
    """All settings, with those of the file as it is now. Raises SettingsError."""


def updated(now: Settings, wanted: Settings) -> tuple[Settings, tuple[str, ...], tuple[str, ...]]:
    """What of the wanted settings can be had without a restart.

    Returns:
        The settings that are to be in force; the names of those that changed; the names of those that need a restart.
    """
    live: list[str] = []
    late: list[str] = []
    changes: dict[str, object] = {}
    for setting in all_settings():
        value = getattr(getattr(wanted, setting.branch), setting.field)
        if value == getattr(getattr(now, setting.branch), setting.field):
            continue
        if setting.branch == "edge" and setting.field not in NEEDS_RESTART:
            live.append(setting.name)
            changes[setting.field] = value
        else:
            late.append(setting.name)
    return (
        msgspec.structs.replace(now, edge=msgspec.structs.replace(now.edge, **changes)),
        tuple(sorted(live)),
        tuple(sorted(late)),
    )


async def follow_settings(file: SettingsFile, settings: Settings, use: Callable[[Edge], None]) -> None:
    """Follow the file until cancelled. What is wrong in it is logged, and the settings stay as they were.

    Args:
        file: may go and come back. One that was emptied counts as gone: a full disk or half a write leaves that, and
            the defaults would open what settings close. `{}` says that nothing shall be set.
        settings: those in force.
        use: called with the edge whenever it has changed.
    """
    # Nothing counts as read: the file may have changed between the settings in force and this line.
    read: Mark | None = None
    last: Mark | None = None
    while True:
        await asyncio.sleep(LOOK.total_seconds())
        mark, before = await asyncio.to_thread(_mark, file.path), last
        last = mark
        if mark is None or mark == read or mark != before:
            continue  # of a file that is gone the settings stay
        read = mark
        try:
            wanted = await asyncio.to_thread(file.read)
        except SettingsError as error:
            log.error("settings cannot be used, the old ones stay", path=str(file.path), problem=str(error))  # noqa: TRY400 - whose text says all
            continue
        settings, live, late = updated(settings, wanted)
        if live:
            use(settings.edge)
        _say(live, late)


def _say(live: Iterable[str], late: Iterable[str]) -> None:
    if live:
        log.info("settings changed", settings=list(live))
    if late:
        log.warning("settings need a restart of Portway", settings=list(late))


def _mark(path: Path) -> Mark | None:
    """The file's version; `None`: it is not there, or empty."""
    try:
        status = path.stat()
    except OSError:
        return None
    if status.st_size == 0:
        return None
    # The time of change too: a file that could not be read for its rights is read again when it gets others.
    return Mark(status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
