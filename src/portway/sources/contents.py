"""From a file's bytes to what it declares now, its last good objects included. Pure; in steps, so that others can
run.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import final

import msgspec

from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.sources.catalog import Claim, FileContent
from portway.sources.documents import Chunk
from portway.sources.file_names import is_json_name
from portway.sources.manifests import Reading, read_chunk, split_text
from portway.sources.problems import Problem
from portway.store import Finding


class ChunkRecord(msgspec.Struct, frozen=True, gc=False):
    """A chunk of a file as it was read."""

    digest: bytes
    line: int
    reading: Reading


class FileRecord(msgspec.Struct, frozen=True):
    """A file as it was read."""

    digest: bytes
    """Of its bytes; empty: it could not be read."""
    chunks: tuple[ChunkRecord, ...]
    content: FileContent
    whole: bool
    """Nothing of it is refused or unreadable."""
    documents: int = 0

    def kept_digests(self) -> set[bytes]:
        """The chunks from which its objects came, older versions included."""
        return {claim.chunk for claim in self.content.claims}


EMPTY = FileRecord(b"", (), FileContent(), True)


def content_digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


@final
class FileReading:
    """Reads one file, chunk by chunk: iterate to the end (or call `finish`), then take the `result`.

    Args:
        path: as it stands in messages.
        data: the file's bytes, or the problem with getting them.
        before: the file as it was read last.
        restore: the last good chunks from disk, asked for only if the file is broken and `before` is empty.
    """

    def __init__(
        self, path: str, data: bytes | Problem, before: FileRecord, restore: Callable[[], Sequence[str]]
    ) -> None:
        self._path = path
        self._before = before
        self._restore = restore
        self._is_json = is_json_name(path)
        self._known = {record.digest: record.reading for record in before.chunks}
        self._problem: Problem | None = data if isinstance(data, Problem) else None
        self._digest = b"" if isinstance(data, Problem) else content_digest(data)
        self._text = "" if isinstance(data, Problem) else self._decode(data)
        self._chunks = iter(chunks := split_text(self._text, is_json=self._is_json))
        self._records: list[ChunkRecord] = []
        self.largest = max((len(chunk.text) for chunk in chunks), default=0)
        """Characters of the largest chunk."""
        self.parsed = 0
        """Documents that had to be parsed."""
        self.texts: dict[bytes, tuple[int, str]] = {}
        """Line and text of the chunks that were not known before."""

    def _decode(self, data: bytes) -> str:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            self._problem = Problem(
                line=line,
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
            digest = chunk.digest()
            reading = self._known.get(digest) or self._read(chunk, digest)
            self._records.append(ChunkRecord(digest, chunk.line, reading))
            yield

    def finish(self) -> None:
        """Read what is left."""
        for _ in self:
            pass

    def _read(self, chunk: Chunk, digest: bytes) -> Reading:
        reading = read_chunk(chunk.text, is_json=self._is_json)
        self._known[digest] = reading
        self.parsed += reading.documents
        if reading.items:
            self.texts[digest] = (chunk.line, chunk.text)
        return reading

    def result(self) -> FileRecord:
        """The file as it is to be served now."""
        claims = self._claims(self._records)
        broken = self._problem is not None or any(record.reading.broken for record in self._records)
        refused = frozenset().union(*(record.reading.refused for record in self._records))
        kept = self._kept(frozenset(claim.key for claim in claims), refused, broken)
        problems = [self._problem.at(self._path, 1)] if self._problem else []
        problems += [
            problem.at(self._path, record.line) for record in self._records for problem in record.reading.problems
        ]
        findings = [self._with_outcome(finding, frozenset(claim.key for claim in kept), broken) for finding in problems]
        content = FileContent((*claims, *kept), tuple(findings))
        documents = sum(record.reading.documents for record in self._records)
        return FileRecord(self._digest, tuple(self._records), content, not (broken or refused), documents)

    def _claims(self, records: Sequence[ChunkRecord]) -> list[Claim]:
        old = {(claim.position, claim.key): claim for claim in self._before.content.claims}
        claims: list[Claim] = []
        for record in records:
            for item in record.reading.items:
                line = record.line + item.line - 1
                position = len(claims)
                was = old.get((position, item.key))
                if was is None or was.line != line or was.chunk != record.digest:
                    was = Claim(self._path, position, item.key, item.object, item.generation, line, record.digest)
                claims.append(was)
        return claims

    def _kept(self, declared: frozenset[ObjectKey], refused: frozenset[ObjectKey], broken: bool) -> list[Claim]:
        """Objects that were declared before and may still be meant."""
        if not (broken or refused):
            return []
        before = self._before.content.claims if self._before is not EMPTY else self._restored()
        kept: dict[ObjectKey, Claim] = {}
        for claim in before:
            if claim.key not in declared and (broken or claim.key in refused):
                kept.setdefault(claim.key, claim)
        return list(kept.values())

    def _restored(self) -> tuple[Claim, ...]:
        records = []
        for text in self._restore():
            chunk = Chunk(text, 1)
            records.append(ChunkRecord(chunk.digest(), 1, read_chunk(text, is_json=self._is_json)))
        return tuple(self._claims(records))

    def _with_outcome(self, finding: Finding, kept: frozenset[ObjectKey], broken: bool) -> Finding:
        """Say what happens meanwhile."""
        verdict = finding.verdict
        if verdict.severity is not Severity.ERROR:
            return finding
        if verdict.object in kept:
            outcome = "its last good version stays in force"
        elif kept and broken and verdict.object.kind == "File":
            outcome = f"the last good version of {_count(len(kept), 'object')} of this file stays in force"
        else:
            outcome = "it is not served"
        return Finding(_because(verdict, outcome), finding.file, finding.line)


def _because(verdict: Verdict, outcome: str) -> Verdict:
    return msgspec.structs.replace(verdict, problem=f"{verdict.problem}; {outcome}")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
