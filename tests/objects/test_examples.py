"""The Gateway API's own manifests: its examples are taken, its invalid examples are refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from portway.objects.kinds import kind_of
from portway.objects.parsing import parse
from portway.objects.unknown import unknown_fields
from portway.objects.verdict import Severity
from tests.objects.gateway_module import MODULE, needs_module

EXAMPLES = MODULE / "examples"
INVALID = MODULE / "hack" / "invalid-examples"

REFUSED: dict[str, str] = {}
"""Examples that the API server refuses, with the reason. None in v1.7.0."""


def _documents(path: Path) -> Iterator[dict[str, object]]:
    for document in yaml.load_all(path.read_text(), yaml.CSafeLoader):
        if document is not None:
            yield document


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.yaml"))


@needs_module
def test_the_examples_are_there() -> None:
    assert len(_paths(EXAMPLES)) > 50
    assert len(_paths(INVALID)) > 30


@needs_module
@pytest.mark.parametrize("path", _paths(EXAMPLES), ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_an_example_is_taken(path: Path) -> None:
    for document in _documents(path):
        parsed = parse(document)
        told = [verdict for verdict in parsed.verdicts if verdict.severity is not Severity.INFO]
        known = kind_of(str(document.get("apiVersion")), str(document.get("kind")))
        if known is not None:
            told.extend(unknown_fields(document, known))
        if str(path.relative_to(EXAMPLES)) not in REFUSED:
            assert [str(verdict) for verdict in told] == []
            assert (parsed.object is None) == (known is None)


@needs_module
@pytest.mark.parametrize("path", _paths(INVALID), ids=lambda path: str(path.relative_to(INVALID)))
def test_an_invalid_example_is_refused(path: Path) -> None:
    parsed = [parse(document) for document in _documents(path)]
    assert any(found.object is None and found.verdicts for found in parsed)
