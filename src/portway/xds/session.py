"""One connected proxy: requests and changes in, responses out. No I/O, no clock: time is an argument.

The shell that owns the stream calls `receive` for each request, `changed` for each change, and `poll` until it returns
nothing, whenever one of the two was called or `deadline` has come. Responses are decided as late as possible: what
changes while a response is under way merges, and endpoints pass whatever else waits.

The rules of the protocol that are not in the other modules' tables:

- A changed cluster is followed at once by its endpoints: Envoy warms the new cluster with them and does not ask again.
- Names that Envoy subscribes to again are sent again: it let go of them in between.
- Endpoints, secrets, extensions and route configurations are never removed by us: Envoy unsubscribes when nothing
  uses them.
- A subscription for endpoints that do not exist is answered so. Else their cluster warms for 15 s, and no other
  cluster is acknowledged meanwhile.
- A route configuration without virtual hosts is answered with the removal of one that does not exist, else its
  listener's port stays closed for 15 s: Envoy overhears a response in which there is nothing at all.
"""

from collections.abc import Iterable
from typing import final

import msgspec

from portway.model.resource import Resource, ResourceKey, ResourceType
from portway.xds.channel import Channel
from portway.xds.flights import Flight, Flights, Limits
from portway.xds.holdings import Holdings
from portway.xds.messages import Acceptance, Outcome, Overdue, Refusal, Request, Response
from portway.xds.ordering import Ordering, Timing
from portway.xds.positions import Admission, Marker, Shown
from portway.xds.selection import Draft, Selection
from portway.xds.snapshot import Snapshot
from portway.xds.states import State
from portway.xds.subscriptions import Subscriptions

URGENCY: tuple[ResourceType, ...] = (
    ResourceType.ENDPOINTS,  # pods come and go by themselves; nothing else is as urgent
    ResourceType.CLUSTER,  # before what points at them
    ResourceType.ENDPOINTS,  # those that had to wait for their own cluster's change
    ResourceType.SECRET,  # a listener warms until it has them
    ResourceType.EXTENSION,  # ... and the connection manager that its chains name
    ResourceType.LISTENER,
    ResourceType.ROUTES,
    ResourceType.VIRTUAL_HOST,
)

