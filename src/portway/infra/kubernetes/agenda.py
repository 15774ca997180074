"""Which fleets are to be looked at, and when; each by one worker at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import final


@final
class Agenda:
    """Names with a time. Nothing blocks but `next`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """
        Args:
            clock: seconds, never going back.
        """
        self._clock = clock
        self._due: dict[str, float] = {}
        self._busy: set[str] = set()
        self._work = asyncio.Event()

    def __len__(self) -> int:
        """Names whose time has come, or that are being looked at."""
        now = self._clock()
        return sum(due <= now for due in self._due.values()) + len(self._busy)

    def clear(self) -> None:
        self._due.clear()
        self._busy.clear()

    def wake(self, names: Collection[str]) -> None:
        """Look at these now."""
        now = self._clock()
        for name in names:
            self._due[name] = now
        if names:
            self._work.set()

    def wake_at(self, name: str, when: float) -> None:
        """Look at it at this time, if not before."""
        self._due[name] = min(when, self._due.get(name, when))
        self._work.set()

    @asynccontextmanager
    async def next(self) -> AsyncIterator[str]:
        """A name whose time has come, and that nobody else is at; waits for one."""
        name = await self._wait()
        self._busy.add(name)
        try:
            yield name
        finally:
            self._busy.discard(name)
            self._work.set()

    async def _wait(self) -> str:
        while True:
            now = self._clock()
            waiting = [(due, name) for name, due in self._due.items() if name not in self._busy]
            due, name = min(waiting, default=(0.0, ""))
            if name and due <= now:
                del self._due[name]
                return name
            self._work.clear()
            try:
                async with asyncio.timeout(due - now if name else None):
                    await self._work.wait()
            except TimeoutError:
                continue
