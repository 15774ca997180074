"""The lines of fields of objects, found when somebody asks."""

from collections.abc import Callable, Mapping
from typing import final

from portway.objects.verdict import ObjectKey
from portway.sources.contents import content_digest
from portway.sources.documents import Chunk
from portway.sources.field_lines import FieldLines
from portway.sources.manifests import join_paths, split_text
from portway.sources.records import FileRecord


@final
class FileLines:
    """Lines of fields of the objects of one file, for some questions in a row.

    The text is split once, and a document is composed once as long as the questions are about it: a large one costs
    seconds. It is not kept for longer than that, since composed it is a hundred times its text.

    Args:
        text: the file now.
        record: the file as it was read.
        is_json: the file is JSON.
    """

    def __init__(self, text: str, record: FileRecord, *, is_json: bool) -> None:
        chunks = split_text(text, is_json=is_json)
        self._chunks: Mapping[bytes, Chunk] = {content_digest(chunk.text.encode()): chunk for chunk in reversed(chunks)}
        self._readings = {chunk.digest: chunk.reading for chunk in reversed(record.chunks)}
        self._last: tuple[bytes, FieldLines] | None = None

    def line_of(self, key: ObjectKey, digest: bytes, field: str) -> int:
        """Line of the field, from 1; of its nearest parent if it is not there; 0 if the file is not as it was read.

        Args:
            key: the object.
            digest: of the chunk that declares it.
            field: as kubectl writes paths; empty for the object as a whole.
        """
        reading, chunk = self._readings.get(digest), self._chunks.get(digest)
        item = next((item for item in reading.items if item.key == key), None) if reading is not None else None
        if item is None or chunk is None:
            return 0
        if not field and not item.path:
            return chunk.line + item.line - 1
        if self._last is None or self._last[0] != digest:
            self._last = digest, FieldLines(chunk.text)
        line = self._last[1].line_of(item.document, join_paths(item.path, field))
        return chunk.line + (line or item.line) - 1


Locate = Callable[[ObjectKey, str], tuple[str, int] | None]
"""File and line of a field of an object; None: no file declares the object."""
