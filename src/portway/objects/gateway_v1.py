"""Gateway API: GatewayClass, Gateway, ListenerSet.

Source: Gateway API v1.7, `apis/v1/gatewayclass_types.go`, `gateway_types.go`, `listenerset_types.go`; fields marked
experimental are in the Experimental channel only.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import msgspec

from portway.objects.filters_v1 import HTTPExternalAuthFilter
from portway.objects.meta import LabelSelector, Meta, Part
from portway.objects.references_v1 import (
    GATEWAY_GROUP,
    GatewayDefaultScope,
    LocalObjectReference,
    ObjectReference,
    ParentGatewayReference,
    SecretObjectReference,
)
from portway.objects.scalars import (
    ADDRESS_TYPE,
    PROTOCOL,
    AnnotationValue,
    ControllerName,
    Group,
    Hostname,
    KindName,
    LabelValue,
    Namespace,
    ObjectName,
    PortNumber,
    SectionName,
)


class ParametersReference(Part, frozen=True, kw_only=True):
    """Settings of a GatewayClass."""

    group: Group
    kind: KindName
    name: ObjectName
    namespace: Namespace | None = None


class GatewayClassSpec(Part, frozen=True, kw_only=True):
    """Which controller serves the class, and how."""

    controller_name: ControllerName
    """A path with a domain, such as `portway.dev/gateway-controller`."""
    parameters_ref: ParametersReference | None = None
    description: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class GatewayClass(Part, frozen=True, kw_only=True):
    """A class of Gateways."""

    metadata: Meta
    spec: GatewayClassSpec


class ListenerProtocol(StrEnum):
    """The protocols that the API itself names; a listener's `protocol` may be another, domain-prefixed one."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"
    TLS = "TLS"
    TCP = "TCP"
    UDP = "UDP"


class TLSMode(StrEnum):
    """What a listener does with TLS."""

    TERMINATE = "Terminate"
    PASSTHROUGH = "Passthrough"


class ListenerTLSConfig(Part, frozen=True, kw_only=True):
    """TLS of a listener."""

    mode: TLSMode = TLSMode.TERMINATE
    certificate_refs: Annotated[tuple[SecretObjectReference, ...], msgspec.Meta(max_length=64)] = ()
    options: Annotated[Mapping[str, AnnotationValue], msgspec.Meta(max_length=16)] = msgspec.field(default_factory=dict)


class RouteFrom(StrEnum):
    """Which namespaces' routes a listener takes."""

    ALL = "All"
    SELECTOR = "Selector"
    SAME = "Same"


class RouteNamespaces(Part, frozen=True, kw_only=True):
    """Which namespaces' routes a listener takes."""

    from_: RouteFrom = msgspec.field(default=RouteFrom.SAME, name="from")
    selector: LabelSelector | None = None


class RouteGroupKind(Part, frozen=True, kw_only=True):
    """A kind of route."""

    group: Group = GATEWAY_GROUP
    kind: KindName


class AllowedRoutes(Part, frozen=True, kw_only=True):
    """Which routes a listener takes. No kinds: all that its protocol can carry."""

    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: Annotated[tuple[RouteGroupKind, ...], msgspec.Meta(max_length=8)] = ()


class ListenerFilterType(StrEnum):
    """Filters for all requests of a listener (experimental)."""

    EXTERNAL_AUTH = "ExternalAuth"
    EXTENSION_REF = "ExtensionRef"


class ListenerRequestFilter(Part, frozen=True, kw_only=True):
    """A filter for all requests of a listener (experimental)."""

    type: ListenerFilterType
    external_auth: HTTPExternalAuthFilter | None = None
    extension_ref: LocalObjectReference | None = None


class ListenerFilters(Part, frozen=True, kw_only=True):
    """Filters of a listener (experimental)."""

    requests: Annotated[tuple[ListenerRequestFilter, ...], msgspec.Meta(max_length=16)] = ()


class Listener(Part, frozen=True, kw_only=True):
    """One listener of a Gateway, or (as an entry) of a ListenerSet."""

    name: SectionName
    hostname: Hostname | None = None
    """None: every host."""
    port: PortNumber
    protocol: Annotated[
        str,
        msgspec.Meta(
            pattern=PROTOCOL,
            min_length=1,
            max_length=255,
            description="HTTP, HTTPS, TLS, TCP, UDP or a name with a domain before it",
        ),
    ]
    tls: ListenerTLSConfig | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()
    filters: ListenerFilters | None = None
    """Experimental."""


Listeners = Annotated[tuple[Listener, ...], msgspec.Meta(min_length=1, max_length=64, extra={"unique_by": ("name",)})]


