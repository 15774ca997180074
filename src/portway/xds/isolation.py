"""Finding the resources that a proxy refuses, of one type.

A proxy refuses a response as a whole and often names nobody. So what was in it is sent again in halves, and those
halves that are refused in halves again, until single resources stand accused: about 2*log2(n) responses for each bad
one among n.

A single one is not always guilty. Of two virtual hosts between which a domain moves, one is refused as a duplicate if
it arrives before the other has let the domain go. Whoever is refused while others of the type are under way gets a
second chance, alone, once everything else has settled or a bounded time has passed. Only if that fails, too, it counts
as refused. After that it is tried again, alone, ever more seldom: a port may have been freed, a domain let go.
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


FIRST_RETRY_S = 30.0
LAST_RETRY_S = 3600.0
"""Between tries of a resource that stays refused; the interval doubles from the first to the last."""


class Chance(msgspec.Struct, frozen=True, kw_only=True):
    """A refused resource that will be sent again, alone."""

    version: str
    due: float
    """When at the latest, in the session's time."""
    early: bool = False
    """Whether it goes as soon as everything else of the type has settled."""


@final
class Isolation:
    """What is to be sent again in smaller responses, and who gets another chance."""

    def __init__(self) -> None:
        self._groups: deque[Group] = deque()
        self._chances: dict[str, Chance] = {}
        self._intervals: dict[str, tuple[str, float]] = {}

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
        """The resource was refused while others were under way: try it when they have settled, at `due` at the
        latest."""
        self._chances[name] = Chance(version=version, due=due, early=True)

    def retry_later(self, name: str, version: str, now: float) -> bool:
        """The resource counts as refused: try it again after a while. Returns whether that is news for this version."""
        before, interval = self._intervals.get(name, ("", 0.0))
        is_news = before != version
        interval = FIRST_RETRY_S if is_news else min(interval * 2, LAST_RETRY_S)
        self._intervals[name] = (version, interval)
        self._chances[name] = Chance(version=version, due=now + interval)
        return is_news

    def forget(self, name: str) -> None:
        """The proxy took the resource, or it is no longer wanted as it was."""
        self._chances.pop(name, None)
        self._intervals.pop(name, None)

    @property
    def has_chances(self) -> bool:
        """Whether anything waits for another chance."""
        return bool(self._chances)

    def chance_due(self) -> float | None:
        """When the next chance is due at the latest; `None`: there are none."""
        return min((chance.due for chance in self._chances.values()), default=None)

    def call_chances(self, now: float, *, settled: bool) -> None:
        """Send again, each alone, what has waited long enough."""
        called = [name for name, chance in self._chances.items() if chance.due <= now or (settled and chance.early)]
        for name in called:
            chance = self._chances.pop(name)
            self._groups.append(Group(versions={name: chance.version}, last_chance=True))
