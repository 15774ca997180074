"""The typed handles by which stages read one another.

`translate/` binds the queries and feeds the relations, `envoy/` and `explain/` read them; none of them knows another.
The order of `RELATIONS` is the order of evaluation: a feed reads groups of earlier relations only.
"""

from collections.abc import Mapping

from portway.incremental import Query, Relation
from portway.model.condition import ObjectReport
from portway.model.edge import Edge
from portway.model.fleet import Fleet, Infrastructure, ObservedFleet
from portway.model.listener import Listener
from portway.model.local import OwnPlaces
from portway.model.names import HostKey, SecretKey, SocketKey, TableKey, UpstreamKey
from portway.model.route import RouteTable, VirtualHost
from portway.model.tls import Secret
from portway.model.unread import Unread
from portway.model.upstream import Endpoints, Upstream
from portway.objects.verdict import ObjectKey
from portway.store import Input

EDGE: Input[None, Edge] = Input("edge")
"""The settings that decide what is compiled; key `None`."""
INFRASTRUCTURE: Input[None, Infrastructure] = Input("infrastructure", default=Infrastructure())
"""Where proxies run; key `None`."""
OBSERVED_FLEET: Input[str, ObservedFleet] = Input("observed fleet", default=ObservedFleet(unseen=True))
"""What the infrastructure found out about a fleet, by its name. Only reports read it: no proxy is told."""
OWN_PLACES: Input[None, OwnPlaces] = Input("own places", default=OwnPlaces())
"""What nobody may be sent to; key `None`."""
UNREAD: Input[None, Unread] = Input("unread objects", default=Unread())
"""What may be declared although no source reports it; key `None`. Read only where something is missing."""
GATEWAY_DEFINITIONS: Input[None, Mapping[str, str]] = Input("Gateway API's definitions", default={})
"""Release (bundle version) of each definition of Gateway API in the cluster, by its name, empty where it does not say;
key `None`. Nothing: not known."""
UNAVAILABLE: Input[SocketKey, str] = Input("unavailable socket", default="")
"""Why a socket cannot be had, as the infrastructure found out (a foreign process holds it, no right to bind); empty:
it can."""
FALLBACK_CERTIFICATE: Input[None, Secret] = Input("fallback certificate")
"""Served where no other certificate fits, unless the operator names a Secret; made once and kept by the shell."""

FLEETS: Relation[str, bool] = Relation("fleets")
"""Which fleets are to be made; none on `host` infrastructure."""
VIRTUAL_HOSTS: Relation[HostKey, bool] = Relation("virtual hosts")
"""Which virtual hosts there are; a row per object that contributes to one."""
TABLES: Relation[TableKey, bool] = Relation("route tables")
SOCKETS: Relation[SocketKey, bool] = Relation("sockets")
UPSTREAM_USES: Relation[tuple[str, UpstreamKey], bool] = Relation("upstream uses")
"""Which fleet needs which upstream; fed from virtual hosts and listeners, so that exactly what is used is there."""
SECRET_USES: Relation[tuple[str, SecretKey], bool] = Relation("secret uses")

FLEET: Query[str, Fleet | None] = Query("fleet")
VIRTUAL_HOST: Query[HostKey, VirtualHost | None] = Query("virtual host")
TABLE: Query[TableKey, RouteTable] = Query("route table")
LISTENER: Query[SocketKey, Listener | None] = Query("listener")
UPSTREAM: Query[UpstreamKey, Upstream | None] = Query("upstream")
ENDPOINTS: Query[UpstreamKey, Endpoints] = Query("endpoints")
"""Reads nothing but the Service or Backend and its slices: endpoints overtake everything else."""
SECRET: Query[SecretKey, Secret | None] = Query("secret")
REPORT: Query[ObjectKey, ObjectReport] = Query("report")
"""All there is to say about one object: conditions per parent, and verdicts."""
