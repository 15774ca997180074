"""What has been reported and not yet been handed out: coalesced, endpoints first. Pure."""

from collections.abc import Iterable, Iterator
from typing import Final, final

from portway.objects.verdict import ObjectKey
from portway.store import ChangeSet, Finding, Stored

EARLY_KINDS: Final = frozenset({"EndpointSlice"})
"""Handed out before the rest: compiling a thousand new routes must not delay an endpoint that is gone."""


@final
class Batch:
    """The newest of each object; an object that came and went in one batch leaves a removal, which harms nobody."""

    def __init__(self) -> None:
        self._changed: dict[ObjectKey, Stored] = {}
        self._removed: dict[ObjectKey, None] = {}
        self._findings: dict[str, tuple[Finding, ...]] = {}
        self._said: set[str] = set()
        """Items with findings."""

    def __len__(self) -> int:
        return len(self._changed) + len(self._removed) + len(self._findings)

    def put(self, stored: Stored) -> None:
        self._removed.pop(stored.key, None)
        self._changed[stored.key] = stored

    def remove(self, key: ObjectKey) -> None:
        self._changed.pop(key, None)
        self._removed[key] = None

    def say(self, item: str, findings: Iterable[Finding] = ()) -> None:
        """All there is to say about an item now."""
        found = tuple(findings)
        if found:
            self._said.add(item)
        elif item in self._said:
            self._said.discard(item)
        else:
            return
        self._findings[item] = found

    @property
    def said(self) -> int:
        """Items about which there is something to say."""
        return len(self._said)

    def take(self, *, synced: bool = False) -> Iterator[ChangeSet]:
        """Hand everything out."""
        changed, self._changed = self._changed, {}
        removed, self._removed = self._removed, {}
        findings, self._findings = self._findings, {}
        early = [stored for key, stored in changed.items() if key.kind in EARLY_KINDS]
        early_removed = [key for key in removed if key.kind in EARLY_KINDS]
        rest = [stored for key, stored in changed.items() if key.kind not in EARLY_KINDS]
        rest_removed = [key for key in removed if key.kind not in EARLY_KINDS]
        if early or early_removed:
            yield ChangeSet(changed=early, removed=early_removed)
        if rest or rest_removed or findings or synced:
            yield ChangeSet(changed=rest, removed=rest_removed, findings=findings, synced=synced)
