"""What is to be said about listeners, Gateways, ListenerSets and GatewayClasses.

`Programmed` is true where nothing but the proxies' acknowledgement is missing; the status writer waits for that.

Source: Gateway API, `gateway_types.go`, `listenerset_types.go`, `gatewayclass_types.go` (conditions and reasons).
"""

from collections.abc import Mapping

import msgspec

from portway.incremental import Context, query
from portway.model.condition import Condition, ListenerReport, ObjectReport
from portway.model.handles import EDGE, UNAVAILABLE
from portway.model.listener import ClientValidation
from portway.objects.gateway_v1 import Gateway, GatewayClass, ListenerSet
from portway.objects.references_v1 import GATEWAY_GROUP
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.store import read_object
from portway.translate.gateway import findings
from portway.translate.gateway.certificates import client_certificate, listener_tls
from portway.translate.gateway.counts import ATTACHED
from portway.translate.gateway.features import SUPPORTED_FEATURES
from portway.translate.gateway.findings import Problem
from portway.translate.gateway.gateways import (
    GatewayHead,
    GatewayPlan,
    PortOf,
    gateway_head,
    gateway_of,
    gateway_plan,
    hosts_of,
    listener_plan,
    listeners_of,
    parent_of,
    sockets_of,
)
from portway.translate.gateway.hosts import EVERY, covers, is_wildcard, wider
from portway.translate.gateway.listeners import Conflict, Family, ListenerKey, ListenerPlan
from portway.translate.gateway.tables import needs_certificate
from portway.translate.sockets import lost_to


