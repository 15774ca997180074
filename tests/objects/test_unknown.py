"""Fields and kinds that nobody knows, and the nearest that somebody does."""

import pytest

from portway.objects.channels import Channel
from portway.objects.kinds import KINDS
from portway.objects.parsing import parse
from portway.objects.unknown import unknown_fields
from portway.objects.verdict import ObjectKey, Severity
from tests.objects.documents import document

FIELDS: dict[str, tuple[str, dict[str, object], dict[str, str]]] = {
    # Kind, change; field and remedy of each warning.
    "a misspelt field": (
        "HTTPRoute",
        {"spec.rules[0].backendRef": []},
        {"spec.rules[0].backendRef": "did you mean backendRefs?"},
    ),
    "a field in wrong case": (
        "HTTPRoute",
        {"spec.parentrefs": []},
        {"spec.parentrefs": "did you mean parentRefs?"},
    ),
    "a field of the former API": (
        "Ingress",
        {"spec.rules[0].http.paths[0].backend.serviceName": "a"},
        {"spec.rules[0].http.paths[0].backend.serviceName": "did you mean service?"},
    ),
    "a field at the top": ("HTTPRoute", {"specc": {}}, {"specc": "did you mean spec?"}),
    "a field of metadata": ("HTTPRoute", {"metadata.label": {}}, {"metadata.label": "did you mean labels?"}),
    "a field like no other": ("HTTPRoute", {"spec.zzzzzz": 1}, {"spec.zzzzzz": "remove it"}),
    "keys of maps are free": ("ConfigMap", {"data": {"whatever": "x"}}, {}),
    "what only the server reads": (
        "Service",
        {
            "metadata.managedFields": [{"manager": "a"}],
            "metadata.ownerReferences": [],
            "spec.ipFamilies": ["IPv4"],
            "spec.ports[0].nodePort": 30000,
            "status.loadBalancer": {},
        },
        {},
    ),
    "no list at all": ("HTTPRoute", {"spec.rules": {"matches": []}}, {}),
}


@pytest.mark.parametrize("name", FIELDS)
def test_unknown_fields(name: str) -> None:
    kind, changes, expected = FIELDS[name]
    found = unknown_fields(document(kind, changes), KINDS[kind])
    assert {verdict.field: verdict.remedy for verdict in found} == expected
    assert all(verdict.severity is Severity.WARNING for verdict in found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_document_has_none(kind: str) -> None:
    assert unknown_fields(document(kind), KINDS[kind]) == ()


def test_fields_of_the_experimental_channel() -> None:
    raw = document("HTTPRoute", {"spec.useDefaultGateways": "All", "spec.hostname": []})
    assert [verdict.field for verdict in unknown_fields(raw, KINDS["HTTPRoute"])] == ["spec.hostname"]
    found = unknown_fields(raw, KINDS["HTTPRoute"], Channel.STANDARD)
    assert {verdict.field: verdict.problem for verdict in found} == {
        "spec.useDefaultGateways": "is a field of Gateway API's Experimental channel only and has no effect",
        "spec.hostname": "is not a field of this object and has no effect",
    }


def test_a_key_that_is_no_string() -> None:
    found = unknown_fields({"metadata": {"name": "a"}, "spec": {8080: 1, True: 2}}, KINDS["HTTPRoute"])
    assert [verdict.field for verdict in found] == ['spec["8080"]', "spec.True"]


FOREIGN = {
    # apiVersion, kind: severity, remedy
    ("apps/v1", "Deployment"): (Severity.INFO, ""),
    ("v1", "Pod"): (Severity.INFO, ""),
    ("v1", "Endpoints"): (Severity.INFO, ""),
    ("networking.k8s.io/v1", "NetworkPolicy"): (Severity.INFO, ""),
    ("serving.knative.dev/v1", "Service"): (Severity.INFO, ""),  # the same word for another thing
    ("traefik.io/v1alpha1", "IngressRoute"): (Severity.INFO, ""),
    ("gateway.networking.x-k8s.io/v1alpha1", "XBackend"): (Severity.INFO, ""),
    ("gateway.networking.k8.io/v1", "HTTPRoute"): (Severity.WARNING, "did you mean gateway.networking.k8s.io/v1?"),
    ("gateway.networking.k8s.io/v1", "HttpRoute"): (Severity.WARNING, "did you mean HTTPRoute?"),
    ("portway.dev/v1alpha1", "UpstreamPolicies"): (Severity.WARNING, "did you mean UpstreamPolicy?"),
    ("portway.dev/v1alpha1", "Xyz"): (Severity.WARNING, "its kinds are Backend, UpstreamPolicy or FleetParameters"),
    ("v1", "Ingress"): (Severity.WARNING, "Ingress is in networking.k8s.io/v1"),
    ("v1", "Sercet"): (Severity.WARNING, "did you mean Secret?"),
}


@pytest.mark.parametrize(("api_version", "kind"), FOREIGN)
def test_kinds_that_are_not_read(api_version: str, kind: str) -> None:
    parsed = parse({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a", "namespace": "shop"}})
    assert parsed.key is None
    assert parsed.object is None
    (verdict,) = parsed.verdicts
    assert (verdict.severity, verdict.remedy) == FOREIGN[api_version, kind]
    assert str(verdict.object) == f"{kind} shop/a"


GONE_VERSIONS = {
    # apiVersion, kind: since when, remedy
    ("networking.k8s.io/v1beta1", "Ingress"): (" (Kubernetes 1.22 removed it)", "write networking.k8s.io/v1"),
    ("extensions/v1beta1", "Ingress"): (" (Kubernetes 1.22 removed it)", "write networking.k8s.io/v1"),
    ("discovery.k8s.io/v1beta1", "EndpointSlice"): (" (Kubernetes 1.25 removed it)", "write discovery.k8s.io/v1"),
    ("gateway.networking.k8s.io/v1alpha2", "GRPCRoute"): ("", "write gateway.networking.k8s.io/v1"),
    ("gateway.networking.k8s.io/v1alpha2", "HTTPRoute"): (
        "",
        "write gateway.networking.k8s.io/v1 or gateway.networking.k8s.io/v1beta1",
    ),
    ("networking.k8s.io/v1beta1", "IngressClass"): (" (Kubernetes 1.22 removed it)", "write networking.k8s.io/v1"),
}


@pytest.mark.parametrize(("api_version", "kind"), GONE_VERSIONS)
def test_a_kind_of_ours_in_a_version_that_is_gone_is_refused(api_version: str, kind: str) -> None:
    parsed = parse({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a", "namespace": "shop"}})
    assert parsed.object is None
    assert parsed.key == ObjectKey(kind, "shop" if KINDS[kind].namespaced else "", "a")
    (verdict,) = parsed.verdicts
    since, remedy = GONE_VERSIONS[api_version, kind]
    assert (verdict.severity, verdict.field, verdict.remedy) == (Severity.ERROR, "apiVersion", remedy)
    assert verdict.problem == f'"{api_version}" is no version of {kind} that is still served{since}'
