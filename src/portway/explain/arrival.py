"""What a proxy does with every request before it looks up a route: settings of the edge, whatever is declared.

Source: `envoy.http_connection_manager`, which says the same to proxies.
"""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

import msgspec

from portway.explain.request import Request
from portway.model.edge import Edge

_READ = ("x-forwarded-for", "x-forwarded-proto")


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The request never gets to a route."""

    status: int
    text: str
    location: str = ""


def arrive(request: Request, edge: Edge) -> Request | Refused:
    """The request as routes are matched with it: of a trusted proxy's request the client and the scheme are those that
    it names."""
    if _is_within(request.client, edge.trusted_proxies):
        request = _believed(request, edge.trusted_proxies)
    escaped = any(code in request.path.lower() for code in ("%2f", "%5c"))
    if escaped and edge.escaped_slashes == "reject":
        return Refused(status=400, text="400: the path has an escaped slash (setting escaped_slashes: reject)")
    if escaped and edge.escaped_slashes == "redirect":
        location = request.target
        for code in ("%2f", "%2F", "%5c", "%5C"):
            location = location.replace(code, "/" if code[1] == "2" else "\\")
        return Refused(status=307, location=location, text=f"307 to {location} (setting escaped_slashes: redirect)")
    underscored = [name for name, _ in request.headers if "_" in name]
    if underscored and edge.underscores_in_headers == "reject":
        problem = f"400: the field {underscored[0]} has an underscore (setting underscores_in_headers: reject)"
        return Refused(status=400, text=problem)
    if underscored and edge.underscores_in_headers == "drop":
        kept = tuple(field for field in request.headers if "_" not in field[0])
        request = msgspec.structs.replace(request, headers=kept)
    size = sum(len(name) + len(value) for name, value in request.headers) + len(request.target) + len(request.named)
    if size > edge.max_header_bytes:
        return Refused(status=431, text=f"431: the fields have {size:,} bytes, {edge.max_header_bytes:,} may be sent")
    if len(request.headers) > edge.max_headers:
        text = f"431: there are {len(request.headers)} fields, {edge.max_headers} may be sent"
        return Refused(status=431, text=text)
    return request


def _is_within(address: str, networks: Iterable[str]) -> bool:
    one = ip_address(address)
    return any(one in ip_network(network, strict=False) for network in networks)


def _believed(request: Request, trusted: tuple[str, ...]) -> Request:
    scheme = next((value for name, value in request.forwarded if name == "x-forwarded-proto"), "")
    chain = ",".join(value for name, value in request.forwarded if name == "x-forwarded-for")
    return msgspec.structs.replace(
        request,
        client=_client_of(chain, trusted) or request.client,
        scheme=scheme or request.scheme,  # whatever it is: routes compare it as it stands
        headers=(*request.headers, *(field for field in request.forwarded if field[0] not in _READ)),
    )


def _client_of(chain: str, trusted: tuple[str, ...]) -> str:
    """The last address that is no trusted proxy's, or the first of all; empty where something else stands before one is
    found (`envoy.http.original_ip_detection.xff`)."""
    client = ""
    for entry in reversed([entry.strip() for entry in chain.split(",") if entry.strip()]):
        try:
            client = str(ip_address(entry))
        except ValueError:
            return ""
        if not _is_within(client, trusted):
            break
    return client
