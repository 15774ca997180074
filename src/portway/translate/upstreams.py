"""Services and Backends: how they are spoken to, and where their endpoints are.

An `UpstreamKey` names a port as one user wants it (`UpstreamSettings`). What the Service's owner decided
(`appProtocol`, BackendTLSPolicy, UpstreamPolicy) and what the user wants meet in `upstream`. Endpoints come from
EndpointSlices, never from the cluster IP, by port name with the slice's port number; they depend on objects only, so
that they overtake all else. An upstream that may not be spoken to (a BackendTLSPolicy that cannot be fulfilled, a
Backend that names our own sockets) has no endpoints: it fails closed with 503.

Sources: Kubernetes, "EndpointSlices" (conditions), KEP-1669 (terminating endpoints serve when no other is left),
"Topology Aware Routing"; Gateway API, GEP-1911 (`appProtocol`), GEP-1897 (BackendTLSPolicy).
"""

from collections.abc import Iterable
from hashlib import blake2b
from ipaddress import ip_address

import msgspec

from portway.incremental import Context, bind
from portway.model.handles import EDGE, ENDPOINTS, UPSTREAM
from portway.model.names import SecretKey, SecretUse, UpstreamKey, UpstreamKind
from portway.model.upstream import (
    Balancer,
    BalancerKind,
    Discovery,
    Endpoint,
    EndpointHealth,
    Endpoints,
    Protocol,
    Upstream,
    UpstreamSettings,
    UpstreamTls,
    ZoneShare,
    settings_of,
)
from portway.objects.core_v1 import Protocol as Transport
from portway.objects.core_v1 import Service, ServicePort, ServiceType
from portway.objects.discovery_v1 import AddressType, EndpointSlice
from portway.objects.discovery_v1 import Endpoint as SliceEndpoint
from portway.objects.meta import Object
from portway.objects.portway_v1alpha1 import Backend, BackendTLS, DNSFamily, ZoneAwareType
from portway.objects.verdict import ObjectKey
from portway.store import Index, read_object
from portway.translate.local_backends import refusals
from portway.translate.policy.backend_tls import resolve_backend_tls
from portway.translate.policy.upstream import apply_policy, policy_of

APP_PROTOCOLS = {
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP1,
    "kubernetes.io/wss": Protocol.HTTP1,
}
"""Values of `appProtocol` that say something to us (GEP-1911); others are the application's own."""
DNS_FAMILIES = {DNSFamily.AUTO: "", DNSFamily.IPV4: "v4", DNSFamily.IPV6: "v6"}


def _service_of(found: Object) -> Iterable[tuple[str, str]]:
    if isinstance(found, EndpointSlice) and found.service_name:
        yield found.metadata.namespace, found.service_name


SLICES = Index("EndpointSlice by Service", "EndpointSlice", _service_of)


def upstream_name(key: UpstreamKey) -> str:
    """Readable and stable: `shop/cart:80`; a variant gets a digest, a Backend its kind in front."""
    name = f"{key.namespace}/{key.name}" + (f":{key.port}" if key.port else "")
    if key.kind is not UpstreamKind.SERVICE:
        name = f"{key.kind.lower()}:{name}"
    if key.variant or key.fleet:
        name += "~" + blake2b(f"{key.variant}\n{key.fleet}".encode(), digest_size=5).hexdigest()
    return name


def find_port(service: Service, port: int, protocol: Protocol | None = None) -> ServicePort | None:
    """The Service's port with this number; where a UDP and a TCP port share it, the one that is to be spoken to."""
    wanted = Transport.UDP if protocol is Protocol.UDP else Transport.TCP
    found = [candidate for candidate in service.spec.ports if candidate.port == port]
    return next((candidate for candidate in found if candidate.protocol is wanted), found[0] if found else None)


def upstream(ctx: Context, key: UpstreamKey) -> Upstream | None:
    """How the upstream is spoken to; `None` if its object is gone."""
    settings = settings_of(key.variant)
    declared = _of_service(ctx, key, settings) if key.kind is UpstreamKind.SERVICE else _of_backend(ctx, key)
    if declared is None:
        return None
    edge = ctx.read(EDGE, None)
    counted = key.namespace in edge.statistics_for or f"{key.namespace}/{key.name}" in edge.statistics_for
    declared = msgspec.structs.replace(declared, connect_timeout=edge.connect_timeout, statistics=counted)
    policy = policy_of(ctx, key)
    if policy is not None:
        declared = apply_policy(declared, policy.spec)
        policy_key = ObjectKey("UpstreamPolicy", policy.metadata.namespace, policy.metadata.name)
        declared = msgspec.structs.replace(declared, origins=tuple(sorted((*declared.origins, policy_key))))
    return with_settings(declared, settings)


