"""How the proxy on this machine is run, and how it is: what goes into a `HostProxy` and what can be seen of it."""

from datetime import timedelta
from enum import StrEnum

import msgspec

from portway.infra.drain import DrainSettings
from portway.infra.logs import LogSettings
from portway.infra.plan import Start


class HostSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How an Envoy is run; what it does for traffic is in its bootstrap and over xDS."""

    concurrency: int = 0
    """Worker threads; 0: as many as processors that this process may use."""
    drain: timedelta = timedelta(seconds=30)
    """Over how long the connections of a removed listener or a predecessor are asked to leave. Whole seconds."""
    parent_shutdown: timedelta = timedelta(minutes=15)
    """How long a predecessor may finish long requests and WebSockets after a hot restart. Whole seconds."""
    log_level: str = "warning"
    stop: DrainSettings = DrainSettings()
    application_log: LogSettings = LogSettings()
    access_log: LogSettings = LogSettings(max_bytes=100 << 20)


class ProxyState(StrEnum):
    """What the current Envoy is about."""

    IDLE = "idle"
    """`run` has not started one yet."""
    STARTING = "starting"
    """It runs, and waits for its first clusters and listeners; or its predecessor still serves."""
    LIVE = "live"
    DOWN = "down"
    """It ended; the next one starts after a pause."""
    DRAINING = "draining"
    STOPPED = "stopped"
    LEFT = "left running"


class HostStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A `HostProxy` at one moment."""

    state: ProxyState
    pid: int | None
    epoch: int
    origin: Start | None
    """How we came by the current process."""
    build: str
    bootstrap: str
    """Name of the bootstrap that is wanted, by content."""
    restarts: int
    """Starts after a process had ended by itself."""
    hand_overs: int
    early_deaths: int
    """Processes in a row that ended soon after their start."""
    last_exit: str
    retiring: tuple[int, ...]
    """Process ids of predecessors that still drain."""
