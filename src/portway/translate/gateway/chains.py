"""Filter chains: what a Gateway puts on its sockets.

One chain per HTTPS or terminating TLS listener, one for all HTTP listeners of a port, one per server name of TLSRoutes.
A chain's name says what it serves, so that a change of one leaves the connections of the others alone.
"""

from collections.abc import Iterator, Mapping

from portway.incremental import Context
from portway.model.handles import EDGE
from portway.model.listener import Chain, ClientValidation, DownstreamTls, HttpHandler, TcpHandler, UdpHandler
from portway.model.names import Dialect, SocketKey, TableKey, Transport
from portway.model.route import Source
from portway.objects.gateway_v1 import ListenerProtocol
from portway.objects.verdict import ObjectKey
from portway.translate.gateway.certificates import ListenerTls, client_certificate, listener_tls
from portway.translate.gateway.gateways import GatewayPlan, gateway_plan
from portway.translate.gateway.hosts import EVERY
from portway.translate.gateway.listeners import Family, ListenerPlan
from portway.translate.gateway.streams import (
    NAMES_OF_LISTENERS,
    SERVER_NAMES,
    STREAMS,
    NameGroup,
    Stream,
    StreamKey,
    stream_of,
)
from portway.translate.gateway.tables import needs_certificate, table_name
from portway.translate.sockets import ChainRow, Claim, PortKey


def claims(ctx: Context, gateway: ObjectKey) -> Mapping[PortKey, Claim]:
    """Feed of `CLAIMS` for Gateway: the ports of its sound listeners."""
    plan = ctx.get(gateway_plan, gateway)
    if plan is None:
        return {}
    claim = Claim(age=plan.head.age, owner=gateway, addresses=plan.head.addresses)
    return {
        PortKey(plan.head.fleet, listener.port, listener.transport): claim
        for listeners in plan.listeners.values()
        for listener in listeners
        if plan.head.sockets(listener)
    }


def chains(ctx: Context, gateway: ObjectKey) -> Mapping[SocketKey, ChainRow]:
    """Feed of `CHAINS` for Gateway: what stands on each of its sockets."""
    plan = ctx.get(gateway_plan, gateway)
    if plan is None:
        return {}
    found: dict[SocketKey, dict[str, Chain]] = {}
    datagrams: dict[SocketKey, UdpHandler] = {}
    origins: dict[SocketKey, set[ObjectKey]] = {}
    for listeners in plan.listeners.values():
        for listener in listeners:
            sockets = plan.head.sockets(listener)
            if not sockets:
                continue
            made = {chain.name: chain for chain in _chains(ctx, plan, listener)}
            udp = _datagrams(ctx, listener)
            for socket in sockets:
                if made:
                    found.setdefault(socket, {}).update(made)
                if udp is not None:
                    datagrams[socket] = udp
                if made or udp is not None:
                    origins.setdefault(socket, {gateway}).add(listener.key.owner)
    return {
        socket: ChainRow(
            owner=gateway,
            chains=tuple(chain for _, chain in sorted(found.get(socket, {}).items())),
            udp=datagrams.get(socket),
            http3=ctx.read(EDGE, None).http3 and _speaks_http3(found.get(socket, {})),
            origins=tuple(sorted(origins[socket])),
        )
        for socket in sorted(origins)
    }


def _speaks_http3(chains: Mapping[str, Chain]) -> bool:
    """HTTP/3 is TLS and HTTP on every chain; a client certificate cannot be left unverified in QUIC."""
    return bool(chains) and all(
        isinstance(chain.handler, HttpHandler)
        and chain.tls is not None
        and chain.tls.client_validation is ClientValidation.REQUIRE
        for chain in chains.values()
    )


def _chains(ctx: Context, plan: GatewayPlan, listener: ListenerPlan) -> Iterator[Chain]:
    source = Source(object=listener.key.owner, field=listener.field)
    names = () if listener.hostname == EVERY else (listener.hostname,)
    handler = HttpHandler(table=TableKey(plan.head.fleet, table_name(listener), Dialect.GATEWAY))
    if listener.protocol == ListenerProtocol.HTTP:
        source = Source(object=plan.key, field="spec.listeners")
        yield Chain(name=handler.table.name, handler=handler, source=source)
        return
    if listener.family is Family.UDP:
        return
    if listener.family is Family.TCP:
        stream = _oldest(ctx, listener, terminated=False)
        if stream is not None:
            yield Chain(name=_name(listener), handler=TcpHandler(upstreams=stream.upstreams), source=stream.source)
        return
    tls = None
    if needs_certificate(listener):
        material = ctx.get(listener_tls, listener.key)
        if not material.is_usable:
            return
        tls = _downstream(ctx, material, listener)
    if listener.protocol == ListenerProtocol.HTTPS:
        yield Chain(name=handler.table.name, server_names=names, tls=tls, handler=handler, source=source)
        return
    yield from _by_server_name(ctx, listener, tls)


def _name(listener: ListenerPlan) -> str:
    owner = listener.key.owner
    return f"{owner.kind.lower()}:{owner.namespace}:{owner.name}:{listener.port}:{listener.key.name}"


def _downstream(ctx: Context, material: ListenerTls, listener: ListenerPlan) -> DownstreamTls:
    edge = ctx.read(EDGE, None)
    return DownstreamTls(
        certificates=material.certificates,
        client_authorities=material.authorities,
        client_validation=material.validation or ClientValidation.REQUIRE,
        alpn=("h2", "http/1.1") if listener.protocol == ListenerProtocol.HTTPS else (),
        min_version=edge.tls_min_version,
        ciphers=edge.tls_ciphers,
    )


def _oldest(ctx: Context, listener: ListenerPlan, *, terminated: bool) -> Stream | None:
    """The stream of the oldest TCPRoute or UDPRoute of a listener."""
    row = ctx.least(STREAMS, listener.key)
    if row is None:
        return None
    certificate = ctx.get(client_certificate, listener.gateway).key if terminated else None
    return ctx.get(stream_of, StreamKey(row.route, terminated, certificate))


def _by_server_name(ctx: Context, listener: ListenerPlan, tls: DownstreamTls | None) -> Iterator[Chain]:
    """Chains of a TLS listener: one per server name that a TLSRoute wants, the rest for the oldest TCPRoute."""
    wanted = sorted({name for names in ctx.rows(NAMES_OF_LISTENERS, listener.key) for name in names})
    terminated = tls is not None
    certificate = ctx.get(client_certificate, listener.gateway).key if terminated else None
    for name in wanted:
        row = ctx.least(SERVER_NAMES, NameGroup(listener.key, name))
        stream = None if row is None else ctx.get(stream_of, StreamKey(row.route, terminated, certificate))
        if stream is not None:
            yield _stream_chain(listener, name, tls, stream)
    rest = _oldest(ctx, listener, terminated=terminated) if terminated else None
    if rest is not None and listener.hostname not in wanted:
        yield _stream_chain(listener, listener.hostname, tls, rest)


def _stream_chain(listener: ListenerPlan, name: str, tls: DownstreamTls | None, stream: Stream) -> Chain:
    return Chain(
        name=f"{_name(listener)}:{name}",
        server_names=() if name == EVERY else (name,),
        tls=tls,
        passthrough=tls is None,
        handler=TcpHandler(upstreams=stream.upstreams),
        source=stream.source,
    )


def _datagrams(ctx: Context, listener: ListenerPlan) -> UdpHandler | None:
    if listener.transport is not Transport.UDP:
        return None
    stream = _oldest(ctx, listener, terminated=False)
    return None if stream is None else UdpHandler(upstreams=stream.upstreams)
