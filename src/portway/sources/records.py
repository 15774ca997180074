"""What is remembered of a file that was read: enough to read it again at the cost of what changed in it."""

from collections.abc import Iterator, Sequence

import msgspec

from portway.objects.verdict import Severity
from portway.sources.catalog import Claim
from portway.sources.manifests import Reading
from portway.sources.problems import FILE_KIND
from portway.store import Finding


class ChunkRecord(msgspec.Struct, frozen=True, gc=False):
    """A chunk of a file as it was read."""

    digest: bytes
    size: int
    """Bytes, as UTF-8."""
    line: int
    """First line in the file, from 1."""
    reading: Reading
    claims: tuple[Claim, ...]


class FileRecord(msgspec.Struct, frozen=True):
    """A file as it was read."""

    digest: bytes = b""
    """Of its bytes; empty if it could not be read, or if `data` has them."""
    chunks: tuple[ChunkRecord, ...] = ()
    kept: tuple[Claim, ...] = ()
    """Objects of an older version that stay in force because their place in this one is broken."""
    findings: tuple[Finding, ...] = ()
    whole: bool = True
    """Nothing of it is refused or unreadable."""
    documents: int = 0
    data: bytes | None = None
    """The bytes themselves, of large files only: comparing them finds the changed chunks without splitting the rest."""

    def claims(self) -> Iterator[Claim]:
        """All objects that it declares, in order, then those that are kept."""
        for chunk in self.chunks:
            yield from chunk.claims
        yield from self.kept


EMPTY = FileRecord()
"""A file that was not read yet, or is gone."""


class FileChange(msgspec.Struct, frozen=True):
    """What a new reading of a file changes."""

    record: FileRecord
    withdrawn: Sequence[Claim] = ()
    declared: Sequence[Claim] = ()
    drift: "Drift | None" = None
    """Chunks at the file's end that stand on other lines now; to be straightened when nothing else waits."""
    removed_chunks: frozenset[bytes] = frozenset()
    """Digests of chunks from which nothing in force comes any more."""


class Drift(msgspec.Struct, frozen=True):
    """The last `chunks` chunks of a file moved by `lines` lines."""

    chunks: int
    lines: int


def record_chunk(file: str, digest: bytes, size: int, line: int, reading: Reading) -> ChunkRecord:
    """A chunk's record with its claims."""
    claims = tuple(
        Claim(file, line + item.line - 1, index, item.key, item.object, item.generation, digest)
        for index, item in enumerate(reading.items)
    )
    return ChunkRecord(digest, size, line, reading, claims)


def straighten(file: str, record: FileRecord, drift: Drift) -> FileChange:
    """Move the lines of what stands after an edit. No object changes; cost: that of the chunks that moved."""
    at = len(record.chunks) - drift.chunks
    moved = tuple(
        record_chunk(file, chunk.digest, chunk.size, chunk.line + drift.lines, chunk.reading)
        for chunk in record.chunks[at:]
    )
    chunks = (*record.chunks[:at], *moved)
    straight = msgspec.structs.replace(record, chunks=chunks, findings=findings_of(file, chunks, record.kept))
    return FileChange(
        straight,
        withdrawn=[claim for chunk in record.chunks[at:] for claim in chunk.claims],
        declared=[claim for chunk in moved for claim in chunk.claims],
    )


def findings_of(file: str, chunks: Sequence[ChunkRecord], kept: Sequence[Claim]) -> tuple[Finding, ...]:
    """What there is to say about chunks, in order, with what happens meanwhile."""
    problems = (problem.at(file, chunk.line) for chunk in chunks for problem in chunk.reading.problems)
    return tuple(with_outcome(finding, kept) for finding in problems)


def with_outcome(finding: Finding, kept: Sequence[Claim]) -> Finding:
    """Say what happens while an error stands."""
    verdict = finding.verdict
    if verdict.severity is not Severity.ERROR:
        return finding
    if any(claim.key == verdict.object for claim in kept):
        outcome = "its last good version stays in force"
    elif kept and verdict.object.kind == FILE_KIND:
        outcome = f"the last good version of {len(kept):,} object{'s' * (len(kept) > 1)} of this file stays in force"
    else:
        outcome = "it is not served"
    problem = f"{verdict.problem}; {outcome}"
    return Finding(msgspec.structs.replace(verdict, problem=problem), finding.file, finding.line)
