"""Every folder `tests/golden/ingress*/<sentence>` is a case.

`in.yaml` holds the objects, `settings.yaml` the operator's settings where they are not the defaults, `answers.yaml` who
answers which request (see `answering.py`), `status.yaml` per object parts of the sentences that are said about it: an
empty list expects silence.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest
import yaml

from portway.explain.trace import World
from portway.model.edge import Edge
from tests.translate.ingress.answering import GIVEN, answer
from tests.translate.ingress.kit import edge_of, new_engine, objects_of, put, verdicts

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = sorted(path.parent for path in GOLDEN.glob("ingress*/*/in.yaml"))


def differences(expected: object, found: object, path: str) -> list[str]:
    """Where `found` lacks something of `expected`; `null` expects absence."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        return [
            difference
            for key, value in expected.items()
            for difference in differences(value, found.get(key), f"{path}.{key}")
        ]
    return [] if expected == found else [f"{path}: expected {expected!r}, found {found!r}"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_case(case: Path) -> None:
    settings = case / "settings.yaml"
    engine = new_engine(edge_of(settings.read_text()) if settings.exists() else Edge())
    put(engine, objects_of((case / "in.yaml").read_text()))
    answers = cast("list[Mapping[str, object]]", _load(case / "answers.yaml") or [])
    status = cast("Mapping[str, list[str]]", _load(case / "status.yaml") or {})
    assert answers or status, "the case expects nothing"
    world = World(engine)
    problems: list[str] = []
    for entry in answers:
        expected = {key: value for key, value in entry.items() if key not in GIVEN}
        given = {key: value for key, value in entry.items() if key in GIVEN}
        found = answer(world, entry)
        problems += [f"{given}: {difference} in {found}" for difference in differences(expected, found, "")]
    for text, sentences in status.items():
        problems += _unsaid(text, sentences, [str(each) for each in verdicts(engine, *_key(text))])
    assert problems == []


def _key(text: str) -> tuple[str, str, str]:
    kind, _, rest = text.partition(" ")
    namespace, _, name = rest.rpartition("/")
    return name, namespace, kind


def _unsaid(text: str, sentences: list[str], said: list[str]) -> list[str]:
    if not sentences and said:
        return [f"{text}: expected silence, found {said}"]
    return [f"{text}: nothing says {part!r}, but {said}" for part in sentences if not any(part in one for one in said)]


def _load(path: Path) -> object:
    return yaml.safe_load(path.read_text()) if path.exists() else None
