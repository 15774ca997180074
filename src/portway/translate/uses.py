"""What virtual hosts and listeners need: exactly these upstreams and secrets are sent to the proxies, and no others."""

from collections.abc import Iterable, Iterator, Mapping

from portway.incremental import Context, feed
from portway.model.handles import (
    LISTENER,
    SECRET_USES,
    SOCKETS,
    UPSTREAM,
    UPSTREAM_USES,
    VIRTUAL_HOST,
    VIRTUAL_HOSTS,
)
from portway.model.listener import Listener, TcpHandler
from portway.model.names import HostKey, SecretKey, SocketKey, UpstreamKey
from portway.model.route import Forward, Route, VirtualHost, WeightedUpstream
from portway.model.upstream import for_retries


def _of_shares(shares: Iterable[WeightedUpstream]) -> Iterator[UpstreamKey]:
    for share in shares:
        if share.upstream is not None:
            yield share.upstream


def _of_route(route: Route, host: VirtualHost) -> Iterator[UpstreamKey]:
    if isinstance(route.action, Forward):
        retry = route.action.retry or host.retry
        for key in _of_shares(route.action.upstreams):
            yield for_retries(key, retry)
        for mirror in route.action.mirrors:
            yield mirror.upstream
    if route.auth is not None and route.auth.upstream is not None:
        yield route.auth.upstream


def upstreams_of_host(host: VirtualHost) -> frozenset[UpstreamKey]:
    return frozenset(key for route in host.routes for key in _of_route(route, host))


def upstreams_of_listener(listener: Listener) -> frozenset[UpstreamKey]:
    handlers = [chain.handler for chain in listener.chains if isinstance(chain.handler, TcpHandler)]
    found = {key for handler in handlers for key in _of_shares(handler.upstreams)}
    if listener.udp is not None:
        found.update(_of_shares(listener.udp.upstreams))
    return frozenset(found)


def _host_uses(ctx: Context, key: HostKey) -> Mapping[tuple[str, UpstreamKey], bool]:
    host = ctx.get(VIRTUAL_HOST, key)
    return {(key.table.fleet, used): True for used in upstreams_of_host(host)} if host is not None else {}


def _socket_uses(ctx: Context, key: SocketKey) -> Mapping[tuple[str, UpstreamKey], bool]:
    listener = ctx.get(LISTENER, key)
    return {(key.fleet, used): True for used in upstreams_of_listener(listener)} if listener is not None else {}


def _socket_secrets(ctx: Context, key: SocketKey) -> Mapping[tuple[str, SecretKey], bool]:
    listener = ctx.get(LISTENER, key)
    uses: dict[tuple[str, SecretKey], bool] = {}
    for chain in listener.chains if listener is not None else ():
        if chain.tls is not None:
            uses.update({(key.fleet, certificate): True for certificate in chain.tls.certificates})
            if chain.tls.client_authorities is not None:
                uses[key.fleet, chain.tls.client_authorities] = True
    return uses


def _upstream_secrets(ctx: Context, use: tuple[str, UpstreamKey]) -> Mapping[tuple[str, SecretKey], bool]:
    fleet, key = use
    upstream = ctx.get(UPSTREAM, key)
    if upstream is None or upstream.tls is None:
        return {}
    wanted = (upstream.tls.authorities, upstream.tls.certificate)
    return {(fleet, secret): True for secret in wanted if secret is not None}


FEEDS = (
    feed(UPSTREAM_USES, VIRTUAL_HOSTS, _host_uses),
    feed(UPSTREAM_USES, SOCKETS, _socket_uses),
    feed(SECRET_USES, SOCKETS, _socket_secrets),
    feed(SECRET_USES, UPSTREAM_USES, _upstream_secrets),
)
