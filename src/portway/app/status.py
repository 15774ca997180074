"""What `portway status` shows: one picture of a running Portway, made from the frozen statistics of its parts."""

from collections.abc import Iterable, Mapping

import msgspec

import portway
from portway.app.checking import Remark, make_remark
from portway.app.pipeline import Pipeline
from portway.explain.report import Locate
from portway.infra.proxy import HostStatistics
from portway.model.condition import Condition, ObjectReport
from portway.objects.verdict import Severity
from portway.store import Finding
from portway.xds.fleet import FleetState


class ProxyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One connected proxy."""

    name: str
    fleet: str
    wanted: int
    """Resources that the fleet shall hold."""
    held: int
    """Those of them that this proxy has acknowledged."""
    refused: int
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


class ConditionStatus(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    status: bool
    reason: str
    message: str
    parent: str = ""
    """The parent or listener it is about; empty: the object itself."""


class ObjectStatus(msgspec.Struct, frozen=True, kw_only=True):
    object: str
    conditions: tuple[ConditionStatus, ...]
    remarks: tuple[str, ...]


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


def not_ready_because(synced: bool, fleets: Mapping[str, FleetState], live: bool) -> str:
    """Why requests are not served as declared yet; empty if they are."""
    if not synced:
        return "the sources are still being read"
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


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the parts say at one moment; what it means in words and places is `make_status`'s."""

    not_ready_because: str
    objects: Mapping[str, int]
    reports: tuple[ObjectReport, ...]
    findings: tuple[Finding, ...]
    proxies: tuple[ProxyStatus, ...]
    refusals: tuple[RefusalStatus, ...]
    processes: tuple[ProcessStatus, ...]


def look(
    pipeline: Pipeline, fleets: Mapping[str, FleetState], processes: Mapping[str, HostStatistics], reason: str
) -> Seen:
    """Ask the parts; quick."""
    return Seen(
        not_ready_because=reason,
        objects=pipeline.engine.store.statistics().objects,
        reports=tuple(pipeline.reports.values()),
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
                version=process.build.split("/")[1] if "/" in process.build else process.build,
            )
            for name, process in processes.items()
        ),
    )


def make_status(seen: Seen, locate: Locate) -> Status:
    """The whole picture. Locating fields reads files, at thousands of verdicts for seconds: call it in a thread of its
    own."""
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
        reports=tuple(_object(report, locate) for report in reports if report.ours),
        findings=tuple(str(make_remark(finding.verdict, finding.file, finding.line)) for finding in seen.findings),
    )


def _proxies(fleets: Mapping[str, FleetState]) -> Iterable[ProxyStatus]:
    for name, fleet in fleets.items():
        statistics = fleet.statistics()
        for session in statistics.sessions:
            yield ProxyStatus(
                name=session.proxy,
                fleet=name,
                wanted=statistics.resources,
                held=session.held_by_proxy,
                refused=session.refused,
                waiting=session.queued + session.held_back,
            )


def _object(report: ObjectReport, locate: Locate) -> ObjectStatus:
    conditions = [_condition(condition) for condition in report.conditions]
    for parent in report.parents:
        name = f"{parent.parent}{f' listener {parent.section}' if parent.section else ''}"
        conditions += [_condition(condition, name) for condition in parent.conditions]
    for listener in report.listeners:
        conditions += [_condition(condition, f"listener {listener.name}") for condition in listener.conditions]
    remarks: list[Remark] = []
    for verdict in report.verdicts:
        file, line = locate(verdict.object, verdict.field) or ("", 0)
        remarks.append(make_remark(verdict, file, line))
    return ObjectStatus(
        object=str(report.object), conditions=tuple(conditions), remarks=tuple(str(remark) for remark in remarks)
    )


def _condition(condition: Condition, parent: str = "") -> ConditionStatus:
    return ConditionStatus(
        type=condition.type,
        status=condition.status,
        reason=condition.reason,
        message=condition.message,
        parent=parent,
    )