class GatewaySpecAddress(Part, frozen=True, kw_only=True):
    """An address that a Gateway asks for."""

    type: Annotated[
        str,
        msgspec.Meta(
            pattern=ADDRESS_TYPE,
            min_length=1,
            max_length=253,
            description="IPAddress, Hostname, NamedAddress or a name with a domain before it",
        ),
    ] = "IPAddress"
    value: Annotated[str, msgspec.Meta(max_length=253)] | None = None
    """None: an address of this type is to be allocated."""
    routability: Annotated[str, msgspec.Meta(max_length=253)] | None = None
    """From where it can be reached (experimental)."""


class GatewayInfrastructure(Part, frozen=True, kw_only=True):
    """What the resources behind a Gateway should carry."""

    labels: Annotated[Mapping[str, LabelValue], msgspec.Meta(max_length=8)] = msgspec.field(default_factory=dict)
    annotations: Annotated[Mapping[str, AnnotationValue], msgspec.Meta(max_length=16)] = msgspec.field(
        default_factory=dict
    )
    parameters_ref: LocalObjectReference | None = None


class ListenerSetFrom(StrEnum):
    """Which namespaces' ListenerSets a Gateway takes."""

    ALL = "All"
    SELECTOR = "Selector"
    SAME = "Same"
    NONE = "None"


class ListenerNamespaces(Part, frozen=True, kw_only=True):
    """Which namespaces' ListenerSets a Gateway takes."""

    from_: ListenerSetFrom = msgspec.field(default=ListenerSetFrom.NONE, name="from")
    selector: LabelSelector | None = None


class AllowedListeners(Part, frozen=True, kw_only=True):
    """Which ListenerSets a Gateway takes."""

    namespaces: ListenerNamespaces = ListenerNamespaces()


class FrontendValidationMode(StrEnum):
    """What happens to clients without a valid certificate."""

    ALLOW_VALID_ONLY = "AllowValidOnly"
    ALLOW_INSECURE_FALLBACK = "AllowInsecureFallback"


class FrontendTLSValidation(Part, frozen=True, kw_only=True):
    """How client certificates are checked."""

    ca_certificate_refs: Annotated[tuple[ObjectReference, ...], msgspec.Meta(min_length=1, max_length=16)]
    mode: FrontendValidationMode = FrontendValidationMode.ALLOW_VALID_ONLY


class FrontendTLSConfigValue(Part, frozen=True, kw_only=True):
    """TLS towards clients. No validation: clients are not asked for a certificate."""

    validation: FrontendTLSValidation | None = None


class TLSPortConfig(Part, frozen=True, kw_only=True):
    """TLS towards clients on one port."""

    port: PortNumber
    tls: FrontendTLSConfigValue


class FrontendTLSConfig(Part, frozen=True, kw_only=True):
    """TLS towards clients: a default for all HTTPS listeners, and ports that differ."""

    default: FrontendTLSConfigValue
    per_port: Annotated[tuple[TLSPortConfig, ...], msgspec.Meta(max_length=64, extra={"unique_by": ("port",)})] = ()


class GatewayBackendTLS(Part, frozen=True, kw_only=True):
    """TLS towards backends."""

    client_certificate_ref: SecretObjectReference | None = None


class GatewayTLSConfig(Part, frozen=True, kw_only=True):
    """TLS of a whole Gateway."""

    backend: GatewayBackendTLS | None = None
    frontend: FrontendTLSConfig | None = None


class GatewaySpec(Part, frozen=True, kw_only=True):
    """What a Gateway asks for."""

    gateway_class_name: ObjectName
    listeners: Listeners
    addresses: Annotated[tuple[GatewaySpecAddress, ...], msgspec.Meta(max_length=16)] = ()
    infrastructure: GatewayInfrastructure | None = None
    allowed_listeners: AllowedListeners | None = None
    """None: no ListenerSet is allowed."""
    tls: GatewayTLSConfig | None = None
    default_scope: GatewayDefaultScope | None = None
    """Experimental."""


class Gateway(Part, frozen=True, kw_only=True):
    """Where traffic comes in."""

    metadata: Meta
    spec: GatewaySpec


class ListenerSetSpec(Part, frozen=True, kw_only=True):
    """Listeners that a team adds to somebody's Gateway."""

    parent_ref: ParentGatewayReference
    listeners: Listeners


class ListenerSet(Part, frozen=True, kw_only=True):
    """Listeners that a team adds to somebody's Gateway."""

    metadata: Meta
    spec: ListenerSetSpec
