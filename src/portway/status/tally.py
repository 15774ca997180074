"""How many proxies hold what something needs, by fleet, as one replica sees it or as all of them do together.

Pure. Each replica of the control plane knows the proxies that are connected to it, and no others; tallies are added up.

Source: Gateway API, `GatewayConditionProgrammed`, `ListenerConditionProgrammed` (types and reasons).
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from portway.model.condition import Condition
from portway.model.resource import ResourceKey
from portway.objects.verdict import readable
from portway.xds.fleet import FleetState

NAMED: Final = 3
"""So many resources, or refusals, are named in a message; of a route with hundreds of hosts the rest is counted."""


class Wanted(NamedTuple):
    """A resource that a fleet shall hold."""

    fleet: str
    key: ResourceKey


class Need(NamedTuple):
    """What proxies must hold before something is programmed."""

    wanted: tuple[Wanted, ...]
    because: tuple[Wanted, ...] = ()
    """What may be the reason if something is missing: a proxy that refuses a listener never asks for its hosts."""


class FleetTally(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One fleet's share of a need."""

    fleet: str
    proxies: int = 0
    """Connected ones."""
    acknowledged: int = 0
    """Those of them that hold all of it."""
    waiting: str = ""
    """What not every proxy has, in words."""
    refusals: tuple[str, ...] = ()
    """What proxies refuse and why, in words; the first ones."""
    overdue: bool = False
    """It has been awaited for so long that it is no matter of moments any more."""

    @property
    def is_complete(self) -> bool:
        return 0 < self.proxies == self.acknowledged


Tally = tuple[FleetTally, ...]
"""One entry per fleet that something is needed of, in order. Empty: nothing is needed."""


def take_tally(need: Need, fleets: Mapping[str, FleetState]) -> Tally:
    """As the fleets are now, in O(what is needed * proxies)."""
    because = _by_fleet(need.because)
    return tuple(
        _tally(fleet, keys, because.get(fleet, ()), fleets.get(fleet)) for fleet, keys in _by_fleet(need.wanted).items()
    )


def _tally(
    fleet: str, keys: Iterable[ResourceKey], because: Iterable[ResourceKey], state: FleetState | None
) -> FleetTally:
    progress = None if state is None else state.progress(keys)
    if state is None or progress is None or not progress.proxies:
        return FleetTally(fleet=fleet)
    if progress.complete:
        return FleetTally(fleet=fleet, proxies=progress.proxies, acknowledged=progress.acknowledged)
    refusals = progress.refusals or state.progress(because).refusals
    held_back = frozenset(progress.held_back)
    unsent = tuple(key for key in progress.waiting if key in held_back)
    waiting = f"{HELD_BACK}: {_names(unsent)}" if unsent else f"{AWAITED}: {_names(progress.waiting)}"
    return FleetTally(
        fleet=fleet,
        proxies=progress.proxies,
        acknowledged=progress.acknowledged,
        waiting=readable(waiting),
        refusals=tuple(readable(f"{_name(one.key)}: {one.message}") for one in refusals[:NAMED]),
    )


def add_tallies(tallies: Iterable[Tally]) -> Tally:
    """What several replicas see, together."""
    found: dict[str, FleetTally] = {}
    for tally in tallies:
        for one in tally:
            other = found.get(one.fleet)
            found[one.fleet] = one if other is None else _add(other, one)
    return tuple(found.values())


def _add(one: FleetTally, other: FleetTally) -> FleetTally:
    return FleetTally(
        fleet=one.fleet,
        proxies=one.proxies + other.proxies,
        acknowledged=one.acknowledged + other.acknowledged,
        waiting=one.waiting or other.waiting,
        refusals=tuple(dict.fromkeys((*one.refusals, *other.refusals)))[:NAMED],
        # A replica that no proxy of the fleet is connected to has nothing to say.
        overdue=(one.overdue and (one.proxies > 0 or not other.proxies))
        or (other.overdue and (other.proxies > 0 or not one.proxies)),
    )


def is_complete(tally: Tally) -> bool:
    """Whether every fleet has at least one proxy and all of them hold what is needed."""
    return all(one.is_complete for one in tally)


HELD_BACK: Final = "held back until the backends are ready"
AWAITED: Final = "not acknowledged yet"


def condition_of(kind: str, tally: Tally, *, terse: bool = False) -> Condition:
    """The condition that a tally amounts to.

    Args:
        kind: type of the condition.
        terse: while proxies are awaited, say no more than that: names and numbers that change with each answer are not
            worth a write each. What is overdue or refused is always said in full.
    """
    if is_complete(tally):
        return Condition(type=kind, status=True, reason="Programmed")
    lacking = [one for one in tally if not one.is_complete]
    proxies, holding = sum(one.proxies for one in tally), sum(one.acknowledged for one in tally)
    numbers = f"{holding} of {proxies} proxies {'holds' if holding == 1 else 'hold'} it; " if proxies > 1 else ""
    refusals = [f"a proxy refuses {refusal}" for one in lacking for refusal in one.refusals]
    if refusals:
        message = f"{numbers}{'; '.join(refusals)}; what it held of it before, if anything, is served"
        return Condition(type=kind, status=False, reason="Invalid", message=message)
    overdue = any(one.overdue for one in lacking)
    if terse and not overdue:
        numbers = ""
    said = dict.fromkeys(_pending(one, terse=terse and not overdue) for one in lacking)
    return Condition(
        type=kind, status=False, reason="Pending", message=f"{numbers}{'; '.join(said)}", provisional=not overdue
    )


def _pending(one: FleetTally, *, terse: bool) -> str:
    if not one.proxies:
        return f"no proxy of fleet {one.fleet} is connected"
    if terse:
        return HELD_BACK if one.waiting.startswith(HELD_BACK) else AWAITED
    return one.waiting


def _by_fleet(wanted: Iterable[Wanted]) -> dict[str, list[ResourceKey]]:
    found: dict[str, list[ResourceKey]] = {}
    for fleet, key in wanted:
        found.setdefault(fleet, []).append(key)
    return found


def _names(keys: tuple[ResourceKey, ...]) -> str:
    named = ", ".join(map(_name, keys[:NAMED]))
    return f"{named} and {len(keys) - NAMED:,} more" if len(keys) > NAMED else named


def _name(key: ResourceKey) -> str:
    return f"{key.type.name} {key.name}"
