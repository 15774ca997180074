"""The life of one container of a pod: started, probed, restarted, stopped."""

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import final

import msgspec

from tests.cluster.containers import Plan, Running
from tests.cluster.logs import ContainerLog
from tests.cluster.objects import Container, Handler, Probe, now
from tests.cluster.probes import Prober
from tests.cluster.volumes import SourceMissing

_EAGER_S = 0.05
"""Pause between the first tries of a probe, so that a pod is ready when its program is, not up to a period later."""

_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.5, 10.0
"""Kubernetes waits 10 s to 5 min before a restart, tests would wait with it; the first one comes at once there, too."""

_SANE_S = 10.0
"""A container that ran for so long starts without delay when it ends."""

_RETRY_S = 0.2


class Restart(Enum):
    """When a container that ended starts again."""

    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


class Ended(msgspec.Struct, frozen=True):
    """How a container ended."""

    code: int
    reason: str
    started: str
    finished: str


@final
class ContainerLife:
    """One container. What it knows of its state is read by the pod's status; `changed` is called when it differs."""

    def __init__(
        self,
        container: Container,
        restart: Restart,
        *,
        plan: Callable[[], Plan],
        new_log: Callable[[], ContainerLog],
        prober: Prober,
        address: Callable[[], str],
        changed: Callable[[], None],
        grace_s: float,
    ) -> None:
        """
        Args:
            container: what the pod says of it.
            restart: the pod's policy, or its own.
            plan: how to start it now; raises `SourceMissing` while it cannot be said.
            new_log: where the next start writes.
            prober: runs its probes.
            address: of the pod.
            changed: tells the pod.
            grace_s: from SIGTERM to SIGKILL when a probe wants a restart.
        """
        self.container = container
        self._restart = restart
        self._plan = plan
        self._new_log = new_log
        self._prober = prober
        self._address = address
        self._changed = changed
        self._grace_s = grace_s
        self.running: Running | None = None
        self.log: ContainerLog | None = None
        self.previous_log: ContainerLog | None = None
        self.waiting = ("ContainerCreating", "")
        self.started_at = ""
        self.ended: Ended | None = None
        self.last_ended: Ended | None = None
        self.restarts = 0
        self.is_started = False
        self.is_probed_ready = False
        self.is_stopping = False
        self.up = asyncio.Event()
        """Set when it has started, its startup probe included, for the first time."""

    @property
    def is_ready(self) -> bool:
        """Whether it counts as ready: it runs, and its readiness probe, if it has one, says so."""
        return self.running is not None and self.is_started and self.is_probed_ready

    async def run(self) -> int:
        """Run it, again and again as its policy says; its last exit code. Cancelled, it dies at once."""
        backoff = 0.0
        while True:
            began = time.monotonic()
            code = await self._run_once()
            if self.is_stopping or self._restart is Restart.NEVER or (self._restart is Restart.ON_FAILURE and not code):
                return code
            backoff = 0.0 if time.monotonic() - began > _SANE_S else backoff
            if backoff:
                message = f"back-off {backoff:g} s restarting container {self.container.name}"
                self._wait("CrashLoopBackOff", message)
                await asyncio.sleep(backoff)
            backoff = min(max(2 * backoff, _FIRST_BACKOFF_S), _LONGEST_BACKOFF_S)
            self.restarts += 1

    async def stop(self, grace_s: float) -> None:
        """End it for good: preStop hook, SIGTERM, and SIGKILL when the time is over. Back when it has ended."""
        self.is_stopping = True
        if self.running is not None:
            await self._stop(self.running, grace_s)

    async def _run_once(self) -> int:
        running = await self._start()
        try:
            async with asyncio.TaskGroup() as tasks:
                probing = tasks.create_task(self._accompany(running))
                code = await running.wait()
                probing.cancel()
        finally:
            self.running = None
            self.is_started = self.is_probed_ready = False
            await running.process.kill()
            await running.wait()
            assert self.log is not None
            self.log.close()
            running.remove()
        # As a shell writes signals: 128 + number.
        shown = 128 - code if code < 0 else code
        self.last_ended = self.ended = Ended(shown, "Error" if shown else "Completed", self.started_at, now())
        self._changed()
        return shown

    async def _start(self) -> Running:
        while True:
            try:
                plan = self._plan()
                log = self._new_log()
                try:
                    running = Running(plan, log.writer)
                finally:
                    log.started()
            except SourceMissing as error:
                self._wait("CreateContainerConfigError", str(error))
            except (OSError, subprocess.SubprocessError) as error:
                self._wait("CreateContainerError", f"{type(error).__name__}: {error}")
            else:
                self.previous_log, self.log = self.log, log
                self.running, self.started_at, self.ended = running, now(), None
                return running
            await asyncio.sleep(_RETRY_S)

    async def _accompany(self, running: Running) -> None:
        """Hooks and probes while it runs."""
        container = self.container
        if container.lifecycle.post_start is not None:
            await self._prober.ask(container.lifecycle.post_start, container, running, self._address())
        if container.startup_probe is not None:
            self._changed()
            if not await self._becomes_true(container.startup_probe, running):
                return await self._stop(running, self._grace_s)
        self.is_started = True
        self.is_probed_ready = container.readiness_probe is None
        self.up.set()
        self._changed()
        async with asyncio.TaskGroup() as tasks:
            if container.readiness_probe is not None:
                tasks.create_task(self._watch(container.readiness_probe, running, self._set_ready))
            if container.liveness_probe is not None:
                tasks.create_task(self._watch(container.liveness_probe, running, self._set_alive))
        return None

    async def _becomes_true(self, probe: Probe, running: Running) -> bool:
        outcome = asyncio.get_running_loop().create_future()

        async def decide(good: bool, _: Running) -> None:
            if not outcome.done():
                outcome.set_result(good)

        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch(probe, running, decide))
            good = bool(await outcome)
            watching.cancel()
        return good

    async def _watch(self, probe: Probe, running: Running, tell: Callable[[bool, Running], Awaitable[None]]) -> None:
        """Probe for ever; tell when the thresholds are passed."""
        await asyncio.sleep(probe.initial_delay_seconds)
        known: bool | None = None
        successes = failures = 0
        pause, counted = _EAGER_S, 0.0
        while True:
            good = await self._ask(probe, running)
            if good:
                successes, failures = successes + 1, 0
                if successes >= probe.success_threshold and known is not True:
                    known = True
                    await tell(True, running)
            else:
                successes = 0
                if time.monotonic() - counted >= probe.period_seconds:
                    failures, counted = failures + 1, time.monotonic()
                if failures >= probe.failure_threshold and known is not False:
                    known = False
                    await tell(False, running)
            eager = known is None and not good
            await asyncio.sleep(min(pause, probe.period_seconds) if eager else probe.period_seconds)
            pause *= 1.2

    async def _ask(self, handler: Probe, running: Running) -> bool:
        try:
            async with asyncio.timeout(handler.timeout_seconds):
                return not await self._prober.ask(handler, self.container, running, self._address())
        except TimeoutError:
            return False

    async def _set_ready(self, ready: bool, _: Running) -> None:
        self.is_probed_ready = ready
        self._changed()

    async def _set_alive(self, alive: bool, running: Running) -> None:
        if not alive:
            await self._stop(running, self._grace_s)

    async def _stop(self, running: Running, grace_s: float) -> None:
        ends = time.monotonic() + grace_s
        hook: Handler | None = self.container.lifecycle.pre_stop
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + grace_s):
                if hook is not None:
                    await self._prober.ask(hook, self.container, running, self._address())
                running.process.signal(signal.SIGTERM)
                await running.process.wait()
        if time.monotonic() >= ends:
            running.process.signal(signal.SIGKILL, group=True)
        await running.process.wait()

    def _wait(self, reason: str, message: str) -> None:
        if self.waiting != (reason, message) or self.ended is not None:
            self.waiting = (reason, message)
            self.ended = None
            self._changed()