class ListenerState(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with one listener."""

    accepted: tuple[Problem, ...]
    references: tuple[Problem, ...]
    programmed: bool
    """It can serve."""
    fallback: bool = False
    """Clients without a valid certificate are let in."""


@query("state of a listener")
def listener_state(ctx: Context, key: ListenerKey) -> ListenerState | None:
    plan = ctx.get(listener_plan, key)
    if plan is None:
        return None
    tls = ctx.get(listener_tls, key)
    accepted = (*_unsound(plan), *_port(ctx, plan), *findings.of(findings.ACCEPTED, tls.problems))
    references = findings.of(findings.RESOLVED_REFS, tls.problems)
    if plan.foreign_kinds and plan.family is not Family.UNKNOWN:
        references = (_kinds(plan), *references)
    return ListenerState(
        accepted=accepted,
        references=references,
        programmed=not accepted and _has_socket(ctx, plan) and (not needs_certificate(plan) or tls.is_usable),
        fallback=tls.validation is ClientValidation.OPTIONAL_UNVERIFIED,
    )


def _has_socket(ctx: Context, plan: ListenerPlan) -> bool:
    return any(not ctx.read(UNAVAILABLE, socket) for socket in ctx.get(sockets_of, plan.key))


def _unsound(plan: ListenerPlan) -> tuple[Problem, ...]:
    if plan.conflict is Conflict.HOSTNAME:
        host = "all hosts" if plan.hostname == EVERY else plan.hostname
        message = f"{plan.rival} is on port {plan.port} for {host} too; this one is not served"
        return (_not_accepted(plan, "hostname", plan.conflict.value, message),)
    if plan.conflict is Conflict.PROTOCOL:
        message = f"{plan.protocol} cannot share port {plan.port} with {plan.rival}; this one is not served"
        return (_not_accepted(plan, "protocol", plan.conflict.value, message),)
    if plan.family is Family.UNKNOWN:
        message = f'"{plan.protocol}" is none of HTTP, HTTPS, TLS, TCP, UDP; the listener is not served'
        return (_not_accepted(plan, "protocol", "UnsupportedProtocol", message),)
    if plan.unsupported:
        message = f"{plan.unsupported} of listeners are not supported; the listener is not served without them"
        return (_not_accepted(plan, plan.unsupported, "UnsupportedValue", message),)
    return ()


def _not_accepted(plan: ListenerPlan, field: str, reason: str, message: str) -> Problem:
    return Problem(condition=findings.ACCEPTED, reason=reason, field=f"{plan.field}.{field}", message=message)


@query("unusable addresses")
def unusable_addresses(ctx: Context, gateway: ObjectKey) -> Mapping[str, str]:
    """Addresses that `spec.addresses` asks for and that cannot be had on any of its ports, with the reason."""
    plan = ctx.get(gateway_plan, gateway)
    found: dict[str, str] = {}
    for address in () if plan is None else plan.head.requested:
        said = [
            ctx.read(UNAVAILABLE, socket)
            for listeners in (() if plan is None else plan.listeners.values())
            for listener in listeners
            for socket in (() if plan is None else plan.head.sockets(listener))
            if socket.address == address
        ]
        if said and all(said):
            found[address] = said[0]
    return found


def _port(ctx: Context, plan: ListenerPlan) -> tuple[Problem, ...]:
    unusable = ctx.get(unusable_addresses, plan.gateway)
    for socket in ctx.get(sockets_of, plan.key):
        if socket.address in unusable:
            continue  # the Gateway's fault, not the listener's
        if problem := ctx.read(UNAVAILABLE, socket):
            return (_not_accepted(plan, "port", "PortUnavailable", problem),)
        taken = lost_to(ctx, socket, plan.gateway)
        if taken is not None:
            winner = "Ingress" if taken.kind == "Ingress" else str(taken)
            message = f"{socket} belongs to {winner}, which is older or comes first by name; this one is not served"
            lost = _not_accepted(plan, "port", "PortUnavailable", message)
            return (msgspec.structs.replace(lost, remedy="choose another port, or another address"),)
    return ()


def _kinds(plan: ListenerPlan) -> Problem:
    return Problem(
        condition=findings.RESOLVED_REFS,
        reason="InvalidRouteKinds",
        field=f"{plan.field}.allowedRoutes.kinds",
        message=f"{', '.join(plan.foreign_kinds)} cannot be attached to a listener of protocol {plan.protocol}",
    )


def listener_report(ctx: Context, plan: ListenerPlan, blocked: str) -> ListenerReport:
    """The status entry of one listener.

    Args:
        ctx: where things are read.
        plan: the listener.
        blocked: why nothing of its Gateway is served; empty: it is.
    """
    state = ctx.get(listener_state, plan.key)
    assert state is not None  # noqa: S101 - the plan exists, so its state does
    conditions = [
        findings.condition(findings.ACCEPTED, state.accepted, "Accepted"),
        _programmed(plan, state, blocked),
        findings.condition(findings.RESOLVED_REFS, state.references, "ResolvedRefs"),
        Condition(
            type=findings.CONFLICTED,
            status=plan.conflict is not Conflict.NONE,
            reason=plan.conflict.value or "NoConflicts",
            message=findings.joined(_unsound(plan)) if plan.conflict is not Conflict.NONE else "",
        ),
    ]
    if (overlapping := ctx.get(overlap_of, plan.key)) is not None:
        conditions.append(overlapping)
    return ListenerReport(
        name=plan.key.name,
        supported_kinds=tuple((GATEWAY_GROUP, kind) for kind in plan.kinds),
        attached_routes=ctx.size(ATTACHED, plan.key),
        conditions=tuple(conditions),
    )


def _programmed(plan: ListenerPlan, state: ListenerState, blocked: str) -> Condition:
    if state.programmed and not blocked:
        return Condition(type=findings.PROGRAMMED, status=True, reason="Programmed")
    reason = plan.conflict.value or "Invalid"
    message = findings.joined(state.accepted or state.references) or blocked or "none of its addresses can be used"
    return Condition(type=findings.PROGRAMMED, status=False, reason=reason, message=message)


@query("names of certificates")
def certificate_names(ctx: Context, port: PortOf) -> Mapping[str, tuple[ListenerKey, ...]]:
    """Which listeners of a port, the first two at most, show certificates with which names."""
    found: dict[str, tuple[ListenerKey, ...]] = {}
    for key in ctx.get(hosts_of, port).values():
        for name in ctx.get(listener_tls, key).names:
            known = found.get(name, ())
            if len(known) < 2:
                found[name] = (*known, key)
    return found


@query("overlap of a listener")
def overlap_of(ctx: Context, key: ListenerKey) -> Condition | None:
    """Whether clients may mix up connections of a TLS listener and another on its port: their hosts overlap, or the
    names in their certificates."""
    plan = ctx.get(listener_plan, key)
    if plan is None or plan.family is not Family.TLS or not plan.is_sound:
        return None
    port = PortOf(plan.gateway, plan.port)
    hosts = ctx.get(hosts_of, port)
    wide = next((hosts[host] for host in wider(plan.hostname) if host in hosts), None)
    if wide is None and is_wildcard(plan.hostname):
        wide = next((other for host, other in hosts.items() if other != key and covers(plan.hostname, host)), None)
    if wide is not None:
        return _overlap("OverlappingHostnames", f"the host names overlap with those of the {wide}")
    own = ctx.get(listener_tls, key).names
    named = ctx.get(certificate_names, port) if own else {}
    for name in own:
        for other in named[name]:
            if other != key:
                return _overlap(
                    "OverlappingCertificates", f"the certificate has the name {name}, as that of the {other}"
                )
    return None


def _overlap(reason: str, message: str) -> Condition:
    return Condition(type="OverlappingTLSConfig", status=True, reason=reason, message=message)


# Gateways.


def gateway_report(ctx: Context, key: ObjectKey) -> ObjectReport:
    """What is to be said about a Gateway."""
    plan = ctx.get(gateway_plan, key)
    if plan is None:
        return _not_ours(ctx, key)
    states = {listener.key: ctx.get(listener_state, listener.key) for listener in plan.listeners[key]}
    bad = [problem for state in states.values() if state is not None for problem in state.accepted]
    good = any(state is not None and not state.accepted for state in states.values())
    able = any(state is not None and state.programmed for state in states.values())
    blocked = findings.joined(plan.head.problems)
    certificate = ctx.get(client_certificate, key)
    unusable = ctx.get(unusable_addresses, key)
    conditions = [
        _accepted(plan.head.problems, bad, good=good),
        _gateway_programmed(blocked, unusable, serves=able or _sets_serve(ctx, plan)),
        findings.condition(
            findings.RESOLVED_REFS, () if certificate.problem is None else (certificate.problem,), "ResolvedRefs"
        ),
    ]
    if any(state is not None and state.fallback for state in states.values()):
        conditions.append(
            Condition(
                type="InsecureFrontendValidationMode",
                status=True,
                reason="ConfigurationChanged",
                message="AllowInsecureFallback lets clients in without a valid certificate",
            )
        )
    problems = [
        *plan.head.problems,
        *(
            problem
            for state in states.values()
            if state is not None
            for problem in (*state.accepted, *state.references)
        ),
        *(() if certificate.problem is None else (certificate.problem,)),
    ]
    return ObjectReport(
        object=key,
        conditions=tuple(conditions),
        listeners=tuple(listener_report(ctx, listener, blocked) for listener in plan.listeners[key]),
        attached_listener_sets=sum(_is_accepted(ctx, owner) for owner in plan.listener_sets),
        addresses=()
        if plan.head.problems
        else tuple(("IPAddress", address) for address in plan.head.addresses if address not in unusable),
        verdicts=tuple(dict.fromkeys(problem.verdict(key) for problem in problems)),
    )


def _accepted(whole: tuple[Problem, ...], listeners: list[Problem], *, good: bool) -> Condition:
    if whole:
        return findings.condition(findings.ACCEPTED, whole, "Accepted")
    if not listeners:
        return Condition(type=findings.ACCEPTED, status=True, reason="Accepted")
    message = findings.joined(listeners)
    return Condition(type=findings.ACCEPTED, status=good, reason="ListenersNotValid", message=message)


def _gateway_programmed(blocked: str, unusable: Mapping[str, str], *, serves: bool) -> Condition:
    if unusable and not blocked:
        message = "; ".join(f"{address}: {problem}" for address, problem in unusable.items())
        return Condition(type=findings.PROGRAMMED, status=False, reason="AddressNotUsable", message=message)
    if serves and not blocked:
        return Condition(type=findings.PROGRAMMED, status=True, reason="Programmed")
    message = blocked or "none of the listeners can be served"
    return Condition(type=findings.PROGRAMMED, status=False, reason="Invalid", message=message)


def _sets_serve(ctx: Context, plan: GatewayPlan) -> bool:
    return any(
        (state := ctx.get(listener_state, listener.key)) is not None and state.programmed
        for owner in plan.listener_sets
        for listener in plan.listeners[owner]
    )


def _is_accepted(ctx: Context, listener_set: ObjectKey) -> bool:
    return any(
        (state := ctx.get(listener_state, listener.key)) is not None and not state.accepted
        for listener in ctx.get(listeners_of, listener_set)
    )


def _not_ours(ctx: Context, key: ObjectKey) -> ObjectReport:
    gateway = read_object(ctx, Gateway, key.namespace, key.name)
    if gateway is None:
        return ObjectReport(object=key, ours=False)
    name = gateway.spec.gateway_class_name
    missing = read_object(ctx, GatewayClass, "", name) is None
    return ObjectReport(
        object=key,
        ours=False,
        verdicts=(
            Verdict(
                object=key,
                severity=Severity.WARNING if missing else Severity.INFO,
                reason="NotOurs",
                field="spec.gatewayClassName",
                problem=f"GatewayClass {name} does not exist; the Gateway is not served"
                if missing
                else f"GatewayClass {name} belongs to another controller; the Gateway is not served by Portway",
                remedy=f"declare a GatewayClass with controllerName {ctx.read(EDGE, None).gateway_controller}",
            ),
        ),
    )


# ListenerSets.


def listener_set_report(ctx: Context, key: ObjectKey) -> ObjectReport:
    """What is to be said about a ListenerSet."""
    found = read_object(ctx, ListenerSet, key.namespace, key.name)
    gateway = None if found is None else parent_of(found)
    head = None if gateway is None else ctx.get(gateway_head, gateway)
    if found is None or head is None:
        return ObjectReport(object=key, ours=False)
    if ctx.get(gateway_of, key) is None:
        problem = Problem(
            condition=findings.ACCEPTED,
            reason="NotAllowed",
            field="spec.parentRef",
            message=f"allowedListeners of {head.key} does not take ListenerSets from namespace {key.namespace}",
        )
        return ObjectReport(object=key, conditions=_both(problem), verdicts=(problem.verdict(key),))
    listeners = ctx.get(listeners_of, key)
    states = [state for each in listeners if (state := ctx.get(listener_state, each.key)) is not None]
    blocked = findings.joined(head.problems)
    problems = [problem for state in states for problem in (*state.accepted, *state.references)]
    return ObjectReport(
        object=key,
        conditions=_set_conditions(head, states, problems),
        listeners=tuple(listener_report(ctx, listener, blocked) for listener in listeners),
        verdicts=tuple(dict.fromkeys(problem.verdict(key) for problem in problems)),
    )


def _both(problem: Problem) -> tuple[Condition, ...]:
    return (
        findings.condition(findings.ACCEPTED, (problem,), "Accepted"),
        findings.condition(findings.PROGRAMMED, (problem,), "Programmed"),
    )


def _set_conditions(head: GatewayHead, states: list[ListenerState], problems: list[Problem]) -> tuple[Condition, ...]:
    if head.problems:
        message = f"{head.key} is not accepted: {findings.joined(head.problems)}"
        return (
            Condition(type=findings.ACCEPTED, status=False, reason="ParentNotAccepted", message=message),
            Condition(type=findings.PROGRAMMED, status=False, reason="ParentNotProgrammed", message=message),
        )
    usable = any(state.programmed for state in states)
    message = findings.joined(problems)
    valid = usable and not problems
    return (
        Condition(
            type=findings.ACCEPTED,
            status=usable,
            reason="Accepted" if valid else "ListenersNotValid",
            message=message,
        ),
        Condition(
            type=findings.PROGRAMMED,
            status=usable,
            reason="Programmed" if usable else "ListenersNotValid",
            message="" if usable else message,
        ),
    )


# GatewayClasses.


def gateway_class_report(ctx: Context, key: ObjectKey) -> ObjectReport:
    """What is to be said about a GatewayClass."""
    found = read_object(ctx, GatewayClass, "", key.name)
    edge = ctx.read(EDGE, None)
    if found is None or (found.spec.controller_name != edge.gateway_controller and not edge.all_classes):
        return ObjectReport(object=key, ours=False)
    problems: tuple[Problem, ...] = ()
    if found.spec.parameters_ref is not None:
        reference = found.spec.parameters_ref
        problems = (
            Problem(
                condition=findings.ACCEPTED,
                reason="InvalidParameters",
                field="spec.parametersRef",
                message=f"{reference.group}/{reference.kind} is no kind of parameters that Portway knows",
                remedy="remove parametersRef",
            ),
        )
    return ObjectReport(
        object=key,
        conditions=(findings.condition(findings.ACCEPTED, problems, "Accepted"),),
        supported_features=SUPPORTED_FEATURES,
        verdicts=tuple(problem.verdict(key) for problem in problems),
    )
