"""What HTTP filters answer before a request is forwarded, in the order of `envoy.filters.HTTP_FILTERS`."""

import ipaddress
import re
from collections.abc import Iterable

import msgspec
import re2  # type: ignore[import-untyped]  # ships no stubs

from portway.explain.match import compiled
from portway.explain.request import Request
from portway.model.route import AccessList, CorsPolicy, Forward, Route


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of a filter."""

    status: int
    text: str
    edited: bool = True
    """Whether the route's edits of answers hold for it."""


def filtered(route: Route, request: Request, *, forwards: bool = True) -> Refusal | None:
    """What a filter answers instead of the route; `None`: all let the request pass.

    Args:
        forwards: the route has an upstream that can be used; on others nobody answers preflights.
    """
    if route.cors is not None and forwards and isinstance(route.action, Forward) and is_preflight(request):
        origin = request.field("origin") or ""
        verdict = "is allowed" if is_allowed(route.cors, origin) else "is not among the allowed ones"
        text = f"200: a CORS preflight is answered by the proxy; origin {origin} {verdict}"
        return Refusal(status=200, text=text, edited=False)
    if route.access is not None and (problem := access_problem(route.access, request.client)):
        return Refusal(status=403, text=f"403: {problem}")
    length = request.field("content-length")
    if route.max_body_bytes and length is not None and length.isdecimal() and int(length) > route.max_body_bytes:
        return Refusal(
            status=413, text=f"413: the body has {int(length):,} bytes, {route.max_body_bytes:,} may be sent"
        )
    if route.auth is not None and route.auth.upstream is None:
        return Refusal(status=403, text="403: the service that has to be asked for permission cannot be used")
    return None


def is_preflight(request: Request) -> bool:
    """Whether a browser asks if it may send a request (Fetch standard, "CORS-preflight request")."""
    wanted = request.field("origin"), request.field("access-control-request-method")
    return request.method == "OPTIONS" and all(wanted)


def is_allowed(cors: CorsPolicy, origin: str) -> bool:
    return any(_fits_origin(one, origin) for one in cors.allow_origins)


def _fits_origin(allowed: str, origin: str) -> bool:
    if allowed == "*":
        return True
    if "*" not in allowed:
        return allowed.lower() == origin
    labels = r"[a-z0-9-]+(?:\.[a-z0-9-]+)*"
    pattern = labels.join(re.escape(part) for part in allowed.lower().split("*"))
    return bool(re2.fullmatch(compiled(pattern), origin))


def cors_fields(cors: CorsPolicy, request: Request) -> tuple[tuple[str, str], ...]:
    """The fields that cross-origin rules put on an answer, in lower case. A refused origin gets none, but for its
    preflight, which is answered without `access-control-allow-origin`: browsers stop there."""
    origin = request.field("origin")
    preflight = is_preflight(request)
    if not origin or not (preflight or is_allowed(cors, origin)):
        return ()
    found = [("access-control-allow-origin", origin)] if is_allowed(cors, origin) else []
    if cors.allow_credentials:
        found.append(("access-control-allow-credentials", "true"))
    if cors.expose_headers:
        found.append(("access-control-expose-headers", ", ".join(cors.expose_headers)))
    return tuple(found)


def access_problem(access: AccessList, client: str) -> str:
    """Why a client's address may not pass; empty if it may."""
    address = ipaddress.ip_address(client)
    if found := _network_of(address, access.deny):
        return f"{client} is on the deny list ({found})"
    if access.allow and not _network_of(address, access.allow):
        return f"{client} is not on the allow list ({_shortened(access.allow)})"
    return ""


def _network_of(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: Iterable[str]) -> str:
    return next((network for network in networks if address in ipaddress.ip_network(network)), "")


def _shortened(networks: tuple[str, ...]) -> str:
    return ", ".join(networks[:3]) + (f" and {len(networks) - 3} more" if len(networks) > 3 else "")
