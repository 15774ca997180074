"""Which listeners a route is attached to, and why not to others.

Reads the route, the listeners of its parents and, where a listener selects namespaces by label, the route's namespace;
nothing about backends, certificates or other routes.

Source: Gateway API, `CommonRouteSpec.parentRefs`, `AllowedRoutes`, `HTTPRouteSpec.hostnames`.
"""

from collections.abc import Sequence
from typing import Final, Protocol, cast

import msgspec

from portway.incremental import Context, query
from portway.model.names import Transport
from portway.objects.gateway_v1 import RouteFrom
from portway.objects.meta import Meta
from portway.objects.problems import listed, nearest
from portway.objects.references_v1 import GATEWAY_GROUP, ParentReference
from portway.objects.verdict import ObjectKey
from portway.store import OBJECT
from portway.translate.gateway.gateways import HostOf, gateway_of, listener_of, listener_plan, listeners_of, selects
from portway.translate.gateway.hosts import EVERY, intersection, specificity
from portway.translate.gateway.listeners import ListenerKey, ListenerPlan
from portway.translate.sockets import Age, age_of

ROUTE_KINDS: Final = ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute")


class RouteSpec(Protocol):
    """What the specs of all route kinds have in common."""

    @property
    def parent_refs(self) -> tuple[ParentReference, ...]: ...


class RouteObject(Protocol):
    """Any route."""

    @property
    def metadata(self) -> Meta: ...
    @property
    def spec(self) -> RouteSpec: ...


