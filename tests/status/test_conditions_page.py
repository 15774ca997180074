"""`docs/conditions.md` speaks of every condition that the golden cases have."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "conditions.md").read_text()
VALUE = re.compile(r"(?:True|False)/(\w+)")


def said(found: object, condition: str = "") -> Iterator[tuple[str, str]]:
    """Condition and reason, wherever they stand."""
    if isinstance(found, dict):
        for name, inner in found.items():
            yield from said(inner, str(name))
    elif isinstance(found, str) and (match := VALUE.fullmatch(found)):
        yield condition, match[1]


PAIRS = sorted(
    {
        pair
        for path in (ROOT / "tests" / "golden").rglob("status.yaml")
        for pair in said(yaml.safe_load(path.read_text()))
    }
)


@pytest.mark.parametrize(("condition", "reason"), PAIRS)
def test_the_page_has_it(condition: str, reason: str) -> None:
    assert f"`{reason}`" in PAGE, f"{condition}: nobody learns what {reason} means"
    assert condition in PAGE
