"""All proxies that share one configuration: changes go out to each of their sessions, acknowledgements come in."""

from collections.abc import Iterable, Iterator, Mapping
from typing import final

import msgspec

from portway.model.resource import Resource, ResourceDelta, ResourceKey
from portway.xds.flights import Limits
from portway.xds.messages import Acceptance, Outcome, Overdue, Refusal, Request
from portway.xds.ordering import Timing
from portway.xds.positions import Marker, Position
from portway.xds.session import Session, SessionStatistics
from portway.xds.snapshot import Snapshot


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the wanted versions of some resources have come."""

    proxies: int
    """Connected ones."""
    acknowledged: int
    """Those of them that hold all of it: each wanted version that they subscribed to, and nothing that is unwanted."""
    waiting: tuple[ResourceKey, ...] = ()
    """What not every connected proxy has, refused ones among it, in the order asked."""
    held_back: tuple[ResourceKey, ...] = ()
    """Those of them that some proxy is not sent yet: they need a cluster that is not ready in it."""
    refusals: tuple[Refusal, ...] = ()
    """Of wanted versions, one per resource, in the order asked."""

    @property
    def complete(self) -> bool:
        """Whether at least one proxy is connected and all of them hold it."""
        return 0 < self.proxies == self.acknowledged


class FleetStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One fleet, seen from its control plane."""

    synced: bool
    resources: int
    """Wanted ones."""
    refused: int
    """Of those, the ones that some proxy refuses."""
    sessions: tuple[SessionStatistics, ...]


