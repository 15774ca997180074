"""Redirects, as ingress-nginx words them.

To HTTPS and between `www.x` and `x`: 308 with the request's URI, of which one `/` at the end is dropped. Proxies
rewrite the path of a redirect apart from the query and cannot make it empty, so there are up to three routes: for `/`
alone, for other paths with a `/` at the end, and for the rest. A URI whose query ends in `/` keeps it: to drop a
character of a query is damage (ingress-nginx does). Where a scheme decides, `matching.by_scheme` says how.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from portway.model.edge import Edge
from portway.model.route import (
    NO_EDITS,
    Action,
    HeaderEdits,
    PathKind,
    PathMatch,
    PathRewrite,
    PathRewriteKind,
    Redirect,
    Respond,
    ValueKind,
    ValueMatch,
)
from portway.translate.ingress.annotations.entry import Settings
from portway.translate.ingress.annotations.redirects import (
    FORCE_SSL_REDIRECT,
    PERMANENT_REDIRECT,
    PERMANENT_REDIRECT_CODE,
    SSL_REDIRECT,
    TEMPORAL_REDIRECT,
    TEMPORAL_REDIRECT_CODE,
)
from portway.translate.ingress.matching import is_wildcard
from portway.translate.ingress.shares import CATCH_ALL

HTTPS_PORT: Final = 443
NEVER_TO_HTTPS: Final = ("/.well-known/acme-challenge",)
"""Beginnings of declared paths that are never redirected to HTTPS (ingress-nginx `no-tls-redirect-locations`): the
certificate may be what is being asked for."""
_ROOT: Final = ValueMatch(name=":path", value="/")
_WITHOUT_PORT: Final = ValueMatch(name=":authority", kind=ValueKind.REGEX, value="[^:]*")
_ENDS_IN_SLASH: Final = ValueMatch(name=":path", kind=ValueKind.REGEX, value="[^?]*/")
_DROP_SLASH: Final = PathRewrite(kind=PathRewriteKind.REGEX, pattern="/$", value="")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A redirect for some requests of a path."""

    action: Action
    matches: tuple[ValueMatch, ...] = ()
    response_headers: HeaderEdits = NO_EDITS


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a redirect leads; the path is the request's."""

    scheme: str = ""
    """Empty: that of the request."""
    host: str = ""
    """Empty: that of the request."""
    port: int = 0
    """0: none is named."""
    status: int
    root: str = ""
    """Location for `/` alone; empty: it cannot be said without the request's host."""
    root_format: str = ""
    """The same with command operators, for a request whose authority names no port."""


def goes_to_https(settings: Settings, edge: Edge, path: str, *, has_tls: bool) -> bool:
    """Whether plain requests for a declared path are redirected to HTTPS."""
    if path.startswith(NEVER_TO_HTTPS):
        return False
    wanted, forced = settings.get(SSL_REDIRECT), settings.get(FORCE_SSL_REDIRECT)
    if edge.force_ssl_redirect if forced is None else forced:
        return True
    return has_tls and (edge.ssl_redirect if wanted is None else wanted)


def https_target(edge: Edge, domains: tuple[str, ...]) -> Target:
    """The redirect of a host to HTTPS; names the port where it is not 443."""
    port = 0 if edge.https_port == HTTPS_PORT else edge.https_port
    suffix = f":{port}" if port else ""
    host = domains[0]
    if len(domains) == 1 and host != CATCH_ALL and not is_wildcard(host):
        # Named, so that a port in the request's authority does not come along.
        return Target(scheme="https", host=host, port=port, status=edge.redirect_status, root=f"https://{host}{suffix}")
    return Target(
        scheme="https",
        port=port,
        status=edge.redirect_status,
        root_format=f"https://%REQ(:AUTHORITY)%{suffix}",
    )


def answers(target: Target, path: PathMatch) -> Iterator[Answer]:
    """The redirects of the requests that a path match fits, in match order."""
    redirect = Redirect(status=target.status, scheme=target.scheme, host=target.host, port=target.port)
    root = _fits_root(path)
    if root and target.root:
        location = Respond(status=target.status, headers=(("location", target.root),), reason="redirect")
        yield Answer(matches=(_ROOT,), action=location)
    elif root and target.root_format:
        edits = HeaderEdits(formatted=(("location", target.root_format),))
        action = Respond(status=target.status, reason="redirect")
        yield Answer(matches=(_ROOT, _WITHOUT_PORT), action=action, response_headers=edits)
    if path.kind is not PathKind.EXACT or (path.value != "/" and path.value.endswith("/")):
        yield Answer(matches=(_ENDS_IN_SLASH,), action=msgspec.structs.replace(redirect, path=_DROP_SLASH))
    yield Answer(action=redirect)


def _fits_root(path: PathMatch) -> bool:
    # A regular expression may fit `/`; a route too many does no harm.
    return path.kind is PathKind.REGEX or path.value == "/"


def fixed_redirect(settings: Settings) -> Answer | None:
    """The redirect that `temporal-redirect` or `permanent-redirect` wants of every request."""
    for location, code in ((TEMPORAL_REDIRECT, TEMPORAL_REDIRECT_CODE), (PERMANENT_REDIRECT, PERMANENT_REDIRECT_CODE)):
        value = settings.get(location)
        if not value:
            continue
        status = settings.get(code)
        if not value.startswith("/"):
            return Answer(action=Respond(status=status, headers=(("location", value),), reason=location.name))
        # nginx makes a path absolute with the request's scheme and host. `%` would be a command operator.
        text = f"%REQ(X-FORWARDED-PROTO)%://%REQ(:AUTHORITY)%{value.replace('%', '%%')}"
        edits = HeaderEdits(formatted=(("location", text),))
        return Answer(action=Respond(status=status, reason=location.name), response_headers=edits)
    return None


def root_redirect(path: str) -> Redirect:
    """The redirect of `app-root`: scheme, host and port as they were sent, without the query."""
    return Redirect(status=302, path=PathRewrite(kind=PathRewriteKind.FULL, value=path), strip_query=True)
