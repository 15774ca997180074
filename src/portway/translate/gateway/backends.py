"""What a backendRef stands for: an upstream, or the reason why there is none.

Source: Gateway API, `BackendObjectReference`; order of judgement: kind, permission, existence, port.
"""

from typing import Final
from typing import Protocol as Shape

import msgspec

from portway.incremental import Context
from portway.model.checks import is_this_machine
from portway.model.names import SecretKey, UpstreamKey, UpstreamKind
from portway.model.upstream import Protocol, UpstreamSettings, settings_key
from portway.objects.core_v1 import Protocol as Transport
from portway.objects.core_v1 import Service, ServiceType
from portway.objects.portway_v1alpha1 import PORTWAY_GROUP, Backend
from portway.objects.verdict import ObjectKey
from portway.store import read_object
from portway.translate.absent import absent
from portway.translate.gateway import findings, grants
from portway.translate.gateway.findings import Problem
from portway.translate.policy.backend_tls import resolve_backend_tls


class Reference(Shape):
    """Any of the API's references to a backend."""

    @property
    def group(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def namespace(self) -> str | None: ...
    @property
    def name(self) -> str: ...
    @property
    def port(self) -> int | None: ...


_CREATE: Final = "create it, or name one that exists"


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """How a route wants to use its backends."""

    route: ObjectKey
    settings: UpstreamSettings
    certificate: SecretKey | None = None
    """The Gateway's client certificate."""
    transport: Transport = Transport.TCP
    consequence: str
    """What happens to the traffic of a backend that cannot be used: `requests to it answer 500`."""


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly one of the two is set."""

    upstream: UpstreamKey | None = None
    problem: Problem | None = None


def resolve(ctx: Context, reference: Reference, field: str, use: Use) -> Resolved:
    """Resolve one reference.

    Args:
        ctx: where objects are read.
        reference: as declared.
        field: its path in the route.
        use: who asks, and for what.
    """
    if (reference.group, reference.kind) == ("", "Service"):
        kind = UpstreamKind.SERVICE
    elif (reference.group, reference.kind) == (PORTWAY_GROUP, "Backend"):
        kind = UpstreamKind.BACKEND
    else:
        name = f"{reference.group}/{reference.kind}" if reference.group else reference.kind
        return _problem("InvalidKind", field, f"{name} is no kind of backend", use, "use a Service or a Backend")
    target = ObjectKey(kind, reference.namespace or use.route.namespace, reference.name)
    if not grants.is_permitted(ctx, use.route, target):
        return _problem(
            "RefNotPermitted",
            field,
            f"{target} is in another namespace",
            use,
            grants.remedy(use.route, target),
        )
    if kind is UpstreamKind.SERVICE:
        return _service(ctx, target, reference.port, field, use)
    return _backend(ctx, target, reference.port, field, use)


def _service(ctx: Context, target: ObjectKey, number: int | None, field: str, use: Use) -> Resolved:
    service = read_object(ctx, Service, target.namespace, target.name)
    if service is None:
        return _problem("BackendNotFound", field, absent(ctx, target), use, _CREATE)
    if number is None:
        return _problem("BackendNotFound", field, f"no port of {target} is named", use, _one_of_its_ports(service))
    if service.spec.type is ServiceType.EXTERNAL_NAME and is_this_machine(service.spec.external_name):
        name = service.spec.external_name
        message = f"{target} stands for {name or 'nothing'}, which would be the machine of the proxies"
        remedy = "set spec.externalName to the name of another machine"
        return _problem("BackendNotFound", field, message, use, remedy)
    ports = [port for port in service.spec.ports if port.port == number]
    port = next((port for port in ports if port.protocol is use.transport), None)
    if port is None and service.spec.type is ServiceType.EXTERNAL_NAME and not ports:
        return Resolved(upstream=_key(target, number, use.settings))
    if port is None and ports:
        message = f"port {number} of {target} is {ports[0].protocol}, the route needs {use.transport}"
        remedy = f"name a port of protocol {use.transport}, or add one to the Service"
        return _problem("UnsupportedProtocol", field, message, use, remedy)
    if port is None:
        return _problem(
            "BackendNotFound", f"{field}.port", f"{target} has no port {number}", use, _one_of_its_ports(service)
        )
    settings = use.settings
    if not settings.passthrough and (policy := resolve_backend_tls(ctx, target.namespace, target.name, port.name)):
        if policy.tls is None:
            # Not a fault of the route's: the policy says so itself, the route's share is refused.
            message = f"{policy.origin} cannot be fulfilled, so {target} is not spoken to"
            remedy = f"see what is said about {policy.origin}, and mend it"
            return _problem("", field, message, use, remedy, condition="")
        if use.certificate is not None:
            settings = msgspec.structs.replace(settings, client_certificate=use.certificate)
    return Resolved(upstream=_key(target, number, settings))


def _backend(ctx: Context, target: ObjectKey, number: int | None, field: str, use: Use) -> Resolved:
    backend = read_object(ctx, Backend, target.namespace, target.name)
    if backend is None:
        return _problem("BackendNotFound", field, absent(ctx, target), use, _CREATE)
    if use.transport is not Transport.TCP:
        return _problem("UnsupportedProtocol", field, f"{target} is spoken to over TCP only", use, "name a Service")
    # A Backend names the ports of its addresses itself; a port in the reference says nothing more.
    return Resolved(upstream=_key(target, 0, use.settings))


def _one_of_its_ports(service: Service) -> str:
    offered = ", ".join(str(port.port) for port in service.spec.ports)
    return f"name one of its ports: {offered}" if offered else "add the port to the Service, which has none"


def _key(target: ObjectKey, port: int, settings: UpstreamSettings) -> UpstreamKey:
    return UpstreamKey(UpstreamKind(target.kind), target.namespace, target.name, port, settings_key(settings))


def _problem(
    reason: str, field: str, message: str, use: Use, remedy: str, *, condition: str = findings.RESOLVED_REFS
) -> Resolved:
    return Resolved(
        problem=Problem(
            condition=condition,
            reason=reason or "BackendTLSPolicyInvalid",
            field=field,
            message=f"{message}; {use.consequence}",
            remedy=remedy,
        )
    )


HTTP_SETTINGS = UpstreamSettings()
GRPC_SETTINGS = UpstreamSettings(protocol=Protocol.HTTP2)
STICKY_SETTINGS = UpstreamSettings(host_override=True)
STICKY_GRPC_SETTINGS = UpstreamSettings(protocol=Protocol.HTTP2, host_override=True)
