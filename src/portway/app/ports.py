"""Asks the machine about each socket that somebody wants, before Envoy fails at it: the answer is an input of the
engine, so that the listener's owner reads why, and everything else is served."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import final

import structlog

from portway.incremental import Engine
from portway.infra.ports import OpenSockets, can_bind
from portway.model.handles import UNAVAILABLE
from portway.model.names import SocketKey, Transport
from portway.translate.sockets import CHAINS

log = structlog.get_logger(__name__)


@final
class PortWatch:
    """Knows which wanted sockets cannot be had. A socket is asked about when it is first wanted (`look`), and again as
    long as it cannot be had (`look_again`)."""

    def __init__(self, engine: Engine, binary: Path, ours: Callable[[], Iterable[int | None]]) -> None:
        """
        Args:
            binary: the Envoy that will open them.
            ours: process ids of our own Envoys, whose hold on a port does not count.
        """
        self._engine = engine
        self._binary = binary
        self._ours = ours
        self._fine: set[SocketKey] = set()
        self._problems: dict[SocketKey, str] = {}

    def look(self) -> bool:
        """Ask about sockets that are newly wanted; call when the engine has settled.

        Returns:
            Whether an input changed, so that there is work again.
        """
        wanted = set(self._engine.groups(CHAINS))
        self._fine &= wanted
        told = [self._learn(key, "") for key in sorted(self._problems.keys() - wanted)]
        self._fine &= wanted
        new = sorted(wanted - self._fine - self._problems.keys())
        told += [self._learn(key, problem) for key, problem in self._ask(new)]
        return any(told)

    async def look_again(self) -> bool:
        """Ask about those that could not be had, in a thread: it takes tens of milliseconds. Returns as `look`."""
        answers = await asyncio.to_thread(self._ask, sorted(self._problems))
        told = [self._learn(key, problem) for key, problem in answers if key in self._problems]
        return any(told)

    def doubt(self) -> None:
        """A proxy could not open a port after all: somebody was quicker. At the next look all are asked about."""
        self._fine.clear()

    @property
    def has_problems(self) -> bool:
        return bool(self._problems)

    def _learn(self, key: SocketKey, problem: str) -> bool:
        """Returns whether that is news."""
        if problem == self._problems.get(key, ""):
            if not problem:
                self._fine.add(key)
            return False
        self._engine.set(UNAVAILABLE, key, problem)
        if problem:
            self._problems[key] = problem
            log.error("port cannot be opened", socket=str(key), problem=problem)
        else:
            del self._problems[key]
            self._fine.add(key)
            log.info("port can be opened, or is not wanted any more", socket=str(key))
        return True

    def _ask(self, keys: Iterable[SocketKey]) -> list[tuple[SocketKey, str]]:
        ours = [pid for pid in self._ours() if pid is not None]
        machine = OpenSockets()
        answers: list[tuple[SocketKey, str]] = []
        for key in keys:
            udp = key.transport is Transport.UDP
            problem = can_bind(key.address, key.port, udp=udp, ours=ours, binary=self._binary, machine=machine)
            answers.append((key, str(problem) if problem is not None else ""))
        return answers
