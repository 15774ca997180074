"""Gateways and ListenerSets: whose they are, what they listen on, which of their listeners are distinct.

`GATEWAY` reads a Gateway, its class and its ListenerSets, nothing that changes often; what depends on one listener
reads the small queries below it, so that an edit elsewhere in the Gateway is cut off there.
"""

from collections.abc import Hashable, Iterable, Mapping
from ipaddress import ip_address
from typing import Final, NamedTuple, cast

import msgspec

from portway.incremental import Context, query
from portway.model.edge import Edge
from portway.model.fleet import gateway_fleet
from portway.model.handles import EDGE, INFRASTRUCTURE
from portway.model.names import SocketKey
from portway.objects.core_v1 import Namespace
from portway.objects.gateway_v1 import Gateway, GatewayClass, GatewaySpecAddress, ListenerSet, ListenerSetFrom
from portway.objects.meta import LabelSelector, Object
from portway.objects.references_v1 import GATEWAY_GROUP
from portway.objects.verdict import ObjectKey
from portway.store import Index, read_object
from portway.translate.gateway import findings
from portway.translate.gateway.findings import Problem
from portway.translate.gateway.hosts import wider
from portway.translate.gateway.listeners import Family, ListenerKey, ListenerPlan, plan_of, without_conflicts
from portway.translate.parameters import Parameters, gateway_parameters, own_parameters
from portway.translate.sockets import Age, age_of, bind_addresses


def _parent_gateway(found: Object) -> Iterable[Hashable]:
    parent = parent_of(cast("ListenerSet", found))
    return () if parent is None else (parent,)


LISTENER_SETS = Index("ListenerSets by Gateway", "ListenerSet", _parent_gateway)

NAME_LABEL: Final = "kubernetes.io/metadata.name"


def parent_of(found: ListenerSet) -> ObjectKey | None:
    """The Gateway that a ListenerSet adds to; `None` if it names something else."""
    parent = found.spec.parent_ref
    if (parent.group, parent.kind) != (GATEWAY_GROUP, "Gateway"):
        return None
    return ObjectKey("Gateway", parent.namespace or found.metadata.namespace, parent.name)


@query("class is ours")
def is_ours(ctx: Context, class_name: str) -> bool:
    """Whether Gateways of a class are Portway's to serve."""
    edge = ctx.read(EDGE, None)
    if edge.all_classes:
        return True
    found = read_object(ctx, GatewayClass, "", class_name)
    return found is not None and found.spec.controller_name == edge.gateway_controller


@query("labels of a namespace")
def labels_of(ctx: Context, namespace: str) -> Mapping[str, str]:
    """Labels of a namespace; one that is not declared has that of its name (files declare few)."""
    found = read_object(ctx, Namespace, "", namespace)
    return {NAME_LABEL: namespace} if found is None else {NAME_LABEL: namespace, **found.metadata.labels}


def selects(ctx: Context, selector: LabelSelector | None, namespace: str) -> bool:
    """Whether a selector takes a namespace. A missing one selects nothing."""
    return selector is not None and selector.matches(ctx.get(labels_of, namespace))


class GatewayHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a Gateway says about all its listeners."""

    key: ObjectKey
    age: Age
    fleet: str
    addresses: tuple[str, ...]
    """IP addresses to listen on."""
    requested: tuple[str, ...]
    """Those of them that `spec.addresses` names."""
    problems: tuple[Problem, ...]
    """What keeps the whole Gateway from being accepted."""
    own_fleet: bool = False
    """Its proxies serve nothing else. They go on serving whatever keeps the Gateway from being accepted, which is all
    about the infrastructure."""

    def sockets(self, listener: ListenerPlan) -> tuple[SocketKey, ...]:
        """Where a listener listens; on a fleet for all nowhere while its Gateway is not accepted."""
        if (self.problems and not self.own_fleet) or not listener.is_sound:
            return ()
        return tuple(SocketKey(self.fleet, address, listener.port, listener.transport) for address in self.addresses)


class GatewayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A Gateway of ours with its ListenerSets. Changes with each of them: who asks about one, asks the queries
    below."""

    key: ObjectKey
    head: GatewayHead
    listeners: Mapping[ObjectKey, tuple[ListenerPlan, ...]]
    """By owner: the Gateway, then its admitted ListenerSets in the order of their rank."""

    @property
    def listener_sets(self) -> tuple[ObjectKey, ...]:
        return tuple(owner for owner in self.listeners if owner != self.key)


