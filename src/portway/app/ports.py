"""Asks the machine about each socket that somebody wants, before Envoy fails at it: the answer is an input of the
engine, so that the listener's owner reads why, and everything else is served."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import final

import structlog

from portway.incremental import Engine
from portway.infra.ports import can_bind
from portway.model.handles import UNAVAILABLE
from portway.model.names import SocketKey, Transport
from portway.translate.sockets import CHAINS

log = structlog.get_logger(__name__)


@final
class PortWatch:
    """Knows which wanted sockets cannot be had. A socket is asked about when it is first wanted, and again as long as
    it cannot be had."""

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
        """Ask about sockets that are newly wanted or could not be had; call when the engine has settled.

        Returns:
            Whether an input changed, so that there is work again.
        """
        wanted = set(self._engine.groups(CHAINS))
        self._fine &= wanted
        changed = False
        for key in sorted((wanted - self._fine) | self._problems.keys()):
            problem = self._ask(key) if key in wanted else ""
            if problem == self._problems.get(key, ""):
                if not problem:
                    self._fine.add(key)
                continue
            changed = True
            self._engine.set(UNAVAILABLE, key, problem)
            if problem:
                self._problems[key] = problem
                log.error("port cannot be opened", socket=str(key), problem=problem)
            else:
                self._problems.pop(key, None)
                self._fine.add(key)
        return changed

    @property
    def has_problems(self) -> bool:
        return bool(self._problems)

    def _ask(self, key: SocketKey) -> str:
        ours = [pid for pid in self._ours() if pid is not None]
        udp = key.transport is Transport.UDP
        problem = can_bind(key.address, key.port, udp=udp, ours=ours, binary=self._binary)
        return str(problem) if problem is not None else ""
