"""From a file's bytes to what changes by them, last good objects included. Pure; in steps, so that others can run."""

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import Final, NamedTuple, final

from portway.objects.defaults import DEFAULT_NAMESPACE
from portway.objects.verdict import ObjectKey
from portway.sources.catalog import Claim
from portway.sources.documents import Chunk, count_lines, has_directive
from portway.sources.edits import common_prefix, common_suffix
from portway.sources.file_names import is_json_name
from portway.sources.json_parser import looks_like_json
from portway.sources.manifests import Reading, read_chunk, split_text
from portway.sources.problems import Problem
from portway.sources.records import (
    EMPTY,
    ChunkRecord,
    Drift,
    FileChange,
    FileRecord,
    findings_of,
    record_chunk,
    with_outcome,
)
from portway.store import Finding

LARGE_FILE: Final = 128 * 1024
"""Bytes. Of larger files the content is kept in memory, to find the place of an edit in them."""

_BOM: Final = b"\xef\xbb\xbf"


def content_digest(data: bytes) -> bytes:
    """Identity of a content."""
    return blake2b(data, digest_size=16).digest()


def is_unchanged(record: FileRecord, data: bytes) -> bool:
    """Was the file read with exactly this content?"""
    if record is EMPTY:
        return False
    return record.data == data if record.data is not None else record.digest == content_digest(data)


class _Plan(NamedTuple):
    """How much of the old version stays as it is."""

    head: int
    """Chunks at the beginning that are the same."""
    tail: int
    """Chunks at the end that are the same, perhaps on other lines."""
    text: str
    """What lies between."""


