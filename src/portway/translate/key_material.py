"""Which Secrets and ConfigMaps an object refers to: what a source has to have at hand.

It names everything that a query might read for an object, whether or not the reference is permitted or the object is
served at all: too much costs a little memory, too little a certificate. `tests/translate/test_key_material.py` holds it
against what the golden cases read.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from portway.objects.gateway_policies_v1 import BackendTLSPolicy
from portway.objects.gateway_v1 import Gateway, GatewayTLSConfig, Listener, ListenerSet
from portway.objects.meta import Object
from portway.objects.networking_v1 import Ingress
from portway.objects.portway_v1alpha1 import Backend
from portway.objects.verdict import ObjectKey

REFERRING: Final = frozenset({"Ingress", "Gateway", "ListenerSet", "BackendTLSPolicy", "Backend"})
"""Kinds of objects that may refer to some."""
_KINDS: Final = frozenset({"Secret", "ConfigMap"})


def key_material(obj: Object) -> Iterator[ObjectKey]:
    """Secrets and ConfigMaps to which an object refers; perhaps one of them twice, perhaps none exists."""
    namespace = obj.metadata.namespace
    match obj:
        case Ingress():
            for entry in obj.spec.tls:
                if entry.secret_name:
                    yield ObjectKey("Secret", namespace, entry.secret_name)
        case Gateway():
            yield from _of_listeners(obj.spec.listeners, namespace)
            yield from _of_gateway_tls(obj.spec.tls, namespace)
        case ListenerSet():
            yield from _of_listeners(obj.spec.listeners, namespace)
        case BackendTLSPolicy():
            for reference in obj.spec.validation.ca_certificate_refs or ():
                yield from _key(reference.group, reference.kind, namespace, reference.name)
        case Backend():
            if obj.spec.tls is not None:
                if obj.spec.tls.client_certificate_ref is not None:
                    yield ObjectKey("Secret", namespace, obj.spec.tls.client_certificate_ref.name)
                for reference in obj.spec.tls.ca_certificate_refs or ():
                    yield from _key(reference.group, reference.kind, namespace, reference.name)


def _of_listeners(listeners: Iterable[Listener], namespace: str) -> Iterator[ObjectKey]:
    for listener in listeners:
        for reference in listener.tls.certificate_refs if listener.tls is not None else ():
            yield from _key(reference.group, reference.kind, reference.namespace or namespace, reference.name)


def _of_gateway_tls(tls: GatewayTLSConfig | None, namespace: str) -> Iterator[ObjectKey]:
    if tls is None:
        return
    if tls.backend is not None and tls.backend.client_certificate_ref is not None:
        own = tls.backend.client_certificate_ref
        yield from _key(own.group, own.kind, own.namespace or namespace, own.name)
    if tls.frontend is None:
        return
    for value in (tls.frontend.default, *(port.tls for port in tls.frontend.per_port)):
        for reference in value.validation.ca_certificate_refs if value.validation is not None else ():
            yield from _key(reference.group, reference.kind, reference.namespace or namespace, reference.name)


def _key(group: str, kind: str, namespace: str, name: str) -> Iterator[ObjectKey]:
    if group == "" and kind in _KINDS:
        yield ObjectKey(kind, namespace, name)
