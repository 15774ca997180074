"""Defaults that depend on other fields. All others stand in the structs.

As the API server fills them in before it validates: objects that ask for the same are equal, whether they come from a
file or from a cluster.

Source: Kubernetes v1.37, `pkg/apis/core/v1/defaults.go`, strategies of Secret and Namespace.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeVar, cast

from msgspec.structs import replace

from portway.objects.core_v1 import (
    ClientIPConfig,
    Namespace,
    Secret,
    Service,
    ServicePort,
    SessionAffinity,
    SessionAffinityConfig,
)
from portway.objects.kinds import Kind
from portway.objects.meta import Meta, Object, Part
from portway.objects.scalars import SecretBytes

DEFAULT_NAMESPACE: Final = "default"
NAMESPACE_NAME_LABEL: Final = "kubernetes.io/metadata.name"
"""Label of every Namespace: its own name, so that selectors can choose it."""

_AFFINITY_TIMEOUT_SECONDS: Final = 10800
"""Kubernetes' `DefaultClientIPServiceAffinitySeconds`."""

O = TypeVar("O", bound=Part)  # noqa: E741


def apply_defaults(kind: Kind, obj: Part) -> Part:
    """The object as the API server would store it.

    Args:
        kind: its kind.
        obj: as decoded.

    Returns:
        The same object if nothing had to be filled in.
    """
    metadata = cast(Object, obj).metadata
    namespace = (metadata.namespace or DEFAULT_NAMESPACE) if kind.namespaced else ""
    if namespace != metadata.namespace:
        obj = _with_metadata(obj, replace(metadata, namespace=namespace))
    own = _OWN.get(kind.struct)
    return own(obj) if own is not None else obj


def _with_metadata(obj: Part, metadata: Meta) -> Part:
    return replace(obj, metadata=metadata)


def _service(service: Service) -> Service:
    spec = service.spec
    if any(port.target_port is None or port.target_port in (0, "") for port in spec.ports):
        spec = replace(spec, ports=tuple(_port(port) for port in spec.ports))
    if spec.session_affinity is SessionAffinity.CLIENT_IP and spec.session_affinity_config is None:
        timeout = ClientIPConfig(timeout_seconds=_AFFINITY_TIMEOUT_SECONDS)
        spec = replace(spec, session_affinity_config=SessionAffinityConfig(client_ip=timeout))
    elif spec.session_affinity is SessionAffinity.NONE and spec.session_affinity_config is not None:
        spec = replace(spec, session_affinity_config=None)
    return service if spec is service.spec else replace(service, spec=spec)


def _port(port: ServicePort) -> ServicePort:
    return port if port.target_port else replace(port, target_port=port.port)


def _secret(secret: Secret) -> Secret:
    if not secret.string_data:
        return secret
    # A lone surrogate cannot be stored; the API server's JSON decoder replaces it, too.
    merged = {key: SecretBytes(text.encode("utf-8", "replace")) for key, text in secret.string_data.items()}
    return replace(secret, data={**secret.data, **merged}, string_data={})


def _namespace(namespace: Namespace) -> Namespace:
    metadata = namespace.metadata
    if metadata.labels.get(NAMESPACE_NAME_LABEL) == metadata.name:
        return namespace
    labels = {**metadata.labels, NAMESPACE_NAME_LABEL: metadata.name}
    return replace(namespace, metadata=replace(metadata, labels=labels))


_Default = Callable[[Part], Part]


def _entry(struct: type[O], default: Callable[[O], O]) -> tuple[type[Part], _Default]:
    return struct, cast(_Default, default)


_OWN: Final[Mapping[type[Part], _Default]] = dict(
    [_entry(Service, _service), _entry(Secret, _secret), _entry(Namespace, _namespace)]
)
