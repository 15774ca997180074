"""What a miniature cluster is to be, and the words by which one talks to it: shared by its server and its clients."""

import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path

import msgspec

from tests.cluster.containers import MARKER, Image, any_image, portway_image
from tests.cluster.nodes import NodeOutline

FOLDER_PREFIX = "portway-cluster-"
"""Of folders in the temporary folder that nobody else removes."""

NODES = tuple(NodeOutline(f"node-{zone}{number}", zone) for number in (1, 2) for zone in ("a", "b"))
"""Two nodes in each of two zones."""


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """A miniature cluster to be."""

    folder: Path
    """All it writes; need not exist."""

    channel: str = "standard"
    """Gateway API CRDs that are applied; empty: none."""

    nodes: tuple[NodeOutline, ...] = NODES
    images: tuple[Image, ...] = (any_image(), portway_image())
    linger_s: float = 2.0
    """How long it waits for another client when the last one has gone, until it ends."""


class Request(msgspec.Struct, frozen=True):
    """A line to the control socket."""

    verb: str
    arguments: dict[str, str] = {}


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line from it."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a running cluster says of itself, in `state.json` once it is ready."""

    pid: int
    """Of a process that does nothing but be in the cluster's network (the server visits pods' namespaces)."""

    run: str
    """Value of `MARKER` in the environment of its processes."""

    host_port: int
    """Of the API server on the loopback of the machine, outside of the cluster's network."""


def run_name(pid: int) -> str:
    """The name of the run whose server has this process id: no other process ever has the same."""
    # Field 22, the start time; after the last bracket, since the program's name may hold anything: proc(5).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return f"{pid}-{fields[19]}"


def is_running(run: str) -> bool:
    """Whether the server of this run is alive."""
    with contextlib.suppress(OSError, ValueError):
        return run_name(int(run.partition("-")[0])) == run
    return False


def sweep() -> None:
    """Remove what runs that were cut off have left: processes whose parents died first, and folders."""
    needle = f"{MARKER}=".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for variable in (process / "environ").read_bytes().split(b"\0"):
                if variable.startswith(needle) and not is_running(variable[len(needle) :].decode()):
                    os.kill(int(process.name), signal.SIGKILL)
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError):
            if not is_running((folder / "cluster" / "run").read_text()):
                shutil.rmtree(folder)