CLUSTERS_ASKED_S = 20.0
"""A proxy that has not asked for clusters after that does not want any from us. Envoy asks first for them, but after a
reconnect only when none of those that it has is warming: 15 s, its default `initial_fetch_timeout`, and some more."""


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
        self,
        snapshot: Snapshot,
        *,
        proxy: str,
        now: float,
        timing: Timing | None = None,
        limits: Limits | None = None,
        marker: Marker | None = None,
    ) -> None:
        self.proxy = proxy
        self._timing = timing or Timing()
        self._limits = limits or Limits()
        self._connected_at = now
        self._flights = Flights(self._limits)
        self._holdings = Holdings(snapshot, Ordering(snapshot, self._timing))
        self._subscriptions = Subscriptions(self._holdings)
        self._selection = Selection(self._holdings, self._limits, self._is_open)
        self._admission: Admission | None = Admission(marker, snapshot.reading, now, self._timing.behind)
        """Until it was granted."""
        self._early: list[Request] = []
        self._nonce = 0
        self._resources_sent = self._acknowledged = self._refused = self._overdue = self._unsolicited = 0

    # Requests.

    def receive(self, request: Request, now: float) -> tuple[Outcome, ...]:
        """Take a request in. Returns what became of the response that it answers, if it answers one.

        Until the wanted state is complete, and not older than what the proxy has, requests are kept: what a proxy
        reports can be judged only against that.
        """
        if self._admission is not None:
            self._admission.hear(request)
            self._early.append(request)
            self._admit(now)
            return ()
        channel = self._holdings.channels[request.type]
        outcomes = self._answered(channel, request, now) if request.nonce else ()
        self._subscriptions.take(channel, request, now)
        return outcomes

    # Answers.

    def _answered(self, channel: Channel, request: Request, now: float) -> tuple[Outcome, ...]:
        flight = self._flights.answer(request.nonce)
        if flight is None or flight.type is not channel.kind:
            self._unsolicited += 1
            return ()
        if request.error is None:
            return self._accept(channel, flight, request, now)
        self._refused += 1
        if len(flight.resources) + len(flight.removed) > 1:
            self._void(channel, flight)
            return ()
        return self._refuse(channel, flight, request.error, now)

    def _accept(self, channel: Channel, flight: Flight, request: Request, now: float) -> tuple[Outcome, ...]:
        self._acknowledged += 1
        new = channel.acknowledged(flight, now)
        for resource in flight.resources:
            self._holdings.snapshot.note_acceptance(resource)
            channel.isolation.forget(resource.key.name)
        for name in flight.removed:
            channel.isolation.forget(name)
        if channel is self._holdings.clusters:
            for resource in flight.resources:
                self._holdings.release(self._holdings.ordering.acknowledged(resource, flight.nonce))
        elif channel is self._holdings.endpoints or channel is self._holdings.secrets:
            for resource in flight.resources:
                # Of a cluster that it has dropped: it says so in the same breath, and overheard them.
                if resource.key.name in channel.records and resource.key.name not in request.unsubscribe:
                    self._holdings.supplied(resource.key, flight.nonce)
        elif channel is self._holdings.routes:
            for name in new:
                self._holdings.open(name, now, fresh=True)
        elif channel is self._holdings.virtual_hosts:
            self._holdings.hosts.removed(name for name in flight.removed if name not in channel.records)
        return (Acceptance(type=channel.kind, resources=flight.resources, removed=flight.removed),)

    def _void(self, channel: Channel, flight: Flight) -> None:
        lacking = channel.voided(flight)
        if channel is self._holdings.clusters:
            for name in lacking:
                self._holdings.ordering.voided(name)
        channel.isolation.split(flight.resources, flight.removed, last_chance=flight.last_chance)

    def _refuse(self, channel: Channel, flight: Flight, message: str, now: float) -> tuple[Outcome, ...]:
        record = channel.refused(flight, now)
        if record is None or record.blamed is None:
            return ()
        name = flight.resources[0].key.name if flight.resources else flight.removed[0]
        if channel is self._holdings.clusters and record.held is None:
            self._holdings.ordering.voided(name)
        if flight.resources and not flight.last_chance and not self._is_settled(channel):
            channel.isolation.grant_second_chance(name, record.blamed, now + self._timing.wait)
            return ()
        key = ResourceKey(channel.kind, name)
        self._holdings.snapshot.note_refusal(key, record.blamed)
        channel.dirty[name] = None  # if the proxy has no version of it at all, there may be an older one to serve
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
            channel = self._holdings.channels[kind]
            if kind is ResourceType.CLUSTER:
                if self._holdings.snapshot.get(kind, name) is None:
                    self._holdings.release(self._holdings.ordering.unwanted(name))
                    if name in channel.records:
                        self._holdings.ordering.doom(name, now)
                else:
                    self._holdings.ordering.spare(name)
            elif kind is ResourceType.ROUTES:
                self._holdings.virtual_hosts.mark(self._holdings.hosts.deferred(name))
            channel.clear_blame(name)
            if channel.started:
                channel.dirty[name] = None

    # Responses.

    def poll(self, now: float) -> tuple[Response | None, tuple[Outcome, ...]]:
        """The next response to be sent now, if there is one, and the clusters that have become overdue."""
        if not self._admit(now):
            return None, ()
        outcomes = self._advance(now)
        response = self._next(now)
        due = self._holdings.ordering.deadline()
        if response is None and due is not None and due <= now:
            # What was just held back waits for a cluster whose bound is over already.
            outcomes += self._advance(now)
            response = self._next(now)
        return response, outcomes

    def _admit(self, now: float) -> bool:
        """Whether we may speak to the proxy; if so, what it said before is taken in."""
        if self._admission is None:
            return True
        snapshot = self._holdings.snapshot
        if not snapshot.synced or not self._admission.is_granted(now):
            return False
        self._admission = None
        early, self._early = self._early, []
        for request in early:  # none of them answers a response: there was none
            self._subscriptions.take(self._holdings.channels[request.type], request, now)
        return True

    def _next(self, now: float) -> Response | None:
        for kind in URGENCY:
            channel = self._holdings.channels[kind]
            if not channel.started or not channel.has_work or not self._is_open(kind, now):
                continue
            draft = self._selection.next(channel, now)
            if draft is not None:
                return self._launch(channel, draft, now)
        return None

    def deadline(self, now: float) -> float | None:
        """When `poll` wants to be called next if nothing happens; `None`: not at all."""
        if self._admission is not None:
            due = self._admission.due() if self._holdings.snapshot.synced else None
            return due if due is not None and due > now else None
        times = [self._holdings.ordering.deadline()]
        for channel in self._holdings.channels.values():
            times.append(channel.isolation.chance_due())
            if channel.started and channel.has_work:
                opens = self._flights.opens_at(channel.kind, now)
                times.append(opens if opens is not None and opens > now else None)
        return min((time for time in times if time is not None), default=None)

    def _advance(self, now: float) -> tuple[Outcome, ...]:
        for channel in self._holdings.channels.values():
            if channel.isolation.has_chances:
                channel.isolation.call_chances(now, settled=self._is_settled(channel))
        due = self._holdings.ordering.advance(now, is_queued=lambda cluster: self._is_queued(cluster, now))
        self._holdings.release(due.released)
        self._holdings.clusters.mark(due.removable)
        self._overdue += len(due.overdue)
        return tuple(
            Overdue(cluster=name, origins=wanted.origins if wanted else ())
            for name in due.overdue
            for wanted in (self._holdings.snapshot.get(ResourceType.CLUSTER, name),)
        )

    def _is_queued(self, cluster: str, now: float) -> bool:
        if not self._holdings.clusters.started:
            return now < self._connected_at + CLUSTERS_ASKED_S
        return self._holdings.clusters.is_pending(cluster)

    def _is_open(self, kind: ResourceType, now: float) -> bool:
        opens = self._flights.opens_at(kind, now)
        return opens is not None and opens <= now

    def _launch(self, channel: Channel, draft: Draft, now: float) -> Response:
        self._nonce += 1
        flight = Flight(
            nonce=self._nonce,
            type=channel.kind,
            resources=tuple(draft.resources),
            removed=tuple(draft.removed),
            size_bytes=draft.size_bytes,
            sent_at=now,
            last_chance=draft.last_chance,
        )
        channel.owes_answer = False
        channel.launched(flight)
        self._flights.add(flight)
        self._resources_sent += len(flight.resources)
        if channel is self._holdings.virtual_hosts:
            for resource in flight.resources:
                self._holdings.hosts.note(resource.key.name)
        elif channel is self._holdings.clusters:
            for resource in flight.resources:
                name = resource.key.name
                self._holdings.ordering.sent(resource, flight.nonce, now)
                if name in self._holdings.endpoints.names:
                    self._holdings.endpoints.force(name)
            for name in flight.removed:
                self._holdings.ordering.removed(name)
        return Response(type=flight.type, nonce=str(flight.nonce), resources=flight.resources, removed=flight.removed)

    # Looking.

    @property
    def awaited(self) -> dict[str, Shown]:
        """What keeps us from speaking to a proxy that has more than we: by kind, what we have to know.

        Empty: nothing does.
        """
        if self._admission is None or not self._holdings.snapshot.synced:
            return {}
        return self._admission.awaited

    def is_to_leave(self, now: float) -> bool:
        """Whether the proxy should look for another replica: this one has not caught up with it in time."""
        return self._admission is not None and self._holdings.snapshot.synced and self._admission.is_over(now)

    @property
    def names_kept(self) -> int:
        """How many names and versions that the proxy spoke of are kept here."""
        early = sum(1 + len(one.subscribe) + len(one.unsubscribe) + len(one.versions) for one in self._early)
        return early + sum(len(one.names) + len(one.records) for one in self._holdings.channels.values())

    def has_asked_for(self, kind: ResourceType, name: str) -> bool:
        """Whether the proxy wants this resource, if it exists."""
        channel = self._holdings.channels[kind]
        return channel.started and self._holdings.is_covered(channel, name)

    def holds(self, key: ResourceKey, version: str) -> bool:
        """Whether the proxy has acknowledged this version, and no answer since says that it has another."""
        return self._holdings.channels[key.type].holds(key.name, version)

    def is_done(self, key: ResourceKey, wanted: Resource | None) -> bool:
        """Whether the proxy is where it shall be about this resource, as far as it wants it.

        Endpoints, secrets and clusters that it did not ask for are none of its business, and unwanted ones stay until
        it drops them or the grace is over.
        """
        kind, name = key
        serves = kind in (ResourceType.LISTENER, ResourceType.ROUTES, ResourceType.VIRTUAL_HOST)
        if wanted is None:
            return not serves or name not in self._holdings.channels[kind].records
        if not serves and not self.has_asked_for(kind, name):
            return True
        return self.holds(key, wanted.version)

    def is_held_back(self, key: ResourceKey) -> bool:
        """Whether it waits for a cluster to become ready before it is sent."""
        return key.name in self._holdings.channels[key.type].held

    def state_of(self, key: ResourceKey) -> State:
        """What the proxy has of a resource."""
        record = self._holdings.channels[key.type].records.get(key.name)
        return State.UNKNOWN if record is None else record.state

    def statistics(self) -> SessionStatistics:
        """What the session did and what it waits for; counts of now."""
        channels = self._holdings.channels.values()
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
