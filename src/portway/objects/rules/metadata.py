"""Rules for metadata.

Source: Kubernetes, "Object Names and IDs", "Labels and Selectors", "Annotations"; `ValidateObjectMeta`.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from portway.objects.kinds import KINDS
from portway.objects.meta import Meta, Object, Part
from portway.objects.problems import Problem
from portway.objects.rules.engine import Check, Table, merged, rules
from portway.objects.rules.names import (
    wrong_dns_label,
    wrong_dns_subdomain,
    wrong_label_value,
    wrong_qualified_name,
)

MAX_ANNOTATIONS_BYTES: Final = 256 * 1024
"""Kubernetes' `TotalAnnotationSizeLimitB`."""

_NAME_CHECKS: Final = {"Namespace": wrong_dns_label, "Service": wrong_dns_label}
"""Kinds whose names are not RFC 1123 subdomains. Services: relaxed from RFC 1035 by KEP-5311 (Kubernetes 1.36)."""


def _labels(meta: Meta) -> Iterator[Problem]:
    for key, value in meta.labels.items():
        wrong = wrong_qualified_name(key) or wrong_label_value(value)
        if wrong:
            yield Problem(("labels", key), *wrong)


def _annotations(meta: Meta) -> Iterator[Problem]:
    size = 0
    for key, value in meta.annotations.items():
        size += len(key) + len(value)
        wrong = wrong_qualified_name(key.lower())
        if wrong:
            yield Problem(("annotations", key), *wrong)
    # Bytes are counted only where the characters make it possible that there are too many.
    if size * 4 > MAX_ANNOTATIONS_BYTES:
        size = sum(len(text.encode("utf-8", "replace")) for pair in meta.annotations.items() for text in pair)
        if size > MAX_ANNOTATIONS_BYTES:
            problem = f"have {size:,} bytes together, more than the {MAX_ANNOTATIONS_BYTES:,} allowed"
            yield Problem(("annotations",), problem, "move large texts into a ConfigMap")


def _namespace(meta: Meta) -> Iterable[Problem]:
    if meta.namespace and (wrong := wrong_dns_label(meta.namespace)):
        return (Problem(("namespace",), *wrong),)
    return ()


def _name_check(kind: str) -> Check:
    wrong_name = _NAME_CHECKS.get(kind, wrong_dns_subdomain)

    def check(node: Part) -> Iterable[Problem]:
        name = _metadata(node).name
        if not name:
            return (Problem(("metadata", "name"), "is empty", "give the object a name"),)
        wrong = wrong_name(name)
        return (Problem(("metadata", "name"), *wrong),) if wrong else ()

    return check


def _metadata(node: object) -> Meta:
    found: Object = node  # type: ignore[assignment] # the structs in KINDS have metadata
    return found.metadata


RULES: Final[Table] = merged(
    {kind.struct: (_name_check(kind.name),) for kind in KINDS.values()},
    dict([rules(Meta, _namespace, _labels, _annotations)]),
)
"""Selectors are not among them: the API server takes any in a Gateway. One that makes no sense matches nothing."""
