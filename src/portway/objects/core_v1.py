"""Core v1: Service, Secret, ConfigMap, Namespace; what Portway reads of them.

Source: Kubernetes API reference v1.34, "Service", "Secret", "ConfigMap", "Namespace".
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import msgspec

from portway.objects.meta import Meta, Part
from portway.objects.scalars import PortNumber, SecretBytes


class Protocol(StrEnum):
    """Transport protocol of a port."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class ServiceType(StrEnum):
    """How a Service is exposed; Portway goes to its endpoints in every case but the last."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"
    EXTERNAL_NAME = "ExternalName"

    @classmethod
    def _missing_(cls, value: object) -> "ServiceType | None":
        return cls.CLUSTER_IP if value == "" else None  # as the API server's defaults


class SessionAffinity(StrEnum):
    """Whether a client's connections go to the same endpoint."""

    NONE = "None"
    CLIENT_IP = "ClientIP"

    @classmethod
    def _missing_(cls, value: object) -> "SessionAffinity | None":
        return cls.NONE if value == "" else None  # as the API server's defaults


class ServicePort(Part, frozen=True, kw_only=True):
    """One port of a Service."""

    name: str = ""
    """Empty only if it is the Service's only port."""
    protocol: Protocol = Protocol.TCP
    port: PortNumber
    target_port: int | str | None = None
    """Number or name of the pods' port. After parsing never None: the port itself by default."""
    app_protocol: str | None = None
    """What is spoken there: `http`, `https`, `kubernetes.io/h2c`, `kubernetes.io/ws`, `kubernetes.io/wss` or other."""


class ClientIPConfig(Part, frozen=True, kw_only=True):
    """Session affinity by client address."""

    timeout_seconds: Annotated[int, msgspec.Meta(ge=1, le=86400)] | None = None


class SessionAffinityConfig(Part, frozen=True, kw_only=True):
    """Settings of session affinity."""

    client_ip: ClientIPConfig | None = msgspec.field(default=None, name="clientIP")


class ServiceSpec(Part, frozen=True, kw_only=True):
    """What a Service offers."""

    type: ServiceType = ServiceType.CLUSTER_IP
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] = msgspec.field(default_factory=dict)
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    """`None` (the text) for a headless Service; empty in a file."""
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    external_name: str = ""
    """DNS name that stands behind a Service of type ExternalName."""
    publish_not_ready_addresses: bool = False
    session_affinity: SessionAffinity = SessionAffinity.NONE
    session_affinity_config: SessionAffinityConfig | None = None
    traffic_distribution: str | None = None
    """`PreferSameZone`, `PreferClose` or `PreferSameNode`."""


class Service(Part, frozen=True, kw_only=True):
    """A named set of endpoints."""

    metadata: Meta
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)


class Secret(Part, frozen=True, kw_only=True):
    """Confidential data: certificates with keys, CA bundles, credentials."""

    metadata: Meta
    type: str = "Opaque"
    data: Annotated[Mapping[str, SecretBytes], msgspec.Meta(extra={"secret": True})] = msgspec.field(
        default_factory=dict
    )
    string_data: Annotated[Mapping[str, str], msgspec.Meta(extra={"secret": True})] = msgspec.field(
        default_factory=dict
    )
    """Always empty after parsing: merged into `data`, over which it wins."""


class ConfigMap(Part, frozen=True, kw_only=True):
    """Plain data: CA bundles (`ca.crt`), settings."""

    metadata: Meta
    data: Mapping[str, str] = msgspec.field(default_factory=dict)
    binary_data: Mapping[str, bytes] = msgspec.field(default_factory=dict)


class Namespace(Part, frozen=True, kw_only=True):
    """A namespace; its labels are what selectors see.

    After parsing the label `kubernetes.io/metadata.name` is there, as the API server sets it.
    """

    metadata: Meta
