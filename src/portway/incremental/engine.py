"""The engine: relations and outputs over the graph, in steps. The package's docstring says what it is about."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import cast, final

from portway.incremental.graph import ABSENT, CLEAN, DIRTY, Graph, Home, Node, Raised
from portway.incremental.groups import Groups
from portway.incremental.handles import (
    AnyOutput,
    AnyRelation,
    Context,
    Delta,
    EngineStatistics,
    Failure,
    Feed,
    Function,
    G,
    K,
    Members,
    Program,
    Query,
    R,
    Relation,
    V,
)
from portway.store import ChangeSet, Input, Store


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
        self._graph = Graph()
        self._graph.context = cast("Context", _Reader(self))
        self._free: dict[object, dict[Hashable, object]] = {}
        self._inputs: dict[object, Home] = {}
        self._queries: dict[object, Home] = {}
        self._functions = {binding.query: binding.function for binding in program.bindings}
        self._failures: dict[tuple[str, Hashable], Failure] = {}
        self._groups: dict[AnyRelation, Groups] = {
            relation: Groups(relation.name, self._graph) for relation in program.relations
        }
        self._kind_dependents: dict[str, list[Home]] = {}
        self._feeds: dict[Home, tuple[int, Groups]] = {}
        self._outputs: dict[Home, AnyOutput] = {}
        # The first of a plain dict is not found at once when thousands were removed before it.
        self._early: OrderedDict[Node, None] = OrderedDict()
        self._late: dict[AnyOutput, OrderedDict[Node, None]] = {}
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
        home = Home(f"{groups.nodes.name}#{number}", _flat(fed.function), groups.pending)
        self._feeds[home] = (number, groups)
        self._depend(home, fed.members)

    def _add_output(self, output: AnyOutput) -> None:
        pending = self._early if output.early else self._late.setdefault(output, OrderedDict())
        home = Home(output.name, output.function, pending)
        self._outputs[home] = output
        for members in output.members:
            self._depend(home, members)

    def _depend(self, home: Home, members: Members) -> None:
        if isinstance(members, str):
            self._kind_dependents.setdefault(members, []).append(home)
        else:
            self._groups[members].dependents.append(home)

    # What queries do.

    def read(self, source: Input[K, V], key: K) -> V:
        free = self._free.get(source)
        value = cast("V", free[key]) if free is not None and key in free else self.store.read(source, key)
        if self._graph.reads is not None:
            home = self._inputs.get(source)
            if home is None:
                home = self._inputs[source] = Home(source.name, None, None)
            self._graph.record(home, key)
        return value

    def get(self, query: Query[K, V], key: K) -> V:
        home = self._queries.get(query)
        if home is None:
            home = self._queries[query] = Home(
                query.name, cast("Function", query.function or self._functions[query]), None
            )
        node = home.nodes.get(key)
        if node is None:
            node = self._graph.adopt(home, key)
        if self._graph.reads is not None:
            self._graph.reads[node] = None
        if node.state:
            self._graph.refresh(node)
        if type(node.value) is Raised:
            raise node.value.error
        return cast("V", node.value)

    def rows(self, relation: Relation[G, R], group: G) -> tuple[R, ...]:
        groups = self._groups[relation]
        if self._graph.reads is not None:
            self._graph.record(groups.nodes, group)
        return cast("tuple[R, ...]", groups.rows(group))

    def size(self, relation: Relation[G, R], group: G) -> int:
        groups = self._groups[relation]
        if self._graph.reads is not None:
            self._graph.record(groups.sizes, group)
        return groups.size(group)

    def least(self, relation: Relation[G, R], group: G) -> R | None:
        groups = self._groups[relation]
        node = groups.leasts.nodes.get(group)
        value = groups.least(group) if node is None else node.value
        if self._graph.reads is not None:
            self._graph.record(groups.leasts, group).value = value
        return None if value is ABSENT else cast("R", value)

    # What the owner of the engine does.

    def groups(self, relation: Relation[G, R]) -> Iterator[G]:
        """The groups that exist now. For tests and reports; queries have no such read, it would be about everything."""
        return cast("Iterator[G]", iter(self._groups[relation]))

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
        self._graph.sweep()
        self._release()
        return False

    def _release(self) -> None:
        """Give back what the lists of waiting nodes took at their longest: a dict shrinks only when it is cleared."""
        self._early.clear()
        for groups in self._groups.values():
            groups.pending.clear()
        for pending in self._late.values():
            pending.clear()

    def is_settled(self, outputs: Iterable[AnyOutput]) -> bool:
        """Whether these outputs are up to date, whatever else waits."""
        return (
            not self._early
            and not any(groups.pending or groups.touched for groups in self._groups.values())
            and not any(self._late.get(output) for output in outputs)
        )

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
            return look(self._graph.context, self.settle())
        finally:
            self.apply(undo)
            self.settle()
            self._changed, self._removed = kept_changed, kept_removed

    def failures(self) -> tuple[Failure, ...]:
        return tuple(self._failures.values())

    def statistics(self) -> EngineStatistics:
        homes: list[Home] = [*self._inputs.values(), *self._queries.values(), *self._feeds, *self._outputs]
        homes += [home for groups in self._groups.values() for home in (groups.nodes, groups.sizes, groups.leasts)]
        return EngineStatistics(
            ran=self._graph.ran,
            reused=self._graph.reused,
            cut_off=self._graph.cut_off,
            nodes=sum(len(home.nodes) for home in homes),
            pending=len(self._early)
            + sum(len(groups.pending) for groups in self._groups.values())
            + sum(len(pending) for pending in self._late.values()),
            failures=len(self._failures),
        )

    def observe(self, observer: Callable[[str, Hashable], None] | None) -> None:
        """Call `observer` with the name and key of each function that runs from now on."""
        self._graph.observer = observer

    def _touch(self, source: object, key: Hashable) -> None:
        home = self._inputs.get(source)
        if home is not None and (node := home.nodes.get(key)) is not None:
            self._graph.mark(node)

    # Feeds and outputs.

    def _settle_feed(self, groups: Groups) -> None:
        node, _ = groups.pending.popitem()
        if node.state == CLEAN and node.value is not ABSENT:
            return
        old = node.value
        self._graph.refresh(node)
        if node.value is old:
            return
        number, _groups = self._feeds[node.home]
        groups.fold((number, node.key), self._rows_of(node, old), self._rows_of(node, node.value))

    def _rows_of(self, node: Node, value: object) -> Mapping[Hashable, object]:
        self._note_failure(node, value)
        if value is ABSENT or type(value) is Raised:
            return {}
        return _unflat(value)

    def _note_failure(self, node: Node, value: object) -> None:
        if type(value) is Raised:
            self._failures[node.home.name, node.key] = Failure(node.home.name, node.key, repr(value.error))
        elif self._failures:
            self._failures.pop((node.home.name, node.key), None)

    def _settle_membership(self, groups: Groups) -> None:
        """Groups that came or went while the relation was settled; one that did both is neither."""
        touched, groups.touched = groups.touched, {}
        for group, existed in touched.items():
            exists = groups.size(group) > 0
            if exists and not existed:
                self._member_appeared(groups.dependents, group)
            elif existed and not exists:
                self._member_vanished(groups.dependents, group)

    def _member_appeared(self, homes: Iterable[Home], key: Hashable) -> None:
        for home in homes:
            if key not in home.nodes:
                node = home.nodes[key] = Node(home, key, DIRTY)
                self._graph.enlist(node)

    def _member_vanished(self, homes: Iterable[Home], key: Hashable) -> None:
        for home in homes:
            node = home.nodes.pop(key, None)
            if node is None:
                continue
            cast("dict[Node, None]", home.pending).pop(node, None)
            self._graph.link(node, ())
            self._failures.pop((home.name, key), None)
            if home in self._feeds:
                number, groups = self._feeds[home]
                if node.value is not ABSENT and type(node.value) is not Raised:
                    groups.fold((number, key), _unflat(node.value), {})
            else:
                self._give_out(home, key, None)

    def _settle_output(self, pending: OrderedDict[Node, None]) -> None:
        node, _ = pending.popitem(last=False)
        old = node.value
        self._graph.refresh(node)
        if node.value is old:
            return
        self._note_failure(node, node.value)
        if type(node.value) is not Raised:
            self._give_out(node.home, node.key, node.value)

    def _give_out(self, home: Home, key: Hashable, value: object) -> None:
        output = self._outputs[home]
        if value is None:
            self._changed.get(output, {}).pop(key, None)
            self._removed.setdefault(output, set()).add(key)
        else:
            if (removed := self._removed.get(output)) is not None:
                removed.discard(key)
            self._changed.setdefault(output, {})[key] = value


def _flat(function: Function) -> Function:
    """The function of a feed, its rows in one tuple: group, row, group, row. Most feeds give one row, for which a dict
    takes 232 bytes and this 56."""

    def rows(context: Context, key: Hashable) -> object:
        found = cast("Mapping[Hashable, object]", function(context, key))
        return tuple(part for pair in found.items() for part in pair)

    return rows


def _unflat(value: object) -> Mapping[Hashable, object]:
    parts = cast("tuple[object, ...]", value)
    return dict(zip(parts[::2], parts[1::2], strict=True))
