"""What the cluster has of our objects, by fleet; filled by the observer, read by the applier.

An object that says nothing of its fleet, or names one that it cannot be of, is not in here, nor is one of another
Portway. As long as a kind has not been listed,
nothing is known of its objects, and nothing may be concluded from their absence.
"""

from collections.abc import Mapping
from typing import Protocol, final

from msgspec.structs import replace

from portway.infra.kubernetes.addresses import NodeView, PodView
from portway.infra.kubernetes.manifests import RESOURCES, Ref, Resource
from portway.infra.kubernetes.seen import Seen


class Listener(Protocol):
    """Is told when something else is known of fleets."""

    def __call__(self, fleets: frozenset[str] | None, *, is_work: bool) -> None:
        """
        Args:
            fleets: names; `None`: of all.
            is_work: there may be something to do for it; else it is only another state to tell of.
        """
        ...


@final
class Inventory:
    """Our objects in the cluster."""

    def __init__(self, controller: str) -> None:
        """
        Args:
            controller: our label (`names.controller_label`).
        """
        self.controller = controller
        self.unlisted: dict[Resource, str] = dict.fromkeys(RESOURCES, "")
        """Kinds that have not been listed, with the reason if there is one."""
        self.refused: set[Resource] = set()
        """Those of them that we may not list: no waiting helps."""
        self._fleets: dict[str, dict[Ref, Seen]] = {}
        self._fleet_of: dict[Ref, str] = {}
        self._nodes: dict[str, NodeView] = {}
        self._pods: dict[tuple[str, str], PodView] = {}
        self._written: dict[Ref, Seen] = {}
        """What the API server answered to what we wrote, until it is heard of in the usual way."""
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Have somebody told of changes."""
        self._listeners.append(listener)

    @property
    def is_listed(self) -> bool:
        """Whether all there is of ours is known."""
        return not self.unlisted

    def fleets(self) -> frozenset[str]:
        """Names of fleets that there are objects of."""
        return frozenset(self._fleets)

    def of_fleet(self, name: str) -> Mapping[Ref, Seen]:
        """The objects of a fleet."""
        return self._fleets.get(name, {})

    @property
    def nodes(self) -> tuple[NodeView, ...]:
        return tuple(self._nodes.values())

    @property
    def pods(self) -> tuple[PodView, ...]:
        return tuple(self._pods.values())

    def wrote(self, seen: Seen) -> None:
        """We have just written an object; the API server answered with this version.

        Others may have written since, and that may have been heard of before the answer came.
        """
        known = self.of_fleet(seen.fleet).get(seen.ref)
        if known is not None and known.uid == seen.uid and known.version > seen.version:
            return
        self._written[seen.ref] = seen
        self._note(seen)

    def note(self, seen: Seen) -> None:
        """An object is there, in this version. One that is older than what we wrote is on its way still."""
        written = self._written.get(seen.ref)
        if written is not None and written.uid == seen.uid and seen.version < written.version:
            return
        self._written.pop(seen.ref, None)
        self._note(seen)

    def _note(self, seen: Seen) -> None:
        former = self._fleet_of.get(seen.ref)
        ours = seen.controller == self.controller and seen.is_of_its_fleet
        if former is not None and (not ours or former != seen.fleet):
            self.forget(seen.ref)
        before = self.of_fleet(seen.fleet).get(seen.ref)
        if not ours:
            return
        if before is not None and replace(before, version=seen.version) == seen:
            self._fleets[seen.fleet][seen.ref] = seen
            return
        self._fleets.setdefault(seen.fleet, {})[seen.ref] = seen
        self._fleet_of[seen.ref] = seen.fleet
        self._tell(frozenset((seen.fleet,)), is_work=before is None or _work_of(before) != _work_of(seen))

    def forget(self, ref: Ref) -> None:
        """An object is gone, or not ours any more."""
        self._written.pop(ref, None)
        fleet = self._fleet_of.pop(ref, None)
        if fleet is None:
            return
        objects = self._fleets[fleet]
        del objects[ref]
        if not objects:
            del self._fleets[fleet]
        self._tell(frozenset((fleet,)), is_work=True)

    def listed(self, resource: Resource) -> None:
        """All that exists of a kind has been noted. What we wrote before that is in it, or lost with a backup."""
        for ref in [ref for ref in self._written if ref.resource == resource]:
            del self._written[ref]
        self.refused.discard(resource)
        if self.unlisted.pop(resource, None) is not None:
            self._tell(None, is_work=True)

    @property
    def is_settled(self) -> bool:
        """Whether all that we may know of ours is known."""
        return self.unlisted.keys() <= self.refused

    def not_listed(self, resource: Resource, reason: str, *, refused: bool = False) -> None:
        """A kind cannot be followed; what is known of it stays.

        Args:
            refused: we lack the right; else it is an outage that ends.
        """
        if refused and resource in self.unlisted:
            self.refused.add(resource)
        if self.unlisted.get(resource, reason) != reason:
            self.unlisted[resource] = reason
            self._tell(None, is_work=True)

    def note_node(self, node: NodeView) -> None:
        if self._nodes.get(node.name) != node:
            self._nodes[node.name] = node
            self._tell(None, is_work=False)

    def forget_node(self, name: str) -> None:
        if self._nodes.pop(name, None) is not None:
            self._tell(None, is_work=False)

    def note_pod(self, pod: PodView) -> None:
        key = (pod.namespace, pod.name)
        if self._pods.get(key) != pod:
            self._pods[key] = pod
            self._tell(None, is_work=False)

    def forget_pod(self, namespace: str, name: str) -> None:
        if self._pods.pop((namespace, name), None) is not None:
            self._tell(None, is_work=False)

    def _tell(self, fleets: frozenset[str] | None, *, is_work: bool) -> None:
        for listener in self._listeners:
            listener(fleets, is_work=is_work)


def _work_of(seen: Seen) -> tuple[object, ...]:
    """What something may have to be done about."""
    return seen.uid, seen.body, seen.has_owned_replicas, seen.is_settled