class AttachedHost(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A host that a route serves at a listener."""

    host: str
    """What the route's and the listener's host names have in common."""
    original: str
    """The route's own host name behind it, the most specific if there are several: it decides precedence."""


class AttachedListener(msgspec.Struct, frozen=True, kw_only=True):
    key: ListenerKey
    port: int
    hosts: tuple[AttachedHost, ...]


class ParentAttachment(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one parentRef that names something of ours."""

    index: int
    parent: ObjectKey
    section: str
    port: int
    gateway: ObjectKey
    listeners: tuple[AttachedListener, ...]
    """Where the route is attached; empty: nowhere, see `reason`."""
    reason: str
    """`Accepted`, or the specification's reason for not."""
    message: str
    remedy: str
    """What the owner of the route can do; empty where nothing need be done."""


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """Where a route is attached."""

    age: Age
    parents: tuple[ParentAttachment, ...]
    """In the order of `spec.parentRefs`; those of others are left out."""

    def listeners(self) -> dict[ListenerKey, AttachedListener]:
        """The listeners that the route is attached to, each once."""
        return {listener.key: listener for parent in self.parents for listener in parent.listeners}


def route_of(ctx: Context, key: ObjectKey) -> RouteObject | None:
    return cast("RouteObject | None", ctx.read(OBJECT, key))


def hostnames_of(route: RouteObject) -> tuple[str, ...]:
    """The route's host names; `*` where it names none or its kind has none."""
    return cast("tuple[str, ...]", getattr(route.spec, "hostnames", ())) or (EVERY,)


def parent_key(route: RouteObject, reference: ParentReference) -> ObjectKey | None:
    """The Gateway or ListenerSet that a parentRef names; `None` for other kinds."""
    if reference.group != GATEWAY_GROUP or reference.kind not in ("Gateway", "ListenerSet"):
        return None
    return ObjectKey(reference.kind, reference.namespace or route.metadata.namespace, reference.name)


@query("attachment of a route")
def attachment_of(ctx: Context, key: ObjectKey) -> Attachment | None:
    """Where a route of any kind is attached; `None` if it is gone."""
    route = route_of(ctx, key)
    if route is None:
        return None
    parents: list[ParentAttachment] = []
    for index, reference in enumerate(route.spec.parent_refs):
        parent = parent_key(route, reference)
        gateway = None if parent is None else ctx.get(gateway_of, parent)
        if parent is not None and gateway is not None:
            parents.append(_attach(ctx, key, route, index, parent, gateway))
    return Attachment(age=age_of(route.metadata), parents=tuple(parents))


def _attach(
    ctx: Context, key: ObjectKey, route: RouteObject, index: int, parent: ObjectKey, gateway: ObjectKey
) -> ParentAttachment:
    reference = route.spec.parent_refs[index]
    named = [listener for listener in _named(ctx, parent, reference) if reference.port in (None, listener.port)]
    right_kind = [listener for listener in named if key.kind in listener.kinds]
    allowed = [listener for listener in right_kind if _admits(ctx, listener, key.namespace)]
    attached = [found for listener in allowed if (found := _hosts(ctx, route, listener)) is not None]
    reason, message, remedy = _judgement(key, reference, parent, named, right_kind, allowed, attached)
    if not named:
        remedy = _listeners_there_are(ctx, parent, reference)
    return ParentAttachment(
        index=index,
        parent=parent,
        section=reference.section_name or "",
        port=reference.port or 0,
        gateway=gateway,
        listeners=tuple(attached),
        reason=reason,
        message=message,
        remedy=remedy,
    )


def _named(ctx: Context, parent: ObjectKey, reference: ParentReference) -> Sequence[ListenerPlan]:
    """The listeners that a parentRef can mean; who names one is not woken by its siblings."""
    if reference.section_name is None:
        return ctx.get(listeners_of, parent)
    listener = ctx.get(listener_plan, ListenerKey(parent, reference.section_name))
    return () if listener is None else (listener,)


def _listeners_there_are(ctx: Context, parent: ObjectKey, reference: ParentReference) -> str:
    """Which listeners a parentRef could name. Asked only where it names none, so that routes in order depend on
    nothing but their own listener."""
    listeners = ctx.get(listeners_of, parent)
    names = [listener.key.name for listener in listeners]
    if (
        reference.section_name
        and reference.section_name not in names
        and (near := nearest(reference.section_name, names))
    ):
        return f"did you mean {near}?"
    offered = listed([f"{listener.key.name} (port {listener.port})" for listener in listeners[:MAX_NAMED]])
    return f"name {offered}" if offered else f"add a listener to {parent}"


MAX_NAMED: Final = 5
"""Listeners that a message names."""


def _admits(ctx: Context, listener: ListenerPlan, namespace: str) -> bool:
    match listener.namespaces.from_:
        case RouteFrom.ALL:
            return True
        case RouteFrom.SAME:
            return namespace == listener.key.owner.namespace
        case RouteFrom.SELECTOR:
            return selects(ctx, listener.namespaces.selector, namespace)


def _hosts(ctx: Context, route: RouteObject, listener: ListenerPlan) -> AttachedListener | None:
    """The hosts that the route serves at a listener; `None` if their names have nothing in common.

    Hosts that a more specific listener of the port owns are left out, though the route stays attached.
    """
    common: dict[str, str] = {}
    for original in hostnames_of(route):
        host = intersection(listener.hostname, original)
        if host is not None and (host not in common or specificity(original) < specificity(common[host])):
            common[host] = original
    if not common:
        return None
    hosts = tuple(
        AttachedHost(host=host, original=common[host])
        for host in sorted(common)
        if listener.transport is Transport.UDP
        or not listener.is_sound
        or listener.hostname == host
        or ctx.get(listener_of, HostOf(listener.gateway, listener.port, host)) in (None, listener.key)
    )
    return AttachedListener(key=listener.key, port=listener.port, hosts=hosts)


def _judgement(
    key: ObjectKey,
    reference: ParentReference,
    parent: ObjectKey,
    named: Sequence[ListenerPlan],
    right_kind: Sequence[ListenerPlan],
    allowed: Sequence[ListenerPlan],
    attached: Sequence[AttachedListener],
) -> tuple[str, str, str]:
    """Reason, message and remedy, judged in the order that the specification's tests expect."""
    if attached:
        return "Accepted", f"attached to {', '.join(sorted({listener.key.name for listener in attached}))}", ""
    if not named:
        wanted = [f"named {reference.section_name}"] if reference.section_name else []
        wanted += [f"on port {reference.port}"] if reference.port else []
        return "NoMatchingParent", f"{parent} has no listener {' '.join(wanted)}".rstrip(), ""
    names = ", ".join(listener.key.name for listener in named)
    if not right_kind:
        message = f"{key.kind} is no kind of route that can be attached to {names} of {parent}"
        remedy = f"name a listener whose protocol and allowedRoutes.kinds take {key.kind}"
        return "NotAllowedByListeners", message, remedy
    if not allowed:
        return (
            "NotAllowedByListeners",
            f"allowedRoutes of {names} of {parent} does not take routes from namespace {key.namespace}",
            f"let allowedRoutes.namespaces of the listener take namespace {key.namespace}",
        )
    hosts = ", ".join(sorted({listener.hostname for listener in allowed}))
    message = f"none of the route's hostnames is in those of {parent} ({hosts})"
    return "NoMatchingListenerHostname", message, "write a hostname within those, or leave hostnames out"
