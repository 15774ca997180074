"""A container without a container runtime: a process that sees its pod's network and a root folder of its own.

Its root is an overlay over the machine's own, so "images" are programs of this machine; what it writes is its own and
gone with it. Volumes are bind mounts in its private mount namespace. It has its own host name and shared memory, and
runs as the user that the pod names. Process numbers are the machine's; the end of a container's main process is the
end of all that it started, as in a real one.
"""

import contextlib
import os
import shutil
import signal
import socket
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import msgspec

from tests.cluster import kernel
from tests.cluster.binaries import ROOT
from tests.cluster.process import Process

MARKER = "MINIATURE_CLUSTER"
"""Environment variable of every process of a run, by which those of a cut-off run are found."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """What runs for a container whose image has this name."""

    name: str
    """Part of the image's name; of several that fit, the longest counts."""

    entrypoint: tuple[str, ...] = ()
    """Program and first arguments. None: the container must name its `command`."""

    environment: dict[str, str] = {}


def portway_image(python: str = sys.executable) -> Image:
    """Portway of this checkout, for images that are named so.

    Args:
        python: an interpreter that has what Portway requires.
    """
    return Image(name="portway", entrypoint=(python, "-m", "portway"), environment={"PYTHONPATH": str(ROOT / "src")})


def any_image() -> Image:
    """For pods that name a program of this machine as their `command`."""
    return Image(name="local")


def find_image(images: Sequence[Image], name: str) -> Image | None:
    """The image for a container; `None` if no program stands for it."""
    fitting = [image for image in images if image.name in name]
    return max(fitting, key=lambda image: len(image.name), default=None)


class Mount(msgspec.Struct, frozen=True):
    """A file or folder at a place in the container."""

    source: str
    target: str
    read_only: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides how a container runs."""

    command: tuple[str, ...]
    environment: dict[str, str]
    network: int
    """File descriptor of the pod's network namespace."""

    folder: Path
    """Its own; made and removed with it. On a file system that may be an overlay's upper layer, such as tmpfs."""

    hostname: str = ""
    """Empty: the machine's."""

    files: dict[str, str] = {}
    """Texts at absolute paths, as `/etc/resolv.conf`."""

    mounts: tuple[Mount, ...] = ()
    working_directory: str = "/"
    user: int | None = None
    group: int | None = None
    read_only_root: bool = False


@final
class Running:
    """A running container."""

    def __init__(self, plan: Plan, output: int) -> None:
        """Start it.

        Raises:
            OSError, subprocess.SubprocessError: it cannot be started as planned.
        """
        self._plan = plan
        self._root = plan.folder / "root"
        upper = plan.folder / "upper"
        for folder in (self._root, upper, plan.folder / "work"):
            folder.mkdir(parents=True)
        for name, text in plan.files.items():
            path = upper / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        program = shutil.which(plan.command[0], path=plan.environment.get("PATH", ""))
        if program is None:
            raise FileNotFoundError(f"{plan.command[0]} is not in PATH")
        try:
            self.process = Process(
                [program, *plan.command[1:]],
                output=output,
                environment=plan.environment,
                prepare=lambda: _enter(plan, self._root, (program, sys.executable, str(ROOT))),
            )
        except BaseException:
            shutil.rmtree(plan.folder)
            raise
        # Held open: the number of a namespace that is gone may be the next container's.
        self._namespace = -1
        with contextlib.suppress(FileNotFoundError):  # it may have ended
            self._namespace = kernel.open_namespace("mnt", str(self.process.pid))

    async def wait(self) -> int:
        """Until its main process has ended, and with it all others; its exit code."""
        code = await self.process.wait()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return code

    def remove(self) -> None:
        """Remove what it wrote, after its end. Of all methods the last."""
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1
        shutil.rmtree(self._plan.folder, ignore_errors=True)

    def processes(self) -> tuple[int, ...]:
        """All its processes: those in its mount namespace."""
        found: list[int] = []
        if self._namespace < 0:
            return ()
        mounts = os.fstat(self._namespace).st_ino
        for name in os.listdir("/proc"):  # noqa: PTH208 - no objects for hundreds of names
            if name.isdigit():
                with contextlib.suppress(OSError):
                    if os.stat(f"/proc/{name}/ns/mnt").st_ino == mounts:  # noqa: PTH116
                        found.append(int(name))
        return tuple(found)

    def execute(self, command: Sequence[str], output: int) -> Process:
        """Start a further program in it, as `kubectl exec` does.

        Raises:
            OSError: it cannot be started, or the container has ended.
        """
        mounts = kernel.open_namespace("mnt", str(self.process.pid))
        root = os.open(f"/proc/{self.process.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return Process(
                command, output=output, environment=self._plan.environment, prepare=self._follow(mounts, root)
            )
        finally:
            os.close(mounts)
            os.close(root)

    def _follow(self, mounts: int, root: int) -> Callable[[], None]:
        def prepare() -> None:
            kernel.enter(self._plan.network, kernel.CLONE_NEWNET)
            kernel.enter(mounts, kernel.CLONE_NEWNS)
            os.fchdir(root)
            os.chroot(".")
            os.chdir(self._plan.working_directory)
            _become(self._plan)

        return prepare


