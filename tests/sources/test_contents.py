"""Reading a file's next version is reading it from scratch, whatever the edit; only cheaper."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from portway.objects.verdict import ObjectKey
from portway.sources import contents
from portway.sources.catalog import Catalog, Claim
from portway.sources.contents import FileReading
from portway.sources.edits import common_prefix, common_suffix
from portway.sources.records import EMPTY, FileChange, FileRecord, straighten
from portway.store import Finding, Store

FILE = "a.yaml"


def read(data: bytes, before: FileRecord = EMPTY) -> FileChange:
    reading = FileReading(FILE, data, before, list)
    reading.finish()
    return reading.result()


def outcome(claims: Sequence[Claim], findings: Sequence[Finding]) -> object:
    """All that a catalog is told."""
    return sorted((claim.line, claim.index, str(claim.key), claim.chunk) for claim in claims), list(findings)


@pytest.fixture(autouse=True)
def every_file_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "LARGE_FILE", 1)


def document(number: int) -> str:
    return f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: n{number}\n"


pieces = st.one_of(
    st.integers(0, 6).map(document),
    st.sampled_from(
        [
            "# comment\n",
            "\n",
            "%x\n",
            "- 1\n",
            "...\n",
            "{\n",
            "{a: 1}\n",
            "kind: Service\n",
            "a: on\n",
            "x: '\n",
            "é: \u2028\n",
            "---",
            "no break",
        ]
    ),
)
separators = st.sampled_from(
    ["---\n", "---\n", "---\n", "--- \n", "---\r\n", "---", "----\n", "\n---\n", "\u2028---\n"]
)
files = st.lists(st.tuples(pieces, separators), max_size=6).map(
    lambda found: "".join(text + separator for text, separator in found)
)


@given(st.lists(files, min_size=2, max_size=4))
# One of two equal documents breaks: the other, which no edit touched, still declares the object.
@example([f"{document(0)}---\n{document(0)}---\n", f"- 1\n---\n{document(0)}---\n"])
@settings(max_examples=400, deadline=None)
def test_an_edit_gives_what_reading_from_scratch_gives(versions: list[str]) -> None:
    record = EMPTY
    claims: dict[int, Claim] = {}
    for text in versions:
        change = read(text.encode(), record)
        steps = [change]
        if change.drift is not None:
            steps.append(straighten(FILE, change.record, change.drift))
        for step in steps:
            for claim in step.withdrawn:
                del claims[id(claim)]
            claims.update((id(claim), claim) for claim in step.declared)
        record = steps[-1].record
        fresh = read(text.encode())
        kept = {id(claim) for claim in record.kept}
        declared = [claim for identity, claim in claims.items() if identity not in kept]
        expected = fresh.record
        assert outcome(declared, ()) == outcome(list(expected.claims()), ())
        assert kept <= claims.keys()
        assert {claims[identity].key for identity in kept}.isdisjoint(claim.key for claim in declared)
        assert (record.whole, record.documents) == (expected.whole, expected.documents)
        assert [(found.line, found.verdict.reason) for found in record.findings] == [
            (found.line, found.verdict.reason) for found in expected.findings
        ]
        assert [(chunk.digest, chunk.line) for chunk in record.chunks] == [
            (chunk.digest, chunk.line) for chunk in expected.chunks
        ]


@given(st.lists(st.tuples(st.sampled_from("abc"), files), max_size=8))
@settings(max_examples=200, deadline=None)
def test_a_catalog_ends_the_same_whatever_the_way(edits: list[tuple[str, str]]) -> None:
    """Objects and their origins depend on the files as they are (while none is broken), not on their past."""
    store, catalog = Store(), Catalog()
    records: dict[str, FileRecord] = {}
    for name, text in edits:
        records[name] = put(catalog, name, text, records.get(name, EMPTY))
        for change_set in catalog.flush():
            store.apply(change_set)
    fresh_store, fresh = Store(), Catalog()
    if any(not record.whole for record in records.values()):
        return
    for name, text in sorted(dict(edits).items(), reverse=True):
        put(fresh, name, text, EMPTY)
    for change_set in fresh.flush():
        fresh_store.apply(change_set)
    assert content(store) == content(fresh_store)
    assert store.findings() == fresh_store.findings()


def put(catalog: Catalog, name: str, text: str, before: FileRecord) -> FileRecord:
    reading = FileReading(name, text.encode(), before, list)
    reading.finish()
    change = reading.result()
    catalog.change(change.withdrawn, change.declared)
    if change.drift is not None:
        change = straighten(name, change.record, change.drift)
        catalog.change(change.withdrawn, change.declared)
    catalog.say(name, change.record.findings)
    return change.record


def content(store: Store) -> dict[ObjectKey, tuple[object, str]]:
    found = {key: store.get(key) for key in store.keys("Namespace")}
    return {key: (stored.object, str(stored.origin)) for key, stored in found.items() if stored is not None}


@given(st.binary(max_size=40), st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=40))
def test_common_ends_are_as_long_as_can_be(head: bytes, old: bytes, new: bytes, tail: bytes) -> None:
    first, second = head + old + tail, head + new + tail
    prefix = common_prefix(first, second)
    limit = min(len(first), len(second)) - prefix
    suffix = common_suffix(first, second, limit)
    assert first[:prefix] == second[:prefix]
    assert prefix == min(len(first), len(second)) or first[prefix] != second[prefix]
    assert first[len(first) - suffix :] == second[len(second) - suffix :]
    assert suffix == limit or first[-suffix - 1] != second[-suffix - 1]


def test_common_ends_of_large_contents() -> None:
    data = bytes(range(256)) * 2_000
    for place in (0, 1, 65_535, 65_536, 300_000, len(data) - 1):
        edited = data[:place] + b"xyz" + data[place:]
        assert common_prefix(data, edited) >= place
        assert common_suffix(data, edited, len(data) - common_prefix(data, edited)) >= len(data) - place - 3
