"""How far a collection has been read, and what the lines of a watch and the items of a list mean beside that. Pure."""

from collections.abc import Mapping
from typing import Final, final

import msgspec

from portway.kubernetes.events import Event, EventType
from portway.kubernetes.versions import NOTHING, Name, Versions, number_of
from portway.kubernetes.watch_lines import INITIAL_EVENTS_END, Envelope, Line, envelope_of

_SYNCED: Final = Event(EventType.SYNCED)


@final
class Progress:
    """What is known of one collection. What cannot be read raises one of `watch_lines.MALFORMED`."""

    def __init__(self) -> None:
        self.resume = ""
        """The version to watch from; empty: list first."""
        self._versions = Versions()

    @property
    def known(self) -> Mapping[Name, int]:
        """Names of all objects, with their versions as numbers."""
        return self._versions.known

    @property
    def newest(self) -> int:
        """The newest version of an object that was told; 0: none."""
        return self._versions.newest

    def is_older(self, version: str) -> bool:
        """Whether a version is older than the one that we would go on from."""
        number = number_of(version)
        return not version or (number != NOTHING and number < number_of(self.resume))

    def begin_list(self) -> None:
        """All objects follow, each once, by `listed`; one that ends early is begun anew."""
        self._versions.begin_list()

    def listed(self, data: msgspec.Raw) -> Event | None:
        """An object of a list; `None`: it is no news."""
        envelope = envelope_of(data)
        return _there(envelope, data) if self._versions.listed(envelope.key, envelope.version) else None

    def end_list(self, version: str) -> list[Event]:
        """What is gone, and that this was all.

        Args:
            version: of the whole list.
        """
        self.resume = version
        return [*_gone(self._versions.end_list()), _SYNCED]

    def changed(self, line: Line) -> Event | None:
        """A change; `None`: it is no news."""
        envelope = envelope_of(line.object)
        self._go_on(envelope)
        if line.type == "DELETED":
            is_news = self._versions.deleted(envelope.key, envelope.version)
            return Event(EventType.DELETED, *envelope.key) if is_news else None
        return _there(envelope, line.object) if self._versions.changed(envelope.key, envelope.version) else None

    def bookmark(self, line: Line) -> bool:
        """Note the version of a bookmark; whether it ends a streaming list."""
        envelope = envelope_of(line.object)
        self._versions.bookmark()
        ends_list = (envelope.annotations or {}).get(INITIAL_EVENTS_END) == "true"
        if ends_list:
            self.resume = envelope.resource_version
        else:
            self._go_on(envelope)
        return ends_list

    def clear(self) -> list[Event]:
        """The whole collection is gone."""
        return _gone(self._versions.clear())

    def _go_on(self, envelope: Envelope) -> None:
        if not self.is_older(envelope.resource_version):
            self.resume = envelope.resource_version


def _there(envelope: Envelope, data: msgspec.Raw) -> Event:
    return Event(EventType.CHANGED, *envelope.key, data)


def _gone(names: list[Name]) -> list[Event]:
    return [Event(EventType.DELETED, *name) for name in names]
