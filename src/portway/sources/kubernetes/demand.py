"""Which Secrets and ConfigMaps are wanted, since an object refers to them. Pure.

An object's references count from the moment when it arrives, so that they can be fetched before it is handed out; those
of its former version count until the new one is handed out, since it is served until then.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import final

import msgspec

from portway.objects.meta import Object
from portway.objects.verdict import ObjectKey


def _nothing(obj: Object) -> Iterable[ObjectKey]:
    return ()


class References(msgspec.Struct, frozen=True, kw_only=True):
    """How objects refer to Secrets and ConfigMaps; the source does not know it by itself."""

    kinds: frozenset[str] = frozenset()
    """Of objects that may refer to some. The list of Secrets begins when all of these are known."""
    of: Callable[[Object], Iterable[ObjectKey]] = _nothing
    """What an object of these kinds refers to; existing or not, twice or not."""
    always: frozenset[ObjectKey] = frozenset()
    """Wanted whoever refers to them: the default certificate."""


@final
class Demand:
    """Who refers to what."""

    def __init__(self, references: References) -> None:
        self._references = references
        self._current: dict[ObjectKey, frozenset[ObjectKey]] = {}
        """By referring object: what counts now."""
        self._count: Counter[ObjectKey] = Counter(references.always)

    def is_wanted(self, key: ObjectKey) -> bool:
        return key in self._count

    @property
    def wanted(self) -> Mapping[ObjectKey, int]:
        """By key, how many refer to it."""
        return self._count

    def references(self, key: ObjectKey, obj: Object) -> frozenset[ObjectKey]:
        """What an object refers to."""
        return frozenset(self._references.of(obj)) if key.kind in self._references.kinds else frozenset()

    def arrived(self, key: ObjectKey, references: frozenset[ObjectKey]) -> frozenset[ObjectKey]:
        """A new version refers to these; returns those that nobody wanted before."""
        before = self._current.get(key, frozenset())
        return self._set(key, before | references)[0]

    def handed_out(self, key: ObjectKey, references: frozenset[ObjectKey]) -> frozenset[ObjectKey]:
        """From now on only this version counts, or none; returns what nobody wants any more."""
        return self._set(key, references)[1]

    def _set(
        self, key: ObjectKey, references: frozenset[ObjectKey]
    ) -> tuple[frozenset[ObjectKey], frozenset[ObjectKey]]:
        before = self._current.get(key, frozenset())
        if references:
            self._current[key] = references
        else:
            self._current.pop(key, None)
        wanted = {one for one in references - before if one not in self._count}
        self._count.update(references - before)
        unwanted = set()
        for one in before - references:
            self._count[one] -= 1
            if not self._count[one]:
                del self._count[one]
                unwanted.add(one)
        return frozenset(wanted), frozenset(unwanted)
