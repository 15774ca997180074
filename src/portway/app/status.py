"""What `portway status` shows: one picture of a running Portway, made from the frozen statistics of its parts."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

import portway
from portway.app.checking import Remark, by_place, make_remark
from portway.app.pipeline import Pipeline
from portway.explain.report import Locate
from portway.infra.binary import version_of
from portway.infra.proxy import HostStatistics
from portway.model.condition import ObjectReport
from portway.model.resource import ResourceType
from portway.objects.verdict import Severity
from portway.status.programmed import as_programmed, hosts_by_origin
from portway.status.shapes import KubernetesStatus, make_kubernetes_status
from portway.store import Finding
from portway.xds.fleet import FleetState
from portway.xds.session import Session
from portway.xds.states import State

if TYPE_CHECKING:
    from portway.infra.kubernetes.applier import ApplierStatistics

TURN = 100
"""Reports that are judged before others have their turn: a few milliseconds' worth."""


class ProxyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One connected proxy."""

    name: str
    fleet: str
    wanted: int
    """Resources that the fleet shall hold."""
    held: int
    """Those of them that this proxy has, in the wanted version, or does not ask for."""
    refused: int
    """Those whose wanted version it refuses."""
    waiting: int
    """Not yet sent, or held back until something else is ready."""


class RefusalStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that proxies refuse."""

    fleet: str
    resource: str
    message: str
    origins: tuple[str, ...]


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An Envoy on this machine."""

    fleet: str
    state: str
    pid: int | None
    restarts: int
    version: str


class FleetsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Fleets of a cluster. What is done with them only the replica knows that leads; others say 0."""

    wanted: int
    held: int
    """Left as they are, since their Gateway or parameters make no sense just now."""
    updating: int
    """Whose proxies are being made anew."""
    to_update: int
    """That follow after these."""
    failed: int
    """Not as they should be."""


class ObjectStatus(msgspec.Struct, frozen=True, kw_only=True):
    object: str
    status: KubernetesStatus
    """As it would stand in the object, without times and generations."""
    remarks: tuple[str, ...]
    """By place, without the object's name."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The whole picture."""

    version: str
    ready: bool
    not_ready_because: str
    objects: Mapping[str, int]
    errors: int
    warnings: int
    proxies: tuple[ProxyStatus, ...]
    refusals: tuple[RefusalStatus, ...]
    processes: tuple[ProcessStatus, ...]
    reports: tuple[ObjectStatus, ...]
    """Sorted by object."""
    findings: tuple[str, ...]
    """What sources have to say: files that cannot be read and the like."""
    fleets: FleetsStatus | None = None
    """`None`: proxies are not made in a cluster."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the parts say at one moment; what it means in words and places is `make_status`'s."""

    not_ready_because: str
    objects: Mapping[str, int]
    reports: tuple[ObjectReport, ...]
    findings: tuple[Finding, ...]
    proxies: tuple[ProxyStatus, ...]
    refusals: tuple[RefusalStatus, ...]
    processes: tuple[ProcessStatus, ...]
    fleets: FleetsStatus | None = None


async def look(
    pipeline: Pipeline,
    fleets: Mapping[str, FleetState],
    processes: Mapping[str, HostStatistics],
    reason: str,
    counts: Callable[[ObjectReport], bool] | None = None,
    work: "ApplierStatistics | None" = None,
) -> Seen:
    """Ask the parts, a little at a time.

    Args:
        reason: why requests are not served as declared; empty: they are.
        counts: whether an object is asked about; `None`: all are.
        work: what is done to have proxies in a cluster; `None`: nothing is.
    """
    hosts = hosts_by_origin(fleets)
    reports: list[ObjectReport] = []
    for number, report in enumerate(tuple(pipeline.reports.values())):
        if counts is None or counts(report):
            reports.append(as_programmed(report, fleets, hosts))
        if number % TURN == 0:
            await asyncio.sleep(0)
    return Seen(
        not_ready_because=reason,
        objects=pipeline.engine.store.statistics().objects,
        reports=tuple(reports),
        findings=pipeline.engine.store.findings(),
        proxies=tuple(_proxies(fleets)),
        refusals=tuple(
            RefusalStatus(
                fleet=name,
                resource=f"{refusal.key.type.name} {refusal.key.name}",
                message=refusal.message,
                origins=tuple(map(str, refusal.origins)),
            )
            for name, fleet in fleets.items()
            for refusal in fleet.refusals()
        ),
        processes=tuple(
            ProcessStatus(
                fleet=name,
                state=process.state,
                pid=process.pid,
                restarts=process.restarts,
                version=version_of(process.build),
            )
            for name, process in processes.items()
        ),
        fleets=None
        if work is None
        else FleetsStatus(
            wanted=work.fleets,
            held=work.held,
            updating=work.updating,
            to_update=work.to_update,
            failed=len(work.failed),
        ),
    )


def make_status(seen: Seen, locate: Locate, controller: str) -> Status:
    """The whole picture. Locating fields reads files, at thousands of verdicts for seconds: call it in a thread of its
    own.

    Args:
        seen: what `look` returned.
        locate: where fields stand.
        controller: our name as a controller of Gateways.
    """
    reports = sorted(seen.reports, key=lambda report: report.object)
    severities = [verdict.severity for report in reports for verdict in report.verdicts]
    severities += [finding.verdict.severity for finding in seen.findings]
    return Status(
        version=portway.__version__,
        ready=not seen.not_ready_because,
        not_ready_because=seen.not_ready_because,
        objects=seen.objects,
        errors=severities.count(Severity.ERROR),
        warnings=severities.count(Severity.WARNING),
        proxies=seen.proxies,
        refusals=seen.refusals,
        processes=seen.processes,
        fleets=seen.fleets,
        reports=tuple(_object(report, locate, controller) for report in reports if report.ours),
        findings=tuple(str(make_remark(finding.verdict, finding.file, finding.line)) for finding in seen.findings),
    )


def _proxies(fleets: Mapping[str, FleetState]) -> Iterable[ProxyStatus]:
    for name, fleet in fleets.items():
        for session in fleet.sessions:
            statistics = session.statistics()
            yield ProxyStatus(
                name=session.proxy,
                fleet=name,
                wanted=len(fleet.snapshot),
                held=_count_done(fleet, session),
                refused=sum(session.state_of(refusal.key) is State.REFUSED for refusal in fleet.refusals()),
                waiting=statistics.queued + statistics.held_back,
            )


def _count_done(fleet: FleetState, session: Session) -> int:
    return sum(
        session.is_done(resource.key, resource)
        for kind in ResourceType
        for resource in fleet.snapshot.of_type(kind).values()
    )


def remarks_of(report: ObjectReport, locate: Locate) -> tuple[Remark, ...]:
    """What there is to say about an object, by place; the object is named only where it is another one."""
    remarks: list[Remark] = []
    for verdict in report.verdicts:
        file, line = locate(verdict.object, verdict.field) or ("", 0)
        remark = make_remark(verdict, file, line)
        # The object is named once, in `ObjectStatus.object`.
        own = verdict.object == report.object
        remarks.append(msgspec.structs.replace(remark, object="") if own else remark)
    return tuple(sorted(remarks, key=by_place))


def _object(report: ObjectReport, locate: Locate, controller: str) -> ObjectStatus:
    return ObjectStatus(
        object=str(report.object),
        status=make_kubernetes_status(report, controller),
        remarks=tuple(map(str, remarks_of(report, locate))),
    )
