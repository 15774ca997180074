"""Without the Secrets and ConfigMaps that nobody refers to, everything comes out the same: none is forgotten."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from portway.app.compiler import make_engine
from portway.app.fallback import make_fallback_certificate
from portway.model.edge import Edge
from portway.model.handles import OWN_PLACES
from portway.model.local import OwnPlaces
from portway.objects.kinds import KINDS
from portway.objects.verdict import ObjectKey
from portway.store import ChangeSet, Stored
from portway.translate.key_material import REFERRING, key_material
from tests.golden.compiled import CASES, compile_case, edge_of, name_of
from tests.translate.ingress.kit import objects_of

FALLBACK = make_fallback_certificate()
MATERIAL = ("Secret", "ConfigMap")


def outcome(edge: Edge, objects: Iterable[Stored]) -> object:
    """All that leaves the engine."""
    engine = make_engine(edge, FALLBACK)
    engine.apply(ChangeSet(changed=tuple(objects)))
    engine.set(OWN_PLACES, None, OwnPlaces())
    delta = engine.settle()
    assert engine.failures() == ()
    assert delta
    return delta


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_nothing_that_is_read_is_left_out(case: Path) -> None:
    store = compile_case(case).engine.store
    found = [store.get(key) for kind in KINDS for key in sorted(store.keys(kind))]
    objects = [stored for stored in found if stored is not None]
    if not any(stored.key.kind in MATERIAL for stored in objects):
        return
    edge = edge_of(case)
    wanted = {
        ObjectKey("Secret", *edge.default_certificate.split("/")) if edge.default_certificate else None,
        *(key for stored in objects if stored.key.kind in REFERRING for key in key_material(stored.object)),
    }
    kept = [stored for stored in objects if stored.key.kind not in MATERIAL or stored.key in wanted]
    assert outcome(edge, kept) == outcome(edge, objects)


def test_a_backend_refers_to_its_certificate_and_its_authorities() -> None:
    (stored,) = objects_of("""
        apiVersion: portway.dev/v1alpha1
        kind: Backend
        metadata: {name: far, namespace: shop}
        spec:
          dns: {name: far.example, port: 443}
          tls:
            clientCertificateRef: {group: "", kind: Secret, name: ours}
            caCertificateRefs: [{group: "", kind: ConfigMap, name: theirs}]
        """)
    assert list(key_material(stored.object)) == [
        ObjectKey("Secret", "shop", "ours"),
        ObjectKey("ConfigMap", "shop", "theirs"),
    ]


def test_objects_of_other_kinds_refer_to_none() -> None:
    for case in CASES:
        store = compile_case(case).engine.store
        for kind in KINDS.keys() - REFERRING:
            for key in store.keys(kind):
                stored = store.get(key)
                assert stored is None or not list(key_material(stored.object))
