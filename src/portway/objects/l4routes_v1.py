"""Gateway API: TLSRoute, TCPRoute, UDPRoute.

The structs hold what any served version allows; what v1 has stricter than v1alpha2 and v1alpha3 (one rule only, hosts
of a TLSRoute required) is a rule of the version, see `portway.objects.rules.routes`.

Source: Gateway API v1.7, `apis/v1/{tls,tcp,udp}route_types.go`; fields marked experimental are in the Experimental
channel only.
"""

from typing import Annotated

import msgspec

from portway.objects.meta import Meta, Part
from portway.objects.references_v1 import BackendRef, GatewayDefaultScope, ParentRefs
from portway.objects.scalars import Hostname, SectionName


class TLSRouteRule(Part, frozen=True, kw_only=True):
    """Where the connections go."""

    name: SectionName | None = None
    backend_refs: Annotated[tuple[BackendRef, ...], msgspec.Meta(min_length=1, max_length=16)]


class TLSRouteSpec(Part, frozen=True, kw_only=True):
    """Connections for some server names (SNI)."""

    parent_refs: ParentRefs = ()
    use_default_gateways: GatewayDefaultScope | None = None
    """Experimental."""
    hostnames: Annotated[tuple[Hostname, ...], msgspec.Meta(max_length=1024)] = ()
    """Never empty in v1; empty in an older version: every name."""
    rules: Annotated[tuple[TLSRouteRule, ...], msgspec.Meta(min_length=1, max_length=16)]


class TLSRoute(Part, frozen=True, kw_only=True):
    """TLS connections, by server name."""

    metadata: Meta
    spec: TLSRouteSpec


class TCPRouteRule(Part, frozen=True, kw_only=True):
    """Where the connections go."""

    name: SectionName | None = None
    backend_refs: Annotated[tuple[BackendRef, ...], msgspec.Meta(min_length=1, max_length=16)]


class TCPRouteSpec(Part, frozen=True, kw_only=True):
    """TCP connections of a listener."""

    parent_refs: ParentRefs = ()
    use_default_gateways: GatewayDefaultScope | None = None
    """Experimental."""
    rules: Annotated[tuple[TCPRouteRule, ...], msgspec.Meta(min_length=1, max_length=16)]


class TCPRoute(Part, frozen=True, kw_only=True):
    """TCP connections."""

    metadata: Meta
    spec: TCPRouteSpec


class UDPRouteRule(Part, frozen=True, kw_only=True):
    """Where the datagrams go."""

    name: SectionName | None = None
    backend_refs: Annotated[tuple[BackendRef, ...], msgspec.Meta(min_length=1, max_length=16)]


class UDPRouteSpec(Part, frozen=True, kw_only=True):
    """Datagrams of a listener."""

    parent_refs: ParentRefs = ()
    use_default_gateways: GatewayDefaultScope | None = None
    """Experimental."""
    rules: Annotated[tuple[UDPRouteRule, ...], msgspec.Meta(min_length=1, max_length=16)]


class UDPRoute(Part, frozen=True, kw_only=True):
    """UDP datagrams."""

    metadata: Meta
    spec: UDPRouteSpec
