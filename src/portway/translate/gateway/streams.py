"""TLSRoute, TCPRoute and UDPRoute: where connections and datagrams go.

A TCP or UDP listener belongs to its oldest route alone. Of TLSRoutes the one with the most specific own host name has a
server name, then the oldest: connections have nothing else to be told apart by.

Source: Gateway API, `TLSRouteSpec`, `TCPRouteSpec`, `UDPRouteSpec`, GEP-2643.
"""

from collections.abc import Mapping
from typing import NamedTuple, cast

import msgspec

from portway.incremental import Context, Relation, query
from portway.model.names import SecretKey
from portway.model.route import Source, WeightedUpstream
from portway.model.upstream import Protocol, UpstreamSettings
from portway.objects.core_v1 import Protocol as Transport
from portway.objects.l4routes_v1 import TCPRouteRule, TLSRouteRule, UDPRouteRule
from portway.objects.verdict import ObjectKey, Severity
from portway.translate.gateway import backends
from portway.translate.gateway.attachment import attachment_of, route_of
from portway.translate.gateway.backends import Use
from portway.translate.gateway.findings import Problem
from portway.translate.gateway.hosts import specificity
from portway.translate.gateway.listeners import ListenerKey
from portway.translate.sockets import Age


class StreamRow(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A TCPRoute or UDPRoute wants a listener; the least row, that of the oldest route, has it."""

    age: Age
    route: ObjectKey


class NameRow(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A TLSRoute wants a server name at a listener; the least row has it."""

    order: tuple[int, int]
    """`specificity` of the route's own host name."""
    age: Age
    route: ObjectKey


class NameGroup(NamedTuple):
    """A server name, `*` for all, at a listener."""

    listener: ListenerKey
    host: str


STREAMS: Relation[ListenerKey, StreamRow] = Relation("TCP and UDP routes of listeners")
SERVER_NAMES: Relation[NameGroup, NameRow] = Relation("TLS routes of server names")
NAMES_OF_LISTENERS: Relation[ListenerKey, tuple[str, ...]] = Relation("server names of listeners")
"""A row per TLSRoute: the names that it wants at the listener."""


def streams(ctx: Context, route: ObjectKey) -> Mapping[ListenerKey, StreamRow]:
    """Feed of `STREAMS` for TCPRoute and UDPRoute."""
    attachment = ctx.get(attachment_of, route)
    if attachment is None:
        return {}
    return {key: StreamRow(age=attachment.age, route=route) for key in attachment.listeners()}


def server_names(ctx: Context, route: ObjectKey) -> Mapping[NameGroup, NameRow]:
    """Feed of `SERVER_NAMES` for TLSRoute."""
    attachment = ctx.get(attachment_of, route)
    if attachment is None:
        return {}
    return {
        NameGroup(key, host.host): NameRow(order=specificity(host.original), age=attachment.age, route=route)
        for key, listener in attachment.listeners().items()
        for host in listener.hosts
    }


def names_of_listeners(ctx: Context, route: ObjectKey) -> Mapping[ListenerKey, tuple[str, ...]]:
    """Feed of `NAMES_OF_LISTENERS` for TLSRoute."""
    attachment = ctx.get(attachment_of, route)
    if attachment is None:
        return {}
    return {key: tuple(host.host for host in listener.hosts) for key, listener in attachment.listeners().items()}


class StreamKey(NamedTuple):
    """A stream route, as a listener with this client certificate and TLS treatment uses it."""

    route: ObjectKey
    terminated: bool = False
    """The listener ends TLS, so TLS towards the backend is ours to make."""
    certificate: SecretKey | None = None


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """Where a route's connections or datagrams go."""

    upstreams: tuple[WeightedUpstream, ...] = ()
    """Shares of backends that cannot be used have no upstream; those of weight 0 are left out."""
    problems: tuple[Problem, ...] = ()
    source: Source


_TRANSPORTS = {"TLSRoute": Transport.TCP, "TCPRoute": Transport.TCP, "UDPRoute": Transport.UDP}


@query("stream")
def stream_of(ctx: Context, key: StreamKey) -> Stream | None:
    """The compiled TLSRoute, TCPRoute or UDPRoute; `None` if it is gone. Only its first rule can ever have traffic."""
    found = route_of(ctx, key.route)
    if found is None:
        return None
    rules = cast("tuple[TLSRouteRule | TCPRouteRule | UDPRouteRule, ...]", getattr(found.spec, "rules", ()))
    transport = _TRANSPORTS[key.route.kind]
    datagrams = transport is Transport.UDP
    use = Use(
        route=key.route,
        settings=UpstreamSettings(
            protocol=Protocol.UDP if datagrams else Protocol.TCP, passthrough=not key.terminated and not datagrams
        ),
        certificate=key.certificate,
        transport=transport,
        consequence="its datagrams are dropped" if datagrams else "its connections are closed",
    )
    upstreams: list[WeightedUpstream] = []
    problems: list[Problem] = []
    for index, rule in enumerate(rules):
        for number, reference in enumerate(rule.backend_refs):
            place = f"spec.rules[{index}].backendRefs[{number}]"
            resolved = backends.resolve(ctx, reference, place, use)
            problems += (resolved.problem,) if resolved.problem is not None else ()
            if reference.weight > 0 and index == 0:
                source = Source(object=key.route, field=place)
                upstreams.append(WeightedUpstream(upstream=resolved.upstream, weight=reference.weight, source=source))
    if len(rules) > 1:
        problems.append(
            Problem(
                condition="",
                reason="UnsupportedValue",
                field="spec.rules[1]",
                message="only the first rule can have traffic, as nothing tells connections apart",
                remedy="make a route of its own of it, for another listener",
                severity=Severity.WARNING,
            )
        )
    return Stream(
        upstreams=tuple(upstreams),
        problems=tuple(problems),
        source=Source(object=key.route, field="spec.rules[0]"),
    )