def with_settings(declared: Upstream, settings: UpstreamSettings) -> Upstream:
    """What the user of the upstream wants lies over what its owner declared."""
    changes: dict[str, object] = {
        name: wanted
        for name in ("protocol", "connect_timeout", "idle_timeout", "balancer", "tls")
        if (wanted := getattr(settings, name)) is not None
    }
    if settings.passthrough:
        changes["tls"] = None
    # The owner's TLS policy is stronger than a user's wish for unverified TLS.
    elif declared.tls is not None:
        changes.pop("tls", None)
        if settings.client_certificate is not None:
            changes["tls"] = msgspec.structs.replace(declared.tls, certificate=settings.client_certificate)
    if settings.host_override:
        changes["host_override"] = True
    if settings.route_retries:
        changes["route_retries"] = True
    return msgspec.structs.replace(declared, **changes) if changes else declared


def _of_service(ctx: Context, key: UpstreamKey, settings: UpstreamSettings) -> Upstream | None:
    service = read_object(ctx, Service, key.namespace, key.name)
    if service is None:
        return None
    port = find_port(service, key.port, settings.protocol)
    name = upstream_name(key)
    if service.spec.type is ServiceType.EXTERNAL_NAME:
        declared = Upstream(
            name=name,
            discovery=Discovery.DNS,
            dns_name=service.spec.external_name.rstrip("."),
            dns_port=_external_port(port, key.port),
            origins=(key.object,),
        )
    else:
        declared = Upstream(name=name, origins=(key.object,))
    if port is None:
        return declared
    tls = resolve_backend_tls(ctx, key.namespace, key.name, port.name)
    return msgspec.structs.replace(
        declared,
        protocol=_protocol(port.app_protocol, port.protocol),
        tls=tls.tls if tls is not None else None,
        origins=tuple(sorted((*declared.origins, tls.origin))) if tls is not None else declared.origins,
    )


def _external_port(port: ServicePort | None, number: int) -> int:
    if port is not None and isinstance(port.target_port, int):
        return port.target_port
    return number


def _protocol(app_protocol: str | None, transport: Transport = Transport.TCP) -> Protocol:
    if transport is Transport.UDP:
        return Protocol.UDP
    return APP_PROTOCOLS.get(app_protocol or "", Protocol.HTTP1)


def _of_backend(ctx: Context, key: UpstreamKey) -> Upstream | None:
    backend = read_object(ctx, Backend, key.namespace, key.name)
    if backend is None:
        return None
    spec = backend.spec
    declared = Upstream(
        name=upstream_name(key),
        protocol=_protocol(spec.app_protocol),
        tls=_backend_tls(spec.tls, backend) if spec.tls is not None else _implied_tls(backend),
        balancer=_backend_balancer(backend),
        origins=(key.object,),
    )
    if spec.dns is None or refusals(ctx, backend):
        return declared  # one that is refused has no endpoints
    return msgspec.structs.replace(
        declared,
        discovery=Discovery.DNS,
        dns_name=spec.dns.name,
        dns_port=spec.dns.port,
        dns_family=DNS_FAMILIES[spec.dns.family],
    )


def _backend_balancer(backend: Backend) -> Balancer:
    """By turns where addresses weigh differently: by least requests, load evens out the shares asked for."""
    weights = {address.weight for address in backend.spec.addresses or ()}
    return Balancer(kind=BalancerKind.ROUND_ROBIN) if len(weights) > 1 else Balancer()


def _implied_tls(backend: Backend) -> UpstreamTls | None:
    """`appProtocol: https` without `tls`: TLS, verified against the system's authorities where there is a name."""
    if backend.spec.app_protocol not in ("https", "kubernetes.io/wss"):
        return None
    return _backend_tls(BackendTLS(), backend)


def _backend_tls(tls: BackendTLS, backend: Backend) -> UpstreamTls:
    name = tls.hostname or (backend.spec.dns.name if backend.spec.dns is not None else "")
    namespace = backend.metadata.namespace
    references = tls.ca_certificate_refs or ()
    sources = tuple(sorted(ObjectKey(reference.kind, namespace, reference.name) for reference in references))
    certificate = tls.client_certificate_ref
    return UpstreamTls(
        sni=name,
        authorities=SecretKey(SecretUse.AUTHORITIES, sources) if sources else None,
        system_authorities=not sources and not tls.insecure_skip_verify,
        names=(("DNS", name),) if name and not tls.insecure_skip_verify else (),
        certificate=SecretKey(SecretUse.CERTIFICATE, (ObjectKey("Secret", namespace, certificate.name),))
        if certificate is not None
        else None,
    )


