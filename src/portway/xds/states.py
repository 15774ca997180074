"""What one proxy has of one resource, as a table.

A proxy answers each response with one ACK or NACK for its nonce, however many resources are in it (Envoy docs, "xDS
REST and gRPC protocol", incremental variant). This table turns those answers into what is known about the proxy;
nothing else changes a state. Only the answer to the latest response that held the resource is an event here. Not
here: which resource may be sent when, see `ordering.py`.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import final

from portway.model.resource import Resource


class State(StrEnum):
    UNKNOWN = "unknown"
    """The proxy has nothing of it, as far as we know."""
    SENT = "sent"
    """The newest version is under way."""
    HELD = "held"
    """The proxy acknowledged it and nothing newer was sent."""
    SUSPECT = "suspect"
    """It was in a response that the proxy refused as a whole; it will be sent again in a smaller one."""
    REFUSED = "refused"
    """The proxy refused it alone. It keeps what it held before; we wait for a new version."""
    REMOVING = "removing"
    """Its removal is under way."""


class Event(StrEnum):
    REPORT = "report"
    """The proxy says at the start of a stream that it holds it."""
    SEND = "send"
    REMOVE = "remove"
    ACK = "ack"
    VOID = "void"
    """The proxy refused a response in which others were, too."""
    REFUSE = "refuse"
    """The proxy refused a response in which there was nothing else."""


class ProtocolError(Exception):
    """An event that cannot follow in this state: our own mistake, never the peer's."""


NEXT: Mapping[tuple[State, Event], State] = {
    (State.UNKNOWN, Event.REPORT): State.HELD,
    (State.UNKNOWN, Event.SEND): State.SENT,
    (State.HELD, Event.SEND): State.SENT,
    # A newer version, or the same again, while one is under way: only the last answer counts.
    (State.SENT, Event.SEND): State.SENT,
    (State.SUSPECT, Event.SEND): State.SENT,
    (State.REFUSED, Event.SEND): State.SENT,
    # It came back before its removal was acknowledged; the stream keeps the order.
    (State.REMOVING, Event.SEND): State.SENT,
    (State.SENT, Event.ACK): State.HELD,
    (State.SENT, Event.VOID): State.SUSPECT,
    # The proxy keeps its last good version. We wait for a new one: the same would be refused again.
    (State.SENT, Event.REFUSE): State.REFUSED,
    # Whatever the proxy has or has not of it: a removal makes sure.
    (State.SENT, Event.REMOVE): State.REMOVING,
    (State.HELD, Event.REMOVE): State.REMOVING,
    (State.SUSPECT, Event.REMOVE): State.REMOVING,
    (State.REFUSED, Event.REMOVE): State.REMOVING,
    (State.REMOVING, Event.ACK): State.UNKNOWN,
    (State.REMOVING, Event.VOID): State.SUSPECT,
    (State.REMOVING, Event.REFUSE): State.REFUSED,
}


def step(state: State, event: Event) -> State:
    """The state after `event`.

    Raises:
        ProtocolError: the table has no such row.
    """
    try:
        return NEXT[state, event]
    except KeyError:
        raise ProtocolError(f"{event} cannot follow in state {state}") from None


@final
class Record:
    """What one proxy has of one resource: the state, and every version that it may be using right now."""

    __slots__ = ("blamed", "held", "nonce", "others", "state")

    def __init__(self) -> None:
        self.state = State.UNKNOWN
        self.held: Resource | None = None
        """The version that the proxy acknowledged last."""
        self.others: tuple[tuple[int, Resource], ...] = ()
        """Later versions with the nonces they were sent under, oldest first: under way, or in a refused response of
        which parts may have been applied all the same (clusters and listeners are, virtual hosts of another route
        configuration than the bad one's may be)."""
        self.nonce = 0
        """Of the latest response that sent or removed it; 0: none on this stream."""
        self.blamed: str | None = None
        """The version that is suspect or refused; empty: its removal is."""

    def needs(self, version: str) -> bool:
        """Whether `version` would be news to this proxy and has a chance."""
        if self.state is State.HELD:
            return self.held is None or self.held.version != version
        if self.state is State.SENT:
            return self.others[-1][1].version != version
        if self.state in (State.SUSPECT, State.REFUSED):
            return self.blamed != version
        return True

    def in_use(self) -> Iterator[Resource]:
        """Every version that the proxy may be using; the same one may come twice."""
        if self.held is not None:
            yield self.held
        for _, resource in self.others:
            yield resource
