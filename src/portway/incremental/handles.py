"""What programs are written in: handles, the context that queries read through, what leaves the engine."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar, cast, final

import msgspec

from portway.store import Input

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)
G = TypeVar("G", bound=Hashable)
R = TypeVar("R")
M = TypeVar("M", bound=Hashable)


class Context(Protocol):
    """What a query may do: read. Each read is recorded, also one that finds nothing."""

    def read(self, source: Input[K, V], key: K) -> V:
        """The current value of an input."""
        ...

    def get(self, query: "Query[K, V]", key: K) -> V:
        """The value of another query. Raises what that query raised, and `CycleError` if it is waiting for us."""
        ...

    def rows(self, relation: "Relation[G, R]", group: G) -> tuple[R, ...]:
        """The rows of a group, in the order of feeds and within one feed of its members; empty if there is no such
        group."""
        ...

    def size(self, relation: "Relation[G, R]", group: G) -> int:
        """The number of rows of a group; wakes the reader only when that number changes."""
        ...

    def least(self, relation: "Relation[G, R]", group: G) -> R | None:
        """The smallest row of a group, `None` if it has none; wakes the reader only when that changes.

        Costs nothing in the size of the group, but for the removal of the smallest itself. Rows must be orderable.
        """
        ...


@final
class Query(Generic[K, V]):
    """A handle for a memoised function; compared by identity.

    A stage that reads a query of another stage knows only the handle (declared in `model/`); the program binds the
    function.
    """

    __slots__ = ("function", "name")

    def __init__(self, name: str, function: Callable[[Context, K], V] | None = None) -> None:
        self.name = name
        self.function = function

    def __repr__(self) -> str:
        return f"Query({self.name})"


def query(name: str) -> Callable[[Callable[[Context, K], V]], Query[K, V]]:
    """Make a function a query of its own; for queries that no other stage needs to know."""

    def make(function: Callable[[Context, K], V]) -> Query[K, V]:
        return Query(name, function)

    return make


class AnyRelation:
    """A relation of whatever rows."""

    __slots__ = ("name",)

    name: str


@final
class Relation(AnyRelation, Generic[G, R]):
    """A handle for rows in groups; compared by identity. `G` must be hashable; keys of members must be orderable."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Relation({self.name})"


Function = Callable[[Context, Hashable], object]
"""What the engine calls, whatever it is about."""

Members = str | AnyRelation
"""Whose keys are the members: a kind of objects, by its name, or the groups of a relation."""


class Binding(msgspec.Struct, frozen=True):
    """Which function a handle stands for."""

    query: object
    function: Function


def bind(handle: Query[K, V], function: Callable[[Context, K], V]) -> Binding:
    return Binding(handle, cast("Function", function))


class Feed(msgspec.Struct, frozen=True):
    """Who contributes to a relation: for each member the function gives its rows, at most one per group."""

    relation: AnyRelation
    members: Members
    function: Function


def feed(relation: Relation[G, R], members: Members, function: Callable[[Context, M], Mapping[G, R]]) -> Feed:
    """A feed; `members` is the name of a kind or a relation that stands earlier in the program."""
    return Feed(relation, members, cast("Function", function))


class AnyOutput:
    """An output of whatever values."""

    __slots__ = ("early", "function", "members", "name")

    name: str
    members: tuple[Members, ...]
    function: Function
    early: bool


@final
class Output(AnyOutput, Generic[K, V_co]):
    """A handle for a keyed set of values that leaves the engine; a member whose value is `None` is left out."""

    __slots__ = ()

    def __init__(
        self,
        name: str,
        members: Iterable[Members],
        function: Callable[[Context, K], V_co | None],
        *,
        early: bool = False,
    ) -> None:
        """
        Args:
            name: unique.
            members: kinds (by name) and relations whose keys are the output's keys; the same key must not come from
            two. function: the value of a member.
            early: evaluate what exists of it before any relation. For values that depend on objects only.
        """
        self.name = name
        self.members = tuple(members)
        self.function = cast("Function", function)
        self.early = early

    def __repr__(self) -> str:
        return f"Output({self.name})"


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """All that is to be computed. Order matters for relations (each may read earlier ones) and outputs (given out in
    it)."""

    relations: tuple[AnyRelation, ...] = ()
    feeds: tuple[Feed, ...] = ()
    bindings: tuple[Binding, ...] = ()
    outputs: tuple[AnyOutput, ...] = ()


class CycleError(Exception):
    """A query waits for itself. Message: the query that closed the cycle."""


class Failure(NamedTuple):
    """A feed or output whose function raised; a bug of ours, never the objects' fault."""

    name: str
    key: Hashable
    error: str


class Delta(msgspec.Struct, frozen=True):
    """What has changed in the outputs since the last delta."""

    changed: Mapping[object, Mapping[Hashable, object]] = {}
    removed: Mapping[object, frozenset[Hashable]] = {}

    def of(self, output: Output[K, V]) -> tuple[Mapping[K, V], frozenset[K]]:
        """The changed values and the removed keys of one output."""
        changed, removed = self.of_any(output)
        return cast("Mapping[K, V]", changed), cast("frozenset[K]", removed)

    def of_any(self, output: AnyOutput) -> tuple[Mapping[Hashable, object], frozenset[Hashable]]:
        return self.changed.get(output, {}), self.removed.get(output, frozenset())

    def __bool__(self) -> bool:
        return any(self.changed.values()) or any(self.removed.values())


class EngineStatistics(msgspec.Struct, frozen=True, kw_only=True):
    ran: int
    """Times a query, feed or output function was called."""
    reused: int
    """Suspects that turned out unchanged and did not run."""
    cut_off: int
    """Runs whose value equalled the old one, so that no reader ran."""
    nodes: int
    pending: int
    """Feeds and outputs waiting to be looked at."""
    failures: int
