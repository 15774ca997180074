"""Which of several policies about the same port holds.

One that names the port (`sectionName`) beats one for the whole object without being in conflict with it; among equals
the older holds, then by namespace and name. Source: Gateway API, GEP-713 ("direct attachment"), GEP-1897.
"""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from portway.objects.meta import Meta
from portway.objects.references_v1 import LocalPolicyTargetReferenceWithSectionName
from portway.translate.sockets import age_of


class _Spec(Protocol):
    @property
    def target_refs(self) -> tuple[LocalPolicyTargetReferenceWithSectionName, ...]: ...


class Policy(Protocol):
    """Any object that names what it is about in `spec.targetRefs`."""

    @property
    def metadata(self) -> Meta: ...

    @property
    def spec(self) -> _Spec: ...


PolicyT = TypeVar("PolicyT", bound=Policy)


def rank(policies: Iterable[PolicyT | None], group: str, kind: str, name: str, port_name: str) -> tuple[PolicyT, ...]:
    """Those of the policies that are about a port of an object: the one that holds first, then those it beats.

    Args:
        policies: all that name the object; `None` is passed over.
        port_name: the Service's port; empty if it has no name.
    """
    found: list[tuple[bool, object, PolicyT]] = []
    for policy in policies:
        if policy is None:
            continue
        sections = {
            target.section_name
            for target in policy.spec.target_refs
            if (target.group, target.kind, target.name) == (group, kind, name)
        }
        exact = bool(port_name) and port_name in sections
        if exact or None in sections:
            found.append((not exact, age_of(policy.metadata), policy))
    return tuple(policy for _, _, policy in sorted(found, key=lambda entry: entry[:2]))
