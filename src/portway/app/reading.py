"""What an API server has declared at one moment: for commands that ask about a cluster and do not follow it.

The very source that a control plane follows is followed until it has reported all that there is, and then stopped. A
person's rights are often smaller than a control plane's: what may not be read over all namespaces is read in one, and
what may not be read at all is said once, with the rule that would allow it (`Unread`). Nothing is written.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from difflib import get_close_matches
from typing import Final

import msgspec

from portway.kubernetes.client import ApiClient
from portway.kubernetes.errors import ApiError, ApiUnreachable
from portway.model.unread import NOT_READ, Unread
from portway.objects.kinds import KINDS, Kind
from portway.objects.verdict import ObjectKey
from portway.settings import Settings
from portway.sources.kubernetes.demand import References
from portway.sources.kubernetes.scope import MATERIAL, Followed
from portway.sources.kubernetes.source import KubernetesSource
from portway.store import ChangeSet
from portway.translate.key_material import REFERRING, key_material

PATIENCE: Final = 15.0
"""Seconds that a server which answered may be failing before it is given up."""
LOOK: Final = 0.2
"""Seconds between two looks how far it has come."""
CLASSES: Final = ("GatewayClass", "IngressClass")
LISTED: Final = 5
"""Names that a note lists."""


class ClusterRead(msgspec.Struct, frozen=True, kw_only=True):
    """All that could be read."""

    server: str
    context: str
    """Of the kubeconfig, or `in-cluster`."""
    changes: tuple[ChangeSet, ...]
    """In this order; the last of several versions of an object counts."""
    unread: Unread
    missing: frozenset[str]
    """Kinds that the cluster does not have."""
    namespaces: frozenset[str] | None
    """All that there are; `None`: that is not known."""
    notes: tuple[str, ...]
    """What is not known, why, and what to do about it; a sentence each."""


class NothingKnown(ValueError):
    """There is no such namespace, or nothing may be read: no answer, where an empty one would look like a good one. The
    message says what to do."""


async def read_cluster(
    client: ApiClient,
    settings: Settings,
    *,
    namespace: str = "",
    wanted: Iterable[ObjectKey] = (),
    show: Callable[[str], None] = lambda text: None,
) -> ClusterRead:
    """Read all objects once.

    Args:
        client: stays its owner's.
        settings: which namespaces and labels count (`watch_namespaces`, `watch_selector`).
        namespace: where to look for what may not be read over all namespaces; empty: that of the kubeconfig's context.
        wanted: Secrets and ConfigMaps to which somebody refers besides the cluster's objects.
        show: gets a few words about how far it has come; empty at the end.

    Raises:
        ApiUnreachable, ApiError: the server cannot be asked; the message says why and what to do.
        NothingKnown: nothing may be read.
    """
    await _greet(client)
    sources, narrow = settings.sources, namespace or client.connection.namespace
    default_namespace, _, name = settings.edge.default_certificate.partition("/")
    own = [ObjectKey("Secret", default_namespace, name)] if name else []
    references = References(kinds=REFERRING, of=key_material, always=frozenset({*own, *wanted}))

    async def read(kinds: Iterable[Kind], namespaces: Sequence[str]) -> tuple[list[ChangeSet], KubernetesSource]:
        source = KubernetesSource(
            client,
            kinds=kinds,
            namespaces=namespaces,
            label_selector=sources.watch_selector,
            references=references,
            doubt=0.0,  # a person's rights are what they are
        )
        return await _collect(source, show), source

    changes, source = await read(KINDS.values(), sources.watch_namespaces)
    forbidden, missing = source.forbidden(), frozenset(source.statistics().missing)
    refused = {one.kind.name for one in forbidden if not one.name and not one.namespace}
    again = [KINDS[kind] for kind in refused if KINDS[kind].namespaced]
    if again and narrow:
        more, source = await read([*again, *(KINDS[kind] for kind in MATERIAL)], [narrow])
        changes += more
        forbidden |= source.forbidden()
    show("")
    unread = _unread(forbidden, changes, (narrow,) if narrow else (), sources.watch_namespaces)
    if missing.union(MATERIAL, (kind for kind, readable in unread.kinds.items() if not readable)) >= KINDS.keys():
        hint = "name a namespace in which you have more with -n, or "
        raise NothingKnown(
            f"{client.connection.server}: nothing may be read with these rights; {hint}{_rights(unread.kinds)}"
        )
    return ClusterRead(
        server=client.connection.server,
        context=client.connection.origin,
        changes=tuple(_without_noted(change, missing) for change in changes),
        unread=unread,
        missing=missing,
        namespaces=None if "Namespace" in refused or sources.watch_namespaces else _names_of("Namespace", changes),
        notes=(*_notes(unread, narrow), *_not_installed(missing)),
    )


def _names_of(kind: str, changes: Iterable[ChangeSet]) -> frozenset[str]:
    return frozenset(one.key.name for change in changes for one in change.changed if one.key.kind == kind)


def require_namespace(read: ClusterRead, name: str) -> None:
    """An answer about a namespace needs one.

    Args:
        name: empty: all of them are meant.

    Raises:
        NothingKnown: it is known that there is none.
    """
    if name and read.namespaces is not None and name not in read.namespaces:
        near = get_close_matches(name, read.namespaces, 1)
        hint = f"did you mean {near[0]}?" if near else f"{read.server} has {listed(read.namespaces)}"
        raise NothingKnown(f'there is no namespace "{name}"; {hint}')


async def _greet(client: ApiClient) -> None:
    """Ask for what everybody may read: a server that is not there, or does not know us, is told at once."""
    try:
        await client.get("/version")
    except ApiError as error:
        if error.status != 403:
            raise


async def _collect(source: KubernetesSource, show: Callable[[str], None]) -> list[ChangeSet]:
    found: list[ChangeSet] = []

    async def collect() -> None:
        async with aclosing(source.changes()) as changes:
            async for change in changes:
                found.append(change)
                if change.synced:
                    return

    failing = 0.0
    async with asyncio.TaskGroup() as tasks:
        collecting = tasks.create_task(collect())
        while not (await asyncio.wait({collecting}, timeout=LOOK))[0]:
            statistics = source.statistics()
            show(f"reading: {statistics.objects:,} objects of {statistics.server}")
            failing = 0.0 if not statistics.error else failing or time.monotonic()
            if failing and time.monotonic() - failing > PATIENCE:
                collecting.cancel()
                break
    if collecting.cancelled():
        raise ApiUnreachable(f"{source.statistics().error or 'the API server does not answer'}; nothing was decided")
    return found


def _without_noted(change: ChangeSet, missing: frozenset[str]) -> ChangeSet:
    """Without what is said about rights, and about the kinds of groups that are missing: that is the notes'."""
    noted = {f"kind {kind}" for kinds in _groups(missing).values() for kind in kinds}
    kept = {
        item: tuple(finding for finding in findings if finding.verdict.reason != "Forbidden")
        for item, findings in change.findings.items()
        if item.partition(" in ")[0] not in noted
    }
    return msgspec.structs.replace(change, findings={item: findings for item, findings in kept.items() if findings})


