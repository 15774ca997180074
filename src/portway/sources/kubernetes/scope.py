"""Which collections of a cluster are followed, and with which restrictions. Pure.

- Over all namespaces one collection for each kind, the fewest requests. Restricted to namespaces, one for each kind and
  namespace, which needs no more than Roles there; the Namespaces themselves are then asked for by name.
- A label selector chooses among Ingresses and routes. What these refer to (Gateways, Services, Secrets, classes ...)
  is found whatever its labels are: it belongs to many.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from portway.kubernetes.paths import resource_path
from portway.objects.kinds import KINDS, Kind

SELECTED: Final = frozenset({"Ingress", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"})
"""Kinds to which the label selector applies."""
MATERIAL: Final = ("Secret", "ConfigMap")
"""Kinds of which only those objects are kept that somebody refers to."""
_FIELDS: Final = {"Secret": "type!=helm.sh/release.v1"}
"""Helm keeps each release of each chart as a Secret, up to 1 MiB each. Nothing can refer to one of these."""


class Followed(NamedTuple):
    """One collection."""

    kind: Kind
    namespace: str
    """Empty: all, or none for a cluster-scoped kind."""
    paths: tuple[str, ...]
    """One for each version of the kind, the preferred one first."""
    label_selector: str = ""
    field_selector: str = ""
    name: str = ""
    """Of the only object in it; empty: any."""

    def __str__(self) -> str:
        if self.name:
            return f"{self.kind.name} {self.namespace}/{self.name}"
        return f"{self.kind.name} in {self.namespace}" if self.namespace else self.kind.name


def followed(kinds: Iterable[Kind], namespaces: Sequence[str], label_selector: str) -> list[Followed]:
    """The collections of some kinds.

    Args:
        namespaces: empty: all.
        label_selector: as the API takes it; empty: everything.
    """
    return [
        one
        for kind in kinds
        for one in _of_kind(kind, sorted(set(namespaces)), label_selector if kind.name in SELECTED else "")
    ]


def _of_kind(kind: Kind, namespaces: Sequence[str], labels: str) -> list[Followed]:
    if kind is KINDS["Namespace"] and namespaces:
        return [Followed(kind, "", _paths(kind), field_selector=f"metadata.name={name}") for name in namespaces]
    fields = _FIELDS.get(kind.name, "")
    if not kind.namespaced or not namespaces:
        return [Followed(kind, "", _paths(kind), labels, fields)]
    return [Followed(kind, name, _paths(kind, name), labels, fields) for name in namespaces]


def single(kind: Kind, namespace: str, name: str) -> Followed:
    """The collection of one object: all that somebody may read whose rule names the object."""
    return Followed(kind, namespace, _paths(kind, namespace), field_selector=f"metadata.name={name}", name=name)


def _paths(kind: Kind, namespace: str = "") -> tuple[str, ...]:
    return tuple(resource_path(kind.group, version, kind.plural, namespace) for version in kind.versions)
