"""Which line of a text a field stands on. Composes the document only when somebody asks."""

import re
from typing import Final, final

from yaml.nodes import MappingNode, Node, SequenceNode

from portway.sources.problems import TextRefused
from portway.sources.yaml_parser import compose

_STEP: Final = re.compile(r'\.?([^.\[\]]+)|\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]')
"""One step of a path as kubectl writes it: `.name`, `[0]`, `["example.com/key"]`."""


@final
class FieldLines:
    """Lines of fields of one text. JSON is YAML enough for this (tabs apart)."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._roots: list[Node] | None = None

    def line_of(self, document: int, field: str) -> int:
        """First line of the field, from 1; if it is missing, of the deepest parent that is there; 0 if unknown."""
        if self._roots is None:
            self._roots = _roots(self._text)
        if document >= len(self._roots):
            return 0
        node = self._roots[document]
        line: int = node.start_mark.line + 1
        for step in _STEP.finditer(field):
            found = _below(node, step)
            if found is None:
                break
            marker, node = found
            line = marker.start_mark.line + 1
        return line


def _roots(text: str) -> list[Node]:
    try:
        return list(compose(text))
    except TextRefused:
        return []


def _below(node: Node, step: re.Match[str]) -> tuple[Node, Node] | None:
    """The node that has the line and the node to go on from."""
    name, index, quoted = step.groups()
    if index is not None:
        if isinstance(node, SequenceNode) and int(index) < len(node.value):
            return node.value[int(index)], node.value[int(index)]
        return None
    key = name if quoted is None else quoted
    if isinstance(node, MappingNode):
        for key_node, value_node in node.value:
            if key_node.value == key:
                return key_node, value_node
    return None
