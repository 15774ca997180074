"""Requests made from match tables: for each route one that fits it, its neighbours that just do not, and one that looks
like it but for the path of another route.

What these find: a change of what a route matches or does, of its order among routes that overlap it in path, method,
fields or query; a change of an expression, where a text that fits only the old or the new one is found by lot
(`separation.py`). What they may miss: a difference that shows only for requests that combine the fields of three
routes, for rare texts that an expression fits, or on a host with so many routes that not all pairs are tried (`MOST`).
Routes with an expression that no sample could be made of are compared as text.
"""

from collections.abc import Iterator

import msgspec

from portway.explain.patterns import sample_of, samples_of
from portway.explain.request import Request
from portway.explain.separation import separating
from portway.model.route import (
    SCHEME_HEADER,
    CorsPolicy,
    PathKind,
    PathMatch,
    Route,
    RouteMatch,
    ValueKind,
    ValueMatch,
    VirtualHost,
)

MOST = 600
"""Requests for one virtual host, at most."""


def path_samples(match: PathMatch) -> Iterator[str]:
    """Paths around the edge of a path match; the first fits, if one could be found."""
    value = match.value
    match match.kind:
        case PathKind.EXACT:
            yield from (value, value.rstrip("/") + "/", value + "x")
        case PathKind.PREFIX:
            bare = value.removesuffix("/")
            yield from (bare or "/", bare + "/", bare + "/sample", bare + "sample" if bare else "/other")
        case PathKind.TEXT_PREFIX:
            yield from (value, value + "sample", value[:-1] or "/")
        case PathKind.REGEX:
            fitting = [sample for sample in samples_of(value) if sample.startswith("/")]
            yield from fitting
            yield from (edge for sample in fitting[:1] for edge in (sample + "/", sample + "x"))
    if match.ignore_case:
        yield value.upper() if match.kind is not PathKind.REGEX else "/"


def value_sample(match: ValueMatch) -> str | None:
    """A value that fits (an inverted match: one that does not fit what is excluded)."""
    if match.kind is ValueKind.PRESENT:
        return None if match.invert else "sample"
    if match.invert:
        return "other-than-" + match.value if match.kind is ValueKind.EXACT else "~"
    return match.value if match.kind is ValueKind.EXACT else sample_of(match.value)


def dressed(match: RouteMatch, base: Request) -> Request:
    """The base request with the method, fields and query that the match wants, on the base's path."""
    headers = list(base.headers)
    cookies: list[str] = []
    query: list[str] = []
    for header in match.headers:
        value = value_sample(header)
        is_field = not header.name.startswith(":") and header.name != SCHEME_HEADER
        # One field is enough where two routes want the same of it.
        if value is not None and is_field and (header.name, value) not in headers:
            headers.append((header.name, value))
    for cookie in match.cookies:
        value = value_sample(cookie)
        if value is not None:
            cookies.append(f"{cookie.name}={value}")
    for parameter in match.query:
        value = value_sample(parameter)
        if value is not None:
            query.append(f"{parameter.name}={value}")
    if cookies:
        headers.append(("cookie", "; ".join(cookies)))
    if match.grpc:
        headers.append(("content-type", "application/grpc"))
    return msgspec.structs.replace(
        base, method=match.method or base.method, headers=tuple(headers), query="&".join(query) or base.query
    )


def requests_for(match: RouteMatch, base: Request) -> Iterator[Request]:
    """Requests around the edges of a route's match.

    Args:
        base: scheme, host, port and connection of the requests.
    """
    full = dressed(match, base)
    bare = msgspec.structs.replace(base, method=full.method)
    for path in path_samples(match.path):
        yield msgspec.structs.replace(full, path=path)
        if full != bare:
            yield msgspec.structs.replace(bare, path=path)
        if match.method:
            other = "GET" if match.method != "GET" else "POST"
            yield msgspec.structs.replace(full, path=path, method=other)


def _of_policies(route: Route, base: Request) -> Iterator[Request]:
    """Requests that filters of the route look at: from an origin, and as a preflight."""
    path = next(path_samples(route.match.path), None)
    if route.cors is None or path is None:
        return
    full = msgspec.structs.replace(dressed(route.match, base), path=path)
    for origin in (*_origins(route.cors), "http://other.invalid"):
        named = msgspec.structs.replace(full, headers=(*full.headers, ("origin", origin)))
        yield named
        asking = (*named.headers, ("access-control-request-method", "PUT"))
        yield msgspec.structs.replace(named, method="OPTIONS", headers=asking)


def _origins(cors: CorsPolicy) -> Iterator[str]:
    for origin in cors.allow_origins:
        yield "http://any.invalid" if origin == "*" else origin.replace("*", "any").lower()


def samples(host: VirtualHost, base: Request, *others: VirtualHost) -> tuple[Request, ...]:
    """Requests around the edges of every route of a virtual host, and of others whose routes may meet them; unique, at
    most `MOST`."""
    routes = [route for each in (host, *others) for route in each.routes]
    found: dict[Request, None] = {}
    for route in routes:
        found.update(dict.fromkeys(requests_for(route.match, base)))
        found.update(dict.fromkeys(_of_policies(route, base)))
    for other in others:
        for match in separating(host.routes, other.routes):
            found.update(dict.fromkeys(requests_for(match, base)))
    for request in _pairs(routes, base):
        if len(found) >= MOST:
            break
        found[request] = None
    return tuple(found)


def _pairs(routes: list[Route], base: Request) -> Iterator[Request]:
    """What one route wants but for the path, on the paths of the others; and what two want together."""
    matches = list(dict.fromkeys(route.match for route in routes))
    paths = list(dict.fromkeys(path for match in matches if (path := next(path_samples(match.path), None)) is not None))
    for match in matches:
        full = dressed(match, base)
        if full == base:
            continue
        for path in paths:
            yield msgspec.structs.replace(full, path=path)
        for other in matches:
            both = dressed(other, full)
            path = next(path_samples(other.path), None)
            if path is not None and both not in (full, base):
                yield msgspec.structs.replace(both, path=path)