@query("gateway head")
def gateway_head(ctx: Context, key: ObjectKey) -> GatewayHead | None:
    """What a Gateway says about all its listeners; `None` if there is none or it is somebody else's."""
    gateway = read_object(ctx, Gateway, key.namespace, key.name)
    if gateway is None or not ctx.get(is_ours, gateway.spec.gateway_class_name):
        return None
    if not ctx.read(INFRASTRUCTURE, None).is_host:
        return GatewayHead(
            key=key,
            age=age_of(gateway.metadata),
            fleet=gateway_fleet(key),
            addresses=bind_addresses(ctx),
            requested=(),
            problems=(
                *_bad_parameters(ctx.get(gateway_parameters, key), _STAYS),
                *_unknown_addresses(gateway.spec.addresses),
            ),
            own_fleet=True,
        )
    edge = ctx.read(EDGE, None)
    addresses, problems = _addresses(gateway.spec.addresses, edge)
    named = frozenset(canonical_address(address.value) for address in gateway.spec.addresses if address.value)
    return GatewayHead(
        key=key,
        age=age_of(gateway.metadata),
        fleet=edge.fleet,
        addresses=addresses,
        requested=tuple(address for address in addresses if address in named),
        problems=(*_bad_parameters(own_parameters(ctx, gateway), "the Gateway is not served"), *problems),
    )


@query("gateway plan")
def gateway_plan(ctx: Context, key: ObjectKey) -> GatewayPlan | None:
    """The plan of a Gateway; `None` if there is none or it is somebody else's."""
    head = ctx.get(gateway_head, key)
    gateway = read_object(ctx, Gateway, key.namespace, key.name)
    if head is None or gateway is None:
        return None
    sets = _admitted_sets(ctx, key, gateway)
    owners = [
        tuple(plan_of(key, key, index, listener) for index, listener in enumerate(gateway.spec.listeners)),
        *(
            tuple(
                plan_of(key, ObjectKey("ListenerSet", found.metadata.namespace, found.metadata.name), index, listener)
                for index, listener in enumerate(found.spec.listeners)
            )
            for found in sets
        ),
    ]
    return GatewayPlan(key=key, head=head, listeners={plans[0].key.owner: plans for plans in without_conflicts(owners)})


def _admitted_sets(ctx: Context, key: ObjectKey, gateway: Gateway) -> list[ListenerSet]:
    """The ListenerSets that the Gateway admits, the oldest first."""
    found = (
        read_object(ctx, ListenerSet, child.namespace, child.name)
        for child in LISTENER_SETS.read(ctx, key)
        if admits(ctx, gateway, child.namespace)
    )
    return sorted((each for each in found if each is not None), key=lambda each: age_of(each.metadata))


def admits(ctx: Context, gateway: Gateway, namespace: str) -> bool:
    """Whether a Gateway takes ListenerSets of a namespace. Source: `AllowedListeners`; by default none."""
    if gateway.spec.allowed_listeners is None:
        return False
    namespaces = gateway.spec.allowed_listeners.namespaces
    match namespaces.from_:
        case ListenerSetFrom.ALL:
            return True
        case ListenerSetFrom.SAME:
            return namespace == gateway.metadata.namespace
        case ListenerSetFrom.SELECTOR:
            return selects(ctx, namespaces.selector, namespace)
        case ListenerSetFrom.NONE:
            return False


def _addresses(wanted: Iterable[GatewaySpecAddress], edge: Edge) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    """What to listen on, and what of `spec.addresses` cannot be."""
    addresses: dict[str, None] = {}
    problems: list[Problem] = []
    for index, address in enumerate(wanted):
        place = f"spec.addresses[{index}]"
        if address.type != "IPAddress":
            problems.append(_bad_address(f"{place}.type", f'address type "{address.type}" is not supported'))
        elif not address.value:
            addresses.update(dict.fromkeys(edge.bind_addresses))
        elif (canonical := canonical_address(address.value)) is None:
            problems.append(_bad_address(f"{place}.value", f'"{address.value}" is not an IP address'))
        else:
            addresses[canonical] = None
    if not addresses and not problems:
        return edge.bind_addresses, ()
    return tuple(addresses), tuple(problems)


