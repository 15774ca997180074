"""BackendTLSPolicy: which one holds for a port of a Service, and the TLS that it asks for.

Source: Gateway API, GEP-1897, `BackendTLSPolicySpec`: one with a `sectionName` beats one for the whole Service without
being in conflict with it; among equals the older holds, then by namespace and name. Of several CA references those that
can be used are used; if none can, the upstream must not be spoken to.
"""

from collections.abc import Iterable

import msgspec

from portway.incremental import Context, query
from portway.model.names import SecretKey, SecretUse
from portway.model.upstream import UpstreamTls
from portway.objects.gateway_policies_v1 import BackendTLSPolicy, SubjectAltNameType
from portway.objects.meta import Object
from portway.objects.verdict import ObjectKey
from portway.store import Index, read_object
from portway.translate.certificates import authorities
from portway.translate.policy.attachment import rank


class AuthorityProblem(msgspec.Struct, frozen=True, kw_only=True):
    """A CA reference that cannot be used."""

    index: int
    """Position in `spec.validation.caCertificateRefs`."""
    kind: bool
    """The reference is to a kind that cannot hold CA certificates (`InvalidKind`)."""
    problem: str
    remedy: str


class ResolvedTls(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy that holds makes of an upstream."""

    origin: ObjectKey
    tls: UpstreamTls | None
    """`None`: the policy cannot be fulfilled; the upstream must not be spoken to."""


class Authorities(msgspec.Struct, frozen=True, kw_only=True):
    """The CA references of one policy."""

    usable: tuple[ObjectKey, ...] = ()
    system: bool = False
    problems: tuple[AuthorityProblem, ...] = ()

    @property
    def is_valid(self) -> bool:
        return self.system or bool(self.usable)


def _targets(found: Object) -> Iterable[tuple[str, str]]:
    if isinstance(found, BackendTLSPolicy):
        for target in found.spec.target_refs:
            if target.group == "" and target.kind == "Service":
                yield found.metadata.namespace, target.name


BY_SERVICE = Index("BackendTLSPolicy by Service", "BackendTLSPolicy", _targets)


def policies_for(ctx: Context, namespace: str, service: str, port_name: str) -> tuple[BackendTLSPolicy, ...]:
    """The policies about a port: the one that holds first, then those it beats."""
    keys = BY_SERVICE.read(ctx, (namespace, service))
    policies = [read_object(ctx, BackendTLSPolicy, key.namespace, key.name) for key in keys]
    return rank(policies, "", "Service", service, port_name)


@query("CA references of BackendTLSPolicy")
def policy_authorities(ctx: Context, key: ObjectKey) -> Authorities:
    """Which CA references of a policy can be used."""
    policy = read_object(ctx, BackendTLSPolicy, key.namespace, key.name)
    if policy is None:
        return Authorities()
    validation = policy.spec.validation
    if validation.well_known_ca_certificates is not None:
        return Authorities(system=validation.well_known_ca_certificates == "System")
    usable: list[ObjectKey] = []
    problems: list[AuthorityProblem] = []
    for index, reference in enumerate(validation.ca_certificate_refs or ()):
        if reference.group != "" or reference.kind not in ("ConfigMap", "Secret"):
            problem = f"{reference.kind} cannot hold CA certificates"
            remedy = "name a ConfigMap with ca.crt"
            problems.append(AuthorityProblem(index=index, kind=True, problem=problem, remedy=remedy))
            continue
        source = ObjectKey(reference.kind, key.namespace, reference.name)
        found = ctx.get(authorities, source)
        if found.secret is None:
            problems.append(AuthorityProblem(index=index, kind=False, problem=found.problem, remedy=found.remedy))
        else:
            usable.append(source)
    return Authorities(usable=tuple(sorted(set(usable))), problems=tuple(problems))


def resolve_backend_tls(ctx: Context, namespace: str, service: str, port_name: str) -> ResolvedTls | None:
    """The TLS towards a port of a Service; `None` if no policy is about it."""
    policies = policies_for(ctx, namespace, service, port_name)
    if not policies:
        return None
    policy = policies[0]
    origin = ObjectKey("BackendTLSPolicy", policy.metadata.namespace, policy.metadata.name)
    found = ctx.get(policy_authorities, origin)
    if not found.is_valid:
        return ResolvedTls(origin=origin, tls=None)
    validation = policy.spec.validation
    names = tuple(
        ("DNS", name.hostname or "") if name.type is SubjectAltNameType.HOSTNAME else ("URI", name.uri or "")
        for name in validation.subject_alt_names
    )
    tls = UpstreamTls(
        sni=validation.hostname,
        authorities=SecretKey(SecretUse.AUTHORITIES, found.usable) if found.usable else None,
        system_authorities=found.system,
        # With alternative names the hostname is sent, but no longer what is verified.
        names=names or (("DNS", validation.hostname),),
    )
    return ResolvedTls(origin=origin, tls=tls)


INDEXES = (BY_SERVICE,)
