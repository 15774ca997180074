"""How a path's requests are sent on: from annotations to what upstreams and routes are told."""

from datetime import timedelta
from typing import Final

import msgspec

from portway.model.edge import Edge
from portway.model.route import (
    NO_EDITS,
    HashOn,
    HashPolicy,
    HeaderEdits,
    PathRewrite,
    PathRewriteKind,
    RetryCause,
    RetryPolicy,
    StickyCookie,
)
from portway.model.upstream import Balancer, BalancerKind, Protocol, UpstreamSettings, UpstreamTls
from portway.translate.ingress.annotations.entry import Settings
from portway.translate.ingress.annotations.paths import REWRITE_TARGET, X_FORWARDED_PREFIX
from portway.translate.ingress.annotations.stickiness import (
    AFFINITY,
    AFFINITY_MODE,
    SESSION_COOKIE_CHANGE_ON_FAILURE,
    SESSION_COOKIE_DOMAIN,
    SESSION_COOKIE_EXPIRES,
    SESSION_COOKIE_MAX_AGE,
    SESSION_COOKIE_NAME,
    SESSION_COOKIE_PATH,
    SESSION_COOKIE_SAMESITE,
    SESSION_COOKIE_SECURE,
    AffinityMode,
)
from portway.translate.ingress.annotations.upstreams import (
    BACKEND_PROTOCOL,
    LOAD_BALANCE,
    PROXY_CONNECT_TIMEOUT,
    PROXY_NEXT_UPSTREAM,
    PROXY_NEXT_UPSTREAM_TIMEOUT,
    PROXY_NEXT_UPSTREAM_TRIES,
    PROXY_READ_TIMEOUT,
    PROXY_SEND_TIMEOUT,
    UPSTREAM_HASH_BY,
    BackendProtocol,
    BalanceBy,
)
from portway.translate.ingress.hosts import is_rewritten
from portway.translate.ingress.matching import count_groups, rewrite_pattern, substitution
from portway.translate.ingress.shares import Location

DEFAULT_TRIES: Final = 3
"""nginx `proxy_next_upstream_tries` as ingress-nginx sets it."""
MANY_TRIES: Final = 10
"""What 0 tries ("as many as there are endpoints") comes to."""
_TLS: Final = UpstreamTls()
"""Unverified, no server name: ingress-nginx's way with HTTPS upstreams."""


def upstream_settings(settings: Settings, *, https: bool) -> UpstreamSettings:
    """How the upstream is to be spoken to.

    Args:
        settings: those that decide about the upstream.
        https: the request came over HTTPS; only `AUTO_HTTP` asks.
    """
    protocol, tls = _protocol(settings, https=https)
    sticky = settings.get(AFFINITY)
    persistent = sticky and settings.get(AFFINITY_MODE) is AffinityMode.PERSISTENT
    return UpstreamSettings(
        protocol=protocol,
        tls=tls,
        connect_timeout=settings.get(PROXY_CONNECT_TIMEOUT),
        balancer=None if persistent else _balancer(settings),
        host_override=persistent,
    )


def _protocol(settings: Settings, *, https: bool) -> tuple[Protocol | None, UpstreamTls | None]:
    if not settings.has(BACKEND_PROTOCOL):
        return None, None  # what the Service says (`appProtocol`), else HTTP/1.1
    match settings.get(BACKEND_PROTOCOL):
        case BackendProtocol.HTTPS:
            return Protocol.HTTP1, _TLS
        case BackendProtocol.GRPC:
            return Protocol.HTTP2, None
        case BackendProtocol.GRPCS:
            return Protocol.HTTP2, _TLS
        case BackendProtocol.AUTO_HTTP if https:
            return Protocol.HTTP1, _TLS
        case _:
            return Protocol.HTTP1, None


def _balancer(settings: Settings) -> Balancer | None:
    if settings.get(AFFINITY) or settings.get(UPSTREAM_HASH_BY):
        return Balancer(kind=BalancerKind.RING_HASH)
    match settings.get(LOAD_BALANCE):
        case BalanceBy.EWMA:
            return Balancer(kind=BalancerKind.LEAST_REQUEST)
        case BalanceBy.ROUND_ROBIN:
            return Balancer(kind=BalancerKind.ROUND_ROBIN)
        case None:
            return None


def depends_on_scheme(settings: Settings) -> bool:
    """Whether requests over HTTPS are sent on differently."""
    if settings.get(BACKEND_PROTOCOL) is BackendProtocol.AUTO_HTTP:
        return True
    return settings.get(AFFINITY) and not settings.get(SESSION_COOKIE_SECURE)


class Stickiness(msgspec.Struct, frozen=True, kw_only=True):
    """What a route says about choosing an endpoint."""

    hash: tuple[HashPolicy, ...] = ()
    sticky: StickyCookie | None = None


