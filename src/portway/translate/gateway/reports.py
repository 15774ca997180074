"""What is to be said about routes and BackendTLSPolicies, and which function reports on which kind.

Source: Gateway API, `shared_types.go` (conditions of routes), `backendtlspolicy_types.go`, `policy_types.go`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec

from portway.incremental import Context
from portway.model.condition import Condition, ObjectReport, ParentReport
from portway.objects.core_v1 import Service
from portway.objects.gateway_policies_v1 import BackendTLSPolicy
from portway.objects.gateway_v1 import Gateway, ListenerSet
from portway.objects.problems import listed
from portway.objects.references_v1 import GatewayDefaultScope, LocalPolicyTargetReferenceWithSectionName
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.store import read_object
from portway.translate.absent import absent
from portway.translate.gateway import findings
from portway.translate.gateway.attachment import ParentAttachment, attachment_of, parent_key, route_of
from portway.translate.gateway.counts import GATEWAYS_OF_SERVICES, ServiceKey
from portway.translate.gateway.findings import Problem
from portway.translate.gateway.fleets import is_elsewhere
from portway.translate.gateway.gateway_reports import gateway_class_report, gateway_report, listener_set_report
from portway.translate.gateway.gateways import sockets_of
from portway.translate.gateway.rules import RulesKey, rules_of
from portway.translate.gateway.streams import StreamKey, stream_of
from portway.translate.gateway.tables import table_of
from portway.translate.policy.backend_tls import BY_SERVICE, policy_authorities
from portway.translate.sockets import age_of

T = TypeVar("T")


def route_report(ctx: Context, key: ObjectKey) -> ObjectReport:
    """What is to be said about a route of any kind."""
    attachment = ctx.get(attachment_of, key)
    if attachment is None:
        return ObjectReport(object=key, ours=False)
    problems = _problems(ctx, key)
    parents = tuple(
        ParentReport(
            parent=parent.parent,
            section=parent.section,
            port=parent.port,
            index=parent.index,
            conditions=_conditions(parent, problems),
            tables=_each(ctx.get(table_of, listener.key) for listener in parent.listeners),
            sockets=_each(socket for listener in parent.listeners for socket in ctx.get(sockets_of, listener.key)),
            elsewhere=ctx.get(is_elsewhere, parent.gateway),
        )
        for parent in attachment.parents
    )
    verdicts = _parent_verdicts(ctx, key)
    verdicts += [
        Verdict(
            object=key,
            severity=Severity.ERROR,
            reason=parent.reason,
            field=f"spec.parentRefs[{parent.index}]",
            problem=f"{parent.message}; the route is not served by it",
            remedy=parent.remedy,
        )
        for parent in attachment.parents
        if parent.reason != "Accepted"
    ]
    if parents:
        verdicts += [problem.verdict(key) for problem in problems]
    return ObjectReport(object=key, ours=bool(parents), parents=parents, verdicts=tuple(dict.fromkeys(verdicts)))


def _each(found: Iterable[T | None]) -> tuple[T, ...]:
    """What is there, each once, in order."""
    return tuple(dict.fromkeys(one for one in found if one is not None))


def _problems(ctx: Context, key: ObjectKey) -> tuple[Problem, ...]:
    if key.kind in ("HTTPRoute", "GRPCRoute"):
        rules = ctx.get(rules_of, RulesKey(key))
        return () if rules is None else rules.problems
    stream = ctx.get(stream_of, StreamKey(key))
    return () if stream is None else stream.problems


def _conditions(parent: ParentAttachment, problems: tuple[Problem, ...]) -> tuple[Condition, ...]:
    if parent.reason != "Accepted":
        accepted = Condition(type=findings.ACCEPTED, status=False, reason=parent.reason, message=_told(parent))
    else:
        accepted = findings.condition(
            findings.ACCEPTED, findings.of(findings.ACCEPTED, problems), "Accepted", parent.message
        )
    conditions = [
        accepted,
        findings.condition(findings.RESOLVED_REFS, findings.of(findings.RESOLVED_REFS, problems), "ResolvedRefs"),
    ]
    partial = findings.of(findings.PARTIALLY_INVALID, problems)
    if partial:
        conditions.append(
            Condition(
                type=findings.PARTIALLY_INVALID,
                status=True,
                reason="UnsupportedValue",
                # The specification asks for one of two beginnings, so that tools can tell them apart.
                message=f"Dropped Rule(s): {findings.joined(partial)}",
            )
        )
    return tuple(conditions)


def _told(parent: ParentAttachment) -> str:
    return f"{parent.message}; {parent.remedy}" if parent.remedy else parent.message


def _parent_verdicts(ctx: Context, key: ObjectKey) -> list[Verdict]:
    """Parents that are not there, and a word about routes that are none of our business."""
    route = route_of(ctx, key)
    if route is None:
        return []
    verdicts: list[Verdict] = []
    known = False
    for index, reference in enumerate(route.spec.parent_refs):
        parent = parent_key(route, reference)
        if parent is None:
            continue
        known = True
        kind = Gateway if parent.kind == "Gateway" else ListenerSet
        if read_object(ctx, kind, parent.namespace, parent.name) is None:
            verdicts.append(
                Verdict(
                    object=key,
                    severity=Severity.ERROR,
                    reason="NoMatchingParent",
                    field=f"spec.parentRefs[{index}]",
                    problem=f"{absent(ctx, parent)}; the route is not served by it",
                    remedy="create it, or name one that exists",
                )
            )
    if not known:
        problem = "no Gateway or ListenerSet is named; the route is not served by Portway"
        verdicts.append(
            Verdict(
                object=key,
                severity=Severity.INFO,
                reason="NotOurs",
                field="spec.parentRefs",
                problem=problem,
                remedy="name one if Portway is to serve it",
            )
        )
    if getattr(route.spec, "use_default_gateways", None) is GatewayDefaultScope.ALL:
        verdicts.append(
            Verdict(
                object=key,
                severity=Severity.WARNING,
                reason="UnsupportedValue",
                field="spec.useDefaultGateways",
                problem="default Gateways are not supported; the field has no effect",
                remedy="name the Gateway in parentRefs",
            )
        )
    return verdicts


# BackendTLSPolicies.


def policy_report(ctx: Context, key: ObjectKey) -> ObjectReport:
    """What is to be said about a BackendTLSPolicy, to each Gateway that routes to one of its targets."""
    policy = read_object(ctx, BackendTLSPolicy, key.namespace, key.name)
    if policy is None:
        return ObjectReport(object=key, ours=False)
    services = {ServiceKey(key.namespace, target.name) for target in policy.spec.target_refs}
    gateways = sorted(
        {gateway for service in services for row in ctx.rows(GATEWAYS_OF_SERVICES, service) for gateway in row}
    )
    problems = _policy_problems(ctx, key, policy)
    conditions = (
        findings.condition(findings.ACCEPTED, findings.of(findings.ACCEPTED, problems), "Accepted"),
        findings.condition(findings.RESOLVED_REFS, findings.of(findings.RESOLVED_REFS, problems), "ResolvedRefs"),
    )
    return ObjectReport(
        object=key,
        ours=bool(gateways),
        parents=tuple(ParentReport(parent=gateway, conditions=conditions) for gateway in gateways),
        verdicts=tuple(dict.fromkeys(problem.verdict(key) for problem in problems)),
    )


def _policy_problems(ctx: Context, key: ObjectKey, policy: BackendTLSPolicy) -> tuple[Problem, ...]:
    """What is wrong with a policy. One that is beaten at some of its targets is accepted for the others."""
    targets = [
        _target_problem(ctx, key, policy, target, f"spec.targetRefs[{index}]")
        for index, target in enumerate(policy.spec.target_refs)
    ]
    found = [problem for problem in targets if problem is not None]
    if len(found) < len(targets):
        found = [msgspec.structs.replace(problem, condition="") for problem in found]
    return (*found, *_authority_problems(ctx, key, policy))


def _target_problem(
    ctx: Context,
    key: ObjectKey,
    policy: BackendTLSPolicy,
    target: LocalPolicyTargetReferenceWithSectionName,
    field: str,
) -> Problem | None:
    if (target.group, target.kind) != ("", "Service"):
        name = f"{target.group}/{target.kind}" if target.group else target.kind
        return _policy_problem("Invalid", field, f"{name} cannot be a target", "name a Service")
    service = read_object(ctx, Service, key.namespace, target.name)
    if service is None:
        message = absent(ctx, ObjectKey("Service", key.namespace, target.name))
        return _policy_problem("TargetNotFound", f"{field}.name", message, "create it, or name one that exists")
    section = target.section_name
    if section is not None and all(port.name != section for port in service.spec.ports):
        message = f"Service {key.namespace}/{target.name} has no port named {section}"
        named = listed([port.name for port in service.spec.ports if port.name])
        remedy = f"write {named}" if named else "remove sectionName: the Service's ports have no names"
        return _policy_problem("TargetNotFound", f"{field}.sectionName", message, remedy)
    winner = min(
        (age_of(rival.metadata), rival_key)
        for rival_key in BY_SERVICE.read(ctx, (key.namespace, target.name))
        if (rival := read_object(ctx, BackendTLSPolicy, rival_key.namespace, rival_key.name)) is not None
        and any(_same_target(target, other) for other in rival.spec.target_refs)
    )[1]
    if winner == key:
        return None
    port = f", port {section}" if section else ""
    message = f"{winner} is about Service {key.namespace}/{target.name}{port} too and is older; it holds, not this one"
    return _policy_problem("Conflicted", field, message, "remove one of the two targets")


def _same_target(
    one: LocalPolicyTargetReferenceWithSectionName, other: LocalPolicyTargetReferenceWithSectionName
) -> bool:
    return (one.group, one.kind, one.name, one.section_name) == (
        other.group,
        other.kind,
        other.name,
        other.section_name,
    )


def _policy_problem(reason: str, field: str, message: str, remedy: str) -> Problem:
    return Problem(condition=findings.ACCEPTED, reason=reason, field=field, message=message, remedy=remedy)


def _authority_problems(ctx: Context, key: ObjectKey, policy: BackendTLSPolicy) -> list[Problem]:
    found = ctx.get(policy_authorities, key)
    problems = [
        Problem(
            condition=findings.RESOLVED_REFS,
            reason="InvalidKind" if problem.kind else "InvalidCACertificateRef",
            field=f"spec.validation.caCertificateRefs[{problem.index}]",
            message=problem.problem,
            remedy=problem.remedy,
        )
        for problem in found.problems
    ]
    if found.is_valid:
        return problems
    well_known = policy.spec.validation.well_known_ca_certificates
    if well_known is not None:
        field, message, reason = "wellKnownCACertificates", f'"{well_known}" is not known', "Invalid"
        remedy = 'write "System", or name CA certificates in caCertificateRefs'
    else:
        field, message, reason = "caCertificateRefs", "no CA certificate can be used", "NoValidCACertificate"
        remedy = "mend one of the references"
    problems.append(
        _policy_problem(reason, f"spec.validation.{field}", f"{message}; the Service is not spoken to at all", remedy)
    )
    return problems


REPORTS: Mapping[str, Callable[[Context, ObjectKey], ObjectReport]] = {
    "GatewayClass": gateway_class_report,
    "Gateway": gateway_report,
    "ListenerSet": listener_set_report,
    "HTTPRoute": route_report,
    "GRPCRoute": route_report,
    "TLSRoute": route_report,
    "TCPRoute": route_report,
    "UDPRoute": route_report,
    "BackendTLSPolicy": policy_report,
}
