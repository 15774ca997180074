"""The fleet of a Gateway, and what its addresses mean for its status.

Source: GEP-1762 "In Cluster Gateway Deployments"; Gateway API, `GatewaySpec.Addresses`, `GatewayStatusAddress`.
"""

from collections.abc import Mapping

import msgspec

from portway.incremental import Context, query
from portway.model.fleet import Fleet, FleetAddress, FleetPort, gateway_fleet, owner_of
from portway.model.handles import EDGE, OBSERVED_FLEET
from portway.model.names import Transport
from portway.objects.gateway_v1 import Gateway, ListenerProtocol
from portway.objects.verdict import ObjectKey, Verdict
from portway.store import read_object
from portway.translate.fleet_verdicts import fleet_verdicts
from portway.translate.gateway import findings
from portway.translate.gateway.gateways import GatewayPlan, canonical_address, gateway_head, gateway_plan
from portway.translate.parameters import gateway_parameters, own_parameters
from portway.translate.sockets import unavailable

MAX_ADDRESSES = 16
"""That a Gateway's status can hold."""


def fleets(ctx: Context, gateway: ObjectKey) -> Mapping[str, bool]:
    """Feed of `FLEETS` for Gateway."""
    head = ctx.get(gateway_head, gateway)
    return {head.fleet: True} if head is not None and head.own_fleet else {}


def fleet(ctx: Context, name: str) -> Fleet | None:
    """What the fleet of a Gateway is to be; `None`: there is no such Gateway of ours."""
    key = owner_of(name)
    plan = None if key is None else ctx.get(gateway_plan, key)
    gateway = None if key is None else read_object(ctx, Gateway, key.namespace, key.name)
    if key is None or plan is None or gateway is None:
        return None
    wanted = gateway.spec.infrastructure
    ports, own = _ports(ctx, plan), own_parameters(ctx, gateway)
    return Fleet(
        name=gateway_fleet(key),
        namespace=key.namespace,
        owner=key,
        owner_uid=gateway.metadata.uid,
        ports=ports,
        labels={} if wanted is None else wanted.labels,
        annotations={} if wanted is None else wanted.annotations,
        parameters=ctx.get(gateway_parameters, key).spec,
        own_parameters=own.spec,
        own_source=own.source,
        requested=_requested(gateway),
        held=findings.joined(plan.head.problems) or ("" if ports else "none of its listeners can be served"),
    )


def _ports(ctx: Context, plan: GatewayPlan) -> tuple[FleetPort, ...]:
    """The ports of all sound listeners that can be had, whether or not they have their certificates and routes yet:
    what is in front of the proxies does not change with these."""
    http3 = ctx.read(EDGE, None).http3
    found = set()
    for listeners in plan.listeners.values():
        for listener in listeners:
            if any(not unavailable(ctx, socket) for socket in plan.head.sockets(listener)):
                found.add(FleetPort(listener.port, listener.transport))
                if http3 and listener.protocol == ListenerProtocol.HTTPS:
                    found.add(FleetPort(listener.port, Transport.UDP))
    return tuple(sorted(found))


def _requested(gateway: Gateway) -> tuple[FleetAddress, ...]:
    named = (FleetAddress(address.type, address.value) for address in gateway.spec.addresses if address.value)
    return tuple(dict.fromkeys(named))


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """By which addresses a Gateway is reached."""

    addresses: tuple[FleetAddress, ...]
    """For its status: the requested ones that it has, or all that it has if it requested none."""
    reason: str = ""
    """Why it is not programmed: `AddressNotAssigned` or `AddressNotUsable`; empty: its addresses are as they should
    be."""
    message: str = ""
    verdicts: tuple[Verdict, ...] = ()
    unseen: bool = False
    """Nothing has been seen of its fleet yet, so this is not the last word."""


@query("Gateway is another Portway's")
def is_elsewhere(ctx: Context, key: ObjectKey) -> bool:
    """Whether another Portway has made a fleet for the Gateway. Asked for every route; nothing else that is seen of
    the fleet concerns these."""
    head = ctx.get(gateway_head, key)
    return head is not None and head.own_fleet and ctx.read(OBSERVED_FLEET, gateway_fleet(key)).elsewhere


def reach(ctx: Context, key: ObjectKey) -> Reach:
    """By which addresses the Gateway of a fleet of its own is reached."""
    gateway = read_object(ctx, Gateway, key.namespace, key.name)
    observed = ctx.read(OBSERVED_FLEET, gateway_fleet(key))
    verdicts = fleet_verdicts(key, observed)
    declared = () if gateway is None else gateway.spec.addresses
    requested = () if gateway is None else _requested(gateway)
    if requested:
        had = tuple(address for address in requested if _same(address) in set(map(_same, observed.addresses)))
        missing = [address.value for address in requested if address not in had]
        message = f"{', '.join(missing)}: {observed.failed or observed.pending or _NOT_GIVEN}" if missing else ""
        reason = "AddressNotUsable" if missing else ""
        return Reach(addresses=had, reason=reason, message=message, verdicts=verdicts, unseen=observed.unseen)
    types = {address.type for address in declared}
    found = tuple(address for address in observed.addresses if not types or address.type in types)[:MAX_ADDRESSES]
    if found:
        return Reach(addresses=found, verdicts=verdicts)
    message = observed.failed or observed.pending
    if observed.addresses:
        others = ", ".join(address.value for address in observed.addresses)
        message = f"spec.addresses asks for {' and '.join(sorted(types))}, but the Gateway got {others}"
    return Reach(addresses=(), reason="AddressNotAssigned", message=message, verdicts=verdicts, unseen=observed.unseen)


_NOT_GIVEN = (
    "the cluster has not given the Gateway this address; it may be another's, or not its load balancer's to give"
)


def _same(address: FleetAddress) -> FleetAddress:
    """An address as it is compared: IPv6 has several spellings, host names have no case."""
    return address._replace(value=canonical_address(address.value) or address.value.lower())
