"""Who listens where.

An address and port of a fleet belong to one owner: a Gateway (with its ListenerSets), or Ingress as a whole. The older
claim keeps it, the other's listener says `PortUnavailable`. Claims on the same port of different addresses live side by
side, but a wildcard address overlaps with all of its family. Where each Gateway has a fleet of its own there is no such
conflict.

The translators feed `CLAIMS`, `CHAINS` and `INGRESS_AGES`; `LISTENER` joins the chains of a socket's owner.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import NamedTuple

import msgspec

from portway.incremental import Context, Relation, bind, feed, query
from portway.model.handles import EDGE, INFRASTRUCTURE, LISTENER, SOCKETS, UNAVAILABLE
from portway.model.listener import Chain, Listener, UdpHandler
from portway.model.names import SocketKey, Transport
from portway.objects.meta import Meta
from portway.objects.verdict import ObjectKey
from portway.translate.parameters import health_port

INGRESS = ObjectKey("Ingress", "", "")
"""Owner of the sockets that Ingress is served on; stands for all of them together."""


class Age(NamedTuple):
    """Orders objects by age: oldest first, those without a creation time after those that have one, then by name."""

    created: str
    namespace: str
    name: str


def age_of(metadata: Meta) -> Age:
    created = metadata.creation_timestamp
    return Age(created.isoformat() if created else "~", metadata.namespace, metadata.name)


class PortKey(NamedTuple):
    fleet: str
    port: int
    transport: Transport = Transport.TCP


class Claim(msgspec.Struct, frozen=True, kw_only=True, order=True, gc=False):
    """Somebody wants a port on some addresses."""

    age: Age
    owner: ObjectKey
    addresses: tuple[str, ...]


class ChainRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one member contributes to a socket. Options hold for the socket if any row of its owner sets them."""

    owner: ObjectKey
    chains: tuple[Chain, ...] = ()
    udp: UdpHandler | None = None
    proxy_protocol: bool = False
    http3: bool = False
    origins: tuple[ObjectKey, ...] = ()


CLAIMS: Relation[PortKey, Claim] = Relation("socket claims")
"""Fed by Gateways: at most one row of a Gateway per port."""
INGRESS_AGES: Relation[str, Age] = Relation("ages of served Ingresses")
"""Group: a fleet that serves Ingress. Fed by every Ingress that is ours; those of a fleet are as old as the oldest."""
CHAINS: Relation[SocketKey, ChainRow] = Relation("filter chains")
"""Fed for every socket that somebody wants, whether or not the claim is won."""

RELATIONS = (INGRESS_AGES, CLAIMS, CHAINS)


def bind_addresses(ctx: Context) -> tuple[str, ...]:
    """What Ingress listens on, and Gateways that ask for no address."""
    infrastructure = ctx.read(INFRASTRUCTURE, None)
    return ctx.read(EDGE, None).bind_addresses if infrastructure.is_host else infrastructure.bind_addresses


def overlap(one: str, other: str) -> bool:
    """Whether two addresses cannot both be bound on one port."""
    if one == other:
        return True
    first, second = ip_address(one), ip_address(other)
    if first.version != second.version:
        # `::` takes IPv4 too unless the listener is v6-only; ours are (`envoy/listener.py`).
        return False
    return first.is_unspecified or second.is_unspecified


@query("owners of a port")
def owners(ctx: Context, key: PortKey) -> tuple[Claim, ...]:
    """The claims on a port that hold, oldest first; none overlaps with another."""
    claims = list(ctx.rows(CLAIMS, key))
    edge = ctx.read(EDGE, None)
    if key.transport is Transport.TCP and key.port in (edge.http_port, edge.https_port):
        oldest = ctx.least(INGRESS_AGES, key.fleet)
        if oldest is not None:
            claims.append(Claim(age=oldest, owner=INGRESS, addresses=bind_addresses(ctx)))
    held: list[Claim] = []
    for claim in sorted(claims):
        free = tuple(
            address
            for address in claim.addresses
            if not any(overlap(address, taken) for other in held for taken in other.addresses)
        )
        if free:
            held.append(msgspec.structs.replace(claim, addresses=free))
    return tuple(held)


def owner_of(ctx: Context, socket: SocketKey) -> ObjectKey | None:
    """Who has this socket; `None` if somebody else has an address that overlaps with it, or nobody wants it."""
    for claim in ctx.get(owners, PortKey(socket.fleet, socket.port, socket.transport)):
        if socket.address in claim.addresses:
            return claim.owner
    return None


def lost_to(ctx: Context, socket: SocketKey, owner: ObjectKey) -> ObjectKey | None:
    """Who has the socket that `owner` wants; `None` if `owner` has it."""
    for claim in ctx.get(owners, PortKey(socket.fleet, socket.port, socket.transport)):
        if any(overlap(socket.address, address) for address in claim.addresses):
            return None if claim.owner == owner else claim.owner
    return None


def unavailable(ctx: Context, socket: SocketKey) -> str:
    """Why nobody can have this socket, and after `; ` what to do; empty: somebody can."""
    if ctx.read(INFRASTRUCTURE, None).is_host:
        return ctx.read(UNAVAILABLE, socket)
    if socket.transport is not Transport.TCP or socket.port != ctx.get(health_port, socket.fleet):
        return ""
    return (
        f"on port {socket.port} the proxies themselves answer probes and requests for metrics; choose another port, "
        "or another proxy.healthPort in its FleetParameters"
    )


def socket_rows(ctx: Context, socket: SocketKey) -> Mapping[SocketKey, bool]:
    """Feed of `SOCKETS`: a socket is there if it can be had and its owner has something to serve on it."""
    if unavailable(ctx, socket):
        return {}
    owner = owner_of(ctx, socket)
    return {socket: True} if any(row.owner == owner for row in ctx.rows(CHAINS, socket)) else {}


def listener(ctx: Context, socket: SocketKey) -> Listener | None:
    owner = owner_of(ctx, socket)
    rows = [row for row in ctx.rows(CHAINS, socket) if row.owner == owner]
    if not rows:
        return None
    return Listener(
        key=socket,
        chains=tuple(sorted((chain for row in rows for chain in row.chains), key=lambda chain: chain.name)),
        udp=next((row.udp for row in rows if row.udp is not None), None),
        proxy_protocol=any(row.proxy_protocol for row in rows),
        http3=any(row.http3 for row in rows),
        origins=tuple(sorted({origin for row in rows for origin in row.origins})),
    )


FEEDS = (feed(SOCKETS, CHAINS, socket_rows),)
BINDINGS = (bind(LISTENER, listener),)
