"""What goes next: a response of one type, as large as it may be, of what may be sent now."""

from collections.abc import Callable, Iterable
from typing import assert_never, final

from portway.model.resource import Resource, ResourceKey, ResourceType
from portway.xds.channel import Channel
from portway.xds.flights import Limits, wire_size_bytes
from portway.xds.holdings import Holdings
from portway.xds.isolation import Group
from portway.xds.snapshot import route_configuration_of
from portway.xds.states import Record, State


@final
class Draft:
    """A response in the making."""

    __slots__ = ("last_chance", "later", "removed", "resources", "size_bytes")

    def __init__(self) -> None:
        self.resources: list[Resource] = []
        self.removed: list[str] = []
        self.later: list[str] = []
        """Names to be looked at again in the next round."""
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
            if self._holdings.snapshot.get(channel.kind, name) is not None:
                continue
            if record is None and channel is self._holdings.virtual_hosts and self._holdings.is_covered(channel, name):
                yield name  # the answer about a table without hosts: its listener waits for it
                continue
            if record is None or record.state is not State.SUSPECT:
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
            name, _ = channel.dirty.popitem(last=False)
            channel.held.discard(name)
            if channel is self._holdings.virtual_hosts:
                self._holdings.hosts.release(name)
            resource = self._holdings.snapshot.get(channel.kind, name)
            if resource is None:
                self._look_at_unwanted(channel, name, draft, now)
            else:
                self._look_at(channel, resource, draft, now)
        channel.mark(draft.later)
        return draft

    def _look_at(self, channel: Channel, resource: Resource, draft: Draft, now: float) -> None:
        """Put a wanted resource into the draft, or where it waits, or leave it if the proxy has it."""
        name = resource.key.name
        channel.absent.pop(name, None)
        if not self._holdings.is_covered(channel, name):
            return
        record = channel.records.get(name)
        if record is not None and not record.needs(resource.version) and not self._is_forced(channel, name, record):
            channel.forced.discard(name)
            if record.state is State.REFUSED:
                self._fall_back(resource, record, draft)
            return
        if self._is_before_its_cluster(channel, name, now):
            draft.later.append(name)
            return
        blockers = self._holdings.ordering.blockers(resource)
        if blockers:
            self._hold(channel, name, blockers, now)
            return
        if channel is self._holdings.virtual_hosts and self._holdings.hosts.park(name):
            return
        channel.forced.discard(name)
        if self._holdings.snapshot.is_suspect(resource):
            self._fall_back(resource, record, draft)
            channel.isolation.quarantine(name, resource.version)
            return
        draft.add(resource)

    def _is_forced(self, channel: Channel, name: str, record: Record) -> bool:
        return name in channel.forced and record.blamed is None

    def _is_before_its_cluster(self, channel: Channel, name: str, now: float) -> bool:
        """Whether these are endpoints of a cluster that is about to be sent: they follow it, else they would go
        twice."""
        return (
            channel is self._holdings.endpoints
            and name in self._holdings.clusters.dirty
            and self._is_open(ResourceType.CLUSTER, now)
        )

    def _fall_back(self, resource: Resource, record: Record | None, draft: Draft) -> None:
        """Give a proxy that has nothing of a refused resource the last good version of it."""
        good = self._holdings.snapshot.last_good(resource.key)
        if good is not None and (record is None or not any(record.in_use())):
            draft.add(good)

    def _look_at_unwanted(self, channel: Channel, name: str, draft: Draft, now: float) -> None:
        """Put the removal of an unwanted resource into the draft, or where it waits."""
        is_forced = name in channel.forced
        channel.forced.discard(name)
        asked = name in channel.absent
        channel.absent.pop(name, None)
        if channel is self._holdings.endpoints and is_forced and self._holdings.is_covered(channel, name):
            self._retired_endpoints(name, draft, asked=asked)
            return
        record = channel.records.get(name)
        if record is None:
            if asked:
                draft.removed.append(name)
            return
        if record.state is State.REMOVING or record.blamed == "":
            return
        match channel.kind:
            case ResourceType.CLUSTER:
                if self._holdings.ordering.may_remove(name, now):
                    draft.removed.append(name)
                else:
                    self._holdings.ordering.doom(name, now)
            case ResourceType.LISTENER:
                draft.removed.append(name)
            case ResourceType.VIRTUAL_HOST:
                self._holdings.hosts.defer_removal(name)
            case ResourceType.ENDPOINTS | ResourceType.SECRET | ResourceType.EXTENSION | ResourceType.ROUTES:
                pass  # the proxy drops them by itself
            case _:
                assert_never(channel.kind)

    def _retired_endpoints(self, name: str, draft: Draft, *, asked: bool) -> None:
        """Endpoints that are not wanted, of a cluster that warms all the same: it must not come up without any, and it
        must not keep all other clusters from being acknowledged."""
        retired = self._holdings.snapshot.retired_endpoints(name)
        if retired is not None:
            draft.add(retired)
        elif asked:
            draft.removed.append(name)

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
