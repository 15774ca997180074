"""Rules of Ingress and IngressClass.

Source: Kubernetes v1.37, `pkg/apis/networking/validation`, as an object is judged when it is created.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from portway.objects.meta import TypedReference
from portway.objects.networking_v1 import (
    HTTPIngressPath,
    Ingress,
    IngressBackend,
    IngressClassParameters,
    IngressClassSpec,
    IngressRule,
    IngressServiceBackend,
    IngressSpec,
    IngressTLS,
    ParametersScope,
    PathType,
)
from portway.objects.problems import Problem, quoted
from portway.objects.rules.engine import Table, rules
from portway.objects.rules.names import (
    Wrong,
    wrong_dns_label,
    wrong_dns_subdomain,
    wrong_host,
    wrong_port_name,
    wrong_port_number,
)
from portway.objects.scalars import DOMAIN_PREFIXED_PATH

CLASS_ANNOTATION: Final = "kubernetes.io/ingress.class"
"""How a class was named before `spec.ingressClassName`."""

MAX_CONTROLLER_BYTES: Final = 250

_NOT_IN_PATHS: Final = ("//", "/./", "/../", "%2f", "%2F")
_NOT_AT_END: Final = ("/..", "/.")
_NORMALISE: Final = "write the path that it leads to, with single slashes and without . and .."
_DOMAIN_PREFIXED_PATH: Final = re.compile(DOMAIN_PREFIXED_PATH)


def _class(ingress: Ingress) -> Iterable[Problem]:
    annotation = ingress.metadata.annotations.get(CLASS_ANNOTATION)
    name = ingress.spec.ingress_class_name
    if annotation is not None and name is not None and annotation != name:
        problem = f"{quoted(annotation)} is another class than the {quoted(name)} of spec.ingressClassName"
        return (Problem(("metadata", "annotations", CLASS_ANNOTATION), problem, "remove the annotation"),)
    return ()


def _spec(spec: IngressSpec) -> Iterator[Problem]:
    if not spec.rules and spec.default_backend is None:
        yield Problem((), "has neither rules nor a defaultBackend", "set one of the two")
    if spec.ingress_class_name is not None and (wrong := wrong_dns_subdomain(spec.ingress_class_name)):
        yield Problem(("ingressClassName",), *wrong)


def _tls(tls: IngressTLS) -> Iterator[Problem]:
    for index, host in enumerate(tls.hosts):
        if wrong := wrong_host(host) if "*" in host else wrong_dns_subdomain(host):
            yield Problem(("hosts", index), *wrong)
    if tls.secret_name and (wrong := wrong_dns_subdomain(tls.secret_name)):
        yield Problem(("secretName",), *wrong)


def _rule(rule: IngressRule) -> Iterable[Problem]:
    if rule.host and (wrong := wrong_host(rule.host)):
        return (Problem(("host",), *wrong),)
    return ()


def _path(found: HTTPIngressPath) -> Iterator[Problem]:
    path = found.path
    if found.path_type is PathType.IMPLEMENTATION_SPECIFIC:
        if path and not path.startswith("/"):
            yield Problem(("path",), f"{quoted(path)} does not begin with '/'", f"write {quoted('/' + path)}")
        return
    if not path.startswith("/"):
        yield Problem(("path",), f"{quoted(path)} does not begin with '/'", f"write {quoted('/' + path)}")
    for part in _NOT_IN_PATHS:
        if part in path:
            yield Problem(("path",), f"{quoted(path)} contains '{part}', which no normalised path has", _NORMALISE)
    for end in _NOT_AT_END:
        if path.endswith(end):
            yield Problem(("path",), f"{quoted(path)} ends with '{end}', which no normalised path does", _NORMALISE)


def _backend(backend: IngressBackend) -> Iterable[Problem]:
    if backend.service is not None and backend.resource is not None:
        return (Problem((), "has both a service and a resource", "keep one of the two"),)
    if backend.service is None and backend.resource is None:
        return (Problem((), "has neither a service nor a resource", "set one of the two"),)
    return ()


def _service(service: IngressServiceBackend) -> Iterator[Problem]:
    if not service.name:
        yield Problem(("name",), "is empty", "name a Service of the same namespace")
    elif wrong := wrong_dns_label(service.name):
        yield Problem(("name",), *wrong)
    port = service.port
    if port.name and port.number:
        yield Problem(("port",), "has both a name and a number", "keep one of the two")
    elif port.name:
        if wrong := wrong_port_name(port.name):
            yield Problem(("port", "name"), *wrong)
    elif port.number:
        if wrong := wrong_port_number(port.number):
            yield Problem(("port", "number"), *wrong)
    else:
        yield Problem(("port",), "has neither a name nor a number", "write the Service port's name or number")


def _path_segment(field: str, name: str) -> Iterable[Problem]:
    if name in (".", "..") or "/" in name or "%" in name:
        return (Problem((field,), f"{quoted(name)} cannot be the name of an object", "write a name without / and %"),)
    return ()


def _reference(reference: TypedReference | IngressClassParameters) -> Iterator[Problem]:
    if reference.api_group and (wrong := wrong_dns_subdomain(reference.api_group)):
        yield Problem(("apiGroup",), *wrong)
    yield from _path_segment("kind", reference.kind)
    yield from _path_segment("name", reference.name)


def _class_spec(spec: IngressClassSpec) -> Iterable[Problem]:
    controller = spec.controller
    if not controller:
        return (Problem(("controller",), "is required, but not set", "write one like portway.dev/ingress-controller"),)
    if len(controller.encode("utf-8", "replace")) > MAX_CONTROLLER_BYTES:
        return (
            Problem(("controller",), f"{quoted(controller)} has more than {MAX_CONTROLLER_BYTES} bytes", "shorten it"),
        )
    if not _DOMAIN_PREFIXED_PATH.match(controller):
        problem = f"{quoted(controller)} is not a path with a domain before it"
        return (Problem(("controller",), problem, "write it like portway.dev/ingress-controller"),)
    return ()


def _parameters(parameters: IngressClassParameters) -> Iterable[Problem]:
    wrong: Wrong | None = None
    if parameters.scope is not ParametersScope.NAMESPACE:
        if parameters.namespace:
            wrong = Wrong("is set, but scope is Cluster", "remove it, or set scope to Namespace")
    elif not parameters.namespace:
        wrong = Wrong("is required for scope Namespace, but not set", "name the namespace of the parameters")
    else:
        wrong = wrong_dns_label(parameters.namespace)
    return (Problem(("namespace",), *wrong),) if wrong else ()


RULES: Final[Table] = dict(
    [
        rules(Ingress, _class),
        rules(IngressSpec, _spec),
        rules(IngressTLS, _tls),
        rules(IngressRule, _rule),
        rules(HTTPIngressPath, _path),
        rules(IngressBackend, _backend),
        rules(IngressServiceBackend, _service),
        rules(TypedReference, _reference),
        rules(IngressClassSpec, _class_spec),
        rules(IngressClassParameters, _reference, _parameters),
    ]
)
