"""YAML text to plain data, as kubectl reads it; every error with line, column and what to do.

libyaml does the grammar: it is what kubectl's parser was ported from, so both agree on what is YAML. It composes the
node graph in C; turning nodes into data is ours, because PyYAML's own resolver and constructor take two thirds of its
time and follow other rules (`docs/design/yaml-parser.md` has the measurements).

Bounds: nesting (libyaml's composer recurses in C and would overrun the stack) and nodes that aliases multiply. Tags are
refused but for the ones of JSON's types. A duplicate key is an error, as with `kubectl --validate=strict`.

Merge keys (`<<`) work; an explicit key wins over a merged one, as the YAML merge-key draft says (kubectl refuses or
overwrites there, depending on its version; neither is worth copying).
"""

import operator
import re
from collections.abc import Iterator
from typing import Final, NoReturn, final

import msgspec
import yaml
from yaml._yaml import CParser
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from portway.objects.verdict import Severity
from portway.sources.problems import Problem, TextRefused
from portway.sources.yaml_messages import explain_syntax
from portway.sources.yaml_scalars import SURPRISING_WORDS, NotInJson, Scalar, resolve_plain

Data = object
"""Plain data: dict with string keys, list, str, int, float, bool, None."""

MAX_DEPTH: Final = 200
"""Nested collections in one document. A Gateway API object needs 12; a CRD's schema about 60."""
MAX_EXPANDED_NODES: Final = 100_000
"""Nodes in a document with aliases, aliases expanded. A document without aliases is bounded by its size."""
_STACK_SAFE_DEPTH: Final = 1_000
"""So deep the C composer may recurse in any thread: it needs about 0.5 kB of stack a level, and crashed at 100,000."""

_CORE: Final = "tag:yaml.org,2002:"
_SCALAR_TAGS: Final = {
    _CORE + "int": (int,),
    _CORE + "float": (int, float),
    _CORE + "bool": (bool,),
    _CORE + "null": (type(None),),
}
_STRING_TAG: Final = _CORE + "str"
_COLLECTION_TAGS: Final = frozenset({_CORE + "map", _CORE + "seq"})


class YamlDocument(msgspec.Struct, frozen=True):
    """One document of a text."""

    data: Data
    line: int
    """Of its first node, from 1 within the text."""
    warnings: tuple[Problem, ...] = ()


