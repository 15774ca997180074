"""Who may refer to what in another namespace.

A grant is found by all that it says, so a query that asks for one permission reads two index entries and no grant; a
grant that comes or goes wakes just those who asked for what it allows.

Source: Gateway API, `ReferenceGrant`; permission is judged before existence.
"""

from collections.abc import Hashable, Iterable
from typing import cast

from portway.objects.gateway_policies_v1 import ReferenceGrant
from portway.objects.kinds import KINDS
from portway.objects.meta import Object
from portway.objects.verdict import ObjectKey
from portway.store import Index, Reads
from portway.translate.absent import is_unread


def _permissions(found: Object) -> Iterable[Hashable]:
    grant = cast("ReferenceGrant", found)
    for source in grant.spec.from_:
        for target in grant.spec.to:
            yield (
                (source.group, source.kind, source.namespace),
                (target.group, target.kind, grant.metadata.namespace, target.name or ""),
            )


GRANTS = Index("permissions of ReferenceGrants", "ReferenceGrant", _permissions)


def is_permitted(ctx: Reads, source: ObjectKey, target: ObjectKey) -> bool:
    """Whether `source` may refer to `target`; always within one namespace, and where grants could not be read.

    Args:
        ctx: where grants are read.
        source: the object with the reference; its kind is one that Portway reads.
        target: what it names, existing or not.
    """
    if source.namespace == target.namespace:
        return True
    asking = (KINDS[source.kind].group, source.kind, source.namespace)
    asked = (KINDS[target.kind].group, target.kind, target.namespace)
    if GRANTS.read(ctx, (asking, (*asked, ""))) or GRANTS.read(ctx, (asking, (*asked, target.name))):
        return True
    return is_unread(ctx, ObjectKey("ReferenceGrant", target.namespace, ""))


def remedy(source: ObjectKey, target: ObjectKey) -> str:
    """What the owner of the target can do."""
    return f"a ReferenceGrant in {target.namespace} must allow {source.kind} from {source.namespace}"
