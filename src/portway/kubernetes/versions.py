"""Which objects of a collection are known, in which version; what a list or an event means beside that. Pure.

Keys and numbers only: an object's bytes pass through and are the consumer's. Resource versions grow over a whole etcd
and are compared as numbers (Kubernetes 1.35 made that official, KEP-5504; it has always been so for what etcd stores).
An event that is not newer than what is known of its object is a repetition, or comes out of order: it is dropped. A
list is believed as it is: an etcd restored from a backup has older versions, and they are what there is.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, final

NOTHING: Final = 0
"""The version of what is not comparable: an aggregated API may use any text. It is always news."""


class Name(NamedTuple):
    """An object within its collection."""

    namespace: str
    """Empty for a cluster-scoped kind."""
    name: str


def number_of(resource_version: str) -> int:
    """A resource version as a number; `NOTHING` if it is none."""
    return int(resource_version) if resource_version.isascii() and resource_version.isdigit() else NOTHING


@final
class Versions:
    """What is known of one collection."""

    def __init__(self) -> None:
        self._known: dict[Name, int] = {}
        self._unlisted: set[Name] | None = None
        """While a list runs: what it has not named yet."""
        self._deleted: dict[Name, int] = {}
        """Deleted since the last bookmark: a late repetition must not bring an object back."""
        self.newest = NOTHING
        """Of all versions of objects that were told, deletions included; after a list, of what it had."""

    @property
    def known(self) -> Mapping[Name, int]:
        return self._known

    def begin_list(self) -> None:
        """All objects follow, each once, by `listed`; one that ends early is begun anew."""
        self._unlisted = set(self._known)
        self._deleted.clear()

    def listed(self, name: Name, version: int) -> bool:
        """Whether that object, as it stands in a list, is news."""
        if self._unlisted is not None:
            self._unlisted.discard(name)
        is_news = version == NOTHING or self._known.get(name) != version
        self._known[name] = version
        return is_news

    def end_list(self) -> list[Name]:
        """Names of known objects that the list did not have: they are gone, and forgotten here."""
        vanished = sorted(name for name in self._unlisted or () if name in self._known)
        self._unlisted = None
        for name in vanished:
            del self._known[name]
        self.newest = max(self._known.values(), default=NOTHING)
        return vanished

    def changed(self, name: Name, version: int) -> bool:
        """Whether an event that says so is news."""
        if version != NOTHING and version <= max(self._known.get(name, 0), self._deleted.get(name, 0)):
            return False
        self._known[name] = version
        self._deleted.pop(name, None)
        self.newest = max(self.newest, version)
        return True

    def deleted(self, name: Name, version: int) -> bool:
        """Whether an event that says so is news."""
        known = self._known.get(name)
        if known is None or (version != NOTHING and version < known):
            return False
        del self._known[name]
        self._deleted[name] = version
        self.newest = max(self.newest, version)
        return True

    def bookmark(self) -> None:
        """All that was before has been told."""
        self._deleted.clear()

    def clear(self) -> list[Name]:
        """The whole collection is gone; returns the names that were in it, sorted."""
        vanished = sorted(self._known)
        self._known.clear()
        self._deleted.clear()
        self._unlisted = None
        return vanished
