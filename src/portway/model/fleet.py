"""Fleets: sets of proxies with the same configuration, and what is known of them.

On `host` infrastructure there is one, which serves everything. On `kubernetes` infrastructure each Gateway has its own
and each IngressClass, so that an address, a port or a restart of one is nothing to the others
(docs/design/fleets.md). A fleet's name says whose it is; nothing else may be read out of it.
"""

import zlib
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, NamedTuple

import msgspec

from portway.identity import contract
from portway.model.names import Transport
from portway.objects.fleets_v1alpha1 import FleetParametersSpec, PodParameters, ProxyParameters
from portway.objects.verdict import ObjectKey

_GATEWAY: Final = "gateway/"
_INGRESS: Final = "ingress/"
HOST_HEALTH_PORTS: Final = range(20_000, 30_000)
"""Below Kubernetes' node ports and Linux' ephemeral ports. Each fleet on a Node's network has one of its own."""


def gateway_fleet(gateway: ObjectKey) -> str:
    """Name of the fleet of a Gateway."""
    return f"{_GATEWAY}{gateway.namespace}/{gateway.name}"


def ingress_fleet(class_name: str) -> str:
    """Name of the fleet of an IngressClass."""
    return f"{_INGRESS}{class_name}"


def owner_of(fleet: str) -> ObjectKey | None:
    """The Gateway or IngressClass whose fleet has this name; `None` on `host` infrastructure, whose fleet is for all.

    Such a fleet may be called anything, so ask only where the infrastructure is `kubernetes`.
    """
    if fleet.startswith(_GATEWAY):
        namespace, slash, name = fleet.removeprefix(_GATEWAY).partition("/")
        return ObjectKey("Gateway", namespace, name) if slash else None
    return ObjectKey("IngressClass", "", fleet.removeprefix(_INGRESS)) if fleet.startswith(_INGRESS) else None


def is_of_gateway(fleet: str) -> bool:
    """Whether this is the name of a Gateway's fleet, whose objects go with it."""
    return fleet.startswith(_GATEWAY)


def health_port_of(fleet: str, parameters: FleetParametersSpec) -> int:
    """Where the proxies of a fleet in a cluster answer probes, and say their metrics; no listener can have it."""
    wanted = (parameters.proxy or ProxyParameters()).health_port
    if wanted is not None:
        return wanted
    if not (parameters.pod or PodParameters()).host_network:
        return contract.HEALTH_PORT
    return HOST_HEALTH_PORTS[zlib.crc32(fleet.encode()) % len(HOST_HEALTH_PORTS)]


class InfrastructureKind(StrEnum):
    HOST = "host"
    """Processes on this machine."""
    KUBERNETES = "kubernetes"
    """Workloads of a cluster."""


class Infrastructure(msgspec.Struct, frozen=True, kw_only=True):
    """Where proxies run."""

    kind: InfrastructureKind = InfrastructureKind.HOST
    namespace: str = ""
    """Portway's own: fleets of IngressClasses are made there."""
    bind_addresses: tuple[str, ...] = ("0.0.0.0",)  # noqa: S104 - all of a pod
    """On `kubernetes`: what every proxy listens on. All addresses of its pod, of the families that the cluster has."""

    @property
    def is_host(self) -> bool:
        return self.kind is InfrastructureKind.HOST


class FleetPort(NamedTuple):
    """A port that the proxies of a fleet listen on."""

    port: int
    transport: Transport


class FleetAddress(NamedTuple):
    """An address by which a fleet is reached, or wanted to be."""

    type: str
    """`IPAddress` or `Hostname`."""
    value: str


def published_address(text: str) -> FleetAddress:
    """An IP address or name that an operator has given."""
    try:
        return FleetAddress("IPAddress", str(ip_address(text)))
    except ValueError:
        return FleetAddress("Hostname", text)


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """What a fleet is to be."""

    name: str
    namespace: str
    """Where its objects are made."""
    owner: ObjectKey
    """The Gateway or IngressClass."""
    owner_uid: str = ""
    """Of the Gateway, with which its objects go. Empty for a class, which may be written anew in a moment."""
    ports: tuple[FleetPort, ...] = ()
    """Sorted, each once."""
    labels: Mapping[str, str] = {}
    """For all objects: `spec.infrastructure` of the Gateway."""
    annotations: Mapping[str, str] = {}
    parameters: FleetParametersSpec = FleetParametersSpec()
    """All that hold for it."""
    own_parameters: FleetParametersSpec = FleetParametersSpec()
    """Of these, what its owner itself names: not what the class of a Gateway does."""
    own_source: ObjectKey | None = None
    """The FleetParameters which these are; other fleets may have the same. `None`: its owner names none."""
    requested: tuple[FleetAddress, ...] = ()
    """Addresses that it is to have; empty: any."""
    held: str = ""
    """Why its objects are neither made nor changed: what is there goes on serving. Empty: they are."""


class ObservedFleet(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a fleet."""

    addresses: tuple[FleetAddress, ...] = ()
    """By which clients reach it, in a stable order, each once."""
    pending: str = "its Service and proxies have not been made yet"
    """Why there are no addresses, as far as one can tell."""
    failed: str = ""
    """Why its objects are not as they should be: the API server's own words, or who changes them. Empty: they are."""
    waiting: bool = False
    """Its proxies are to be made anew, and stay as they are until those of some other fleets have been."""
    unseen: bool = False
    """None of its objects has been seen: they are still to be made, or to be found."""
    elsewhere: bool = False
    """Its objects are there, and those of another Portway."""
