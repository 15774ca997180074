"""One resource type of one proxy: what it subscribed to, what it has, and what is to be looked at."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import final

from portway.model.resource import Resource, ResourceKey, ResourceType
from portway.xds.flights import Flight
from portway.xds.isolation import Isolation
from portway.xds.ordering import Ordering
from portway.xds.snapshot import WITHOUT_REQUIREMENTS
from portway.xds.states import Event, Record, State, step

WILDCARD = "*"
MAY_BE_WILDCARD = frozenset({ResourceType.CLUSTER, ResourceType.LISTENER, ResourceType.VIRTUAL_HOST})
"""Types whose first request without names asks for all. Envoy asks so for virtual hosts, too: for those of all route
configurations that it has, now and later."""


@final
class Channel:
    """The half of a session that is about one resource type.

    `dirty` is what is to be looked at: a name is in it at most once, whatever happened to it, so changes merge.
    """

    def __init__(self, kind: ResourceType, ordering: Ordering) -> None:
        self.kind = kind
        self.started = False
        """Whether the proxy has asked for this type on this stream."""
        self.wildcard = False
        self.names: set[str] = set()
        """What it subscribed to by name."""
        self.records: dict[str, Record] = {}
        self.dirty: OrderedDict[str, None] = OrderedDict()  # its first is found at once, however many went before
        self.forced: set[str] = set()
        """Names to be sent although the proxy has that version."""
        self.absent: dict[str, None] = {}
        """Names that were asked for; if they do not exist, that is the answer. Each of them is dirty, too."""
        self.held: set[str] = set()
        """Names that are held back by a cluster."""
        self.owes_answer = False
        """Whether the proxy waits for a first answer, be it empty."""
        self.isolation = Isolation()
        self._ordering = ordering

    # Subscriptions.

    def start(self, subscribe: Iterable[str]) -> None:
        """Take the first request of this type on the stream."""
        self.started = True
        self.names = {name for name in subscribe if name != WILDCARD}
        self.wildcard = WILDCARD in subscribe or (not self.names and self.kind in MAY_BE_WILDCARD)

    def report(self, name: str, version: str, known: Resource | None) -> None:
        """The proxy holds `version` since before this stream; `known`: the resource, if anybody remembers it."""
        record = self.records[name] = Record()
        record.state = step(record.state, Event.REPORT)
        record.held = known or Resource(key=ResourceKey(self.kind, name), version=version)
        self._ordering.use(record.held)
        if known is None and self.kind not in WITHOUT_REQUIREMENTS:
            self._ordering.use_unknown(record.held.key)

    def forget(self, name: str, now: float) -> None:
        """The proxy is no longer interested, so it drops what it has; nothing has to be sent."""
        self.forced.discard(name)
        self.absent.pop(name, None)
        self.held.discard(name)
        self.isolation.forget(name)
        record = self.records.pop(name, None)
        if record is not None:
            self._unuse(record.in_use(), now)
            self._ordering.unuse_unknown(ResourceKey(self.kind, name))

    def clear_blame(self, name: str) -> None:
        """Something else is wanted of it now, or the same again: whatever was refused, that is news."""
        record = self.records.get(name)
        if record is not None and record.state is State.REFUSED:
            record.blamed = None
            self.isolation.forget(name)

    def mark(self, names: Iterable[str]) -> None:
        """Look at these before the next response."""
        self.dirty.update(dict.fromkeys(names))

    def force(self, name: str) -> None:
        """Send this even if the proxy has that version."""
        self.dirty[name] = None
        self.forced.add(name)

    @property
    def has_work(self) -> bool:
        """Whether there might be something to send."""
        return bool(self.dirty or self.isolation or self.owes_answer)

    # What becomes of a response.

    def launched(self, flight: Flight) -> None:
        """The response is under way."""
        for resource in flight.resources:
            name = resource.key.name
            record = self.records.get(name)
            if record is None:
                record = self.records[name] = Record()
            record.state = step(record.state, Event.SEND)
            record.nonce = flight.nonce
            record.others = (*record.others, (flight.nonce, resource))
            self._ordering.use(resource)
        for name in flight.removed:
            record = self.records.get(name)
            if record is not None:  # else: an answer about something that does not exist
                record.state = step(record.state, Event.REMOVE)
                record.nonce = flight.nonce

    def acknowledged(self, flight: Flight, now: float) -> list[str]:
        """The proxy took the response. Returns the names of which it had nothing before."""
        new: list[str] = []
        for resource in flight.resources:
            record = self.records.get(resource.key.name)
            # Forgotten meanwhile, or forgotten and sent again: that answer is about a former life.
            if record is None or not any(nonce == flight.nonce for nonce, _ in record.others):
                continue
            if record.held is None:
                new.append(resource.key.name)
            self._replace(record, flight.nonce, resource, now)
            if record.nonce == flight.nonce:
                record.state = step(record.state, Event.ACK)
                record.blamed = None
        for name in flight.removed:
            record = self.records.get(name)
            if record is None or record.nonce < flight.nonce:
                continue
            self._replace(record, flight.nonce, None, now)
            if record.nonce == flight.nonce:
                record.state = step(record.state, Event.ACK)
                del self.records[name]
        return new

    def _replace(self, record: Record, nonce: int, held: Resource | None, now: float) -> None:
        """The proxy has `held` now, and nothing that it got up to `nonce`."""
        before = list(record.in_use())
        record.held = held
        record.others = tuple(other for other in record.others if other[0] > nonce)
        after = list(record.in_use())
        for resource in after:
            self._ordering.use(resource)
        self._unuse(before, now)
        if before:
            self._ordering.unuse_unknown(before[0].key)

    def voided(self, flight: Flight) -> list[str]:
        """The proxy refused the response, and we do not know for which part. Returns the names of which it has
        nothing."""
        lacking: list[str] = []
        for resource in flight.resources:
            record = self.records.get(resource.key.name)
            if record is not None and record.nonce == flight.nonce:
                record.state = step(record.state, Event.VOID)
                record.blamed = resource.version
                if record.held is None:
                    lacking.append(resource.key.name)
        for name in flight.removed:
            record = self.records.get(name)
            if record is not None and record.nonce == flight.nonce:
                record.state = step(record.state, Event.VOID)
                record.blamed = ""
        return lacking

    def refused(self, flight: Flight, now: float) -> Record | None:
        """The proxy refused the only thing in the response. Returns its record; `None`: it is no longer of interest."""
        name = flight.resources[0].key.name if flight.resources else flight.removed[0]
        version = flight.resources[0].version if flight.resources else ""
        record = self.records.get(name)
        if record is None:
            return None
        # Not applied now, and not when it was one of many: the proxy would have said so in the same way.
        self._unuse((resource for _, resource in record.others if resource.version == version), now)
        record.others = tuple(other for other in record.others if other[1].version != version)
        if record.nonce != flight.nonce:
            return None
        record.state = step(record.state, Event.REFUSE)
        record.blamed = version
        return record

    def _unuse(self, resources: Iterable[Resource], now: float) -> None:
        for resource in resources:
            self._ordering.unuse(resource, now)

    # Looking.

    def holds(self, name: str, version: str) -> bool:
        """Whether the proxy acknowledged this version and uses it."""
        record = self.records.get(name)
        return record is not None and record.held is not None and record.held.version == version

    def is_pending(self, name: str) -> bool:
        """Whether it is still about to be sent, for the first time or again."""
        record = self.records.get(name)
        return name in self.dirty or (record is not None and record.state is State.SUSPECT)
