"""Which entry of `parents` or `ancestors` speaks of what.

A `parentRef` in status is the one of the spec with group and kind written out, and nothing else: who reads it compares
it field by field with what he wrote. So it is taken from the object itself; that of an ancestor, which no spec names,
is made here.

Source: Gateway API, `RouteParentStatus.parentRef`, `PolicyAncestorStatus.ancestorRef`.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from portway.model.condition import ObjectReport, ParentReport
from portway.objects.references_v1 import GATEWAY_GROUP
from portway.status.raw import Raw, as_list, as_map, as_number, as_text
from portway.status.shapes import POLICIES

ROUTES: Final = frozenset({"HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"})
HAVE_PARENTS: Final = ROUTES | POLICIES
"""Kinds whose status speaks of each parent by itself."""


class Identity(NamedTuple):
    """What a reference names."""

    group: str
    kind: str
    namespace: str
    name: str
    section: str
    port: int


class Reference(NamedTuple):
    """One entry that shall be there."""

    raw: Raw
    """As it stands in the status."""
    report: ParentReport


def identity_of(reference: Raw, namespace: str) -> Identity:
    """What a parentRef names.

    Args:
        reference: as in a spec or a status.
        namespace: of the object that it stands in, which is meant where it names none.
    """
    group = reference.get("group")
    return Identity(
        GATEWAY_GROUP if group is None else as_text(group),
        as_text(reference.get("kind")) or "Gateway",
        as_text(reference.get("namespace")) or namespace,
        as_text(reference.get("name")),
        as_text(reference.get("sectionName")),
        as_number(reference.get("port")),
    )


def wanted_references(current: Raw, report: ObjectReport) -> dict[Identity, Reference]:
    """The entries that shall be there, in order. A parent that the object does not name (any more) gets none.

    Args:
        current: the object as the server has it.
        report: about this object, perhaps about another generation of it.
    """
    found: dict[Identity, Reference] = {}
    if not report.ours:
        return found
    declared = dict(_declared(current, report.object.namespace))
    for parent in report.parents:
        key = parent.parent
        identity = Identity(GATEWAY_GROUP, key.kind, key.namespace, key.name, parent.section, parent.port)
        raw = written_out(identity) if report.object.kind in POLICIES else declared.get(identity)
        if raw is not None:
            found.setdefault(identity, Reference(raw, parent))
    return found


def _declared(current: Raw, namespace: str) -> Iterator[tuple[Identity, Raw]]:
    for item in as_list(as_map(current.get("spec")).get("parentRefs")):
        reference = as_map(item)
        identity = identity_of(reference, namespace)
        yield identity, {**reference, "group": identity.group, "kind": identity.kind}


def written_out(identity: Identity) -> Raw:
    """A reference with all that it names."""
    return {
        "group": identity.group,
        "kind": identity.kind,
        "namespace": identity.namespace,
        "name": identity.name,
        **({"sectionName": identity.section} if identity.section else {}),
        **({"port": identity.port} if identity.port else {}),
    }
