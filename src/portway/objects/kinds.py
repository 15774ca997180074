"""The kinds that Portway reads: their names, versions, scope and struct.

One table; sources, store and commands learn from it which kinds there are. The versions of a kind share one struct,
since Gateway API's versions differ in a few rules only and the other groups have one version each.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from portway.objects.core_v1 import ConfigMap, Namespace, Secret, Service
from portway.objects.discovery_v1 import EndpointSlice
from portway.objects.fleets_v1alpha1 import FleetParameters
from portway.objects.gateway_policies_v1 import BackendTLSPolicy, ReferenceGrant
from portway.objects.gateway_v1 import Gateway, GatewayClass, ListenerSet
from portway.objects.grpcroute_v1 import GRPCRoute
from portway.objects.httproute_v1 import HTTPRoute
from portway.objects.l4routes_v1 import TCPRoute, TLSRoute, UDPRoute
from portway.objects.meta import Object, Part
from portway.objects.networking_v1 import Ingress, IngressClass
from portway.objects.portway_v1alpha1 import PORTWAY_GROUP, Backend, UpstreamPolicy
from portway.objects.references_v1 import GATEWAY_GROUP
from portway.objects.verdict import ObjectKey


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of object."""

    name: str
    """Singular, as `kind` has it; unique in `KINDS`."""
    group: str
    """Empty for core."""
    versions: tuple[str, ...]
    """Served versions, the preferred one first."""
    plural: str
    """As in API paths."""
    namespaced: bool = True
    struct: type[Part]
    """The objects' type; has `metadata` (see `Object`)."""

    @property
    def api_versions(self) -> tuple[str, ...]:
        """What `apiVersion` may say, the preferred one first."""
        return tuple(f"{self.group}/{version}" if self.group else version for version in self.versions)


_KINDS: Final = (
    Kind(name="Namespace", group="", versions=("v1",), plural="namespaces", namespaced=False, struct=Namespace),
    Kind(name="Service", group="", versions=("v1",), plural="services", struct=Service),
    Kind(name="Secret", group="", versions=("v1",), plural="secrets", struct=Secret),
    Kind(name="ConfigMap", group="", versions=("v1",), plural="configmaps", struct=ConfigMap),
    Kind(
        name="EndpointSlice",
        group="discovery.k8s.io",
        versions=("v1",),
        plural="endpointslices",
        struct=EndpointSlice,
    ),
    Kind(name="Ingress", group="networking.k8s.io", versions=("v1",), plural="ingresses", struct=Ingress),
    Kind(
        name="IngressClass",
        group="networking.k8s.io",
        versions=("v1",),
        plural="ingressclasses",
        namespaced=False,
        struct=IngressClass,
    ),
    Kind(
        name="GatewayClass",
        group=GATEWAY_GROUP,
        versions=("v1", "v1beta1"),
        plural="gatewayclasses",
        namespaced=False,
        struct=GatewayClass,
    ),
    Kind(name="Gateway", group=GATEWAY_GROUP, versions=("v1", "v1beta1"), plural="gateways", struct=Gateway),
    Kind(name="ListenerSet", group=GATEWAY_GROUP, versions=("v1",), plural="listenersets", struct=ListenerSet),
    Kind(name="HTTPRoute", group=GATEWAY_GROUP, versions=("v1", "v1beta1"), plural="httproutes", struct=HTTPRoute),
    Kind(name="GRPCRoute", group=GATEWAY_GROUP, versions=("v1",), plural="grpcroutes", struct=GRPCRoute),
    Kind(
        name="TLSRoute",
        group=GATEWAY_GROUP,
        versions=("v1", "v1alpha3", "v1alpha2"),
        plural="tlsroutes",
        struct=TLSRoute,
    ),
    Kind(name="TCPRoute", group=GATEWAY_GROUP, versions=("v1", "v1alpha2"), plural="tcproutes", struct=TCPRoute),
    Kind(name="UDPRoute", group=GATEWAY_GROUP, versions=("v1", "v1alpha2"), plural="udproutes", struct=UDPRoute),
    Kind(
        name="ReferenceGrant",
        group=GATEWAY_GROUP,
        versions=("v1", "v1beta1"),
        plural="referencegrants",
        struct=ReferenceGrant,
    ),
    Kind(
        name="BackendTLSPolicy",
        group=GATEWAY_GROUP,
        versions=("v1", "v1alpha3"),
        plural="backendtlspolicies",
        struct=BackendTLSPolicy,
    ),
    Kind(name="Backend", group=PORTWAY_GROUP, versions=("v1alpha1",), plural="backends", struct=Backend),
    Kind(
        name="UpstreamPolicy",
        group=PORTWAY_GROUP,
        versions=("v1alpha1",),
        plural="upstreampolicies",
        struct=UpstreamPolicy,
    ),
    Kind(
        name="FleetParameters",
        group=PORTWAY_GROUP,
        versions=("v1alpha1",),
        plural="fleetparameters",
        struct=FleetParameters,
    ),
)

KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in _KINDS}
"""All kinds by name."""

_BY_API_VERSION: Final = {(api_version, kind.name): kind for kind in _KINDS for api_version in kind.api_versions}
_BY_STRUCT: Final[Mapping[type, Kind]] = {kind.struct: kind for kind in _KINDS}


def kind_of(api_version: str, kind: str) -> Kind | None:
    """The kind that an object with this `apiVersion` and `kind` has; None if Portway reads no such kind or version."""
    return _BY_API_VERSION.get((api_version, kind))


def key_of(obj: Object) -> ObjectKey:
    """Identity of an object.

    Raises:
        KeyError: `obj` is none of the structs in `KINDS`; the caller's fault.
    """
    return ObjectKey(_BY_STRUCT[type(obj)].name, obj.metadata.namespace, obj.metadata.name)
