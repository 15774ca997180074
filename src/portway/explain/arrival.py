"""What a proxy does with every request before it looks up a route: settings of the edge, whatever is declared.

Source: `envoy.http_connection_manager`, which says the same to proxies.
"""

import msgspec

from portway.explain.request import Request
from portway.model.edge import Edge


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The request never gets to a route."""

    status: int
    text: str
    location: str = ""


def arrive(request: Request, edge: Edge) -> Request | Refused:
    """The request as routes are matched with it."""
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
