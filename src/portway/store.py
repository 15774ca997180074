"""All declared objects, indexed, wherever they come from.

Sources report change sets; the store applies each as a whole and says which of its *inputs* changed: an object, its
generation, an index entry, the set of names of a kind. Inputs are what queries read (`incremental.py`), so they are as
fine as a query's interest: an object is compared by what it declares (status, resourceVersion and managedFields are
not even kept), and only those who ask for the generation are woken by one. Indexes are declared by whoever needs them;
reading one costs the entry, not the kind. Pure: no I/O, no clock.
"""

from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar, cast, final

import msgspec

from portway.objects.meta import Object
from portway.objects.verdict import ObjectKey, Verdict

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", covariant=True)
ObjectT = TypeVar("ObjectT", bound=Object)


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where an object was read. For an API server both are empty."""

    file: str = ""
    line: int = 0
    """First line of the object's document, from 1."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Stored(msgspec.Struct, frozen=True, gc=False):
    """An object with what its source knows about it."""

    key: ObjectKey
    object: Object
    generation: int = 0
    """`metadata.generation`; 0 where there is no API server to count."""
    origin: Origin = Origin()


class Finding(msgspec.Struct, frozen=True, order=True):
    """A verdict of a source, with the place in the file."""

    verdict: Verdict
    file: str = ""
    line: int = 0


class ChangeSet(msgspec.Struct, frozen=True, kw_only=True):
    """What one source reports at once; applied as a whole."""

    changed: Sequence[Stored] = ()
    removed: Sequence[ObjectKey] = ()
    findings: Mapping[str, tuple[Finding, ...]] = {}
    """Per item of the source (a file): all there is to say about it now. Empty: nothing any more."""
    synced: bool = False
    """With this change set all that existed when the source started has been reported."""


class Source(Protocol):
    """Where declared objects come from. Every implementation passes `tests/sources/suite.py`."""

    def changes(self) -> AsyncIterator[ChangeSet]:
        """Yield the objects that exist, in as many change sets as suits the source, the last with `synced`; then each
        change, for ever.

        - Per object the order is that of its versions; between objects there is no order.
        - The same version may come twice (after a reconnect); a version is left out only for a newer one.
        - An outage ends nothing: the source goes on by itself and says so in its `statistics()`.
        - Cancelling is the way to stop; nothing is left running.
        """
        ...


@final
class Input(Generic[K, V]):
    """A handle for one sort of thing that queries read and do not compute. Compared by identity."""

    __slots__ = ("default", "name")

    def __init__(self, name: str, *, default: V | None = None) -> None:
        """
        Args:
            default: what is read where nobody has set a value; `None`: reading that is an error.
        """
        self.name = name
        self.default = default

    def __repr__(self) -> str:
        return f"Input({self.name})"


class IndexKey(NamedTuple):
    index_name: str
    value: Hashable


OBJECT: Input[ObjectKey, Object | None] = Input("object")
GENERATION: Input[ObjectKey, int] = Input("generation")
ORIGIN: Input[ObjectKey, Origin] = Input("origin")
"""Only for messages: a moved line must not wake a configuration query, so none of them reads it."""
INDEX: Input[IndexKey, tuple[ObjectKey, ...]] = Input("index")
"""The keys of the objects in an index entry, sorted."""
KIND: Input[str, tuple[ObjectKey, ...]] = Input("kind")
"""The keys of all objects of a kind, sorted. For queries about the kind as a whole, never to find one object."""


class Reads(Protocol):
    """Whoever can read inputs: a query's context, or the store itself."""

    def read(self, source: Input[K, V], key: K) -> V: ...


def read_object(reads: Reads, kind: type[ObjectT], namespace: str, name: str) -> ObjectT | None:
    """The object of that kind and name, `None` if there is none. That it was missing is a read too."""
    return cast("ObjectT | None", reads.read(OBJECT, ObjectKey(kind.__name__, namespace, name)))


@final
class Index:
    """Finds objects of one kind by values that they hold.

    Args:
        name: unique.
        kind: the kind's name.
        values: the values under which an object is found; duplicates are harmless. Must not raise.
    """

    __slots__ = ("kind", "name", "values")

    def __init__(self, name: str, kind: str, values: Callable[[Object], Iterable[Hashable]]) -> None:
        self.name = name
        self.kind = kind
        self.values = values

    def read(self, reads: Reads, value: Hashable) -> tuple[ObjectKey, ...]:
        """Keys of the objects found under the value, sorted."""
        return reads.read(INDEX, IndexKey(self.name, value))


class Touched(NamedTuple):
    """One input that changed."""

    source: object
    """The `Input`."""
    key: Hashable


class Applied(msgspec.Struct, frozen=True):
    """What a change set did to the store."""

    touched: tuple[Touched, ...]
    appeared: tuple[ObjectKey, ...]
    """Keys that were not there before."""
    vanished: tuple[ObjectKey, ...]
    undo: ChangeSet
    """The change set that takes it back."""


