"""Cutting a stream and parsing the pieces is parsing the stream."""

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from portway.sources.documents import split_documents
from portway.sources.problems import TextRefused
from portway.sources.yaml_parser import parse_yaml

LINES = [
    *(
        "a: 1",
        "b: x",
        "- 1",
        "--- ",
        "---",
        "--- a",
        "--- # c",
        "----",
        "---a",
        "...",
        "... # c",
        " ---",
        "  x",
        "c: |",
    ),
    *(
        "  ---",
        "d: 'x",
        "  y'",
        "#",
        "",
        "%YAML 1.1",
        "%x",
        "e: >-",
        '"',
        "- - b",
        "--- |",
        "--- {a: 1}",
        "---\t",
        "f: %",
    ),
    "\ufeff---",
]
lines = st.sampled_from(LINES)
breaks = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", "\x85", "\u2028", "\u2029"])
streams = st.lists(st.tuples(lines, breaks), max_size=12).map(lambda found: "".join(line + end for line, end in found))


def read(text: str) -> list[object]:
    return [document.data for document in parse_yaml(text)]


@given(streams)
@example("a: |\n  x\n---\nb: 1\n")
@example("--- |\n x\n--- >\n y\n...\n---\n")
@example("# only a comment\n---\na: 1\n")
@example("a: 1\x85---\x85b: 2")
def test_the_pieces_say_what_the_stream_says(text: str) -> None:
    chunks = split_documents(text)
    assert "".join(chunk.text for chunk in chunks) == text
    try:
        whole = read(text)
    except TextRefused:
        # Then a piece is refused too: cutting makes nothing valid. (`a: 'x` + `---` is refused either way.)
        refused = 0
        for chunk in chunks:
            try:
                read(chunk.text)
            except TextRefused:
                refused += 1
        assert refused
    else:
        found = [data for chunk in chunks for data in read(chunk.text)]
        # A comment before the first separator is a piece without a document.
        assert found == whole


@given(streams)
def test_each_piece_knows_its_line(text: str) -> None:
    for chunk in split_documents(text):
        before = text[: text.index(chunk.text)] if text.count(chunk.text) == 1 else None
        if before is not None:
            assert chunk.line == 1 + len(yaml_breaks(before))


def yaml_breaks(text: str) -> list[str]:
    """Line breaks as libyaml counts them."""
    rest = text.replace("\r\n", "\n")
    return [sign for sign in rest if sign in "\r\n\x85\u2028\u2029"]


def test_a_separator_inside_a_block_scalar_is_one_only_at_column_0() -> None:
    text = "a: |\n  x\n  ---\n  y\n---\nb: 1\n"
    assert [chunk.line for chunk in split_documents(text)] == [1, 5]
    assert read(text) == list(yaml.safe_load_all(text))


def test_a_stream_with_directives_is_not_cut() -> None:
    assert len(split_documents("%YAML 1.1\n---\na: 1\n---\nb: 2\n")) == 1