def stickiness(settings: Settings, location: Location, *, https: bool) -> Stickiness:
    """How a request finds its endpoint. Cookie affinity wins over hashing."""
    if not settings.get(AFFINITY):
        return Stickiness(hash=tuple(HashPolicy(on=by.on, name=by.name) for by in settings.get(UPSTREAM_HASH_BY)))
    name = settings.get(SESSION_COOKIE_NAME)
    path = settings.get(SESSION_COOKIE_PATH) or location.path
    max_age, expires = settings.get(SESSION_COOKIE_MAX_AGE), settings.get(SESSION_COOKIE_EXPIRES)
    lifetime = max_age or expires or timedelta(0)
    attributes = _cookie_attributes(settings, https=https)
    if settings.get(AFFINITY_MODE) is AffinityMode.PERSISTENT:
        return Stickiness(sticky=StickyCookie(name=name, path=path, ttl=lifetime, attributes=attributes))
    policy = HashPolicy(on=HashOn.COOKIE, name=name, ttl=lifetime, path=path, attributes=attributes)
    return Stickiness(hash=(policy,))


def side_cookie_name(settings: Settings) -> str:
    """Name of the cookie that keeps a client on the canary's or the primary's side; empty: sessions are not sticky."""
    return f"{settings.get(SESSION_COOKIE_NAME)}-side" if settings.get(AFFINITY) else ""


def side_cookie(settings: Settings, location: Location, side: str, *, https: bool) -> str:
    """The same cookie as it is set, with the attributes of the session's."""
    path = settings.get(SESSION_COOKIE_PATH) or location.path
    lifetime = settings.get(SESSION_COOKIE_MAX_AGE) or settings.get(SESSION_COOKIE_EXPIRES)
    age = [("Max-Age", f"{lifetime.total_seconds():.0f}")] if lifetime else []
    attributes = (("Path", path), *age, *_cookie_attributes(settings, https=https))
    parts = [f"{name}={value}" if value else name for name, value in attributes]
    return "; ".join((f"{side_cookie_name(settings)}={side}", *parts))


def _cookie_attributes(settings: Settings, *, https: bool) -> tuple[tuple[str, str], ...]:
    attributes = [("HttpOnly", "")]
    if settings.get(SESSION_COOKIE_DOMAIN):
        attributes.append(("Domain", settings.get(SESSION_COOKIE_DOMAIN)))
    if settings.get(SESSION_COOKIE_SAMESITE):
        attributes.append(("SameSite", settings.get(SESSION_COOKIE_SAMESITE)))
    if https or settings.get(SESSION_COOKIE_SECURE):
        attributes.append(("Secure", ""))
    return tuple(attributes)


def idle_timeout(settings: Settings, edge: Edge) -> timedelta | None:
    """Longest silence of an exchange; `None`: the listener's, which is the default of `proxy-read-timeout`."""
    read, send = settings.get(PROXY_READ_TIMEOUT), settings.get(PROXY_SEND_TIMEOUT)
    if read is None and send is None:
        return None
    return max(read if read is not None else edge.read_timeout, send or timedelta(0))


def retry_policy(settings: Settings, edge: Edge) -> RetryPolicy | None:
    """Retries of a path; `None`: the upstream's default."""
    if settings.get(AFFINITY) and not settings.get(SESSION_COOKIE_CHANGE_ON_FAILURE):
        # Another endpoint does not know the session.
        return RetryPolicy(attempts=0)
    words, tries = settings.get(PROXY_NEXT_UPSTREAM), settings.get(PROXY_NEXT_UPSTREAM_TRIES)
    if words is None and tries is None:
        return None
    words = words if words is not None else frozenset({"error", "timeout"})
    if "off" in words:
        return RetryPolicy(attempts=0)
    causes: set[RetryCause] = set()
    if "error" in words:
        causes |= {RetryCause.CONNECT, RetryCause.RESET}
    if "invalid_header" in words:
        causes.add(RetryCause.RESET)
    per_try = settings.get(PROXY_READ_TIMEOUT) or edge.read_timeout
    within = settings.get(PROXY_NEXT_UPSTREAM_TIMEOUT)
    # When a try has taken that long already, no further one may begin.
    if "timeout" in words and (not within or per_try < within):
        causes.add(RetryCause.TIMEOUT)
    statuses = tuple(sorted(int(word.removeprefix("http_")) for word in words if word.startswith("http_")))
    if statuses:
        causes.add(RetryCause.STATUS)
    return RetryPolicy(
        attempts=max(0, (tries if tries is not None else DEFAULT_TRIES) or MANY_TRIES) - 1,
        causes=frozenset(causes),
        statuses=statuses,
        per_try_idle=per_try if RetryCause.TIMEOUT in causes else None,
        non_idempotent="non_idempotent" in words,
    )


def path_rewrite(settings: Settings, location: Location) -> PathRewrite | None:
    r"""The rewrite of a path, if one is in effect: the whole path becomes the target, `$1` the first group.

    A group that the path does not have is empty, as in nginx.
    """
    if not is_rewritten(settings, location):
        return None
    target = settings.get(REWRITE_TARGET)
    target = target if target.startswith("/") else f"/{target}"
    return PathRewrite(
        kind=PathRewriteKind.REGEX,
        pattern=rewrite_pattern(location.path),
        value=substitution(target, count_groups(location.path)),
    )


def request_edits(settings: Settings, location: Location) -> HeaderEdits:
    """Fields that are sent upstream because of annotations."""
    prefix = settings.get(X_FORWARDED_PREFIX)
    if not prefix or not is_rewritten(settings, location):
        return NO_EDITS
    return HeaderEdits(set=(("x-forwarded-prefix", prefix),))
