"""The text of one file to the objects that it declares.

Each chunk of a file is read by itself, and remembered by its digest: a changed file costs the parsing of its changed
chunks only. What a chunk gives is relative to its first line, so that it can move in the file and stay the same.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from portway.objects.defaults import DEFAULT_NAMESPACE
from portway.objects.kinds import kind_of
from portway.objects.meta import Object
from portway.objects.parsing import Parsed, parse
from portway.objects.unknown import unknown_fields
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.sources.documents import Chunk, split_documents
from portway.sources.field_lines import FieldLines
from portway.sources.json_parser import looks_like_json, parse_json
from portway.sources.problems import Problem, TextRefused
from portway.sources.yaml_parser import parse_yaml

MAX_LIST_DEPTH: Final = 3
"""Lists in lists; kubectl writes one level."""


class Item(msgspec.Struct, frozen=True, gc=False):
    """One object of a chunk."""

    key: ObjectKey
    object: Object
    generation: int
    line: int
    """First line of its document, from 1 within the chunk."""
    document: int = 0
    """Which document of the chunk; more than 0 only where `...` parts them, or JSON values follow each other."""
    path: str = ""
    """Where it stands in the document: `items[3]` in a list."""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What one chunk says."""

    items: tuple[Item, ...] = ()
    problems: tuple[Problem, ...] = ()
    documents: int = 0
    refused: frozenset[ObjectKey] = frozenset()
    """Objects that are declared here and cannot be accepted: their last good version stays."""
    broken: bool = False
    """Something here cannot even be named: whatever was declared here before may be meant."""


class _Raw(msgspec.Struct, frozen=True):
    """One object's data and where it stands in the chunk."""

    data: object
    line: int
    path: str = ""
    """As in `Item`."""
    document: int = 0


def split_text(text: str, *, is_json: bool) -> list[Chunk]:
    """Cut a file's text into chunks that can be read alone. JSON is one chunk."""
    if is_json or (looks_like_json(text) and "\n---" not in text):
        return [Chunk(text, 1)]
    return split_documents(text)


def read_chunk(text: str, *, is_json: bool, namespace: str = DEFAULT_NAMESPACE) -> Reading:
    """Parse one chunk. Never raises: what is wrong is in `problems`.

    Args:
        namespace: of objects that name none.
    """
    try:
        raws, problems = _load(text, is_json)
    except TextRefused as refused:
        return Reading(problems=(refused.problem,), documents=1, broken=True)
    items: list[Item] = []
    refused_keys: set[ObjectKey] = set()
    broken = False
    documents = 0
    lines = FieldLines(text)
    for raw in _flatten(raws):
        if raw.data is None:
            continue
        documents += 1
        parsed = parse(_placed(raw.data, namespace))
        problems.extend(
            Problem(
                line=lines.line_of(raw.document, join_paths(raw.path, verdict.field)) or raw.line,
                reason=verdict.reason,
                problem=verdict.problem,
                remedy=verdict.remedy,
                severity=verdict.severity,
                field=verdict.field,
                object=verdict.object,
            )
            for verdict in _verdicts(raw.data, parsed)
        )
        if parsed.object is not None and parsed.key is not None:
            items.append(Item(parsed.key, parsed.object, parsed.generation, raw.line, raw.document, raw.path))
        elif any(verdict.severity is Severity.ERROR for verdict in parsed.verdicts):
            if parsed.key is not None and parsed.key.name:
                refused_keys.add(parsed.key)
            else:
                broken = True
    return Reading(tuple(items), tuple(problems), documents, frozenset(refused_keys), broken)


def _load(text: str, is_json: bool) -> tuple[list[_Raw], list[Problem]]:
    if is_json:
        return _from_json(text), []
    if looks_like_json(text):
        try:
            return _from_json(text), []
        except TextRefused:
            pass  # YAML's flow style begins the same; if it is not that either, YAML's error is as good
    raws: list[_Raw] = []
    problems: list[Problem] = []
    for document in parse_yaml(text):
        raws.append(_Raw(document.data, document.line, document=len(raws)))
        problems.extend(document.warnings)
    return raws, problems


def _from_json(text: str) -> list[_Raw]:
    return [_Raw(document.data, document.line, document=index) for index, document in enumerate(parse_json(text))]


def _verdicts(data: object, parsed: Parsed) -> Iterator[Verdict]:
    yield from parsed.verdicts
    if parsed.key is not None and isinstance(data, dict):
        kind = kind_of(str(data.get("apiVersion")), str(data.get("kind")))
        if kind is not None:
            yield from unknown_fields(data, kind)


def _placed(data: object, namespace: str) -> object:
    """The document with this namespace if it names none, as `kubectl -n` has it."""
    metadata = data.get("metadata") if isinstance(data, dict) else None
    if namespace == DEFAULT_NAMESPACE or not isinstance(data, dict) or not isinstance(metadata, dict):
        return data
    return data if metadata.get("namespace") else {**data, "metadata": {**metadata, "namespace": namespace}}


def _flatten(raws: list[_Raw]) -> Iterator[_Raw]:
    """Objects themselves, and the items of lists (`kind: List`, `kind: HTTPRouteList`) in order."""
    for raw in raws:
        yield from _items(raw, 0)


def _items(raw: _Raw, depth: int) -> Iterator[_Raw]:
    data = raw.data
    if not isinstance(data, dict) or depth > MAX_LIST_DEPTH:
        yield raw
        return
    kind, items = data.get("kind"), data.get("items")
    if not (isinstance(kind, str) and kind.endswith("List") and isinstance(items, list)):
        yield raw
        return
    api_version = data.get("apiVersion")
    for index, item in enumerate(items):
        path = f"{join_paths(raw.path, 'items')}[{index}]"
        if isinstance(item, dict) and kind != "List" and "kind" not in item:
            # In a typed list the API server leaves out what the list says already.
            item = {"apiVersion": api_version, "kind": kind.removesuffix("List"), **item}
        yield from _items(_Raw(item, raw.line, path, raw.document), depth + 1)


def join_paths(path: str, field: str) -> str:
    """Path of a field of the object at that path."""
    return f"{path}.{field}" if path and field else path or field
