"""Writes what of `deploy/` follows from code: roles with their bindings (`tools/access.py`) and
CustomResourceDefinitions (`tools/definitions.py`).

`tests/deploy` holds the files to it. Everything else there is written by hand.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import yaml

from portway.objects.kinds import KINDS
from tools.access import IN_A_CLUSTER, OUTSIDE, ROLES, Role, Rule, Scope
from tools.definitions import DEFINITIONS, definition_of

DEPLOY: Final = Path(__file__).parent.parent / "deploy"
HEAD: Final = "# Written by `make manifests`; do not edit.\n"
NAMESPACE: Final = "portway-system"
ACCOUNT: Final = "portway"
RBAC: Final = "rbac.authorization.k8s.io"
LABELS: Final = {"app.kubernetes.io/name": "portway"}

Data = dict[str, object]


class _Dumper(yaml.SafeDumper):
    """As people write manifests: no references, lists of words in one line."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: _Dumper, data: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


def _represent_list(dumper: _Dumper, data: list[object]) -> yaml.Node:
    return dumper.represent_sequence(
        "tag:yaml.org,2002:seq", data, flow_style=all(isinstance(one, str | int) for one in data)
    )


_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(str, _represent_text)


def documents(objects: Iterable[Mapping[str, object]]) -> str:
    """Objects as one file."""
    texts = (yaml.dump(one, Dumper=_Dumper, sort_keys=False, width=118, allow_unicode=True) for one in objects)
    return HEAD + "---\n".join(texts)


def role_of(role: Role) -> Data:
    """A role as Kubernetes has it."""
    labels = {**LABELS, **{f"{RBAC}/aggregate-to-{name}": "true" for name in role.aggregated_to}}
    metadata: Data = {"name": role.name, "labels": labels, "annotations": {"description": role.purpose}}
    if role.scope is Scope.OWN:
        metadata["namespace"] = NAMESPACE
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "Role" if role.scope is Scope.OWN else "ClusterRole",
        "metadata": metadata,
        "rules": [_rule_of(rule) for rule in role.rules],
    }


def _rule_of(rule: Rule) -> Data:
    found: Data = {"apiGroups": list(rule.groups), "resources": list(rule.resources)}
    if rule.names:
        found["resourceNames"] = list(rule.names)
    return {**found, "verbs": list(rule.verbs)}


def binding_of(role: Role, *, in_namespace: bool = False) -> Data:
    """Binds a role to Portway's ServiceAccount.

    Args:
        in_namespace: bind a ClusterRole in one namespace, which the kustomization names.
    """
    is_cluster_wide = role.scope is not Scope.OWN and not in_namespace
    metadata: Data = {"name": role.name, "labels": LABELS}
    if role.scope is Scope.OWN:
        metadata["namespace"] = NAMESPACE
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding" if is_cluster_wide else "RoleBinding",
        "metadata": metadata,
        "roleRef": {
            "apiGroup": RBAC,
            "kind": "Role" if role.scope is Scope.OWN else "ClusterRole",
            "name": role.name,
        },
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
    }


def files() -> Mapping[Path, str]:
    """Every file that is made, by its path."""
    people = [role for role in ROLES if role.scope is Scope.PEOPLE]
    in_namespaces = [role for role in IN_A_CLUSTER if role.scope is Scope.NAMESPACES]
    definitions = {definition.kind: definition_of(definition) for definition in DEFINITIONS}
    return {
        **{DEPLOY / "crds" / f"{KINDS[kind].plural}.yaml": documents([made]) for kind, made in definitions.items()},
        DEPLOY / "base" / "access.yaml": documents(_access(IN_A_CLUSTER, people)),
        DEPLOY / "outside" / "access.yaml": documents(_access(OUTSIDE, people)),
        DEPLOY / "namespace-access" / "bindings.yaml": documents(
            binding_of(role, in_namespace=True) for role in in_namespaces
        ),
    }


def _access(bound: Iterable[Role], people: Iterable[Role]) -> Iterator[Data]:
    for role in bound:
        yield role_of(role)
        yield binding_of(role)
    yield from map(role_of, people)


def write() -> None:
    """Write them."""
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    write()
