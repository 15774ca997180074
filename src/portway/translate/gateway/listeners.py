"""Listeners of one Gateway and its ListenerSets: what each is, and which of them clash.

A *plan* says all that the declared listeners say about themselves; what other objects decide (certificates, ports that
somebody else has, attached routes) is left to the queries that read it, so that a route's attachment depends on
nothing but this.

Source: Gateway API, `GatewaySpec.listeners` ("Distinct Listeners"), `ListenerSet`, GEP-1713.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from portway.model.names import Transport
from portway.objects.gateway_v1 import Listener, ListenerProtocol, RouteNamespaces, TLSMode
from portway.objects.references_v1 import GATEWAY_GROUP
from portway.objects.verdict import ObjectKey
from portway.translate.gateway.hosts import EVERY


class ListenerKey(NamedTuple):
    """A listener of a Gateway, or an entry of a ListenerSet."""

    owner: ObjectKey
    name: str

    def __str__(self) -> str:
        return f"listener {self.name} of {self.owner}"


class Conflict(StrEnum):
    """Why a listener is not distinct; the specification's reasons."""

    NONE = ""
    HOSTNAME = "HostnameConflict"
    PROTOCOL = "ProtocolConflict"


class Family(StrEnum):
    """Listeners of one family can share a port if their hosts differ; those of two cannot share one at all."""

    PLAIN = "plain"
    TLS = "tls"
    TCP = "tcp"
    UDP = "udp"
    UNKNOWN = "unknown"


_FAMILIES: Final[Mapping[str, Family]] = {
    ListenerProtocol.HTTP: Family.PLAIN,
    ListenerProtocol.HTTPS: Family.TLS,
    ListenerProtocol.TLS: Family.TLS,
    ListenerProtocol.TCP: Family.TCP,
    ListenerProtocol.UDP: Family.UDP,
}

_HTTP_KINDS: Final = ("HTTPRoute", "GRPCRoute")


class ListenerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One listener as far as its Gateway and ListenerSet decide."""

    key: ListenerKey
    gateway: ObjectKey
    index: int
    """Position in the owner's `spec.listeners`."""
    port: int
    protocol: str
    family: Family
    hostname: str
    """`*` for all."""
    passthrough: bool
    """TLS that is not terminated."""
    kinds: tuple[str, ...]
    """Kinds of routes that may be attached; empty: none."""
    foreign_kinds: tuple[str, ...]
    """What `allowedRoutes.kinds` names and the protocol cannot carry."""
    namespaces: RouteNamespaces
    unsupported: str = ""
    """A field of the listener that Portway does not know how to honour and that must not be skipped; empty: none."""
    conflict: Conflict = Conflict.NONE
    rival: str = ""
    """The listener that it clashes with, for the message."""

    @property
    def transport(self) -> Transport:
        return Transport.UDP if self.family is Family.UDP else Transport.TCP

    @property
    def is_http(self) -> bool:
        """Whether its requests are looked up in a route table."""
        return self.protocol in (ListenerProtocol.HTTP, ListenerProtocol.HTTPS)

    @property
    def is_sound(self) -> bool:
        """Distinct, of a protocol that Portway speaks, and without anything that would have to be skipped."""
        return self.conflict is Conflict.NONE and self.family is not Family.UNKNOWN and not self.unsupported

    @property
    def field(self) -> str:
        return f"spec.listeners[{self.index}]"


def supported_kinds(listener: Listener) -> tuple[str, ...]:
    """The route kinds that a listener's protocol can carry; empty for an unknown protocol."""
    match listener.protocol:
        case ListenerProtocol.HTTP | ListenerProtocol.HTTPS:
            return _HTTP_KINDS
        case ListenerProtocol.TLS:
            return ("TLSRoute",) if is_passthrough(listener) else ("TLSRoute", "TCPRoute")
        case ListenerProtocol.TCP:
            return ("TCPRoute",)
        case ListenerProtocol.UDP:
            return ("UDPRoute",)
        case _:
            return ()


def is_passthrough(listener: Listener) -> bool:
    return listener.tls is not None and listener.tls.mode is TLSMode.PASSTHROUGH


