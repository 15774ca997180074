"""Keeps the acknowledged configuration on disk up to date, beside the traffic: what proxies accept is gathered and
written at most once a second, in a thread."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import final

import structlog

from portway.app.snapshot import SnapshotFile
from portway.model.resource import Resource, ResourceKey
from portway.xds.messages import Acceptance, Outcome

log = structlog.get_logger(__name__)

PAUSE = timedelta(seconds=1)


@final
class Recorder:
    """Takes outcomes in (`note`), writes them while `run` runs, and the rest in `flush`."""

    def __init__(self, file: SnapshotFile, *, pause: timedelta = PAUSE) -> None:
        self._file = file
        self._pause = pause
        self._pending: dict[str, dict[ResourceKey, Resource | None]] = {}
        self._event = asyncio.Event()

    def note(self, fleet: str, proxy: str, outcome: Outcome) -> None:
        """For `DiscoveryServer(on_outcome=...)`. Coalescing: the last state of each resource counts."""
        del proxy  # on one machine a fleet has one proxy, and during a hot restart both get the same
        if not isinstance(outcome, Acceptance):
            return
        pending = self._pending.setdefault(fleet, {})
        for resource in outcome.resources:
            pending[resource.key] = resource
        for name in outcome.removed:
            pending[ResourceKey(outcome.type, name)] = None
        self._event.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._event.wait()
            await asyncio.sleep(self._pause.total_seconds())
            self._event.clear()
            await asyncio.to_thread(self._writer())

    def flush(self) -> None:
        """Write what is left; blocking."""
        self._writer()()

    def _writer(self) -> Callable[[], None]:
        taken, self._pending = self._pending, {}

        def write() -> None:
            for fleet, resources in taken.items():
                changed = [resource for resource in resources.values() if resource is not None]
                removed = [key for key, resource in resources.items() if resource is None]
                try:
                    self._file.write(fleet, changed, removed)
                except OSError as error:
                    log.exception("acknowledged configuration cannot be written", fleet=fleet, error=str(error))

        return write
