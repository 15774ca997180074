"""What the admin address answers about a running Portway.

Imported when the first configuration is live, for nothing of it is needed before and all of it takes a third of a
second.
"""

import asyncio
import socket
from collections.abc import Sequence
from datetime import timedelta
from typing import final

import msgspec
import structlog

from portway.admin.server import AdminServer, BadQuestion, NotNow
from portway.app.machine import Machine
from portway.app.metrics import make_registry, render
from portway.app.status import look, make_status
from portway.explain.report import make_report
from portway.explain.request import Request
from portway.explain.trace import World, explain
from portway.infra.envoy_admin import AdminUnreachable

log = structlog.get_logger(__name__)

SCRAPE = timedelta(seconds=3)
"""How long the proxy may take for its statistics: our own are wanted most when it hangs, and scrapers wait for 10 s."""


class ExplainQuestion(msgspec.Struct, frozen=True):
    """Body of `POST /api/v1/explain`."""

    request: Request
    address: str = ""


@final
class MachineAnswers:
    """`portway.admin.server.Answers` of one machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._registry = make_registry(machine)
        # Threads are few, and sources and the disk need them too.
        self._one_at_a_time = asyncio.Lock()

    def not_ready_because(self) -> str:
        return self._machine.not_ready_because()

    async def status(self) -> bytes:
        async with self._one_at_a_time:
            await self._machine.pipeline.caught_up()
            seen = await look(
                self._machine.pipeline,
                self._machine.fleets(),
                self._machine.processes(),
                self._machine.not_ready_because(),
            )
            locate, controller = self._machine.declared.locator(), self._machine.settings.edge.gateway_controller
            return await asyncio.to_thread(lambda: msgspec.json.encode(make_status(seen, locate, controller)))

    async def explain(self, body: bytes) -> bytes:
        try:
            question = msgspec.json.decode(body, type=ExplainQuestion)
        except msgspec.DecodeError as error:
            raise BadQuestion(f"the body must be an explain question: {error}") from error
        if reason := self._machine.unknown_because():
            raise NotNow(f"{reason}; portway explain -f PATH says what files would do")
        await self._machine.pipeline.settle()
        world = World(self._machine.pipeline.engine)
        found = explain(world, question.request, question.address)
        return msgspec.json.encode(make_report(world, found, self._machine.declared.locator()))

    async def metrics(self) -> bytes:
        proxy = self._machine.proxy
        if proxy is None:  # proxies elsewhere are asked there
            return render(self._registry, b"")
        proxies = b""
        try:
            async with asyncio.timeout(SCRAPE.total_seconds()):
                proxies = (await proxy.admin.prometheus()).encode()
        except (AdminUnreachable, TimeoutError) as error:
            log.warning("proxy statistics cannot be had", error=str(error) or "no answer in time")
        return render(self._registry, proxies)


async def make_server(machine: Machine, host: str, sockets: Sequence[socket.socket]) -> AdminServer:
    """Answer on sockets that listen already; requests may name `host`."""
    server = AdminServer(MachineAnswers(machine), host)
    await server.start(sockets)
    return server
