"""Ending an Envoy without losing a request.

    go on                   behind a load balancer, for as long as it needs to notice that we are not ready any more
    ask clients to leave    by every answer (`connection: close`, GOAWAY), or by more and more of them, so that not all
                            come to the neighbours in one moment; new connections are still taken
    close the listeners     after a short while, or as soon as no connection is left, or none that is used
    wait                    until no request runs and no connection is left that is not HTTP, or the time is up
    SIGTERM, SIGKILL        Envoy ends at once on the first; the second is for one that hangs

An idle HTTP connection does not hold this up: it cannot be told to go, and clients expect it to end at any time
(RFC 9112 §9.5). Source: Envoy docs, "Draining", "Administration interface".
"""

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

import msgspec
import structlog

from portway.infra.envoy_admin import AdminUnreachable, EnvoyAdmin
from portway.infra.process import EnvoyProcess

log: structlog.stdlib.BoundLogger = structlog.get_logger()

POLL_S = 0.1
LAST_REQUESTS = timedelta(seconds=5)
"""Where new connections do not cease to come, as without a load balancer: how long before the end they are refused, so
that the requests on those that exist can end. Of a short time to drain a quarter."""
RETIRED_MARGIN = timedelta(seconds=10)
ACTIVITY = r"^(http|listener)\..*\.downstream_(rq_active|cx_active|rq_total)$"
# Envoy also counts by worker, and its own admin interface.
NOT_TRAFFIC = re.compile(r"^(http|listener)\.admin\.|\.(worker_\d+|main_thread)\.")


class DrainSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How much time a proxy gets to end."""

    withdrawal: timedelta = timedelta(0)
    """How long it goes on as if nothing were, so that those who send it connections learn that it goes."""
    gradual: bool = False
    """Ask clients to leave little by little, over the time that Envoy was started with (`Launch.drain`)."""
    settle: timedelta = timedelta(seconds=1)
    """How long new connections are still taken. If gradual: so long after the last request, or until time is up."""
    longest: timedelta = timedelta(seconds=30)
    """After this (the withdrawal not counted), what still runs is cut off."""
    kill: timedelta = timedelta(seconds=5)
    """After SIGTERM, how long until SIGKILL."""


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """What a proxy has to do for others right now."""

    connections: int
    requests: int
    """HTTP requests, WebSockets among them."""
    tunnels: int
    """Connections that are not HTTP: TCP and TLS passed through."""
    requests_so_far: int = 0
    """Since the proxy started."""

    @property
    def busy(self) -> int:
        """How much would be cut off if it ended now."""
        return self.requests + self.tunnels


def parse_activity(statistics: Mapping[str, int]) -> Activity:
    """From the gauges that `ACTIVITY` selects; the admin interface's own traffic is left out."""
    totals = {"http.rq_active": 0, "http.cx_active": 0, "http.rq_total": 0, "listener.cx_active": 0}
    for name, value in statistics.items():
        if not NOT_TRAFFIC.search(name):
            kind = f"{name.partition('.')[0]}.{name.rpartition('.downstream_')[2]}"
            totals[kind] = totals.get(kind, 0) + value
    connections = max(totals["listener.cx_active"], totals["http.cx_active"])
    return Activity(
        connections=connections,
        requests=totals["http.rq_active"],
        tunnels=max(0, connections - totals["http.cx_active"]),
        requests_so_far=totals["http.rq_total"],
    )


async def drain_and_end(
    process: EnvoyProcess, admin: EnvoyAdmin, settings: DrainSettings, hurry: asyncio.Event
) -> Activity | None:
    """Drain a proxy, then end it: when this returns it has ended.

    Args:
        hurry: once set, nothing is waited for any more; what runs is cut off.

    Returns:
        What was cut off; `None` if the admin interface does not answer, so that nobody knows.
    """
    left: Activity | None = None
    try:
        left = await _drain(admin, settings, hurry)
    except AdminUnreachable as error:
        if process.exit is None:
            log.warning("proxy cannot be drained", pid=process.pid, error=str(error))
    await end(process, settings.kill)
    return left


async def end(process: EnvoyProcess, patience: timedelta) -> None:
    """SIGTERM, and SIGKILL if it is still there after `patience`."""
    process.send(signal.SIGTERM)
    try:
        async with asyncio.timeout(patience.total_seconds()):
            await process.wait()
    except TimeoutError:
        log.warning("proxy ignores SIGTERM", pid=process.pid)
        process.send(signal.SIGKILL)
        await process.wait()


async def end_in_time(process: EnvoyProcess, settings: DrainSettings) -> None:
    """After a hot restart the successor ends this one when its time is up; we do if the successor is gone by then."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout((process.launch.parent_shutdown + RETIRED_MARGIN).total_seconds()):
            await process.wait()
    await end(process, settings.kill)


async def end_after(process: EnvoyProcess, settings: DrainSettings, hurry: asyncio.Event) -> None:
    """End one that drains already, for which `settings.longest` is left at most."""
    async with asyncio.TaskGroup() as tasks:
        events = (tasks.create_task(process.wait()), tasks.create_task(hurry.wait()))
        await asyncio.wait(events, timeout=settings.longest.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        for event in events:
            event.cancel()
    await end(process, settings.kill)


async def _drain(admin: EnvoyAdmin, settings: DrainSettings, hurry: asyncio.Event) -> Activity:
    await _pause(settings.withdrawal.total_seconds(), hurry)
    deadline = time.monotonic() + settings.longest.total_seconds()
    if settings.gradual:
        await admin.drain_gradually()
        quiet = _Quiet(settings.settle)
        closed = deadline - min(LAST_REQUESTS, settings.longest / 4).total_seconds()
        await _wait_until(lambda activity: activity.connections == 0 or quiet(activity), admin, closed, hurry)
    else:
        await admin.fail_health_check()
        settled = min(deadline, time.monotonic() + settings.settle.total_seconds())
        await _wait_until(lambda activity: activity.connections == 0, admin, settled, hurry)
    await admin.close_listeners()
    return await _wait_until(lambda activity: activity.busy == 0, admin, deadline, hurry)


class _Quiet:
    """Whether nothing was asked of a proxy for so long: those of its connections that are left are idle."""

    def __init__(self, long_enough: timedelta) -> None:
        self._long_enough = long_enough.total_seconds()
        self._requests = -1
        self._since = 0.0

    def __call__(self, activity: Activity) -> bool:
        now = time.monotonic()
        if activity.requests or activity.requests_so_far != self._requests:
            self._requests, self._since = activity.requests_so_far, now
        return now - self._since >= self._long_enough


async def _pause(seconds: float, hurry: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await hurry.wait()


async def _wait_until(
    is_reached: Callable[[Activity], bool], admin: EnvoyAdmin, deadline: float, hurry: asyncio.Event
) -> Activity:
    """Ask again and again (Envoy has no way to tell) until it is so, or time is up. Returns the last answer."""
    while True:
        activity = parse_activity(await admin.statistics(ACTIVITY))
        left = deadline - time.monotonic()
        if is_reached(activity) or left <= 0 or hurry.is_set():
            return activity
        await _pause(min(POLL_S, left), hurry)
