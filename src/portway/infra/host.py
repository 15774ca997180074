"""The proxy of one fleet as processes on this machine: started, adopted, replaced, restarted, drained.

There is one Envoy that counts, the *current* one; others only drain after a hot restart (*retiring*). Whatever happens,
an exit, a new bootstrap, a wish to stop, sets one event, and one loop compares what is with what shall be. So no two of
these can run into one another.

Portway's own death is no event here: Envoy lives on, the next `HostProxy` in the folder finds it in the process table
and goes on where this one ended (`plan.py`). Cancelling `run` does the same in an orderly way.

Not here: what the proxy shall do (it comes over xDS), whether ports can be bound (`ports.py`).
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from hashlib import blake2b
from typing import final

import msgspec
import structlog

from portway.infra.binary import EnvoyBinary, version_of
from portway.infra.drain import drain_and_end, end, end_after, end_in_time
from portway.infra.envoy_admin import AdminUnreachable, EnvoyAdmin
from portway.infra.logs import LogFollower, LogRepeater
from portway.infra.machine import processors
from portway.infra.plan import STEADY, Found, Start, plan_start, restart_delay
from portway.infra.probe import ask, wait_answer, wait_live
from portway.infra.process import (
    EnvoyProcess,
    Exit,
    Launch,
    find_processes,
    new_base_id,
    remove_remains,
    start_process,
    validate,
)
from portway.infra.proxy import HostSettings, HostStatistics, ProxyState
from portway.infra.state import ACCESS_LOG, ADMIN_SOCKET, APPLICATION_LOG, OUTPUT_LOG, ProxyFolder

log: structlog.stdlib.BoundLogger = structlog.get_logger()

ANSWER = timedelta(seconds=10)
"""A successor that has not shown up by then will not."""


@final
class HostProxy:
    """Supervisor of one fleet's Envoy. Make it, then `run` it in a task; everything else may be called meanwhile.

    Args:
        folder: where it lives; the caller holds the lock of the state folder around it, and closes it after `run`.
        bootstrap: content of the bootstrap file (JSON); paths in it are relative to the folder.
        access_log: gets the lines of `state.ACCESS_LOG`, several at once. `None`: the file is only rotated.
    """

    def __init__(
        self,
        folder: ProxyFolder,
        binary: EnvoyBinary,
        bootstrap: bytes,
        settings: HostSettings | None = None,
        *,
        access_log: Callable[[bytes], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._binary = binary
        self._settings = settings or HostSettings()
        self._clock = clock
        self._access_log = access_log or (lambda lines: None)
        self._bootstrap = bootstrap
        self._state = ProxyState.IDLE
        self._current: EnvoyProcess | None = None
        self._origin: Start | None = None
        self._retiring: dict[int, EnvoyProcess] = {}
        self._since = 0.0
        self._restarts = self._hand_overs = self._early_deaths = 0
        self._last_exit = ""
        self._unstartable = False
        """Whether the last attempt made no process at all."""
        self._changed = asyncio.Event()
        self._live = asyncio.Event()
        self._hurry = asyncio.Event()
        self._finished = asyncio.Event()
        self._stop = self._leave = False
        self._refused = ""
        self._admin: EnvoyAdmin | None = None
        self._admin_socket = -1
        """The current Envoy's admin socket, held so that it is reached even when the folder is gone."""
        self._tasks: asyncio.TaskGroup
        self._background: set[asyncio.Task[None]] = set()

    def statistics(self) -> HostStatistics:
        current = self._current
        return HostStatistics(
            state=self._state,
            pid=current.pid if current is not None else None,
            epoch=current.launch.epoch if current is not None else 0,
            origin=self._origin,
            build=self._binary.build,
            bootstrap=bootstrap_name(self._bootstrap),
            restarts=self._restarts,
            hand_overs=self._hand_overs,
            early_deaths=self._early_deaths,
            last_exit=self._last_exit,
            retiring=tuple(sorted(self._retiring)),
        )

    @property
    def admin(self) -> EnvoyAdmin:
        """The current Envoy's admin interface. Usable while `run` runs."""
        if self._admin is None:
            raise AdminUnreachable("the proxy is not run yet")
        return self._admin

    @property
    def is_live(self) -> bool:
        """Whether the current Envoy has its first clusters and listeners."""
        return self._live.is_set()

    @property
    def is_refused(self) -> bool:
        """Whether Envoy would not start with the wanted bootstrap, so that the old one stays."""
        return self._refused == bootstrap_name(self._bootstrap)

    async def wait_ready(self, *conditions: Callable[[], Awaitable[None]]) -> None:
        """Until Envoy is live and each of `conditions` was reached after it: what the caller knows, say an ACK.

        Live alone does not mean that ports are open: a listener opens its port with its routes and secrets only.
        """
        await self._live.wait()
        for condition in conditions:
            await condition()

    def replace(self, bootstrap: bytes) -> None:
        """From now on this bootstrap. A different one means a hot restart, which loses nothing."""
        self._bootstrap = bootstrap
        self._changed.set()

    async def stop(self, *, leave_running: bool = False) -> None:
        """End `run`; returns when it has ended. Called again while it drains, it cuts the draining short.

        Args:
            leave_running: Envoy goes on with what it has; the next `run` adopts it.
        """
        if self._stop:
            self._hurry.set()
        self._stop = True
        self._leave = leave_running
        self._changed.set()
        await self._finished.wait()

    async def run(self) -> None:
        """Keep the proxy running until `stop`. Cancelled, it leaves Envoy running.

        Raises:
            OSError: Envoy cannot be started at all.
        """
        self._admin = EnvoyAdmin(self._folder.socket_path(ADMIN_SOCKET))
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for follower in self._followers():
                    self._watch(follower.run())
                await self._take_over()
                while not self._stop:
                    await self._changed.wait()
                    self._changed.clear()
                    await self._reconcile()
                await self._leave_or_end()
                for task in self._background:
                    task.cancel()
        finally:
            for process in (*self._retiring.values(), self._current):
                if process is not None:
                    process.close()
            self._release_admin_socket()
            self._finished.set()

    async def _take_over(self) -> None:
        """Look what runs in the folder, and come to a current process."""
        processes = find_processes(self._folder)
        if not processes:
            await self._start_fresh(plan_start(None, self._wanted(), self._binary))
            return
        *older, newest = processes
        for process in older:
            self._retire(process, end_in_time(process, self._settings.stop))
        # Before anything is waited for: who checks ports now must know that they are held by us.
        self._current = newest
        newest.on_exit = self._notice_end
        info = await ask(newest, self.admin)
        start = plan_start(Found(launch=newest.launch, info=info), self._wanted(newest.launch), self._binary)
        log.info(
            "running proxy found", pid=newest.pid, version=version_of(info.version) if info else None, plan=start.value
        )
        match start:
            case Start.ADOPT:
                self._become(newest, start)
            case Start.HAND_OVER:
                await self._hand_over(newest)
            case Start.BESIDE:
                await self._start_beside(newest)
            case Start.INSTEAD:
                await end(newest, self._settings.stop.kill)
                await self._start_fresh(start)
            case Start.FRESH:  # only where nothing was found
                await self._start_fresh(start)

    async def _reconcile(self) -> None:
        """One round: what has changed, and what follows from it."""
        current = self._current
        if self._stop or current is None:
            return
        if current.exit is not None:
            await self._restart(current, current.exit)
        elif bootstrap_name(self._bootstrap) not in (current.launch.bootstrap, self._refused):
            await self._hand_over(current)

    def _wanted(self, launch: Launch | None = None) -> Launch:
        """What should run: a successor of `launch`, or the first of its line."""
        settings = self._settings
        return Launch(
            bootstrap=bootstrap_name(self._bootstrap),
            base_id=launch.base_id if launch is not None else new_base_id(),
            epoch=launch.epoch + 1 if launch is not None else 0,
            concurrency=settings.concurrency or processors(),
            drain=settings.drain,
            parent_shutdown=settings.parent_shutdown,
            log_level=settings.log_level,
        )

    async def _start_fresh(self, start: Start) -> None:
        if not self._retiring:
            remove_remains(self._folder)
        self._become(await self._spawn(self._wanted()), start)

    async def _start_beside(self, old: EnvoyProcess) -> None:
        """Start one that shares the ports with `old`, which is drained once the new one is live."""
        # Envoy would unlink the path: the old one's socket gets another, on which it goes on listening.
        name = f"admin-{old.pid}.sock"
        with contextlib.suppress(FileNotFoundError):
            (self._folder.path / ADMIN_SOCKET).rename(self._folder.path / name)
        self._retire(old, self._drain_after_live(old, name))
        self._become(await self._spawn(self._wanted()), Start.BESIDE)

    async def _hand_over(self, old: EnvoyProcess) -> None:
        """Hot restart. Where it fails, `old` goes on, or is replaced by one beside it."""
        launch = self._wanted(old.launch)
        self._write_bootstrap()
        problem = await asyncio.to_thread(validate, self._binary, launch, self._folder)
        if problem:
            self._refused = launch.bootstrap
            log.error("new bootstrap refused, the proxy keeps its old one", bootstrap=launch.bootstrap, problem=problem)
            if self._origin is None:
                self._become(old, Start.ADOPT)
            return
        new = await self._spawn(launch)
        if await wait_answer(new, self.admin, ANSWER):
            self._retire(old, end_in_time(old, self._settings.stop))
            self._hand_overs += 1
            self._become(new, Start.HAND_OVER)
        else:
            log.warning("hot restart failed", pid=new.pid, exit=str(new.exit or "no answer"), output=self._last_words())
            await end(new, self._settings.stop.kill)
            if old.exit is None:
                await self._start_beside(old)
            else:
                self._changed.set()

    async def _restart(self, ended: EnvoyProcess, how: Exit) -> None:
        """The current process ended by itself. Start another, at once if it is the first time."""
        lived = ended.adopted or self._clock() - self._since >= STEADY.total_seconds()
        steady = lived and not self._unstartable
        self._early_deaths = 1 if steady else self._early_deaths + 1
        self._last_exit = str(how)
        self._live.clear()
        self._state = ProxyState.DOWN
        delay = restart_delay(self._early_deaths)
        log.error(
            "proxy ended by itself",
            pid=ended.pid,
            exit=str(how),
            early_deaths=self._early_deaths,
            restart_ms=int(delay.total_seconds() * 1_000),
            output=self._last_words(),
        )
        await self._pause(delay)
        if self._stop:
            return
        try:
            await self._start_fresh(Start.FRESH)
        except OSError as error:
            log.exception("proxy cannot be started", error=str(error))
            self._unstartable = True
            self._changed.set()
        else:
            self._restarts += 1

    async def _leave_or_end(self) -> None:
        """What `stop` asked for."""
        was_live = self._live.is_set()
        self._live.clear()
        if self._leave:
            self._state = ProxyState.LEFT
            return
        self._state = ProxyState.DRAINING
        log.info("proxy drains", pid=self._current.pid if self._current is not None else None)
        async with asyncio.TaskGroup() as tasks:
            for process in self._retiring.values():
                tasks.create_task(end_after(process, self._settings.stop, self._hurry))
            if self._current is not None and was_live:
                admin = EnvoyAdmin(f"/proc/self/fd/{self._admin_socket}") if self._admin_socket >= 0 else self.admin
                left = await drain_and_end(self._current, admin, self._settings.stop, self._hurry)
                log.info("proxy ended", pid=self._current.pid, cut_off=left.busy if left is not None else None)
            elif self._current is not None:
                await end(self._current, self._settings.stop.kill)
        remove_remains(self._folder)
        self._state = ProxyState.STOPPED

    def _become(self, process: EnvoyProcess, start: Start) -> None:
        """Make it the current one."""
        process.on_exit = self._notice_end
        self._current = process
        self._unstartable = False
        self._origin = start
        self._since = self._clock()
        self._state = ProxyState.STARTING
        self._live.clear()
        self._watch(self._announce_live(process))
        if process.exit is not None:
            self._notice_end()
        launch = process.launch
        log.info(
            f"proxy {start.value}",
            pid=process.pid,
            epoch=launch.epoch,
            bootstrap=launch.bootstrap,
            version=self._binary.version,
        )

    async def _spawn(self, launch: Launch) -> EnvoyProcess:
        self._write_bootstrap()
        return await start_process(self._binary, launch, self._folder)

    def _write_bootstrap(self) -> None:
        name = bootstrap_name(self._bootstrap)
        for path in self._folder.path.glob("bootstrap-*.json"):
            if path.name != name:
                path.unlink(missing_ok=True)
        self._folder.write(name, self._bootstrap)

    async def _announce_live(self, process: EnvoyProcess) -> None:
        if await wait_live(process, self.admin) and process is self._current:
            self._state = ProxyState.LIVE
            self._hold_admin_socket()
            self._live.set()
            log.info("proxy is live", pid=process.pid, took_ms=int((self._clock() - self._since) * 1_000))

    def _hold_admin_socket(self) -> None:
        self._release_admin_socket()
        with contextlib.suppress(OSError):
            self._admin_socket = os.open(self._folder.path / ADMIN_SOCKET, os.O_PATH | os.O_CLOEXEC)

    def _release_admin_socket(self) -> None:
        if self._admin_socket >= 0:
            os.close(self._admin_socket)
            self._admin_socket = -1

    def _notice_end(self) -> None:
        """The current process ended."""
        self._live.clear()
        self._changed.set()

    def _retire(self, process: EnvoyProcess, ending: Coroutine[None, None, None]) -> None:
        """Let a process go, watched by `ending`."""
        self._retiring[process.pid] = process

        def forget() -> None:
            self._retiring.pop(process.pid, None)

        process.on_exit = forget
        self._watch(ending)

    async def _pause(self, delay: timedelta) -> None:
        """Wait so long, or until something changes."""
        if delay:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay.total_seconds()):
                    await self._changed.wait()

    def _followers(self) -> tuple[LogFollower, LogFollower]:
        settings, folder = self._settings, self._folder.path
        may_rotate = self._live.is_set
        return (
            LogFollower(
                folder / APPLICATION_LOG, LogRepeater(), self._reopen_logs, may_rotate, settings.application_log
            ),
            LogFollower(folder / ACCESS_LOG, self._access_log, self._reopen_logs, may_rotate, settings.access_log),
        )

    def _reopen_logs(self) -> None:
        for process in (*self._retiring.values(), self._current):
            if process is not None:
                process.send(signal.SIGUSR1)

    async def _drain_after_live(self, process: EnvoyProcess, socket: str) -> None:
        """It shares its ports with a newer one; once that is live, it goes."""
        await self._live.wait()
        admin = EnvoyAdmin(self._folder.socket_path(socket))
        settings = msgspec.structs.replace(self._settings.stop, longest=self._settings.parent_shutdown)
        try:
            await drain_and_end(process, admin, settings, self._hurry)
        finally:
            (self._folder.path / socket).unlink(missing_ok=True)

    def _watch(self, work: Coroutine[None, None, None]) -> None:
        task = self._tasks.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _last_words(self) -> str:
        """The end of what Envoy printed, for the log record of its end."""
        try:
            return (self._folder.path / OUTPUT_LOG).read_text(errors="replace")[-500:].strip()
        except OSError:
            return ""


def bootstrap_name(content: bytes) -> str:
    """The file name of a bootstrap; another one for every content."""
    return f"bootstrap-{blake2b(content, digest_size=8).hexdigest()}.json"
