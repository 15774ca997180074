"""Metrics of the control plane, made from the frozen statistics of its parts when somebody asks; and the proxies' own,
which are curated where they arise (`envoy/bootstrap.py`)."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

import portway
from portway.app.pipeline import Pipeline
from portway.infra.proxy import HostStatistics, ProxyState
from portway.xds.server import DiscoveryServer, ServerStatistics

if TYPE_CHECKING:
    from portway.infra.kubernetes.applier import ApplierStatistics


class Parts(Protocol):
    """Where the numbers come from."""

    @property
    def pipeline(self) -> Pipeline: ...

    @property
    def discovery(self) -> DiscoveryServer: ...

    def processes(self) -> Mapping[str, HostStatistics]: ...

    @property
    def fleet_work(self) -> "Callable[[], ApplierStatistics | None]": ...

    def not_ready_because(self) -> str: ...


@final
class PartsCollector(Collector):
    """Reads the parts at each scrape; keeps nothing."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily("portway_build", "Version of the control plane.", value={"version": portway.__version__})
        ready = GaugeMetricFamily("portway_ready", "1 when requests are served as declared.")
        ready.add_metric([], float(not self._parts.not_ready_because()))
        yield ready
        yield from self._pipeline()
        yield from _fleets(self._parts.discovery.statistics())
        if (work := self._parts.fleet_work()) is not None:
            yield from _fleet_work(work)
        yield from self._processes()

    def _pipeline(self) -> Iterable[Metric]:
        pipeline = self._parts.pipeline
        store = pipeline.engine.store.statistics()
        objects = GaugeMetricFamily("portway_objects", "Declared objects by kind.", labels=["kind"])
        for kind, count in store.objects.items():
            objects.add_metric([kind], count)
        yield objects
        verdicts = GaugeMetricFamily(
            "portway_verdicts", "Verdicts on objects and files by severity.", labels=["severity"]
        )
        counts = pipeline.verdict_counts()
        for severity, count in counts.items():
            verdicts.add_metric([severity], count)
        yield verdicts
        engine = pipeline.engine.statistics()
        runs = CounterMetricFamily("portway_queries", "Queries by what became of them.", labels=["result"])
        for result, number in (("ran", engine.ran), ("reused", engine.reused), ("cut_off", engine.cut_off)):
            runs.add_metric([result], number)
        yield runs
        for name, text, value in (
            ("portway_query_nodes", "Memoised values and recorded reads.", engine.nodes),
            ("portway_query_pending", "Feeds and outputs waiting to be looked at.", engine.pending),
            ("portway_query_failures", "Queries that fail; each is a bug of Portway.", engine.failures),
            ("portway_compile_seconds", "The last compilation.", pipeline.statistics().last_compile_ms / 1000),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        published = pipeline.statistics().published
        yield CounterMetricFamily("portway_resources_published", "Resources handed to fleets.", value=published)

    def _processes(self) -> Iterable[Metric]:
        live = GaugeMetricFamily("portway_envoy_live", "1 when the Envoy on this machine is live.", labels=["fleet"])
        restarts = CounterMetricFamily(
            "portway_envoy_restarts", "Starts after an Envoy had ended by itself.", labels=["fleet"]
        )
        for name, found in self._parts.processes().items():
            live.add_metric([name], float(found.state is ProxyState.LIVE))
            restarts.add_metric([name], found.restarts)
        yield from (live, restarts)


def _fleets(discovery: ServerStatistics) -> Iterable[Metric]:
    resources = GaugeMetricFamily("portway_fleet_resources", "Resources that a fleet shall hold.", labels=["fleet"])
    proxies = GaugeMetricFamily("portway_fleet_proxies", "Connected proxies.", labels=["fleet"])
    refused = GaugeMetricFamily("portway_fleet_refused", "Resources that some proxy refuses.", labels=["fleet"])
    waiting = GaugeMetricFamily(
        "portway_fleet_waiting", "Resources still to be sent, of the proxy that lags most.", labels=["fleet"]
    )
    overdue = CounterMetricFamily(
        "portway_fleet_overdue", "Clusters that were not ready in time, by connected proxies.", labels=["fleet"]
    )
    for name, found in discovery.fleets.items():
        resources.add_metric([name], found.resources)
        proxies.add_metric([name], len(found.sessions))
        refused.add_metric([name], found.refused)
        waiting.add_metric([name], max((one.queued + one.held_back for one in found.sessions), default=0))
        overdue.add_metric([name], sum(one.overdue for one in found.sessions))
    yield from (resources, proxies, refused, waiting, overdue)
    yield CounterMetricFamily(
        "portway_proxies_sent_on",
        "Streams that were ended so that the proxy looks for another replica: this one has not read so far.",
        value=discovery.streams_sent_on,
    )


def _fleet_work(found: "ApplierStatistics") -> Iterable[Metric]:
    for name, text, count in (
        ("portway_fleets", "Fleets that are wanted in the cluster.", found.fleets),
        ("portway_fleets_held", "Fleets that are left as they are, as what is declared makes no sense.", found.held),
        ("portway_fleets_updating", "Fleets whose proxies are being made anew.", found.updating),
        ("portway_fleets_to_update", "Fleets that wait for that.", found.to_update),
        ("portway_fleets_failed", "Fleets that are not as they should be.", len(found.failed)),
    ):
        yield GaugeMetricFamily(name, text, value=count)


def make_registry(parts: Parts) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PartsCollector(parts))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def render(registry: CollectorRegistry, proxies: bytes) -> bytes:
    """Prometheus text: the control plane's, then the proxies' (whose names begin with `envoy_`)."""
    return generate_latest(registry) + proxies
