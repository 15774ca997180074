"""YAML is read as kubectl reads it, and no text does any harm."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from portway.objects.verdict import Severity
from portway.sources.problems import Problem, TextRefused
from portway.sources.yaml_parser import MAX_DEPTH, parse_yaml
from portway.sources.yaml_scalars import resolve_plain

KUBECTL = [tuple(case) for case in json.loads((Path(__file__).parent / "kubectl_yaml.json").read_text())]
"""(YAML, the JSON that sigs.k8s.io/yaml v1.6.0 makes of it, or null and its error), strict mode."""

ON_PURPOSE = {
    "a: !foo {x: 1}": "kubectl ignores unknown tags on collections, and drops their meaning in silence",
}
"""Where we refuse what kubectl accepts."""


@pytest.mark.parametrize("case", KUBECTL, ids=lambda case: ascii(case[0]))
def test_text_means_what_it_means_to_kubectl(case: tuple[str, str | None]) -> None:
    text, expected = case[0], case[1]
    if expected is None or text in ON_PURPOSE:
        with pytest.raises(TextRefused):
            parse_yaml(text)
        return
    documents = parse_yaml(text.removeprefix("\ufeff"))
    found = documents[0].data if documents else None
    # As JSON text: 1, 1.0 and true are equal to Python, but not the same.
    assert json.dumps(found, sort_keys=True) == json.dumps(json.loads(expected), sort_keys=True)


ERRORS = {
    # text: (line, column, part of the problem)
    "a: 1\nb: [1, 2": (2, 4, "a [ has no ]"),
    "a:\n  b: {c: 1": (2, 6, "a { has no }"),
    "a: 1\nb: 'x\n": (2, 4, "a quote is not closed"),
    "a: b: c": (1, 5, "a key cannot stand here"),
    "a:\n\tb: 1": (2, 1, "a tab"),
    "a: @x": (1, 4, "cannot begin with @"),
    "a: {{ .Values.x }}": (1, 5, "a key cannot be a mapping"),
    "a: {% if x %}": (1, 5, "cannot begin with %"),
    "a: 1\nb: 2\na: 3": (3, 1, 'key "a" is there twice, first 2 lines above'),
    "on: 1\ntrue: 2": (2, 1, 'key "true" is there twice'),
    "a: *nobody": (1, 4, "an alias has no anchor"),
    "a: &x 1\nb: &x 2": (2, 4, "anchor"),
    "a: !!python/object:os.system x": (1, 4, "tag !!python/object:os.system has no meaning"),
    "a: !!binary aGk=": (1, 4, "tag !!binary has no meaning"),
    "a: .nan": (1, 4, ".nan is not a number"),
    "a: b\n\x00c: d": (2, 0, "U+0000"),
    "? {a: 1}\n: b": (1, 3, "a key cannot be a mapping"),
    "~: x": (1, 1, "a key cannot be null"),
    "a: &a [*a]": (1, 4, "an alias refers to what holds it"),
    "<<: 3\na: 1": (1, 5, "<< merges mappings only"),
}


@pytest.mark.parametrize(("text", "expected"), ERRORS.items(), ids=map(ascii, ERRORS))
def test_an_error_says_where_and_what(text: str, expected: tuple[int, int, str]) -> None:
    with pytest.raises(TextRefused) as refused:
        parse_yaml(text)
    problem = refused.value.problem
    assert (problem.line, problem.column) == expected[:2]
    assert expected[2] in problem.problem


@pytest.mark.parametrize("opener", ["[", "{a: ", "- ", "? "])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_nesting_is_bounded(opener: str, depth: int) -> None:
    """libyaml's composer would overrun the C stack, and kill the process, at some tens of thousands."""
    with pytest.raises(TextRefused):
        parse_yaml(opener * depth)


def test_nesting_below_the_bound_is_read() -> None:
    assert parse_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)


def test_aliases_cannot_multiply_without_end() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 10)]
    with pytest.raises(TextRefused, match="aliases make more than"):
        parse_yaml("\n".join(lines))


def test_an_explicit_key_wins_over_a_merged_one() -> None:
    text = "p: &p {a: 1, b: 1}\nq: &q {b: 2, c: 2}\nr: {a: 0, <<: [*p, *q]}"
    (document,) = parse_yaml(text)
    assert document.data == {"p": {"a": 1, "b": 1}, "q": {"b": 2, "c": 2}, "r": {"a": 0, "b": 1, "c": 2}}


def test_a_word_that_is_a_boolean_by_surprise_is_a_warning_with_its_field() -> None:
    (document,) = parse_yaml("metadata:\n  annotations:\n    example.com/x: on\nlist: [no, 'no', false]")
    found = [(warning.line, warning.field, warning.severity) for warning in document.warnings]
    assert found == [
        (3, 'metadata.annotations["example.com/x"]', Severity.WARNING),
        (4, "list[0]", Severity.WARNING),
    ]
    assert 'write "on" if text is meant, true if not' in document.warnings[0].remedy


plain_data = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


class QuotingDumper(yaml.SafeDumper):
    """Quotes every string: PyYAML leaves the quotes off `Y` and `1e3`, which are no strings to kubectl."""


QuotingDumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


@given(plain_data, st.booleans())
def test_what_a_writer_writes_is_read_back(data: object, flow: bool) -> None:
    written = yaml.dump(data, Dumper=QuotingDumper, default_flow_style=flow)
    documents = parse_yaml(written)
    assert (documents[0].data if documents else None) == data


@given(st.text(alphabet=st.sampled_from("ab01 \n\t:-[]{}&*!|>'\"#%@`,?~<.\u2028\x85\\"), max_size=60) | st.text())
def test_no_text_raises_anything_but_its_own_error(text: str) -> None:
    problem = refusal(text)
    if problem is not None:
        assert problem.problem
        assert problem.line <= len(text.splitlines()) + 1


def refusal(text: str) -> Problem | None:
    try:
        parse_yaml(text)
    except TextRefused as refused:
        return refused.problem
    return None


@given(st.text(alphabet="0123456789+-._eExXoObBaAfFiInN", max_size=12))
def test_every_plain_scalar_has_a_meaning(text: str) -> None:
    if text.lower().lstrip("+-") not in {".nan", ".inf"}:
        resolve_plain(text)
