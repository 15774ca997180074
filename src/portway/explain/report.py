"""An explanation as data for a reader: names, places in files, endpoints. The same for a live Portway and for files."""

from collections.abc import Callable

import msgspec

from portway.explain.trace import Explanation, World
from portway.model.names import UpstreamKey
from portway.model.route import Source
from portway.model.upstream import Discovery
from portway.objects.verdict import ObjectKey

Locate = Callable[[ObjectKey, str], tuple[str, int] | None]
"""File and line of a field of an object; `None` where there is no file."""


ITSELF = "Portway itself"
"""`Place.object` of what nobody declared."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The declared thing behind something."""

    object: str
    field: str = ""
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        field = f" {self.field}" if self.field else ""
        return f"{self.object}{field}" + (f" ({self.file}:{self.line})" if self.file else "")


class TriedRoute(msgspec.Struct, frozen=True, kw_only=True):
    route: str
    matched: bool
    reason: str
    place: Place
    guard: str = ""
    """Nobody declared the route: what it keeps from those that somebody did."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One outcome."""

    share: float
    """0 to 1."""
    status: int
    """0: the upstream's own."""
    text: str
    route: str
    place: Place | None
    grpc_status: int | None = None
    """Set where a gRPC client gets this with HTTP 200 instead of `status`."""
    closed: bool = False
    """There is no answer at all."""
    location: str = ""
    upstream: str = ""
    host: str = ""
    target: str = ""
    request_headers: tuple[tuple[str, str], ...] = ()
    """What the upstream receives: the client's fields after all declared edits."""
    response_headers: tuple[tuple[str, str], ...] = ()
    """What declarations put on the answer."""
    endpoints: tuple[str, ...] = ()
    note: str = ""
    """What is special about the endpoints: there are none, or DNS gives them."""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """A filter or policy that acts on the request."""

    what: str
    text: str
    place: Place | None
    """`None`: nobody asked for it, it is so by default."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `portway explain -o json` prints."""

    request: str
    fleet: str
    """Where there are several: whose proxies, `Gateway shop/web`; else empty."""
    listener: str
    chain: str
    table: str
    virtual_host: str
    routes: tuple[TriedRoute, ...]
    results: tuple[Result, ...]
    applied: tuple[Applied, ...]
    hints: tuple[str, ...] = ()
    """What the asker may have meant, or should know."""


def make_report(world: World, found: Explanation, locate: Locate, fleet: str = "") -> Report:
    """Put names, places and endpoints to an explanation.

    Args:
        fleet: whose proxies, where there are several.
    """

    def place(source: Source) -> Place:
        where = locate(source.object, source.field) or ("", 0)
        declared = str(source.object) if source.object.name else ITSELF
        return Place(object=declared, field=source.field, file=where[0], line=where[1])

    results: list[Result] = []
    for outcome in found.outcomes:
        endpoints, note = _endpoints(world, outcome.upstream)
        upstream = world.upstream(outcome.upstream) if outcome.upstream is not None else None
        results.append(
            Result(
                share=round(outcome.share, 6),
                status=outcome.status,
                text=outcome.text,
                route=outcome.route,
                place=place(outcome.source) if outcome.source is not None else None,
                grpc_status=outcome.grpc_status,
                closed=outcome.closed,
                request_headers=outcome.request_headers,
                response_headers=outcome.response_headers,
                location=outcome.location,
                upstream=upstream.name if upstream is not None else "",
                host=outcome.host,
                target=outcome.target,
                endpoints=endpoints,
                note=note,
            )
        )
    return Report(
        request=f"{found.request.method} {found.request.url}",
        fleet=fleet,
        listener=found.socket,
        chain=found.chain,
        table=found.table,
        virtual_host=found.virtual_host,
        routes=tuple(
            TriedRoute(
                route=step.route,
                matched=step.matched,
                reason=step.reason,
                place=place(step.source),
                guard=step.guard,
            )
            for step in found.steps
        ),
        results=tuple(results),
        applied=tuple(
            Applied(
                what=effect.what,
                text=effect.text,
                place=place(effect.source) if effect.source is not None else None,
            )
            for effect in found.effects
        ),
        hints=found.hints,
    )


def _endpoints(world: World, key: UpstreamKey | None) -> tuple[tuple[str, ...], str]:
    if key is None:
        return (), ""
    upstream = world.upstream(key)
    if upstream is not None and upstream.discovery is Discovery.DNS:
        return (), f"addresses of {upstream.dns_name}:{upstream.dns_port}, resolved by the proxy"
    every = world.endpoints(key).endpoints
    if not every:
        return (), "no endpoints"
    texts = tuple(
        (f"[{one.address}]" if ":" in one.address else one.address) + (f":{one.port}" if one.port else "")
        for one in every
    )
    draining = sum(one.health == "draining" for one in every)
    return texts, f"{draining} draining" if draining else ""
