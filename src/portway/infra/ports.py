"""Whether the proxy will be able to open a port, said before Envoy fails at it, and in words that help.

Envoy sets SO_REUSEPORT, with which two of one user's processes share a port without a word: half of the connections
would land in the other. So a port counts as free only if it can be bound without that option.

Sources: capabilities(7), ip(7) `ip_unprivileged_port_start`, socket(7), proc_pid_net(5).
"""

import contextlib
import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import final

import msgspec

CAP_NET_BIND_SERVICE = 10  # linux/capability.h
UNPRIVILEGED_FROM = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
NET_FILES = {socket.SOCK_STREAM: ("tcp", "tcp6"), socket.SOCK_DGRAM: ("udp", "udp6")}
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
LISTENING = "0A"  # TCP_LISTEN in the kernel's net/tcp_states.h
UNCONNECTED = "07"  # what a bound UDP socket is shown as


class PortReason(StrEnum):
    """Why a port cannot be had."""

    IN_USE = "InUse"
    PRIVILEGED = "Privileged"
    NOT_LOCAL = "NotLocal"
    """No interface of this machine has the address."""
    UNSUPPORTED = "Unsupported"
    """The machine has no IPv6, say."""
    OTHER = "Other"


class PortProblem(msgspec.Struct, frozen=True, kw_only=True):
    """A port that cannot be opened: for the condition of a listener, the log and the command line."""

    reason: PortReason
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


def can_bind(
    address: str,
    port: int,
    *,
    udp: bool = False,
    ours: Iterable[int] = (),
    binary: Path | None = None,
    machine: "OpenSockets | None" = None,
) -> PortProblem | None:
    """`None` if a proxy that we start can open this port, else why not.

    Args:
        address: an IP address; `0.0.0.0` and `::` are all of the family.
        ours: process ids whose hold on the port does not count: the proxy that runs already.
        binary: the Envoy that will be run; its file may carry the right to open privileged ports.
        machine: what is open, to be shared by questions that are asked at the same time.

    A port that is free now may be taken a moment later: this explains, it reserves nothing. Quick for a port that is
    free; for one in use it looks through the machine's sockets, for one of somebody else also through the process table
    (together tens of milliseconds).
    """
    if _lacks_privilege(port, binary):
        return _privileged(port)
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, kind) as probe:
            if not udp:  # for UDP it would allow what SO_REUSEPORT does; for TCP it only passes over TIME_WAIT
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
    except OSError as error:
        return _explain(error, address, port, kind, frozenset(ours), machine or OpenSockets())
    return None


def _explain(
    error: OSError, address: str, port: int, kind: socket.SocketKind, ours: frozenset[int], machine: "OpenSockets"
) -> PortProblem | None:
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            inodes = machine.inodes(address, port, kind)
            # Sockets are what counts, not processes: during a hot restart a successor that we do not know yet has them.
            if inodes and inodes <= machine.inodes_of(ours):
                return None
            foreign = ", ".join(f"{_name(pid)} (process {pid})" for pid in machine.holders(inodes) if pid not in ours)
            return PortProblem(
                reason=PortReason.IN_USE,
                problem=f"{where} is in use by {foreign or 'a process of another user'}",
                remedy="stop it, or choose another port or address",
            )
        case errno.EADDRNOTAVAIL:
            return PortProblem(
                reason=PortReason.NOT_LOCAL,
                problem=f"no interface of this machine has the address {address}",
                remedy="give an address of this machine, 0.0.0.0 for all IPv4 or :: for all IPv6 addresses",
            )
        case errno.EACCES | errno.EPERM:
            return _privileged(port)
        case errno.EAFNOSUPPORT:
            return PortProblem(
                reason=PortReason.UNSUPPORTED,
                problem=f"this machine does not speak the protocol of {address}",
                remedy="give an address of the other IP version",
            )
        case _:
            return PortProblem(
                reason=PortReason.OTHER,
                problem=f"{where} cannot be opened: {error.strerror or error}",
                remedy="choose another port or address",
            )


def _privileged(port: int) -> PortProblem:
    return PortProblem(
        reason=PortReason.PRIVILEGED,
        problem=f"port {port} needs a right that this process cannot hand to Envoy (CAP_NET_BIND_SERVICE, ambient)",
        remedy=(
            "choose ports from 1024 on (--http-port 8080 --https-port 8443), or allow this one: "
            f"sysctl net.ipv4.ip_unprivileged_port_start={port}, "
            "AmbientCapabilities=CAP_NET_BIND_SERVICE in a systemd unit, or "
            "setcap cap_net_bind_service=+ep on the Envoy binary"
        ),
    )


