"""The query engine: derived state as pure functions whose reads are recorded.

A *query* is a function of a context and a key. It is memoised; while it runs, what it reads is recorded as edges in
both directions. When an input changes, its direct readers become dirty and the readers of those become *suspect*: a
suspect verifies the things it read, in the order in which it read them, and runs again only if one of them has really
changed. A query whose new value equals its old one stops the wave there. So cost follows the change, nobody maintains
derived state by hand, and the same objects give the same values in any order of arrival. (The design is that of salsa
and of build systems; istio's krt has the keyed collections.)

Two things are added to that classical scheme:

- A **relation** groups rows that queries contribute ("routes per listener and host"). Each member's contribution is a
  *feed* node; a change of one member touches the groups where its rows differ and no others. Groups come and go with
  their rows, and can be the members of a further relation or of an output. Relations are evaluated in the order in
  which the program names them: a feed may read groups of earlier relations only, so a group that is read is always
  final.
- An **output** is a keyed set of values that leaves the engine as a delta, never as a list to be compared.

Work is done in steps of one feed or output node, so that the caller can bound how long it takes; outputs marked
`early` go before everything else. Queries must be pure: they read through the context only and keep nothing. A query
that raises has its error as value: who reads it raises too, and at the feed or output it ends as a `Failure`, where
the feed contributes nothing and the output keeps what it last gave out.

Not here: what the objects mean, when to publish, any I/O or clock.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from enum import IntEnum
from typing import Generic, NamedTuple, Protocol, TypeVar, cast, final

import msgspec

from portway.store import ChangeSet, Input, Store

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)
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


class _State(IntEnum):
    CLEAN = 0
    SUSPECT = 1
    DIRTY = 2
    VERIFYING = 3
    RUNNING = 4


class _Raised(msgspec.Struct, frozen=True, eq=False):
    """The value of a query that raised."""

    error: Exception

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Raised) and repr(self.error) == repr(other.error)

    def __hash__(self) -> int:
        return hash(repr(self.error))


_ABSENT: object = object()


class _Node:
    """A memoised value, an input that is read, a group that is read."""

    __slots__ = ("changed", "deps", "home", "key", "readers", "state", "value", "verified")

    def __init__(self, home: "_Home", key: Hashable, state: _State) -> None:
        self.home = home
        self.key = key
        self.state = state
        self.value: object = _ABSENT
        self.deps: tuple[_Node, ...] = ()
        # Mostly one reader, so a set only where there are more: memory at 100,000 nodes.
        self.readers: _Node | set[_Node] | None = None
        self.changed = 0
        self.verified = 0


class _Home:
    """All nodes of one query, input, relation's groups, feed or output."""

    __slots__ = ("function", "name", "nodes", "pending")

    def __init__(self, name: str, function: Function | None, pending: dict[_Node, None] | None) -> None:
        self.name = name
        self.function = function
        self.nodes: dict[Hashable, _Node] = {}
        self.pending = pending
        """Where a node that may have changed is put down; only for feeds and outputs, which nobody reads."""


class _Groups:
    """The rows of one relation."""

    __slots__ = ("dependents", "leasts", "nodes", "pending", "rows", "sizes", "touched")

    def __init__(self, name: str) -> None:
        self.rows: dict[Hashable, dict[tuple[int, Hashable], object]] = {}
        self.nodes = _Home(name, None, None)
        self.sizes = _Home(f"size of {name}", None, None)
        self.leasts = _Home(f"least of {name}", None, None)
        """Nodes whose value is the smallest row, or `_ABSENT`."""
        self.pending: dict[_Node, None] = {}
        self.touched: dict[Hashable, bool] = {}
        """Groups touched since the relation was last settled, and whether each existed then."""
        self.dependents: list[_Home] = []
        """Feeds and outputs whose members are the groups."""


class _Reader:
    """The context that queries get: the engine without its other doors."""

    __slots__ = ("get", "least", "read", "rows", "size")

    def __init__(self, engine: "Engine") -> None:
        self.get = engine.get
        self.read = engine.read
        self.rows = engine.rows
        self.size = engine.size
        self.least = engine.least