def _unread(
    forbidden: Iterable[Followed], changes: Iterable[ChangeSet], narrow: Sequence[str], watched: Sequence[str]
) -> Unread:
    """What may be there although it was not read.

    Args:
        narrow: where what may not be read everywhere was looked for.
        watched: the only namespaces that count; empty: all.
    """
    read = {stored.key for change in changes for stored in change.changed}
    refused: dict[str, set[str]] = defaultdict(set)
    single: set[ObjectKey] = set()
    for one in forbidden:
        if not one.name:
            refused[one.kind.name].add(one.namespace)
            continue
        key = ObjectKey(one.kind.name, one.namespace, one.name)
        if key not in read:
            single.add(key)
    readable = {
        kind: frozenset((watched or narrow) if KINDS[kind].namespaced else ()) - namespaces
        for kind, namespaces in refused.items()
    }
    return Unread(kinds=readable, objects=frozenset(single))


def _groups(missing: frozenset[str]) -> dict[str, set[str]]:
    """Groups of which the cluster has nothing, with our kinds. That it has not all of them is usual."""
    groups: dict[str, set[str]] = defaultdict(set)
    for kind in KINDS.values():
        groups[kind.group].add(kind.name)
    return {group: kinds for group, kinds in groups.items() if kinds <= missing}


def _not_installed(missing: frozenset[str]) -> Iterable[str]:
    for group, kinds in _groups(missing).items():
        what = f"the cluster has no kind of {group} ({listed(kinds)})"
        yield f"{what}: install its CustomResourceDefinitions to use them"


def _notes(unread: Unread, narrow: str) -> Iterable[str]:
    partly = [kind for kind, namespaces in unread.kinds.items() if namespaces]
    never = [kind for kind, namespaces in unread.kinds.items() if not namespaces]
    if partly:
        where = ", ".join(sorted({name for kind in partly for name in unread.kinds[kind]}))
        yield (
            f"only namespace {where} could be read: what is declared in others is not known, and their "
            "ReferenceGrants count as given"
        )
    if never:
        yield f"{listed(never)} {NOT_READ}: {', '.join(_assumed(never))}"
    if unread.objects:
        yield f"{listed(map(str, unread.objects))} {NOT_READ}: the certificates count as there and good"
    if unread.kinds or unread.objects:
        hint = "" if narrow or not any(KINDS[kind].namespaced for kind in never) else "name a namespace with -n, or "
        yield f"to know more, {hint}{_rights({*unread.kinds, *(key.kind for key in unread.objects)})}"


def _assumed(kinds: Iterable[str]) -> Iterable[str]:
    """What is taken for granted instead of what was not read."""
    found = set(kinds)
    if found.intersection(CLASSES):
        yield "every class counts as Portway's"
    if "Namespace" in found:
        yield "Namespaces count as without labels"
    if found - {*CLASSES, "Namespace"}:
        yield "what they declare is not known"


def _rights(kinds: Iterable[str]) -> str:
    """What a ClusterRole would have to allow."""
    missing = set(kinds)
    parts = []
    if len(missing - {*MATERIAL}) > LISTED:
        missing &= {*MATERIAL}
        parts.append("have the ClusterRole portway-reader, which comes with Portway")
    groups: dict[str, list[str]] = defaultdict(list)
    for kind in sorted(missing):
        groups[KINDS[kind].group or "the core group"].append(KINDS[kind].plural)
    if groups:
        allowed = "; ".join(f"{', '.join(plurals)} ({group})" for group, plurals in sorted(groups.items()))
        parts.append(f"have a ClusterRole that allows to list and watch {allowed}")
    return ", and ".join(parts)


def listed(names: Iterable[str]) -> str:
    """The first of them in words, and how many more."""
    every = sorted(names)
    if len(every) > LISTED + 1:
        return f"{', '.join(every[:LISTED])} and {len(every) - LISTED} more"
    return " and ".join(filter(None, (", ".join(every[:-1]), every[-1])))
