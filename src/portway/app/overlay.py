"""Objects of files laid over those of a cluster, as if they had been applied: the same name replaces.

What the API server and `kubectl apply` would keep of the old object is kept: its age, by which conflicts are decided,
its identity, and the class that an Ingress was given when it was made. A new object is the youngest. What controllers
would make of it is not there: a new Service has no endpoints until its pods are known.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, cast

import msgspec

from portway.app.reading import ClusterRead
from portway.objects.defaults import DEFAULT_NAMESPACE
from portway.objects.kinds import KINDS
from portway.objects.meta import Object, Part
from portway.objects.networking_v1 import Ingress
from portway.objects.verdict import ObjectKey
from portway.sources.files import FileSource
from portway.store import ChangeSet, Store, Stored
from portway.translate.key_material import key_material

NEW: Final = "not made yet"
"""Identity of an object that the API server would make."""


class Overlay(msgspec.Struct, frozen=True, kw_only=True):
    """What files declare."""

    changes: tuple[ChangeSet, ...]
    source: FileSource
    """Knows where fields stand."""

    @property
    def objects(self) -> tuple[Stored, ...]:
        """Without Namespaces that nobody wrote."""
        return tuple(one for change in self.changes for one in change.changed if one.origin.file)

    @property
    def key_material(self) -> frozenset[ObjectKey]:
        """Secrets and ConfigMaps to which the objects refer."""
        return frozenset(key for one in self.objects for key in key_material(one.object))


async def read_overlay(paths: Sequence[str], namespace: str = "") -> Overlay:
    """Read files once.

    Args:
        paths: files, folders, or `-` for standard input.
        namespace: of objects that name none, as for `kubectl`.
    """
    source = FileSource(paths, follow=False, namespace=namespace or DEFAULT_NAMESPACE)
    return Overlay(changes=tuple([change async for change in source.changes()]), source=source)


def laid_over(overlay: Overlay, store: Store) -> Iterable[ChangeSet]:
    """The change sets that lead from a cluster's objects to those after the files were applied."""
    now = datetime.now(UTC)
    for change in overlay.changes:
        applied = [_applied(one, store.get(one.key), now) for one in change.changed if _counts(one, store)]
        yield msgspec.structs.replace(change, changed=applied, removed=())


def hindrances(overlay: Overlay, read: ClusterRead) -> Iterable[str]:
    """Why the files could not be applied as the cluster is now, a sentence each: all else is as if they had been."""
    # A Namespace without a file is one that objects say to be in.
    implied = {one.key.name for change in overlay.changes for one in change.changed if not one.origin.file}
    for name in sorted(implied - (implied if read.namespaces is None else read.namespaces)):
        yield f"there is no namespace {name}: kubectl apply would refuse what is in it; create it first"
    for kind in sorted({one.key.kind for one in overlay.objects} & read.missing):
        definition = f"CustomResourceDefinition {KINDS[kind].plural}.{KINDS[kind].group}"
        yield f"the cluster has no {kind}: kubectl apply would refuse it; install the {definition} first"


def _counts(one: Stored, store: Store) -> bool:
    """A Namespace that the files only imply says less than the cluster's."""
    return bool(one.origin.file) or store.get(one.key) is None


def _applied(new: Stored, old: Stored | None, now: datetime) -> Stored:
    found = new.object
    # The API server gives a new Ingress the default class; the compiler does so for one without uid.
    uid = NEW if old is None else old.object.metadata.uid
    if isinstance(found, Ingress):
        uid = ""
        if old is not None and isinstance(old.object, Ingress) and found.spec.ingress_class_name is None:
            spec = msgspec.structs.replace(found.spec, ingress_class_name=old.object.spec.ingress_class_name)
            found = msgspec.structs.replace(found, spec=spec)
    created = now if old is None else old.object.metadata.creation_timestamp
    metadata = msgspec.structs.replace(found.metadata, uid=uid, creation_timestamp=created)
    replaced = msgspec.structs.replace(cast("Part", found), metadata=metadata)
    return msgspec.structs.replace(new, object=cast("Object", replaced))
