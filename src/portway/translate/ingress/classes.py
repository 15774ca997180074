"""Which Ingresses are ours.

Source: Kubernetes, "Ingress class" and "Default IngressClass"; ingress-nginx, "Multiple Ingress controllers". The field
wins over the annotation, which is compared as it is. A default class is put into the field by an API server, when the
object is made; for an object that no API server has seen (it has no uid) it is found here.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from portway.incremental import Context, query
from portway.model.edge import Edge
from portway.model.fleet import ingress_fleet
from portway.model.handles import EDGE, INFRASTRUCTURE
from portway.objects.meta import Object
from portway.objects.networking_v1 import Ingress, IngressClass
from portway.objects.verdict import ObjectKey
from portway.store import Index, read_object

CLASS_ANNOTATION: Final = "kubernetes.io/ingress.class"
DEFAULT_ANNOTATION: Final = "ingressclass.kubernetes.io/is-default-class"


def _is_default(found: Object) -> Iterable[bool]:
    return (True,) if found.metadata.annotations.get(DEFAULT_ANNOTATION) == "true" else ()


DEFAULT_CLASSES: Final = Index("default IngressClasses", "IngressClass", _is_default)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an Ingress is ours, and why it is not."""

    ours: bool
    fleet: str = ""
    """Who serves it, if it is ours."""
    field: str = ""
    """Where the reason lies."""
    problem: str = ""
    remedy: str = ""


@query("standing of an Ingress")
def standing(ctx: Context, key: ObjectKey) -> Standing:
    """Whether the Ingress is ours; one that does not exist is not."""
    ingress = read_object(ctx, Ingress, key.namespace, key.name)
    if ingress is None:
        return Standing(ours=False, problem="does not exist")
    edge = ctx.read(EDGE, None)
    if edge.all_classes:
        return _served(ctx, edge, _class_name(ctx, edge, ingress))
    if ingress.spec.ingress_class_name is not None:
        return _by_field(ctx, edge, ingress.spec.ingress_class_name)
    annotated = ingress.metadata.annotations.get(CLASS_ANNOTATION)
    if annotated is not None:
        return _by_annotation(ctx, edge, annotated)
    default = None if ingress.metadata.uid else default_class(ctx)
    if default is not None:
        return _by_field(ctx, edge, default.metadata.name)
    if edge.watch_ingress_without_class:
        return _served(ctx, edge, edge.ingress_class)
    return Standing(
        ours=False,
        field="spec.ingressClassName",
        problem="names no class and there is no default IngressClass; it is not served by Portway",
        remedy=f"set it to an IngressClass with spec.controller {edge.controller_class}, or let the operator serve"
        " Ingresses without class (--watch-ingress-without-class)",
    )


def fleet_of(ctx: Context, class_name: str) -> str:
    """The fleet that serves the Ingresses of a class."""
    return ctx.read(EDGE, None).fleet if ctx.read(INFRASTRUCTURE, None).is_host else ingress_fleet(class_name)


def _served(ctx: Context, edge: Edge, class_name: str) -> Standing:
    """Ours. An Ingress without class is served by the fleet of the class that means us in annotations."""
    return Standing(ours=True, fleet=fleet_of(ctx, class_name or edge.ingress_class))


def _class_name(ctx: Context, edge: Edge, ingress: Ingress) -> str:
    """The class that an Ingress names, ours or not; the default one if it names none."""
    named = ingress.spec.ingress_class_name or ingress.metadata.annotations.get(CLASS_ANNOTATION)
    if named:
        return named
    default = default_class(ctx)
    return edge.ingress_class if default is None else default.metadata.name


def is_ours(edge: Edge, found: IngressClass) -> bool:
    """Whether we are the controller of the class."""
    return edge.all_classes or found.spec.controller == edge.controller_class


def default_class(ctx: Context) -> IngressClass | None:
    """The class of Ingresses that name none. Of several the newest, then the first by name, as the API server has
    it."""
    found = [read_object(ctx, IngressClass, "", key.name) for key in DEFAULT_CLASSES.read(ctx, True)]
    classes = [one for one in found if one is not None]
    classes.sort(key=lambda one: one.metadata.name)
    classes.sort(
        key=lambda one: one.metadata.creation_timestamp is not None and one.metadata.creation_timestamp.timestamp(),
        reverse=True,
    )
    return classes[0] if classes else None


def _by_field(ctx: Context, edge: Edge, name: str) -> Standing:
    found = read_object(ctx, IngressClass, "", name)
    if found is None:
        return Standing(
            ours=False,
            field="spec.ingressClassName",
            problem=f"IngressClass {name} does not exist; the Ingress is not served by Portway",
            remedy=f"declare it with spec.controller {edge.controller_class} if Portway is to serve this Ingress",
        )
    if not is_ours(edge, found):
        return Standing(
            ours=False,
            field="spec.ingressClassName",
            problem=f"IngressClass {name} belongs to the controller {found.spec.controller or '(none)'}; the Ingress is"
            " not served by Portway",
            remedy=f"name a class with spec.controller {edge.controller_class} if Portway is to serve it",
        )
    return _served(ctx, edge, name)


def _by_annotation(ctx: Context, edge: Edge, annotated: str) -> Standing:
    if annotated == edge.ingress_class:
        return _served(ctx, edge, annotated)
    return Standing(
        ours=False,
        field=f'metadata.annotations["{CLASS_ANNOTATION}"]',
        problem=f'"{annotated}" is another class; the Ingress is not served by Portway',
        remedy=f'write "{edge.ingress_class}" if Portway is to serve it',
    )
