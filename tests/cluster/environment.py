"""Environment variables of containers.

Source: Kubernetes docs, "Define Environment Variables for a Container", "Define Dependent Environment Variables".
"""

import re
from collections.abc import Mapping

from tests.cluster.objects import Container, EnvironmentSource, KeySelector, Pod, field_of
from tests.cluster.volumes import SourceMissing, Sources

_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)`; an unknown name stays as it is, `$$` is a dollar."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[1] is None else variables.get(found[1], found[0])

    return _REFERENCE.sub(value, text)


def variables_of(
    container: Container,
    pod: Pod,
    sources: Sources,
    pod_address: str,
    node_address: str,
    base: Mapping[str, str],
) -> dict[str, str]:
    """The variables that a container asks for.

    Raises:
        SourceMissing: a Secret, a ConfigMap or a key does not exist and is not optional.
    """
    namespace = pod.metadata.namespace
    found: dict[str, str] = {}
    for bundle in container.env_from:
        keys: Mapping[str, bytes] = {}
        if (of_map := bundle.config_map_ref) is not None:
            keys = sources.config_map(namespace, of_map.name, optional=of_map.optional)
        elif (of_secret := bundle.secret_ref) is not None:
            keys = sources.secret(namespace, of_secret.name, optional=of_secret.optional)
        found |= {f"{bundle.prefix}{key}": value.decode() for key, value in keys.items()}
    for variable in container.env:
        if variable.value_from is None:
            found[variable.name] = expand(variable.value, {**base, **found})
            continue
        value = _value(variable.value_from, pod, sources, pod_address, node_address)
        if value is not None:
            found[variable.name] = value
    return found


def _value(source: EnvironmentSource, pod: Pod, sources: Sources, pod_address: str, node_address: str) -> str | None:
    namespace = pod.metadata.namespace
    if source.field_ref is not None:
        return field_of(pod, source.field_ref.field_path, node_address=node_address, pod_address=pod_address)
    if (wanted := source.config_map_key_ref) is not None:
        return _pick(sources.config_map(namespace, wanted.name, optional=wanted.optional), wanted)
    if (wanted := source.secret_key_ref) is not None:
        return _pick(sources.secret(namespace, wanted.name, optional=wanted.optional), wanted)
    if source.resource_field_ref is not None:
        # No limits are enforced here: what an unlimited container sees is the node's.
        return "2" if source.resource_field_ref.resource.endswith("cpu") else str(8 << 30)
    return None


def _pick(keys: Mapping[str, bytes], wanted: KeySelector) -> str | None:
    if wanted.key in keys:
        return keys[wanted.key].decode()
    if wanted.optional:
        return None
    raise SourceMissing(f"{wanted.name} has no key {wanted.key}")
