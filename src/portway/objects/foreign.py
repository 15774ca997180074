"""Documents of kinds that Portway does not read: foreign ones, and ours misspelt.

Folders of manifests hold Deployments and much else; that is worth one INFO each. A kind or group that is nearly one of
ours is a mistake that nobody else will report. One of ours in a version that is not served is refused, as an API server
would: who wrote it means it to be served.
"""

from typing import Final

from portway.objects.kinds import KINDS, Kind
from portway.objects.portway_v1alpha1 import PORTWAY_GROUP
from portway.objects.problems import as_text, listed, nearest, quoted
from portway.objects.references_v1 import GATEWAY_GROUP
from portway.objects.verdict import ObjectKey, Severity, Verdict

_OURS: Final = frozenset({GATEWAY_GROUP, PORTWAY_GROUP})
"""Groups of which Portway reads every kind."""

_GROUPS: Final = frozenset(kind.group for kind in KINDS.values())

_NEIGHBOURS: Final = frozenset(
    {
        *("Binding", "ComponentStatus", "Endpoints", "Event", "IPAddress", "LimitRange", "List", "NetworkPolicy"),
        *("Node", "PersistentVolume", "PersistentVolumeClaim", "Pod", "PodTemplate", "ReplicationController"),
        *("ResourceQuota", "ServiceAccount", "ServiceCIDR"),
    }
)
"""Kinds that Kubernetes has in the same groups as ours, and Portway does not read."""

_FORMER_GROUPS: Final = {"extensions/v1beta1": "Ingress"}
"""Where our kinds lived before."""

_REMOVED: Final = {
    "extensions/v1beta1": "1.22",
    "networking.k8s.io/v1beta1": "1.22",
    "discovery.k8s.io/v1beta1": "1.25",
}
"""The version of Kubernetes that serves these no more (its "Deprecated API Migration Guide")."""


def foreign_verdict(api_version: str, kind: str, key: ObjectKey) -> Verdict:
    """What to say about a document whose kind `kind_of` does not know.

    Args:
        api_version: as the document has it.
        kind: as the document has it.
        key: whom to name.
    """
    group = api_version.rpartition("/")[0]
    same_name = KINDS.get(kind)
    if same_name is not None and (group == same_name.group or _FORMER_GROUPS.get(api_version) == kind):
        return _refusal(key, api_version, same_name)
    if same_name is not None and group not in _GROUPS and nearest(group, [same_name.group]):
        problem = f"{quoted(api_version)} is no API that has a {kind}; the object is ignored"
        return _warning(key, "apiVersion", problem, f"did you mean {same_name.api_versions[0]}?")
    if group in _GROUPS and kind not in _NEIGHBOURS:
        names = [known.name for known in KINDS.values() if known.group == group]
        near = nearest(kind, names)
        if near or group in _OURS:
            problem = f"{quoted(kind)} is no kind of {quoted(api_version)}; the object is ignored"
            return _warning(key, "kind", problem, f"did you mean {near}?" if near else f"its kinds are {listed(names)}")
        elsewhere = same_name or KINDS.get(nearest(kind, KINDS) or "")
        if elsewhere is not None:
            problem = f"{quoted(kind)} is no kind of {quoted(api_version)}; the object is ignored"
            return _warning(key, "apiVersion", problem, f"{elsewhere.name} is in {elsewhere.api_versions[0]}")
    problem = f"{as_text(api_version)} {key.kind} is not read by Portway"
    return Verdict(object=key, severity=Severity.INFO, reason="NotRead", problem=problem, remedy="")


def _refusal(key: ObjectKey, api_version: str, kind: Kind) -> Verdict:
    since = f" (Kubernetes {_REMOVED[api_version]} removed it)" if api_version in _REMOVED else ""
    return Verdict(
        object=key,
        severity=Severity.ERROR,
        reason="UnknownVersion",
        field="apiVersion",
        problem=f"{quoted(api_version)} is no version of {kind.name} that is still served{since}",
        remedy=f"write {listed(kind.api_versions)}",
    )


def _warning(key: ObjectKey, field: str, problem: str, remedy: str) -> Verdict:
    return Verdict(
        object=key, severity=Severity.WARNING, reason="UnknownKind", field=field, problem=problem, remedy=remedy
    )
