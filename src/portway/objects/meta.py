"""What every object has: its metadata; and the shape that all our structs share.

`Part` holds the msgspec settings of all structs: camelCase on the wire, defaults left out when encoding, and no
garbage-collector tracking. The last is safe because objects are trees: nothing in them can point back.

Source: Kubernetes API conventions, "Metadata"; `k8s.io/apimachinery` `ObjectMeta`, `LabelSelector`.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Protocol

import msgspec

from portway.objects.scalars import ObjectName


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    """Base of every struct in a declared object; holds settings only."""


class Meta(Part, frozen=True, kw_only=True):
    """Metadata of an object: what Portway reads of it.

    `resourceVersion`, `managedFields` and `generation` are left out on purpose: two objects are equal when they ask for
    the same. The generation is handed out beside the object (`Parsed.generation`).
    """

    name: str
    namespace: str = ""
    """Empty for a cluster-scoped object only; `parse` fills in `default`."""
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)
    creation_timestamp: datetime | None = None
    """With time zone. None: the object comes from a file; it orders after those that have one."""
    uid: str = ""


class Object(Protocol):
    """Any of the declared objects in `KINDS`."""

    @property
    def metadata(self) -> Meta:
        """Name, namespace, labels and so on."""


class SelectorOperator(StrEnum):
    """How a label selector's requirement compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class LabelSelectorRequirement(Part, frozen=True, kw_only=True):
    """One requirement of a label selector."""

    key: str
    operator: SelectorOperator
    values: tuple[str, ...] = ()
    """For In and NotIn at least one, otherwise none."""


class LabelSelector(Part, frozen=True, kw_only=True):
    """Selects objects by labels; all requirements must hold. An empty selector selects everything."""

    match_labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()

    @property
    def makes_sense(self) -> bool:
        """Has each requirement the values that its operator compares with? The API server does not look."""
        return all(
            bool(requirement.values) == (requirement.operator in (SelectorOperator.IN, SelectorOperator.NOT_IN))
            for requirement in self.match_expressions
        )

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Do these labels fulfil all requirements? Never, if the selector makes no sense: it must not open a door.

        Source: Kubernetes, "Labels and Selectors"; `LabelSelectorAsSelector`, which refuses such a selector.
        """
        return (
            self.makes_sense
            and all(labels.get(key) == value for key, value in self.match_labels.items())
            and all(_fulfils(requirement, labels) for requirement in self.match_expressions)
        )


def _fulfils(requirement: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case SelectorOperator.IN:
            return value is not None and value in requirement.values
        case SelectorOperator.NOT_IN:
            # As in Kubernetes: an object without the label fulfils it.
            return value is None or value not in requirement.values
        case SelectorOperator.EXISTS:
            return value is not None
        case SelectorOperator.DOES_NOT_EXIST:
            return value is None


class TypedReference(Part, frozen=True, kw_only=True):
    """core v1 `TypedLocalObjectReference`: an object of any kind in the same namespace."""

    api_group: str = ""
    kind: Annotated[str, msgspec.Meta(min_length=1)]
    name: ObjectName
