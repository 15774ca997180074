"""Writes docs/rbac.md from the table of `tools/access.py`; `tests/test_docs.py` holds the page to it."""

# ruff: noqa: E501 - rows of tables

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.access import OUTSIDE, ROLES, Role, Rule, Scope

PAGE: Final = Path(__file__).parent.parent / "docs" / "rbac.md"

HEAD: Final = """\
# Rights in the cluster

Written by `make docs` from `tools/access.py`, as are the roles in `deploy/`; do not edit.

Rights are cut by what they are for. An installation leaves out what it does not need, and binds in some namespaces what it
does not want to give everywhere; Portway goes on with what it has. **A right that is missing is named**: in the log and in
`portway status`, with group, resource, verbs and whether a Role or a ClusterRole is needed; it costs the kind
that it is about, nothing else, and is asked for again every half minute. A Portway that starts waits ten seconds for it,
and is ready only then: its role may be a moment behind its image.

Portway never asks for `escalate` or `bind`, for `exec`, or for tokens of others; it creates no Secret, no role and no CRD, and
of CRDs reads none but Gateway API's, by name. Proxies have no right at all: their ServiceAccounts are bound to nothing, and no
token for the API server is mounted.

| role | bound | for |
|---|---|---|
"""

_BOUND: Final = {
    Scope.CLUSTER: "in the whole cluster",
    Scope.NAMESPACES: "in the whole cluster, or in the namespaces that Portway looks at",
    Scope.OWN: "in Portway's namespace",
    Scope.PEOPLE: "to people, by you",
}

VARIANTS: Final = """\

## Less than everything

Each of these is a component of kustomize: name it in your kustomization beside `deploy/base`
([installing](installing.md#your-own-kustomization)). `tests/deploy/test_overlays.py` asks an API server what each
allows and refuses.

| component | what Portway loses | what follows |
|---|---|---|
| `namespaced` | `portway-routes`, `portway-secrets`, `portway-status` and `portway-fleets` in the whole cluster | it serves the namespaces in which `namespace-access` binds them. Events about GatewayClasses, which go to namespace `default`, are lost |
| `named-secrets` | `portway-secrets` | a rule for each Secret that is referred to |
| `without-status` | `portway-status`, `portway-classes-status` | objects are served and have no status; the setting `write-status` is off |

**Some namespaces only.** The classes, the names and labels of namespaces and the Nodes are still read in the whole cluster:
they lie in no namespace. Portway's own namespace is one of those that it looks at, for the FleetParameters of classes.

```yaml
# kustomization.yaml
resources: [../portway/deploy/base, shop, pay]
components: [../portway/deploy/components/namespaced]
patches:
- patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: portway, namespace: portway-system}
    spec:
      template:
        spec:
          containers:
          - name: portway
            env: [{name: PORTWAY_WATCH_NAMESPACE, value: "portway-system,shop,pay"}]
```

```yaml
# shop/kustomization.yaml; the same for pay
namespace: shop
resources: [../../portway/deploy/namespace-access]
```

**Named Secrets only.** With `named-secrets`, what refers to a Secret that may not be read says so until there is a rule:

```yaml
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: portway-secrets, namespace: shop}
rules:
- {apiGroups: [""], resources: [secrets], resourceNames: [shop-tls], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: portway-secrets, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: portway-secrets}
subjects: [{kind: ServiceAccount, name: portway, namespace: portway-system}]
```

ConfigMaps are read all the same where Portway starts proxies: it makes one for each fleet, and RBAC cannot tell them apart.

**Outside of the cluster** (`deploy/outside`) only these are bound: OUTSIDE_ROLES.

**To look, not to touch.** `portway check`, `explain`, `diff` and `status` read as whoever the kubeconfig names; bind
`portway-reader` to a person or a pipeline. Secrets are not in it: a certificate that cannot be read is named, and everything
else is answered.
"""


def page() -> str:
    """The whole page."""
    rows = (f"| [`{role.name}`](#{role.name}) | {_BOUND[role.scope]} | {role.purpose} |\n" for role in ROLES)
    outside = ", ".join(f"`{role.name}`" for role in OUTSIDE)
    sections = "".join("\n".join(_section(role)) for role in ROLES)
    return HEAD + "".join(rows) + VARIANTS.replace("OUTSIDE_ROLES", outside) + "\n## Every rule\n" + sections


def _section(role: Role) -> Iterator[str]:
    yield f"\n### {role.name}\n"
    yield f"{role.purpose} Bound {_BOUND[role.scope]}."
    if role.aggregated_to:
        yield f"Part of Kubernetes' own {', '.join(f'`{name}`' for name in role.aggregated_to)}."
    if role.without:
        yield f"Without it: {role.without}."
    yield "\n| group | resources | verbs | for |\n|---|---|---|---|"
    yield from map(_row, role.rules)
    yield ""


def _row(rule: Rule) -> str:
    groups = ", ".join(f"`{group}`" if group else "core" for group in rule.groups)
    resources = ", ".join(f"`{resource}`" for resource in rule.resources)
    named = f" named {', '.join(f'`{name}`' for name in rule.names)}" if rule.names else ""
    return f"| {groups} | {resources}{named} | {', '.join(rule.verbs)} | {rule.reason} |"


if __name__ == "__main__":
    PAGE.write_text(page())
