"""Gateway API's two channels, and what only one of them has.

A cluster has the definitions of either channel. Portway reads the fields of the Experimental one, which has all of the
Standard one; told that the cluster is a Standard one, `unknown_fields` names the fields that its API server would drop.

Rules that differ, besides fields (v1.7; Portway goes by the Experimental channel):

- Values of header matches and header modifiers: the Standard channel bounds only their length.
- parentRefs: the Standard channel wants different `sectionName`s for references to the same parent and does not look at
  `port`.
- BackendTLSPolicy: the Standard channel takes an empty `caCertificateRefs` beside `wellKnownCACertificates`.
- Versions: the Standard channel serves no alpha version of any kind.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from portway.objects import gateway_v1, grpcroute_v1, httproute_v1, l4routes_v1
from portway.objects.meta import Part


class Channel(StrEnum):
    """Which of Gateway API's definitions a cluster has."""

    STANDARD = "standard"
    EXPERIMENTAL = "experimental"


EXPERIMENTAL_FIELDS: Final[Mapping[type[Part], frozenset[str]]] = {
    gateway_v1.GatewaySpec: frozenset({"defaultScope"}),
    gateway_v1.GatewaySpecAddress: frozenset({"routability"}),
    gateway_v1.Listener: frozenset({"filters"}),
    httproute_v1.HTTPRouteSpec: frozenset({"useDefaultGateways"}),
    httproute_v1.HTTPRouteRule: frozenset({"sessionPersistence"}),
    httproute_v1.HTTPRouteFilter: frozenset({"externalAuth"}),
    grpcroute_v1.GRPCRouteSpec: frozenset({"useDefaultGateways"}),
    grpcroute_v1.GRPCRouteRule: frozenset({"sessionPersistence"}),
    l4routes_v1.TLSRouteSpec: frozenset({"useDefaultGateways"}),
    l4routes_v1.TCPRouteSpec: frozenset({"useDefaultGateways"}),
    l4routes_v1.UDPRouteSpec: frozenset({"useDefaultGateways"}),
}
"""Fields that only the Experimental channel has, by the struct that they stand in."""