ADDRESS_TYPES: Final = ("IPAddress", "Hostname")
"""What a Service can have."""
_STAYS: Final = "the Gateway's proxies stay as they are"


def _unknown_addresses(wanted: Iterable[GatewaySpecAddress]) -> tuple[Problem, ...]:
    """What of `spec.addresses` no Service can have. Source: GEP-1762; whether the others can be had is seen later."""
    return tuple(
        Problem(
            condition=findings.ACCEPTED,
            reason="UnsupportedAddress",
            field=f"spec.addresses[{index}].type",
            message=f'address type "{address.type}" is not supported; {_STAYS}',
            remedy=f"write {' or '.join(ADDRESS_TYPES)}, or leave spec.addresses out",
        )
        for index, address in enumerate(wanted)
        if address.type not in ADDRESS_TYPES
    )


def _bad_parameters(found: Parameters, meanwhile: str) -> tuple[Problem, ...]:
    if not found.problem:
        return ()
    return (
        Problem(
            condition=findings.ACCEPTED,
            reason="InvalidParameters",
            field=found.field,
            message=f"{found.problem}; {meanwhile}",
            remedy=found.remedy,
        ),
    )


def _bad_address(field: str, message: str) -> Problem:
    return Problem(
        condition=findings.ACCEPTED,
        reason="UnsupportedAddress",
        field=field,
        message=f"{message}; the Gateway is not served",
        remedy="write an IPAddress of this machine, or leave spec.addresses out",
    )


def canonical_address(text: str) -> str | None:
    try:
        return str(ip_address(text))
    except ValueError:
        return None


# What others read of a plan, each small enough to be cut off by.


@query("gateway of a parent")
def gateway_of(ctx: Context, owner: ObjectKey) -> ObjectKey | None:
    """The Gateway of ours that an owner of listeners belongs to; `None` also for a ListenerSet that is not admitted."""
    if owner.kind == "Gateway":
        return owner if ctx.get(gateway_head, owner) is not None else None
    found = read_object(ctx, ListenerSet, owner.namespace, owner.name)
    gateway = None if found is None else parent_of(found)
    plan = None if gateway is None else ctx.get(gateway_plan, gateway)
    return gateway if plan is not None and owner in plan.listeners else None


@query("listeners of an owner")
def listeners_of(ctx: Context, owner: ObjectKey) -> tuple[ListenerPlan, ...]:
    """The listeners of a Gateway or an admitted ListenerSet of ours, as declared; empty if it is neither."""
    gateway = ctx.get(gateway_of, owner)
    plan = None if gateway is None else ctx.get(gateway_plan, gateway)
    return () if plan is None else plan.listeners[owner]


@query("listener plan")
def listener_plan(ctx: Context, key: ListenerKey) -> ListenerPlan | None:
    return next((plan for plan in ctx.get(listeners_of, key.owner) if plan.key == key), None)


@query("sockets of a listener")
def sockets_of(ctx: Context, key: ListenerKey) -> tuple[SocketKey, ...]:
    listener = ctx.get(listener_plan, key)
    head = None if listener is None else ctx.get(gateway_head, listener.gateway)
    return () if listener is None or head is None else head.sockets(listener)


class PortOf(NamedTuple):
    """A TCP port of a Gateway."""

    gateway: ObjectKey
    port: int


@query("hosts of a port")
def hosts_of(ctx: Context, key: PortOf) -> Mapping[str, ListenerKey]:
    """Which sound HTTP, HTTPS or TLS listener of a port has which host name."""
    plan = ctx.get(gateway_plan, key.gateway)
    return (
        {}
        if plan is None
        else {
            listener.hostname: listener.key
            for listeners in plan.listeners.values()
            for listener in listeners
            if listener.port == key.port and listener.is_sound and listener.family in (Family.PLAIN, Family.TLS)
        }
    )


class HostOf(NamedTuple):
    """A host, exact or wildcard, on a port of a Gateway."""

    gateway: ObjectKey
    port: int
    host: str


@query("listener of a host")
def listener_of(ctx: Context, key: HostOf) -> ListenerKey | None:
    """The most specific listener of the port that has all of the host: the only one whose routes may serve it."""
    hosts = ctx.get(hosts_of, PortOf(key.gateway, key.port))
    for pattern in (key.host, *wider(key.host)):
        if pattern in hosts:
            return hosts[pattern]
    return None
