"""A cluster's objects, compiled as the Portway that serves them would; for `check`, `explain`, `diff` and `status`."""

from collections.abc import Callable, Iterable

from portway.app.compiler import EVERYTHING, make_engine_for, settle_slowly
from portway.app.reading import ClusterRead
from portway.incremental import AnyOutput, Engine
from portway.model.handles import UNREAD
from portway.model.tls import Secret
from portway.objects.gateway_v1 import Gateway, GatewayClass
from portway.objects.meta import Object
from portway.objects.networking_v1 import Ingress, IngressClass
from portway.objects.parsing import parse
from portway.objects.verdict import ObjectKey
from portway.settings import Settings
from portway.store import ChangeSet, Store, Stored


def compile_cluster(
    read: ClusterRead,
    settings: Settings,
    fallback: Secret,
    *,
    outputs: Iterable[AnyOutput] = EVERYTHING,
    show: Callable[[str], None] = lambda text: None,
) -> Engine:
    """Compile all that was read.

    Args:
        outputs: as for `make_engine`.
        show: gets a few words about how far it has come, now and then; empty at the end.
    """
    engine = make_engine_for(settings, fallback, outputs)
    engine.set(UNREAD, None, read.unread)
    for change in read.changes:
        engine.apply(change)
    add_unread_classes(engine, settings)
    settle_slowly(engine, show)
    return engine


def apply_changes(engine: Engine, changes: Iterable[ChangeSet], settings: Settings) -> None:
    """Go on with other objects. The engine has everything to do afterwards, and nothing is taken from it."""
    for change in changes:
        engine.apply(change)
    add_unread_classes(engine, settings)


def add_unread_classes(engine: Engine, settings: Settings) -> None:
    """Every class that is named and may not be read counts as ours: else nothing could be said about anything."""
    added = tuple(_stand_ins(engine.store, engine.read(UNREAD, None).kinds, settings))
    if added:
        engine.apply(ChangeSet(changed=added))


def _stand_ins(store: Store, unread: Iterable[str], settings: Settings) -> Iterable[Stored]:
    edge, kinds = settings.edge, frozenset(unread)
    named: set[ObjectKey] = set()
    for kind in ("Gateway", "Ingress"):
        for key in store.keys(kind):
            stored = store.get(key)
            named.update(() if stored is None else _classes_of(stored.object))
    for key in sorted(named):
        if key.kind in kinds and store.get(key) is None:
            spec = (
                {"controllerName": edge.gateway_controller}
                if key.kind == GatewayClass.__name__
                else {"controller": edge.controller_class}
            )
            version = "gateway.networking.k8s.io/v1" if key.kind == GatewayClass.__name__ else "networking.k8s.io/v1"
            raw = {"apiVersion": version, "kind": key.kind, "metadata": {"name": key.name}, "spec": spec}
            parsed = parse(raw, from_cluster=True)
            if parsed.object is not None:
                yield Stored(key, parsed.object)


def _classes_of(found: Object) -> Iterable[ObjectKey]:
    match found:
        case Gateway():
            yield ObjectKey(GatewayClass.__name__, "", found.spec.gateway_class_name)
        case Ingress():
            if found.spec.ingress_class_name is not None:
                yield ObjectKey(IngressClass.__name__, "", found.spec.ingress_class_name)
