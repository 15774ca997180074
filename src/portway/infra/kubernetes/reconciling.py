"""What has to be done so that a fleet's objects are as wanted; pure.

An object is left alone if it says all that is wanted of it. The API server writes some things in another way than they
were given (`0.5` CPU becomes `500m`), so after something was applied what counts is whether it still says what it said
then. The digest in an annotation tells of fields that are not wanted any more.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, cast

import msgspec

from portway.infra.kubernetes.manifests import DAEMON_SET, DEPLOYMENT, Manifest, Ref, Resource, encode
from portway.infra.kubernetes.names import CONTROLLER, DECLARED, MANAGED_BY, TEMPLATE
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


class Update(StrEnum):
    """Whose wish it is that all pods of a workload are made anew."""

    OWN = "own"
    """Its owner's, or that of the FleetParameters which the owner names."""
    SHARED = "shared"
    """That of something which changes other fleets, too: the parameters of a class, another version of Portway."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One request."""

    act: Act
    ref: Ref
    body: bytes = b""
    update: Update | None = None
    """It makes all pods of a fleet anew, so it may have to wait for its turn. Then all but `APPLY` waits that follows:
    the pods that are there may still need what goes."""
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
    workloads = [there for ref, there in seen.items() if ref.resource in _WORKLOADS]
    for manifest in wanted:
        if manifest.ref.resource in unlisted:
            continue
        there = seen.get(manifest.ref)
        update = _update_of(manifest, [there] if there else workloads) if manifest.ref.resource in _WORKLOADS else None
        found += _steps_for(manifest, there, settled.get(manifest.ref), update)
    refs = {manifest.ref for manifest in wanted}
    replaced_by = next((seen.get(ref) for ref in refs if ref.resource in _WORKLOADS), None)
    for ref, there in sorted(seen.items()):
        if ref in refs or ref.resource in unlisted:
            continue
        if ref.resource in _WORKLOADS and waits_for_successor and not (replaced_by and replaced_by.is_settled):
            continue
        found.append(Step(act=Act.DELETE, ref=ref, uid=there.uid))
    return found


def _steps_for(
    manifest: Manifest, there: Seen | None, settled: Settled | None, update: Update | None
) -> Iterable[Step]:
    apply = Step(act=Act.APPLY, ref=manifest.ref, body=manifest.body, update=update)
    if there is None:
        yield apply
        if manifest.initial is not None:
            yield Step(act=Act.SET_INITIAL, ref=manifest.ref, body=encode(manifest.initial))
        return
    if manifest.initial is not None and not there.has_owned_replicas:
        yield Step(act=Act.SET_INITIAL, ref=manifest.ref, body=encode(_as_it_is(manifest.initial, there)))
    if not is_as_wanted(manifest, there, settled):
        yield apply


def _update_of(manifest: Manifest, former: Sequence[Seen]) -> Update | None:
    """Whether a workload makes pods anew. `None`: it is the first one, or the template that was applied is the same.
    (If that is not what is there, somebody has changed it since.)

    Args:
        former: itself as it is there; else that of the other kind, whose successor it is.
    """
    said = cast("Mapping[str, str]", cast("Data", manifest.data["metadata"])["annotations"])
    if not former or any(there.ref == manifest.ref and there.template == said[TEMPLATE] for there in former):
        return None
    return Update.SHARED if any(_is_same_owner_word(there.declared, said[DECLARED]) for there in former) else Update.OWN


def _is_same_owner_word(former: str, now: str) -> bool:
    """Whether `DECLARED` says the same. Whether pods have ports at all the parameters say, maybe those of a class."""
    words, _, ports = former.partition(".")
    new_words, _, new_ports = now.partition(".")
    return words in ("", new_words) and (not ports or not new_ports or ports == new_ports)


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


class Foreign(NamedTuple):
    """An object with the name of one of ours that is not ours."""

    reason: str
    of_portway: bool = False
    """It is another Portway's."""


def why_foreign(there: Seen, controller: str, fleet: str) -> Foreign | None:
    """Why an object with the name of one of ours is not ours; `None`: it is, though somebody may have taken away our
    label, or changed or taken away the name of the fleet: the other one of the two tells."""
    says_fleet = there.fleet == fleet or not there.is_of_its_fleet
    if (there.controller == controller and says_fleet) or (not there.controller and there.fleet == fleet):
        return None
    labels = cast("Data", cast("Data", there.data["metadata"]).get("labels", {}))
    if labels.get(MANAGED_BY) != "portway" or not there.controller:
        return Foreign(f"{there.ref} is there already, and not Portway's; rename or delete it")
    if there.controller != controller:
        return Foreign(
            f"{there.ref} belongs to another Portway (its label {CONTROLLER} is {there.controller}, ours {controller});"
            " delete it if that one is gone",
            of_portway=True,
        )
    return Foreign(f"{there.ref} belongs to the fleet {there.fleet}; rename one of the two")
