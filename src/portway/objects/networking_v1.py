"""Networking v1: Ingress and IngressClass.

Source: Kubernetes API reference v1.34, "Ingress", "IngressClass".
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from portway.objects.meta import Meta, Part, TypedReference


class PathType(StrEnum):
    """How an Ingress path matches."""

    EXACT = "Exact"
    PREFIX = "Prefix"
    IMPLEMENTATION_SPECIFIC = "ImplementationSpecific"


class ServiceBackendPort(Part, frozen=True, kw_only=True):
    """Port of a Service: exactly one of the two is set."""

    name: str = ""
    number: int = 0
    """0: not set."""


class IngressServiceBackend(Part, frozen=True, kw_only=True):
    """A Service in the Ingress's namespace."""

    name: str
    port: ServiceBackendPort = ServiceBackendPort()


class IngressBackend(Part, frozen=True, kw_only=True):
    """Where requests go: exactly one of the two is set."""

    service: IngressServiceBackend | None = None
    resource: TypedReference | None = None


class HTTPIngressPath(Part, frozen=True, kw_only=True):
    """One path and its backend."""

    path: str = ""
    """Begins with `/`; may be empty for ImplementationSpecific only."""
    path_type: PathType
    backend: IngressBackend


class HTTPIngressRuleValue(Part, frozen=True, kw_only=True):
    """The paths of a rule."""

    paths: Annotated[tuple[HTTPIngressPath, ...], msgspec.Meta(min_length=1)]


class IngressRule(Part, frozen=True, kw_only=True):
    """The paths of one host."""

    host: str = ""
    """Empty: every host. `*.example.com` stands for exactly one label."""
    http: HTTPIngressRuleValue | None = None
    """None: everything of this host goes to the default backend."""


class IngressTLS(Part, frozen=True, kw_only=True):
    """Certificate for some hosts."""

    hosts: tuple[str, ...] = ()
    secret_name: str = ""
    """Empty: the default certificate."""


class IngressSpec(Part, frozen=True, kw_only=True):
    """What an Ingress asks for."""

    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    tls: tuple[IngressTLS, ...] = ()
    rules: tuple[IngressRule, ...] = ()


class Ingress(Part, frozen=True, kw_only=True):
    """HTTP routes of hosts to Services."""

    metadata: Meta
    spec: IngressSpec = IngressSpec()


class ParametersScope(StrEnum):
    """Where an IngressClass's parameters live."""

    CLUSTER = "Cluster"
    NAMESPACE = "Namespace"


class IngressClassParameters(Part, frozen=True, kw_only=True):
    """An object with further settings of the class."""

    api_group: str = ""
    kind: Annotated[str, msgspec.Meta(min_length=1)]
    name: Annotated[str, msgspec.Meta(min_length=1)]
    scope: ParametersScope = ParametersScope.CLUSTER
    namespace: str = ""


class IngressClassSpec(Part, frozen=True, kw_only=True):
    """Which controller serves the class."""

    controller: str = ""
    parameters: IngressClassParameters | None = None


class IngressClass(Part, frozen=True, kw_only=True):
    """A class of Ingresses."""

    metadata: Meta
    spec: IngressClassSpec = IngressClassSpec()
