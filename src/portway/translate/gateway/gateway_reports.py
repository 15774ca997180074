"""What is to be said about Gateways, ListenerSets and GatewayClasses.

`Programmed` is true where nothing but the proxies' acknowledgement is missing; the status writer waits for that.

Source: Gateway API, `gateway_types.go`, `listenerset_types.go`, `gatewayclass_types.go` (conditions and reasons).
"""

from collections.abc import Iterable

import msgspec

from portway.incremental import Context
from portway.model.condition import Condition, ObjectReport, Serving
from portway.model.fleet import FleetAddress, published_address
from portway.model.handles import EDGE, GATEWAY_DEFINITIONS, INFRASTRUCTURE
from portway.objects.gateway_v1 import Gateway, GatewayClass, ListenerSet
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.store import read_object
from portway.translate.absent import absent
from portway.translate.gateway import findings
from portway.translate.gateway.bundle import supported_version, version_problems
from portway.translate.gateway.certificates import client_certificate
from portway.translate.gateway.features import features_of
from portway.translate.gateway.findings import Problem
from portway.translate.gateway.fleets import Reach, is_elsewhere, reach
from portway.translate.gateway.gateways import (
    GatewayHead,
    gateway_head,
    gateway_of,
    gateway_plan,
    listeners_of,
    parent_of,
)
from portway.translate.gateway.listener_reports import (
    ListenerState,
    expiries,
    listener_report,
    listener_state,
    serving,
    unusable_addresses,
)
from portway.translate.gateway.listeners import ListenerPlan
from portway.translate.parameters import class_parameters, own_parameters, without_effect


def gateway_report(ctx: Context, key: ObjectKey) -> ObjectReport:
    """What is to be said about a Gateway."""
    plan = ctx.get(gateway_plan, key)
    if plan is None:
        return _not_ours(ctx, key)
    if ctx.get(is_elsewhere, key):
        return ObjectReport(object=key, elsewhere=True, verdicts=reach(ctx, key).verdicts)
    states = {listener.key: ctx.get(listener_state, listener.key) for listener in plan.listeners[key]}
    bad = [problem for state in states.values() if state is not None for problem in state.accepted]
    good = any(state is not None and not state.accepted for state in states.values())
    able = _serving(ctx, (listener for listeners in plan.listeners.values() for listener in listeners))
    blocked = findings.joined(plan.head.problems)
    shown = ctx.get(client_certificate, key)
    reached = reach(ctx, key) if plan.head.own_fleet else _reach_on_host(ctx, plan.head)
    conditions = [
        _accepted(plan.head.problems, bad, good=good),
        _gateway_programmed(blocked, reached, serves=bool(able)),
        findings.condition(findings.RESOLVED_REFS, () if shown.problem is None else (shown.problem,), "ResolvedRefs"),
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
        *(() if shown.problem is None else (shown.problem,)),
    ]
    return ObjectReport(
        object=key,
        conditions=tuple(conditions),
        listeners=tuple(listener_report(ctx, listener, blocked) for listener in plan.listeners[key]),
        serving=() if blocked else able,
        attached_listener_sets=sum(_is_accepted(ctx, owner) for owner in plan.listener_sets),
        addresses=reached.addresses,
        addresses_known=not reached.unseen,
        verdicts=(
            *dict.fromkeys(problem.verdict(key) for problem in problems),
            *reached.verdicts,
            *(() if plan.head.own_fleet else _ignored_parameters(ctx, key)),
            *expiries(ctx, plan.listeners[key]),
        ),
    )


def _accepted(whole: tuple[Problem, ...], listeners: list[Problem], *, good: bool) -> Condition:
    if whole:
        return findings.condition(findings.ACCEPTED, whole, "Accepted")
    if not listeners:
        return Condition(type=findings.ACCEPTED, status=True, reason="Accepted")
    message = findings.joined(listeners)
    return Condition(type=findings.ACCEPTED, status=good, reason="ListenersNotValid", message=message)


def _ignored_parameters(ctx: Context, key: ObjectKey) -> tuple[Verdict, ...]:
    gateway = read_object(ctx, Gateway, key.namespace, key.name)
    wanted = None if gateway is None else gateway.spec.infrastructure
    if gateway is None or wanted is None or wanted.parameters_ref is None or own_parameters(ctx, gateway).problem:
        return ()
    return (without_effect(key, "spec.infrastructure.parametersRef"),)


def _reach_on_host(ctx: Context, head: GatewayHead) -> Reach:
    """The addresses of this machine that the Gateway has."""
    if head.problems:
        return Reach(addresses=())
    published = ctx.read(EDGE, None).publish_addresses
    if published and not head.requested:
        return Reach(addresses=tuple(map(published_address, published)))
    unusable = ctx.get(unusable_addresses, head.key)
    return Reach(
        addresses=tuple(FleetAddress("IPAddress", address) for address in head.addresses if address not in unusable),
        reason="AddressNotUsable" if unusable else "",
        message="; ".join(f"{address}: {problem}" for address, problem in unusable.items()),
    )


