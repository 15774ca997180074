"""Where a request goes, of whatever was compiled: the fleet is chosen, the way followed, the report made."""

from collections.abc import Mapping, Sequence

import msgspec

from portway.explain.fleets import Addresses, Asked, choose_fleet
from portway.explain.report import Locate, Report, make_report
from portway.explain.request import Request
from portway.explain.trace import World, explain
from portway.model.condition import ObjectReport
from portway.model.fleet import owner_of
from portway.model.handles import OBSERVED_FLEET
from portway.translate.ingress.classes import standing


def observed(world: World) -> Addresses:
    """The addresses that the infrastructure found for each fleet."""
    found: Mapping[str, Sequence[str]] = {
        fleet: [address.value for address in world.engine.read(OBSERVED_FLEET, fleet).addresses]
        for fleet in world.fleets
    }
    return found


def is_served_by(world: World, fleet: str, report: ObjectReport) -> bool:
    """Whether an object is the owner of a fleet, or attached to it."""
    if report.object.kind == "Ingress":
        return world.engine.get(standing, report.object).fleet == fleet
    owner = owner_of(fleet)
    return owner == report.object or owner in [parent.parent for parent in report.parents]


def explained(world: World, request: Request, asked: Asked, addresses: Addresses, locate: Locate) -> Report:
    """The way of a request.

    Args:
        addresses: as for `choose_fleet`.
        locate: where fields stand.

    Raises:
        UnknownFleet: it cannot be said which proxies it goes to; the message says which there are.
    """
    chosen = choose_fleet(world, request, asked, addresses)
    report = make_report(world, explain(world, request, asked.address, chosen.fleet), locate, chosen.label)
    return msgspec.structs.replace(report, hints=(*report.hints, *filter(None, (chosen.hint,))))