def endpoints(ctx: Context, key: UpstreamKey) -> Endpoints:
    """Where the upstream's endpoints are now."""
    if key.kind is UpstreamKind.BACKEND:
        return _backend_endpoints(ctx, key)
    service = read_object(ctx, Service, key.namespace, key.name)
    settings = settings_of(key.variant)
    port = find_port(service, key.port, settings.protocol) if service is not None else None
    if service is None or port is None or service.spec.type is ServiceType.EXTERNAL_NAME:
        return Endpoints(origins=(key.object,))
    tls = resolve_backend_tls(ctx, key.namespace, key.name, port.name)
    if tls is not None and tls.tls is None and not settings.passthrough:
        return Endpoints(origins=(key.object, tls.origin))
    found: dict[tuple[str, int], _Found] = {}
    origins = [key.object]
    for slice_key in SLICES.read(ctx, (key.namespace, key.name)):
        piece = read_object(ctx, EndpointSlice, slice_key.namespace, slice_key.name)
        if piece is None or piece.address_type is AddressType.FQDN:
            continue
        origins.append(slice_key)
        for number in _slice_ports(piece, port):
            for endpoint in piece.endpoints:
                _collect(found, endpoint, number)
    every = list(found.values())
    return Endpoints(
        endpoints=_serving([one.endpoint for one in every]),
        shares=_shares(ctx, key, every),
        origins=tuple(sorted(origins)),
    )


def _slice_ports(piece: EndpointSlice, port: ServicePort) -> Iterable[int]:
    for candidate in piece.ports:
        if candidate.name == port.name and candidate.protocol is port.protocol:
            if candidate.port is not None:
                yield candidate.port
            elif isinstance(port.target_port, int):
                yield port.target_port


class _Found(msgspec.Struct, frozen=True, gc=False):
    endpoint: Endpoint
    zones: frozenset[str]
    """Zones that the hints give it to; empty: it has no hints."""


def _collect(found: dict[tuple[str, int], _Found], declared: SliceEndpoint, number: int) -> None:
    conditions = declared.conditions
    if conditions.is_ready:
        health = EndpointHealth.HEALTHY
    elif conditions.is_serving and conditions.is_terminating:
        health = EndpointHealth.DRAINING
    else:
        return
    # All addresses of an endpoint are the same backend: consumers use the first.
    address = _canonical(declared.addresses[0])
    # The same pod may be in two slices while they are rebalanced; ready beats draining.
    known = found.get((address, number))
    if known is None or known.endpoint.health is EndpointHealth.DRAINING:
        zones = (
            frozenset(zone.name for zone in declared.hints.for_zones if zone.name) if declared.hints else frozenset()
        )
        endpoint = Endpoint(address=address, port=number, health=health, zone=declared.zone or "")
        found[address, number] = _Found(endpoint, zones)


def _canonical(address: str) -> str:
    """The one spelling of a valid address. IPv4 has no other; to parse it would be most of what an endpoint costs."""
    return str(ip_address(address)) if ":" in address else address


def _shares(ctx: Context, key: UpstreamKey, every: list[_Found]) -> tuple[ZoneShare, ...]:
    """What the hints give to each zone that they name, if every endpoint that serves has some.

    Source: Kubernetes docs, "Topology Aware Routing", "Safeguards".
    """
    serving = [found for found in every if found.endpoint.health is EndpointHealth.HEALTHY] or every
    if not serving or not all(found.zones for found in serving):
        return ()
    policy = policy_of(ctx, key)
    aware = policy.spec.zone_aware if policy is not None else None
    if aware is not None and aware.type is not ZoneAwareType.HINTS:
        return ()
    zones = sorted(frozenset[str]().union(*(found.zones for found in serving)))
    return tuple(
        ZoneShare(zone, _serving([found.endpoint for found in every if zone in found.zones])) for zone in zones
    )


def _serving(every: list[Endpoint]) -> tuple[Endpoint, ...]:
    """Draining endpoints keep their mark while others are healthy; when no other is left they serve."""
    if not any(endpoint.health is EndpointHealth.HEALTHY for endpoint in every):
        every = [msgspec.structs.replace(endpoint, health=EndpointHealth.HEALTHY) for endpoint in every]
    return tuple(sorted(every))


def _backend_endpoints(ctx: Context, key: UpstreamKey) -> Endpoints:
    backend = read_object(ctx, Backend, key.namespace, key.name)
    if backend is None:
        return Endpoints()
    if refusals(ctx, backend):
        return Endpoints(origins=(key.object,))
    if backend.spec.unix_socket is not None:
        found = [Endpoint(address=backend.spec.unix_socket.path, port=0)]
    else:
        found = [
            Endpoint(address=_canonical(entry.address), port=entry.port, weight=entry.weight, zone=entry.zone or "")
            for entry in backend.spec.addresses or ()
        ]
    return Endpoints(endpoints=tuple(sorted(found)), origins=(key.object,))


INDEXES = (SLICES,)
BINDINGS = (bind(UPSTREAM, upstream), bind(ENDPOINTS, endpoints))
