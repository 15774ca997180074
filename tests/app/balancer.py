"""A load balancer of connections in front of proxies: asks each for readiness now and then, as they do."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.kit.client import fetch
from tests.kit.relay import carry

LOOK_S = 0.3


class Balancer:
    """Sends each new connection to the next target that was ready at the last look."""

    def __init__(self) -> None:
        self.port = 0
        self._targets: dict[int, int] = {}
        """Health port by traffic port."""
        self._ready: Sequence[int] = ()
        self._turn = itertools.count()

    def add(self, port: int, health_port: int) -> None:
        self._targets[port] = health_port

    def remove(self, port: int) -> None:
        """Its pod is gone."""
        del self._targets[port]

    async def watch(self) -> None:
        while True:
            found = []
            for port, health_port in list(self._targets.items()):
                if (await fetch(f"http://127.0.0.1:{health_port}/readyz")).status == 200:
                    found.append(port)
            self._ready = found
            await asyncio.sleep(LOOK_S)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._ready:
            writer.close()
            return
        port = self._ready[next(self._turn) % len(self._ready)]
        await carry(reader, writer, "127.0.0.1", port)


@asynccontextmanager
async def balancer() -> AsyncIterator[Balancer]:
    """Listens on a free port of the loopback."""
    made = Balancer()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(made.watch())
        try:
            yield made
        finally:
            watching.cancel()
            server.close()
