"""Virtual hosts of one proxy, by route configuration: complete first answers, and removals that wait for successors.

A listener opens its port with the first virtual hosts that it gets. So the first answer for a route configuration is
complete: it waits for hosts that are held back by clusters that are coming (bounded as every wait is), else the port
would answer 404 for them.

A host that goes may have a successor under another name. So removals travel with the next hosts of their route
configuration, and alone only if none of it is held back. If the route configuration itself goes, they wait until the
proxy has let go of it: a listener that moves to another one serves from the old one until it is warm.
"""

from collections.abc import Iterable
from typing import final

from portway.xds.snapshot import route_configuration_of


@final
class Opening:
    """The first answer for one route configuration."""

    __slots__ = ("parked", "waiting")

    def __init__(self) -> None:
        self.parked: dict[str, None] = {}
        """Hosts that could be sent."""
        self.waiting: set[str] = set()
        """Hosts that the answer waits for."""


@final
class Hosts:
    """What is known about the virtual hosts of one proxy besides their records."""

    def __init__(self) -> None:
        self._openings: dict[str, Opening] = {}
        self._held: dict[str, set[str]] = {}
        self._removals: dict[str, dict[str, None]] = {}
        self._noted: dict[str, dict[str, None]] = {}

    def note(self, name: str) -> None:
        """The proxy has the host, or may have it."""
        self._noted.setdefault(route_configuration_of(name), {})[name] = None

    def removed(self, names: Iterable[str]) -> None:
        """The proxy has dropped these hosts."""
        for name in names:
            owner = route_configuration_of(name)
            noted = self._noted.get(owner, {})
            noted.pop(name, None)
            if not noted:
                self._noted.pop(owner, None)

    def noted(self, route_configuration: str) -> bool:
        """Whether the proxy may have hosts of it."""
        return route_configuration in self._noted

    def owners(self) -> tuple[str, ...]:
        """The route configurations of which the proxy may have hosts."""
        return tuple(self._noted)

    def open(self, route_configuration: str) -> None:
        """The proxy has taken the route configuration and has no virtual host of it."""
        self._openings[route_configuration] = Opening()

    def forget(self, route_configuration: str) -> tuple[str, ...]:
        """The proxy has let go of the route configuration, or has none of its hosts. Returns those that it had."""
        self._openings.pop(route_configuration, None)
        self._held.pop(route_configuration, None)
        self._removals.pop(route_configuration, None)
        return tuple(self._noted.pop(route_configuration, ()))

    def release(self, name: str) -> None:
        """The host is looked at anew; what held it back may be over."""
        owner = route_configuration_of(name)
        held = self._held.get(owner)
        if held is not None and name in held:
            held.discard(name)
            if not held:
                del self._held[owner]
        opening = self._openings.get(owner)
        if opening is not None:
            opening.waiting.discard(name)
            opening.parked.pop(name, None)

    def hold(self, name: str, *, is_coming: bool) -> None:
        """The host is held back; `is_coming`: by something worth waiting for with a first answer."""
        owner = route_configuration_of(name)
        self._held.setdefault(owner, set()).add(name)
        opening = self._openings.get(owner)
        if opening is not None and is_coming:
            opening.waiting.add(name)

    def park(self, name: str) -> bool:
        """Keep a host that could be sent for the first answer; false: that has been given, send it."""
        opening = self._openings.get(route_configuration_of(name))
        if opening is None:
            return False
        opening.parked[name] = None
        return True

    def opened(self) -> list[str]:
        """The hosts of all first answers that have become complete; they are to be sent now."""
        complete = [owner for owner, opening in self._openings.items() if not opening.waiting]
        return [name for owner in complete for name in self._openings.pop(owner).parked]

    def defer_removal(self, name: str) -> None:
        """The host is to be removed when its time has come."""
        self._removals.setdefault(route_configuration_of(name), {})[name] = None

    def deferred(self, route_configuration: str) -> tuple[str, ...]:
        """Its hosts that are to be removed when their time has come."""
        return tuple(self._removals.get(route_configuration, ()))

    def removable(self, with_hosts_of: set[str]) -> list[str]:
        """Take out the removals whose time has come.

        Args:
            with_hosts_of: the route configurations of which hosts are about to be sent.
        """
        if not self._removals:
            return []
        due = [owner for owner in self._removals if owner in with_hosts_of or owner not in self._held]
        return [name for owner in due for name in self._removals.pop(owner)]
