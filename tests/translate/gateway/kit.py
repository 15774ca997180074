"""What the tests of Gateway API's translation share: an engine over YAML, and its outcome as plain data."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from portway.incremental import Engine, Output, Program, bind
from portway.model.condition import ObjectReport
from portway.model.edge import Edge
from portway.model.handles import (
    EDGE,
    FLEETS,
    LISTENER,
    REPORT,
    SOCKETS,
    TABLE,
    TABLES,
    VIRTUAL_HOST,
    VIRTUAL_HOSTS,
)
from portway.model.listener import Listener
from portway.model.names import HostKey, SocketKey
from portway.model.route import VirtualHost
from portway.objects.meta import Object
from portway.objects.parsing import parse
from portway.objects.verdict import ObjectKey
from portway.store import ChangeSet, Store, Stored
from portway.translate import certificates, gateway, sockets, upstreams
from portway.translate.policy import backend_tls
from portway.translate.policy import upstream as upstream_policy

HOSTS: Output[HostKey, VirtualHost] = Output("hosts", [VIRTUAL_HOSTS], lambda ctx, key: ctx.get(VIRTUAL_HOST, key))
LISTENERS: Output[SocketKey, Listener] = Output("listeners", [SOCKETS], lambda ctx, key: ctx.get(LISTENER, key))
REPORTS: Output[ObjectKey, ObjectReport] = Output(
    "reports", list(gateway.REPORTS), lambda ctx, key: ctx.get(REPORT, key)
)

PROGRAM = Program(
    outputs=(HOSTS, LISTENERS, REPORTS),
    relations=(*gateway.RELATIONS, *sockets.RELATIONS, FLEETS, SOCKETS, TABLES, VIRTUAL_HOSTS),
    feeds=(*gateway.FEEDS, *sockets.FEEDS),
    bindings=(
        *certificates.BINDINGS,
        *upstreams.BINDINGS,
        *sockets.BINDINGS,
        bind(VIRTUAL_HOST, gateway.virtual_host),
        bind(TABLE, gateway.route_table),
        bind(REPORT, lambda ctx, key: gateway.REPORTS[key.kind](ctx, key)),
    ),
)
INDEXES = (*gateway.INDEXES, *upstreams.INDEXES, *backend_tls.INDEXES, *upstream_policy.INDEXES)


def new_engine(edge: Edge | None = None) -> Engine:
    """An engine without objects that runs nothing but Gateway API."""
    engine = Engine(Store(INDEXES), PROGRAM)
    engine.set(EDGE, None, edge or Edge())
    return engine


def read(text: str) -> list[Stored]:
    """The objects of some YAML documents.

    Raises:
        ValueError: one of them is refused; the case is wrong.
    """
    found: list[Stored] = []
    for document in yaml.safe_load_all(text):
        if document is None:
            continue
        parsed = parse(document)
        if parsed.object is None or parsed.key is None:
            raise ValueError(f"{parsed.key}: {[str(verdict) for verdict in parsed.verdicts]}")
        found.append(Stored(parsed.key, parsed.object))
    return found


def engine_of(text: str, edge: Edge | None = None) -> Engine:
    """An engine that has settled over some YAML."""
    engine = new_engine(edge)
    put(engine, read(text))
    return engine


def put(engine: Engine, stored: Iterable[Stored], removed: Sequence[ObjectKey] = ()) -> None:
    """Apply objects and settle; a function that raised is a bug, whatever the objects."""
    engine.apply(ChangeSet(changed=tuple(stored), removed=tuple(removed)))
    engine.settle()
    assert engine.failures() == ()


def report(engine: Engine, key: ObjectKey) -> ObjectReport:
    return engine.get(REPORT, key)


def conditions(reported: ObjectReport) -> dict[str, str]:
    """`{"Accepted": "True/Accepted"}`."""
    return {each.type: f"{each.status}/{each.reason}" for each in reported.conditions}


def snapshot(engine: Engine) -> Mapping[str, object]:
    """All that leaves translation, comparable between engines."""
    return {
        "listeners": {key: engine.get(LISTENER, key) for key in sorted(engine.groups(SOCKETS))},
        "tables": {key: engine.get(TABLE, key) for key in sorted(engine.groups(TABLES))},
        "hosts": {key: engine.get(VIRTUAL_HOST, key) for key in sorted(engine.groups(VIRTUAL_HOSTS))},
        "reports": {
            key: engine.get(REPORT, key) for kind in gateway.REPORTS for key in sorted(engine.store.keys(kind))
        },
    }


def stored_in(folder: Path) -> list[Stored]:
    return read((folder / "in.yaml").read_text())


def named(found: Iterable[Object]) -> list[str]:
    return [each.metadata.name for each in found]
