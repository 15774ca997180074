"""What there is to say about Portway's own objects: `UpstreamPolicy` and `Backend`."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from portway.incremental import Context
from portway.model.condition import Condition, ObjectReport
from portway.model.names import UpstreamKind
from portway.objects.core_v1 import Service
from portway.objects.portway_v1alpha1 import Backend, UpstreamPolicy
from portway.objects.references_v1 import LocalPolicyTargetReferenceWithSectionName
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.store import read_object
from portway.translate.absent import absent
from portway.translate.certificates import Certificate, authorities, certificate
from portway.translate.local_backends import refusals
from portway.translate.policy.upstream import GROUPS, policies_for


def policy_report(ctx: Context, key: ObjectKey) -> ObjectReport:
    """Accepted unless every target is missing or belongs to an older policy."""
    policy = read_object(ctx, UpstreamPolicy, key.namespace, key.name)
    if policy is None:
        return ObjectReport(object=key)
    verdicts = [
        verdict
        for index, target in enumerate(policy.spec.target_refs)
        for verdict in _target_verdicts(ctx, key, index, target)
    ]
    lost = len(verdicts) >= len(policy.spec.target_refs)
    reason = verdicts[0].reason if lost else "Accepted"
    message = _joined(verdicts) if lost else "the policy is in force"
    return ObjectReport(
        object=key,
        conditions=(Condition(type="Accepted", status=not lost, reason=reason, message=message),),
        verdicts=tuple(verdicts),
    )


def _target_verdicts(
    ctx: Context, key: ObjectKey, index: int, target: LocalPolicyTargetReferenceWithSectionName
) -> Iterator[Verdict]:
    """At most one per target."""
    kinds = {(group, str(kind)): kind for kind, group in GROUPS.items()}
    kind = kinds.get((target.group, target.kind))
    place = f"spec.targetRefs[{index}]"

    def problem(reason: str, text: str, remedy: str, field: str = "") -> Verdict:
        return Verdict(
            object=key,
            severity=Severity.ERROR if reason != "Conflicted" else Severity.WARNING,
            reason=reason,
            field=place + field,
            problem=text,
            remedy=remedy,
        )

    if kind is None:
        yield problem("Invalid", f"{target.kind} is no kind that a policy can be about", "name a Service or a Backend")
        return
    subject = f"{target.kind} {key.namespace}/{target.name}"
    ports = _ports(ctx, kind, key.namespace, target.name)
    if ports is None:
        yield problem(
            "TargetNotFound",
            f"{absent(ctx, ObjectKey(target.kind, key.namespace, target.name))}; the policy waits for it",
            "create it, or correct the name",
        )
    elif target.section_name is not None and target.section_name not in ports:
        named = ", ".join(sorted(filter(None, ports))) or "none with a name"
        yield problem(
            "TargetNotFound",
            f"{subject} has no port {target.section_name}; it has {named}",
            "name one of its ports" if any(ports) else "remove sectionName",
            ".sectionName",
        )
    else:
        sections = [target.section_name] if target.section_name is not None else sorted(ports)
        winners = [policies_for(ctx, kind, key.namespace, target.name, section or "") for section in sections]
        held = [found[0].metadata for found in winners if found]
        if held and all((one.namespace, one.name) != (key.namespace, key.name) for one in held):
            winner = f"UpstreamPolicy {held[0].namespace}/{held[0].name}"
            text = f"{winner} is about {subject} too and is older or names its port; it holds, this one does not"
            yield problem("Conflicted", text, "remove one of the two targets")


def _ports(ctx: Context, kind: UpstreamKind, namespace: str, name: str) -> frozenset[str] | None:
    """Names of the ports of a target; `None` if there is no such object."""
    if kind is UpstreamKind.BACKEND:
        return frozenset({""}) if read_object(ctx, Backend, namespace, name) is not None else None
    service = read_object(ctx, Service, namespace, name)
    if service is None:
        return None
    return frozenset(port.name for port in service.spec.ports) or frozenset({""})


def backend_report(ctx: Context, key: ObjectKey) -> ObjectReport:
    """Accepted unless it names what it may not; its references are resolved unless what it needs for TLS is missing."""
    backend = read_object(ctx, Backend, key.namespace, key.name)
    if backend is None:
        return ObjectReport(object=key)
    verdicts: list[Verdict] = []
    tls = backend.spec.tls
    for index, reference in enumerate(tls.ca_certificate_refs or () if tls is not None else ()):
        found = ctx.get(authorities, ObjectKey(reference.kind, key.namespace, reference.name))
        if found.secret is None:
            verdicts.append(_unusable(key, f"spec.tls.caCertificateRefs[{index}]", found, "InvalidCACertificateRef"))
    if tls is not None and tls.client_certificate_ref is not None:
        found = ctx.get(certificate, ObjectKey("Secret", key.namespace, tls.client_certificate_ref.name))
        if found.secret is None:
            verdicts.append(_unusable(key, "spec.tls.clientCertificateRef", found, "InvalidClientCertificateRef"))
    resolved = not verdicts
    refused = refusals(ctx, backend)
    return ObjectReport(
        object=key,
        conditions=(
            Condition(
                type="Accepted",
                status=not refused,
                reason=refused[0].reason if refused else "Accepted",
                message=_joined(refused),
            ),
            Condition(
                type="ResolvedRefs",
                status=resolved,
                reason="ResolvedRefs" if resolved else verdicts[0].reason,
                message=_joined(verdicts),
            ),
        ),
        verdicts=(*refused, *verdicts),
    )


def _joined(verdicts: Iterable[Verdict]) -> str:
    """What a condition says of them; empty if there are none."""
    return "\n".join(verdict.text for verdict in verdicts)


def _unusable(key: ObjectKey, field: str, found: Certificate, reason: str) -> Verdict:
    return Verdict(
        object=key,
        severity=Severity.ERROR,
        reason=reason,
        field=field,
        problem=f"{found.problem}; connections to the backend fail meanwhile",
        remedy=found.remedy,
    )


REPORTS: Mapping[str, Callable[[Context, ObjectKey], ObjectReport]] = {
    "UpstreamPolicy": policy_report,
    "Backend": backend_report,
}
