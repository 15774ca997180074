"""The parts of a running Portway, put together: what they are doing, and whether requests are served as declared."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, final

import msgspec

from portway.app.declared import Declared
from portway.app.pipeline import Pipeline
from portway.infra.proxy import HostStatistics
from portway.infra.state import ACCESS_LOG
from portway.model.handles import EDGE, FALLBACK_CERTIFICATE, GATEWAY_DEFINITIONS
from portway.model.resource import ResourceType
from portway.model.tls import Secret
from portway.settings import Edge, Settings
from portway.xds.fleet import FleetState
from portway.xds.messages import Outcome, Refusal
from portway.xds.server import DiscoveryServer

if TYPE_CHECKING:  # late: what a control plane in a cluster does not have would be 30 ms of its start
    from portway.infra.host import HostProxy
    from portway.infra.kubernetes.applier import ApplierStatistics

ASK_READY = timedelta(milliseconds=20)
"""Pause between looks whether the first configuration is live."""


def compiled_edge(edge: Edge) -> Edge:
    """The edge as it is compiled: an access log on standard output goes through a file that Portway follows, since a
    dead reader of a pipe would block Envoy. A file of the operator's own is named in full: Envoy works in another
    folder."""
    if edge.access_log == "-":
        return msgspec.structs.replace(edge, access_log=ACCESS_LOG)
    return msgspec.structs.replace(edge, access_log=str(Path(edge.access_log).absolute())) if edge.access_log else edge


@final
class Machine:
    """The parts of a running Portway, and how far they are."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        declared: Declared,
        discovery: DiscoveryServer,
        proxy: "HostProxy | None" = None,
        closed_because: Callable[[], str] = lambda: "",
        fleet_work: "Callable[[], ApplierStatistics | None]" = lambda: None,
    ) -> None:
        """
        Args:
            proxy: the Envoy on this machine; `None`: the proxies are elsewhere.
            closed_because: why proxies that are elsewhere find nobody here; empty: they do.
            fleet_work: what is done to have proxies elsewhere; `None`: nothing is.
        """
        self.settings = settings
        self.pipeline = pipeline
        self.declared = declared
        self.discovery = discovery
        self.proxy = proxy
        self._closed_because = closed_because
        self.fleet_work = fleet_work
        self.held = ""
        """Why the last good configuration is served instead of what the sources say; empty: it is not."""
        self._was_ready = False

    def progress(self) -> str:
        """How far the start has come, for a line on a terminal; empty: there is nothing that one waits for."""
        if self.held or self._was_ready:
            return ""
        if not self.pipeline.is_synced:
            return self.declared.progress(self.pipeline.engine.statistics().pending)
        if self.proxy is None:
            return ""
        fleet = self.discovery.fleet(self.settings.edge.fleet).statistics()
        held = max((one.held_by_proxy for one in fleet.sessions), default=0)
        return f"sent to Envoy: {held:,} of {fleet.resources:,} resources acknowledged"

    def fleets(self) -> Mapping[str, FleetState]:
        return self.discovery.fleets()

    def processes(self) -> Mapping[str, HostStatistics]:
        return {} if self.proxy is None else {self.settings.edge.fleet: self.proxy.statistics()}

    def not_ready_because(self) -> str:
        """Once ready, a change that is under way makes nobody unready; only a dead proxy does."""
        if self._was_ready and (self.proxy is None or self.proxy.is_live):
            return ""
        reason = self._not_ready_because()
        if not reason:
            self._was_ready = True
        return reason

    def _not_ready_because(self) -> str:
        if not self.pipeline.is_synced and not self.held:
            return self.declared.unread_because()
        if self.proxy is None:
            return self._closed_because()
        return _not_live_because(self.fleets(), self.proxy.is_live)

    def unknown_because(self) -> str:
        """Why it cannot be said how requests are decided, although some may be served; empty if it can."""
        if self.held:
            return f"the last good configuration is served, since the sources cannot be read ({self.held})"
        return "" if self.pipeline.is_synced else self.declared.unread_because()

    def note(self, fleet: str, proxy: str, outcome: Outcome) -> None:
        """For `DiscoveryServer(on_outcome=...)`: a refused listener may be one whose port is somebody else's by now."""
        del fleet, proxy  # all proxies here are on this machine
        if isinstance(outcome, Refusal) and outcome.key.type is ResourceType.LISTENER:
            self.pipeline.doubt_ports()

    def use_fallback_certificate(self, certificate: Secret) -> None:
        """Serve another certificate where no other fits, from now on. It travels as a secret: no listener changes."""
        self.pipeline.set_input(FALLBACK_CERTIFICATE, None, certificate)

    def use_definitions(self, versions: Mapping[str, str]) -> None:
        """The cluster has these versions of Gateway API's definitions."""
        self.pipeline.set_input(GATEWAY_DEFINITIONS, None, versions)

    def use_edge(self, edge: Edge) -> None:
        """Compile everything by other settings, from now on."""
        self.settings = msgspec.structs.replace(self.settings, edge=edge)
        self.pipeline.set_input(EDGE, None, compiled_edge(edge))

    async def wait_ready(self) -> None:
        """Until the first configuration is live."""
        if self.proxy is not None:
            await self.proxy.wait_ready()
        # Asked again and again: an adopted proxy that has all already says nothing that one could wait for.
        while self.not_ready_because():  # noqa: ASYNC110 - it depends on several parts
            await asyncio.sleep(ASK_READY.total_seconds())


def _not_live_because(fleets: Mapping[str, FleetState], live: bool) -> str:
    """Why the proxy on this machine does not serve as declared yet; empty if it does."""
    if not live:
        return "Envoy is not live"
    for name, fleet in fleets.items():
        sessions = fleet.statistics().sessions
        if not sessions:
            return f"no proxy of fleet {name} is connected"
        waiting = max(session.queued + session.held_back + session.responses_in_flight for session in sessions)
        if waiting:
            return f"a proxy of fleet {name} has {waiting} resources or answers still to come"
    return ""
