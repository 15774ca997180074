"""What stands under the names of a fleet's objects, where nothing of the kind has been heard of.

Objects are followed by their label, so one that has lost it is not heard of any more; nor is one whose annotation names
a fleet that it cannot be of. They are found here by their names, and so put right. What somebody else has made is left
alone.
"""

from collections.abc import Container, Iterable, Mapping
from typing import Protocol

from portway.infra.kubernetes.manifests import Manifest, Ref, Resource
from portway.infra.kubernetes.reconciling import Foreign, why_foreign
from portway.infra.kubernetes.seen import Seen, read_seen
from portway.kubernetes.errors import ApiError
from portway.kubernetes.paths import resource_path


class Reader(Protocol):
    """What is needed of `portway.kubernetes.client.ApiClient`."""

    async def get(self, path: str) -> bytes: ...


async def look(
    client: Reader,
    wanted: Iterable[Manifest],
    known: Mapping[Ref, Seen],
    *,
    controller: str,
    fleet: str,
    unlisted: Container[Resource],
) -> tuple[Mapping[Ref, Seen], Mapping[Ref, Foreign]]:
    """Look at the objects of a fleet that are wanted and not known.

    Args:
        known: its objects that have been heard of.
        controller: our label.
        unlisted: kinds of which nothing may be concluded; they are not asked for.

    Returns:
        All that is there of the fleet; why others, which have the name of one that is wanted, are not ours.

    Raises:
        ApiError, ApiUnreachable: an object cannot be read.
        msgspec.MsgspecError: it is not understood.
    """
    there, foreign = dict(known), dict[Ref, Foreign]()
    for ref in (manifest.ref for manifest in wanted):
        if ref in known or ref.resource in unlisted:
            continue
        try:
            answer = await client.get(path_of(ref))
        except ApiError as error:
            if error.status != 404:
                raise
            continue
        seen = read_seen(ref.resource, answer)
        if reason := why_foreign(seen, controller, fleet):
            foreign[ref] = reason
        else:
            there[ref] = seen
    return there, foreign


def path_of(ref: Ref) -> str:
    """Where an object is."""
    return resource_path(ref.resource.group, ref.resource.version, ref.resource.plural, ref.namespace, ref.name)
