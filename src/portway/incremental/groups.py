"""The rows of one relation, folded by delta: a member's change touches the groups where its rows differ."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import cast, final

from portway.incremental.graph import ABSENT, Graph, Home, Node

Member = tuple[int, Hashable]
"""A feed's number, and the key of who contributes through it."""


@final
class Groups:
    """The rows of one relation."""

    __slots__ = ("_graph", "_rows", "dependents", "leasts", "nodes", "pending", "sizes", "touched")

    def __init__(self, name: str, graph: Graph) -> None:
        self._graph = graph
        # Most groups have one row, as a pair: a dict for one takes 232 bytes, the pair 56.
        self._rows: dict[Hashable, tuple[Member, object] | dict[Member, object]] = {}
        self.nodes = Home(name, None, None)
        self.sizes = Home(f"size of {name}", None, None)
        self.leasts = Home(f"least of {name}", None, None)
        """Nodes whose value is the smallest row, or `ABSENT`."""
        self.pending: dict[Node, None] = {}
        self.touched: dict[Hashable, bool] = {}
        """Groups touched since the relation was last settled, and whether each existed then."""
        self.dependents: list[Home] = []
        """Feeds and outputs whose members are the groups."""

    def __iter__(self) -> Iterator[Hashable]:
        """The groups that have rows."""
        return iter(self._rows)

    def rows(self, group: Hashable) -> tuple[object, ...]:
        """In the order of feeds and, within a feed, of members."""
        rows = self._rows.get(group)
        if rows is None:
            return ()
        if isinstance(rows, tuple):
            return (rows[1],)
        # Members of one feed can be ordered among themselves; across feeds the feed's number decides.
        return tuple(row for _, row in sorted(rows.items(), key=_member_of))

    def size(self, group: Hashable) -> int:
        rows = self._rows.get(group)
        return 0 if rows is None else 1 if isinstance(rows, tuple) else len(rows)

    def least(self, group: Hashable) -> object:
        """The smallest row, or `ABSENT`."""
        rows = self._rows.get(group)
        if rows is None:
            return ABSENT
        # Rows are of a type that can be ordered; which one only the relation's owner knows.
        return rows[1] if isinstance(rows, tuple) else min(cast("Iterable[int]", rows.values()))

    def fold(self, member: Member, old: Mapping[Hashable, object], new: Mapping[Hashable, object]) -> None:
        for group in old:
            if group not in new:
                self.touched.setdefault(group, True)
                self._remove(group, member)
                self._mark_group(group, resized=True)
                self._update_least(group, old[group], ABSENT)
        for group, row in new.items():
            before = old.get(group, ABSENT)
            if before is not ABSENT and before == row:
                continue
            self.touched.setdefault(group, group in self._rows)
            self._put(group, member, row)
            self._mark_group(group, resized=before is ABSENT)
            self._update_least(group, before, row)

    def _put(self, group: Hashable, member: Member, row: object) -> None:
        rows = self._rows.get(group)
        if rows is None or (isinstance(rows, tuple) and rows[0] == member):
            self._rows[group] = (member, row)
        elif isinstance(rows, tuple):
            self._rows[group] = {rows[0]: rows[1], member: row}
        else:
            rows[member] = row

    def _remove(self, group: Hashable, member: Member) -> None:
        rows = self._rows[group]
        if isinstance(rows, tuple):
            del self._rows[group]
            return
        del rows[member]
        if len(rows) == 1:
            (self._rows[group],) = rows.items()

    def _mark_group(self, group: Hashable, *, resized: bool) -> None:
        if (node := self.nodes.nodes.get(group)) is not None:
            self._graph.mark(node)
        if resized and (node := self.sizes.nodes.get(group)) is not None:
            self._graph.mark(node)

    def _update_least(self, group: Hashable, before: object, row: object) -> None:
        node = self.leasts.nodes.get(group)
        if node is None:
            return
        least = node.value
        if row is not ABSENT and (least is ABSENT or cast("int", row) < cast("int", least)):
            least = row
        elif before is not ABSENT and before == least:
            least = self.least(group)
        if least is not node.value and (least is ABSENT or node.value is ABSENT or least != node.value):
            node.value = least
            self._graph.mark(node)


def _member_of(item: tuple[Member, object]) -> tuple[int, str]:
    return cast("tuple[int, str]", item[0])
