"""What an object's status becomes when we say what we have to say: ours is replaced, everybody else's stays.

Who owns what differs by place. `conditions` is a map by type: types of ours are written, and removed when they are not
wanted any more, the others stay as they are. `listeners` is a map by name in the order of the spec. `parents` and
`ancestors` are lists in which each entry belongs to its `controllerName`. `addresses`, `attachedListenerSets` and
`supportedFeatures` have one owner, the controller of the object's class.

Pure: the object as the server has it and a statement give the new status, or nothing if it says so already. Merging
what was merged changes nothing.

Source: Gateway API, `RouteParentStatus`, `PolicyAncestorStatus`, `GatewayStatus`, `ListenerStatus`; Kubernetes API
conventions, "Typical status properties".
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from portway.model.condition import Condition, ListenerReport, ObjectReport
from portway.objects.verdict import ObjectKey
from portway.status import references
from portway.status.raw import Raw, as_list, as_map, as_number, as_text, generation_of, uid_of
from portway.status.shapes import HAVE_LISTENERS, POLICIES

T = TypeVar("T")

OWN_CONDITIONS: Final = frozenset(
    {
        "Accepted",
        "Conflicted",
        "InsecureFrontendValidationMode",
        "OverlappingTLSConfig",
        "PartiallyInvalid",
        "Programmed",
        "ResolvedRefs",
        "SupportedVersion",
    }
)
"""Types that the controller of an object writes, so that one that is not said any more is removed."""
OWN_PREFIX: Final = "portway.dev/"

MAX_CONDITIONS: Final = 8
MAX_PARENTS: Final = 32
MAX_ANCESTORS: Final = 16
MAX_ADDRESSES: Final = 16
MAX_FEATURES: Final = 64
MAX_MESSAGE: Final = 32_768
"""Characters. This and those above: Gateway API's CRDs."""
MAX_MESSAGES: Final = 256 * 1024
"""Characters of all messages of an object: 32 parents with the longest ones would not fit into etcd (1.5 MiB)."""


class LoadBalancerPort(msgspec.Struct, frozen=True, kw_only=True):
    port: int
    protocol: str = "TCP"


