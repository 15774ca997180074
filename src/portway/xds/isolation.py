"""Finding the resources that a proxy refuses, of one type.

A proxy refuses a response as a whole and often names nobody. So what was in it is sent again in halves, and those
halves that are refused in halves again, until single resources stand accused: about 2·log2(n) responses for each bad
one among n.

A single one is not always guilty. Of two virtual hosts between which a domain moves, one is refused as a duplicate if
it arrives before the other has let the domain go. Such things happen only while others of the type are under way, so
whoever is refused then gets a second chance, alone, once everything else has settled or a bounded time has passed.
"""

from collections import deque
from collections.abc import Mapping
from typing import final

import msgspec

from portway.model.resource import Resource


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be sent again together. A resource is meant in exactly this version; another one is no suspect."""

    versions: Mapping[str, str]
    """By name."""
    removed: tuple[str, ...] = ()
    last_chance: bool = False


def halves(resources: tuple[Resource, ...], removed: tuple[str, ...], *, last_chance: bool) -> tuple[Group, ...]:
    """Split what a refused response held: two groups, unless there was only one thing in it.

    Removals stay with the first half, so that what they make room for finds it; once there is one resource left, they
    go before it.
    """
    names = [(resource.key.name, resource.version) for resource in resources]
    if len(names) > 1:
        middle = len(names) // 2
        return (
            Group(versions=dict(names[:middle]), removed=removed, last_chance=last_chance),
            Group(versions=dict(names[middle:]), last_chance=last_chance),
        )
    if names and removed:
        return Group(versions={}, removed=removed), Group(versions=dict(names), last_chance=last_chance)
    middle = len(removed) // 2
    return Group(versions={}, removed=removed[:middle]), Group(versions={}, removed=removed[middle:])


@final
class Isolation:
    """What is to be sent again in smaller responses, and who gets a second chance."""

    def __init__(self) -> None:
        self._groups: deque[Group] = deque()
        self._second_chances: dict[str, str] = {}
        self._chance_due: float | None = None

    def __bool__(self) -> bool:
        return bool(self._groups)

    def split(self, resources: tuple[Resource, ...], removed: tuple[str, ...], *, last_chance: bool) -> None:
        """The proxy refused this response; try its halves, before anything else that waits here."""
        self._groups.extendleft(reversed(halves(resources, removed, last_chance=last_chance)))

    def quarantine(self, name: str, version: str) -> None:
        """Send this resource alone: some other proxy refused it."""
        self._groups.append(Group(versions={name: version}))

    def take(self) -> Group | None:
        """The next group to be sent."""
        return self._groups.popleft() if self._groups else None

    def grant_second_chance(self, name: str, version: str, due: float) -> None:
        """Send this refused resource once more, when everything else has settled, at `due` at the latest."""
        self._second_chances[name] = version
        if self._chance_due is None:
            self._chance_due = due

    @property
    def chance_due(self) -> float | None:
        """When second chances are due at the latest; `None`: there are none."""
        return self._chance_due

    def call_second_chances(self) -> None:
        """Send them now, each alone."""
        for name, version in self._second_chances.items():
            self._groups.append(Group(versions={name: version}, last_chance=True))
        self._second_chances = {}
        self._chance_due = None
