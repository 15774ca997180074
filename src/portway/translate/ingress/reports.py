"""What there is to say about Ingresses and IngressClasses. The Ingress API has no conditions: all of it is verdicts."""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from portway.incremental import Context, query
from portway.model.checks import CORRECT_REGEX, check_domain
from portway.model.condition import ObjectReport, Serving
from portway.model.fleet import FleetAddress, ingress_fleet, published_address
from portway.model.handles import EDGE, INFRASTRUCTURE, OBSERVED_FLEET
from portway.model.names import SocketKey
from portway.objects.networking_v1 import Ingress, IngressBackend, IngressClass
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.store import read_object
from portway.translate.certificates import RENEW, certificate, expiry_problem
from portway.translate.fleet_verdicts import fleet_verdicts
from portway.translate.ingress.annotations.canary import CANARY_BY_HEADER_PATTERN
from portway.translate.ingress.annotations.entry import Settings
from portway.translate.ingress.annotations.paths import DEFAULT_BACKEND, SERVER_ALIAS
from portway.translate.ingress.annotations.reading import annotation_field
from portway.translate.ingress.backends import NOT_FOUND, first_port, place_of
from portway.translate.ingress.canaries import pattern_problem
from portway.translate.ingress.chains import certificate_choice
from portway.translate.ingress.classes import DEFAULT_ANNOTATION, default_class, is_ours, standing
from portway.translate.ingress.hosts import host_plan
from portway.translate.ingress.names import alias_owner
from portway.translate.ingress.owners import is_barred, refusal
from portway.translate.ingress.shares import IngressHost, Share, annotations_of, host_of, shares_of
from portway.translate.parameters import ingress_class_parameters, without_effect
from portway.translate.sockets import INGRESS, bind_addresses, lost_to, unavailable


def report_ingress(ctx: Context, key: ObjectKey) -> ObjectReport:
    """All there is to say about one Ingress, sorted by field."""
    ingress = read_object(ctx, Ingress, key.namespace, key.name)
    if ingress is None:
        return ObjectReport(object=key, ours=False)
    stands = ctx.get(standing, key)
    if not stands.ours:
        verdict = Verdict(
            object=key,
            severity=Severity.INFO,
            reason="NotOurs",
            field=stands.field,
            problem=stands.problem,
            remedy=stands.remedy,
        )
        return ObjectReport(object=key, ours=False, verdicts=(verdict,))
    reading = ctx.get(annotations_of, key)
    found = [*reading.verdicts, *_backends(ctx, key, ingress, reading.settings), *_secrets(ctx, key, ingress)]
    found.extend(_canary(key, reading.settings, ctx.read(EDGE, None).annotation_prefix))
    for host, share in shares_of(ctx, key).items():
        found.extend(_host(ctx, host, share))
    sockets = ctx.get(ingress_sockets, stands.fleet)
    found.extend(_sockets(key, sockets))
    found.extend(_shape(key, ingress))
    reached = ctx.get(addresses_of, stands.fleet)
    return ObjectReport(
        object=key,
        serving=(Serving(sockets=tuple(socket.socket for socket in sockets)),),
        addresses=reached,
        verdicts=tuple(sorted(set(found), key=lambda verdict: (verdict.field, verdict))),
    )


def _shape(key: ObjectKey, ingress: Ingress) -> Iterator[Verdict]:
    for number, rule in enumerate(ingress.spec.rules):
        if problem := check_domain(host_of(rule.host)):
            yield Verdict(
                object=key,
                severity=Severity.ERROR,
                reason="InvalidHost",
                field=f"spec.rules[{number}].host",
                problem=f'"{rule.host}" {problem}; the rule is not served',
                remedy="write a host name, with or without *. before it",
            )
    if not ingress.spec.rules and ingress.spec.default_backend is None:
        yield _warning(key, "Empty", "spec", "has neither rules nor a default backend: nothing is served", "add rules")