class LoadBalancerAddress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of `status.loadBalancer.ingress`; either an IP address or a host name."""

    ip: str = ""
    hostname: str = ""
    ports: tuple[LoadBalancerPort, ...] = ()


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """All that we have to say about one object."""

    report: ObjectReport
    """`Programmed` included (`programmed.py`). Not `ours`: what we said before is taken back."""
    generation: int
    """`metadata.generation` of the object that the report was computed from."""
    uid: str = ""
    """Of that object; one of the same name that was made since gets a statement of its own. Empty: not known."""
    load_balancer: tuple[LoadBalancerAddress, ...] | None = None
    """Of an Ingress: where it is served. `None`: `status.loadBalancer` is left as it is."""

    @property
    def key(self) -> ObjectKey:
        return self.report.object

    @property
    def says_something(self) -> bool:
        """Whether we say anything about the object; else what we said before, if anything, is taken back."""
        return self.report.ours and (self.key.kind != "Ingress" or self.load_balancer is not None)


class Merged(NamedTuple):
    """What becomes of a status."""

    status: dict[str, object] | None
    """`None`: nothing has to be written."""
    left_out: tuple[str, ...] = ()
    """What found no room beside the entries of others, in words."""
    is_stale: bool = False
    """The statement is about an object that is not there any more, or about a generation that somebody has spoken of
    since: a newer one is to be expected, and this one must not be written."""


def merge(current: Raw, statement: Statement, *, controller: str, now: str, before: Statement | None = None) -> Merged:
    """The status with our statement in it.

    Args:
        current: the whole object as the server has it.
        statement: what is to be said.
        controller: our `controllerName`.
        now: for conditions whose status moves, as the API writes times.
        before: the last statement about this object that we know to have been written: where an object has left us,
            only what we said ourselves is taken back, as a new owner may have spoken already.
    """
    if statement.uid and uid_of(current) not in ("", statement.uid):
        return Merged(None, is_stale=True)
    old = as_map(current.get("status"))
    pen = _Pen(statement, now)
    report = statement.report
    if report.elsewhere:
        return Merged(None)
    if statement.generation < generation_of(current) and _is_ahead(old, report, controller, statement.generation):
        return Merged(None, is_stale=True)
    if report.object.kind in references.HAVE_PARENTS:
        field = "ancestors" if report.object.kind in POLICIES else "parents"
        changed: dict[str, object] = {field: _entries(current, as_list(old.get(field)), report, controller, pen)}
    elif not report.ours:
        changed = {} if before is None else _taken_back(old, before)
    elif report.object.kind == "Ingress":
        changed = {} if statement.load_balancer is None else {"loadBalancer": _load_balancer(statement)}
    else:
        changed = dict(_own_fields(old, report, pen))
    new = {**old, **changed}
    for name, value in changed.items():
        if name not in old and value in ([], {}):
            del new[name]
    return Merged(None if new == old else new, tuple(dict.fromkeys(pen.left_out)))


def _own_fields(old: Raw, report: ObjectReport, pen: "_Pen") -> Iterator[tuple[str, object]]:
    """Fields of a status that belongs to the controller of the object."""
    yield "conditions", pen.conditions(old.get("conditions"), report.conditions, "")
    if report.object.kind in HAVE_LISTENERS:
        yield "listeners", _listeners(old.get("listeners"), report.listeners, pen)
    if report.object.kind == "Gateway":
        if report.addresses_known:
            addresses = pen.within(MAX_ADDRESSES, report.addresses, "addresses")
            yield "addresses", [{"type": type_, "value": value} for type_, value in addresses]
        yield "attachedListenerSets", report.attached_listener_sets
    if report.object.kind == "GatewayClass":
        features = pen.within(MAX_FEATURES, sorted(report.supported_features), "supportedFeatures")
        yield "supportedFeatures", [{"name": name} for name in features]


def _listeners(old: object, wanted: Iterable[ListenerReport], pen: "_Pen") -> list[object]:
    known = {as_text(as_map(entry).get("name")): as_map(entry) for entry in as_list(old)}
    found: list[object] = []
    for listener in wanted:
        entry = known.get(listener.name, {})
        found.append(
            {
                **entry,
                "name": listener.name,
                "supportedKinds": [{"group": group, "kind": kind} for group, kind in listener.supported_kinds],
                "attachedRoutes": listener.attached_routes,
                "conditions": pen.conditions(
                    entry.get("conditions"), listener.conditions, f"listener {listener.name}: "
                ),
            }
        )
    return found


def _entries(current: Raw, old: list[object], report: ObjectReport, controller: str, pen: "_Pen") -> list[object]:
    """`parents` or `ancestors`. Ours stay where they are, new ones come last."""
    name, limit = ("ancestorRef", MAX_ANCESTORS) if report.object.kind in POLICIES else ("parentRef", MAX_PARENTS)
    foreign = sum(as_map(entry).get("controllerName") != controller for entry in old)
    wanted = references.wanted_references(current, report)
    kept = pen.within(max(0, limit - foreign), list(wanted), "parents")
    mine = {identity: wanted[identity] for identity in kept}
    found: list[object] = []

    def entry_of(reference: references.Reference, before: Raw) -> dict[str, object]:
        place = f"{report.object.kind} to {reference.report.parent}: "
        return {
            **before,
            name: reference.raw,
            "controllerName": controller,
            "conditions": pen.conditions(before.get("conditions"), reference.report.conditions, place),
        }

    for item in old:
        entry = as_map(item)
        if entry.get("controllerName") != controller:
            found.append(item)
            continue
        reference = mine.pop(references.identity_of(as_map(entry.get(name)), report.object.namespace), None)
        if reference is not None:
            found.append(item if reference.report.elsewhere else entry_of(reference, entry))
    return found + [entry_of(reference, {}) for reference in mine.values() if not reference.report.elsewhere]


def _load_balancer(statement: Statement) -> dict[str, object]:
    addresses: list[Raw] = [
        {
            **({"ip": address.ip} if address.ip else {}),
            **({"hostname": address.hostname} if address.hostname else {}),
            **({"ports": [msgspec.to_builtins(port) for port in address.ports]} if address.ports else {}),
        }
        for address in statement.load_balancer or ()
    ]
    return {"ingress": addresses} if addresses else {}


class _Pen:
    """Writes conditions for one statement."""

    def __init__(self, statement: Statement, now: str) -> None:
        self._generation = statement.generation
        self._now = now
        report = statement.report
        holders = ((one.conditions for one in report.listeners), (one.conditions for one in report.parents))
        conditions = len(report.conditions) + sum(len(held) for each in holders for held in each)
        self._longest = min(MAX_MESSAGE, MAX_MESSAGES // max(1, conditions))
        self.left_out: list[str] = []

    def within(self, room: int, wanted: Sequence[T], what: str) -> Sequence[T]:
        """The first ones, as many as there is room for."""
        if len(wanted) > room:
            self.left_out.append(f"{len(wanted) - room} of {len(wanted)} {what}")
        return wanted[:room]

    def conditions(self, old: object, wanted: Sequence[Condition], place: str) -> list[object]:
        """A map of conditions with ours in it: those that are there stay in their place, new ones come last."""
        entries = [as_map(entry) for entry in as_list(old)]
        foreign = sum(not is_own(as_text(entry.get("type"))) for entry in entries)
        told = self.within(max(0, MAX_CONDITIONS - foreign), wanted, f"{place}conditions")
        mine = {condition.type: condition for condition in told}
        found: list[object] = []
        for entry in entries:
            condition = mine.pop(as_text(entry.get("type")), None)
            if condition is not None:
                found.append(self._condition(entry, condition))
            elif not is_own(as_text(entry.get("type"))):
                found.append(entry)
        return found + [self._condition({}, condition) for condition in mine.values()]

    def _condition(self, old: Raw, wanted: Condition) -> Raw:
        status = str(wanted.status)
        if wanted.provisional and old.get("status") == "True" and self._is_observed(old):
            return old
        moved = old.get("status") != status or not old.get("lastTransitionTime")
        return {
            "type": wanted.type,
            "status": status,
            "observedGeneration": self._generation,
            "reason": wanted.reason,
            "message": _cut(wanted.message, self._longest),
            "lastTransitionTime": self._now if moved else old["lastTransitionTime"],
        }

    def _is_observed(self, old: Raw) -> bool:
        return as_number(old.get("observedGeneration")) == self._generation


def is_own(condition_type: str) -> bool:
    """Whether conditions of this type are ours to write and to remove, on an object or entry that is ours."""
    return condition_type in OWN_CONDITIONS or condition_type.startswith(OWN_PREFIX)


def _cut(message: str, longest: int) -> str:
    return message if len(message) <= longest else f"{message[: longest - 3]}..."


def _own_conditions(status: Raw, report: ObjectReport, controller: str) -> Iterator[Raw]:
    """The conditions that we, or an older version of us, may have written."""
    if report.object.kind in references.HAVE_PARENTS:
        entries = (*as_list(status.get("parents")), *as_list(status.get("ancestors")))
        holders = [entry for entry in map(as_map, entries) if entry.get("controllerName") == controller]
    else:
        holders = [status]
    for holder in holders:
        yield from (entry for entry in map(as_map, as_list(holder.get("conditions"))))


def _is_ahead(status: Raw, report: ObjectReport, controller: str, generation: int) -> bool:
    """Whether what is written was observed at a later generation: an observedGeneration is never lowered. Asked only
    where the object is ahead too: a number that somebody made up must not silence us."""
    return any(
        is_own(as_text(entry.get("type"))) and as_number(entry.get("observedGeneration")) > generation
        for entry in _own_conditions(status, report, controller)
    )


def _taken_back(old: Raw, before: Statement) -> dict[str, object]:
    """The fields without what we said in them, word for word; what reads otherwise has another author by now."""
    if before.key.kind == "Ingress":
        said = None if before.load_balancer is None else _load_balancer(before)
        return {"loadBalancer": {}} if said and old.get("loadBalancer") == said else {}
    said_of = {condition.type: condition for condition in before.report.conditions}

    def is_ours(entry: Raw) -> bool:
        condition = said_of.get(as_text(entry.get("type")))
        return condition is not None and (
            entry.get("reason") == condition.reason
            and entry.get("message") == condition.message
            and as_number(entry.get("observedGeneration")) <= before.generation
        )

    entries = as_list(old.get("conditions"))
    left = [entry for entry in entries if not is_ours(as_map(entry))]
    if len(left) == len(entries):
        return {}
    changed: dict[str, object] = {"conditions": left}
    if any(is_own(as_text(as_map(entry).get("type"))) for entry in left):
        return changed
    # Nobody else has spoken yet, so the rest is still ours.
    for name, empty in (("listeners", []), ("addresses", []), ("attachedListenerSets", 0), ("supportedFeatures", [])):
        if name in old:
            changed[name] = empty
    return changed
