"""Every folder `tests/golden/gateway*/<sentence>` is a case; see `cases.py` for the format."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from portway.model.edge import Edge
from portway.objects.verdict import ObjectKey
from tests.golden.compiled import differences, status_of
from tests.translate.gateway.answering import World, answer
from tests.translate.gateway.cases import load, objects_of
from tests.translate.gateway.kit import new_engine, put, report

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = sorted(path.parent for path in GOLDEN.glob("gateway*/*/in.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_case(case: Path) -> None:
    # Ingress has its ports too; the cases want them for Gateways, which would lose to an older Ingress only.
    engine = new_engine(Edge())
    put(engine, objects_of((case / "in.yaml").read_text()))
    status = cast("Mapping[str, object]", load(case / "status.yaml") or {})
    answers = cast("list[Mapping[str, object]]", load(case / "answers.yaml") or [])
    assert status or answers, "the case expects nothing"
    problems: list[str] = []
    for text, expected in status.items():
        kind, _, rest = text.partition(" ")
        namespace, _, name = rest.rpartition("/")
        problems += differences(expected, status_of(report(engine, ObjectKey(kind, namespace, name))), text)
    world = World(engine)
    for entry in answers:
        given = {"tls", "address", "headers", "udp", "tcp", "plain"}
        expected = {key: value for key, value in entry.items() if key not in given and not _is_method(key)}
        problems += differences(expected, answer(world, entry), str({**entry}))
    assert problems == []


def _is_method(key: str) -> bool:
    return key in ("get", "head", "post", "put", "delete", "options", "patch", "connect", "trace")