def passed_through() -> tuple[str, ...]:
    """What containers see as it is, beside the overlay: everything mounted, and this checkout, whose files change."""
    points: list[str] = []
    for point in (*kernel.mount_points(), str(ROOT)):
        covered = any(point == other or point.startswith(f"{other}/") for other in points)
        if point != "/" and not covered and os.access(point, os.R_OK):
            points.append(point)
    return tuple(points)


_PASSED_THROUGH = passed_through()


def _enter(plan: Plan, root: Path, programs: Sequence[str]) -> None:
    """In the child, before the program: become the container."""
    kernel.enter(plan.network, kernel.CLONE_NEWNET)
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS)
    layers = f"lowerdir=/,upperdir={plan.folder / 'upper'},workdir={plan.folder / 'work'}"
    kernel.mount("overlay", str(root), "overlay", 0, layers)
    for point in _PASSED_THROUGH:
        kernel.bind(point, f"{root}{point}", recursive=True)
    kernel.mount("tmpfs", f"{root}/dev/shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV)
    # Sources are held open: after chroot their paths lead elsewhere, and targets may be reached by absolute symlinks.
    sources = [os.open(mount.source, os.O_PATH | os.O_CLOEXEC) for mount in plan.mounts]
    # A volume on `/tmp` would hide a checkout below it.
    hidden = [point for point in _PASSED_THROUGH if any(_is_below(point, mount.target) for mount in plan.mounts)]
    uncovered = [os.open(point, os.O_PATH | os.O_CLOEXEC) for point in hidden]
    os.chroot(root)
    os.chdir("/")
    for mount, source in zip(plan.mounts, sources, strict=True):
        _bind(source, mount.target, read_only=mount.read_only)
    for point, source in zip(hidden, uncovered, strict=True):
        _bind(source, point, recursive=True)
    if plan.user:
        for program in programs:
            _make_reachable(Path(program))
    if plan.hostname:
        socket.sethostname(plan.hostname)
    if plan.read_only_root:
        kernel.mount("", "/", flags=kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY)
    os.chdir(plan.working_directory)
    _become(plan)


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder.rstrip('/')}/")


def _bind(source: int, target: str, *, read_only: bool = False, recursive: bool = False) -> None:
    _make_target(Path(target), is_folder=stat.S_ISDIR(os.fstat(source).st_mode))
    kernel.bind(f"/proc/self/fd/{source}", target, read_only=read_only, recursive=recursive)


def _make_target(target: Path, *, is_folder: bool) -> None:
    if is_folder:
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()


def _make_reachable(program: Path) -> None:
    """Let any user of this container come to a program that lies in a private folder of the machine (`/root`)."""
    overlay = os.stat("/").st_dev  # noqa: PTH116
    for folder in {*program.parents, *program.resolve().parents}:
        status = folder.stat()
        # Only in the overlay, where the change stays in this container.
        if status.st_dev == overlay and status.st_mode & 0o005 != 0o005:
            folder.chmod(status.st_mode | 0o055)


def _become(plan: Plan) -> None:
    if plan.group is not None or plan.user is not None:
        group = plan.group or 0
        os.setgroups([group])
        os.setgid(group)
    if plan.user is not None:
        os.setuid(plan.user)
    kernel.die_with_parent(signal.SIGKILL)
