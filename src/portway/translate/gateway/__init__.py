"""Gateway API: from its objects to the model, and what is to be said about them.

The walk of a request's configuration: `gateways` (whose Gateway, which listeners) -> `attachment` (which routes at
which listeners and hosts) -> `rules` (a route's lines of a match table) -> `tables` (virtual hosts), or `streams` for
TLS, TCP and UDP -> `chains` (sockets). `reports` says what became of each object.
"""

from collections.abc import Callable, Mapping

from portway.incremental import Context, Feed, feed
from portway.model.condition import ObjectReport
from portway.model.handles import FLEETS, TABLES, VIRTUAL_HOSTS
from portway.objects.verdict import ObjectKey
from portway.store import Index
from portway.translate.gateway import chains, counts, fleets, gateways, grants, reports, streams, tables
from portway.translate.gateway.attachment import ROUTE_KINDS
from portway.translate.gateway.tables import route_table, virtual_host
from portway.translate.sockets import CHAINS, CLAIMS

__all__ = ["FEEDS", "INDEXES", "RELATIONS", "REPORTS", "route_table", "virtual_host"]

INDEXES: tuple[Index, ...] = (grants.GRANTS, gateways.LISTENER_SETS)

RELATIONS = (
    counts.ATTACHED,
    counts.GATEWAYS_OF_SERVICES,
    tables.CONTRIBUTIONS,
    streams.STREAMS,
    streams.SERVER_NAMES,
    streams.NAMES_OF_LISTENERS,
)
"""Internal, in order of evaluation; `CLAIMS` stands before, `CHAINS` after them."""

FEEDS: tuple[Feed, ...] = (
    feed(CLAIMS, "Gateway", chains.claims),
    *(feed(counts.ATTACHED, kind, counts.attached) for kind in ROUTE_KINDS),
    *(feed(counts.GATEWAYS_OF_SERVICES, kind, counts.gateways_of_services) for kind in counts.POLICY_KINDS),
    feed(tables.CONTRIBUTIONS, "HTTPRoute", tables.contributions),
    feed(tables.CONTRIBUTIONS, "GRPCRoute", tables.contributions),
    feed(streams.STREAMS, "TCPRoute", streams.streams),
    feed(streams.STREAMS, "UDPRoute", streams.streams),
    feed(streams.SERVER_NAMES, "TLSRoute", streams.server_names),
    feed(streams.NAMES_OF_LISTENERS, "TLSRoute", streams.names_of_listeners),
    feed(CHAINS, "Gateway", chains.chains),
    feed(TABLES, "Gateway", tables.tables),
    feed(FLEETS, "Gateway", fleets.fleets),
    feed(VIRTUAL_HOSTS, "Gateway", tables.listener_hosts),
    feed(VIRTUAL_HOSTS, tables.CONTRIBUTIONS, tables.route_hosts),
)

REPORTS: Mapping[str, Callable[[Context, ObjectKey], ObjectReport]] = reports.REPORTS
