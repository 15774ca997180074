"""Reads what is in `deploy/`."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from tools.make_manifests import DEPLOY

Manifest: TypeAlias = dict[str, Any]  # type: ignore[explicit-any]  # YAML of any kind, taken apart by tests


def read(folder: str) -> list[Manifest]:
    """All objects in the files of a folder; patches and kustomizations are none."""
    found = (one for path in sorted((DEPLOY / folder).glob("*.yaml")) for one in documents(path))
    return [one for one in found if one["kind"] not in ("Kustomization", "Component")]


def documents(path: Path) -> Iterator[Manifest]:
    yield from yaml.safe_load_all(path.read_text())


def find(objects: Iterable[Manifest], kind: str, name: str) -> Manifest:
    """The object of this kind and name; there is one."""
    (found,) = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def containers(objects: Iterable[Manifest]) -> list[Manifest]:
    """Of all Deployments."""
    specs = [one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment"]
    return [container for spec in specs for container in spec["containers"]]
