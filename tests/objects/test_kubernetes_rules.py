"""What kube-apiserver refuses of Kubernetes' own kinds, and next to it what it takes."""

from collections.abc import Mapping

import pytest

from portway.objects.parsing import parse
from tests.objects.documents import GONE, document, errors_of, expect, parsed_errors

Case = tuple[str, Mapping[str, object], str | tuple[str, ...]]

PORT = "spec.ports[0]"
PATH = "spec.rules[0].http.paths[0]"
SERVICE = PATH + ".backend.service"

META_CASES: dict[str, Case] = {
    "an object has a name": ("Service", {"metadata.name": GONE}, "metadata.name"),
    "a name is not empty": ("Service", {"metadata.name": ""}, "metadata.name"),
    "a Service's name is a label": ("Service", {"metadata.name": "a.b"}, "metadata.name"),
    "a Service's name may begin with a digit": ("Service", {"metadata.name": "1a"}, ()),
    "a Namespace's name is a label": ("Namespace", {"metadata.name": "a.b"}, "metadata.name"),
    "other names may have dots": ("Secret", {"metadata.name": "a.b"}, ()),
    "names have no capitals": ("HTTPRoute", {"metadata.name": "Cart"}, "metadata.name"),
    "names have at most 253 characters": ("HTTPRoute", {"metadata.name": "a" * 254}, "metadata.name"),
    "names may have 253 characters": ("Gateway", {"metadata.name": "a" * 253}, ()),
    "a namespace is a label": ("HTTPRoute", {"metadata.namespace": "a.b"}, "metadata.namespace"),
    "label keys are names": (
        "HTTPRoute",
        {"metadata.labels": {"a/b/c": "", "-": "", "a" * 64: "", "A.b/c": "", "a.b/C_d": ""}},
        (*(f'metadata.labels["{key}"]' for key in ("a/b/c", "-", "A.b/c")), "metadata.labels." + "a" * 64),
    ),
    "label values are names": (
        "HTTPRoute",
        {"metadata.labels": {"a": "b c", "d": "e" * 64, "f": "-", "g": "", "h": "I_j.k"}},
        ("metadata.labels.a", "metadata.labels.d", "metadata.labels.f"),
    ),
    "annotation keys may have capitals in their domain": (
        "HTTPRoute",
        {"metadata.annotations": {"Example.com/A": "anything at all\n", "a b": ""}},
        'metadata.annotations["a b"]',
    ),
    "annotations have at most 256 KiB": (
        "HTTPRoute",
        {"metadata.annotations": {"a": "é" * (128 * 1024)}},
        "metadata.annotations",
    ),
    "annotations may have 256 KiB": ("HTTPRoute", {"metadata.annotations": {"a": "b" * (256 * 1024 - 1)}}, ()),
}

