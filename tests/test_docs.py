"""Pages that are generated equal what would be generated; links between pages lead somewhere."""

import re
from pathlib import Path

import pytest
import yaml

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


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/*.md")), ids=lambda path: path.name)
def test_what_is_said_to_be_held_by_a_test_is(path: Path) -> None:
    mentioned = set(re.findall(r"`(test_\w+)`", path.read_text()))
    there = {
        name for file in ROOT.glob("tests/**/test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert not mentioned - there


def test_every_page_is_in_the_list() -> None:
    listed = set(LINK.findall((ROOT / "docs/README.md").read_text()))
    assert not {path.name for path in ROOT.glob("docs/*.md")} - listed - {"README.md"}


def test_the_objects_in_the_readme_are_those_of_the_example() -> None:
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    files = (ROOT / "examples/cluster" / name for name in ("gateway.yaml", "ingress.yaml"))
    assert list(yaml.safe_load_all(shown)) == [one for file in files for one in yaml.safe_load_all(file.read_text())]
