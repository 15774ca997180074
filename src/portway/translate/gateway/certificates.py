"""TLS of listeners and Gateways: which certificates are shown, which client certificates are asked for.

Permission is judged before existence: a reference to another namespace that no grant allows says so even where the
Secret is missing. A listener that asks for client certificates and has no authority to check them with serves nothing.

Source: Gateway API, `GatewayTLSConfig`, `FrontendTLSConfig`, `GatewayBackendTLS`, `ListenerTLSConfig`.
"""

from collections.abc import Iterable

import msgspec

from portway.incremental import Context, query
from portway.model.listener import ClientValidation
from portway.model.names import SecretKey, SecretUse
from portway.objects.gateway_v1 import (
    FrontendTLSValidation,
    FrontendValidationMode,
    Gateway,
    Listener,
    ListenerProtocol,
    ListenerSet,
)
from portway.objects.references_v1 import ObjectReference, SecretObjectReference
from portway.objects.verdict import ObjectKey
from portway.store import read_object
from portway.translate.certificates import authorities, certificate
from portway.translate.gateway import findings, grants
from portway.translate.gateway.findings import Problem
from portway.translate.gateway.gateways import listener_plan
from portway.translate.gateway.listeners import ListenerKey, ListenerPlan


class ListenerTls(msgspec.Struct, frozen=True, kw_only=True):
    """What one listener needs to speak TLS."""

    certificates: tuple[SecretKey, ...] = ()
    """Those that can be used, in the order of the references."""
    names: tuple[str, ...] = ()
    """DNS names in the certificates, sorted."""
    authorities: SecretKey | None = None
    validation: ClientValidation | None = None
    """`None`: clients are not asked for a certificate."""
    problems: tuple[Problem, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether the listener can serve: it has a certificate, and authorities where it must check clients."""
        return bool(self.certificates) and (self.validation is None or self.authorities is not None)


def declared_listener(ctx: Context, plan: ListenerPlan) -> Listener | None:
    """The listener as its owner wrote it."""
    owner = plan.key.owner
    if owner.kind == "Gateway":
        gateway = read_object(ctx, Gateway, owner.namespace, owner.name)
        return None if gateway is None else gateway.spec.listeners[plan.index]
    found = read_object(ctx, ListenerSet, owner.namespace, owner.name)
    return None if found is None else found.spec.listeners[plan.index]


@query("TLS of a listener")
def listener_tls(ctx: Context, key: ListenerKey) -> ListenerTls:
    """TLS of an HTTPS listener or of a TLS listener that terminates; nothing for others."""
    plan = ctx.get(listener_plan, key)
    listener = None if plan is None else declared_listener(ctx, plan)
    if plan is None or listener is None or plan.passthrough:
        return ListenerTls()
    if plan.protocol not in (ListenerProtocol.HTTPS, ListenerProtocol.TLS):
        return ListenerTls()
    place = f"{plan.field}.tls"
    references = listener.tls.certificate_refs if listener.tls is not None else ()
    if not references:
        problem = _bad(
            f"{place}.certificateRefs",
            "a listener that ends TLS needs a certificate; it is not served",
            "name a Secret of type kubernetes.io/tls",
        )
        return ListenerTls(problems=(problem,))
    usable: list[SecretKey] = []
    names: set[str] = set()
    problems: list[Problem] = []
    for index, reference in enumerate(references):
        found = _certificate(ctx, key.owner, reference, f"{place}.certificateRefs[{index}]")
        if isinstance(found, Problem):
            problems.append(found)
        else:
            usable.append(SecretKey(SecretUse.CERTIFICATE, (found,)))
            secret = ctx.get(certificate, found).secret
            names.update(() if secret is None else secret.names)
    meanwhile = "the listener shows its other certificates" if usable else "the listener is not served"
    tls = ListenerTls(
        certificates=tuple(usable),
        names=tuple(sorted(names)),
        problems=tuple(_continued(problem, meanwhile) for problem in problems),
    )
    if plan.protocol != ListenerProtocol.HTTPS:
        return tls
    return _with_client_validation(ctx, plan, tls)


def _certificate(ctx: Context, owner: ObjectKey, reference: SecretObjectReference, place: str) -> ObjectKey | Problem:
    """The Secret behind a certificate reference, if it is permitted and can be used."""
    if (reference.group, reference.kind) != ("", "Secret"):
        name = f"{reference.group}/{reference.kind}" if reference.group else reference.kind
        return _bad(place, f"{name} holds no certificate", "name a Secret of type kubernetes.io/tls")
    target = ObjectKey("Secret", reference.namespace or owner.namespace, reference.name)
    if not grants.is_permitted(ctx, owner, target):
        return _not_permitted(place, owner, target)
    found = ctx.get(certificate, target)
    return _bad(place, found.problem, found.remedy) if found.problem else target


def _continued(problem: Problem, meanwhile: str) -> Problem:
    """The problem with what happens until it is mended."""
    return msgspec.structs.replace(problem, message=f"{problem.message}; {meanwhile}")


def _bad(field: str, message: str, remedy: str, reason: str = "InvalidCertificateRef") -> Problem:
    return Problem(condition=findings.RESOLVED_REFS, reason=reason, field=field, message=message, remedy=remedy)


def _not_permitted(field: str, owner: ObjectKey, target: ObjectKey) -> Problem:
    return Problem(
        condition=findings.RESOLVED_REFS,
        reason="RefNotPermitted",
        field=field,
        message=f"{target} is in another namespace",
        remedy=grants.remedy(owner, target),
    )


def frontend_validation(ctx: Context, gateway: ObjectKey, port: int) -> tuple[FrontendTLSValidation, str] | None:
    """How clients of HTTPS listeners on a port are checked, with the field that says so; `None`: not at all."""
    found = read_object(ctx, Gateway, gateway.namespace, gateway.name)
    tls = None if found is None else found.spec.tls
    if tls is None or tls.frontend is None:
        return None
    for index, entry in enumerate(tls.frontend.per_port):
        if entry.port == port:
            validation = entry.tls.validation
            return None if validation is None else (validation, f"spec.tls.frontend.perPort[{index}].tls.validation")
    validation = tls.frontend.default.validation
    return None if validation is None else (validation, "spec.tls.frontend.default.validation")


def _with_client_validation(ctx: Context, plan: ListenerPlan, tls: ListenerTls) -> ListenerTls:
    declared = frontend_validation(ctx, plan.gateway, plan.port)
    if declared is None:
        return tls
    validation, place = declared
    usable, problems = _authorities(ctx, plan.gateway, validation.ca_certificate_refs, f"{place}.caCertificateRefs")
    fallback = validation.mode is FrontendValidationMode.ALLOW_INSECURE_FALLBACK
    if not usable:
        problems = (
            *problems,
            Problem(
                condition=findings.ACCEPTED,
                reason="NoValidCACertificate",
                field=f"{place}.caCertificateRefs",
                message="no CA certificate can be used, so no client could be checked; the listener is not served",
                remedy="mend one of the references, or remove the validation",
            ),
        )
    return msgspec.structs.replace(
        tls,
        authorities=SecretKey(SecretUse.AUTHORITIES, tuple(sorted(usable))) if usable else None,
        validation=ClientValidation.OPTIONAL_UNVERIFIED if fallback else ClientValidation.REQUIRE,
        problems=tls.problems + problems,
    )


def _authorities(
    ctx: Context, gateway: ObjectKey, references: Iterable[ObjectReference], place: str
) -> tuple[set[ObjectKey], tuple[Problem, ...]]:
    usable: set[ObjectKey] = set()
    problems: list[Problem] = []
    for index, reference in enumerate(references):
        field = f"{place}[{index}]"
        if (reference.group, reference.kind) not in (("", "ConfigMap"), ("", "Secret")):
            name = f"{reference.group}/{reference.kind}" if reference.group else reference.kind
            problems.append(
                _bad(
                    field,
                    f"{name} holds no CA certificates",
                    "name a ConfigMap with ca.crt",
                    "InvalidCACertificateKind",
                )
            )
            continue
        target = ObjectKey(reference.kind, reference.namespace or gateway.namespace, reference.name)
        if not grants.is_permitted(ctx, gateway, target):
            problems.append(_not_permitted(field, gateway, target))
        elif (found := ctx.get(authorities, target)).problem:
            problems.append(_bad(field, found.problem, found.remedy, "InvalidCACertificateRef"))
        else:
            usable.add(target)
    return usable, tuple(problems)


class ClientCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """What a Gateway shows to backends that ask for a certificate."""

    key: SecretKey | None = None
    problem: Problem | None = None


@query("client certificate of a Gateway")
def client_certificate(ctx: Context, gateway: ObjectKey) -> ClientCertificate:
    """The certificate of `spec.tls.backend.clientCertificateRef`."""
    found = read_object(ctx, Gateway, gateway.namespace, gateway.name)
    backend = None if found is None or found.spec.tls is None else found.spec.tls.backend
    if backend is None or backend.client_certificate_ref is None:
        return ClientCertificate()
    place = "spec.tls.backend.clientCertificateRef"
    target = _certificate(ctx, gateway, backend.client_certificate_ref, place)
    if isinstance(target, Problem):
        reason = "InvalidClientCertificateRef" if target.reason == "InvalidCertificateRef" else target.reason
        problem = _continued(target, "backends that ask for a certificate are shown none")
        return ClientCertificate(problem=msgspec.structs.replace(problem, reason=reason))
    return ClientCertificate(key=SecretKey(SecretUse.CERTIFICATE, (target,)))
