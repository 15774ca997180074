"""What following a collection tells its consumer."""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from portway.kubernetes.errors import ApiError, ApiUnreachable


class EventType(StrEnum):
    """What an event says."""

    CHANGED = "changed"
    """The object is there, in a version that was not reported yet."""
    DELETED = "deleted"
    SYNCED = "synced"
    """All that exists has been reported. Again after each list."""
    MISSING = "missing"
    """The server has no such kind; once, until it changes. Nothing of it exists, so it counts as synced, too."""
    FAILED = "failed"
    """`error` says what does not work; known objects stay as they are. Once for each failure."""
    DENIED = "denied"
    """The same, because the server's rules do not let us read it, and it is sure of them; `error` names the rule."""


class Event(NamedTuple):
    """One thing that happened to the collection."""

    type: EventType
    namespace: str = ""
    name: str = ""
    data: bytes | msgspec.Raw = b""
    """The object in JSON, for `CHANGED`; a view into a larger buffer, so decode it at once or copy it."""
    error: ApiError | ApiUnreachable | None = None


class State(StrEnum):
    """What a reflector does now."""

    LISTING = "listing"
    WATCHING = "watching"
    MISSING = "missing"
    FORBIDDEN = "forbidden"
    FAILING = "failing"


class ReflectorStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What one reflector has done."""

    path: str
    state: State
    objects: int
    """Known now."""
    lists: int
    watches: int
    events: int
    """Lines with an object, repetitions included."""
    repeated: int
    """Of these, dropped as old."""
    failures: int
    """In a row; 0 while all is well."""
    error: str
    """The last one, while it lasts."""
