"""Kustomizations as an installation writes them: on top of `deploy/`, somewhere else."""

import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from tools.make_manifests import DEPLOY

OPERATOR = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: {plural}.monitoring.coreos.com}}
spec:
  group: monitoring.coreos.com
  names: {{kind: {kind}, plural: {plural}}}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}
"""
OPERATOR_KINDS = "---".join(
    OPERATOR.format(kind=kind, plural=f"{kind.lower()}s") for kind in ("ServiceMonitor", "PodMonitor")
)
"""Stand in for the kinds of the Prometheus operator, whose schemas are none of ours."""


def kustomization(
    folder: Path,
    base: str = "base",
    components: Sequence[str] = (),
    namespaces: Sequence[str] = (),
    environment: dict[str, str] | None = None,
) -> Path:
    """Write one into a folder.

    Args:
        folder: need not exist.
        base: a folder of `deploy/`.
        components: of `deploy/components/`.
        namespaces: in which Portway is given rights.
        environment: of the control plane.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in namespaces:
        _write(folder / name, {"namespace": name, "resources": [_to(folder / name, "namespace-access")]})
    container = {
        "name": "portway",
        "env": [{"name": name, "value": value} for name, value in (environment or {}).items()],
    }
    patch = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "portway", "namespace": "portway-system"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    _write(
        folder,
        {
            "resources": [_to(folder, base), *namespaces],
            "components": [_to(folder, f"components/{name}") for name in components],
            "patches": [{"patch": yaml.safe_dump(patch)}] if environment else [],
        },
    )
    return folder


def _to(folder: Path, name: str) -> str:
    # kustomize takes no absolute paths.
    return os.path.relpath(DEPLOY / name, folder)


def _write(folder: Path, content: dict[str, object]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
