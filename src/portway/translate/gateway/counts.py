"""What reports want to know about all routes together: how many are attached to a listener, which Gateways route to a
Service."""

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol, cast

from portway.incremental import Context, Relation
from portway.objects.grpcroute_v1 import GRPCBackendRef
from portway.objects.httproute_v1 import HTTPBackendRef
from portway.objects.references_v1 import BackendRef
from portway.objects.verdict import ObjectKey
from portway.translate.gateway.attachment import attachment_of, route_of
from portway.translate.gateway.listeners import ListenerKey

ATTACHED: Relation[ListenerKey, bool] = Relation("attached routes of listeners")
"""Only its size is ever read."""


def attached(ctx: Context, route: ObjectKey) -> Mapping[ListenerKey, bool]:
    """Feed of `ATTACHED` for every kind of route: the listeners that it is attached to, whatever its backends."""
    attachment = ctx.get(attachment_of, route)
    return {} if attachment is None else dict.fromkeys(attachment.listeners(), True)


class ServiceKey(NamedTuple):
    namespace: str
    name: str


GATEWAYS_OF_SERVICES: Relation[ServiceKey, tuple[ObjectKey, ...]] = Relation("Gateways that route to Services")
"""A row per route: the Gateways that it is attached to."""

POLICY_KINDS: Final = ("HTTPRoute", "GRPCRoute", "TLSRoute")
"""Routes whose backends a BackendTLSPolicy is about (GEP-1897)."""


class _Rule(Protocol):
    @property
    def backend_refs(self) -> tuple[HTTPBackendRef | GRPCBackendRef | BackendRef, ...]: ...


def gateways_of_services(ctx: Context, route: ObjectKey) -> Mapping[ServiceKey, tuple[ObjectKey, ...]]:
    """Feed of `GATEWAYS_OF_SERVICES` for HTTPRoute, GRPCRoute and TLSRoute."""
    found = route_of(ctx, route)
    attachment = ctx.get(attachment_of, route)
    if found is None or attachment is None:
        return {}
    gateways = tuple(sorted({parent.gateway for parent in attachment.parents if parent.listeners}))
    if not gateways:
        return {}
    rules = cast("tuple[_Rule, ...]", getattr(found.spec, "rules", ()))
    return {
        ServiceKey(reference.namespace or route.namespace, reference.name): gateways
        for rule in rules
        for reference in rule.backend_refs
        if (reference.group, reference.kind) == ("", "Service")
    }
