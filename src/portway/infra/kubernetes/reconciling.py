"""What has to be done so that a fleet's objects are as wanted; pure.

An object is left alone if it says all that is wanted of it. The API server writes some things in another way than they
were given (`0.5` CPU becomes `500m`), so after something was applied what counts is whether it still says what it said
then. The digest in an annotation tells of fields that are not wanted any more.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import cast

import msgspec

from portway.infra.kubernetes.manifests import DAEMON_SET, DEPLOYMENT, Manifest, Ref, Resource, encode
from portway.infra.kubernetes.names import APPLIED, CONTROLLER, DECLARED, MANAGED_BY
from portway.infra.kubernetes.seen import Seen
from portway.infra.kubernetes.values import Data

_WORKLOADS = frozenset((DEPLOYMENT, DAEMON_SET))


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """How an object looked when it had just been applied."""

    body: bytes
    """What was applied."""
    shown: bytes
    """What the API server showed of it then."""


class Act(StrEnum):
    APPLY = "apply"
    SET_INITIAL = "set initial"
    """Before `APPLY` where the object is there, so that nothing falls back meanwhile; after it where it is not."""
    DELETE = "delete"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One request."""

    act: Act
    ref: Ref
    body: bytes = b""
    is_update: bool = False
    """Another version of a workload, though its users have said nothing else: Portway's own wish, which can wait."""
    uid: str = ""
    """Of what is deleted."""


def steps_of(
    wanted: Sequence[Manifest],
    seen: Mapping[Ref, Seen],
    settled: Mapping[Ref, Settled],
    *,
    unlisted: Container[Resource] = (),
    waits_for_successor: bool = True,
) -> list[Step]:
    """What to do for one fleet, in order.

    Args:
        wanted: its objects, in the order in which they are made; not of a fleet that is held.
        seen: its objects that are there.
        settled: how they looked when they had been applied.
        unlisted: kinds of which not all is known: what is there may be another's, or not be there; they are left alone.
        waits_for_successor: a workload that is not wanted any more stays until the other kind's is ready; not where
            both want the same ports of a Node.
    """
    found: list[Step] = []
    for manifest in wanted:
        if manifest.ref.resource in unlisted:
            continue
        found += _steps_for(manifest, seen.get(manifest.ref), settled.get(manifest.ref))
    refs = {manifest.ref for manifest in wanted}
    replaced_by = next((seen.get(ref) for ref in refs if ref.resource in _WORKLOADS), None)
    for ref, there in sorted(seen.items()):
        if ref in refs or ref.resource in unlisted:
            continue
        if ref.resource in _WORKLOADS and waits_for_successor and not (replaced_by and replaced_by.is_settled):
            continue
        found.append(Step(act=Act.DELETE, ref=ref, uid=there.uid))
    return found


def _steps_for(manifest: Manifest, there: Seen | None, settled: Settled | None) -> Iterable[Step]:
    is_update = there is not None and _is_own_wish(manifest, there)
    apply = Step(act=Act.APPLY, ref=manifest.ref, body=manifest.body, is_update=is_update)
    if there is None:
        yield apply
        if manifest.initial is not None:
            yield Step(act=Act.SET_INITIAL, ref=manifest.ref, body=encode(manifest.initial))
        return
    if manifest.initial is not None and not there.has_owned_replicas:
        yield Step(act=Act.SET_INITIAL, ref=manifest.ref, body=encode(_as_it_is(manifest.initial, there)))
    if not is_as_wanted(manifest, there, settled):
        yield apply


def _is_own_wish(manifest: Manifest, there: Seen) -> bool:
    """Something else was applied to this workload, though its users have said the same. (If the same was applied,
    somebody has changed it since.)"""
    if manifest.ref.resource not in _WORKLOADS:
        return False
    said = cast("Mapping[str, str]", cast("Data", manifest.data["metadata"])["annotations"])
    return there.applied != said[APPLIED] and there.declared in ("", said[DECLARED])


def _as_it_is(initial: Data, there: Seen) -> Data:
    """The initial fields with the number of replicas that somebody wanted so far. A Deployment has 1 if nobody ever
    said anything, which is what the initial number is for."""
    spec = cast("Data", initial["spec"])
    current = cast("Data", there.data.get("spec", {})).get("replicas")
    return {**initial, "spec": {**spec, "replicas": current if current not in (None, 1) else spec["replicas"]}}


def is_as_wanted(manifest: Manifest, there: Seen, settled: Settled | None) -> bool:
    """Whether nothing need be written."""
    shown = shown_of(manifest, there)
    return shown == manifest.body or (settled is not None and settled.body == manifest.body and settled.shown == shown)


def shown_of(manifest: Manifest, there: Seen) -> bytes:
    """What an object says about the fields that are wanted."""
    return encode(cast("Data", _projected(there.data, manifest.data)))


def _projected(there: object, wanted: object) -> object:
    if isinstance(wanted, Mapping) and isinstance(there, Mapping):
        return {key: _projected(there[key], value) for key, value in wanted.items() if key in there}
    if isinstance(wanted, list | tuple) and isinstance(there, list) and len(wanted) == len(there):
        return [_projected(one, other) for one, other in zip(there, wanted, strict=True)]
    return there


def why_foreign(there: Seen, controller: str, fleet: str) -> str:
    """Why an object with the name of one of ours is not ours; empty: it is, though somebody may have taken away our
    label, or changed or taken away the name of the fleet: the other one of the two tells."""
    says_fleet = there.fleet == fleet or not there.is_of_its_fleet
    if (there.controller == controller and says_fleet) or (not there.controller and there.fleet == fleet):
        return ""
    labels = cast("Data", cast("Data", there.data["metadata"]).get("labels", {}))
    if labels.get(MANAGED_BY) != "portway" or not there.controller:
        return f"{there.ref} is there already, and not Portway's; rename or delete it"
    if there.controller != controller:
        return (
            f"{there.ref} belongs to another Portway (its label {CONTROLLER} is {there.controller}, ours {controller});"
            " delete it if that one is gone"
        )
    return f"{there.ref} belongs to the fleet {there.fleet}; rename one of the two"
