"""Where a path's requests go: from a declared backend to an upstream, or to the answer that stands for it.

Source: Kubernetes, "IngressBackend"; ingress-nginx: a Service that is missing or has no such port answers 503, a
backend that is no Service 404.
"""

from typing import Final

import msgspec

from portway.incremental import Context, query
from portway.model.checks import is_this_machine
from portway.model.handles import ENDPOINTS, UPSTREAM
from portway.model.names import UpstreamKey, UpstreamKind
from portway.model.upstream import Discovery, EndpointHealth, UpstreamSettings, settings_key
from portway.objects.core_v1 import Protocol, Service, ServicePort, ServiceType
from portway.objects.networking_v1 import IngressBackend, IngressServiceBackend, ServiceBackendPort
from portway.objects.portway_v1alpha1 import PORTWAY_GROUP, Backend
from portway.objects.verdict import ObjectKey
from portway.store import read_object
from portway.translate.absent import absent

NOT_FOUND: Final = 404
UNAVAILABLE: Final = 503


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests go."""

    upstream: UpstreamKey | None = None
    """Without a variant; `None`: nowhere, they are answered with `status`."""
    status: int = UNAVAILABLE
    problem: str = ""
    """Why there is no upstream, the middle of a sentence."""
    remedy: str = ""
    field: str = ""
    """Where the reason lies, below the backend: `service.name`."""


def place_of(ctx: Context, namespace: str, backend: IngressBackend) -> Place:
    """Where the requests for a backend go."""
    if backend.service is not None:
        return _service(ctx, namespace, backend.service)
    if backend.resource is None:
        return Place(status=NOT_FOUND, problem="names neither a Service nor a resource", remedy="name one of them")
    resource = backend.resource
    if (resource.api_group, resource.kind) != (PORTWAY_GROUP, "Backend"):
        return Place(
            status=NOT_FOUND,
            field="resource",
            problem=f"{resource.kind} of {resource.api_group or 'the core group'} cannot be sent requests",
            remedy=f"name a Service, or a Backend of {PORTWAY_GROUP}",
        )
    if read_object(ctx, Backend, namespace, resource.name) is None:
        return Place(field="resource.name", problem=absent(ctx, ObjectKey("Backend", namespace, resource.name)))
    return Place(upstream=UpstreamKey(UpstreamKind.BACKEND, namespace, resource.name, 0))


def _service(ctx: Context, namespace: str, backend: IngressServiceBackend) -> Place:
    service = read_object(ctx, Service, namespace, backend.name)
    if service is None:
        return Place(field="service.name", problem=absent(ctx, ObjectKey("Service", namespace, backend.name)))
    if service.spec.type is ServiceType.EXTERNAL_NAME and is_this_machine(service.spec.external_name):
        return Place(
            field="service.name",
            problem=f"Service {namespace}/{backend.name} stands for"
            f" {service.spec.external_name or 'nothing'}, which would be the machine of the proxies",
            remedy="set spec.externalName to the name of another machine",
        )
    number = _port_number(service, backend.port)
    if number is None:
        wanted = f'"{backend.port.name}"' if backend.port.name else str(backend.port.number)
        there = ", ".join(f"{port.port}{f' ({port.name})' if port.name else ''}" for port in service.spec.ports)
        return Place(
            field="service.port",
            problem=f"Service {namespace}/{backend.name} has no port {wanted}",
            remedy=f"name one of its ports: {there}" if there else "add the port to the Service, which has none",
        )
    return Place(upstream=UpstreamKey(UpstreamKind.SERVICE, namespace, backend.name, number))


def _port_number(service: Service, wanted: ServiceBackendPort) -> int | None:
    """The Service's port that is meant: by number or name, else by the number or name of the pods' port, as
    ingress-nginx has it. An ExternalName Service need not declare the number."""
    ports = [port for port in service.spec.ports if port.protocol is Protocol.TCP]
    for port in ports:
        if (wanted.name and port.name == wanted.name) or (wanted.number and port.port == wanted.number):
            return port.port
    for port in ports:
        if _is_target(port, wanted):
            return port.port
    if service.spec.type is ServiceType.EXTERNAL_NAME and wanted.number:
        return wanted.number
    return None


def _is_target(port: ServicePort, wanted: ServiceBackendPort) -> bool:
    target = port.target_port
    return target is not None and str(target) == (wanted.name or str(wanted.number))


def first_port(ctx: Context, namespace: str, name: str) -> Place:
    """The first port of a Service, for the annotation `default-backend`, which names no port."""
    service = read_object(ctx, Service, namespace, name)
    if service is None:
        return Place(problem=absent(ctx, ObjectKey("Service", namespace, name)))
    if not service.spec.ports:
        return Place(problem=f"Service {namespace}/{name} has no ports")
    port = service.spec.ports[0].port
    return _service(ctx, namespace, IngressServiceBackend(name=name, port=ServiceBackendPort(number=port)))


@query("whether an upstream can answer")
def can_answer(ctx: Context, key: UpstreamKey) -> bool:
    """Whether an upstream has ready endpoints, or may have (DNS). Read only by paths that do something else if not."""
    upstream = ctx.get(UPSTREAM, key)
    if upstream is None or upstream.discovery is Discovery.DNS:
        return upstream is not None
    return any(endpoint.health is EndpointHealth.HEALTHY for endpoint in ctx.get(ENDPOINTS, key).endpoints)


def with_settings(upstream: UpstreamKey, settings: UpstreamSettings) -> UpstreamKey:
    """The upstream as one of its users wants it spoken to."""
    return upstream._replace(variant=settings_key(settings))
