"""Fields that a kind does not have.

A misspelt field is dropped by the API server without a word, and what it asked for does not happen. So each field that
the API does not have is named, with the nearest one that it has. Fields that the API has and Portway does not read are
no news to anybody; they stand in `UNREAD`.
"""

import functools
from collections.abc import Mapping
from typing import Final, NamedTuple

from portway.objects import core_v1, discovery_v1
from portway.objects.channels import EXPERIMENTAL_FIELDS, Channel
from portway.objects.fields import fields_of, struct_of
from portway.objects.keys import raw_key
from portway.objects.kinds import KINDS, Kind
from portway.objects.meta import Meta, Part
from portway.objects.problems import Path, Problem, as_text, did_you_mean, field_path
from portway.objects.rules.engine import lower
from portway.objects.verdict import Severity, Verdict

_EVERY_OBJECT: Final = ("apiVersion", "kind", "status")

UNREAD: Final[Mapping[type[Part], tuple[str, ...]]] = {
    Meta: (
        "generateName",
        "selfLink",
        "resourceVersion",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "ownerReferences",
        "finalizers",
        "managedFields",
    ),
    core_v1.Namespace: ("spec",),
    core_v1.Secret: ("immutable",),
    core_v1.ConfigMap: ("immutable",),
    core_v1.ServiceSpec: (
        "ipFamilies",
        "ipFamilyPolicy",
        "externalIPs",
        "externalTrafficPolicy",
        "internalTrafficPolicy",
        "healthCheckNodePort",
        "loadBalancerIP",
        "loadBalancerClass",
        "loadBalancerSourceRanges",
        "allocateLoadBalancerNodePorts",
    ),
    core_v1.ServicePort: ("nodePort",),
    discovery_v1.Endpoint: ("deprecatedTopology",),
    discovery_v1.ObjectReference: ("apiVersion", "resourceVersion", "fieldPath"),
}
"""Fields that the Kubernetes API has and Portway does not read."""


class _Child(NamedTuple):
    name: str
    names: "_Names"
    many: bool


class _Names:
    """What a struct's mapping may hold."""

    __slots__ = ("children", "experimental", "known")

    def __init__(self, known: frozenset[str], experimental: frozenset[str], children: tuple[_Child, ...]) -> None:
        self.known = known
        self.experimental = experimental
        """Fields that the channel does not have, but the other one; not in `known`."""
        self.children = children


def unknown_fields(raw: object, kind: Kind, channel: Channel = Channel.EXPERIMENTAL) -> tuple[Verdict, ...]:
    """Fields of a document that its kind does not have.

    Args:
        raw: the document as plain data, of any shape.
        kind: what it is.
        channel: whose fields there are; only Gateway API's kinds differ.

    Returns:
        Warnings, in the document's order of levels; empty if all fields are known.
    """
    problems: list[Problem] = []
    _find(raw, _names_of(kind.struct, channel), problems)
    if not problems:
        return ()
    key = raw_key(raw, kind.name, kind.namespaced)
    return tuple(
        Verdict(
            object=key,
            severity=Severity.WARNING,
            reason="UnknownField",
            field=field_path(path),
            problem=problem,
            remedy=remedy,
        )
        for path, problem, remedy in problems
    )


def _find(raw: object, names: _Names, found: list[Problem]) -> None:
    if not isinstance(raw, (dict, Mapping)):  # the quick one first; not a union, which would be made each time
        return
    if not names.known.issuperset(raw):
        for name in raw:
            if name not in names.known:
                text = as_text(name if isinstance(name, str) else str(name))
                found.append(_problem((text,), text, names))
    for name, child, many in names.children:
        value = raw.get(name)
        if value is None:
            continue
        before = len(found)
        if not many:
            _find(value, child, found)
            if len(found) > before:
                lower(found, before, (name,))
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                before = len(found)
                _find(item, child, found)
                if len(found) > before:
                    lower(found, before, (name, index))


def _problem(path: Path, name: str, names: _Names) -> Problem:
    if name in names.experimental:
        return Problem(path, "is a field of Gateway API's Experimental channel only and has no effect", "remove it")
    return Problem(
        path, "is not a field of this object and has no effect", did_you_mean(name, names.known, "remove it")
    )


@functools.cache
def _names_of(struct: type[Part], channel: Channel) -> _Names:
    experimental = EXPERIMENTAL_FIELDS.get(struct, frozenset()) if channel is Channel.STANDARD else frozenset()
    known = set(UNREAD.get(struct, ()))
    if any(kind.struct is struct for kind in KINDS.values()):
        known.update(_EVERY_OBJECT)
    children: list[_Child] = []
    for field in fields_of(struct):
        known.add(field.encode_name)
        target, many = struct_of(field.type)
        if target is not None:
            children.append(_Child(field.encode_name, _names_of(target, channel), many))
    return _Names(frozenset(known) - experimental, experimental, tuple(children))
