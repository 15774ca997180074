"""What the source has to say about the cluster as a whole, and about objects that it does not understand."""

from collections.abc import Iterable, Sequence
from typing import Final

from portway.kubernetes.errors import ApiError
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.sources.kubernetes.scope import Followed
from portway.store import Finding

CLUSTER_KIND: Final = "Cluster"
"""Stands as the kind in verdicts about an API server; the name is its URL."""


def unreadable(server: str, collection: Followed, error: ApiError) -> Finding:
    """We may not read a collection."""
    enough = f'; resourceNames: ["{collection.name}"] in it is enough' if collection.name else ""
    return _finding(
        server,
        Severity.ERROR,
        "Forbidden",
        f"{collection} cannot be read: {' '.join(error.message.split()) or error.reason}; "
        "what was known of it stays in effect, everything else is served",
        error.remedy + enough,
    )


def missing(server: str, collection: Followed) -> Finding:
    """The cluster has no such kind."""
    group = collection.kind.group
    return _finding(
        server,
        Severity.INFO,
        "KindMissing",
        f"the cluster has no {collection.kind.name} ({group}); it is served as soon as there is one",
        "install the CustomResourceDefinition if you need it",
    )


def unreachable(server: str, names: Sequence[str], error: str, *, is_known: bool) -> Finding:
    """The server does not answer, or not as it should.

    Args:
        names: of the collections that it is about; empty: all.
        is_known: what there was has been read.
    """
    what = ", ".join(names) if names else "the API server"
    if not is_known:
        meanwhile = "nothing new is served before it has been read"
    elif names:
        meanwhile = "what was known of it stays in effect, everything else is served"
    else:
        meanwhile = "everything stays as it was when it was last seen"
    return _finding(
        server,
        Severity.ERROR,
        "Unreachable",
        f"{what} cannot be followed: {error}; {meanwhile}",
        "look at the API server and the network to it; Portway comes back by itself",
    )


def refused(verdicts: Iterable[Verdict], *, is_known: bool) -> tuple[Finding, ...]:
    """An object that the server accepted and we do not: from a time of other rules.

    Args:
        is_known: a version of it is served.
    """
    found = [Finding(verdict) for verdict in verdicts]
    if found and is_known:
        stays = Verdict(
            object=found[0].verdict.object,
            severity=Severity.INFO,
            reason="LastGood",
            problem="the version before this one stays in effect until Portway starts again",
            remedy="mend the object",
        )
        found.append(Finding(stays))
    return tuple(found)


def _finding(server: str, severity: Severity, reason: str, problem: str, remedy: str) -> Finding:
    key = ObjectKey(CLUSTER_KIND, "", server)
    return Finding(Verdict(object=key, severity=severity, reason=reason, problem=problem, remedy=remedy))
