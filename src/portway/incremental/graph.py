"""The graph of memoised values: who read what, who is dirty, bringing a value up to date.

Knows no relation, output or store: nodes with functions and edges. Nodes of feeds and outputs differ in one thing: they
have a `pending` place, where they are put down when they may have changed, and nobody reads them.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Final, cast, final

import msgspec

from portway.incremental.handles import Context, CycleError, Function

# States of a node. Not an enum: comparing its members took 7 % of the time in which everything is compiled.
CLEAN: Final = 0
SUSPECT: Final = 1
"""Something that it read may have changed."""
DIRTY: Final = 2
VERIFYING: Final = 3
RUNNING: Final = 4


class Raised(msgspec.Struct, frozen=True, eq=False):
    """The value of a query that raised."""

    error: Exception

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Raised) and repr(self.error) == repr(other.error)

    def __hash__(self) -> int:
        return hash(repr(self.error))


ABSENT: object = object()

FEW: Final = 8
"""Readers of a node up to which they are a tuple: a set of two takes 216 bytes, one of five 728."""


class Node:
    """A memoised value, an input that is read, a group that is read."""

    __slots__ = ("changed", "deps", "home", "key", "readers", "state", "value", "verified")

    def __init__(self, home: "Home", key: Hashable, state: int) -> None:
        self.home = home
        self.key = key
        self.state = state
        self.value: object = ABSENT
        self.deps: tuple[Node, ...] = ()
        # Mostly one reader or a few, so a set only where there are more: memory at 100,000 nodes.
        self.readers: Node | tuple[Node, ...] | set[Node] | None = None
        self.changed = 0
        self.verified = 0


class Home:
    """All nodes of one query, input, relation's groups, feed or output."""

    __slots__ = ("function", "name", "nodes", "pending")

    def __init__(self, name: str, function: Function | None, pending: dict[Node, None] | None) -> None:
        self.name = name
        self.function = function
        self.nodes: dict[Hashable, Node] = {}
        self.pending = pending
        """Where a node that may have changed is put down; only for feeds and outputs, which nobody reads."""