def plan_of(gateway: ObjectKey, owner: ObjectKey, index: int, listener: Listener) -> ListenerPlan:
    """What one listener says about itself; conflicts are judged by `without_conflicts`."""
    supported = supported_kinds(listener)
    wanted = listener.allowed_routes.kinds
    known = dict.fromkeys(kind.kind for kind in wanted if kind.group == GATEWAY_GROUP and kind.kind in supported)
    return ListenerPlan(
        key=ListenerKey(owner, listener.name),
        gateway=gateway,
        index=index,
        port=listener.port,
        protocol=listener.protocol,
        family=_FAMILIES.get(listener.protocol, Family.UNKNOWN),
        hostname=listener.hostname or EVERY,
        passthrough=is_passthrough(listener),
        kinds=tuple(known) if wanted else supported,
        foreign_kinds=tuple(
            f"{kind.group}/{kind.kind}" if kind.group != GATEWAY_GROUP else kind.kind
            for kind in wanted
            if kind.group != GATEWAY_GROUP or kind.kind not in supported
        ),
        namespaces=listener.allowed_routes.namespaces,
        # A filter that cannot be applied must not be skipped: it may be what keeps strangers out.
        unsupported="filters" if listener.filters is not None and listener.filters.requests else "",
    )


class _Port:
    """The listeners that are taken on one port."""

    __slots__ = ("families", "hosts")

    def __init__(self) -> None:
        self.families: dict[Family, list[ListenerPlan]] = {}
        self.hosts: dict[tuple[str, str], list[ListenerPlan]] = {}

    def add(self, plan: ListenerPlan) -> None:
        self.families.setdefault(plan.family, []).append(plan)
        self.hosts.setdefault(_place(plan), []).append(plan)

    def clash(self, plan: ListenerPlan) -> tuple[Conflict, ListenerPlan] | None:
        """The first listener that `plan` cannot stand beside. Datagrams and unknown protocols disturb nobody else."""
        if plan.family not in (Family.UDP, Family.UNKNOWN):
            for family in (Family.PLAIN, Family.TLS, Family.TCP):
                others = [] if family is plan.family is not Family.TCP else self.families.get(family, [])
                for other in others:
                    if other.key != plan.key:
                        return Conflict.PROTOCOL, other
        for other in self.hosts.get(_place(plan), []):
            if other.key != plan.key:
                shared = plan.family in (Family.UDP, Family.TCP)
                return Conflict.PROTOCOL if shared else Conflict.HOSTNAME, other
        return None


def _place(plan: ListenerPlan) -> tuple[str, str]:
    """What only one listener of a port can have."""
    if plan.family in (Family.TCP, Family.UDP):
        return (plan.family, "")
    return (plan.protocol if plan.family is Family.UNKNOWN else plan.family, plan.hostname)


def without_conflicts(owners: Iterable[Sequence[ListenerPlan]]) -> list[tuple[ListenerPlan, ...]]:
    """Judge which listeners are distinct.

    An owner's listener that clashes with one that an earlier owner has is out; of those that are left, all that clash
    with one another are out.

    Args:
        owners: the Gateway's listeners, then those of each ListenerSet, in the order of their rank.

    Returns:
        The same plans in the same order, with their conflicts.
    """
    taken: dict[int, _Port] = {}
    judged: list[tuple[ListenerPlan, ...]] = []
    for plans in owners:
        clashes: dict[ListenerKey, tuple[Conflict, ListenerPlan]] = {}
        siblings: dict[int, _Port] = {}
        for plan in plans:
            clash = taken.setdefault(plan.port, _Port()).clash(plan)
            if clash is None:
                siblings.setdefault(plan.port, _Port()).add(plan)
            else:
                clashes[plan.key] = clash
        for plan in plans:
            if plan.key not in clashes and (clash := siblings[plan.port].clash(plan)) is not None:
                clashes[plan.key] = clash
        for plan in plans:
            if plan.key not in clashes:
                taken[plan.port].add(plan)
        judged.append(tuple(_with_conflict(plan, clashes.get(plan.key)) for plan in plans))
    return judged


def _with_conflict(plan: ListenerPlan, clash: tuple[Conflict, ListenerPlan] | None) -> ListenerPlan:
    if clash is None:
        return plan
    conflict, rival = clash
    return msgspec.structs.replace(plan, conflict=conflict, rival=str(rival.key))
