"""Port numbers that nobody else takes, among all test processes of this machine.

Binding port 0, closing and using the number later loses races between pytest-xdist workers. Here a number is owned
through an abstract Unix socket of that name: a lock that the kernel frees with its process, that works for TCP, UDP
and QUIC alike and does not occupy the port itself. Numbers lie outside the range from which the kernel picks the local
ports of outgoing connections, so it never takes one away in between.
"""

import random
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

LOWEST = 10_000  # above it no well-known service of a development machine is likely
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


class Ports:
    """Port numbers of one test; a context manager. Numbers stay owned until it ends (or its process does)."""

    def __init__(self) -> None:
        self._locks: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give all numbers back."""
        for lock in self._locks:
            lock.close()
        self._locks.clear()

    def take(self) -> int:
        """A number on which TCP and UDP, IPv4 and IPv6, are free now and which no other `Ports` will hand out.

        Raises:
            RuntimeError: none of the numbers is free.
        """
        highest = int(_EPHEMERAL.read_text().split()[0])
        for port in random.sample(range(LOWEST, highest), highest - LOWEST):
            lock = _lock(port)
            if lock is None:
                continue
            if _is_free(port):
                self._locks.append(lock)
                return port
            lock.close()
        raise RuntimeError(f"no port between {LOWEST} and {highest} is free")


_of_process = Ports()


def free_port() -> int:
    """A number as `Ports.take()` gives it, owned until this process ends."""
    return _of_process.take()


def _lock(port: int) -> socket.socket | None:
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f"\0portway-test-port-{port}")
    except OSError:
        lock.close()
        return None
    return lock


def _is_free(port: int) -> bool:
    """Whether nobody is bound to it, also not on another address (a wildcard listener will want it)."""
    for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(family, kind) as probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    probe.bind((any_address, port))
                except OSError:
                    return False
    return True
