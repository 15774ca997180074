"""Which fleet a request arrives at, where each Gateway and each IngressClass has its own.

A client goes to an address, and DNS has said which. So the asker says it: by the fleet's name, or by an address that is
one of a fleet's, as the URL's host or beside it. Else the only fleet that has the port decides, else the only one that
knows the host; where that is not enough, nothing is guessed.
"""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address

import msgspec

from portway.explain.request import Request
from portway.explain.trace import explain
from portway.explain.world import World
from portway.model.fleet import gateway_fleet, ingress_fleet, owner_of
from portway.objects.verdict import ObjectKey

Addresses = Mapping[str, Sequence[str]]
"""By fleet, the addresses and host names by which clients reach it, as far as one knows."""
SHOWN = 8
"""Fleets that a refusal lists."""
SHOWN_ADDRESSES = 2
"""Of each."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the asker says about where the request goes."""

    gateway: str = ""
    """`namespace/name`."""
    ingress_class: str = ""
    address: str = ""
    """That the client connects to, and that must be known."""
    dialled: str = ""
    """The URL's host where the request names another one (`Host`): an address that may be known."""


class FleetChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet of a request."""

    fleet: str = ""
    """Its name; empty: there is one for everything."""
    label: str = ""
    """For a reader; empty: there is one for everything."""
    hint: str = ""
    """How it was found, where the asker did not say it."""


class UnknownFleet(ValueError):
    """The fleet is not there, or it cannot be said which one is meant. The message says which there are."""


def fleet_label(fleet: str) -> str:
    """`Gateway shop/web`, `IngressClass public`; empty for the fleet that serves everything."""
    owner = owner_of(fleet)
    if owner is None:
        return ""
    return str(owner) if owner.namespace else f"{owner.kind} {owner.name}"


def choose_fleet(world: World, request: Request, asked: Asked, addresses: Addresses) -> FleetChoice:
    """The fleet that a request arrives at.

    Raises:
        UnknownFleet: see there.
    """
    named = named_fleet(world, asked, addresses)
    if named or world.is_host:
        return _choice(named)
    for place in filter(None, (asked.address, asked.dialled or request.host)):
        owners = [fleet for fleet in world.fleets if _same(place) in map(_same, addresses.get(fleet, ()))]
        if len(owners) == 1:
            return _choice(owners[0], f"{place} is an address of {fleet_label(owners[0])}")
    if asked.address:
        raise UnknownFleet(f"{asked.address} is no known address of proxies; {_listed(world.fleets, addresses)}")
    candidates = world.open_at(request.port)
    if len(candidates) == 1:
        hint = f"only {fleet_label(candidates[0])} has port {request.port} open" if len(world.fleets) > 1 else ""
        return _choice(candidates[0], hint)
    if not candidates:
        return FleetChoice()
    others = f"{len(candidates)} sets of proxies have port {request.port} open"
    found: list[str] = []
    for knows in (_knows_host, _has_route):
        found = [fleet for fleet in candidates if knows(world, request, fleet)]
        if len(found) == 1:
            what = f"only {fleet_label(found[0])} has something for {request.host}"
            return _choice(found[0], f"{others}, {what}; --gateway or --class names another")
        if found:
            others += f", {len(found)} of them have something for {request.host}"
            break
    raise UnknownFleet(f"{others}; {_listed(found or candidates, addresses)}")


def named_fleet(world: World, asked: Asked, addresses: Addresses) -> str:
    """The fleet that the asker names; empty: none.

    Raises:
        UnknownFleet: there is none of that name.
    """
    named = _named(asked)
    if named and world.is_host:
        raise UnknownFleet(
            "the proxies of one machine serve everything (infrastructure host): leave out --gateway and --class, or "
            "ask about files with --infrastructure kubernetes"
        )
    if named and named not in world.fleets:
        raise UnknownFleet(f"{fleet_label(named)} has no proxies of Portway's; {_listed(world.fleets, addresses)}")
    return named


def _named(asked: Asked) -> str:
    if asked.gateway and asked.ingress_class:
        raise UnknownFleet("--gateway and --class name different proxies; leave one out")
    if asked.gateway:
        namespace, slash, name = asked.gateway.partition("/")
        if not (namespace and slash and name) or "/" in name:
            raise UnknownFleet(f'--gateway: "{asked.gateway}" is not NAMESPACE/NAME')
        return gateway_fleet(ObjectKey("Gateway", namespace, name))
    return ingress_fleet(asked.ingress_class) if asked.ingress_class else ""


def _choice(fleet: str, hint: str = "") -> FleetChoice:
    return FleetChoice(fleet=fleet, label=fleet_label(fleet), hint=hint)


def _same(address: str) -> str:
    """An address as it is compared: IPv6 has several spellings, host names have no case."""
    try:
        return str(ip_address(address.strip("[]")))
    except ValueError:
        return address.lower().removesuffix(".")


def _knows_host(world: World, request: Request, fleet: str) -> bool:
    return explain(world, request, fleet=fleet).virtual_host not in ("", "*")


def _has_route(world: World, request: Request, fleet: str) -> bool:
    return any(outcome.route for outcome in explain(world, request, fleet=fleet).outcomes)


def _listed(fleets: Iterable[str], addresses: Addresses) -> str:
    every = [
        f"{_option(fleet)} ({', '.join(addresses[fleet][:SHOWN_ADDRESSES])})"
        if addresses.get(fleet)
        else _option(fleet)
        for fleet in fleets
    ]
    if not every:
        return "there are none at all"
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return f"say which is meant: {', '.join(every[:SHOWN])}{more}"


def _option(fleet: str) -> str:
    owner = owner_of(fleet)
    if owner is None:
        return fleet
    return f"--gateway {owner.namespace}/{owner.name}" if owner.namespace else f"--class {owner.name}"
