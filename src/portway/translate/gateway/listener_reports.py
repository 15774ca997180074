"""What is to be said about listeners.

`Programmed` is true where nothing but the proxies' acknowledgement is missing; the status writer waits for that.

Source: Gateway API, `gateway_types.go`, `listenerset_types.go`, `gatewayclass_types.go` (conditions and reasons).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from portway.incremental import Context, query
from portway.model.condition import Condition, ListenerReport, Serving
from portway.model.listener import ClientValidation
from portway.objects.gateway_v1 import ListenerProtocol
from portway.objects.problems import did_you_mean
from portway.objects.references_v1 import GATEWAY_GROUP
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.translate.certificates import RENEW, certificate, expiry_problem
from portway.translate.gateway import findings
from portway.translate.gateway.certificates import listener_tls
from portway.translate.gateway.counts import ATTACHED
from portway.translate.gateway.findings import Problem
from portway.translate.gateway.gateways import (
    PortOf,
    gateway_plan,
    hosts_of,
    listener_plan,
    sockets_of,
)
from portway.translate.gateway.hosts import EVERY, covers, is_wildcard, wider
from portway.translate.gateway.listeners import Conflict, Family, ListenerKey, ListenerPlan
from portway.translate.gateway.tables import needs_certificate, table_of
from portway.translate.sockets import lost_to, unavailable

_OTHER_PORT: Final = "choose another port, or another address"


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
    return any(not unavailable(ctx, socket) for socket in ctx.get(sockets_of, plan.key))


def _unsound(plan: ListenerPlan) -> tuple[Problem, ...]:
    if plan.conflict is Conflict.HOSTNAME:
        host = "all hosts" if plan.hostname == EVERY else plan.hostname
        message = f"{plan.rival} is on port {plan.port} for {host} too; this one is not served"
        remedy = "give one of them another hostname or port"
        return (_not_accepted(plan, "hostname", plan.conflict.value, message, remedy),)
    if plan.conflict is Conflict.PROTOCOL:
        message = f"{plan.protocol} cannot share port {plan.port} with {plan.rival}; this one is not served"
        return (_not_accepted(plan, "protocol", plan.conflict.value, message, "give one of them another port"),)
    if plan.family is Family.UNKNOWN:
        names = tuple(ListenerProtocol)
        message = f'"{plan.protocol}" is none of {", ".join(names)}; the listener is not served'
        remedy = did_you_mean(plan.protocol, names, "write one of them")
        return (_not_accepted(plan, "protocol", "UnsupportedProtocol", message, remedy),)
    if plan.unsupported:
        message = f"{plan.unsupported} of listeners are not supported; the listener is not served"
        remedy = f"remove them; rules of routes can have {plan.unsupported}"
        return (_not_accepted(plan, plan.unsupported, "UnsupportedValue", message, remedy),)
    return ()


def _not_accepted(plan: ListenerPlan, field: str, reason: str, message: str, remedy: str) -> Problem:
    return Problem(
        condition=findings.ACCEPTED, reason=reason, field=f"{plan.field}.{field}", message=message, remedy=remedy
    )


@query("unusable addresses")
def unusable_addresses(ctx: Context, gateway: ObjectKey) -> Mapping[str, str]:
    """Addresses that `spec.addresses` asks for and that cannot be had on any of its ports, with the reason."""
    plan = ctx.get(gateway_plan, gateway)
    found: dict[str, str] = {}
    for address in () if plan is None else plan.head.requested:
        said = [
            unavailable(ctx, socket)
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
        if problem := unavailable(ctx, socket):
            message, _, remedy = problem.partition("; ")
            return (_not_accepted(plan, "port", "PortUnavailable", message, remedy or _OTHER_PORT),)
        taken = lost_to(ctx, socket, plan.gateway)
        if taken is not None:
            winner = "Ingress" if taken.kind == "Ingress" else str(taken)
            message = f"{socket} belongs to {winner}, which is older or comes first by name; this one is not served"
            return (_not_accepted(plan, "port", "PortUnavailable", message, _OTHER_PORT),)
    return ()


def _kinds(plan: ListenerPlan) -> Problem:
    return Problem(
        condition=findings.RESOLVED_REFS,
        reason="InvalidRouteKinds",
        field=f"{plan.field}.allowedRoutes.kinds",
        message=f"{', '.join(plan.foreign_kinds)} cannot be attached to a listener of protocol {plan.protocol}",
        remedy="remove them, or name them on a listener of their protocol",
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
        serving=None if blocked else serving(ctx, plan.key),
    )


def serving(ctx: Context, key: ListenerKey) -> Serving | None:
    """What proxies must hold before a listener serves; `None` if it cannot."""
    state = ctx.get(listener_state, key)
    if state is None or not state.programmed:
        return None
    tls = ctx.get(listener_tls, key)
    return Serving(
        sockets=ctx.get(sockets_of, key),
        secrets=(*tls.certificates, *(() if tls.authorities is None else (tls.authorities,))),
        table=ctx.get(table_of, key),
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


def expiries(ctx: Context, listeners: Iterable[ListenerPlan]) -> Iterator[Verdict]:
    """Certificates that have expired: shown all the same, since a connection with a warning beats none."""
    for listener in listeners:
        for key in ctx.get(listener_tls, listener.key).certificates:
            found = ctx.get(certificate, key.sources[0]).secret
            expired = "" if found is None else expiry_problem(found)
            if expired:
                yield Verdict(
                    object=listener.key.owner,
                    severity=Severity.WARNING,
                    reason="CertificateExpired",
                    field=f"{listener.field}.tls.certificateRefs",
                    problem=f"{key.sources[0]} {expired}",
                    remedy=RENEW,
                )
