"""Kubernetes objects as the harness reads them: only the fields that it uses. Source: the API reference, core/v1."""

import re
from datetime import UTC, datetime

import msgspec


class Struct(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base: frozen, field names in camel case."""


class OwnerReference(Struct, frozen=True, kw_only=True):
    kind: str
    name: str
    controller: bool = False


class Metadata(Struct, frozen=True, kw_only=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    deletion_timestamp: str = ""
    deletion_grace_period_seconds: int | None = None


class KeyToPath(Struct, frozen=True, kw_only=True):
    key: str
    path: str
    mode: int | None = None


class FieldSelector(Struct, frozen=True, kw_only=True):
    field_path: str


class ResourceSelector(Struct, frozen=True, kw_only=True):
    container_name: str = ""
    resource: str = ""


class KeySelector(Struct, frozen=True, kw_only=True):
    name: str = ""
    key: str = ""
    optional: bool = False


class SecretSource(Struct, frozen=True, kw_only=True):
    secret_name: str = ""
    name: str = ""
    """In projected volumes and `envFrom`."""

    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class ConfigMapSource(Struct, frozen=True, kw_only=True):
    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class DownwardFile(Struct, frozen=True, kw_only=True):
    path: str
    field_ref: FieldSelector | None = None


class DownwardSource(Struct, frozen=True, kw_only=True):
    items: tuple[DownwardFile, ...] = ()


class TokenSource(Struct, frozen=True, kw_only=True):
    path: str
    audience: str = ""
    expiration_seconds: int = 3600


class ProjectedPart(Struct, frozen=True, kw_only=True):
    secret: SecretSource | None = None
    config_map: ConfigMapSource | None = None
    downward_api: DownwardSource | None = msgspec.field(name="downwardAPI", default=None)
    service_account_token: TokenSource | None = None


class ProjectedSource(Struct, frozen=True, kw_only=True):
    sources: tuple[ProjectedPart, ...] = ()


class EmptyDirectory(Struct, frozen=True, kw_only=True):
    medium: str = ""


class HostPath(Struct, frozen=True, kw_only=True):
    path: str


class Volume(Struct, frozen=True, kw_only=True):
    name: str
    secret: SecretSource | None = None
    config_map: ConfigMapSource | None = None
    downward_api: DownwardSource | None = msgspec.field(name="downwardAPI", default=None)
    projected: ProjectedSource | None = None
    empty_dir: EmptyDirectory | None = None
    host_path: HostPath | None = None


class VolumeMount(Struct, frozen=True, kw_only=True):
    name: str
    mount_path: str
    sub_path: str = ""
    read_only: bool = False


class EnvironmentSource(Struct, frozen=True, kw_only=True):
    field_ref: FieldSelector | None = None
    resource_field_ref: ResourceSelector | None = None
    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None


class EnvironmentVariable(Struct, frozen=True, kw_only=True):
    name: str
    value: str = ""
    value_from: EnvironmentSource | None = None


class EnvironmentBundle(Struct, frozen=True, kw_only=True):
    prefix: str = ""
    config_map_ref: ConfigMapSource | None = None
    secret_ref: SecretSource | None = None


class ContainerPort(Struct, frozen=True, kw_only=True):
    container_port: int
    name: str = ""
    host_port: int = 0
    protocol: str = "TCP"


class HttpHeader(Struct, frozen=True, kw_only=True):
    name: str
    value: str


class HttpGet(Struct, frozen=True, kw_only=True):
    port: int | str
    path: str = "/"
    scheme: str = "HTTP"
    host: str = ""
    http_headers: tuple[HttpHeader, ...] = ()


class TcpSocket(Struct, frozen=True, kw_only=True):
    port: int | str
    host: str = ""


class Exec(Struct, frozen=True, kw_only=True):
    command: tuple[str, ...] = ()


class Sleep(Struct, frozen=True, kw_only=True):
    seconds: int


class Handler(Struct, frozen=True, kw_only=True):
    exec: Exec | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    sleep: Sleep | None = None


class Probe(Handler, frozen=True, kw_only=True):
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3


class Lifecycle(Struct, frozen=True, kw_only=True):
    post_start: Handler | None = None
    pre_stop: Handler | None = None


class SecurityContext(Struct, frozen=True, kw_only=True):
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool = False
    read_only_root_filesystem: bool = False


class Container(Struct, frozen=True, kw_only=True):
    name: str
    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvironmentVariable, ...] = ()
    env_from: tuple[EnvironmentBundle, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle = Lifecycle()
    security_context: SecurityContext = SecurityContext()
    restart_policy: str = ""
    """`Always` on an init container: a sidecar."""


class Sysctl(Struct, frozen=True, kw_only=True):
    name: str
    value: str


class PodSecurityContext(Struct, frozen=True, kw_only=True):
    run_as_user: int | None = None
    run_as_group: int | None = None
    fs_group: int | None = None
    sysctls: tuple[Sysctl, ...] = ()


class Requirement(Struct, frozen=True, kw_only=True):
    """Of node affinity, or of a label selector."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class NodeSelectorTerm(Struct, frozen=True, kw_only=True):
    match_expressions: tuple[Requirement, ...] = ()
    match_fields: tuple[Requirement, ...] = ()


class NodeSelector(Struct, frozen=True, kw_only=True):
    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class NodeAffinity(Struct, frozen=True, kw_only=True):
    required: NodeSelector | None = msgspec.field(name="requiredDuringSchedulingIgnoredDuringExecution", default=None)


class LabelSelector(Struct, frozen=True, kw_only=True):
    match_labels: dict[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()


class PodAffinityTerm(Struct, frozen=True, kw_only=True):
    topology_key: str
    label_selector: LabelSelector = LabelSelector()


class PodAntiAffinity(Struct, frozen=True, kw_only=True):
    required: tuple[PodAffinityTerm, ...] = msgspec.field(
        name="requiredDuringSchedulingIgnoredDuringExecution", default=()
    )


class Affinity(Struct, frozen=True, kw_only=True):
    node_affinity: NodeAffinity = NodeAffinity()
    pod_anti_affinity: PodAntiAffinity = PodAntiAffinity()


class SpreadConstraint(Struct, frozen=True, kw_only=True):
    topology_key: str
    label_selector: LabelSelector = LabelSelector()


class Toleration(Struct, frozen=True, kw_only=True):
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class ReadinessGate(Struct, frozen=True, kw_only=True):
    condition_type: str


class PodSpec(Struct, frozen=True, kw_only=True):
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    node_name: str = ""
    node_selector: dict[str, str] = {}
    affinity: Affinity = Affinity()
    topology_spread_constraints: tuple[SpreadConstraint, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    service_account_name: str = "default"
    host_network: bool = False
    hostname: str = ""
    subdomain: str = ""
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    security_context: PodSecurityContext = PodSecurityContext()
    readiness_gates: tuple[ReadinessGate, ...] = ()
    scheduling_gates: tuple[dict[str, str], ...] = ()


class Condition(Struct, frozen=True, kw_only=True):
    type: str
    status: str
    message: str | None = None


class ContainerStatus(Struct, frozen=True, kw_only=True):
    restart_count: int = 0


class PodStatus(Struct, frozen=True, kw_only=True):
    phase: str = ""
    conditions: tuple[Condition, ...] = ()
    pod_ip: str = msgspec.field(name="podIP", default="")
    host_ip: str = msgspec.field(name="hostIP", default="")
    container_statuses: tuple[ContainerStatus, ...] = ()

    @property
    def restarts(self) -> int:
        """How often its containers started again."""
        return sum(one.restart_count for one in self.container_statuses)


class Pod(Struct, frozen=True, kw_only=True):
    metadata: Metadata
    spec: PodSpec
    status: PodStatus = PodStatus()

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.metadata.namespace}/pods/{self.metadata.name}"

    @property
    def is_ready(self) -> bool:
        return any(one.type == "Ready" and one.status == "True" for one in self.status.conditions)


class PodList(Struct, frozen=True, kw_only=True):
    items: tuple[Pod, ...] = ()


class Secret(Struct, frozen=True, kw_only=True):
    metadata: Metadata
    data: dict[str, bytes] = {}


class ConfigMap(Struct, frozen=True, kw_only=True):
    metadata: Metadata
    data: dict[str, str] = {}
    binary_data: dict[str, bytes] = {}

    @property
    def files(self) -> dict[str, bytes]:
        """All keys as bytes."""
        return {key: value.encode() for key, value in self.data.items()} | self.binary_data


class ServicePort(Struct, frozen=True, kw_only=True):
    port: int
    name: str = ""
    protocol: str = "TCP"
    node_port: int = 0


class ServiceSpec(Struct, frozen=True, kw_only=True):
    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    load_balancer_ip: str = msgspec.field(name="loadBalancerIP", default="")
    load_balancer_class: str = ""
    ports: tuple[ServicePort, ...] = ()
    external_traffic_policy: str = ""


class Ingress(Struct, frozen=True, kw_only=True):
    ip: str = ""


class LoadBalancerStatus(Struct, frozen=True, kw_only=True):
    ingress: tuple[Ingress, ...] = ()


class ServiceStatus(Struct, frozen=True, kw_only=True):
    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Service(Struct, frozen=True, kw_only=True):
    metadata: Metadata
    spec: ServiceSpec
    status: ServiceStatus = ServiceStatus()

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"


class EndpointConditions(Struct, frozen=True, kw_only=True):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class TargetReference(Struct, frozen=True, kw_only=True):
    name: str = ""


class Endpoint(Struct, frozen=True, kw_only=True):
    addresses: tuple[str, ...]
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    node_name: str = ""


class EndpointPort(Struct, frozen=True, kw_only=True):
    port: int | None = None
    name: str = ""
    protocol: str = "TCP"


class EndpointSlice(Struct, frozen=True, kw_only=True):
    metadata: Metadata
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[EndpointPort, ...] | None = None

    @property
    def service(self) -> str:
        """`namespace/name` of the Service that it belongs to."""
        return f"{self.metadata.namespace}/{self.metadata.labels.get('kubernetes.io/service-name', '')}"


class Taint(Struct, frozen=True, kw_only=True):
    key: str
    effect: str
    value: str = ""


class NodeSpec(Struct, frozen=True, kw_only=True):
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False


class NodeStatus(Struct, frozen=True, kw_only=True):
    conditions: tuple[Condition, ...] = ()


class Node(Struct, frozen=True, kw_only=True):
    metadata: Metadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class TokenStatus(Struct, frozen=True, kw_only=True):
    token: str
    expiration_timestamp: str


class TokenRequest(Struct, frozen=True, kw_only=True):
    status: TokenStatus


def matches(requirement: Requirement, labels: dict[str, str]) -> bool:
    """Whether labels meet one requirement of a selector. Source: API reference, NodeSelectorRequirement."""
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and int(value) > int(requirement.values[0])
        case "Lt":
            return value is not None and int(value) < int(requirement.values[0])
    raise ValueError(f"operator {requirement.operator!r} of a label requirement")


def selects(selector: LabelSelector, labels: dict[str, str]) -> bool:
    """Whether a label selector selects these labels."""
    exact = all(labels.get(key) == value for key, value in selector.match_labels.items())
    return exact and all(matches(requirement, labels) for requirement in selector.match_expressions)


def field_of(pod: Pod, path: str, *, node_address: str = "", pod_address: str = "") -> str:
    """What a `fieldRef` reads. Source: Kubernetes docs, "Downward API"."""
    metadata = pod.metadata
    if found := re.fullmatch(r"metadata\.(labels|annotations)\['(.*)'\]", path):
        return (metadata.labels if found[1] == "labels" else metadata.annotations).get(found[2], "")
    fields = {
        "metadata.name": metadata.name,
        "metadata.namespace": metadata.namespace,
        "metadata.uid": metadata.uid,
        "metadata.labels": _as_lines(metadata.labels),
        "metadata.annotations": _as_lines(metadata.annotations),
        "spec.nodeName": pod.spec.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.podIP": pod_address,
        "status.podIPs": pod_address,
        "status.hostIP": node_address,
        "status.hostIPs": node_address,
    }
    return fields[path]


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _as_lines(pairs: dict[str, str]) -> str:
    return "\n".join(f'{key}="{value}"' for key, value in sorted(pairs.items()))