SERVICE_CASES: dict[str, Case] = {
    "a Service has ports": ("Service", {"spec.ports": GONE}, "spec.ports"),
    "a headless Service needs none": ("Service", {"spec.ports": GONE, "spec.clusterIP": "None"}, ()),
    "one port needs no name": ("Service", {PORT + ".name": GONE}, ()),
    "several ports have names": (
        "Service",
        {"spec.ports": [{"port": 80}, {"port": 81}]},
        ("spec.ports[0].name", "spec.ports[1].name"),
    ),
    "port names are unique": (
        "Service",
        {"spec.ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]},
        "spec.ports[1].name",
    ),
    "ports are unique": (
        "Service",
        {"spec.ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]},
        "spec.ports[1]",
    ),
    "protocols make ports different": (
        "Service",
        {"spec.ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80, "protocol": "UDP"}]},
        (),
    ),
    "a port's name is a label": ("Service", {PORT + ".name": "a.b"}, PORT + ".name"),
    "a target may be a name": ("Service", {PORT + ".targetPort": "http-2"}, ()),
    "a target name has a letter": ("Service", {PORT + ".targetPort": "8080"}, PORT + ".targetPort"),
    "a target name is short": ("Service", {PORT + ".targetPort": "a" * 16}, PORT + ".targetPort"),
    "a target name has no double dash": ("Service", {PORT + ".targetPort": "a--b"}, PORT + ".targetPort"),
    "a target is a port": ("Service", {PORT + ".targetPort": 65536}, PORT + ".targetPort"),
    "a port is a port": ("Service", {PORT + ".port": 0}, PORT + ".port"),
    "an appProtocol is a qualified name": ("Service", {PORT + ".appProtocol": "a b"}, PORT + ".appProtocol"),
    "an appProtocol may have a domain": ("Service", {PORT + ".appProtocol": "kubernetes.io/h2c"}, ()),
    "an ExternalName has a name": ("Service", {"spec.type": "ExternalName"}, "spec.externalName"),
    "an external name may end with a dot": (
        "Service",
        {"spec.type": "ExternalName", "spec.externalName": "a.example.", "spec.ports": GONE},
        (),
    ),
    "an external name is a DNS name": (
        "Service",
        {"spec.type": "ExternalName", "spec.externalName": "a b"},
        "spec.externalName",
    ),
    "an ExternalName has no address": (
        "Service",
        {"spec.type": "ExternalName", "spec.externalName": "a.b", "spec.clusterIP": "None"},
        "spec.clusterIP",
    ),
    "a cluster address is one": ("Service", {"spec.clusterIP": "10.0.0"}, "spec.clusterIP"),
    "a load balancer is not headless": (
        "Service",
        {"spec.type": "LoadBalancer", "spec.clusterIP": "None"},
        "spec.clusterIP",
    ),
    "a selector has labels": ("Service", {"spec.selector": {"a": "b c"}}, "spec.selector.a"),
    "affinity is bounded": (
        "Service",
        {
            "spec.sessionAffinity": "ClientIP",
            "spec.sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}},
        },
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
    ),
    "traffic distribution is known": (
        "Service",
        {"spec.trafficDistribution": "PreferNear"},
        "spec.trafficDistribution",
    ),
}

SLICE_CASES: dict[str, Case] = {
    "addresses are of the slice's type": (
        "EndpointSlice",
        {"endpoints": [{"addresses": ["::1", "10.0.0.1"]}, {"addresses": ["a"]}]},
        ("endpoints[0].addresses[0]", "endpoints[1].addresses[0]"),
    ),
    "IPv6 addresses have no zone": (
        "EndpointSlice",
        {"addressType": "IPv6", "endpoints": [{"addresses": ["2001:db8::1"]}, {"addresses": ["2001:db8::1%eth0"]}]},
        "endpoints[1].addresses[0]",
    ),
    "names are DNS names": (
        "EndpointSlice",
        {"addressType": "FQDN", "endpoints": [{"addresses": ["a.example"]}, {"addresses": ["A_b"]}]},
        "endpoints[1].addresses[0]",
    ),
    "special addresses are no endpoints": (
        "EndpointSlice",
        {
            "endpoints": [
                {"addresses": ["0.0.0.0"]},
                {"addresses": ["169.254.169.254"]},
                {"addresses": ["224.0.0.1"]},
                {"addresses": ["224.0.1.1"]},
            ]
        },
        tuple(f"endpoints[{index}].addresses[0]" for index in range(3)),
    ),
    "special IPv6 addresses are no endpoints": (
        "EndpointSlice",
        {"addressType": "IPv6", "endpoints": [{"addresses": [a]} for a in ("::", "fe80::1", "ff02::1", "ff05::1")]},
        tuple(f"endpoints[{index}].addresses[0]" for index in range(3)),
    ),
    "a file may have loopback addresses": ("EndpointSlice", {"endpoints": [{"addresses": ["127.0.0.1"]}]}, ()),
    "an endpoint has an address": ("EndpointSlice", {"endpoints": [{"addresses": []}]}, "endpoints[0].addresses"),
    "an endpoint's names are names": (
        "EndpointSlice",
        {"endpoints[0].hostname": "a.b", "endpoints[0].nodeName": "A"},
        ("endpoints[0].hostname", "endpoints[0].nodeName"),
    ),
    "hints occur once": (
        "EndpointSlice",
        {"endpoints[0].hints.forZones": [{"name": "a"}, {"name": "a"}]},
        "endpoints[0].hints.forZones[1].name",
    ),
    "port names are unique": ("EndpointSlice", {"ports": [{}, {}]}, "ports[1].name"),
    "ports are ports": ("EndpointSlice", {"ports": [{"name": "A", "port": 0}]}, ("ports[0].name", "ports[0].port")),
    "a slice has at most 1000 endpoints": (
        "EndpointSlice",
        {"endpoints": [{"addresses": ["10.0.0.1"]}] * 1001},
        "endpoints",
    ),
}

DATA_CASES: dict[str, Case] = {
    "keys are file names": (
        "Secret",
        {"data": {"..a": "", ".": "", "a/b": "", ".a": "", "A_b-c.d": ""}},
        ('data["..a"]', 'data["."]', 'data["a/b"]'),
    ),
    "data is base64": ("Secret", {"data": {"a": "%"}}, "data.a"),
    "a TLS Secret has its keys": (
        "Secret",
        {"type": "kubernetes.io/tls", "data": {"tls.crt": ""}},
        'data["tls.key"]',
    ),
    "stringData counts": (
        "Secret",
        {"type": "kubernetes.io/tls", "data": GONE, "stringData": {"tls.crt": "a", "tls.key": "b"}},
        (),
    ),
    "a Secret has at most 1 MiB": ("Secret", {"stringData": {"a": "b" * (1024 * 1024 + 1)}}, "data"),
    "a ConfigMap has at most 1 MiB": ("ConfigMap", {"data": {"a": "b" * (1024 * 1024 + 1)}}, "data"),
    "a key is text or bytes": ("ConfigMap", {"data": {"a": ""}, "binaryData": {"a": ""}}, "binaryData.a"),
}

INGRESS_CASES: dict[str, Case] = {
    "an Ingress asks for something": ("Ingress", {"spec": {}}, "spec"),
    "a default backend is enough": (
        "Ingress",
        {"spec": {"defaultBackend": {"service": {"name": "a", "port": {"name": "http"}}}}},
        (),
    ),
    "a path has a type": ("Ingress", {PATH + ".pathType": GONE}, PATH + ".pathType"),
    "a path's type is known": ("Ingress", {PATH + ".pathType": "Prefx"}, PATH + ".pathType"),
    "a prefix begins with a slash": ("Ingress", {PATH + ".path": "a"}, PATH + ".path"),
    "a prefix is not empty": ("Ingress", {PATH + ".path": GONE}, PATH + ".path"),
    "a prefix is normalised": ("Ingress", {PATH + ".path": "/a//b/./c/../d%2f%2F"}, PATH + ".path"),
    "a prefix does not end with a dot": ("Ingress", {PATH + ".path": "/a/."}, PATH + ".path"),
    "a pattern may be anything after a slash": (
        "Ingress",
        {PATH + ".pathType": "ImplementationSpecific", PATH + ".path": "/a//(b|c)?"},
        (),
    ),
    "a pattern may be missing": ("Ingress", {PATH + ".pathType": "ImplementationSpecific", PATH + ".path": GONE}, ()),
    "a pattern begins with a slash": (
        "Ingress",
        {PATH + ".pathType": "ImplementationSpecific", PATH + ".path": "(a)"},
        PATH + ".path",
    ),
    "a backend is one thing": (
        "Ingress",
        {PATH + ".backend.resource": {"kind": "Backend", "name": "a", "apiGroup": "portway.dev"}},
        PATH + ".backend",
    ),
    "a backend is something": ("Ingress", {PATH + ".backend": {}}, PATH + ".backend"),
    "a backend may be a resource": (
        "Ingress",
        {PATH + ".backend": {"resource": {"kind": "Backend", "name": "a", "apiGroup": "portway.dev"}}},
        (),
    ),
    "a Service port is a name or a number": (
        "Ingress",
        {SERVICE + ".port": {"name": "a", "number": 1}},
        SERVICE + ".port",
    ),
    "a Service has a port": ("Ingress", {SERVICE + ".port": GONE}, SERVICE + ".port"),
    "a Service's port is a port": ("Ingress", {SERVICE + ".port": {"number": 65536}}, SERVICE + ".port.number"),
    "a Service's port name is one": ("Ingress", {SERVICE + ".port": {"name": "A"}}, SERVICE + ".port.name"),
    "a Service's name is a label": ("Ingress", {SERVICE + ".name": "a.b"}, SERVICE + ".name"),
    "a host is no address": ("Ingress", {"spec.rules[0].host": "10.0.0.1"}, "spec.rules[0].host"),
    "a host has no port": ("Ingress", {"spec.rules[0].host": "a.b:80"}, "spec.rules[0].host"),
    "a wildcard is the first label": ("Ingress", {"spec.rules[0].host": "a.*.b"}, "spec.rules[0].host"),
    "a wildcard is a whole label": ("Ingress", {"spec.rules[0].host": "*a.b"}, "spec.rules[0].host"),
    "a wildcard is not everything": ("Ingress", {"spec.rules[0].host": "*"}, "spec.rules[0].host"),
    "a host may have a wildcard": ("Ingress", {"spec.rules[0].host": "*.b"}, ()),
    "TLS hosts are hosts": (
        "Ingress",
        {"spec.tls": [{"hosts": ["a.b", "*.b", "a b", "*"], "secretName": "a.b"}, {"secretName": "A"}]},
        ("spec.tls[0].hosts[2]", "spec.tls[0].hosts[3]", "spec.tls[1].secretName"),
    ),
    "a rule has paths": ("Ingress", {"spec.rules[0].http.paths": []}, "spec.rules[0].http.paths"),
    "a rule may have a host only": ("Ingress", {"spec.rules[0].http": GONE}, ()),
    "a class is a name": ("Ingress", {"spec.ingressClassName": "A b"}, "spec.ingressClassName"),
    "a controller has a domain": ("IngressClass", {"spec.controller": "portway"}, "spec.controller"),
    "a class has a controller": ("IngressClass", {"spec": GONE}, "spec.controller"),
    "a controller's name is short": ("IngressClass", {"spec.controller": "a.b/" + "c" * 250}, "spec.controller"),
    "parameters of a cluster are in no namespace": (
        "IngressClass",
        {"spec.parameters": {"kind": "A", "name": "b", "namespace": "c"}},
        "spec.parameters.namespace",
    ),
    "parameters of a namespace are in one": (
        "IngressClass",
        {"spec.parameters": {"kind": "A", "name": "b", "scope": "Namespace"}},
        "spec.parameters.namespace",
    ),
}

CASES = {**META_CASES, **SERVICE_CASES, **SLICE_CASES, **DATA_CASES, **INGRESS_CASES}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    kind, changes, fields = CASES[name]
    assert parsed_errors(kind, changes) == expect(fields)


def test_a_clusters_slice_has_no_loopback_address() -> None:
    found = document("EndpointSlice", {"endpoints": [{"addresses": ["127.0.0.1"]}]})
    assert errors_of(parse(found, from_cluster=True)) == ["endpoints[0].addresses[0]"]


@pytest.mark.parametrize(("annotation", "fields"), [("nginx", ()), ("other", "class")])
def test_class_and_annotation_agree(annotation: str, fields: str | tuple[str, ...]) -> None:
    found = document("Ingress", {"spec.ingressClassName": "nginx"})
    found["metadata"] = {"name": "a", "annotations": {"kubernetes.io/ingress.class": annotation}}
    wanted = ['metadata.annotations["kubernetes.io/ingress.class"]'] if fields else []
    assert errors_of(parse(found)) == wanted


def test_a_service_is_completed_as_by_the_api_server() -> None:
    spec: dict[str, object] = {
        "type": "",
        "sessionAffinity": "",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}},
        "ports": [{"port": 80}],
    }
    plain: dict[str, object] = {"ports": [{"port": 80}]}
    assert service_with(spec) == service_with(plain)


def service_with(spec: dict[str, object]) -> object:
    parsed = parse({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec})
    assert parsed.verdicts == ()
    return parsed.object
