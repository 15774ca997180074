"""The keys by which stages speak of the same thing. All are small, hashable, orderable and stable: made from what the
thing serves, never from a position in a list, so that an edit elsewhere renames nothing."""

from enum import StrEnum
from typing import NamedTuple

from portway.objects.verdict import ObjectKey


class Transport(StrEnum):
    TCP = "tcp"
    UDP = "udp"


class SocketKey(NamedTuple):
    """An address and port that a fleet listens on; one Envoy listener."""

    fleet: str
    """The set of proxies with the same configuration: `host`, or in a cluster one per Gateway."""
    address: str
    """IP address; `0.0.0.0` and `::` for all."""
    port: int
    transport: Transport = Transport.TCP

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}/{self.transport}"


class Dialect(StrEnum):
    """Whose rules of precedence hold in a route table."""

    INGRESS = "ingress"
    GATEWAY = "gateway"


class TableKey(NamedTuple):
    """A route table: what an HTTP filter chain looks requests up in."""

    fleet: str
    name: str
    """Unique in the fleet; becomes the name of Envoy's route configuration. Holds no `/` at its end."""
    dialect: Dialect


class HostKey(NamedTuple):
    """A virtual host of a table."""

    table: TableKey
    host: str
    """Lower-case host name, `*.suffix`, or `*` for all that no other fits."""


class UpstreamKind(StrEnum):
    SERVICE = "Service"
    BACKEND = "Backend"


class UpstreamKey(NamedTuple):
    """A port of a Service or Backend, as one particular user wants it spoken to."""

    kind: UpstreamKind
    namespace: str
    name: str
    port: int
    """The Service's port (`spec.ports[].port`); for a Backend without ports in its addresses 0."""
    variant: str = ""
    """Key of the `UpstreamSettings` that deviate from the default (`settings_key`); empty: none do. Settings are kept
    as
    canonical JSON in here, so that the key says all about the upstream and needs no registry beside it."""
    fleet: str = ""
    """Set where the upstream depends on who asks: a Gateway's client certificate, the zone of the fleet. Else empty,
    and the
    fleets share it."""

    @property
    def object(self) -> ObjectKey:
        return ObjectKey(self.kind, self.namespace, self.name)

    @property
    def place(self) -> str:
        """What is reached, for readers: `Service shop/cart port 80`, `Backend shop/legacy`."""
        return f"{self.object} port {self.port}" if self.port else str(self.object)


class SecretUse(StrEnum):
    CERTIFICATE = "certificate"
    """Certificate chain and private key."""
    AUTHORITIES = "authorities"
    """CA certificates that peers are verified against."""


class SecretKey(NamedTuple):
    """Key material that proxies need, by where it is declared."""

    use: SecretUse
    sources: tuple[ObjectKey, ...]
    """One for a certificate (a Secret); for authorities all ConfigMaps and Secrets that are trusted together, sorted.
    Empty for a certificate: the default certificate."""