def _backends(ctx: Context, key: ObjectKey, ingress: Ingress, settings: Settings) -> Iterator[Verdict]:
    if ingress.spec.default_backend is not None:
        yield from _backend(ctx, key, ingress.spec.default_backend, "spec.defaultBackend")
    for number, rule in enumerate(ingress.spec.rules):
        for place, path in enumerate(rule.http.paths if rule.http is not None else ()):
            yield from _backend(ctx, key, path.backend, f"spec.rules[{number}].http.paths[{place}].backend")
    name = settings.get(DEFAULT_BACKEND)
    if name and (problem := first_port(ctx, key.namespace, name).problem):
        field = annotation_field(ctx.read(EDGE, None).annotation_prefix, DEFAULT_BACKEND.name)
        remedy = "create it, or name one that exists"
        yield _warning(key, "BackendNotFound", field, f"{problem}; the annotation has no effect", remedy)


def _backend(ctx: Context, key: ObjectKey, backend: IngressBackend, field: str) -> Iterator[Verdict]:
    place = place_of(ctx, key.namespace, backend)
    if place.upstream is not None:
        return
    reason = "UnsupportedBackend" if place.status == NOT_FOUND else "BackendNotFound"
    yield Verdict(
        object=key,
        severity=Severity.ERROR,
        reason=reason,
        field=f"{field}.{place.field}" if place.field else field,
        problem=f"{place.problem}; requests to it answer {place.status}",
        remedy=place.remedy or "create it, or name one that exists",
    )


def _secrets(ctx: Context, key: ObjectKey, ingress: Ingress) -> Iterator[Verdict]:
    for number, entry in enumerate(ingress.spec.tls):
        if not entry.secret_name:
            continue
        field = f"spec.tls[{number}].secretName"
        found = ctx.get(certificate, ObjectKey("Secret", key.namespace, entry.secret_name))
        if found.secret is None:
            problem = f"{found.problem}; the default certificate is shown"
            yield Verdict(
                object=key,
                severity=Severity.ERROR,
                reason="InvalidCertificateRef",
                field=field,
                problem=problem,
                remedy=found.remedy,
            )
        elif expired := expiry_problem(found.secret):
            secret = f"the certificate in Secret {key.namespace}/{entry.secret_name}"
            yield _warning(key, "CertificateExpired", field, f"{secret} {expired}", RENEW)


def _canary(key: ObjectKey, settings: Settings, prefix: str) -> Iterator[Verdict]:
    if problem := pattern_problem(settings):
        yield Verdict(
            object=key,
            severity=Severity.ERROR,
            reason="InvalidAnnotation",
            field=annotation_field(prefix, CANARY_BY_HEADER_PATTERN.name),
            problem=f"the value {problem}; requests with the header do not go to the canary",
            remedy=CORRECT_REGEX,
        )


def _host(ctx: Context, key: IngressHost, share: Share) -> Iterator[Verdict]:
    host = key.host
    refused = refusal(ctx, key, share)
    if refused is not None:
        yield refused
        return
    plan = ctx.get(host_plan, key)
    if plan is None:
        problem = f"no other Ingress has the host {host}: this canary gets no requests"
        remedy = "declare the host, with the same paths, in an Ingress that is no canary"
        yield _warning(share.ingress, "CanaryWithoutPrimary", share.field, problem, remedy)
        return
    yield from plan.verdicts.get(share.ingress, ())
    choice = ctx.get(certificate_choice, key) if share.has_tls else None
    if choice is not None and choice.ingress == share.ingress and choice.problem and "not for" in choice.problem:
        problem = f"{choice.problem}; the default certificate is shown for it"
        remedy = f"put a certificate with the name {host} there"
        yield _warning(share.ingress, "CertificateNameMismatch", "spec.tls", problem, remedy)
    for alias in plan.aliases:
        if not alias.startswith("~") and (owner := alias_owner(ctx, key.named(alias))) != key:
            by = f"the host {owner} has it as alias too" if owner is not None else "an Ingress has it as host"
            if is_barred(ctx, key.named(alias), share.ingress.namespace):
                by = "another namespace has it as host, or a wildcard above it"
            field = annotation_field(ctx.read(EDGE, None).annotation_prefix, SERVER_ALIAS.name)
            remedy = "remove the alias here, or the name there"
            yield _warning(share.ingress, "Conflict", field, f"the alias {alias} is not used: {by}", remedy)


@query("addresses of Ingress")
def addresses_of(ctx: Context, fleet: str) -> tuple[FleetAddress, ...]:
    """Where a fleet is reached, as far as it is known. Asked by every Ingress; what else is seen of it must wake
    none."""
    if not ctx.read(INFRASTRUCTURE, None).is_host:
        return ctx.read(OBSERVED_FLEET, fleet).addresses
    edge = ctx.read(EDGE, None)
    bound = (address for address in edge.bind_addresses if not ip_address(address).is_unspecified)
    return tuple(map(published_address, edge.publish_addresses or bound))


