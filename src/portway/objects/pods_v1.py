"""Core v1: the parts of a pod that a `FleetParameters` may set, in Kubernetes' own words.

Source: Kubernetes API reference v1.34, "Pod": NodeAffinity, PodAffinity, Toleration, TopologySpreadConstraint,
ResourceRequirements, SecurityContext. Only their shape: what is wrong inside an affinity or a spread constraint the API
server says, when it refuses the pod.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import msgspec

from portway.objects.meta import LabelSelector, Part
from portway.objects.scalars import PERCENT, QUANTITY, NonNegativeInt32, ObjectName, PositiveInt32

# What a union may be msgspec cannot say; the rules check it, and the API server by these.
Quantity = Annotated[int | str, msgspec.Meta(extra_json_schema={"minimum": 0, "pattern": QUANTITY})]
"""An amount: `2`, `500m`, `128Mi` (Kubernetes, "Quantity")."""
Amounts = Annotated[Mapping[str, Quantity], msgspec.Meta(max_length=32)]
IntOrPercent = Annotated[int | str, msgspec.Meta(extra_json_schema={"minimum": 0, "pattern": PERCENT})]
"""A number of pods, or a share of them such as `25%`."""


class ResourceRequirements(Part, frozen=True, kw_only=True):
    """What a container needs and may take, by resource (`cpu`, `memory`)."""

    requests: Amounts = msgspec.field(default_factory=dict)
    limits: Amounts = msgspec.field(default_factory=dict)


class TolerationOperator(StrEnum):
    """How a toleration compares."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does to pods."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Part, frozen=True, kw_only=True):
    """A taint of Nodes that pods put up with."""

    key: str | None = None
    """None: every taint; the operator must be Exists then."""
    operator: TolerationOperator | None = None
    """None: Equal."""
    value: str | None = None
    effect: TaintEffect | None = None
    """None: all effects."""
    toleration_seconds: int | None = None
    """For NoExecute: how long; None: for ever."""


class NodeSelectorOperator(StrEnum):
    """How a requirement on a Node compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GREATER = "Gt"
    LESS = "Lt"


class NodeSelectorRequirement(Part, frozen=True, kw_only=True):
    """One requirement on a Node's labels or fields."""

    key: str
    operator: NodeSelectorOperator
    values: tuple[str, ...] = ()


class NodeSelectorTerm(Part, frozen=True, kw_only=True):
    """Requirements that hold together."""

    match_expressions: tuple[NodeSelectorRequirement, ...] = ()
    match_fields: tuple[NodeSelectorRequirement, ...] = ()


class NodeSelector(Part, frozen=True, kw_only=True):
    """Nodes that fulfil one of the terms."""

    node_selector_terms: Annotated[tuple[NodeSelectorTerm, ...], msgspec.Meta(min_length=1)]


_Weight = Annotated[int, msgspec.Meta(ge=1, le=100)]


class PreferredSchedulingTerm(Part, frozen=True, kw_only=True):
    """Nodes that are liked better."""

    weight: _Weight
    preference: NodeSelectorTerm


class NodeAffinity(Part, frozen=True, kw_only=True):
    """Which Nodes are taken."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredSchedulingTerm, ...] = ()


class PodAffinityTerm(Part, frozen=True, kw_only=True):
    """Near other pods, or away from them."""

    label_selector: LabelSelector | None = None
    namespaces: tuple[str, ...] = ()
    namespace_selector: LabelSelector | None = None
    topology_key: Annotated[str, msgspec.Meta(min_length=1)]
    match_label_keys: tuple[str, ...] = ()
    mismatch_label_keys: tuple[str, ...] = ()


class WeightedPodAffinityTerm(Part, frozen=True, kw_only=True):
    """The same as a preference."""

    weight: _Weight
    pod_affinity_term: PodAffinityTerm


class PodAffinity(Part, frozen=True, kw_only=True):
    """Near other pods (or, as anti-affinity, away from them)."""

    required_during_scheduling_ignored_during_execution: tuple[PodAffinityTerm, ...] = ()
    preferred_during_scheduling_ignored_during_execution: tuple[WeightedPodAffinityTerm, ...] = ()


class Affinity(Part, frozen=True, kw_only=True):
    """Where pods want to run."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class UnsatisfiableAction(StrEnum):
    """What happens to a pod that would break a spread constraint."""

    DO_NOT_SCHEDULE = "DoNotSchedule"
    SCHEDULE_ANYWAY = "ScheduleAnyway"


class NodeInclusion(StrEnum):
    """Whether a property of Nodes counts for a spread constraint."""

    HONOR = "Honor"
    IGNORE = "Ignore"


class TopologySpreadConstraint(Part, frozen=True, kw_only=True):
    """How pods are spread over zones or Nodes."""

    max_skew: PositiveInt32
    topology_key: Annotated[str, msgspec.Meta(min_length=1)]
    when_unsatisfiable: UnsatisfiableAction
    label_selector: LabelSelector | None = None
    """None: the pods of the fleet."""
    min_domains: PositiveInt32 | None = None
    node_affinity_policy: NodeInclusion | None = None
    node_taints_policy: NodeInclusion | None = None
    match_label_keys: tuple[str, ...] = ()


class ImagePullPolicy(StrEnum):
    """When an image is pulled."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class LocalReference(Part, frozen=True, kw_only=True):
    """An object of a known kind in the same namespace."""

    name: ObjectName


class Capabilities(Part, frozen=True, kw_only=True):
    """Linux capabilities."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class ProfileType(StrEnum):
    """Where a seccomp or AppArmor profile comes from."""

    RUNTIME_DEFAULT = "RuntimeDefault"
    UNCONFINED = "Unconfined"
    LOCALHOST = "Localhost"


class Profile(Part, frozen=True, kw_only=True):
    """A seccomp or AppArmor profile."""

    type: ProfileType
    localhost_profile: str | None = None


class SELinuxOptions(Part, frozen=True, kw_only=True):
    """SELinux labels."""

    user: str | None = None
    role: str | None = None
    type: str | None = None
    level: str | None = None


class Sysctl(Part, frozen=True, kw_only=True):
    """A kernel parameter of a pod."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    value: str


class PodSecurityContext(Part, frozen=True, kw_only=True):
    """Rights of all containers of a pod; what is not set stays as Portway has it."""

    run_as_user: NonNegativeInt32 | None = None
    run_as_group: NonNegativeInt32 | None = None
    run_as_non_root: bool | None = None
    fs_group: NonNegativeInt32 | None = None
    supplemental_groups: tuple[NonNegativeInt32, ...] = ()
    seccomp_profile: Profile | None = None
    app_armor_profile: Profile | None = None
    se_linux_options: SELinuxOptions | None = None
    sysctls: Annotated[tuple[Sysctl, ...], msgspec.Meta(extra={"unique_by": ("name",)})] | None = None
    """None: the one that lets the proxy listen below port 1024 without rights."""


class SecurityContext(Part, frozen=True, kw_only=True):
    """Rights of a container; what is not set stays as Portway has it."""

    run_as_user: NonNegativeInt32 | None = None
    run_as_group: NonNegativeInt32 | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool | None = None
    allow_privilege_escalation: bool | None = None
    privileged: bool | None = None
    capabilities: Capabilities | None = None
    seccomp_profile: Profile | None = None
    app_armor_profile: Profile | None = None
    se_linux_options: SELinuxOptions | None = None