@final
class FleetState:
    """The wanted resources of one fleet and the sessions that deliver them.

    A change of k resources costs O(k) here and in each session, however many there are.
    """

    def __init__(
        self, *, timing: Timing | None = None, limits: Limits | None = None, marker: Marker | None = None
    ) -> None:
        self.snapshot = Snapshot()
        self._marker = marker
        self._position: Position | None = None
        self._timing = timing or Timing()
        self._limits = limits or Limits()
        self._sessions: dict[Session, None] = {}
        self._refusals: dict[ResourceKey, Refusal] = {}
        self._stirred: dict[ResourceKey, None] = {}
        self.is_watched = False
        """Whether somebody takes what is stirred. While nobody does, nothing is kept that is not wanted any more."""

    @property
    def synced(self) -> bool:
        """Whether the wanted state is complete; until then nothing is sent."""
        return self.snapshot.synced

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Of the connected proxies, in the order in which they came."""
        return tuple(self._sessions)

    def apply(self, delta: ResourceDelta, now: float) -> None:
        """Take a change in and hand it to each session."""
        keys = self.snapshot.apply(self._marked(delta))
        for key in keys:
            self._refusals.pop(key, None)
        if not self.is_watched:
            for key in delta.removed:
                self._stirred.pop(key, None)
        for session in self._sessions:
            session.changed(keys, now)

    def _marked(self, delta: ResourceDelta) -> ResourceDelta:
        """With the position that it may come from, if it changes anything. What is kept on disk may name a marker."""
        if self._marker is None or self._position is None or not (delta.changed or delta.removed):
            return delta
        mine = self._marker.keys
        return ResourceDelta(
            changed=(*(one for one in delta.changed if one.key not in mine), *self._marker.at(self._position)),
            removed=tuple(key for key in delta.removed if key not in mine),
        )

    def announce(self, position: Position) -> None:
        """What is applied from now on may come from there; before the `apply`."""
        self._position = position

    def reach(self, position: Position, as_of: Mapping[str, float] | None = None) -> None:
        """All that comes from up to there was applied; after the `apply`. Sessions that wait for it are to be
        polled.

        Args:
            as_of: see `Reading.reach`.
        """
        self.snapshot.reading.reach(position, as_of or {})

    def mark_synced(self) -> None:
        """The wanted state is complete from now on."""
        self.snapshot.synced = True

    def connect(self, proxy: str, now: float) -> Session:
        """A proxy has opened a stream. Each session wants its `disconnect`."""
        session = Session(
            self.snapshot, proxy=proxy, now=now, timing=self._timing, limits=self._limits, marker=self._marker
        )
        self._sessions[session] = None
        return session

    def disconnect(self, session: Session) -> None:
        """The stream is over."""
        self._sessions.pop(session, None)

    def receive(self, session: Session, request: Request, now: float) -> tuple[Outcome, ...]:
        """Let a session take a request in, and note what became of the response that it answers."""
        outcomes = session.receive(request, now)
        for outcome in outcomes:
            match outcome:
                case Acceptance():
                    self._note_acceptance(outcome)
                case Refusal():
                    self._note_refusal(outcome)
                case Overdue():
                    pass
        return outcomes

    def _note_acceptance(self, acceptance: Acceptance) -> None:
        for resource in acceptance.resources:
            if self.is_watched or self.snapshot.get(*resource.key) is not None:
                self._stirred[resource.key] = None
            refusal = self._refusals.get(resource.key)
            if refusal is not None and refusal.version == resource.version:
                del self._refusals[resource.key]
        for name in acceptance.removed:
            key = ResourceKey(acceptance.type, name)
            if self.is_watched or self.snapshot.get(*key) is not None:
                self._stirred[key] = None

    def _note_refusal(self, refusal: Refusal) -> None:
        self._stirred[refusal.key] = None
        wanted = self.snapshot.get(*refusal.key)
        if wanted is not None and wanted.version == refusal.version:
            self._refusals[refusal.key] = refusal

    def take_stirred(self) -> frozenset[ResourceKey]:
        """The resources about which some proxy has said something since the last call: whose `progress` may be another.

        Coalescing: each key at most once, however often it was acknowledged, so a slow reader costs no more than the
        keys that exist. Removals are kept only while `is_watched`.
        """
        stirred = frozenset(self._stirred)
        self._stirred = {}
        return stirred

    def progress(self, keys: Iterable[ResourceKey]) -> Progress:
        """How far these have come, in O(keys * proxies); a key that is not wanted counts as done once it is gone."""
        asked = tuple(keys)
        lacking = [
            [key for key in asked if not session.is_done(key, self.snapshot.get(*key))] for session in self._sessions
        ]
        missing = {key for keys in lacking for key in keys}
        waiting = tuple(key for key in asked if key in missing)
        return Progress(
            proxies=len(lacking),
            acknowledged=sum(not keys for keys in lacking),
            waiting=waiting,
            held_back=tuple(key for key in waiting if any(session.is_held_back(key) for session in self._sessions)),
            refusals=tuple(self._refusals[key] for key in asked if key in self._refusals),
        )

    def refusals(self) -> tuple[Refusal, ...]:
        """Of all wanted versions that some connected proxy refused, the latest for each."""
        return tuple(self._refusals.values())

    def good_resources(self) -> Iterator[Resource]:
        """What the proxies serve: each wanted resource in the latest version that some proxy acknowledged.

        To be kept on disk for the next control plane (`remember_good`, or as the whole wanted state if the sources
        cannot be read). O(all).
        """
        mine = self._marker.keys if self._marker is not None else ()
        return (resource for resource in self.snapshot.good() if resource.key not in mine)

    def remember_good(self, resources: Iterable[Resource]) -> None:
        """Take over what a former control plane's `good_resources` were; before the first `apply`.

        With it, a version that a reconnecting proxy reports is no riddle, and a proxy that starts anew while the wanted
        version of something is refused gets the last good one.
        """
        self.snapshot.remember_good(resources)

    def statistics(self) -> FleetStatistics:
        """A frozen view; O(resources of each session)."""
        return FleetStatistics(
            synced=self.synced,
            resources=len(self.snapshot),
            refused=len(self._refusals),
            sessions=tuple(session.statistics() for session in self._sessions),
        )
