"""Which YAML parser reads manifests fastest, and which reads them right.

    python bench/yaml_parsers.py [ROUTES]

Reads so many HTTPRoute + Service + EndpointSlice triples (5,000 by default) as one stream and one by one. Parsers that
are not installed are left out: only PyYAML is a dependency of Portway. A parser is right about a text if it gives what
sigs.k8s.io/yaml (kubectl) gives, or refuses what that refuses: `tests/sources/kubectl_yaml.json`. Needs a minute.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import yaml

from portway.sources.documents import split_documents
from portway.sources.yaml_parser import parse_yaml

TRIPLE = (Path(__file__).parent / "route_triple.yaml").read_text()
CASES = json.loads((Path(__file__).parent.parent / "tests/sources/kubectl_yaml.json").read_text())
Load = Callable[[str], object]


class Parser(NamedTuple):
    name: str
    load: Load
    """One document."""
    load_all: Callable[[str], object] | None = None
    """A stream; None: it has to be cut first, and the cutting counts."""


def manifests(routes: int) -> str:
    """The stream of all triples."""
    return "---\n".join(
        TRIPLE.replace("NUMBER", str(number)).replace("NETWORK", f"{number // 256 % 256}.{number % 256}")
        for number in range(routes)
    )


def parsers() -> list[Parser]:
    """Those that are installed."""
    found = [
        Parser("portway (libyaml nodes, own scalars)", first_document, parse_yaml),
        Parser("PyYAML CSafeLoader", one_of(yaml.CSafeLoader), all_of(yaml.CSafeLoader)),
        Parser("PyYAML CBaseLoader (all strings)", one_of(yaml.CBaseLoader), all_of(yaml.CBaseLoader)),
        Parser("libyaml events alone, no data", count_events, count_events),
    ]
    for module, name in (
        ("ruamel.yaml", "ruamel.yaml safe, C"),
        ("ryaml", "ryaml"),
        ("yaml_rs", "yaml-rs"),
        ("yaml12", "py-yaml12"),
        ("oryaml", "oryaml"),
        ("libfyaml", "libfyaml"),
        ("pyfastyaml", "pyfastyaml"),
        ("ryml", "rapidyaml, by way of JSON"),
    ):
        try:
            loaded = importlib.import_module(module)
        except ImportError:
            continue
        found.append(Parser(name, load_with(module, loaded)))
    return found


def load_with(name: str, module: ModuleType) -> Load:
    """How that module reads one document. It has no types here, because it is no dependency."""
    if name == "ruamel.yaml":
        return module.YAML(typ="safe").load  # type: ignore[no-any-return]
    if name == "yaml12":
        return module.parse_yaml  # type: ignore[no-any-return]
    if name == "libfyaml":
        return lambda text: module.loads(text).to_python()
    if name == "ryml":
        return lambda text: json.loads(module.emit_json(module.parse_in_arena(text)))
    return module.loads  # type: ignore[no-any-return]


def first_document(text: str) -> object:
    """As Portway reads it."""
    documents = parse_yaml(text)
    return documents[0].data if documents else None


Loader = type[yaml.CSafeLoader | yaml.CBaseLoader]


def one_of(loader: Loader) -> Load:
    return lambda text: yaml.load(text, loader)  # noqa: S506 - these loaders make plain data only


def all_of(loader: Loader) -> Load:
    return lambda text: list(yaml.load_all(text, loader))


def count_events(text: str) -> int:
    return sum(1 for _ in yaml.parse(text, yaml.CLoader))


def is_right(parser: Parser, text: str, expected: str | None) -> bool:
    """Does it agree with kubectl?"""
    try:
        found = json.dumps(parser.load(text.removeprefix("\ufeff")), sort_keys=True)
    except Exception:  # noqa: BLE001 - every parser has its own error, some have several
        return expected is None
    return expected is not None and found == json.dumps(json.loads(expected), sort_keys=True)


def seconds(work: Callable[[], object]) -> float:
    """The best of three."""
    return min(timed(work) for _ in range(3))


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    routes = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    stream = manifests(routes)
    documents = [chunk.text for chunk in split_documents(stream)]
    print(f"{len(documents):,} documents, {len(stream) / 1e6:.1f} MB, {stream.count(chr(10)):,} lines")
    print(f"{'':38}{'one stream':>12}{'one by one':>12}{'ratio':>8}{'as kubectl':>16}")
    base = 0.0
    for parser in parsers():
        alone = seconds(lambda load=parser.load: [load(text) for text in documents])  # type: ignore[misc]
        whole = seconds(lambda load=parser.load_all: load(stream)) if parser.load_all else None  # type: ignore[misc]
        base = base or alone
        right = sum(is_right(parser, case[0], case[1]) for case in CASES)
        shown = f"{whole * 1e3:,.0f} ms" if whole else "-"
        print(f"{parser.name:38}{shown:>12}{alone * 1e3:>9,.0f} ms{alone / base:>8.2f}{right:>8} of {len(CASES)}")


if __name__ == "__main__":
    main()