class IngressSocket(NamedTuple):
    """A socket that Ingress wants, and why it is not had; empty if it is."""

    socket: SocketKey
    problem: str = ""
    remedy: str = ""


@query("sockets of Ingress")
def ingress_sockets(ctx: Context, fleet: str) -> tuple[IngressSocket, ...]:
    """One for each address and port. Asked by every Ingress, so that what becomes of a socket is looked at once."""
    edge = ctx.read(EDGE, None)
    wanted = (
        SocketKey(fleet, address, port) for port in (edge.http_port, edge.https_port) for address in bind_addresses(ctx)
    )
    return tuple(_look_at(ctx, socket) for socket in wanted)


def _look_at(ctx: Context, socket: SocketKey) -> IngressSocket:
    if said := unavailable(ctx, socket):
        problem, _, remedy = said.partition("; ")
        remedy = remedy or "give Ingress another port (--http-port, --https-port)"
        return IngressSocket(socket, f"{problem}; Ingresses are not served there", remedy)
    winner = lost_to(ctx, socket, INGRESS)
    if winner is None:
        return IngressSocket(socket)
    problem = (
        f"port {socket.port} of {socket.address} belongs to {winner}, which is older or comes first by name; "
        "Ingresses are not served there"
    )
    return IngressSocket(socket, problem, "give the other one another port, or Ingress (--http-port, --https-port)")


def _sockets(key: ObjectKey, sockets: Iterable[IngressSocket]) -> Iterator[Verdict]:
    for socket in sockets:
        if socket.problem:
            yield Verdict(
                object=key,
                severity=Severity.ERROR,
                reason="PortUnavailable",
                problem=socket.problem,
                remedy=socket.remedy,
            )


def _warning(key: ObjectKey, reason: str, field: str, problem: str, remedy: str) -> Verdict:
    return Verdict(object=key, severity=Severity.WARNING, reason=reason, field=field, problem=problem, remedy=remedy)


def _fleet(ctx: Context, key: ObjectKey) -> Iterator[Verdict]:
    """What keeps the proxies of a class from being as they should."""
    parameters = ctx.get(ingress_class_parameters, key.name)
    if parameters.problem:
        yield Verdict(
            object=key,
            severity=Severity.ERROR,
            reason="InvalidParameters",
            field=parameters.field,
            problem=f"{parameters.problem}; proxies of the class stay as they are",
            remedy=parameters.remedy,
        )
    yield from fleet_verdicts(key, ctx.read(OBSERVED_FLEET, ingress_fleet(key.name)))


def report_class(ctx: Context, key: ObjectKey) -> ObjectReport:
    """All there is to say about one IngressClass."""
    found = read_object(ctx, IngressClass, "", key.name)
    if found is None:
        return ObjectReport(object=key, ours=False)
    edge = ctx.read(EDGE, None)
    if not is_ours(edge, found):
        verdict = Verdict(
            object=key,
            severity=Severity.INFO,
            reason="NotOurs",
            field="spec.controller",
            problem=f"belongs to {found.spec.controller or 'nobody'}; its Ingresses are not served by Portway",
            remedy=f"write {edge.controller_class} if Portway is to serve them",
        )
        return ObjectReport(object=key, ours=False, verdicts=(verdict,))
    verdicts: list[Verdict] = []
    verdicts.extend(_fleet(ctx, key))
    is_host = ctx.read(INFRASTRUCTURE, None).is_host
    if is_host and found.spec.parameters is not None and not verdicts:
        verdicts.append(without_effect(key, "spec.parameters"))
    default = default_class(ctx)
    if (
        default is not None
        and default.metadata.name != key.name
        and found.metadata.annotations.get(DEFAULT_ANNOTATION) == "true"
    ):
        problem = f"IngressClass {default.metadata.name} is the default: it is newer, or before it by name"
        field = f'metadata.annotations["{DEFAULT_ANNOTATION}"]'
        verdicts.append(_warning(key, "Conflict", field, problem, "remove the annotation from one of the two"))
    return ObjectReport(object=key, verdicts=tuple(verdicts))
