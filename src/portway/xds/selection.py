"""What goes next: a response of one type, as large as it may be, of what may be sent now."""

from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import assert_never, final

from portway.model.resource import Resource, ResourceKey, ResourceType
from portway.xds.channel import Channel
from portway.xds.flights import Limits, wire_size_bytes
from portway.xds.holdings import Holdings
from portway.xds.isolation import Group
from portway.xds.snapshot import route_configuration_of
from portway.xds.states import State


class Step(Enum):
    """What to do with a resource that was looked at."""

    SEND = auto()
    REMOVE = auto()
    LATER = auto()
    """Look at it again in the next round."""
    NOTHING = auto()
    """Either there is nothing to do, or it was put where it waits."""


@final
class Draft:
    """A response in the making."""

    __slots__ = ("last_chance", "later", "removed", "resources", "size_bytes")

    def __init__(self) -> None:
        self.resources: list[Resource] = []
        self.removed: list[str] = []
        self.later: list[str] = []
        self.size_bytes = 0
        self.last_chance = False
        """Whether a refusal of a single resource is the last word."""

    def add(self, resource: Resource) -> None:
        """Put a resource in."""
        self.resources.append(resource)
        self.size_bytes += wire_size_bytes(resource)

    def __bool__(self) -> bool:
        return bool(self.resources or self.removed)


@final
class Selection:
    """Chooses what of a channel's work may be sent."""

    def __init__(self, holdings: Holdings, limits: Limits, is_open: Callable[[ResourceType, float], bool]) -> None:
        """
        Args:
            holdings: of the proxy.
            limits: the size of a response.
            is_open: whether a response of a type may be sent at a time.
        """
        self._holdings = holdings
        self._limits = limits
        self._is_open = is_open

    def next(self, channel: Channel, now: float) -> Draft | None:
        """The next response of this type, perhaps one that is empty but owed; `None`: there is none to be sent."""
        return self._again(channel, now) or self._fresh(channel, now)

    def _again(self, channel: Channel, now: float) -> Draft | None:
        """What was in a refused response and is still to be sent."""
        while (group := channel.isolation.take()) is not None:
            draft = Draft()
            for name, version in group.versions.items():
                resource = self._holdings.snapshot.get(channel.kind, name)
                record = channel.records.get(name)
                if resource is None or resource.version != version:
                    continue  # something newer is wanted: that goes the common way
                news = record is None or record.blamed == version or record.needs(version)
                if news and self._holdings.is_covered(channel, name):
                    draft.add(resource)
            draft.removed.extend(self._removals_again(channel, group, now))
            if draft:
                draft.last_chance = group.last_chance
                return draft
        return None

    def _removals_again(self, channel: Channel, group: Group, now: float) -> Iterable[str]:
        for name in group.removed:
            record = channel.records.get(name)
            if (
                record is None
                or record.state is not State.SUSPECT
                or self._holdings.snapshot.get(channel.kind, name) is not None
            ):
                continue
            if channel is self._holdings.clusters and self._holdings.ordering.is_used(name):
                self._holdings.ordering.doom(name, now)
                continue
            yield name

    def _fresh(self, channel: Channel, now: float) -> Draft | None:
        """What changed or was asked for."""
        draft = self._draft(channel, now)
        if channel is self._holdings.virtual_hosts:
            channel.mark(self._holdings.hosts.opened())
            if not draft:
                draft = self._draft(channel, now)
            owners = {route_configuration_of(resource.key.name) for resource in draft.resources}
            for name in self._holdings.hosts.removable(owners):
                self._remove_host(name, draft)
        if not draft and not (channel.owes_answer and not channel.held and not channel.isolation):
            return None
        return draft

    def _draft(self, channel: Channel, now: float) -> Draft:
        draft = Draft()
        chunk = self._limits.chunk_of(channel.kind)
        while channel.dirty and len(draft.resources) < chunk.resources and draft.size_bytes < chunk.size_bytes:
            name = next(iter(channel.dirty))
            del channel.dirty[name]
            match self._look_at(channel, name, now):
                case Step.SEND:
                    resource = self._holdings.snapshot.get(channel.kind, name)
                    if resource is not None:
                        draft.add(resource)
                case Step.REMOVE:
                    draft.removed.append(name)
                case Step.LATER:
                    draft.later.append(name)
                case Step.NOTHING:
                    pass
        channel.mark(draft.later)
        return draft

    def _look_at(self, channel: Channel, name: str, now: float) -> Step:
        resource = self._holdings.snapshot.get(channel.kind, name)
        channel.held.discard(name)
        if channel is self._holdings.virtual_hosts:
            self._holdings.hosts.release(name)
        if resource is None:
            return self._look_at_unwanted(channel, name, now)
        channel.absent.pop(name, None)
        if not self._holdings.is_covered(channel, name):
            return Step.NOTHING
        record = channel.records.get(name)
        is_news = record is None or record.needs(resource.version)
        if not is_news and (name not in channel.forced or (record is not None and record.blamed is not None)):
            channel.forced.discard(name)
            return Step.NOTHING
        if (
            channel is self._holdings.endpoints
            and name in self._holdings.clusters.dirty
            and self._is_open(ResourceType.CLUSTER, now)
        ):
            return Step.LATER  # right after its own cluster, else they would have to be sent twice
        blockers = self._holdings.ordering.blockers(resource)
        if blockers:
            self._hold(channel, name, blockers, now)
            return Step.NOTHING
        if channel is self._holdings.virtual_hosts and self._holdings.hosts.park(name):
            return Step.NOTHING
        channel.forced.discard(name)
        if self._holdings.snapshot.is_suspect(resource):
            channel.isolation.quarantine(name, resource.version)
            return Step.NOTHING
        return Step.SEND

    def _look_at_unwanted(self, channel: Channel, name: str, now: float) -> Step:
        channel.forced.discard(name)
        record = channel.records.get(name)
        if record is None:
            asked = name in channel.absent
            channel.absent.pop(name, None)
            return Step.REMOVE if asked else Step.NOTHING
        if record.state is State.REMOVING or record.blamed == "":
            return Step.NOTHING
        match channel.kind:
            case ResourceType.CLUSTER:
                if self._holdings.ordering.may_remove(name, now):
                    return Step.REMOVE
                self._holdings.ordering.doom(name, now)
            case ResourceType.LISTENER:
                return Step.REMOVE
            case ResourceType.VIRTUAL_HOST:
                self._holdings.hosts.defer_removal(name)
            case ResourceType.ENDPOINTS | ResourceType.SECRET | ResourceType.ROUTES:
                pass  # the proxy drops them by itself
            case _:
                assert_never(channel.kind)
        return Step.NOTHING

    def _remove_host(self, name: str, draft: Draft) -> None:
        record = self._holdings.virtual_hosts.records.get(name)
        if record is None or self._holdings.snapshot.get(ResourceType.VIRTUAL_HOST, name) is not None:
            return
        if self._holdings.snapshot.get(ResourceType.ROUTES, route_configuration_of(name)) is None:
            self._holdings.hosts.defer_removal(name)
        elif record.state is not State.REMOVING:
            draft.removed.append(name)

    def _hold(self, channel: Channel, name: str, blockers: list[str], now: float) -> None:
        channel.held.add(name)
        self._holdings.ordering.hold(ResourceKey(channel.kind, name), blockers, now)
        if channel is self._holdings.virtual_hosts:
            self._holdings.hosts.hold(
                name, is_coming=all(self._holdings.ordering.is_coming(cluster) for cluster in blockers)
            )
