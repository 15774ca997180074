"""Objects that somebody else keeps changing: how often we put them right, and what is said of it.

What is changed once is put right at once. Who changes it again and again (a controller that wants the same field, a
webhook, a second GitOps tool) is answered ever more rarely: else two programs write to the API server as fast as they
can, and proxies start anew with every turn. Pure.

Source: Kubernetes, "Server-Side Apply", field management; `FieldsV1`.
"""

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias, cast, final

import msgspec

from portway.infra.kubernetes.manifests import Manifest, Ref
from portway.infra.kubernetes.names import MANAGER
from portway.infra.kubernetes.reconciling import Settled
from portway.infra.kubernetes.seen import INITIAL_MANAGER
from portway.infra.kubernetes.values import Data

AT_ONCE: Final = 2
"""Writes of one wish without a pause: the first one, and one that puts it right."""
FIRST: Final = 1.0
"""Seconds before the next one; doubled with each that follows."""
LONGEST: Final = 300.0
CALM: Final = 60.0
"""Seconds, at least, for which an object must stay as we wrote it until all is forgotten; or twice the last pause."""
MOST_FIELDS: Final = 3
"""That a message names."""

_OURS: Final = frozenset((MANAGER, INITIAL_MANAGER))
_Path: TypeAlias = "tuple[str | int, ...]"


class _Contest(msgspec.Struct):
    wish: bytes
    writes: int
    last: float

    @property
    def pause(self) -> float:
        return 0.0 if self.writes < AT_ONCE else min(LONGEST, FIRST * 2.0 ** min(self.writes - AT_ONCE, 30))

    @property
    def calm_at(self) -> float:
        return self.last + max(CALM, 2 * self.pause)


@final
class Contests:
    """What was written lately, by object. Times are seconds, never going back."""

    def __init__(self) -> None:
        self._written: dict[Ref, _Contest] = {}

    def clear(self) -> None:
        self._written.clear()

    def due(self, ref: Ref, wish: bytes, now: float) -> float:
        """When an object may be written that is not as it should be.

        Args:
            wish: what is to be written; empty: it is to be deleted. Another one than before is no contest.
        """
        found = self._written.get(ref)
        if found is None or found.wish != wish or now >= found.calm_at:
            return now
        return max(now, found.last + found.pause)

    def calm_at(self, ref: Ref) -> float:
        """From when on an object that stays as it is counts as undisputed."""
        found = self._written.get(ref)
        return 0.0 if found is None else found.calm_at

    def wrote(self, ref: Ref, wish: bytes, now: float) -> None:
        """It has just been written."""
        found = self._written.get(ref)
        is_again = found is not None and found.wish == wish and now < found.calm_at
        writes = found.writes + 1 if found is not None and is_again else 1
        self._written[ref] = _Contest(wish=wish, writes=writes, last=now)

    def forget(self, ref: Ref) -> None:
        """Nobody wants it any more."""
        self._written.pop(ref, None)


class _Entry(msgspec.Struct, frozen=True, rename="camel"):
    manager: str = ""
    fields: dict[str, object] = msgspec.field(default_factory=dict, name="fieldsV1")


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    managed_fields: tuple[_Entry, ...] = ()


class _View(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()


def say_contested(manifest: Manifest, settled: Settled | None, answer: bytes) -> str:
    """Which fields of an object are changed by whom; empty: it is as it should be.

    Args:
        settled: how it looked when it had been applied.
        answer: the object as the API server shows it now, with `managedFields`.

    Raises:
        msgspec.MsgspecError: it is no object.
    """
    there = cast("Data", msgspec.json.decode(answer))
    entries = msgspec.json.decode(answer, type=_View).metadata.managed_fields
    is_known = settled is not None and settled.body == manifest.body
    wanted = cast("Data", msgspec.json.decode(settled.shown)) if settled and is_known else manifest.data
    paths = [path for path in _differences(there, wanted, ()) if path[:2] != ("metadata", "managedFields")]
    if not paths:
        return ""
    managers = sorted(
        {entry.manager for entry in entries if entry.manager not in _OURS and _has_any(entry, there, paths)}
    )
    who = " and ".join(managers) or "somebody whose name the API server does not know"
    names = list(dict.fromkeys(map(_written, paths)))
    more = f" and {len(names) - MOST_FIELDS} more" if len(names) > MOST_FIELDS else ""
    return (
        f"{manifest.ref}: {', '.join(names[:MOST_FIELDS])}{more}: changed again and again by {who}; "
        "it is put right ever more rarely"
    )


def say_removed(ref: Ref) -> str:
    """The same of an object that does not stay there, or does not stay away."""
    return f"{ref}: made or deleted again and again by somebody else; it is put right ever more rarely"


def _differences(there: object, wanted: object, path: _Path) -> Iterator[_Path]:
    """Paths of what is wanted and is not so."""
    if isinstance(wanted, Mapping) and isinstance(there, Mapping):
        for key, value in wanted.items():
            if key in there:
                yield from _differences(there[key], value, (*path, key))
            else:
                yield (*path, key)
    elif isinstance(wanted, list | tuple) and isinstance(there, list) and len(wanted) == len(there):
        for index, (one, other) in enumerate(zip(there, wanted, strict=True)):
            yield from _differences(one, other, (*path, index))
    elif there != wanted:
        yield path


def _has_any(entry: _Entry, there: Data, paths: list[_Path]) -> bool:
    return any(_has(entry.fields, there, path) for path in paths)


def _has(fields: Mapping[str, object], there: object, path: _Path) -> bool:
    """Whether a manager has a field, something in it, or all of what it is in."""
    for step in path:
        if not fields:
            return True  # a leaf: the value is owned as a whole
        child: object
        if isinstance(step, int):
            there = cast("list[object]", there)[step]
            child = next((sub for key, sub in fields.items() if _names(key, there)), None)
        else:
            child = fields.get(f"f:{step}")
            there = there.get(step) if isinstance(there, Mapping) else None
        if not isinstance(child, Mapping):
            return False
        fields = child
    return True


def _names(key: str, item: object) -> bool:
    """Whether a key of `FieldsV1` (`k:{"name":"proxy"}`, `v:"a"`) names this item of a list."""
    sort, _, text = key.partition(":")
    if sort == "v":
        return bool(msgspec.json.decode(text) == item)
    if sort != "k" or not isinstance(item, Mapping):
        return False
    return all(item.get(name) == value for name, value in msgspec.json.decode(text, type=dict[str, object]).items())


def _written(path: _Path) -> str:
    """As kubectl writes it: `spec.ports[0].port`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