@final
class FileReading:
    """Reads one file, chunk by chunk: iterate to the end (or call `finish`), then take the `result`.

    Args:
        path: as it stands in messages.
        data: the file's bytes, or the problem with getting them.
        before: the file as it was read last.
        restore: the last good chunks from disk, asked for only if the file is broken and `before` is `EMPTY`.
        namespace: of objects that name none.
    """

    def __init__(
        self,
        path: str,
        data: bytes | Problem,
        before: FileRecord,
        restore: Callable[[], Sequence[str]],
        namespace: str = DEFAULT_NAMESPACE,
    ) -> None:
        self._path = path
        self._before = before
        self._restore = restore
        self._namespace = namespace
        self._is_json = is_json_name(path)
        self._problem: Problem | None = None
        self._data = b""
        self._digest = b""
        self._is_large = False
        if isinstance(data, Problem):
            self._problem = data
            self._plan = _Plan(0, 0, "")
        else:
            self._data = data
            self._is_large = len(data) >= LARGE_FILE and not data.startswith(_BOM)
            self._digest = b"" if self._is_large else content_digest(data)
            self._plan = self._plan_edit(data) or _Plan(0, 0, self._decode(data))
        old = before.chunks
        self._replaced = old[self._plan.head : len(old) - self._plan.tail]
        self._known = {chunk.digest: chunk for chunk in self._replaced}
        chunks = split_text(self._plan.text, is_json=self._is_json)
        self._first_line = old[self._plan.head].line if self._plan.head else 1
        self._chunks = iter(chunks)
        self._new: list[ChunkRecord] = []
        self.largest = max((len(chunk.text) for chunk in chunks), default=0)
        """Characters of the largest chunk that is to be read."""
        self.parsed = 0
        """Documents that had to be parsed."""
        self.texts: dict[bytes, tuple[int, str]] = {}
        """Line and text of the chunks that were not known before."""

    def _plan_edit(self, data: bytes) -> _Plan | None:
        """Find the edit in a large file; None if all is to be looked at."""
        before = self._before
        if before.data is None or not before.whole or self._is_json:
            return None
        chunks = before.chunks
        ends = list(accumulate(chunk.size for chunk in chunks))
        prefix = common_prefix(before.data, data)
        suffix = common_suffix(before.data, data, min(len(data), len(before.data)) - prefix)
        # A chunk ends where a line with `---` and a blank begins: these bytes must be the same too.
        head = _count(ends, lambda end: end + 5 <= prefix)
        head = min(head, len(chunks) - 1)
        # ... and the line break before the first chunk that follows the edit.
        tail = _count(ends[::-1][1:], lambda end: len(before.data) - end + 1 <= suffix)  # type: ignore[arg-type]
        tail = min(tail, len(chunks) - 1 - head)
        start = ends[head - 1] if head else 0
        stop = len(data) - (ends[-1] - ends[len(chunks) - tail - 1])
        try:
            text = data[start:stop].decode()
        except UnicodeDecodeError:
            return None
        if has_directive(text) or (not head and (looks_like_json(text) or data.startswith(_BOM))):
            return None
        return _Plan(head, tail, text)

    def _decode(self, data: bytes) -> str:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            self._problem = Problem(
                line=data.count(b"\n", 0, error.start) + 1,
                column=error.start - data.rfind(b"\n", 0, error.start),
                reason="InvalidEncoding",
                problem=f"byte 0x{data[error.start]:02X} is not UTF-8",
                remedy="save the file as UTF-8",
            )
            return ""
        return text.removeprefix("\ufeff")

    def __iter__(self) -> Iterator[None]:
        """Read one chunk a step."""
        for chunk in self._chunks:
            data = chunk.text.encode()
            digest = content_digest(data)
            line = self._first_line + chunk.line - 1
            known = self._known.get(digest)
            if known is None:
                known = record_chunk(self._path, digest, len(data), line, self._read(chunk, digest))
                self._known[digest] = known
            elif known.line != line:
                known = record_chunk(self._path, digest, len(data), line, known.reading)
            self._new.append(known)
            yield

    def finish(self) -> None:
        """Read what is left."""
        for _ in self:
            pass

    def _read(self, chunk: Chunk, digest: bytes) -> Reading:
        reading = read_chunk(chunk.text, is_json=self._is_json, namespace=self._namespace)
        self.parsed += reading.documents
        if reading.items:
            self.texts[digest] = (chunk.line, chunk.text)
        return reading

    def result(self) -> FileChange:
        """What changes."""
        before, plan = self._before, self._plan
        tail = before.chunks[len(before.chunks) - plan.tail :]
        chunks = (*before.chunks[: plan.head], *self._new, *tail)
        kept, whole = self._kept()
        findings = self._findings(chunks, kept)
        replaced = sum(chunk.reading.documents for chunk in self._replaced)
        documents = before.documents - replaced + sum(chunk.reading.documents for chunk in self._new)
        record = FileRecord(
            self._digest, chunks, tuple(kept), findings, whole, documents, self._data if self._is_large else None
        )
        old = {id(claim): claim for chunk in self._replaced for claim in chunk.claims}
        old.update((id(claim), claim) for claim in before.kept)
        new = {id(claim): claim for chunk in self._new for claim in chunk.claims}
        new.update((id(claim), claim) for claim in kept)
        withdrawn = [claim for identity, claim in old.items() if identity not in new]
        return FileChange(
            record,
            withdrawn=withdrawn,
            declared=[claim for identity, claim in new.items() if identity not in old],
            drift=self._drift(tail),
            removed_chunks=_unused(withdrawn, record),
        )

    def _drift(self, tail: Sequence[ChunkRecord]) -> Drift | None:
        lines = self._first_line + count_lines(self._plan.text) - tail[0].line if tail else 0
        return Drift(len(tail), lines) if lines else None

    def _kept(self) -> tuple[list[Claim], bool]:
        """Objects that were declared before and may still be meant; and whether all is well."""
        broken = self._problem is not None or any(chunk.reading.broken for chunk in self._new)
        refused = frozenset[ObjectKey]().union(*(chunk.reading.refused for chunk in self._new))
        if not (broken or refused):
            return [], True
        if self._before is EMPTY:
            candidates = self._restored()
        else:
            candidates = [*self._before.kept, *(claim for chunk in self._replaced for claim in chunk.claims)]
        old = self._before.chunks
        stay = (*old[: self._plan.head], *self._new, *old[len(old) - self._plan.tail :])
        declared = {claim.key for chunk in stay for claim in chunk.claims}
        kept: dict[ObjectKey, Claim] = {}
        for claim in candidates:
            if claim.key not in declared and (broken or claim.key in refused):
                kept.setdefault(claim.key, claim)
        return list(kept.values()), False

    def _restored(self) -> list[Claim]:
        claims: list[Claim] = []
        for line, text in enumerate(self._restore(), start=1):
            data = text.encode()
            reading = read_chunk(text, is_json=self._is_json, namespace=self._namespace)
            claims.extend(record_chunk(self._path, content_digest(data), len(data), line, reading).claims)
        return claims

    def _findings(self, chunks: Sequence[ChunkRecord], kept: Sequence[Claim]) -> tuple[Finding, ...]:
        was_silent = not self._before.findings and not any(chunk.reading.problems for chunk in self._new)
        findings = () if was_silent else findings_of(self._path, chunks, kept)
        if self._problem is not None:
            findings = (with_outcome(self._problem.at(self._path, 1), kept), *findings)
        return findings


def _count(ends: Sequence[int], stays: Callable[[int], bool]) -> int:
    """How many of the first fulfil it; those that do come first."""
    low, high = 0, len(ends)
    while low < high:
        middle = (low + high) // 2
        if stays(ends[middle]):
            low = middle + 1
        else:
            high = middle
    return low


def _unused(withdrawn: Sequence[Claim], record: FileRecord) -> frozenset[bytes]:
    gone = {claim.chunk for claim in withdrawn}
    if not gone:
        return frozenset()
    gone.difference_update([claim.chunk for claim in record.kept])
    # The same text may stand elsewhere in the file. Not a set of all digests: the file may have 50,000.
    return frozenset(gone.difference([chunk.digest for chunk in record.chunks if chunk.digest in gone]))
