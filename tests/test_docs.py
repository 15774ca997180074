"""Pages that are generated equal what would be generated; links between pages lead somewhere."""

import re
from pathlib import Path

import pytest

from tools import make_annotation_docs, make_defaults_docs, make_rbac_docs, make_settings_docs

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize(
    "tool", [make_settings_docs, make_defaults_docs, make_annotation_docs, make_rbac_docs], ids=lambda t: t.__name__
)
def test_generated_page_is_up_to_date(tool: object) -> None:
    page, path = tool.page(), tool.PAGE  # type: ignore[attr-defined]  # each tool has both
    assert path.read_text() == page, f"{path.name} is old: run `make docs`"


@pytest.mark.parametrize("path", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
