"""The rights that fleets in a cluster need, as the manifests of an installation are made from them.

Where Portway serves certain namespaces only, `WRITES` and `PODS` are those of Roles in these and in its own; `NODES`
are always cluster-wide. Nobody's rights grow by a fleet: its ServiceAccount is bound to no role.
"""

from typing import Final, NamedTuple

from portway.infra.kubernetes.manifests import RESOURCES


class Rule(NamedTuple):
    """A rule of a Role."""

    groups: tuple[str, ...]
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    reason: str


VERBS: Final = ("get", "list", "watch", "create", "patch", "delete")
"""Server-side apply is a patch, and a create where nothing is there. `get`: whose an object of that name is."""


def _writes() -> tuple[Rule, ...]:
    groups = dict.fromkeys(resource.group for resource in RESOURCES)
    return tuple(
        Rule(
            groups=(group,),
            resources=tuple(resource.plural for resource in RESOURCES if resource.group == group),
            verbs=VERBS,
            reason="workloads and Services of fleets",
        )
        for group in groups
    )


WRITES: Final = _writes()
PODS: Final = (Rule(("",), ("pods",), ("list", "watch"), "on which Nodes proxies run"),)
"""Only where a fleet uses NodePort (with policy Local), hostNetwork or hostPorts."""
NODES: Final = (Rule(("",), ("nodes",), ("list", "watch"), "addresses of Nodes"),)
"""As `PODS`, for NodePort with any policy."""
RULES: Final = (*WRITES, *PODS, *NODES)
"""All of them."""