class StoreStatistics(msgspec.Struct, frozen=True):
    objects: Mapping[str, int]
    """Number of objects per kind; kinds without objects are left out."""
    change_sets: int
    findings: int


@final
class Store:
    """Objects by key, with indexes. Not thread-safe: it belongs to one event loop."""

    def __init__(self, indexes: Iterable[Index] = ()) -> None:
        self._objects: dict[ObjectKey, Stored] = {}
        self._kinds: dict[str, set[ObjectKey]] = {}
        self._indexes: dict[str, tuple[Index, ...]] = {}
        self._entries: dict[IndexKey, set[ObjectKey]] = {}
        self._findings: dict[str, tuple[Finding, ...]] = {}
        self._change_sets = 0
        for index in indexes:
            self._indexes[index.kind] = (*self._indexes.get(index.kind, ()), index)

    def get(self, key: ObjectKey) -> Stored | None:
        return self._objects.get(key)

    def read(self, source: Input[K, V], key: K) -> V:
        """The current value of one input. Raises `LookupError` for an input that is not the store's."""
        value: object
        if source is OBJECT:
            stored = self._objects.get(cast("ObjectKey", key))
            value = None if stored is None else stored.object
        elif source is INDEX:
            value = tuple(sorted(self._entries.get(cast("IndexKey", key), ())))
        elif source is KIND:
            value = tuple(sorted(self._kinds.get(cast("str", key), ())))
        elif source is GENERATION:
            stored = self._objects.get(cast("ObjectKey", key))
            value = 0 if stored is None else stored.generation
        elif source is ORIGIN:
            stored = self._objects.get(cast("ObjectKey", key))
            value = Origin() if stored is None else stored.origin
        elif source.default is not None:
            value = source.default
        else:
            raise LookupError(f"{source} is not an input of the store")
        return cast("V", value)

    def keys(self, kind: str) -> frozenset[ObjectKey]:
        return frozenset(self._kinds.get(kind, ()))

    def findings(self) -> tuple[Finding, ...]:
        """All that sources have to say, sorted by place."""
        return tuple(finding for item in sorted(self._findings) for finding in self._findings[item])

    def statistics(self) -> StoreStatistics:
        return StoreStatistics(
            {kind: len(keys) for kind, keys in sorted(self._kinds.items()) if keys},
            self._change_sets,
            sum(map(len, self._findings.values())),
        )

    def apply(self, changes: ChangeSet) -> Applied:
        """Apply a change set as a whole.

        Cost: that of the change. An object that is reported again unchanged touches nothing.
        """
        self._change_sets += 1
        touched: dict[Touched, None] = {}
        appeared: list[ObjectKey] = []
        vanished: list[ObjectKey] = []
        before: dict[ObjectKey, Stored | None] = {}
        for key in changes.removed:
            old = self._objects.pop(key, None)
            if old is None:
                continue
            before[key] = old
            vanished.append(key)
            self._kinds[key.kind].discard(key)
            self._touch_object(old, None, touched)
        for new in changes.changed:
            old = self._objects.get(new.key)
            before.setdefault(new.key, old)
            self._objects[new.key] = new
            if old is None:
                appeared.append(new.key)
                self._kinds.setdefault(new.key.kind, set()).add(new.key)
            self._touch_object(old, new, touched)
        undone = {item: self._findings.get(item, ()) for item in changes.findings}
        for item, findings in changes.findings.items():
            if findings:
                self._findings[item] = findings
            else:
                self._findings.pop(item, None)
        return Applied(
            tuple(touched),
            tuple(appeared),
            tuple(vanished),
            ChangeSet(
                changed=tuple(stored for stored in before.values() if stored is not None),
                removed=tuple(key for key, stored in before.items() if stored is None),
                findings=undone,
            ),
        )

    def _touch_object(self, old: Stored | None, new: Stored | None, touched: dict[Touched, None]) -> None:
        stored = new or old
        assert stored is not None  # noqa: S101 - one of the two is always given
        key = stored.key
        if old is None or new is None:
            touched[Touched(KIND, key.kind)] = None
        if (old.generation if old else 0) != (new.generation if new else 0):
            touched[Touched(GENERATION, key)] = None
        if (old.origin if old else None) != (new.origin if new else None):
            touched[Touched(ORIGIN, key)] = None
        if old is not None and new is not None and old.object == new.object:
            return
        touched[Touched(OBJECT, key)] = None
        for index in self._indexes.get(key.kind, ()):
            was = set(index.values(old.object)) if old else set()
            now = set(index.values(new.object)) if new else set()
            for value in was - now:
                entry = IndexKey(index.name, value)
                members = self._entries[entry]
                members.discard(key)
                if not members:
                    del self._entries[entry]
                touched[Touched(INDEX, entry)] = None
            for value in now - was:
                entry = IndexKey(index.name, value)
                self._entries.setdefault(entry, set()).add(key)
                touched[Touched(INDEX, entry)] = None
