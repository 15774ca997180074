"""Portway's own group, portway.dev/v1alpha1: FleetParameters, what a fleet of proxies in a cluster looks like.

A GatewayClass, a Gateway and an IngressClass can each name one. A Gateway's own are laid over those of its class, field
by field (`joined`), so nothing here has a default: `None` or empty is "not said", and what holds then is decided where
the objects of the fleet are made. The reasons for the fields and their names are in `docs/design/fleets.md`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, TypeVar

import msgspec

from portway.objects.gateway_v1 import GatewaySpecAddress
from portway.objects.meta import Meta, Part
from portway.objects.pods_v1 import (
    Affinity,
    ImagePullPolicy,
    IntOrPercent,
    LocalReference,
    PodSecurityContext,
    Profile,
    ResourceRequirements,
    SecurityContext,
    Toleration,
    TopologySpreadConstraint,
)
from portway.objects.scalars import (
    QUALIFIED_NAME_MAX,
    Duration,
    LabelValue,
    NonNegativeInt32,
    PortNumber,
    PositiveInt32,
)

# Bounds of lists and maps with rules about each entry are those within which the API server lets CEL check them.
Labels = Annotated[Mapping[str, LabelValue], msgspec.Meta(max_length=64)]
Texts = Annotated[Mapping[str, str], msgspec.Meta(max_length=64)]


class WorkloadType(StrEnum):
    """What runs the proxies."""

    DEPLOYMENT = "Deployment"
    DAEMON_SET = "DaemonSet"
    """One on each Node that its node selector takes."""


class Autoscaling(Part, frozen=True, kw_only=True):
    """A HorizontalPodAutoscaler keeps the number of proxies."""

    min_replicas: PositiveInt32 | None = None
    """None: `replicas`."""
    max_replicas: PositiveInt32
    target_cpu_percent: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = msgspec.field(
        default=None, name="targetCPUPercent"
    )
    """Average use of CPU in percent of what is requested; None: 70."""


class DisruptionBudget(Part, frozen=True, kw_only=True):
    """A PodDisruptionBudget: how many proxies may be missing while Nodes are drained. Exactly one of the two is set."""

    min_available: IntOrPercent | None = None
    max_unavailable: IntOrPercent | None = None


class WorkloadParameters(Part, frozen=True, kw_only=True):
    """What runs the proxies, and how many."""

    type: WorkloadType | None = None
    """None: Deployment."""
    replicas: NonNegativeInt32 | None = None
    """None: 2; with autoscaling its business."""
    autoscaling: Autoscaling | None = None
    disruption_budget: DisruptionBudget | None = None
    """None: one may be missing at a time, where there are several."""
    max_surge: IntOrPercent | None = None
    """New proxies beyond the wanted number during a rolling update. None: 1; 0 where they bind ports of their Node."""
    max_unavailable: IntOrPercent | None = None
    """Proxies that may be missing during a rolling update. None: 0; 1 where they bind ports of their Node."""


class PodParameters(Part, frozen=True, kw_only=True):
    """The pods of the proxies."""

    labels: Labels = msgspec.field(default_factory=dict)
    annotations: Texts = msgspec.field(default_factory=dict)
    node_selector: Labels = msgspec.field(default_factory=dict)
    tolerations: Annotated[tuple[Toleration, ...], msgspec.Meta(max_length=64)] | None = None
    affinity: Affinity | None = None
    topology_spread_constraints: tuple[TopologySpreadConstraint, ...] | None = None
    """None: evenly over zones and Nodes, as far as that can be."""
    priority_class_name: str | None = None
    image_pull_secrets: tuple[LocalReference, ...] | None = None
    host_network: bool | None = None
    """Proxies listen on the addresses of their Nodes; then one Node has one proxy of a port."""
    termination_grace_period: Duration | None = None
    """None: the drain time and a margin."""
    security_context: PodSecurityContext | None = None


class ContainerParameters(Part, frozen=True, kw_only=True):
    """The container of a proxy."""

    image: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """None: that of Portway itself."""
    image_pull_policy: ImagePullPolicy | None = None
    resources: ResourceRequirements | None = None
    host_ports: bool | None = None
    """Ports of listeners are ports of the Node, too. A listener on a new port then restarts the proxies."""
    security_context: SecurityContext | None = None


class FleetServiceType(StrEnum):
    """How proxies are reached."""

    LOAD_BALANCER = "LoadBalancer"
    NODE_PORT = "NodePort"
    CLUSTER_IP = "ClusterIP"
    NONE = "None"
    """There is no Service."""


class TrafficPolicy(StrEnum):
    """Which proxies a Node sends to."""

    CLUSTER = "Cluster"
    LOCAL = "Local"
    """Those on itself only; clients' addresses are kept."""


