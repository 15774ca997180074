"""The line of one field of one object, found when somebody asks."""

from portway.objects.verdict import ObjectKey
from portway.sources.contents import content_digest
from portway.sources.field_lines import FieldLines
from portway.sources.manifests import join_paths, split_text
from portway.sources.records import FileRecord


def locate_field(text: str, record: FileRecord, key: ObjectKey, digest: bytes, field: str, *, is_json: bool) -> int:
    """Line of the field, from 1; of its nearest parent if it is not there; 0 if the file is not as it was read.

    Args:
        text: the file now.
        record: the file as it was read.
        key: the object.
        digest: of the chunk that declares it.
        field: as kubectl writes paths; empty for the object as a whole.
    """
    items = [
        item for chunk in record.chunks if chunk.digest == digest for item in chunk.reading.items if item.key == key
    ]
    if not items:
        return 0
    item = items[0]
    for chunk in split_text(text, is_json=is_json):
        if content_digest(chunk.text.encode()) == digest:
            if not field and not item.path:
                return chunk.line + item.line - 1
            line = FieldLines(chunk.text).line_of(item.document, join_paths(item.path, field))
            return chunk.line + (line or item.line) - 1
    return 0
