"""The state folder: what Portway and its proxies keep on one machine, and who may use it.

    STATE/                    0700: sockets and snapshots here give access to private keys
      portway.lock            held (flock) by the Portway that runs; holds its process id for others to read
      xds.sock                where proxies find their control plane
      proxies/FLEET/          working directory of this fleet's Envoy, so that every path it is given is relative
        bootstrap-DIGEST.json the bootstrap by content: the name on a command line says what a process runs with
        admin.sock            Envoy's admin interface
        hot_*                 Envoy's own sockets for hot restart
        identity/             what it shows a control plane on another machine (`portway proxy`)
        logs/envoy.log        application log; `logs/access.log` is for listeners; `logs/output.log` what was printed

A Unix socket's path has at most 107 bytes (`sun_path`, unix(7)). Envoy needs one name only, since it runs in the
folder. Portway reaches a folder with a longer path through a descriptor of it: `/proc/self/fd/N/xds.sock`.

There is no record of running proxies: it could be stale, or missing after a kill. The process table is asked, see
`process.py`.
"""

import asyncio
import fcntl
import os
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self, final
from urllib.parse import quote

MAX_NAME_BYTES = 200  # NAME_MAX is 255; some room for file systems that take less
MAX_SOCKET_PATH_BYTES = 107  # unix(7): sun_path has 108, one of them for the end

LOOK = timedelta(seconds=2)
"""Pause between looks whether a folder is still there."""

LOCK = "portway.lock"
XDS_SOCKET = "xds.sock"
ADMIN_SOCKET = "admin.sock"
HOT_RESTART_SOCKET = "hot"
LOGS = "logs"
APPLICATION_LOG = f"{LOGS}/envoy.log"
ACCESS_LOG = f"{LOGS}/access.log"
OUTPUT_LOG = f"{LOGS}/output.log"


class StateFolderError(Exception):
    """The state folder cannot be used; the message says why and what to do.

    StateFolderError
    └── StateFolderInUse: another Portway runs on it
    """


class StateFolderInUse(StateFolderError):
    """Another Portway holds the lock. Both would bind the same ports, which the kernel allows (SO_REUSEPORT)."""

    def __init__(self, path: Path, pid: int | None) -> None:
        self.pid = pid
        holder = f"process {pid}" if pid is not None else "another process"
        stop = f"stop it (kill {pid})" if pid is not None else "stop it"
        super().__init__(f"{path} is in use by {holder}; {stop}, or give this one a folder of its own (--state-dir)")


class Folder:
    """A folder of ours, open for as long as it is used. `path` is absolute."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        _make_private(self.path)
        self._descriptor = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def socket_path(self, name: str) -> str:
        """A path to the socket `name` in this folder that this process can bind and connect to, however long it is.

        Usable while the folder is open, and by this process only.
        """
        path = str(self.path / name)
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
            return path
        return f"/proc/self/fd/{self._descriptor}/{name}"

    def identity(self) -> tuple[int, int]:
        """Device and inode: the same folder under any name."""
        status = os.fstat(self._descriptor)
        return status.st_dev, status.st_ino

    def is_in_place(self) -> bool:
        """Whether the path still leads to this folder. False only where that is certain."""
        return _leads_to(self.path, self._descriptor)

    def close(self) -> None:
        """Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@final
class ProxyFolder(Folder):
    """What belongs to the proxy of one fleet; its working directory."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        _make_private(self.path / LOGS)

    @property
    def xds_socket(self) -> str:
        """The control plane's socket as seen from here: `BootstrapSettings.control_plane`."""
        return f"../../{XDS_SOCKET}"

    def write(self, name: str, content: bytes) -> None:
        """Put a file here, or into a folder that is here, in one step, readable by its owner only."""
        target = self.path / name
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.replace(target)


@final
class StateFolder(Folder):
    """The folder of one running Portway; the lock is held from construction to `close`.

    Raises:
        StateFolderInUse: another process has it.
        StateFolderError: it cannot be made, or is not ours.
    """

    def __init__(self, path: Path) -> None:
        _check_not_shared(path)
        super().__init__(path)
        try:
            self._lock = _lock(self.path)
        except StateFolderError:
            super().close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def xds_socket(self) -> str:
        """Where Portway serves xDS; see `socket_path`."""
        return self.socket_path(XDS_SOCKET)

    def proxy_folder(self, fleet: str) -> ProxyFolder:
        """The folder of a fleet's proxy, made if need be. The caller closes it."""
        proxies = self.path / "proxies"
        _make_private(proxies)
        return ProxyFolder(proxies / folder_name(fleet))

    def is_in_place(self) -> bool:
        """Whether the path still leads to our lock; else another Portway could begin there beside us."""
        return _leads_to(self.path / LOCK, self._lock)

    def close(self) -> None:
        """Give up the lock. Idempotent. The file stays: removing it would let two processes lock two different ones."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        super().close()


async def wait_lost(*folders: Folder) -> StateFolderError:
    """Until one of the folders is removed, moved or emptied; why Portway cannot go on then, and what to do.

    A look each few seconds: what it tells is rare, and whoever removes a folder does not wait for us to notice.
    """
    while True:
        for folder in folders:
            if not folder.is_in_place():
                return StateFolderError(
                    f"{folder.path} was removed or replaced while it was in use: what a restart needs cannot be kept, "
                    "and nothing keeps a second Portway away; start again, on a folder that stays (--state-dir)"
                )
        await asyncio.sleep(LOOK.total_seconds())


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # a file system that does not answer now
        return True


def folder_name(fleet: str) -> str:
    """A file name for any fleet's name, another one for each: quoted as in a URL, dots too, so `..` is harmless."""
    name = quote(fleet, safe="").replace(".", "%2E")
    if len(name) <= MAX_NAME_BYTES:
        return name
    return f"{name[:150]}-{blake2b(fleet.encode(), digest_size=16).hexdigest()}"


def _check_not_shared(path: Path) -> None:
    """To make somebody's `/tmp` or home private would lock everybody else out of it."""
    try:
        is_open = path.stat().st_mode & 0o077 and not (path / LOCK).exists()
        strangers = [entry.name for entry in path.iterdir() if entry.name != "lost+found"] if is_open else []
    except OSError:  # there is none yet, or who makes it says what is wrong
        return
    if strangers:
        raise StateFolderError(
            f"{path} can be read by others, so keys must not be kept there, and it holds {strangers[0]}, which is not "
            "Portway's, so it is not made private either; choose a folder of its own (--state-dir)"
        )


def _make_private(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        if status.st_uid != os.geteuid():
            raise StateFolderError(
                f"{path} belongs to user {status.st_uid}, this process runs as {os.geteuid()}; "
                "whoever owns it could read private keys there: choose another folder (--state-dir)"
            )
        if status.st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StateFolderError(f"{path} cannot be used for state: {reason}; choose another (--state-dir)") from error


def _lock(folder: Path) -> int:
    """A descriptor that holds the lock. The kernel lets go of it when the process ends, however it does."""
    path = folder / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).strip()
        os.close(descriptor)
        raise StateFolderInUse(folder, int(holder) if holder.isdigit() else None) from error
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
