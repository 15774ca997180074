"""Gateway API: how objects name one another.

Source: Gateway API v1.7, `apis/v1/object_reference_types.go`, `shared_types.go`, `policy_types.go`.
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from portway.objects.meta import Part
from portway.objects.scalars import Group, KindName, Namespace, ObjectName, PortNumber, SectionName, Weight

GATEWAY_GROUP = "gateway.networking.k8s.io"


class ParentReference(Part, frozen=True, kw_only=True):
    """What a route wants to be attached to: a Gateway or ListenerSet, or some of its listeners."""

    group: Group = GATEWAY_GROUP
    kind: KindName = "Gateway"
    namespace: Namespace | None = None
    """None: the route's own."""
    name: ObjectName
    section_name: SectionName | None = None
    """Name of a listener; None: all listeners."""
    port: PortNumber | None = None
    """Only listeners on this port; None: on any."""


class ParentGatewayReference(Part, frozen=True, kw_only=True):
    """The Gateway that a ListenerSet adds to."""

    group: Group = GATEWAY_GROUP
    kind: KindName = "Gateway"
    namespace: Namespace | None = None
    name: ObjectName


class BackendObjectReference(Part, frozen=True, kw_only=True):
    """A backend: a Service port, or an object of another kind."""

    group: Group = ""
    kind: KindName = "Service"
    namespace: Namespace | None = None
    """None: that of the object with the reference."""
    name: ObjectName
    port: PortNumber | None = None
    """Required for a Service."""


class BackendRef(Part, frozen=True, kw_only=True):
    """A backend with its share of the requests."""

    group: Group = ""
    kind: KindName = "Service"
    namespace: Namespace | None = None
    name: ObjectName
    port: PortNumber | None = None
    weight: Weight = 1
    """Share among the rule's backends: weight by sum of weights. 0: none."""


class LocalObjectReference(Part, frozen=True, kw_only=True):
    """An object in the same namespace."""

    group: Group
    kind: KindName
    name: ObjectName


class ObjectReference(Part, frozen=True, kw_only=True):
    """An object of any kind, perhaps in another namespace."""

    group: Group
    kind: KindName
    namespace: Namespace | None = None
    name: ObjectName


class SecretObjectReference(Part, frozen=True, kw_only=True):
    """A Secret, or another kind that holds a certificate."""

    group: Group = ""
    kind: KindName = "Secret"
    namespace: Namespace | None = None
    name: ObjectName


class LocalPolicyTargetReferenceWithSectionName(Part, frozen=True, kw_only=True):
    """What a policy is about: an object in its namespace, or a part of it."""

    group: Group
    kind: KindName
    name: ObjectName
    section_name: SectionName | None = None
    """For a Service the name of a port; None: the whole object."""


class GatewayDefaultScope(StrEnum):
    """Which routes use, or which Gateways are, defaults (experimental)."""

    ALL = "All"
    NONE = "None"


ParentRefs = Annotated[tuple[ParentReference, ...], msgspec.Meta(max_length=32)]
