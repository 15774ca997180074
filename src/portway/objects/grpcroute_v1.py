"""Gateway API: GRPCRoute.

Source: Gateway API v1.7, `apis/v1/grpcroute_types.go`; fields marked experimental are in the Experimental channel only.
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from portway.objects.filters_v1 import HTTPHeaderFilter, HTTPRequestMirrorFilter, SessionPersistence
from portway.objects.meta import Meta, Part
from portway.objects.references_v1 import GatewayDefaultScope, LocalObjectReference, ParentRefs
from portway.objects.scalars import (
    Group,
    GRPCHeaderValue,
    HeaderName,
    Hostname,
    KindName,
    Namespace,
    ObjectName,
    PortNumber,
    SectionName,
    Weight,
)


class GRPCMethodMatchType(StrEnum):
    """How service and method match."""

    EXACT = "Exact"
    REGULAR_EXPRESSION = "RegularExpression"


class GRPCHeaderMatchType(StrEnum):
    """How a field's value matches."""

    EXACT = "Exact"
    REGULAR_EXPRESSION = "RegularExpression"


class GRPCMethodMatch(Part, frozen=True, kw_only=True):
    """Matches service and method; at least one of them is set."""

    type: GRPCMethodMatchType = GRPCMethodMatchType.EXACT
    service: Annotated[str, msgspec.Meta(max_length=1024)] | None = None
    method: Annotated[str, msgspec.Meta(max_length=1024)] | None = None


class GRPCHeaderMatch(Part, frozen=True, kw_only=True):
    """Matches a field."""

    type: GRPCHeaderMatchType = GRPCHeaderMatchType.EXACT
    name: HeaderName
    value: GRPCHeaderValue


class GRPCRouteMatch(Part, frozen=True, kw_only=True):
    """One condition on requests; all its parts must hold."""

    method: GRPCMethodMatch | None = None
    headers: Annotated[tuple[GRPCHeaderMatch, ...], msgspec.Meta(max_length=16, extra={"unique_by": ("name",)})] = ()


class GRPCRouteFilterType(StrEnum):
    """Kinds of filters; each has the field of the same name."""

    RESPONSE_HEADER_MODIFIER = "ResponseHeaderModifier"
    REQUEST_HEADER_MODIFIER = "RequestHeaderModifier"
    REQUEST_MIRROR = "RequestMirror"
    EXTENSION_REF = "ExtensionRef"


class GRPCRouteFilter(Part, frozen=True, kw_only=True):
    """A filter: exactly the field that `type` names is set."""

    type: GRPCRouteFilterType
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    extension_ref: LocalObjectReference | None = None


class GRPCBackendRef(Part, frozen=True, kw_only=True):
    """A backend with its share of the requests and its own filters."""

    group: Group = ""
    kind: KindName = "Service"
    namespace: Namespace | None = None
    name: ObjectName
    port: PortNumber | None = None
    weight: Weight = 1
    filters: Annotated[tuple[GRPCRouteFilter, ...], msgspec.Meta(max_length=16)] = ()


class GRPCRouteRule(Part, frozen=True, kw_only=True):
    """What happens to the requests that one of the matches fits; no matches: to all."""

    name: SectionName | None = None
    matches: Annotated[tuple[GRPCRouteMatch, ...], msgspec.Meta(max_length=64)] = ()
    filters: Annotated[tuple[GRPCRouteFilter, ...], msgspec.Meta(max_length=16)] = ()
    backend_refs: Annotated[tuple[GRPCBackendRef, ...], msgspec.Meta(max_length=16)] = ()
    session_persistence: SessionPersistence | None = None
    """Experimental."""


class GRPCRouteSpec(Part, frozen=True, kw_only=True):
    """Rules for some hosts, attached to some Gateways."""

    parent_refs: ParentRefs = ()
    use_default_gateways: GatewayDefaultScope | None = None
    """Experimental."""
    hostnames: Annotated[tuple[Hostname, ...], msgspec.Meta(max_length=16)] = ()
    rules: Annotated[tuple[GRPCRouteRule, ...], msgspec.Meta(max_length=16)] = ()


class GRPCRoute(Part, frozen=True, kw_only=True):
    """Rules for gRPC requests."""

    metadata: Meta
    spec: GRPCRouteSpec
