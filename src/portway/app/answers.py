"""What the admin address answers about a running Portway.

Imported when the first configuration is live, for nothing of it is needed before and all of it takes a third of a
second.
"""

import asyncio
import socket
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import final

import msgspec
import structlog

from portway.admin.server import AdminServer, BadQuestion, NotNow
from portway.app.explaining import explained, is_served_by, observed
from portway.app.machine import Machine
from portway.app.metrics import make_registry, render
from portway.app.status import look, make_status
from portway.explain.fleets import Asked, UnknownFleet, named_fleet
from portway.explain.request import Request
from portway.explain.trace import World
from portway.infra.envoy_admin import AdminUnreachable

log = structlog.get_logger(__name__)

SCRAPE = timedelta(seconds=3)
"""How long the proxy may take for its statistics: our own are wanted most when it hangs, and scrapers wait for 10 s."""


class ExplainQuestion(msgspec.Struct, frozen=True):
    """Body of `POST /api/v1/explain`."""

    request: Request
    address: str = ""
    """That it arrives at."""
    gateway: str = ""
    """`namespace/name`, where each Gateway has its own proxies."""
    ingress_class: str = ""
    dialled: str = ""
    """The URL's host, where the request names another one."""


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

    async def status(self, gateway: str, ingress_class: str) -> bytes:
        async with self._one_at_a_time:
            await self._machine.pipeline.caught_up()
            world = World(self._machine.pipeline.engine)
            try:
                asked = Asked(gateway=gateway, ingress_class=ingress_class)
                fleet = named_fleet(world, asked, observed(world)) if gateway or ingress_class else ""
            except UnknownFleet as error:
                raise BadQuestion(str(error)) from error
            seen = await look(
                self._machine.pipeline,
                {name: state for name, state in self._machine.fleets().items() if fleet in ("", name)},
                self._machine.processes(),
                self._machine.not_ready_because(),
                partial(is_served_by, world, fleet) if fleet else None,
                self._machine.fleet_work(),
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
        asked = Asked(
            gateway=question.gateway,
            ingress_class=question.ingress_class,
            address=question.address,
            dialled=question.dialled,
        )
        try:
            report = explained(world, question.request, asked, observed(world), self._machine.declared.locator())
        except UnknownFleet as error:
            raise BadQuestion(str(error)) from error
        return msgspec.json.encode(report)

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
    server = AdminServer(MachineAnswers(machine), host, among_pods=machine.proxy is None)
    await server.start(sockets)
    return server
