"""From plain data to typed objects: decode, apply defaults, validate, say all that is wrong.

`parse` takes a document that a YAML or JSON loader has read; `parse_json` takes the bytes of one object (a watch event)
and goes straight into the struct. Neither raises for any input: what is wrong is a verdict, and an object with an error
is refused as a whole, as a cluster would.

The way of a good object is short: decode, defaults, rules. Only what does not decode is read again, slowly, by
`portway.objects.schema`, which finds every mistake and cleans what the API server would clean.
"""

from collections.abc import Iterable, Mapping
from typing import Final, cast

import msgspec

from portway.objects import rules
from portway.objects.defaults import apply_defaults
from portway.objects.foreign import foreign_verdict
from portway.objects.keys import raw_key
from portway.objects.kinds import KINDS, Kind, kind_of
from portway.objects.leaves import UNSOUND, Report
from portway.objects.meta import Object, Part
from portway.objects.problems import Problem, field_path, shown
from portway.objects.scalars import decode_hook
from portway.objects.schema import read
from portway.objects.verdict import ObjectKey, Severity, Verdict


class Parsed(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of one document."""

    key: ObjectKey | None
    """None: the document is of no kind that Portway reads, or does not say its name."""
    object: Object | None = None
    """None: refused, or of a kind that Portway does not read; a verdict says why."""
    generation: int = 0
    """`metadata.generation`; 0 if the document has none."""
    verdicts: tuple[Verdict, ...] = ()
    """Each problem once, those of types before those of rules; errors if and only if an object was refused."""


class _EnvelopeMeta(msgspec.Struct, frozen=True, gc=False):
    generation: int = 0


class _Envelope(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What a struct of ours does not hold: read beside it."""

    api_version: str | None = None
    metadata: _EnvelopeMeta = _EnvelopeMeta()


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_DECODERS: Final = {kind.name: msgspec.json.Decoder(kind.struct, dec_hook=decode_hook) for kind in KINDS.values()}
_UNDECODABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What msgspec raises for bytes or data that do not fit: malformed, of other types, or nested without end."""


def parse(raw: object, *, from_cluster: bool = False) -> Parsed:
    """Read one document that is already plain data (mappings, lists, strings ...).

    Args:
        raw: the document; any shape.
        from_cluster: judge it as a cluster's object; a file may hold a little more (loopback endpoints).

    Returns:
        The object with defaults applied, or all that is wrong with it.
    """
    if not isinstance(raw, (dict, Mapping)):  # the quick one first; not a union, which would be made each time
        return Parsed(key=None, verdicts=(_error(_NAMELESS, "", f"{shown(raw)} is not an object", _WRITE_ONE),))
    api_version, name = raw.get("apiVersion"), raw.get("kind")
    if not isinstance(api_version, str) or not isinstance(name, str) or not api_version or not name:
        return _without_kind(raw, api_version, name)
    kind = kind_of(api_version, name)
    if kind is None:
        return _foreign(raw, api_version, name)
    try:
        # Not for the bytes: it finds, quickly, text that cannot be written and data that no JSON can say. Whatever gets
        # past here can be put into a protobuf.
        msgspec.json.encode(raw)
        decoded = msgspec.convert(raw, kind.struct, dec_hook=decode_hook)
    except (*_UNDECODABLE, TypeError, ValueError):
        return _reread(raw, kind, api_version, from_cluster)
    return _finish(decoded, kind, api_version, _generation(raw), from_cluster)


def parse_json(kind: Kind, data: bytes, *, from_cluster: bool = True) -> Parsed:
    """Read the JSON of one object, straight into its struct.

    Args:
        kind: what it is; items of a list do not say it themselves.
        data: one JSON object.
        from_cluster: see `parse`.
    """
    try:
        decoded = _DECODERS[kind.name].decode(data)
        envelope = _ENVELOPE.decode(data)
    except _UNDECODABLE:
        return _reread_json(kind, data, from_cluster)
    api_version = envelope.api_version or kind.api_versions[0]
    return _finish(decoded, kind, api_version, envelope.metadata.generation, from_cluster)


_WRITE_ONE: Final = "write apiVersion, kind, metadata and what the kind needs"
_NAMELESS: Final = ObjectKey("Object", "", "")
"""Stands in verdicts about documents that do not say what they are."""


def _foreign(raw: Mapping[object, object], api_version: str, name: str) -> Parsed:
    same_name = KINDS.get(name)
    key = raw_key(raw, name, same_name is None or same_name.namespaced)
    verdict = foreign_verdict(api_version, name, key)
    # Refused is only what is ours: its key tells whose last good version stays.
    return Parsed(key=key if verdict.severity is Severity.ERROR else None, verdicts=(verdict,))


def _without_kind(raw: Mapping[object, object], api_version: object, name: object) -> Parsed:
    key = raw_key(raw, name if isinstance(name, str) and name else _NAMELESS.kind, True)
    verdicts = tuple(
        _error(
            key,
            field,
            "is required, but not set" if value in (None, "") else f"{shown(value)} is not a string",
            f"write one such as {example}",
        )
        for field, value, example in (
            ("apiVersion", api_version, "networking.k8s.io/v1"),
            ("kind", name, "Ingress"),
        )
        if not isinstance(value, str) or not value
    )
    return Parsed(key=None, verdicts=verdicts)


def _finish(decoded: Part, kind: Kind, api_version: str, generation: int, from_cluster: bool) -> Parsed:
    obj = apply_defaults(kind, decoded)
    found = cast(Object, obj)
    key = ObjectKey(kind.name, found.metadata.namespace, found.metadata.name)
    problems = [*rules.check(obj), *rules.check_version(obj, api_version.rpartition("/")[2])]
    if from_cluster:
        problems.extend(rules.check_cluster(obj))
    if problems:
        return Parsed(key=key if key.name else None, generation=generation, verdicts=_errors(key, problems))
    return Parsed(key=key, object=found, generation=generation)


def _reread(raw: Mapping[object, object], kind: Kind, api_version: str, from_cluster: bool) -> Parsed:
    """Read again what did not decode: clean it and go on, or find every mistake."""
    key = raw_key(raw, kind.name, kind.namespaced)
    report = Report()
    try:
        cleaned = read(kind.struct, raw, report)
        if cleaned is not UNSOUND:
            decoded = msgspec.convert(cleaned, kind.struct, dec_hook=decode_hook)
            return _finish(decoded, kind, api_version, _generation(raw), from_cluster)
        problems = [*report.problems, *_rules_of_sound_parts(report)]
    except _UNDECODABLE as error:
        # The reader and msgspec see the same types, so only data nested without end should come here.
        problems = [Problem((), f"cannot be read: {error}", "make it flatter")]
    return Parsed(key=key if key.name else None, generation=_generation(raw), verdicts=_errors(key, problems))


def _rules_of_sound_parts(report: Report) -> Iterable[Problem]:
    for struct, cleaned, path in report.sound:
        part = msgspec.convert(cleaned, struct, dec_hook=decode_hook)
        for problem in rules.check(part):
            yield problem._replace(path=path + problem.path)


def _reread_json(kind: Kind, data: bytes, from_cluster: bool) -> Parsed:
    try:
        raw = msgspec.json.decode(data)
    except _UNDECODABLE as error:
        key = ObjectKey(kind.name, "", "")
        return Parsed(key=None, verdicts=(_error(key, "", f"is not JSON: {error}", "write JSON"),))
    if not isinstance(raw, dict):
        return parse(raw, from_cluster=from_cluster)
    api_version = raw.get("apiVersion")
    version = api_version if isinstance(api_version, str) and api_version else kind.api_versions[0]
    return _reread(raw, kind, version, from_cluster)


def _generation(raw: Mapping[object, object]) -> int:
    metadata = raw.get("metadata")
    found = metadata.get("generation") if isinstance(metadata, (dict, Mapping)) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def _errors(key: ObjectKey, problems: Iterable[Problem]) -> tuple[Verdict, ...]:
    # A part may be checked as such and again within a larger one: each problem is told once.
    return tuple(_error(key, field_path(path), problem, remedy) for path, problem, remedy in dict.fromkeys(problems))


def _error(key: ObjectKey, field: str, problem: str, remedy: str) -> Verdict:
    return Verdict(object=key, severity=Severity.ERROR, reason="Invalid", field=field, problem=problem, remedy=remedy)
