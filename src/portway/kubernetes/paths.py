"""Paths of the Kubernetes API, made and read.

Source: Kubernetes docs, "API Concepts", resource URIs.
"""

from typing import NamedTuple
from urllib.parse import quote


class Target(NamedTuple):
    """What a path is about. For a path that is no resource (`/readyz`, discovery) all but `path` is empty."""

    path: str
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    """Plural, as in paths."""
    name: str = ""
    subresource: str = ""


def resource_path(
    group: str, version: str, plural: str, namespace: str = "", name: str = "", subresource: str = ""
) -> str:
    """Path of a collection, an object or a subresource.

    Args:
        group: empty for core.
        plural: the resource's name in paths: `httproutes`.
        namespace: empty: a cluster-scoped kind, or the collection over all namespaces.
        name: empty: the collection.
        subresource: such as `status`; only with a name.
    """
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    inside = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    parts = [quote(part, safe="") for part in (plural, name, subresource) if part]
    return f"{root}{inside}/{'/'.join(parts)}"


def target_of(path: str) -> Target:
    """What a path is about, the reverse of `resource_path`."""
    parts = path.strip("/").split("/")
    match parts:
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case _:
            return Target(path)
    namespace = ""
    # `/api/v1/namespaces/NAME` is an object, and `/api/v1/namespaces/NAME/status` a subresource of it.
    if len(rest) >= 3 and rest[0] == "namespaces" and not (len(rest) == 3 and rest[2] in ("status", "finalize")):
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = ([*rest, "", "", ""])[:3]
    return Target(path, group, version, namespace, resource, name, subresource) if resource else Target(path)
