"""The fleet of an IngressClass.

It is there as long as the class, used or not: its address stands in somebody's DNS. A class that nobody declared (the
annotation's, or that of Ingresses without class) has one while an Ingress wants it.
"""

from collections.abc import Mapping
from typing import Final

from portway.incremental import Context, feed
from portway.model.fleet import Fleet, FleetPort, ingress_fleet, owner_of
from portway.model.handles import EDGE, FLEETS, INFRASTRUCTURE
from portway.model.names import Transport
from portway.objects.networking_v1 import IngressClass
from portway.objects.verdict import ObjectKey
from portway.store import read_object
from portway.translate.ingress.classes import is_ours
from portway.translate.parameters import health_port, ingress_class_parameters
from portway.translate.sockets import INGRESS_AGES


def _of_class(ctx: Context, key: ObjectKey) -> Mapping[str, bool]:
    found = read_object(ctx, IngressClass, "", key.name)
    if ctx.read(INFRASTRUCTURE, None).is_host or found is None or not is_ours(ctx.read(EDGE, None), found):
        return {}
    return {ingress_fleet(key.name): True}


def _of_ingresses(ctx: Context, name: str) -> Mapping[str, bool]:
    return {} if ctx.read(INFRASTRUCTURE, None).is_host else {name: True}


def fleet(ctx: Context, name: str) -> Fleet | None:
    """What the fleet of an IngressClass is to be; `None`: this is no name of one."""
    key = owner_of(name)
    if key is None:
        return None
    edge = ctx.read(EDGE, None)
    parameters = ctx.get(ingress_class_parameters, key.name)
    free = {edge.http_port, edge.https_port} - {ctx.get(health_port, name)}
    ports = {FleetPort(port, Transport.TCP) for port in free}
    if edge.http3 and edge.https_port in free:
        ports.add(FleetPort(edge.https_port, Transport.UDP))
    return Fleet(
        name=name,
        namespace=ctx.read(INFRASTRUCTURE, None).namespace,
        owner=key,
        ports=tuple(sorted(ports)),
        parameters=parameters.spec,
        own_parameters=parameters.spec,
        own_source=parameters.source,
        held=f"{parameters.field}: {parameters.problem}; {parameters.remedy}" if parameters.problem else "",
    )


FEEDS: Final = (feed(FLEETS, "IngressClass", _of_class), feed(FLEETS, INGRESS_AGES, _of_ingresses))