class _Parser(CParser):
    """What both composers share."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.anchors: dict[str, Node] = {}


@final
class _Composer(_Parser):
    """Builds nodes, resolves nothing.

    libyaml's composer calls these three for every node. Builtins, because a Python frame for each would take a third of
    the whole time; what they return does not matter. `resolve` makes an implicit tag a `slice`, an explicit one stays
    `str`.
    """

    resolve = slice
    descend_resolver = operator.is_
    ascend_resolver = bool


@final
class _CountingComposer(_Parser):
    """Stops before the C stack ends. Slower: a Python call for each node."""

    resolve = slice

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def descend_resolver(self, parent: Node | None, index: object) -> None:
        self._depth += 1
        if self._depth > _STACK_SAFE_DEPTH:
            _refuse_depth(parent)

    def ascend_resolver(self) -> None:
        self._depth -= 1


def parse_yaml(text: str) -> list[YamlDocument]:
    """Read all documents of a text; empty ones have `data` None.

    Raises:
        TextRefused: with the first error's place and remedy. Nothing else, whatever the text.
    """
    documents = []
    has_aliases = "*" in text
    for node in compose(text):
        reader = _Reader(has_aliases)
        data = reader.read(node, 0)
        documents.append(YamlDocument(data, node.start_mark.line + 1, tuple(reader.warnings(node))))
    return documents


def compose(text: str) -> Iterator[Node]:
    """The node graphs of a text's documents, with marks.

    Raises:
        TextRefused: as `parse_yaml`.
    """
    try:
        parser: _Parser = (_Composer if _nesting_bound(text) < _STACK_SAFE_DEPTH else _CountingComposer)(text)
        while parser.check_node():
            node = parser.get_node()
            if node is not None:
                yield node
    except yaml.YAMLError as error:
        raise TextRefused(explain_syntax(error, text)) from error
    except UnicodeEncodeError as error:  # a lone surrogate from a JSON-style escape cannot stand in a text
        line = text.count("\n", 0, error.start) + 1
        problem = Problem(
            line=line,
            reason="InvalidYAML",
            problem="half of a surrogate pair is not a character",
            remedy="write the character itself",
        )
        raise TextRefused(problem) from error


def _nesting_bound(text: str) -> int:
    """No document of the text nests deeper than this.

    A flow collection needs its bracket. Nested block collections begin at growing columns, two at most at each (a list
    may stand at the column of the mapping that holds it).
    """
    return text.count("[") + text.count("{") + 2 * max(map(len, text.split("\n")))


@final
class _Reader:
    """Turns the nodes of one document into data."""

    __slots__ = ("_count_nodes", "_nodes", "_surprising")

    def __init__(self, count_nodes: bool) -> None:
        self._count_nodes = count_nodes
        self._nodes = 0
        self._surprising: list[ScalarNode] = []

    def read(self, node: Node, depth: int) -> Data:
        if self._count_nodes:
            self._count(node)
        if type(node) is ScalarNode:
            return self._scalar(node)
        if depth >= MAX_DEPTH:
            _refuse_depth(node)
        if type(node.tag) is str and node.tag not in _COLLECTION_TAGS:
            _refuse_tag(node)
        if type(node) is MappingNode:
            return self._mapping(node, depth + 1)
        return [self.read(item, depth + 1) for item in node.value]

    def _scalar(self, node: ScalarNode) -> Scalar:
        value: str = node.value
        if type(node.tag) is str:
            return self._tagged(node, value)
        if node.style:
            return value
        try:
            return _MEMO[value]
        except KeyError:
            return self._plain(node, value)

    def _plain(self, node: ScalarNode, value: str) -> Scalar:
        try:
            resolved = resolve_plain(value)
        except NotInJson:
            _refuse(node, f"{value} is not a number that JSON has", f'write "{value}" if text is meant')
        if value in SURPRISING_WORDS:
            self._surprising.append(node)
        elif len(_MEMO) < _MEMO_SIZE and len(value) < 64:
            _MEMO[value] = resolved
        return resolved

    def _tagged(self, node: ScalarNode, value: str) -> Scalar:
        if node.tag == _STRING_TAG:
            return value
        wanted = _SCALAR_TAGS.get(node.tag)
        if wanted is None:
            _refuse_tag(node)
        resolved = self._plain(node, value)
        if type(resolved) not in wanted:
            _refuse(node, f'"{value}" is not of the type that its tag says', "remove the tag")
        return resolved

    def _mapping(self, node: Node, depth: int) -> dict[str, Data]:
        result: dict[str, Data] = {}
        merged: list[Node] = []
        for key_node, value_node in node.value:
            if key_node.value == "<<" and not key_node.style:
                merged.append(value_node)
                continue
            key = key_node.value
            if not (type(key_node) is ScalarNode and key in _STRING_KEYS and type(key_node.tag) is not str):
                key = self._key(key_node)
            if key in result:
                _refuse_duplicate(node, key_node, key)
            result[key] = self.read(value_node, depth)
        for value_node in merged:
            for key, value in self._merged(value_node, depth).items():
                result.setdefault(key, value)
        return result

    def _key(self, node: Node) -> str:
        if not isinstance(node, ScalarNode):
            _refuse(node, "a key cannot be a mapping or a list", "quote it if text is meant")
        key = self._scalar(node)
        if type(key) is str:
            if not node.style and len(_STRING_KEYS) < _MEMO_SIZE and len(key) < 64:
                _STRING_KEYS.add(key)
            return key
        if key is None:
            _refuse(node, "a key cannot be null", f'quote it: "{node.value}"')
        if type(key) is bool:
            return "true" if key else "false"
        return msgspec.json.encode(key).decode()

    def _merged(self, node: Node, depth: int) -> dict[str, Data]:
        if type(node) is MappingNode:
            found = self.read(node, depth)
            assert isinstance(found, dict)  # noqa: S101 - a mapping node reads as a dict
            return found
        result: dict[str, Data] = {}
        if type(node) is not SequenceNode or any(type(item) is not MappingNode for item in node.value):
            _refuse(node, "<< merges mappings only", "let it refer to a mapping or a list of mappings")
        for item in node.value:
            for key, value in self._merged(item, depth).items():
                result.setdefault(key, value)
        return result

    def _count(self, node: Node) -> None:
        self._nodes += 1
        if self._nodes > MAX_EXPANDED_NODES:
            problem = f"aliases make more than {MAX_EXPANDED_NODES:,} values of this document"
            _refuse(node, problem, "write the values out, or split the document")

    def warnings(self, root: Node) -> Iterator[Problem]:
        """About words that read as booleans although many mean text."""
        for node in self._surprising:
            value = "true" if _is_true(node.value) else "false"
            yield Problem(
                line=node.start_mark.line + 1,
                column=node.start_mark.column + 1,
                severity=Severity.WARNING,
                reason="SurprisingBoolean",
                field=path_of(root, node),
                problem=f"{node.value} without quotes is the boolean {value}",
                remedy=f'write "{node.value}" if text is meant, {value} if not',
            )


_MEMO: Final[dict[str, Scalar]] = {}
"""Plain scalars met before. Manifests repeat themselves; a look-up is ten times as fast as resolving."""
_STRING_KEYS: Final[set[str]] = set()
"""Keys met before that mean themselves, quoted or not."""
_MEMO_SIZE: Final = 20_000


def path_of(root: Node, wanted: Node) -> str:
    """Where a node stands, as kubectl writes paths: `spec.rules[0].name`. Empty if it is the root or not below it."""
    todo: list[tuple[Node, str]] = [(root, "")]
    seen: set[int] = set()
    while todo:
        node, path = todo.pop()
        if node is wanted:
            return path
        if type(node) is ScalarNode or id(node) in seen:
            continue
        seen.add(id(node))
        if type(node) is MappingNode:
            for key, value in node.value:
                below = join_field(path, key.value) if type(key) is ScalarNode else path
                if key is wanted:
                    return below
                todo.append((value, below))
        else:
            todo.extend((item, f"{path}[{index}]") for index, item in enumerate(node.value))
    return ""


_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")


def join_field(path: str, key: str) -> str:
    """Path of a key in the mapping at that path."""
    if not _PLAIN_KEY.match(key):
        return f'{path}["{key}"]'
    return f"{path}.{key}" if path else key


def _is_true(word: str) -> bool:
    return resolve_plain(word) is True


def _refuse_duplicate(mapping: Node, node: Node, key: str) -> NoReturn:
    first = next(other for other, _ in mapping.value if other.value == node.value)
    line = first.start_mark.line + 1
    _refuse(node, f'key "{key}" is there twice, first {lines_before(node, line)}', "keep one of the two")


def lines_before(node: Node, line: int) -> str:
    """Where another line is, seen from a node; both lines are relative, so only the distance can be said."""
    distance = node.start_mark.line + 1 - line
    return "on the same line" if not distance else f"{distance} line{'s' if distance > 1 else ''} above"


def _refuse_tag(node: Node) -> NoReturn:
    tag = node.tag.replace(_CORE, "!!")
    _refuse(node, f"tag {tag} has no meaning in Kubernetes objects", "remove it, or quote the value")


_FLATTEN: Final = "nest less, no Kubernetes object needs that"


def _refuse_depth(node: Node | None) -> NoReturn:
    problem = f"more than {MAX_DEPTH} collections are nested, or an alias refers to what holds it"
    if node is None:
        raise TextRefused(Problem(line=1, reason="InvalidYAML", problem=problem, remedy=_FLATTEN))
    _refuse(node, problem, _FLATTEN)


def _refuse(node: Node, problem: str, remedy: str) -> NoReturn:
    mark = node.start_mark
    found = Problem(line=mark.line + 1, column=mark.column + 1, reason="InvalidYAML", problem=problem, remedy=remedy)
    raise TextRefused(found)
