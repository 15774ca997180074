"""`Programmed`: what the compiler promised, held against what proxies acknowledged.

A report says `Programmed=True` where nothing but the proxies is missing. Here the fleets are asked: what is not
acknowledged yet, or held back until its backends are ready, is `Pending`; what a proxy refuses is `Invalid`, although
its last good version may go on serving. Pure: a report and the fleets as they are now give a report.

Routes have no such condition in Gateway API, so theirs carries our domain (`portway.dev/Programmed`), towards each
parent; that of an Ingress, whose API knows no conditions, is about the object.

A status writer asks again about the objects behind what `FleetState.take_stirred` names, and about those whose report
changed.

Source: Gateway API, `GatewayConditionProgrammed`, `ListenerConditionProgrammed` (types and reasons).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from portway.envoy.names import listener_name, secret_key
from portway.model.condition import Condition, ListenerReport, ObjectReport, ParentReport, Serving
from portway.model.names import SocketKey
from portway.model.resource import ResourceKey, ResourceType
from portway.objects.verdict import ObjectKey
from portway.xds.fleet import FleetState
from portway.xds.snapshot import route_configuration_of

PROGRAMMED: Final = "Programmed"
ROUTE_PROGRAMMED: Final = "portway.dev/Programmed"
"""Of routes and Ingresses."""
NAMED: Final = 3
"""So many resources are named in a message; of a route with hundreds of hosts the rest is counted."""


class Wanted(NamedTuple):
    """A resource that a fleet shall hold."""

    fleet: str
    key: ResourceKey


Hosts = Mapping[ObjectKey, tuple[Wanted, ...]]
"""The virtual hosts to which each object contributes."""


def hosts_by_origin(fleets: Mapping[str, FleetState]) -> Hosts:
    """The wanted virtual hosts of all fleets by the objects behind them. O(all)."""
    found: dict[ObjectKey, list[Wanted]] = {}
    for fleet, state in fleets.items():
        for resource in state.snapshot.of_type(ResourceType.VIRTUAL_HOST).values():
            for origin in resource.origins:
                found.setdefault(origin, []).append(Wanted(fleet, resource.key))
    return {origin: tuple(wanted) for origin, wanted in found.items()}


def as_programmed(report: ObjectReport, fleets: Mapping[str, FleetState], hosts: Hosts) -> ObjectReport:
    """The report with `Programmed` as the proxies have it. O(what the object needs * proxies).

    Args:
        report: as the compiler made it.
        fleets: by name.
        hosts: of these fleets (`hosts_by_origin`).
    """
    own = hosts.get(report.object, ())
    return msgspec.structs.replace(
        report,
        conditions=tuple(_conditions(report, own, fleets)),
        listeners=tuple(_listener(listener, fleets) for listener in report.listeners),
        parents=tuple(_parent(parent, own, fleets) for parent in report.parents),
    )


def _conditions(
    report: ObjectReport, hosts: tuple[Wanted, ...], fleets: Mapping[str, FleetState]
) -> Iterator[Condition]:
    for condition in report.conditions:
        if condition.type == PROGRAMMED and condition.status and report.serving:
            yield _any_serves(condition, report.serving, fleets)
        else:
            yield condition
    if report.object.kind == "Ingress" and hosts:
        yield _ingress([socket for serving in report.serving for socket in serving.sockets], hosts, fleets)


def _ingress(sockets: Iterable[SocketKey], hosts: tuple[Wanted, ...], fleets: Mapping[str, FleetState]) -> Condition:
    """An Ingress needs its hosts, and every socket of Ingress: a proxy may hold hosts that nothing leads to."""
    closed = [socket for socket in sockets if _is_closed(socket, fleets)]
    if closed:
        message = f"nothing listens on {', '.join(map(str, closed))}"
        return Condition(type=ROUTE_PROGRAMMED, status=False, reason="PortUnavailable", message=message)
    return _judge(ROUTE_PROGRAMMED, hosts, fleets, because=tuple(map(_of_socket, sockets)))


def _is_closed(socket: SocketKey, fleets: Mapping[str, FleetState]) -> bool:
    wanted = _of_socket(socket)
    state = fleets.get(wanted.fleet)
    return state is not None and state.snapshot.get(*wanted.key) is None


def _any_serves(promised: Condition, listeners: tuple[Serving, ...], fleets: Mapping[str, FleetState]) -> Condition:
    """One listener that serves is enough; else what the first says, what is refused before what is waited for."""
    found = [_judge(promised.type, _needs(listener), fleets) for listener in listeners]
    if any(condition.status for condition in found):
        return promised
    return next((condition for condition in found if condition.reason == "Invalid"), found[0])


def _listener(report: ListenerReport, fleets: Mapping[str, FleetState]) -> ListenerReport:
    if report.serving is None:
        return report
    judged = _judge(PROGRAMMED, _needs(report.serving), fleets)
    conditions = tuple(
        judged if condition.type == PROGRAMMED and condition.status else condition for condition in report.conditions
    )
    return msgspec.structs.replace(report, conditions=conditions)


def _parent(report: ParentReport, hosts: tuple[Wanted, ...], fleets: Mapping[str, FleetState]) -> ParentReport:
    """Of a route that is attached and contributes something; others have nothing that could be acknowledged."""
    listeners = tuple(map(_of_socket, report.sockets))
    if report.tables:
        tables = {(table.fleet, table.name) for table in report.tables}
        needed = tuple(host for host in hosts if (host.fleet, route_configuration_of(host.key.name)) in tables)
    else:
        needed = listeners
    if not needed:
        return report
    condition = _judge(ROUTE_PROGRAMMED, needed, fleets, because=listeners)
    return msgspec.structs.replace(report, conditions=(*report.conditions, condition))


def _needs(serving: Serving) -> tuple[Wanted, ...]:
    fleets = dict.fromkeys(socket.fleet for socket in serving.sockets)
    secrets = (Wanted(fleet, secret_key(secret)) for fleet in fleets for secret in serving.secrets)
    return (*map(_of_socket, serving.sockets), *secrets)


def _of_socket(socket: SocketKey) -> Wanted:
    return Wanted(socket.fleet, ResourceKey(ResourceType.LISTENER, listener_name(socket)))


def _judge(
    kind: str, needed: Iterable[Wanted], fleets: Mapping[str, FleetState], because: Iterable[Wanted] = ()
) -> Condition:
    """Whether every proxy of every fleet has what is needed.

    Args:
        kind: type of the condition.
        needed: what that is.
        fleets: by name.
        because: what may be the reason if something is missing: a proxy that refuses a listener never asks for hosts.
    """
    refused: list[str] = []
    pending: list[str] = []
    for fleet, keys in _by_fleet(needed).items():
        state = fleets.get(fleet)
        progress = None if state is None else state.progress(keys)
        if state is None or progress is None or not progress.proxies:
            pending.append(f"no proxy of fleet {fleet} is connected")
        elif not progress.complete:
            refusals = progress.refusals or state.progress(_by_fleet(because).get(fleet, ())).refusals
            refused += [f"a proxy refuses {_name(one.key)}: {one.message}" for one in refusals]
            held_back = frozenset(progress.held_back)
            unsent = tuple(key for key in progress.waiting if key in held_back)
            if unsent:
                pending.append(f"held back until the backends are ready: {_names(unsent)}")
            else:
                pending.append(f"not acknowledged yet: {_names(progress.waiting)}")
    if refused:
        message = f"{'; '.join(refused)}; what it held of it before, if anything, is served"
        return Condition(type=kind, status=False, reason="Invalid", message=message)
    if pending:
        return Condition(type=kind, status=False, reason="Pending", message="; ".join(pending))
    return Condition(type=kind, status=True, reason="Programmed")


def _by_fleet(wanted: Iterable[Wanted]) -> dict[str, list[ResourceKey]]:
    found: dict[str, list[ResourceKey]] = {}
    for fleet, key in wanted:
        found.setdefault(fleet, []).append(key)
    return found


def _names(keys: tuple[ResourceKey, ...]) -> str:
    named = ", ".join(map(_name, keys[:NAMED]))
    return f"{named} and {len(keys) - NAMED:,} more" if len(keys) > NAMED else named


def _name(key: ResourceKey) -> str:
    return f"{key.type.name} {key.name}"
