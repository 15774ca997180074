"""Reports in the shape that Kubernetes has for them: the fields of `status` under their own names.

What a writer knows and a report does not is left out: generations, times of transitions, and of a parentRef what its
owner left out (a namespace is always there).

Source: Gateway API, `GatewayStatus`, `ListenerStatus`, `ListenerSetStatus`, `RouteParentStatus`, `PolicyStatus`,
`GatewayClassStatus`; Kubernetes, `metav1.Condition`.
"""

from collections.abc import Iterable

import msgspec

from portway.model.condition import Condition, ListenerReport, ObjectReport, ParentReport
from portway.objects.references_v1 import GATEWAY_GROUP

POLICIES = frozenset({"BackendTLSPolicy"})
"""Kinds whose parents are called ancestors."""
HAVE_LISTENERS = frozenset({"Gateway", "ListenerSet"})


class ConditionStatus(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    status: str
    """`True` or `False`."""
    reason: str
    message: str = ""


class RouteGroupKind(msgspec.Struct, frozen=True, kw_only=True):
    group: str
    kind: str


class ListenerStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: str
    supported_kinds: tuple[RouteGroupKind, ...] = ()
    attached_routes: int
    conditions: tuple[ConditionStatus, ...]


class ParentReference(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    group: str
    kind: str
    namespace: str = ""
    name: str
    section_name: str = ""
    port: int = 0


class ParentStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    parent_ref: ParentReference
    controller_name: str
    conditions: tuple[ConditionStatus, ...]


class AncestorStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    ancestor_ref: ParentReference
    controller_name: str
    conditions: tuple[ConditionStatus, ...]


class Address(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    value: str


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    name: str


class KubernetesStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`status` of any kind; `None`: the kind has no such field, or it has no value."""

    addresses: tuple[Address, ...] | None = None
    conditions: tuple[ConditionStatus, ...] | None = None
    listeners: tuple[ListenerStatus, ...] | None = None
    attached_listener_sets: int | None = None
    parents: tuple[ParentStatus, ...] | None = None
    ancestors: tuple[AncestorStatus, ...] | None = None
    supported_features: tuple[Feature, ...] | None = None


def make_kubernetes_status(report: ObjectReport, controller: str) -> KubernetesStatus:
    """The status of an object.

    Args:
        report: all there is to say about it, `Programmed` included (`programmed.py`).
        controller: `controllerName` of what a status says about one parent.
    """
    kind = report.object.kind
    parents = report.parents or None
    return KubernetesStatus(
        addresses=tuple(Address(type=type_, value=value) for type_, value in report.addresses)
        if kind == "Gateway"
        else None,
        conditions=_conditions(report.conditions) or None,
        listeners=tuple(map(_listener, report.listeners)) if kind in HAVE_LISTENERS else None,
        attached_listener_sets=report.attached_listener_sets if kind == "Gateway" else None,
        parents=None
        if parents is None or kind in POLICIES
        else tuple(
            ParentStatus(
                parent_ref=_reference(parent),
                controller_name=controller,
                conditions=_conditions(parent.conditions),
            )
            for parent in parents
        ),
        ancestors=None
        if parents is None or kind not in POLICIES
        else tuple(
            AncestorStatus(
                ancestor_ref=_reference(parent),
                controller_name=controller,
                conditions=_conditions(parent.conditions),
            )
            for parent in parents
        ),
        supported_features=tuple(Feature(name=name) for name in report.supported_features) or None,
    )


def _conditions(conditions: Iterable[Condition]) -> tuple[ConditionStatus, ...]:
    return tuple(
        ConditionStatus(
            type=condition.type, status=str(condition.status), reason=condition.reason, message=condition.message
        )
        for condition in conditions
    )


def _listener(report: ListenerReport) -> ListenerStatus:
    return ListenerStatus(
        name=report.name,
        supported_kinds=tuple(RouteGroupKind(group=group, kind=kind) for group, kind in report.supported_kinds),
        attached_routes=report.attached_routes,
        conditions=_conditions(report.conditions),
    )


def _reference(parent: ParentReport) -> ParentReference:
    return ParentReference(
        group=GATEWAY_GROUP,
        kind=parent.parent.kind,
        namespace=parent.parent.namespace,
        name=parent.parent.name,
        section_name=parent.section,
        port=parent.port,
    )