@final
class Engine:
    """Evaluates a program over a store. Not thread-safe: it belongs to one event loop."""

    def __init__(self, store: Store, program: Program) -> None:
        self.store = store
        self._context = cast("Context", _Reader(self))
        self._clock = 0
        self._reads: dict[_Node, None] | None = None
        self._ran = self._reused = self._cut_off = 0
        self._observer: Callable[[str, Hashable], None] | None = None
        self._free: dict[object, dict[Hashable, object]] = {}
        self._inputs: dict[object, _Home] = {}
        self._queries: dict[object, _Home] = {}
        self._functions = {binding.query: binding.function for binding in program.bindings}
        self._orphans: dict[_Node, None] = {}
        self._cyclic: dict[_Node, None] = {}
        """Nodes that once closed a cycle: having readers does not mean that anybody wants them."""
        self._failures: dict[tuple[str, Hashable], Failure] = {}
        self._groups: dict[AnyRelation, _Groups] = {relation: _Groups(relation.name) for relation in program.relations}
        self._kind_dependents: dict[str, list[_Home]] = {}
        self._feeds: dict[_Home, tuple[int, _Groups]] = {}
        self._outputs: dict[_Home, AnyOutput] = {}
        self._early: dict[_Node, None] = {}
        self._late: dict[AnyOutput, dict[_Node, None]] = {}
        self._changed: dict[object, dict[Hashable, object]] = {}
        self._removed: dict[object, set[Hashable]] = {}
        for number, fed in enumerate(program.feeds):
            self._add_feed(number, fed)
        for output in program.outputs:
            self._add_output(output)
        for kind in self._kind_dependents:
            for key in sorted(store.keys(kind)):
                self._member_appeared(self._kind_dependents[kind], key)

    def _add_feed(self, number: int, fed: Feed) -> None:
        groups = self._groups[fed.relation]
        home = _Home(f"{groups.nodes.name}#{number}", fed.function, groups.pending)
        self._feeds[home] = (number, groups)
        self._depend(home, fed.members)

    def _add_output(self, output: AnyOutput) -> None:
        pending = self._early if output.early else self._late.setdefault(output, {})
        home = _Home(output.name, output.function, pending)
        self._outputs[home] = output
        for members in output.members:
            self._depend(home, members)

    def _depend(self, home: _Home, members: Members) -> None:
        if isinstance(members, str):
            self._kind_dependents.setdefault(members, []).append(home)
        else:
            self._groups[members].dependents.append(home)

    # What queries do.

    def read(self, source: Input[K, V], key: K) -> V:
        free = self._free.get(source)
        value = cast("V", free[key]) if free is not None and key in free else self.store.read(source, key)
        if self._reads is not None:
            home = self._inputs.get(source)
            if home is None:
                home = self._inputs[source] = _Home(source.name, None, None)
            self._record(home, key)
        return value

    def get(self, query: Query[K, V], key: K) -> V:
        home = self._queries.get(query)
        if home is None:
            home = self._queries[query] = _Home(
                query.name, cast("Function", query.function or self._functions[query]), None
            )
        node = home.nodes.get(key)
        if node is None:
            node = home.nodes[key] = _Node(home, key, _State.DIRTY)
            self._orphans[node] = None
        if self._reads is not None:
            self._reads[node] = None
        if node.state:
            self._refresh(node)
        if type(node.value) is _Raised:
            raise node.value.error
        return cast("V", node.value)

    def rows(self, relation: Relation[G, R], group: G) -> tuple[R, ...]:
        groups = self._groups[relation]
        if self._reads is not None:
            self._record(groups.nodes, group)
        rows = groups.rows.get(group)
        if not rows:
            return ()
        if len(rows) == 1:
            return cast("tuple[R, ...]", tuple(rows.values()))
        # Members of one feed can be ordered among themselves; across feeds the feed's number decides.
        return cast(
            "tuple[R, ...]", tuple(rows[member] for member in sorted(cast("dict[tuple[int, str], object]", rows)))
        )

    def size(self, relation: Relation[G, R], group: G) -> int:
        groups = self._groups[relation]
        if self._reads is not None:
            self._record(groups.sizes, group)
        return len(groups.rows.get(group, ()))

    def least(self, relation: Relation[G, R], group: G) -> R | None:
        groups = self._groups[relation]
        node = groups.leasts.nodes.get(group)
        value = _least(groups.rows.get(group)) if node is None else node.value
        if self._reads is not None:
            self._record(groups.leasts, group).value = value
        return None if value is _ABSENT else cast("R", value)

    def _record(self, home: _Home, key: Hashable) -> _Node:
        node = home.nodes.get(key)
        if node is None:
            node = home.nodes[key] = _Node(home, key, _State.CLEAN)
        cast("dict[_Node, None]", self._reads)[node] = None
        return node

    # What the owner of the engine does.

    def groups(self, relation: Relation[G, R]) -> Iterator[G]:
        """The groups that exist now. For tests and reports; queries have no such read, it would be about everything."""
        return iter(cast("dict[G, object]", self._groups[relation].rows))

    def set(self, source: Input[K, V], key: K, value: V) -> None:
        """Set an input that no store holds (a setting, what the system says about a port)."""
        free = self._free.setdefault(source, {})
        if key in free and free[key] == value:
            return
        free[key] = value
        self._touch(source, key)

    def apply(self, changes: ChangeSet) -> ChangeSet:
        """Apply a change set to the store and mark what it may concern; nothing runs yet.

        Returns:
            The change set that undoes it.
        """
        applied = self.store.apply(changes)
        for source, key in applied.touched:
            self._touch(source, key)
        for key in applied.vanished:
            if self.store.get(key) is None:
                self._member_vanished(self._kind_dependents.get(key.kind, ()), key)
        for key in applied.appeared:
            self._member_appeared(self._kind_dependents.get(key.kind, ()), key)
        return applied.undo

    def step(self) -> bool:
        """Look at one feed or output. False: there was nothing to do, all outputs are up to date."""
        if self._early:
            self._settle_output(self._early)
            return True
        for groups in self._groups.values():
            if groups.pending:
                self._settle_feed(groups)
                return True
            if groups.touched:
                self._settle_membership(groups)
                return True
        for pending in self._late.values():
            if pending:
                self._settle_output(pending)
                return True
        self._sweep()
        return False

    def take(self) -> Delta:
        """What has changed in the outputs since the last call."""
        delta = Delta(self._changed, {output: frozenset(keys) for output, keys in self._removed.items()})
        self._changed = {}
        self._removed = {}
        return delta

    def settle(self) -> Delta:
        """Do all work there is, then `take()`."""
        while self.step():
            pass
        return self.take()

    def trial(self, changes: ChangeSet, look: Callable[[Context, Delta], V]) -> V:
        """What would be: apply a change set, let `look` see the outcome, take it back.

        Queries are pure, so undoing the change restores every value; cost follows the change, twice. Work that is
        waiting is done first; its delta stays to be taken.
        """
        while self.step():
            pass
        kept_changed, kept_removed = self._changed, self._removed
        self._changed, self._removed = {}, {}
        undo = self.apply(changes)
        try:
            return look(self._context, self.settle())
        finally:
            self.apply(undo)
            self.settle()
            self._changed, self._removed = kept_changed, kept_removed

    def failures(self) -> tuple[Failure, ...]:
        return tuple(self._failures.values())

    def statistics(self) -> EngineStatistics:
        homes: list[_Home] = [*self._inputs.values(), *self._queries.values(), *self._feeds, *self._outputs]
        homes += [home for groups in self._groups.values() for home in (groups.nodes, groups.sizes, groups.leasts)]
        return EngineStatistics(
            ran=self._ran,
            reused=self._reused,
            cut_off=self._cut_off,
            nodes=sum(len(home.nodes) for home in homes),
            pending=len(self._early)
            + sum(len(groups.pending) for groups in self._groups.values())
            + sum(len(pending) for pending in self._late.values()),
            failures=len(self._failures),
        )

    def observe(self, observer: Callable[[str, Hashable], None] | None) -> None:
        """Call `observer` with the name and key of each function that runs from now on."""
        self._observer = observer

    # Marking.

    def _touch(self, source: object, key: Hashable) -> None:
        home = self._inputs.get(source)
        if home is not None and (node := home.nodes.get(key)) is not None:
            self._mark(node)

    def _mark(self, node: _Node) -> None:
        """The value of `node` has changed: its readers are dirty, theirs suspect."""
        self._clock += 1
        node.changed = self._clock
        stack: list[_Node] = []
        for reader in _readers(node):
            if reader.state is _State.CLEAN:
                self._enlist(reader)
                stack.append(reader)
            reader.state = _State.DIRTY
        while stack:
            for reader in _readers(stack.pop()):
                if reader.state is _State.CLEAN:
                    reader.state = _State.SUSPECT
                    self._enlist(reader)
                    stack.append(reader)

    def _enlist(self, node: _Node) -> None:
        if node.home.pending is not None:
            node.home.pending[node] = None

    # Evaluation.

    def _refresh(self, node: _Node) -> None:
        """Bring a node up to date. Iterative: only functions that call one another nest."""
        if node.state >= _State.VERIFYING:
            self._cyclic[node] = None
            raise CycleError(f"{node.home.name}({node.key}) waits for itself")
        stack: list[tuple[_Node, Iterator[_Node]]] = []
        current = node
        dependencies = iter(node.deps)
        while True:
            if current.state is _State.SUSPECT:
                current.state = _State.VERIFYING
            if current.state is _State.VERIFYING:
                below = self._verify(current, dependencies)
                if below is not None:
                    stack.append((current, dependencies))
                    current, dependencies = below, iter(below.deps)
                    continue
            if current.state is _State.DIRTY:
                self._run(current)
            if not stack:
                return
            finished = current
            current, dependencies = stack.pop()
            if finished.changed > current.verified:
                current.state = _State.DIRTY

    def _verify(self, node: _Node, dependencies: Iterator[_Node]) -> _Node | None:
        """Go on looking whether something that the node read has changed.

        Returns:
            A dependency that has to be brought up to date first; `None` when the node is decided: clean or dirty.
        """
        for dependency in dependencies:
            if dependency.state is not _State.CLEAN:
                if dependency.state >= _State.VERIFYING:
                    # A cycle in what was read last time; running again finds out whether it is still one.
                    node.state = _State.DIRTY
                    return None
                return dependency
            if dependency.changed > node.verified:
                node.state = _State.DIRTY
                return None
        node.state = _State.CLEAN
        node.verified = self._clock
        self._reused += 1
        return None

    def _run(self, node: _Node) -> None:
        outer, self._reads = self._reads, {}
        node.state = _State.RUNNING
        value: object
        try:
            value = cast("Function", node.home.function)(self._context, node.key)
        except Exception as error:  # noqa: BLE001 - the edge that must survive; it ends as a Failure or in the reader
            value = _Raised(error)
        reads, self._reads = tuple(self._reads), outer
        self._ran += 1
        if self._observer is not None:
            self._observer(node.home.name, node.key)
        if reads != node.deps:
            self._link(node, reads)
        node.state = _State.CLEAN
        if node.value == value and type(node.value) is type(value):
            self._cut_off += 1
        else:
            node.value = value
            self._clock += 1
            node.changed = self._clock
        node.verified = self._clock

    def _link(self, node: _Node, reads: tuple[_Node, ...]) -> None:
        old = set(node.deps)
        for dependency in reads:
            if dependency in old:
                old.discard(dependency)
            else:
                _add_reader(dependency, node)
        for dependency in old:
            _drop_reader(dependency, node)
            if dependency.readers is None:
                self._orphans[dependency] = None
        node.deps = reads

    # Feeds and outputs.

    def _settle_feed(self, groups: _Groups) -> None:
        node, _ = groups.pending.popitem()
        if node.state is _State.CLEAN and node.value is not _ABSENT:
            return
        old = node.value
        self._refresh(node)
        if node.value is old:
            return
        number, _groups = self._feeds[node.home]
        self._fold(groups, (number, node.key), self._rows_of(node, old), self._rows_of(node, node.value))

    def _rows_of(self, node: _Node, value: object) -> Mapping[Hashable, object]:
        self._note_failure(node, value)
        if value is _ABSENT or type(value) is _Raised:
            return {}
        return cast("Mapping[Hashable, object]", value)

    def _note_failure(self, node: _Node, value: object) -> None:
        place = (node.home.name, node.key)
        if type(value) is _Raised:
            self._failures[place] = Failure(node.home.name, node.key, repr(value.error))
        else:
            self._failures.pop(place, None)

    def _fold(
        self,
        groups: _Groups,
        member: tuple[int, Hashable],
        old: Mapping[Hashable, object],
        new: Mapping[Hashable, object],
    ) -> None:
        for group in old:
            if group not in new:
                rows = groups.rows[group]
                groups.touched.setdefault(group, True)
                del rows[member]
                if not rows:
                    del groups.rows[group]
                self._mark_group(groups, group, resized=True)
                self._update_least(groups, group, old[group], _ABSENT)
        for group, row in new.items():
            before = old.get(group, _ABSENT)
            if before is not _ABSENT and before == row:
                continue
            groups.touched.setdefault(group, group in groups.rows)
            groups.rows.setdefault(group, {})[member] = row
            self._mark_group(groups, group, resized=before is _ABSENT)
            self._update_least(groups, group, before, row)

    def _mark_group(self, groups: _Groups, group: Hashable, *, resized: bool) -> None:
        if (node := groups.nodes.nodes.get(group)) is not None:
            self._mark(node)
        if resized and (node := groups.sizes.nodes.get(group)) is not None:
            self._mark(node)

    def _update_least(self, groups: _Groups, group: Hashable, before: object, row: object) -> None:
        node = groups.leasts.nodes.get(group)
        if node is None:
            return
        least = node.value
        if row is not _ABSENT and (least is _ABSENT or cast("int", row) < cast("int", least)):
            least = row
        elif before is not _ABSENT and before == least:
            least = _least(groups.rows.get(group))
        if least is not node.value and (least is _ABSENT or node.value is _ABSENT or least != node.value):
            node.value = least
            self._mark(node)

    def _settle_membership(self, groups: _Groups) -> None:
        """Groups that came or went while the relation was settled; one that did both is neither."""
        touched, groups.touched = groups.touched, {}
        for group, existed in touched.items():
            exists = group in groups.rows
            if exists and not existed:
                self._member_appeared(groups.dependents, group)
            elif existed and not exists:
                self._member_vanished(groups.dependents, group)

    def _member_appeared(self, homes: Iterable[_Home], key: Hashable) -> None:
        for home in homes:
            if key not in home.nodes:
                node = home.nodes[key] = _Node(home, key, _State.DIRTY)
                self._enlist(node)

    def _member_vanished(self, homes: Iterable[_Home], key: Hashable) -> None:
        for home in homes:
            node = home.nodes.pop(key, None)
            if node is None:
                continue
            cast("dict[_Node, None]", home.pending).pop(node, None)
            self._link(node, ())
            self._failures.pop((home.name, key), None)
            if home in self._feeds:
                number, groups = self._feeds[home]
                if node.value is not _ABSENT and type(node.value) is not _Raised:
                    self._fold(groups, (number, key), cast("Mapping[Hashable, object]", node.value), {})
            else:
                self._give_out(home, key, None)

    def _settle_output(self, pending: dict[_Node, None]) -> None:
        node = next(iter(pending))
        del pending[node]
        old = node.value
        self._refresh(node)
        if node.value is old:
            return
        self._note_failure(node, node.value)
        if type(node.value) is not _Raised:
            self._give_out(node.home, node.key, node.value)

    def _give_out(self, home: _Home, key: Hashable, value: object) -> None:
        output = self._outputs[home]
        if value is None:
            self._changed.get(output, {}).pop(key, None)
            self._removed.setdefault(output, set()).add(key)
        else:
            if (removed := self._removed.get(output)) is not None:
                removed.discard(key)
            self._changed.setdefault(output, {})[key] = value

    # Forgetting.

    def _sweep(self) -> None:
        """Drop the nodes that nobody reads any more, and then those that only they read."""
        if self._orphans:
            for node in [node for node in self._cyclic if not _is_wanted(node)]:
                del self._cyclic[node]
                self._forget(node)
        while self._orphans:
            node, _ = self._orphans.popitem()
            if node.readers is None:
                self._forget(node)

    def _forget(self, node: _Node) -> None:
        if node.home.nodes.get(node.key) is node:
            del node.home.nodes[node.key]
            self._link(node, ())


def _least(rows: Mapping[tuple[int, Hashable], object] | None) -> object:
    # Rows are of a type that can be ordered; which one only the relation's owner knows.
    return min(cast("Iterable[int]", rows.values())) if rows else _ABSENT


def _readers(node: _Node) -> Iterable[_Node]:
    readers = node.readers
    if readers is None:
        return ()
    return tuple(readers) if type(readers) is set else (cast("_Node", readers),)


def _is_wanted(node: _Node) -> bool:
    """Whether a feed or output reads the node, however indirectly."""
    seen = {node}
    stack = [node]
    while stack:
        for reader in _readers(stack.pop()):
            if reader.home.pending is not None:
                return True
            if reader not in seen:
                seen.add(reader)
                stack.append(reader)
    return False


def _add_reader(node: _Node, reader: _Node) -> None:
    readers = node.readers
    if readers is None:
        node.readers = reader
    elif type(readers) is set:
        readers.add(reader)
    elif readers is not reader:
        node.readers = {cast("_Node", readers), reader}


def _drop_reader(node: _Node, reader: _Node) -> None:
    readers = node.readers
    if type(readers) is set:
        readers.discard(reader)
        if not readers:
            node.readers = None
    elif readers is reader:
        node.readers = None
