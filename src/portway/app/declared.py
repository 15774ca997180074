"""Where declared objects come from, all sources together: what each says of itself, and where a field stands."""

import asyncio
import os
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from portway.app.compiler import compiling_progress
from portway.app.pipeline import Pipeline
from portway.explain.report import Locate
from portway.kubernetes.client import ApiClient
from portway.objects.verdict import ObjectKey
from portway.settings import Settings
from portway.sources.kubernetes.demand import References
from portway.sources.kubernetes.source import KubernetesSource
from portway.sources.problems import FILE_KIND
from portway.store import Finding, Source
from portway.translate.key_material import REFERRING, key_material

if TYPE_CHECKING:
    from portway.sources.files import FileSource

UNREACHABLE = frozenset({"NotFound", "PermissionDenied", "LinkLoop", "Unreadable"})
"""Reasons of findings about a path that could not be read at all (`sources/tree.py`)."""


UNREACHABLE_FOR = timedelta(seconds=3)
"""A cluster that has not answered for so long at the start may be away for long."""


UNREAD: Final = "the sources are still being read"
NAMED: Final = 3
"""Kinds that are named of those that are waited for: where the server is away it is all of them."""


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """The sources of one Portway; at least one is there."""

    files: "FileSource | None" = None
    paths: Sequence[str] = ()
    """What `files` was given."""
    cluster: KubernetesSource | None = None

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(source for source in (self.files, self.cluster) if source is not None)

    def locator(self) -> Locate:
        """Where fields stand, for many questions at once; objects of a cluster stand nowhere."""
        return self.files.locator() if self.files is not None else lambda key, field: None

    def progress(self, pending: int) -> str:
        """How far reading or compiling has come, in a few words.

        Args:
            pending: what the engine still has to look at.
        """
        if self.cluster is not None:
            statistics = self.cluster.statistics()
            if statistics.error:
                return f"waiting for {statistics.server}: {statistics.error}"
            if not statistics.synced:
                return f"reading: {statistics.objects:,} objects of {statistics.server}"
        if self.files is not None:
            return compiling_progress(self.files.statistics(), pending)
        return f"compiling: {pending:,} left to look at"

    def unread_because(self) -> str:
        """Why not all that is declared is known yet: what is waited for, and the last error where there is one."""
        awaited = [] if self.cluster is None else self.cluster.awaited()
        failing = [one for one in awaited if one.error]
        names = [one.name for one in failing or awaited]
        if not names:
            return UNREAD
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        what = f"{', '.join(names[:NAMED])}{more}"
        return f"{UNREAD}: waiting for {what}{f': {failing[0].error}' if failing else ''}"

    def unreachable(self) -> str:
        """Why the cluster has not said yet what there is; empty if it has, or is about to."""
        if self.cluster is None:
            return ""
        statistics = self.cluster.statistics()
        return "" if statistics.synced else statistics.error

    def unreadable(self, findings: Iterable[Finding]) -> str:
        """Why not all of the given paths could be read at all, and what to do; empty if they could.

        What is wrong inside a file, given or found, is no doubt about the rest of it; but a folder that is not there
        may just not be mounted yet. (A cluster that cannot be reached has not been read: its source waits.)
        """
        given = {os.path.normpath(path) for path in self.paths}
        for finding in findings:
            key, verdict = finding.verdict.object, finding.verdict
            if key.kind == FILE_KIND and os.path.normpath(key.name) in given and verdict.reason in UNREACHABLE:
                return f"{key.name}: {verdict.problem}; {verdict.remedy}"
        return ""


def make_declared(settings: Settings, state: Path, client: ApiClient | None) -> Declared:
    """The sources that are set.

    Args:
        state: the state folder.
        client: of the cluster that objects come from, if they do.
    """
    sources = settings.sources
    return Declared(
        files=_make_files(settings, state) if sources.filenames else None,
        paths=sources.filenames,
        cluster=None if client is None else make_source(client, settings),
    )


def _make_files(settings: Settings, state: Path) -> "FileSource":
    from portway.sources.files import FileSource  # late: a control plane in a cluster reads no files

    return FileSource(
        settings.sources.filenames,
        state_dir=state / "last-good",
        poll_interval=timedelta(seconds=1) if settings.sources.poll else None,
    )


def make_source(client: ApiClient, settings: Settings) -> KubernetesSource:
    """The source of a cluster's objects."""
    sources = settings.sources
    namespace, _, name = settings.edge.default_certificate.partition("/")
    always = frozenset({ObjectKey("Secret", namespace, name)} if name else ())
    return KubernetesSource(
        client,
        namespaces=sources.watch_namespaces,
        label_selector=sources.watch_selector,
        references=References(kinds=REFERRING, of=key_material, always=always),
    )


OWNERS: Final = ("GatewayClass", "Gateway", "ListenerSet", "IngressClass")
"""Kinds by which others become ours."""


def knows_owners(source: KubernetesSource) -> bool:
    """Whether an object of a cluster that is not ours for all we know is not ours. A missing right does not make it so:
    what was said of it stays."""
    return all(map(source.has_read, OWNERS))


async def doubt_cluster(declared: Declared, pipeline: Pipeline) -> None:
    """Serve the last good configuration if the cluster does not answer when we start."""
    while not pipeline.is_synced:
        reason = declared.unreachable()
        await asyncio.sleep(UNREACHABLE_FOR.total_seconds())
        if reason and (still := declared.unreachable()):
            pipeline.disbelieve(still)
            return
