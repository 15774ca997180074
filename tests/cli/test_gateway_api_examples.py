"""The Gateway API's own examples through `portway check --all-classes`: what a knowledgeable user would expect.

`gateway_api_examples.yaml` holds, per manifest (and per folder whose manifests belong together), what is said:
`line severity reason object field: problem`, without the remedy. `PORTWAY_ACCEPT=1` writes what came out, to be read in
the diff.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from portway.app.checking import Remark, check_files
from portway.settings import Edge, Settings
from tests.objects.gateway_module import MODULE, needs_module

EXAMPLES = MODULE / "examples"
EXPECTED = Path(__file__).with_suffix(".yaml").with_name("gateway_api_examples.yaml")
TOGETHER = (
    "standard/backendtlspolicy",
    "standard/cross-namespace-routing",
    "standard/grpc-routing",
    "standard/http-routing",
    "standard/listenerset",
    "standard/simple-gateway",
    "standard/simple-http-https",
    "standard/tcp-routing",
    "standard/tls-routing",
    "standard/udp-routing",
    "experimental/v1alpha2/tls-routing",
    "experimental/v1alpha3/tls-routing",
)
"""Folders of which the manifests refer to one another. Others hold variants, one of which is meant to be applied."""


def names() -> list[str]:
    files = [str(path.relative_to(EXAMPLES)) for path in sorted(EXAMPLES.rglob("*.yaml"))]
    return [*files, *TOGETHER]


def said(name: str) -> list[str]:
    """What `check` says about a manifest or a folder, in its order."""
    result = asyncio.run(check_files([str(EXAMPLES / name)], Settings(edge=Edge(all_classes=True))))
    assert result.objects > 0
    return [_text(remark, EXAMPLES / name) for remark in result.verdicts]


def _text(remark: Remark, root: Path) -> str:
    file = "" if root.is_file() else f"{Path(remark.file).relative_to(root)}:"
    subject = f"{remark.object} {remark.field}".strip()
    problem = remark.problem.replace(f"{root}/", "")
    return f"{file}{remark.line} {remark.severity} {remark.reason} {subject}: {problem}"


@needs_module
def test_there_are_as_many_as_we_know() -> None:
    if os.environ.get("PORTWAY_ACCEPT"):
        found = {name: said(name) for name in names()}
        EXPECTED.write_text(yaml.safe_dump(found, width=10_000, sort_keys=False))
    assert list(_expected()) == names()


@needs_module
@pytest.mark.parametrize("name", names())
def test_an_example_is_judged_rightly(name: str) -> None:
    assert said(name) == _expected()[name]


def _expected() -> Mapping[str, list[str]]:
    loaded: dict[str, list[str]] = yaml.safe_load(EXPECTED.read_text())
    return loaded
