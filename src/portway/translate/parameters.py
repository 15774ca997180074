"""Which FleetParameters hold for a GatewayClass, a Gateway or an IngressClass.

A Gateway's own are laid over those of its class, field by field. A reference that leads nowhere is a problem of whoever
wrote it; then nobody guesses what was meant, and the fleet stays as it is.

Source: Gateway API, `GatewayClassSpec.ParametersRef`, `GatewayInfrastructure.ParametersRef`; Kubernetes, "Ingress
class", parameters.
"""

from typing import Final

import msgspec

from portway.incremental import Context, query
from portway.model.fleet import health_port_of, owner_of
from portway.objects.fleets_v1alpha1 import FleetParameters, FleetParametersSpec, joined
from portway.objects.gateway_v1 import Gateway, GatewayClass
from portway.objects.networking_v1 import IngressClass, ParametersScope
from portway.objects.portway_v1alpha1 import PORTWAY_GROUP
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.store import read_object
from portway.translate.absent import absent

KIND: Final = "FleetParameters"


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    spec: FleetParametersSpec = FleetParametersSpec()
    source: ObjectKey | None = None
    """The FleetParameters; `None`: there are none, or those of two are joined."""
    field: str = ""
    """Where the reference stands that leads nowhere."""
    problem: str = ""
    """What is wrong with it; empty: nothing."""
    remedy: str = ""


_NONE: Final = Parameters()


@query("parameters of a GatewayClass")
def class_parameters(ctx: Context, name: str) -> Parameters:
    """Those that a GatewayClass names; all default if it names none or does not exist."""
    found = read_object(ctx, GatewayClass, "", name)
    reference = None if found is None else found.spec.parameters_ref
    if reference is None:
        return _NONE
    field = "spec.parametersRef"
    if reference.namespace is None and (reference.group, reference.kind) == (PORTWAY_GROUP, KIND):
        return Parameters(
            field=f"{field}.namespace", problem=f"is required, since {KIND} are in namespaces", remedy="set it"
        )
    return _read(ctx, field, (reference.group, reference.kind), reference.namespace or "", reference.name)


@query("parameters of a Gateway")
def gateway_parameters(ctx: Context, key: ObjectKey) -> Parameters:
    """Those of its class, and its own laid over them. A problem of the class is one of its Gateways, too."""
    gateway = read_object(ctx, Gateway, key.namespace, key.name)
    if gateway is None:
        return _NONE
    name = gateway.spec.gateway_class_name
    lower = ctx.get(class_parameters, name)
    if lower.problem:
        problem = f"GatewayClass {name}: {lower.field} {lower.problem}"
        return Parameters(field="spec.gatewayClassName", problem=problem, remedy=f"there: {lower.remedy}")
    upper = own_parameters(ctx, gateway)
    return upper if upper.problem else Parameters(spec=joined(lower.spec, upper.spec))


def own_parameters(ctx: Context, gateway: Gateway) -> Parameters:
    """Those that a Gateway itself names."""
    infrastructure = gateway.spec.infrastructure
    if infrastructure is None or infrastructure.parameters_ref is None:
        return _NONE
    reference = infrastructure.parameters_ref
    field = "spec.infrastructure.parametersRef"
    return _read(ctx, field, (reference.group, reference.kind), gateway.metadata.namespace, reference.name)


def without_effect(key: ObjectKey, field: str) -> Verdict:
    """What is to be said of parameters where the proxies are not made by Portway in a cluster."""
    problem = f"{KIND} have no effect on host infrastructure"
    return Verdict(object=key, severity=Severity.INFO, reason="NoEffect", field=field, problem=problem, remedy="")


@query("parameters of an IngressClass")
def ingress_class_parameters(ctx: Context, name: str) -> Parameters:
    """Those that an IngressClass names; all default if it names none or does not exist."""
    found = read_object(ctx, IngressClass, "", name)
    reference = None if found is None else found.spec.parameters
    if reference is None:
        return _NONE
    field = "spec.parameters"
    is_known = (reference.api_group, reference.kind) == (PORTWAY_GROUP, KIND)
    if is_known and reference.scope is ParametersScope.CLUSTER:
        problem = f"is Cluster, but {KIND} are in namespaces"
        return Parameters(field=f"{field}.scope", problem=problem, remedy="write Namespace, and set namespace")
    return _read(ctx, field, (reference.api_group, reference.kind), reference.namespace, reference.name)


@query("health port of a fleet")
def health_port(ctx: Context, fleet: str) -> int | None:
    """Where the proxies of a fleet in a cluster answer probes; `None`: nobody knows, as its parameters lead nowhere,
    and the proxies that are there are left as they are."""
    owner = owner_of(fleet)
    if owner is None:
        return None
    of_gateway = owner.kind == "Gateway"
    found = ctx.get(gateway_parameters, owner) if of_gateway else ctx.get(ingress_class_parameters, owner.name)
    return None if found.problem else health_port_of(fleet, found.spec)


def _read(ctx: Context, field: str, kind: tuple[str, str], namespace: str, name: str) -> Parameters:
    if kind != (PORTWAY_GROUP, KIND):
        problem = f"{kind[0]}/{kind[1]} is no kind of parameters that Portway knows"
        return Parameters(field=field, problem=problem, remedy=f"name a {KIND} of {PORTWAY_GROUP}, or remove it")
    key, found = ObjectKey(KIND, namespace, name), read_object(ctx, FleetParameters, namespace, name)
    if found is None:
        return Parameters(field=field, problem=absent(ctx, key), remedy="create it, or name another")
    return Parameters(spec=found.spec, source=key)
