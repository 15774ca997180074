"""Golden cases: the folders, their objects compiled, and the outcome as plain data."""

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import cast

import msgspec
import yaml

from portway.explain.trace import World
from portway.model.condition import Condition, ListenerReport, ObjectReport
from portway.model.edge import Edge
from portway.model.handles import REPORT
from portway.objects.parsing import parse
from portway.objects.verdict import ObjectKey
from portway.store import Stored
from tests.kit.certificates import Authority, KeyPair
from tests.translate.ingress.kit import new_engine, put

HERE = Path(__file__).parent
CASES = sorted(path.parent for path in HERE.rglob("in.yaml"))

Entry = Mapping[str, object]
"""One entry of `answers.yaml`."""


def name_of(case: Path) -> str:
    """How a case is called in test runs."""
    return str(case.relative_to(HERE))


@cache
def authority() -> Authority:
    """Who signs all certificates of the cases."""
    return Authority()


@cache
def _issued(kind: str, names: str) -> KeyPair:
    issue = {
        "certificate": authority().issue,
        "expired": authority().issue_expired,
        "mismatching": authority().issue_mismatching,
    }[kind]
    return issue(*names.split(","))


def edge_of(case: Path) -> Edge:
    """The settings of a case."""
    return msgspec.convert(load(case / "settings.yaml") or {}, Edge)


def compile_case(case: Path) -> World:
    """What the whole program makes of a case.

    Raises:
        ValueError: an object is not valid; the case is wrong.
    """
    engine = new_engine(edge_of(case))
    put(engine, _objects(case))
    return World(engine)


def _objects(case: Path) -> list[Stored]:
    found: list[Stored] = []
    for document in yaml.safe_load_all((case / "in.yaml").read_text()):
        if document is None:
            continue
        annotations = document.get("metadata", {}).get("annotations", {})
        kinds = [kind for kind in ("expired", "mismatching", "certificate") if f"case/{kind}" in annotations]
        if kinds:
            # The names stand with the first kind, or with `certificate` if that is there too.
            pair = _issued(kinds[0], annotations[f"case/{kinds[-1]}"])
            document["type"] = "kubernetes.io/tls"
            document["stringData"] = {"tls.crt": pair.certificate, "tls.key": pair.key}
        if "case/authority" in annotations:
            field = "stringData" if document["kind"] == "Secret" else "data"
            document[field] = {"ca.crt": authority().certificate}
        parsed = parse(document)
        if parsed.object is None or parsed.key is None:
            raise ValueError(f"{parsed.key}: {[str(verdict) for verdict in parsed.verdicts]}")
        found.append(Stored(parsed.key, parsed.object))
    return found


def load(path: Path) -> object:
    """A YAML file; `None` if it is not there."""
    return yaml.safe_load(path.read_text()) if path.exists() else None


def entries_of(case: Path) -> Sequence[Entry]:
    """The requests of a case."""
    return cast("Sequence[Entry]", load(case / "answers.yaml") or ())


def report_of(world: World, text: str) -> ObjectReport:
    """What is said about an object, `HTTPRoute shop/cart`."""
    kind, _, rest = text.partition(" ")
    namespace, _, name = rest.rpartition("/")
    return world.engine.get(REPORT, ObjectKey(kind, namespace, name))


def status_of(report: ObjectReport) -> dict[str, object]:
    """A report as `status.yaml` writes it."""
    status: dict[str, object] = _conditions(report.conditions)
    status["ours"] = report.ours
    if report.listeners:
        status["listeners"] = {each.name: _listener(each) for each in report.listeners}
    if report.object.kind == "Gateway":
        status["sets"] = report.attached_listener_sets
        status["addresses"] = [value for _, value in report.addresses]
    status["parents"] = {
        f"{each.parent.kind} {each.parent.namespace}/{each.parent.name}"
        + (f" {each.section}" if each.section else "")
        + (f":{each.port}" if each.port else ""): _conditions(each.conditions)
        for each in report.parents
    }
    status["verdicts"] = [str(verdict) for verdict in report.verdicts]
    return status


def _conditions(conditions: tuple[Condition, ...]) -> dict[str, object]:
    return {each.type: f"{each.status}/{each.reason}" for each in conditions}


def _listener(report: ListenerReport) -> dict[str, object]:
    kinds = [kind for _, kind in report.supported_kinds]
    return {**_conditions(report.conditions), "attached": report.attached_routes, "kinds": kinds}


def differences(expected: object, found: object, path: str = "") -> list[str]:
    """Where `found` lacks something of `expected`; `null` expects absence, a list of `verdicts` parts of sentences."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        return [
            difference
            for key, value in expected.items()
            for difference in differences(value, found.get(key), f"{path}.{key}" if path else str(key))
        ]
    if path.endswith("verdicts") and isinstance(expected, list):
        return unsaid(cast("list[str]", expected), cast("list[str]", found or []))
    return [] if expected == found else [f"{path}: expected {expected}, found {found}"]


def unsaid(sentences: Sequence[str], said: Sequence[str]) -> list[str]:
    """The parts of sentences that nobody says; no sentences expect silence."""
    if not sentences and said:
        return [f"expected silence, found {said}"]
    return [f"nothing says {part!r}, but {said}" for part in sentences if not any(part in one for one in said)]


def model_of(world: World) -> dict[str, object]:
    """What the proxies must do, as YAML has it: what equals a default is left out."""
    tables = {
        chain.handler.table
        for socket in world.sockets
        if (listener := world.listener(socket)) is not None
        for chain in listener.chains
        if hasattr(chain.handler, "table")
    }
    return {
        "listeners": {str(socket): _plain(world.listener(socket)) for socket in world.sockets},
        "tables": {
            table.name: {domain: _plain(host.routes) for domain, host in sorted(world.hosts(table).items())}
            for table in sorted(tables)
        },
    }


def _plain(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        defaults = {field.name: field.default for field in msgspec.structs.fields(value)}
        return {
            name: _plain(getattr(value, name))
            for name in value.__struct_fields__
            if name not in ("key", "origins") and getattr(value, name) != defaults[name]
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, ObjectKey):
        return str(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return " ".join(str(part) for part in value if part not in ("", ()))
    if isinstance(value, (tuple, frozenset)):
        return [_plain(entry) for entry in (sorted(value) if isinstance(value, frozenset) else value)]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
