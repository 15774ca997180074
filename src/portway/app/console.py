"""What the person who started Portway gets to see besides the log."""

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta

import msgspec
import structlog

from portway.app.machine import Machine
from portway.model.resource import ResourceKey, ResourceType
from portway.objects.verdict import Severity

log = structlog.get_logger(__name__)

PROGRESS = timedelta(milliseconds=200)
"""How often the progress of the start is shown."""

LONG = timedelta(seconds=15)
"""For a start: longer than a right that is missing is waited for. The pause between two lines, too."""


class Console(msgspec.Struct, frozen=True, kw_only=True):
    """Its ways. None of them may block for long."""

    say: Callable[[str], None]
    """Prints a sentence."""
    show: Callable[[str], None]
    """Shows how far the start has come, in place of what was shown before; empty: it is over."""
    access_log: Callable[[bytes], None]
    """Gets lines of the access log, where it goes to standard output."""


async def show_progress(machine: Machine, console: Console) -> None:
    try:
        while text := machine.progress():
            console.show(text)
            await asyncio.sleep(PROGRESS.total_seconds())
    finally:
        console.show("")


async def complain(machine: Machine) -> None:
    """Say in the log what a start waits for, if it takes long, and what it waits for next."""
    said = ""
    while True:
        await asyncio.sleep(LONG.total_seconds())
        reason = machine.not_ready_because()
        if not reason:
            return
        if reason != said:
            said = reason
            log.warning("not ready yet", problem=reason)


NOTHING_OPEN = "no port is open: nothing is declared, or only for other classes; portway status says which"


async def announce(machine: Machine, console: Console) -> None:
    await machine.wait_ready()
    console.show("")
    await machine.pipeline.caught_up()
    counts = machine.pipeline.verdict_counts()
    log.info(
        "ready",
        pid=os.getpid(),
        objects=sum(machine.pipeline.engine.store.statistics().objects.values()),
        errors=counts[Severity.ERROR],
        warnings=counts[Severity.WARNING],
    )
    if machine.proxy is None:
        return  # nothing listens here: proxies of all fleets are elsewhere
    fleet = machine.discovery.fleet(machine.settings.edge.fleet)
    listeners = sorted(fleet.snapshot.of_type(ResourceType.LISTENER))
    if not listeners:
        console.say(NOTHING_OPEN)
    for name in listeners:
        # A listener that the proxy refuses keeps nothing from being ready; log and status name it.
        if fleet.progress([ResourceKey(ResourceType.LISTENER, name)]).complete:
            console.say(f"listening on {name}")
