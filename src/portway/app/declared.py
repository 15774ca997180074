"""Where declared objects come from, all sources together: what each says of itself, and where a field stands."""

import os
from collections.abc import Iterable, Sequence

import msgspec

from portway.app.compiler import compiling_progress
from portway.explain.report import Locate
from portway.sources.files import FileSource
from portway.sources.kubernetes.source import KubernetesSource
from portway.sources.problems import FILE_KIND
from portway.store import Finding, Source

UNREACHABLE = frozenset({"NotFound", "PermissionDenied", "LinkLoop", "Unreadable"})
"""Reasons of findings about a path that could not be read at all (`sources/tree.py`)."""


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """The sources of one Portway; at least one is there."""

    files: FileSource | None = None
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
