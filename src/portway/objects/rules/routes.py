"""Rules that all kinds of routes share.

Source: Gateway API v1.7, Experimental channel. The Standard channel compares parentRefs by `sectionName` alone and does
not look at `port`, so it refuses two references that differ only in their port.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final, Protocol

from portway.objects.problems import Problem, duplicates, quoted
from portway.objects.references_v1 import LocalPolicyTargetReferenceWithSectionName, ParentReference


class HasParentRefs(Protocol):
    """The spec of any route."""

    @property
    def parent_refs(self) -> tuple[ParentReference, ...]: ...


class Named(Protocol):
    """A rule of any route."""

    @property
    def name(self) -> str | None: ...


class HasRules(Protocol):
    """The spec of any route."""

    @property
    def rules(self) -> Sequence[Named]: ...


class HasMatches(Protocol):
    """A rule of an HTTPRoute or GRPCRoute."""

    @property
    def matches(self) -> Sequence[object]: ...


class HasRulesWithMatches(Protocol):
    """The spec of an HTTPRoute or GRPCRoute."""

    @property
    def rules(self) -> Sequence[HasMatches]: ...


class IsBackendReference(Protocol):
    """Any reference to a backend."""

    @property
    def group(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def port(self) -> int | None: ...


_X_GROUP: Final = "gateway.networking.x-k8s.io"

MAX_MATCHES: Final = 128
"""Of all rules of one route together."""


def parent_refs(spec: HasParentRefs) -> Iterator[Problem]:
    """References to the same parent must say which part of it each means, and each another one."""
    if len(spec.parent_refs) < 2:
        return
    first_of: dict[tuple[str, ...], tuple[int, ParentReference]] = {}
    for index, reference in enumerate(spec.parent_refs):
        parent = (reference.group, reference.kind, reference.namespace or "", reference.name)
        before, first = first_of.setdefault(parent, (index, reference))
        has_section = (reference.section_name is None) == (first.section_name is None)
        has_port = (reference.port is None) == (first.port is None)
        if not (has_section and has_port):
            problem = f"names the same parent as parentRefs[{before}], but only one of them has a sectionName or port"
            yield Problem(("parentRefs", index), problem, "give the same of the two to both")
    parts = [
        (ref.group, ref.kind, ref.namespace or "", ref.name, ref.section_name, ref.port) for ref in spec.parent_refs
    ]
    for index, before, _ in duplicates(parts):
        yield Problem(("parentRefs", index), f"is the same as parentRefs[{before}]", "remove one, or give another part")


def target_refs(targets: Sequence[LocalPolicyTargetReferenceWithSectionName]) -> Iterator[Problem]:
    """References of a policy to the same object must say which part of it each means, and each another one."""
    first_of: dict[tuple[str, ...], tuple[int, bool]] = {}
    for index, target in enumerate(targets):
        whole = target.section_name is None
        before, first_whole = first_of.setdefault((target.group, target.kind, target.name), (index, whole))
        if whole != first_whole:
            problem = f"names the same object as targetRefs[{before}], but only one of them has a sectionName"
            yield Problem(("targetRefs", index), problem, "give a sectionName to both, or keep the whole object")
    for index, before, _ in duplicates(targets):
        yield Problem(("targetRefs", index), f"is the same as targetRefs[{before}]", "remove one")


def rule_names(spec: HasRules) -> Iterator[Problem]:
    """Names of rules are unique within a route."""
    named = [(index, rule.name) for index, rule in enumerate(spec.rules) if rule.name is not None]
    for position, before, _ in duplicates(name for _, name in named):
        index, name = named[position]
        problem = f"{quoted(name)} is the name of rules[{named[before][0]}] already"
        yield Problem(("rules", index, "name"), problem, "name each rule differently")


def total_matches(spec: HasRulesWithMatches) -> Iterable[Problem]:
    """All rules of a route together have a bounded number of matches."""
    total = sum(len(rule.matches) for rule in spec.rules)
    if total > MAX_MATCHES:
        problem = f"have {total} matches together, more than the {MAX_MATCHES} allowed"
        return (Problem(("rules",), problem, "split the route into several"),)
    return ()


def backend_port(reference: IsBackendReference) -> Iterable[Problem]:
    """A Service is referred to with a port, an experimental XBackend without."""
    if reference.kind == "Service" and not reference.group:
        if reference.port is None:
            return (Problem(("port",), "is required for a Service, but not set", "write the Service port's number"),)
    elif reference.kind == "XBackend" and reference.group == _X_GROUP and reference.port is not None:
        return (Problem(("port",), "is set, but an XBackend has its own port", "remove the port"),)
    return ()


def named_field(
    chosen: StrEnum, fields: Mapping[StrEnum, tuple[str, object]], discriminator: str = "type"
) -> Iterable[Problem]:
    """Of a union, exactly the field that `type` names is set.

    Args:
        chosen: value of the discriminator.
        fields: for each value the field's name and what it holds.
        discriminator: name of the deciding field.
    """
    wanted = fields.get(chosen)
    if wanted is not None and wanted[1] is None:
        yield Problem((wanted[0],), f"is required for {discriminator} {chosen}, but not set", "set it")
    for value, (name, found) in fields.items():
        if found is not None and value is not chosen:
            remedy = f"remove it, or set {discriminator} to {value}"
            yield Problem((name,), f"is set, but {discriminator} is {chosen}", remedy)


def not_repeated(types: Sequence[StrEnum], once: Sequence[StrEnum]) -> Iterator[Problem]:
    """Some filters may occur only once in a list."""
    if len(types) < 2:
        return
    for index, before, found in duplicates(types):
        if found in once:
            problem = f"{found} is there already, as filters[{before}], and may not be repeated"
            yield Problem(("filters", index), problem, "merge the two")