@final
class Graph:
    """All nodes, by their homes."""

    def __init__(self) -> None:
        self.context: Context
        """Handed to functions; set by the owner."""
        self.clock = 0
        """Counts changes of values; says what changed after what was verified."""
        self.reads: dict[Node, None] | None = None
        """What the function that runs has read so far; `None` while none runs."""
        self.ran = self.reused = self.cut_off = 0
        self.observer: Callable[[str, Hashable], None] | None = None
        self._orphans: dict[Node, None] = {}
        """Nodes that perhaps nobody reads."""
        self._cyclic: dict[Node, None] = {}
        """Nodes that once closed a cycle: having readers does not mean that anybody wants them."""

    def adopt(self, home: "Home", key: Hashable) -> Node:
        """A new node that has not run; dropped at the next sweep unless somebody reads it until then."""
        node = home.nodes[key] = Node(home, key, DIRTY)
        self._orphans[node] = None
        return node

    def record(self, home: Home, key: Hashable) -> Node:
        node = home.nodes.get(key)
        if node is None:
            node = home.nodes[key] = Node(home, key, CLEAN)
        cast("dict[Node, None]", self.reads)[node] = None
        return node

    def mark(self, node: Node) -> None:
        """The value of `node` has changed: its readers are dirty, theirs suspect."""
        self.clock += 1
        node.changed = self.clock
        stack: list[Node] = []
        for reader in _readers(node):
            if reader.state == CLEAN:
                self.enlist(reader)
                stack.append(reader)
            reader.state = DIRTY
        while stack:
            for reader in _readers(stack.pop()):
                if reader.state == CLEAN:
                    reader.state = SUSPECT
                    self.enlist(reader)
                    stack.append(reader)

    def enlist(self, node: Node) -> None:
        if node.home.pending is not None:
            node.home.pending[node] = None

    def refresh(self, node: Node) -> None:
        """Bring a node up to date. Iterative: only functions that call one another nest."""
        if node.state >= VERIFYING:
            self._cyclic[node] = None
            raise CycleError(f"{node.home.name}({node.key}) waits for itself")
        stack: list[tuple[Node, Iterator[Node]]] = []
        current = node
        dependencies = iter(node.deps)
        while True:
            if current.state == SUSPECT:
                current.state = VERIFYING
            if current.state == VERIFYING:
                below = self._verify(current, dependencies)
                if below is not None:
                    stack.append((current, dependencies))
                    current, dependencies = below, iter(below.deps)
                    continue
            if current.state == DIRTY:
                self._run(current)
            if not stack:
                return
            finished = current
            current, dependencies = stack.pop()
            if finished.changed > current.verified:
                current.state = DIRTY

    def _verify(self, node: Node, dependencies: Iterator[Node]) -> Node | None:
        """Go on looking whether something that the node read has changed.

        Returns:
            A dependency that has to be brought up to date first; `None` when the node is decided: clean or dirty.
        """
        for dependency in dependencies:
            if dependency.state != CLEAN:
                if dependency.state >= VERIFYING:
                    # A cycle in what was read last time; running again finds out whether it is still one.
                    node.state = DIRTY
                    return None
                return dependency
            if dependency.changed > node.verified:
                node.state = DIRTY
                return None
        node.state = CLEAN
        node.verified = self.clock
        self.reused += 1
        return None

    def _run(self, node: Node) -> None:
        outer, self.reads = self.reads, {}
        node.state = RUNNING
        value: object
        try:
            value = cast("Function", node.home.function)(self.context, node.key)
        except Exception as error:  # noqa: BLE001 - the edge that must survive; it ends as a Failure or in the reader
            value = Raised(error)
        reads, self.reads = tuple(self.reads), outer
        self.ran += 1
        if self.observer is not None:
            self.observer(node.home.name, node.key)
        if reads != node.deps:
            self.link(node, reads)
        node.state = CLEAN
        if node.value == value and type(node.value) is type(value):
            self.cut_off += 1
        else:
            node.value = value
            self.clock += 1
            node.changed = self.clock
        node.verified = self.clock

    def link(self, node: Node, reads: tuple[Node, ...]) -> None:
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

    def sweep(self) -> None:
        """Drop the nodes that nobody reads any more, and then those that only they read."""
        if self._orphans:
            for node in [node for node in self._cyclic if not _is_wanted(node)]:
                del self._cyclic[node]
                self.forget(node)
        while self._orphans:
            node, _ = self._orphans.popitem()
            if node.readers is None:
                self.forget(node)
        self._orphans.clear()  # gives back its table

    def forget(self, node: Node) -> None:
        if node.home.nodes.get(node.key) is node:
            del node.home.nodes[node.key]
            self.link(node, ())


def _readers(node: Node) -> Iterable[Node]:
    readers = node.readers
    if readers is None:
        return ()
    if type(readers) is tuple:
        return readers
    return tuple(readers) if type(readers) is set else (cast("Node", readers),)


def _is_wanted(node: Node) -> bool:
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


def _add_reader(node: Node, reader: Node) -> None:
    readers = node.readers
    if readers is None:
        node.readers = reader
    elif type(readers) is set:
        readers.add(reader)
    elif type(readers) is tuple:
        if reader not in readers:
            node.readers = (*readers, reader) if len(readers) < FEW else {*readers, reader}
    elif readers is not reader:
        node.readers = (cast("Node", readers), reader)


def _drop_reader(node: Node, reader: Node) -> None:
    readers = node.readers
    if type(readers) is set:
        readers.discard(reader)
        if not readers:
            node.readers = None
    elif type(readers) is tuple:
        rest = tuple(one for one in readers if one is not reader)
        node.readers = rest if len(rest) > 1 else rest[0]
    elif readers is reader:
        node.readers = None