def _lacks_privilege(port: int, binary: Path | None) -> bool:
    """Whether Envoy, started by us, will be refused the port for its number.

    A capability of ours does not pass to a program that we start, unless we are root, or it is in the ambient set, or
    the program's file has it too.
    """
    if port >= _unprivileged_from():
        return False
    sets = _capabilities()
    held = sets.get("CapBnd", 0) if os.geteuid() == 0 else sets.get("CapAmb", 0)
    if binary is not None:
        held |= _file_capabilities(binary) & sets.get("CapBnd", 0)
    return not held >> CAP_NET_BIND_SERVICE & 1


def _file_capabilities(path: Path) -> int:
    """The lower 32 permitted capabilities that a file gives: second word of `struct vfs_cap_data`, little-endian."""
    try:
        value = os.getxattr(path, "security.capability")
    except OSError:  # none, or a file system without them
        return 0
    return int.from_bytes(value[4:8], "little")


def _unprivileged_from() -> int:
    try:
        return int(UNPRIVILEGED_FROM.read_text())
    except OSError:  # kernels before 4.11
        return 1024


def _capabilities() -> dict[str, int]:
    """The capability sets of this process by their names in proc_pid_status(5)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: int(value, 16) for name, _, value in (line.partition(":") for line in lines) if name[:3] == "Cap"}


@final
class OpenSockets:
    """The sockets of this machine at one moment and who has them open; looked up when first asked, then kept."""

    def __init__(self) -> None:
        self._bound: dict[socket.SocketKind, dict[int, list[tuple[_Address, str]]]] = {}
        self._pids: dict[str, list[int]] | None = None
        self._of_pid: dict[int, frozenset[str]] = {}

    def inodes(self, address: str, port: int, kind: socket.SocketKind) -> frozenset[str]:
        """Of the sockets on this port and on an address that overlaps."""
        wanted = ipaddress.ip_address(address)
        if kind not in self._bound:
            bound: dict[int, list[tuple[_Address, str]]] = {}
            self._bound[kind] = bound
            for name in NET_FILES[kind]:
                for number, held, inode in _bound_sockets(name):
                    bound.setdefault(number, []).append((held, inode))
        return frozenset(
            inode
            for held, inode in self._bound[kind].get(port, ())
            if held == wanted or held.is_unspecified or wanted.is_unspecified
        )

    def inodes_of(self, pids: Collection[int]) -> frozenset[str]:
        """Of all sockets that these processes have open."""
        for pid in pids:
            if pid not in self._of_pid:
                self._of_pid[pid] = _open_inodes(pid)
        return frozenset().union(*(self._of_pid[pid] for pid in pids))

    def holders(self, inodes: Iterable[str]) -> list[int]:
        """Processes that have one of these sockets open; those that we may look at."""
        if self._pids is None:
            self._pids = {}
            for process in Path("/proc").iterdir():
                if process.name.isdigit():
                    for inode in _open_inodes(int(process.name)):
                        self._pids.setdefault(inode, []).append(int(process.name))
        return sorted({pid for inode in inodes for pid in self._pids.get(inode, ())})


def _open_inodes(pid: int) -> frozenset[str]:
    """The inodes of its sockets; empty if it is gone, or another user's."""
    found: set[str] = set()
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # closed meanwhile
                target = os.readlink(entry.path)  # noqa: PTH115 - by the thousand
                if target.startswith("socket:["):
                    found.add(target[len("socket:[") : -1])
    return frozenset(found)


def _bound_sockets(name: str) -> Iterator[tuple[int, _Address, str]]:
    """Port, address and inode of those in this file that listen, or are bound where there is no listening."""
    try:
        lines = Path(f"/proc/self/net/{name}").read_text().splitlines()[1:]
    except OSError:  # no IPv6
        return
    for fields in map(str.split, lines):
        if fields[3] in (LISTENING, UNCONNECTED):
            host, _, number = fields[1].partition(":")
            yield int(number, 16), _kernel_address(host), fields[9]


def _kernel_address(text: str) -> _Address:
    """An address as the kernel prints it: 32-bit words in the machine's byte order, in hexadecimal."""
    words = bytes.fromhex(text)
    if sys.byteorder == "little":
        words = b"".join(words[start : start + 4][::-1] for start in range(0, len(words), 4))
    return ipaddress.ip_address(words)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "a process"
