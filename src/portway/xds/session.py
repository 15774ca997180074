"""One connected proxy: requests and changes in, responses out. No I/O, no clock: time is an argument.

The shell that owns the stream calls `receive` for each request, `changed` for each change, and `poll` until it returns
nothing, whenever one of the two was called or `deadline` has come. Responses are decided as late as possible: what
changes while a response is under way merges, and endpoints pass whatever else waits.

The rules of the protocol that are not in the other modules' tables:

- A changed cluster is followed at once by its endpoints: Envoy warms the new cluster with them and does not ask again.
- Names that Envoy subscribes to again are sent again: it let go of them in between.
- Endpoints, secrets and route configurations are never removed by us: Envoy unsubscribes when nothing uses them.
- A subscription for endpoints that do not exist is answered so. Else their cluster warms for 15 s, and no other
  cluster is acknowledged meanwhile.
- A route configuration without virtual hosts is answered with the removal of one that does not exist, else its
  listener's port stays closed for 15 s: Envoy overhears a response in which there is nothing at all.
"""

from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import assert_never, final

import msgspec

from portway.model.resource import Resource, ResourceKey, ResourceType
from portway.xds.channel import WILDCARD, Channel
from portway.xds.flights import Flight, Flights, Limits, wire_size_bytes
from portway.xds.hosts import Hosts
from portway.xds.isolation import Group
from portway.xds.messages import Acceptance, Outcome, Overdue, Refusal, Request, Response
from portway.xds.ordering import Ordering, Timing
from portway.xds.snapshot import Snapshot, route_configuration_of
from portway.xds.states import State

URGENCY: tuple[ResourceType, ...] = (
    ResourceType.ENDPOINTS,  # pods come and go by themselves; nothing else is as urgent
    ResourceType.CLUSTER,  # before what points at them
    ResourceType.ENDPOINTS,  # those that had to wait for their own cluster's change
    ResourceType.SECRET,  # a listener warms until it has them
    ResourceType.LISTENER,
    ResourceType.ROUTES,
    ResourceType.VIRTUAL_HOST,
)

NO_HOST = "-"  # no virtual host is called so: it is no host name


class Step(Enum):
    """What to do with a resource that was looked at."""

    SEND = auto()
    REMOVE = auto()
    LATER = auto()
    """Look at it again in the next round."""
    NOTHING = auto()
    """Either there is nothing to do, or it was put where it waits."""


class Draft:
    """A response in the making."""

    __slots__ = ("later", "removed", "resources", "size_bytes")

    def __init__(self) -> None:
        self.resources: list[Resource] = []
        self.removed: list[str] = []
        self.later: list[str] = []
        self.size_bytes = 0

    def add(self, resource: Resource) -> None:
        self.resources.append(resource)
        self.size_bytes += wire_size_bytes(resource)

    def __bool__(self) -> bool:
        return bool(self.resources or self.removed)


class SessionStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What one session did and what it waits for."""

    proxy: str
    connected_at: float
    held_by_proxy: int
    """Resources that the proxy acknowledged."""
    queued: int
    """Resources that are about to be sent."""
    held_back: int
    """Resources that wait for a cluster."""
    responses_in_flight: int
    in_flight_bytes: int
    responses: int
    resources_sent: int
    acknowledged: int
    """Responses that were."""
    refused: int
    """Responses that were, those for isolation included."""
    overdue: int
    """Clusters that did not become ready in time."""
    unsolicited: int
    """Answers to responses that we do not know."""


@final
class Session:
    """The protocol with one proxy, from the start of its stream to the end."""

    def __init__(
        self, snapshot: Snapshot, *, proxy: str, now: float, timing: Timing | None = None, limits: Limits | None = None
    ) -> None:
        self.proxy = proxy
        self._snapshot = snapshot
        self._timing = timing or Timing()
        self._limits = limits or Limits()
        self._connected_at = now
        self._ordering = Ordering(snapshot, self._timing)
        self._flights = Flights(self._limits)
        self._channels: Mapping[ResourceType, Channel] = {kind: Channel(kind, self._ordering) for kind in ResourceType}
        self._clusters = self._channels[ResourceType.CLUSTER]
        self._endpoints = self._channels[ResourceType.ENDPOINTS]
        self._routes = self._channels[ResourceType.ROUTES]
        self._virtual_hosts = self._channels[ResourceType.VIRTUAL_HOST]
        self._hosts = Hosts()
        self._nonce = 0
        self._resources_sent = self._acknowledged = self._refused = self._overdue = self._unsolicited = 0

    # Requests.

    def receive(self, request: Request, now: float) -> tuple[Outcome, ...]:
        """Take a request in. Returns what became of the response that it answers, if it answers one."""
        channel = self._channels[request.type]
        outcomes = self._answered(channel, request, now) if request.nonce else ()
        if not channel.started:
            self._start(channel, request, now)
        else:
            self._subscribe(channel, request, now)
        return outcomes

    def _start(self, channel: Channel, request: Request, now: float) -> None:
        channel.start(request.subscribe)
        for name, version in request.versions.items():
            if channel is self._virtual_hosts and not self._has_routes(route_configuration_of(name)):
                continue  # Envoy remembers versions of hosts whose route configuration it has dropped
            channel.report(name, version, self._snapshot.recall(channel.kind, name, version))
            if channel is self._virtual_hosts:
                self._hosts.note(name)
        channel.mark(channel.names)
        match channel.kind:
            case ResourceType.CLUSTER:
                self._start_clusters(now)
            case ResourceType.ENDPOINTS:
                self._start_endpoints()
            case ResourceType.LISTENER:
                self._mark_all(channel)
            case ResourceType.ROUTES:
                self._start_routes(now)
            case ResourceType.VIRTUAL_HOST:
                self._start_virtual_hosts(now)
            case ResourceType.SECRET:
                pass
            case _:
                assert_never(channel.kind)

    def _start_clusters(self, now: float) -> None:
        for name in self._clusters.records:
            self._release(self._ordering.reported(name))
            if self._snapshot.get(ResourceType.CLUSTER, name) is None:
                self._ordering.doom(name, now)
        self._mark_all(self._clusters)

    def _start_endpoints(self) -> None:
        channel = self._endpoints
        channel.absent.update(dict.fromkeys(channel.names))
        for name in channel.records:
            self._release(self._ordering.endpoints_acknowledged(name))
        if not self._clusters.started:
            # Envoy asks for clusters first, unless one is warming: a changed one, whose endpoints went down with the
            # former stream. It would wait for them in vain and then come up without any.
            for name in channel.records:
                channel.force(name)

    def _start_routes(self, now: float) -> None:
        for owner in self._hosts.owners():
            if owner not in self._routes.records:
                self._forget_hosts(owner, now)
        for name in self._routes.records:
            self._open(name, now, fresh=not self._hosts.noted(name))

    def _start_virtual_hosts(self, now: float) -> None:
        channel = self._virtual_hosts
        channel.mark(channel.records)
        for name in [name for name, record in self._routes.records.items() if record.held is not None]:
            self._open(name, now, fresh=not self._hosts.noted(name))

    def _mark_all(self, channel: Channel) -> None:
        if channel.wildcard:
            channel.owes_answer = not channel.records
            channel.mark(self._snapshot.of_type(channel.kind))
        channel.mark(channel.records)

    def _subscribe(self, channel: Channel, request: Request, now: float) -> None:
        for name in request.unsubscribe:
            channel.names.discard(name)
            if name == WILDCARD:
                channel.wildcard = False
            self._forget(channel, name, now)
        for name in request.subscribe:
            if name == WILDCARD:
                channel.wildcard = True
                channel.mark(self._snapshot.of_type(channel.kind))
                continue
            channel.names.add(name)
            if channel is self._routes:
                self._forget(channel, name, now)  # a new user: the former one took its virtual hosts along
            channel.force(name)
            if channel is self._endpoints or channel is self._virtual_hosts:
                channel.absent[name] = None

    def _forget(self, channel: Channel, name: str, now: float) -> None:
        channel.forget(name, now)
        if channel is self._endpoints:
            self._ordering.endpoints_dropped(name)
        if channel is self._routes:
            self._forget_hosts(name, now)

    def _forget_hosts(self, route_configuration: str, now: float) -> None:
        for host in self._hosts.forget(route_configuration):
            self._virtual_hosts.forget(host, now)

    # Answers.

    def _answered(self, channel: Channel, request: Request, now: float) -> tuple[Outcome, ...]:
        flight = self._flights.answer(request.nonce)
        if flight is None or flight.type is not channel.kind:
            self._unsolicited += 1
            return ()
        if request.error is None:
            return self._accept(channel, flight, now)
        self._refused += 1
        if len(flight.resources) + len(flight.removed) > 1:
            self._void(channel, flight)
            return ()
        return self._refuse(channel, flight, request.error, now)

    def _accept(self, channel: Channel, flight: Flight, now: float) -> tuple[Outcome, ...]:
        self._acknowledged += 1
        new = channel.acknowledged(flight, now)
        for resource in flight.resources:
            self._snapshot.note_acceptance(resource)
            channel.isolation.forget(resource.key.name)
        if channel is self._clusters:
            for resource in flight.resources:
                self._release(self._ordering.acknowledged(resource.key.name))
        elif channel is self._endpoints:
            for resource in flight.resources:
                if resource.key.name in channel.records:
                    self._release(self._ordering.endpoints_acknowledged(resource.key.name))
        elif channel is self._routes:
            for name in new:
                self._open(name, now, fresh=True)
        elif channel is self._virtual_hosts:
            self._hosts.removed(name for name in flight.removed if name not in channel.records)
        return (Acceptance(type=channel.kind, resources=flight.resources, removed=flight.removed),)

    def _void(self, channel: Channel, flight: Flight) -> None:
        lacking = channel.voided(flight)
        if channel is self._clusters:
            for name in lacking:
                self._ordering.voided(name)
        channel.isolation.split(flight.resources, flight.removed, last_chance=flight.last_chance)

    def _refuse(self, channel: Channel, flight: Flight, message: str, now: float) -> tuple[Outcome, ...]:
        record = channel.refused(flight, now)
        if record is None or record.blamed is None:
            return ()
        name = flight.resources[0].key.name if flight.resources else flight.removed[0]
        if channel is self._clusters and record.held is None:
            self._ordering.voided(name)
        if flight.resources and not flight.last_chance and not self._is_settled(channel):
            channel.isolation.grant_second_chance(name, record.blamed, now + self._timing.wait)
            return ()
        key = ResourceKey(channel.kind, name)
        self._snapshot.note_refusal(key, record.blamed)
        if not channel.isolation.retry_later(name, record.blamed, now):
            return ()
        origins = flight.resources[0].origins if flight.resources else ()
        return (Refusal(key=key, version=record.blamed, message=message, origins=origins),)

    def _is_settled(self, channel: Channel) -> bool:
        return not (channel.dirty or channel.held or channel.isolation or self._flights.of_type(channel.kind))

    # Changes.

    def changed(self, keys: Iterable[ResourceKey], now: float) -> None:
        """Another version of these is wanted now, or none; the snapshot has it already."""
        for kind, name in keys:
            channel = self._channels[kind]
            if kind is ResourceType.CLUSTER:
                if self._snapshot.get(kind, name) is None:
                    self._release(self._ordering.unwanted(name))
                    if name in channel.records:
                        self._ordering.doom(name, now)
                else:
                    self._ordering.spare(name)
            elif kind is ResourceType.ROUTES:
                self._virtual_hosts.mark(self._hosts.deferred(name))
            if channel.started:
                channel.dirty[name] = None

    def _release(self, keys: Iterable[ResourceKey]) -> None:
        for kind, name in keys:
            self._channels[kind].dirty[name] = None

    def _has_routes(self, name: str) -> bool:
        """Whether the proxy has the route configuration, or may have it: it has not asked for any on this stream
        yet."""
        record = self._routes.records.get(name)
        return not self._routes.started or (record is not None and record.held is not None)

    def _open(self, name: str, now: float, *, fresh: bool) -> None:
        """The proxy has the route configuration `name`; if it is `fresh`, it has no virtual host of it."""
        channel = self._virtual_hosts
        if not channel.started:
            return
        hosts = self._snapshot.virtual_hosts(name)
        if fresh:
            self._forget_hosts(name, now)
            self._hosts.open(name)
            if not hosts:
                channel.absent[f"{name}/{NO_HOST}"] = None
                channel.dirty[f"{name}/{NO_HOST}"] = None
        channel.mark(hosts)

    # Responses.

    def poll(self, now: float) -> tuple[Response | None, tuple[Outcome, ...]]:
        """The next response to be sent now, if there is one, and the clusters that have become overdue."""
        if not self._snapshot.synced:
            return None, ()
        outcomes = self._advance(now)
        for kind in URGENCY:
            channel = self._channels[kind]
            if not channel.started or not channel.has_work or not self._is_open(kind, now):
                continue
            flight = self._again(channel, now) or self._fresh(channel, now)
            if flight is not None:
                self._launch(channel, flight, now)
                return self._response(flight), outcomes
        return None, outcomes

    def deadline(self, now: float) -> float | None:
        """When `poll` wants to be called next if nothing happens; `None`: not at all."""
        times = [self._ordering.deadline()]
        for channel in self._channels.values():
            times.append(channel.isolation.chance_due())
            if channel.started and channel.has_work:
                opens = self._flights.opens_at(channel.kind, now)
                times.append(opens if opens is not None and opens > now else None)
        return min((time for time in times if time is not None), default=None)

    def _advance(self, now: float) -> tuple[Outcome, ...]:
        for channel in self._channels.values():
            if channel.isolation.has_chances:
                channel.isolation.call_chances(now, settled=self._is_settled(channel))
        due = self._ordering.advance(now, is_queued=self._is_queued)
        self._release(due.released)
        self._clusters.mark(due.removable)
        self._overdue += len(due.overdue)
        return tuple(
            Overdue(cluster=name, origins=wanted.origins if wanted else ())
            for name in due.overdue
            for wanted in (self._snapshot.get(ResourceType.CLUSTER, name),)
        )

    def _is_queued(self, cluster: str) -> bool:
        return self._clusters.started and self._clusters.is_pending(cluster)

    def _is_open(self, kind: ResourceType, now: float) -> bool:
        opens = self._flights.opens_at(kind, now)
        return opens is not None and opens <= now

    def _again(self, channel: Channel, now: float) -> Flight | None:
        """What was in a refused response and is still to be sent."""
        while (group := channel.isolation.take()) is not None:
            draft = Draft()
            for name, version in group.versions.items():
                resource = self._snapshot.get(channel.kind, name)
                record = channel.records.get(name)
                if resource is None or resource.version != version:
                    continue  # something newer is wanted: that goes the common way
                news = record is None or record.blamed == version or record.needs(version)
                if news and self._is_covered(channel, name):
                    draft.add(resource)
            draft.removed.extend(self._removals_again(channel, group, now))
            if draft:
                return self._flight(channel, draft, now, last_chance=group.last_chance)
        return None

    def _removals_again(self, channel: Channel, group: Group, now: float) -> Iterable[str]:
        for name in group.removed:
            record = channel.records.get(name)
            if (
                record is None
                or record.state is not State.SUSPECT
                or self._snapshot.get(channel.kind, name) is not None
            ):
                continue
            if channel is self._clusters and self._ordering.is_used(name):
                self._ordering.doom(name, now)
                continue
            yield name

    def _fresh(self, channel: Channel, now: float) -> Flight | None:
        """What changed or was asked for."""
        draft = self._draft(channel, now)
        if channel is self._virtual_hosts:
            channel.mark(self._hosts.opened())
            if not draft:
                draft = self._draft(channel, now)
            owners = {route_configuration_of(resource.key.name) for resource in draft.resources}
            for name in self._hosts.removable(owners):
                self._remove_host(name, draft)
        if not draft and not (channel.owes_answer and not channel.held and not channel.isolation):
            return None
        return self._flight(channel, draft, now)

    def _draft(self, channel: Channel, now: float) -> Draft:
        draft = Draft()
        chunk = self._limits.chunk_of(channel.kind)
        while channel.dirty and len(draft.resources) < chunk.resources and draft.size_bytes < chunk.size_bytes:
            name = next(iter(channel.dirty))
            del channel.dirty[name]
            match self._look_at(channel, name, now):
                case Step.SEND:
                    resource = self._snapshot.get(channel.kind, name)
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
        resource = self._snapshot.get(channel.kind, name)
        channel.held.discard(name)
        if channel is self._virtual_hosts:
            self._hosts.release(name)
        if resource is None:
            return self._look_at_unwanted(channel, name, now)
        channel.absent.pop(name, None)
        if not self._is_covered(channel, name):
            return Step.NOTHING
        record = channel.records.get(name)
        is_news = record is None or record.needs(resource.version)
        if not is_news and (name not in channel.forced or (record is not None and record.blamed is not None)):
            channel.forced.discard(name)
            return Step.NOTHING
        if channel is self._endpoints and name in self._clusters.dirty and self._is_open(ResourceType.CLUSTER, now):
            return Step.LATER  # right after its own cluster, else they would have to be sent twice
        blockers = self._ordering.blockers(resource)
        if blockers:
            self._hold(channel, name, blockers, now)
            return Step.NOTHING
        if channel is self._virtual_hosts and self._hosts.park(name):
            return Step.NOTHING
        channel.forced.discard(name)
        if self._snapshot.is_suspect(resource):
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
                if self._ordering.may_remove(name, now):
                    return Step.REMOVE
                self._ordering.doom(name, now)
            case ResourceType.LISTENER:
                return Step.REMOVE
            case ResourceType.VIRTUAL_HOST:
                self._hosts.defer_removal(name)
            case ResourceType.ENDPOINTS | ResourceType.SECRET | ResourceType.ROUTES:
                pass  # the proxy drops them by itself
            case _:
                assert_never(channel.kind)
        return Step.NOTHING

    def _remove_host(self, name: str, draft: Draft) -> None:
        record = self._virtual_hosts.records.get(name)
        if record is None or self._snapshot.get(ResourceType.VIRTUAL_HOST, name) is not None:
            return
        if self._snapshot.get(ResourceType.ROUTES, route_configuration_of(name)) is None:
            self._hosts.defer_removal(name)
        elif record.state is not State.REMOVING:
            draft.removed.append(name)

    def _is_covered(self, channel: Channel, name: str) -> bool:
        """Whether the proxy's subscription holds this name."""
        if name in channel.names:
            return True
        if channel is not self._virtual_hosts:
            return channel.wildcard
        owner = route_configuration_of(name)
        routes = self._routes.records.get(owner)
        return (channel.wildcard or owner in channel.names) and routes is not None and routes.held is not None

    def _hold(self, channel: Channel, name: str, blockers: list[str], now: float) -> None:
        channel.held.add(name)
        self._ordering.hold(ResourceKey(channel.kind, name), blockers, now)
        if channel is self._virtual_hosts:
            self._hosts.hold(name, is_coming=all(self._ordering.is_coming(cluster) for cluster in blockers))

    def _flight(self, channel: Channel, draft: Draft, now: float, *, last_chance: bool = False) -> Flight:
        self._nonce += 1
        return Flight(
            nonce=self._nonce,
            type=channel.kind,
            resources=tuple(draft.resources),
            removed=tuple(draft.removed),
            size_bytes=draft.size_bytes,
            sent_at=now,
            last_chance=last_chance,
        )

    def _launch(self, channel: Channel, flight: Flight, now: float) -> None:
        channel.owes_answer = False
        channel.launched(flight)
        self._flights.add(flight)
        self._resources_sent += len(flight.resources)
        if channel is self._virtual_hosts:
            for resource in flight.resources:
                self._hosts.note(resource.key.name)
        elif channel is self._clusters:
            for resource in flight.resources:
                name = resource.key.name
                self._ordering.sent(name, now)
                if name in self._endpoints.names:
                    self._endpoints.force(name)
            for name in flight.removed:
                self._ordering.removed(name)

    @staticmethod
    def _response(flight: Flight) -> Response:
        return Response(type=flight.type, nonce=str(flight.nonce), resources=flight.resources, removed=flight.removed)

    # Looking.

    def has_asked_for(self, kind: ResourceType, name: str) -> bool:
        """Whether the proxy wants this resource, if it exists."""
        channel = self._channels[kind]
        return channel.started and self._is_covered(channel, name)

    def holds(self, key: ResourceKey, version: str) -> bool:
        """Whether the proxy has acknowledged this version, and no answer since says that it has another."""
        return self._channels[key.type].holds(key.name, version)

    def is_done(self, key: ResourceKey, wanted: Resource | None) -> bool:
        """Whether the proxy is where it shall be about this resource, as far as it wants it.

        Endpoints, secrets and clusters that it did not ask for are none of its business, and unwanted ones stay until
        it drops them or the grace is over.
        """
        kind, name = key
        serves = kind in (ResourceType.LISTENER, ResourceType.ROUTES, ResourceType.VIRTUAL_HOST)
        if wanted is None:
            return not serves or name not in self._channels[kind].records
        if not serves and not self.has_asked_for(kind, name):
            return True
        return self.holds(key, wanted.version)

    def state_of(self, key: ResourceKey) -> State:
        """What the proxy has of a resource."""
        record = self._channels[key.type].records.get(key.name)
        return State.UNKNOWN if record is None else record.state

    def statistics(self) -> SessionStatistics:
        """What the session did and what it waits for; counts of now."""
        channels = self._channels.values()
        return SessionStatistics(
            proxy=self.proxy,
            connected_at=self._connected_at,
            held_by_proxy=sum(record.held is not None for channel in channels for record in channel.records.values()),
            queued=sum(len(channel.dirty) for channel in channels),
            held_back=sum(len(channel.held) for channel in channels),
            responses_in_flight=len(self._flights),
            in_flight_bytes=self._flights.size_bytes,
            responses=self._nonce,
            resources_sent=self._resources_sent,
            acknowledged=self._acknowledged,
            refused=self._refused,
            overdue=self._overdue,
            unsolicited=self._unsolicited,
        )