class IPFamilyPolicy(StrEnum):
    """Of which IP families a Service's addresses are."""

    SINGLE_STACK = "SingleStack"
    PREFER_DUAL_STACK = "PreferDualStack"
    REQUIRE_DUAL_STACK = "RequireDualStack"


class Transport(StrEnum):
    """Transport protocol of a port."""

    TCP = "TCP"
    UDP = "UDP"


class NodePort(Part, frozen=True, kw_only=True):
    """The port of all Nodes that leads to a listener's port."""

    port: PortNumber
    """Of the listener."""
    protocol: Transport = Transport.TCP
    node_port: PortNumber


class ServiceParameters(Part, frozen=True, kw_only=True):
    """The Service in front of the proxies."""

    type: FleetServiceType | None = None
    """None: LoadBalancer; with hostNetwork or hostPorts None."""
    labels: Labels = msgspec.field(default_factory=dict)
    annotations: Texts = msgspec.field(default_factory=dict)
    external_traffic_policy: TrafficPolicy | None = None
    """None: Local for a DaemonSet, else Cluster."""
    internal_traffic_policy: TrafficPolicy | None = None
    load_balancer_class: Annotated[str, msgspec.Meta(max_length=QUALIFIED_NAME_MAX)] | None = None
    load_balancer_source_ranges: (
        Annotated[tuple[Annotated[str, msgspec.Meta(max_length=64)], ...], msgspec.Meta(max_length=256)] | None
    ) = None
    allocate_load_balancer_node_ports: bool | None = None
    node_ports: (
        Annotated[tuple[NodePort, ...], msgspec.Meta(max_length=256, extra={"unique_by": ("port", "protocol")})] | None
    ) = None
    """Ports that are not named here get one of the cluster's choice."""
    ip_family_policy: IPFamilyPolicy | None = None


class LogLevel(StrEnum):
    """How much Envoy logs."""

    TRACE = "trace"
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"
    OFF = "off"


class ProxyParameters(Part, frozen=True, kw_only=True):
    """The proxies themselves."""

    log_level: LogLevel | None = None
    """None: warning."""
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    """Worker threads. None: as many cores as the container may use."""
    drain_time: Duration | None = None
    """How long requests may take to end when a proxy stops; None: that of Portway's settings."""
    max_connections: PositiveInt32 | None = None
    """Client connections per proxy; more are closed at once. None: that of Portway's settings."""
    health_port: PortNumber | None = None
    """Of probes and metrics. None: 18080; with hostNetwork one that follows from the fleet's name, since all fleets of
    a Node need another."""


class FleetParametersSpec(Part, frozen=True, kw_only=True):
    """What a fleet looks like. What is not set stays at Portway's default."""

    workload: WorkloadParameters | None = None
    pod: PodParameters | None = None
    container: ContainerParameters | None = None
    service: ServiceParameters | None = None
    proxy: ProxyParameters | None = None
    addresses: Annotated[tuple[GatewaySpecAddress, ...], msgspec.Meta(min_length=1, max_length=16)] | None = None
    """Shown in the status instead of those that are found: for a load balancer that Kubernetes knows nothing of."""


class FleetParameters(Part, frozen=True, kw_only=True):
    """What the proxies of a Gateway, a GatewayClass or an IngressClass run as in a cluster."""

    metadata: Meta
    spec: FleetParametersSpec = FleetParametersSpec()


P = TypeVar("P", bound=Part)

_WHOLE = (Affinity, DisruptionBudget, Profile)
"""Structs that are one value: their fields exclude one another, or make sense together only."""


def joined(lower: P, upper: P) -> P:
    """One struct laid over another: structs are joined field by field, maps key by key; any other value that the upper
    one has wins as a whole."""
    if isinstance(upper, _WHOLE):
        return upper
    found: dict[str, object] = {}
    for field in lower.__struct_fields__:
        low, high = getattr(lower, field), getattr(upper, field)
        if isinstance(low, Part) and isinstance(high, Part):
            found[field] = joined(low, high)
        elif isinstance(low, Mapping) and isinstance(high, Mapping):
            found[field] = {**low, **high}
        else:
            found[field] = low if high in (None, ()) else high
    return type(lower)(**found)
