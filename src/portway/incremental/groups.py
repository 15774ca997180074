"""The rows of one relation, folded by delta: a member's change touches the groups where its rows differ."""

from collections.abc import Hashable, Iterable, Mapping
from typing import cast, final

from portway.incremental.graph import ABSENT, Graph, Home, Node


@final
class Groups:
    """The rows of one relation."""

    __slots__ = ("_graph", "dependents", "leasts", "nodes", "pending", "rows", "sizes", "touched")

    def __init__(self, name: str, graph: Graph) -> None:
        self._graph = graph
        self.rows: dict[Hashable, dict[tuple[int, Hashable], object]] = {}
        self.nodes = Home(name, None, None)
        self.sizes = Home(f"size of {name}", None, None)
        self.leasts = Home(f"least of {name}", None, None)
        """Nodes whose value is the smallest row, or `ABSENT`."""
        self.pending: dict[Node, None] = {}
        self.touched: dict[Hashable, bool] = {}
        """Groups touched since the relation was last settled, and whether each existed then."""
        self.dependents: list[Home] = []
        """Feeds and outputs whose members are the groups."""

    def fold(
        self,
        member: tuple[int, Hashable],
        old: Mapping[Hashable, object],
        new: Mapping[Hashable, object],
    ) -> None:
        for group in old:
            if group not in new:
                rows = self.rows[group]
                self.touched.setdefault(group, True)
                del rows[member]
                if not rows:
                    del self.rows[group]
                self._mark_group(group, resized=True)
                self._update_least(group, old[group], ABSENT)
        for group, row in new.items():
            before = old.get(group, ABSENT)
            if before is not ABSENT and before == row:
                continue
            self.touched.setdefault(group, group in self.rows)
            self.rows.setdefault(group, {})[member] = row
            self._mark_group(group, resized=before is ABSENT)
            self._update_least(group, before, row)

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
            least = least_row(self.rows.get(group))
        if least is not node.value and (least is ABSENT or node.value is ABSENT or least != node.value):
            node.value = least
            self._graph.mark(node)


def least_row(rows: Mapping[tuple[int, Hashable], object] | None) -> object:
    # Rows are of a type that can be ordered; which one only the relation's owner knows.
    return min(cast("Iterable[int]", rows.values())) if rows else ABSENT
