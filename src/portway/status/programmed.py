"""`Programmed`: what the compiler promised, held against what proxies acknowledged.

A report says `Programmed=True` where nothing but the proxies is missing. Each part of an object (a listener, a parent)
needs resources of some fleets; how many proxies hold them (`tally.py`) becomes its condition here: what is not
acknowledged yet, or held back until its backends are ready, is `Pending`; what a proxy refuses is `Invalid`, although
its last good version may go on serving. Pure: a report and tallies give a report.

Routes have no such condition in Gateway API, so theirs carries our domain (`portway.dev/Programmed`), towards each
parent; that of an Ingress, whose API knows no conditions, is about the object.

Source: Gateway API, `GatewayConditionProgrammed`, `ListenerConditionProgrammed` (types and reasons).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from portway.envoy.names import listener_name, secret_key
from portway.model.condition import Condition, ListenerReport, ObjectReport, ParentReport, Serving
from portway.model.names import SocketKey
from portway.model.resource import ResourceKey, ResourceType
from portway.objects.verdict import ObjectKey
from portway.status.tally import AWAITED, Need, Tally, Wanted, condition_of, take_tally
from portway.xds.fleet import FleetState
from portway.xds.snapshot import route_configuration_of

PROGRAMMED: Final = "Programmed"
ROUTE_PROGRAMMED: Final = "portway.dev/Programmed"
"""Of routes and Ingresses."""

Hosts = Mapping[ObjectKey, tuple[Wanted, ...]]
"""The virtual hosts to which each object contributes."""

Part = str
"""Something in an object that is programmed by itself: `listener/NAME`, `parent/POSITION`, `serving/POSITION`, or
`object` for an Ingress."""


def hosts_by_origin(fleets: Mapping[str, FleetState]) -> Hosts:
    """The wanted virtual hosts of all fleets by the objects behind them. O(all)."""
    found: dict[ObjectKey, list[Wanted]] = {}
    for fleet, state in fleets.items():
        for resource in state.snapshot.of_type(ResourceType.VIRTUAL_HOST).values():
            for origin in resource.origins:
                found.setdefault(origin, []).append(Wanted(fleet, resource.key))
    return {origin: tuple(wanted) for origin, wanted in found.items()}


def as_programmed(report: ObjectReport, fleets: Mapping[str, FleetState], hosts: Hosts) -> ObjectReport:
    """The report with `Programmed` as the proxies of these fleets have it. O(what the object needs * proxies).

    Args:
        report: as the compiler made it.
        fleets: by name.
        hosts: of these fleets (`hosts_by_origin`).
    """
    needs = needs_of(report, hosts.get(report.object, ()))
    return with_programmed(report, {part: take_tally(need, fleets) for part, need in needs.items()}, fleets)


def needs_of(report: ObjectReport, hosts: Iterable[Wanted]) -> dict[Part, Need]:
    """What each part of an object needs; parts that need nothing are left out, as nobody could acknowledge it.

    Args:
        hosts: the virtual hosts to which the object contributes.
    """
    own = tuple(hosts)
    sockets = tuple(_of_socket(socket) for serving in report.serving for socket in serving.sockets)
    if report.object.kind == "Ingress":
        return {"object": Need(own, sockets)} if own else {}
    needs = {f"serving/{number}": Need(_needed(serving)) for number, serving in enumerate(report.serving)}
    for listener in report.listeners:
        if listener.serving is not None:
            needs[f"listener/{listener.name}"] = Need(_needed(listener.serving))
    for number, parent in enumerate(report.parents):
        needs[f"parent/{number}"] = _of_parent(parent, own)
    return {part: need for part, need in needs.items() if need.wanted}


def with_route(need: Need, route: Wanted | None) -> Need:
    """The need of a `serving` part, as long as a virtual host of its table is awaited that it came with."""
    return need if route is None else Need((*need.wanted, route), need.because)


def used_by(report: ObjectReport) -> Iterator[Wanted]:
    """The sockets and secrets that matter to an object, its hosts aside."""
    for serving in report.serving:
        yield from _needed(serving)
    for listener in report.listeners:
        if listener.serving is not None:
            yield from _needed(listener.serving)
    for parent in report.parents:
        yield from map(_of_socket, parent.sockets)


def _of_parent(parent: ParentReport, hosts: tuple[Wanted, ...]) -> Need:
    listeners = tuple(map(_of_socket, parent.sockets))
    if not parent.tables:
        return Need(listeners)
    tables = {(table.fleet, table.name) for table in parent.tables}
    needed = tuple(host for host in hosts if (host.fleet, route_configuration_of(host.key.name)) in tables)
    return Need(needed, listeners)


def _needed(serving: Serving) -> tuple[Wanted, ...]:
    fleets = dict.fromkeys(socket.fleet for socket in serving.sockets)
    secrets = (Wanted(fleet, secret_key(secret)) for fleet in fleets for secret in serving.secrets)
    return (*map(_of_socket, serving.sockets), *secrets)


def _of_socket(socket: SocketKey) -> Wanted:
    return Wanted(socket.fleet, ResourceKey(ResourceType.LISTENER, listener_name(socket)))


# Conditions.


def with_programmed(
    report: ObjectReport, tallies: Mapping[Part, Tally], fleets: Mapping[str, FleetState], *, terse: bool = False
) -> ObjectReport:
    """The report with `Programmed` as the tallies have it.

    Args:
        report: as the compiler made it.
        tallies: of the parts that `needs_of` names.
        fleets: asked whether an Ingress's sockets are wanted at all.
        terse: see `condition_of`.
    """

    def judged(part: Part, kind: str) -> Condition | None:
        tally = tallies.get(part)
        return None if tally is None else condition_of(kind, tally, terse=terse)

    serving = [judged(f"serving/{number}", PROGRAMMED) for number in range(len(report.serving))]
    conditions = tuple(_promised(condition, _all_said(serving)) for condition in report.conditions)
    own = judged("object", ROUTE_PROGRAMMED)
    if own is not None:
        conditions = (*conditions, _closed(report, fleets) or own)
    return msgspec.structs.replace(
        report,
        conditions=conditions,
        listeners=tuple(_listener(each, judged(f"listener/{each.name}", PROGRAMMED)) for each in report.listeners),
        parents=tuple(
            _parent(each, judged(f"parent/{number}", ROUTE_PROGRAMMED)) for number, each in enumerate(report.parents)
        ),
    )


def unconfirmed(report: ObjectReport) -> ObjectReport:
    """The report as long as others may have proxies that we have not heard of."""

    def each(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
        return tuple(
            msgspec.structs.replace(one, status=False, reason="Pending", message=AWAITED, provisional=True)
            if one.status and one.type in (PROGRAMMED, ROUTE_PROGRAMMED)
            else one
            for one in conditions
        )

    return msgspec.structs.replace(
        report,
        conditions=each(report.conditions),
        listeners=tuple(msgspec.structs.replace(one, conditions=each(one.conditions)) for one in report.listeners),
        parents=tuple(msgspec.structs.replace(one, conditions=each(one.conditions)) for one in report.parents),
    )


def _promised(condition: Condition, judged: Condition | None) -> Condition:
    """A promise becomes what the proxies say; what could not be served anyway stays as it was said."""
    if judged is None or judged.status or condition.type != PROGRAMMED or not condition.status:
        return condition
    return judged


def _all_said(listeners: Iterable[Condition | None]) -> Condition | None:
    """While one is waited for, all are. Of those that proxies have said something about, one that serves is enough."""
    found = [condition for condition in listeners if condition is not None]
    return min(found, key=lambda condition: (condition.reason != "Pending", not condition.status), default=None)


def _listener(report: ListenerReport, judged: Condition | None) -> ListenerReport:
    if judged is None:
        return report
    return msgspec.structs.replace(
        report, conditions=tuple(_promised(condition, judged) for condition in report.conditions)
    )


def _parent(report: ParentReport, judged: Condition | None) -> ParentReport:
    return report if judged is None else msgspec.structs.replace(report, conditions=(*report.conditions, judged))


def _closed(report: ObjectReport, fleets: Mapping[str, FleetState]) -> Condition | None:
    """An Ingress needs its hosts, and every socket of Ingress: a proxy may hold hosts that nothing leads to."""
    sockets = [socket for serving in report.serving for socket in serving.sockets]
    closed = [socket for socket in sockets if _is_closed(socket, fleets)]
    if not closed:
        return None
    message = f"nothing listens on {', '.join(map(str, closed))}"
    return Condition(type=ROUTE_PROGRAMMED, status=False, reason="PortUnavailable", message=message)


def _is_closed(socket: SocketKey, fleets: Mapping[str, FleetState]) -> bool:
    wanted = _of_socket(socket)
    state = fleets.get(wanted.fleet)
    return state is not None and state.snapshot.get(*wanted.key) is None
