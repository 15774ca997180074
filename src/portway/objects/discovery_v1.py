"""Discovery v1: EndpointSlice.

Source: Kubernetes API reference v1.34, "EndpointSlice"; KEP-1672 (terminating conditions), KEP-2433 (topology hints).
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from portway.objects.core_v1 import Protocol
from portway.objects.meta import Meta, Part

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
"""Label that says which Service a slice belongs to."""


class AddressType(StrEnum):
    """What the addresses of a slice are; all of the same type."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"
    FQDN = "FQDN"


class EndpointConditions(Part, frozen=True, kw_only=True):
    """State of an endpoint. None: unknown, to be read as each property says."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None

    @property
    def is_ready(self) -> bool:
        """Takes new connections; unknown counts as ready."""
        return self.ready is not False

    @property
    def is_serving(self) -> bool:
        """Answers, also while it is terminating; unknown counts as `ready`."""
        return self.is_ready if self.serving is None else self.serving

    @property
    def is_terminating(self) -> bool:
        """Is shutting down; unknown counts as no."""
        return self.terminating is True


class ForZone(Part, frozen=True, kw_only=True):
    """A zone whose clients should use the endpoint."""

    name: str = ""
    """The API server takes none, too."""


class ForNode(Part, frozen=True, kw_only=True):
    """A node whose clients should use the endpoint."""

    name: str


class EndpointHints(Part, frozen=True, kw_only=True):
    """Who should use an endpoint."""

    for_zones: Annotated[tuple[ForZone, ...], msgspec.Meta(max_length=8)] = ()
    for_nodes: Annotated[tuple[ForNode, ...], msgspec.Meta(max_length=8)] = ()


class ObjectReference(Part, frozen=True, kw_only=True):
    """core v1 `ObjectReference`: the pod behind an endpoint."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class Endpoint(Part, frozen=True, kw_only=True):
    """One backend of a Service."""

    addresses: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=100)]
    """Fungible; consumers use the first."""
    conditions: EndpointConditions = EndpointConditions()
    hostname: str | None = None
    target_ref: ObjectReference | None = None
    node_name: str | None = None
    zone: str | None = None
    hints: EndpointHints | None = None


class EndpointPort(Part, frozen=True, kw_only=True):
    """A port that all endpoints of a slice have."""

    name: str = ""
    """The Service port's name; unique within the slice."""
    protocol: Protocol = Protocol.TCP
    port: int | None = None
    """None: every port."""
    app_protocol: str | None = None


class EndpointSlice(Part, frozen=True, kw_only=True):
    """Some of the endpoints of one Service."""

    metadata: Meta
    address_type: AddressType
    endpoints: Annotated[tuple[Endpoint, ...], msgspec.Meta(max_length=1000)] = ()
    ports: Annotated[tuple[EndpointPort, ...], msgspec.Meta(max_length=100)] = ()

    @property
    def service_name(self) -> str:
        """Name of the Service in the same namespace; empty if the slice belongs to none."""
        return self.metadata.labels.get(SERVICE_NAME_LABEL, "")
