"""What the tests of Ingress's translation share: an engine over YAML with the whole program of translation, and its
outcome as plain data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

import msgspec
import yaml

from portway.incremental import Engine, Program
from portway.model.edge import Edge
from portway.model.handles import (
    EDGE,
    FALLBACK_CERTIFICATE,
    LISTENER,
    REPORT,
    SOCKETS,
    TABLE,
    TABLES,
    VIRTUAL_HOST,
    VIRTUAL_HOSTS,
)
from portway.model.tls import PrivateKey, Secret
from portway.objects.parsing import parse
from portway.objects.verdict import ObjectKey, Verdict
from portway.store import ChangeSet, Store, Stored
from portway.translate import program
from tests.kit.certificates import Authority, KeyPair

AUTHORITY = Authority()


@cache
def _issue(names: str) -> KeyPair:
    return AUTHORITY.issue(*names.split(","))


_ISSUERS: Mapping[str, Callable[[str], KeyPair]] = {
    "case/certificate": _issue,
    "case/expired": lambda names: AUTHORITY.issue_expired(*names.split(",")),
    "case/mismatching": lambda names: AUTHORITY.issue_mismatching(*names.split(",")),
}


def new_engine(edge: Edge | None = None) -> Engine:
    """An engine over an empty store."""
    engine = Engine(
        Store(program.INDEXES),
        Program(relations=program.RELATIONS, feeds=program.FEEDS, bindings=program.BINDINGS),
    )
    engine.set(EDGE, None, edge or Edge())
    fallback = _issue("fallback.test")
    engine.set(
        FALLBACK_CERTIFICATE,
        None,
        Secret(certificates=fallback.certificate.encode(), key=PrivateKey(fallback.key.encode())),
    )
    return engine


def objects_of(text: str) -> list[Stored]:
    """The objects of some YAML, which must be good.

    A Secret with the annotation `case/certificate` (host names with commas) gets a certificate for them with its key;
    with `case/expired` one that ended yesterday, with `case/mismatching` one with another's key.
    """
    found: list[Stored] = []
    for document in yaml.safe_load_all(text):
        if document is None:
            continue
        annotations = document.get("metadata", {}).get("annotations", {})
        for name, issue in _ISSUERS.items():
            if name in annotations:
                pair = issue(annotations[name])
                document["type"] = "kubernetes.io/tls"
                document["stringData"] = {"tls.crt": pair.certificate, "tls.key": pair.key}
        parsed = parse(document)
        if parsed.object is None or parsed.key is None:
            raise ValueError(f"{parsed.key}: {[str(verdict) for verdict in parsed.verdicts]}")
        found.append(Stored(parsed.key, parsed.object))
    return found


def edge_of(text: str) -> Edge:
    """The settings of a case: those of `settings.yaml`, the rest by default."""
    return msgspec.convert(yaml.safe_load(text) or {}, Edge)


def put(engine: Engine, stored: Iterable[Stored], removed: Sequence[ObjectKey] = ()) -> None:
    """Apply objects and settle; a function that raised is a bug, whatever the objects."""
    engine.apply(ChangeSet(changed=tuple(stored), removed=tuple(removed)))
    engine.settle()
    assert engine.failures() == ()


def engine_of(text: str, edge: Edge | None = None) -> Engine:
    """An engine that has settled over some YAML."""
    engine = new_engine(edge)
    put(engine, objects_of(text))
    return engine


def verdicts(engine: Engine, name: str, namespace: str = "default", kind: str = "Ingress") -> tuple[Verdict, ...]:
    """What there is to say about an object."""
    return engine.get(REPORT, ObjectKey(kind, namespace, name)).verdicts


def snapshot(engine: Engine) -> Mapping[str, object]:
    """All that leaves translation, comparable between engines."""
    return {
        "listeners": {key: engine.get(LISTENER, key) for key in sorted(engine.groups(SOCKETS))},
        "tables": {key: engine.get(TABLE, key) for key in sorted(engine.groups(TABLES))},
        "hosts": {key: engine.get(VIRTUAL_HOST, key) for key in sorted(engine.groups(VIRTUAL_HOSTS))},
        "reports": {
            key: engine.get(REPORT, key)
            for kind in ("Ingress", "IngressClass")
            for key in sorted(engine.store.keys(kind))
        },
    }
