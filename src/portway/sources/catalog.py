"""All that files declare, and the change sets that follow from a changed file. Pure.

An object belongs to the first file (by path), in it to the first document, that declares it; the others are errors
that name both places. When the first goes away the next takes over. A Namespace that nobody declares exists as long as
something is in it, as in a cluster where it had to be created first.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, final

import msgspec

from portway.objects.core_v1 import Namespace
from portway.objects.discovery_v1 import EndpointSlice
from portway.objects.meta import Meta, Object
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.store import ChangeSet, Finding, Origin, Stored

NAME_LABEL: Final = "kubernetes.io/metadata.name"
"""Set on every Namespace by the API server (Kubernetes documentation, "Namespaces", automatic labelling)."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """One declaration of an object."""

    file: str
    line: int
    """First line of its document."""
    index: int
    """Among the objects of its chunk: items of a list can stand on one line."""
    key: ObjectKey
    object: Object
    generation: int
    chunk: bytes
    """Digest of the text that it came from."""


@final
class Catalog:
    """Claims of all files. Cost of a change: its claims."""

    def __init__(self) -> None:
        self._claims: dict[ObjectKey, list[Claim]] = {}
        self._reported: dict[ObjectKey, Claim] = {}
        self._population: dict[str, int] = {}
        self._said: dict[str, tuple[Finding, ...]] = {}
        self._losers: dict[str, dict[ObjectKey, list[Claim]]] = {}
        self._contested: dict[ObjectKey, frozenset[str]] = {}
        self._findings: dict[str, tuple[Finding, ...]] = {}
        self._dirty_keys: dict[ObjectKey, None] = {}
        self._dirty_items: dict[str, None] = {}

    def __len__(self) -> int:
        """Number of objects, synthesised Namespaces left out."""
        return len(self._reported)

    def owner(self, key: ObjectKey) -> Claim | None:
        """The declaration that is served."""
        return self._reported.get(key)

    def change(self, withdrawn: Iterable[Claim], declared: Iterable[Claim]) -> None:
        """Declarations that are there no more, and new ones."""
        for claim in withdrawn:
            claims = self._claims[claim.key]
            del claims[next(index for index, other in enumerate(claims) if other is claim)]
            if not claims:
                del self._claims[claim.key]
            self._dirty_keys[claim.key] = None
        for claim in declared:
            self._claims.setdefault(claim.key, []).append(claim)
            self._dirty_keys[claim.key] = None

    def say(self, item: str, findings: tuple[Finding, ...]) -> None:
        """All there is to say about an item (a file) now, duplicates apart."""
        if self._said.get(item, ()) == findings:
            return
        if findings:
            self._said[item] = findings
        else:
            del self._said[item]
        self._dirty_items[item] = None

    def flush(self, awaited: Collection[ObjectKey] = ()) -> list[ChangeSet]:
        """What changed since the last time: changes first, then objects that only moved to another line, in slices.
        `awaited`: objects that are not removed yet, as they may be declared again in a moment."""
        changed: list[Stored] = []
        moved: list[Stored] = []
        removed: list[ObjectKey] = []
        later: dict[ObjectKey, None] = {}
        namespaces: dict[str, None] = {}
        for key in self._dirty_keys:
            claims = self._claims.get(key, ())
            before = self._reported.get(key)
            self._settle_losers(key, claims)
            if not claims:
                if before is not None and key in awaited:
                    later[key] = None
                elif before is not None:
                    del self._reported[key]
                    removed.append(key)
                    self._mark_namespace(key, -1, namespaces)
                continue
            first = min(claims, key=_place)
            self._reported[key] = first
            if before is None:
                self._mark_namespace(key, 1, namespaces)
            if before is not None and before.object == first.object and before.generation == first.generation:
                if (before.file, before.line) != (first.file, first.line):
                    moved.append(_stored(first))
            else:
                changed.append(_stored(first))
        removed = self._settle_namespaces(namespaces, changed, removed)
        findings = dict(self._changed_findings())
        self._dirty_keys = later
        self._dirty_items.clear()
        sets = (
            [ChangeSet(changed=changed, removed=removed, findings=findings)] if changed or removed or findings else []
        )
        return [*sets, *_slices(moved)]

    def flush_endpoints(self) -> Iterator[ChangeSet]:
        """Endpoints that came or went, ahead of all else that changed with them: other objects of a bulk change may
        need one another, these are urgent and need nobody. Only known slices whose ports are called as before."""
        changed: list[Stored] = []
        for key in self._dirty_keys:
            before = self._reported.get(key)
            claims = self._claims.get(key)
            if key.kind != EndpointSlice.__name__ or before is None or not claims:
                continue
            first = min(claims, key=_place)
            if first.object != before.object and _differ_in_endpoints_only(first.object, before.object):
                self._reported[key] = first
                changed.append(_stored(first))
        if changed:
            yield ChangeSet(changed=changed)

    def _mark_namespace(self, key: ObjectKey, count: int, touched: dict[str, None]) -> None:
        if key.kind == Namespace.__name__:
            touched[key.name] = None
        elif key.namespace:
            now = self._population.get(key.namespace, 0) + count
            if now:
                self._population[key.namespace] = now
            else:
                del self._population[key.namespace]
            if now == max(count, 0):  # the first came or the last went
                touched[key.namespace] = None

    def _settle_namespaces(
        self, touched: Iterable[str], changed: list[Stored], removed: list[ObjectKey]
    ) -> list[ObjectKey]:
        for name in touched:
            key = ObjectKey(Namespace.__name__, "", name)
            if key in self._claims:
                continue
            if name in self._population:
                changed.append(Stored(key, _synthesised(name)))
                removed = [other for other in removed if other != key]
            elif key not in removed:
                removed.append(key)
        return removed

    def _settle_losers(self, key: ObjectKey, claims: Sequence[Claim]) -> None:
        """Remember which declarations of an object are not served."""
        files = self._contested.pop(key, frozenset())
        for file in files:
            losers = self._losers[file]
            del losers[key]
            if not losers:
                del self._losers[file]
        self._dirty_items.update(dict.fromkeys(files))
        if len(claims) < 2:
            return
        for claim in sorted(claims, key=_place)[1:]:
            self._losers.setdefault(claim.file, {}).setdefault(key, []).append(claim)
        self._contested[key] = frozenset(claim.file for claim in sorted(claims, key=_place)[1:])
        self._dirty_items.update(dict.fromkeys(self._contested[key]))

    def _changed_findings(self) -> Iterator[tuple[str, tuple[Finding, ...]]]:
        for item in self._dirty_items:
            losers = (claim for claims in self._losers.get(item, {}).values() for claim in claims)
            duplicates = [self._duplicate(claim) for claim in sorted(losers, key=_place)]
            findings = (*self._said.get(item, ()), *duplicates)
            if findings != self._findings.get(item, ()):
                if findings:
                    self._findings[item] = findings
                else:
                    del self._findings[item]
                yield item, findings

    def _duplicate(self, claim: Claim) -> Finding:
        first = self._reported[claim.key]
        verdict = Verdict(
            object=claim.key,
            severity=Severity.ERROR,
            reason="Duplicate",
            problem=f"declared twice: {Origin(first.file, first.line)} comes first and is served, this one is not",
            remedy="remove or rename one of the two",
        )
        return Finding(verdict, claim.file, claim.line)


def _differ_in_endpoints_only(new: Object, old: Object) -> bool:
    if not isinstance(new, EndpointSlice) or not isinstance(old, EndpointSlice):
        return False
    ports = tuple(msgspec.structs.replace(port, port=None) for port in new.ports)
    if ports != tuple(msgspec.structs.replace(port, port=None) for port in old.ports):
        return False  # Services find their ports by name
    return msgspec.structs.replace(new, endpoints=old.endpoints, ports=old.ports) == old


def _place(claim: Claim) -> tuple[str, int, int]:
    return claim.file, claim.line, claim.index


def _stored(claim: Claim) -> Stored:
    return Stored(claim.key, claim.object, claim.generation, Origin(claim.file, claim.line))


def _synthesised(name: str) -> Namespace:
    return Namespace(metadata=Meta(name=name, labels={NAME_LABEL: name}))


_SLICE: Final = 500
"""Moved objects in one change set: applying them takes about a millisecond, so that nothing waits for them."""


def _slices(moved: Sequence[Stored]) -> Iterator[ChangeSet]:
    for start in range(0, len(moved), _SLICE):
        yield ChangeSet(changed=moved[start : start + _SLICE])
