"""From plain data to typed objects: decode, apply defaults, validate, say all that is wrong.

`parse` takes a document that a YAML or JSON loader has read; `parse_json` takes the bytes of one object (a watch event)
and goes straight into the struct. Neither raises for any input: what is wrong is a verdict.
"""

from collections.abc import Mapping
from typing import Final, cast

import msgspec

from portway.objects.kinds import Kind, kind_of
from portway.objects.meta import Object
from portway.objects.scalars import decode_hook
from portway.objects.verdict import ObjectKey, Severity, Verdict


class Parsed(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of one document."""

    key: ObjectKey | None
    """None: the document does not say what it is."""
    object: Object | None = None
    """None: refused, or of a kind that Portway does not read; a verdict says why."""
    generation: int = 0
    """`metadata.generation`; 0 if the document has none."""
    verdicts: tuple[Verdict, ...] = ()


NAMELESS: Final = ObjectKey("Object", "", "")
"""Stands in verdicts about documents that do not say what they are."""


def parse(raw: object) -> Parsed:
    """Read one document that is already plain data (mappings, lists, strings ...)."""
    if not isinstance(raw, Mapping):
        return Parsed(key=None, verdicts=(_refused(NAMELESS, "", "the document is not an object"),))
    kind = kind_of(str(raw.get("apiVersion")), str(raw.get("kind")))
    if kind is None:
        problem = f"{raw.get('apiVersion')} {raw.get('kind')} is not read by Portway"
        return Parsed(key=None, verdicts=(_refused(NAMELESS, "kind", problem),))
    try:
        found = msgspec.convert(raw, kind.struct, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        key = ObjectKey(kind.name, "", "")
        return Parsed(key=key, verdicts=(_refused(key, "", str(error)),))
    return _finish(kind, cast(Object, found))


def _finish(kind: Kind, found: Object) -> Parsed:
    metadata = found.metadata
    namespace = (metadata.namespace or "default") if kind.namespaced else ""
    if namespace != metadata.namespace:
        found = msgspec.structs.replace(found, metadata=msgspec.structs.replace(metadata, namespace=namespace))  # type: ignore[type-var]
    return Parsed(key=ObjectKey(kind.name, namespace, metadata.name), object=found)


def _refused(key: ObjectKey, field: str, problem: str) -> Verdict:
    return Verdict(object=key, severity=Severity.ERROR, reason="Invalid", field=field, problem=problem)
