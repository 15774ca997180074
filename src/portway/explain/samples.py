"""Requests made from match tables: for each route one that fits it, and its neighbours that just do not.

Two tables that treat all of these alike may still differ on others only where expressions are so involved that no
sample could be made; those routes are compared as text.
"""

from collections.abc import Iterator

import msgspec

from portway.explain.patterns import sample_of
from portway.explain.request import Request
from portway.model.route import PathKind, PathMatch, RouteMatch, ValueKind, ValueMatch, VirtualHost


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
            sample = sample_of(value)
            if sample is not None and sample.startswith("/"):
                yield from (sample, sample + "/", sample + "x")
    if match.ignore_case:
        yield value.upper() if match.kind is not PathKind.REGEX else "/"


def value_sample(match: ValueMatch) -> str | None:
    """A value that fits (an inverted match: one that does not fit what is excluded)."""
    if match.kind is ValueKind.PRESENT:
        return None if match.invert else "sample"
    if match.invert:
        return "other-than-" + match.value if match.kind is ValueKind.EXACT else "~"
    return match.value if match.kind is ValueKind.EXACT else sample_of(match.value)


def requests_for(match: RouteMatch, base: Request) -> Iterator[Request]:
    """Requests around the edges of a route's match.

    Args:
        base: scheme, host, port and connection of the requests.
    """
    headers = list(base.headers)
    cookies: list[str] = []
    query: list[str] = []
    method = match.method or base.method
    for header in match.headers:
        value = value_sample(header)
        if value is not None and not header.name.startswith(":"):
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
    bare = msgspec.structs.replace(base, method=method)
    full = msgspec.structs.replace(bare, headers=tuple(headers), query="&".join(query) or None)
    for path in path_samples(match.path):
        yield msgspec.structs.replace(full, path=path)
        if full != bare:
            yield msgspec.structs.replace(bare, path=path)
        if match.method:
            other = "GET" if match.method != "GET" else "POST"
            yield msgspec.structs.replace(full, path=path, method=other)


def samples(host: VirtualHost, base: Request) -> Iterator[Request]:
    """Requests around the edges of every route of a virtual host."""
    for route in host.routes:
        yield from requests_for(route.match, base)
