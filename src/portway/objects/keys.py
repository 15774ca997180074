"""Who a document says it is, even if it is otherwise broken."""

from collections.abc import Mapping

from portway.objects.defaults import DEFAULT_NAMESPACE
from portway.objects.problems import as_text
from portway.objects.verdict import ObjectKey


def raw_key(raw: object, kind: str, namespaced: bool) -> ObjectKey:
    """Key of a document as far as it tells, for verdicts about it.

    Args:
        raw: plain data of any shape.
        kind: the kind to put into the key.
        namespaced: is it a kind of which each object is in a namespace?

    Returns:
        A key whose name is empty if the document gives none.
    """
    metadata = raw.get("metadata") if isinstance(raw, Mapping) else None
    if not isinstance(metadata, Mapping):
        metadata = {}
    name = metadata.get("name")
    namespace = metadata.get("namespace")
    namespace = namespace if isinstance(namespace, str) and namespace else DEFAULT_NAMESPACE
    return ObjectKey(
        as_text(kind), as_text(namespace) if namespaced else "", as_text(name) if isinstance(name, str) else ""
    )