def _gateway_programmed(blocked: str, reached: Reach, *, serves: bool) -> Condition:
    # An address that cannot be had may be why nothing is served; one that has not come yet is not.
    if not blocked and (reached.reason == "AddressNotUsable" or (serves and reached.reason)):
        return Condition(
            type=findings.PROGRAMMED,
            status=False,
            reason=reached.reason,
            message=reached.message[: findings.MAX_MESSAGE],
            provisional=reached.unseen,
        )
    if serves and not blocked:
        return Condition(type=findings.PROGRAMMED, status=True, reason="Programmed")
    message = blocked or "none of the listeners can be served"
    return Condition(type=findings.PROGRAMMED, status=False, reason="Invalid", message=message)


def _serving(ctx: Context, listeners: Iterable[ListenerPlan]) -> tuple[Serving, ...]:
    """Of those that can serve, by their keys: a plan whose ListenerSets only change their rank equals the old one."""
    found = (serving(ctx, key) for key in sorted(listener.key for listener in listeners))
    return tuple(each for each in found if each is not None)


def _is_accepted(ctx: Context, listener_set: ObjectKey) -> bool:
    """As `_set_conditions` judges: a ListenerSet is accepted if one of its listeners can serve."""
    return any(
        (state := ctx.get(listener_state, listener.key)) is not None and state.programmed
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
        return ObjectReport(
            object=key, ours=False, verdicts=() if found is None else _without_gateway(ctx, key, gateway)
        )
    if ctx.get(is_elsewhere, head.key):
        return ObjectReport(object=key, elsewhere=True)
    if ctx.get(gateway_of, key) is None:
        problem = Problem(
            condition=findings.ACCEPTED,
            reason="NotAllowed",
            field="spec.parentRef",
            message=f"allowedListeners of {head.key} does not take ListenerSets from namespace {key.namespace}; "
            "its listeners are not served",
            remedy=f"let spec.allowedListeners.namespaces of {head.key} take namespace {key.namespace}",
        )
        return ObjectReport(object=key, conditions=_both(problem), verdicts=(problem.verdict(key),))
    listeners = ctx.get(listeners_of, key)
    states = [state for each in listeners if (state := ctx.get(listener_state, each.key)) is not None]
    blocked = findings.joined(head.problems)
    problems = [_told_by_set(problem, head.key) for state in states for problem in (*state.accepted, *state.references)]
    return ObjectReport(
        object=key,
        conditions=_set_conditions(head, states, problems),
        listeners=tuple(listener_report(ctx, listener, blocked) for listener in listeners),
        serving=() if blocked else _serving(ctx, listeners),
        verdicts=(*dict.fromkeys(problem.verdict(key) for problem in problems), *expiries(ctx, listeners)),
    )


def _without_gateway(ctx: Context, key: ObjectKey, gateway: ObjectKey | None) -> tuple[Verdict, ...]:
    """Why nobody serves the ListenerSet: what it names is no Gateway, is not there, or is not ours."""
    severity, reason = Severity.ERROR, "NoMatchingParent"
    if gateway is None:
        problem, remedy = (
            "names no Gateway; its listeners are not served",
            "name one, as ListenerSets add to Gateways only",
        )
    elif read_object(ctx, Gateway, gateway.namespace, gateway.name) is None:
        problem, remedy = (
            f"{absent(ctx, gateway)}; its listeners are not served",
            "create it, or name one that exists",
        )
    else:
        severity, reason, remedy = Severity.INFO, "NotOurs", ""
        problem = f"{gateway} is not served by Portway, nor are these listeners"
    told = Problem(
        condition="", reason=reason, field="spec.parentRef", message=problem, remedy=remedy, severity=severity
    )
    return (told.verdict(key),)


def _told_by_set(problem: Problem, gateway: ObjectKey) -> Problem:
    """The problem as one of the ListenerSet: what holds for all listeners of the Gateway stands in no field of the
    set."""
    if not problem.field.startswith("spec.tls."):
        return problem
    return msgspec.structs.replace(
        problem, field="spec.parentRef", message=f"{gateway}: {problem.field}: {problem.message}"
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
    infrastructure = ctx.read(INFRASTRUCTURE, None)
    meanwhile = "are served without them" if infrastructure.is_host else "keep their proxies as they are"
    problems = _parameters(ctx, key.name, meanwhile)
    is_ignored = infrastructure.is_host and found.spec.parameters_ref is not None and not problems
    ignored = (without_effect(key, "spec.parametersRef"),) if is_ignored else ()
    definitions = ctx.read(GATEWAY_DEFINITIONS, None)
    return ObjectReport(
        object=key,
        conditions=(
            findings.condition(findings.ACCEPTED, problems, "Accepted"),
            *supported_version(definitions),
        ),
        supported_features=features_of(infrastructure),
        verdicts=(*(problem.verdict(key) for problem in (*problems, *version_problems(definitions))), *ignored),
    )


def _parameters(ctx: Context, class_name: str, meanwhile: str) -> tuple[Problem, ...]:
    found = ctx.get(class_parameters, class_name)
    if not found.problem:
        return ()
    message = f"{found.problem}; Gateways of the class {meanwhile}"
    return (
        Problem(
            condition=findings.ACCEPTED,
            reason="InvalidParameters",
            field=found.field,
            message=message,
            remedy=found.remedy,
        ),
    )
