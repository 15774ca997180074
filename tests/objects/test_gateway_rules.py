"""Gateway API's rules between fields: what the API server refuses, and next to it what it takes."""

from collections.abc import Mapping

import pytest

from tests.objects.documents import GONE, expect, parsed_errors

PATH = "spec.rules[0].matches[0].path.value"
RULE = "spec.rules[0]"
FILTER = "spec.rules[0].filters[0]"
BACKEND = "spec.rules[0].backendRefs[0]"
LISTENER = "spec.listeners[0]"

Case = tuple[str, Mapping[str, object], str | tuple[str, ...]]

HEADERS = {"set": [{"name": "a", "value": "b"}]}
PREFIX = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}
FULL = {"type": "ReplaceFullPath", "replaceFullPath": "/x"}


def parents(*references: Mapping[str, object]) -> dict[str, object]:
    return {"spec.parentRefs": [{"name": "gateway", **reference} for reference in references]}


def filters(*found: Mapping[str, object]) -> dict[str, object]:
    return {"spec.rules[0].filters": list(found), "spec.rules[0].backendRefs": GONE}


HTTP_ROUTE_CASES: dict[str, Case] = {
    # Paths
    "a path begins with a slash": ("HTTPRoute", {PATH: "a"}, PATH),
    "a path is not empty": ("HTTPRoute", {PATH: ""}, PATH),
    "a path has no empty segment": ("HTTPRoute", {PATH: "/a//b"}, PATH),
    "a path has no . segment": ("HTTPRoute", {PATH: "/a/./b"}, PATH),
    "a path has no .. segment": ("HTTPRoute", {PATH: "/a/../b"}, PATH),
    "a path has no escaped slash": ("HTTPRoute", {PATH: "/a%2fb"}, PATH),
    "a path has no escaped slash in capitals": ("HTTPRoute", {PATH: "/a%2Fb"}, PATH),
    "a path has no fragment": ("HTTPRoute", {PATH: "/a#b"}, PATH),
    "a path does not end with ..": ("HTTPRoute", {PATH: "/a/.."}, PATH),
    "a path does not end with .": ("HTTPRoute", {PATH: "/a/."}, PATH),
    "a path has characters of paths": ("HTTPRoute", {PATH: "/a?b"}, PATH),
    "a path ends where the text ends": ("HTTPRoute", {PATH: "/a\n"}, PATH),
    "a path may have escapes": ("HTTPRoute", {PATH: "/a%20b/~c"}, ()),
    "a path may have dots": ("HTTPRoute", {PATH: "/.well-known/..a/b..", RULE + ".matches[0].path.type": "Exact"}, ()),
    "a pattern may be anything": (
        "HTTPRoute",
        {PATH: "a//b#[", "spec.rules[0].matches[0].path.type": "RegularExpression"},
        (),
    ),
    "a path has at most 1024 characters": ("HTTPRoute", {PATH: "/" + "a" * 1024}, PATH),
    # Filters: the field that type names, and no other
    "a filter has the field of its type": ("HTTPRoute", filters({"type": "RequestMirror"}), FILTER + ".requestMirror"),
    "a filter has no field of another type": (
        "HTTPRoute",
        filters({"type": "RequestHeaderModifier", "requestHeaderModifier": HEADERS, "cors": {}}),
        FILTER + ".cors",
    ),
    "each type needs its field": (
        "HTTPRoute",
        filters(
            *(
                {"type": kind}
                for kind in ("RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "URLRewrite")
            ),
            *({"type": kind} for kind in ("CORS", "ExternalAuth", "ExtensionRef")),
        ),
        tuple(
            f"spec.rules[0].filters[{index}].{name}"
            for index, name in enumerate(
                (
                    *("requestHeaderModifier", "responseHeaderModifier", "requestMirror", "urlRewrite"),
                    *("cors", "externalAuth", "extensionRef"),
                )
            )
        ),
    ),
    "a redirect needs its field": ("HTTPRoute", filters({"type": "RequestRedirect"}), FILTER + ".requestRedirect"),
    "a filter of a backend has the field of its type": (
        "HTTPRoute",
        {BACKEND + ".filters": [{"type": "URLRewrite"}]},
        BACKEND + ".filters[0].urlRewrite",
    ),
    # Filters: together
    "a redirect does not go with a rewrite": (
        "HTTPRoute",
        filters({"type": "RequestRedirect", "requestRedirect": {}}, {"type": "URLRewrite", "urlRewrite": {}}),
        RULE + ".filters",
    ),
    "five filters may not be repeated": (
        "HTTPRoute",
        filters(
            *([{"type": "RequestHeaderModifier", "requestHeaderModifier": HEADERS}] * 2),
            *([{"type": "ResponseHeaderModifier", "responseHeaderModifier": HEADERS}] * 2),
            *([{"type": "URLRewrite", "urlRewrite": {}}] * 2),
            *([{"type": "CORS", "cors": {}}] * 2),
        ),
        tuple(f"spec.rules[0].filters[{index}]" for index in (1, 3, 5, 7)),
    ),
    "a redirect may not be repeated": (
        "HTTPRoute",
        filters(*[{"type": "RequestRedirect", "requestRedirect": {}}] * 2),
        RULE + ".filters[1]",
    ),
    "mirrors may be repeated": (
        "HTTPRoute",
        filters(*[{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "a", "port": 1}}}] * 2),
        (),
    ),
    "a redirect has no backends": (
        "HTTPRoute",
        {FILTER: {"type": "RequestRedirect", "requestRedirect": {}}},
        RULE + ".backendRefs",
    ),
    # Replacing the matched prefix
    "a replaced prefix was matched": (
        "HTTPRoute",
        {
            FILTER: {"type": "URLRewrite", "urlRewrite": {"path": PREFIX}},
            "spec.rules[0].matches[0].path.type": "Exact",
        },
        RULE + ".matches",
    ),
    "a replaced prefix is the only match": (
        "HTTPRoute",
        {
            FILTER: {"type": "URLRewrite", "urlRewrite": {"path": PREFIX}},
            "spec.rules[0].matches[1].path.value": "/b",
        },
        RULE + ".matches",
    ),
    "a redirect replaces a matched prefix, too": (
        "HTTPRoute",
        {
            **filters({"type": "RequestRedirect", "requestRedirect": {"path": PREFIX}}),
            "spec.rules[0].matches[0].path.type": "Exact",
        },
        RULE + ".matches",
    ),
    "a backend's filter replaces a matched prefix, too": (
        "HTTPRoute",
        {
            BACKEND + ".filters": [{"type": "URLRewrite", "urlRewrite": {"path": PREFIX}}],
            "spec.rules[0].matches[0].path.type": "Exact",
        },
        RULE + ".matches",
    ),
    "the default match is a prefix": (
        "HTTPRoute",
        {FILTER: {"type": "URLRewrite", "urlRewrite": {"path": PREFIX}}, "spec.rules[0].matches": GONE},
        (),
    ),
    "a full path needs no prefix": (
        "HTTPRoute",
        {
            FILTER: {"type": "URLRewrite", "urlRewrite": {"path": FULL}},
            "spec.rules[0].matches[0].path.type": "Exact",
        },
        (),
    ),
    "a path modifier has the field of its type": (
        "HTTPRoute",
        filters({"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath"}}}),
        FILTER + ".urlRewrite.path.replaceFullPath",
    ),
    "a path modifier has no other field": (
        "HTTPRoute",
        filters({"type": "URLRewrite", "urlRewrite": {"path": {**FULL, "replacePrefixMatch": "/"}}}),
        FILTER + ".urlRewrite.path.replacePrefixMatch",
    ),
    # Values of filters
    "* stands alone in CORS": (
        "HTTPRoute",
        filters(
            {
                "type": "CORS",
                "cors": {
                    "allowOrigins": ["*", "https://a"],
                    "allowMethods": ["*", "GET"],
                    "allowHeaders": ["*", "X-A"],
                    "exposeHeaders": ["*", "X-A"],
                },
            }
        ),
        tuple(f"{FILTER}.cors.{name}" for name in ("allowOrigins", "allowMethods", "allowHeaders")),
    ),
    "a set has no duplicates": (
        "HTTPRoute",
        filters({"type": "CORS", "cors": {"allowMethods": ["GET", "GET"]}}),
        FILTER + ".cors.allowMethods[1]",
    ),
    "header names are unique": (
        "HTTPRoute",
        filters({"type": "RequestHeaderModifier", "requestHeaderModifier": {"add": [{"name": "a", "value": "b"}] * 2}}),
        FILTER + ".requestHeaderModifier.add[1].name",
    ),
    "a mirror has percent or fraction": (
        "HTTPRoute",
        filters(
            {
                "type": "RequestMirror",
                "requestMirror": {
                    "backendRef": {"name": "a", "port": 1},
                    "percent": 1,
                    "fraction": {"numerator": 1},
                },
            }
        ),
        FILTER + ".requestMirror.percent",
    ),
    "a fraction is at most 1": (
        "HTTPRoute",
        filters(
            {
                "type": "RequestMirror",
                "requestMirror": {"backendRef": {"name": "a", "port": 1}, "fraction": {"numerator": 101}},
            }
        ),
        FILTER + ".requestMirror.fraction.numerator",
    ),
    "a mirrored Service has a port": (
        "HTTPRoute",
        filters({"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "a"}}}),
        FILTER + ".requestMirror.backendRef.port",
    ),
    "external auth over HTTP has http": (
        "HTTPRoute",
        filters({"type": "ExternalAuth", "externalAuth": {"protocol": "HTTP", "backendRef": {"name": "a", "port": 1}}}),
        FILTER + ".externalAuth.http",
    ),
    "external auth over gRPC has no http": (
        "HTTPRoute",
        filters(
            {
                "type": "ExternalAuth",
                "externalAuth": {"protocol": "GRPC", "backendRef": {"name": "a", "port": 1}, "grpc": {}, "http": {}},
            }
        ),
        FILTER + ".externalAuth.http",
    ),
    # Backends
    "a Service has a port": ("HTTPRoute", {BACKEND: {"name": "a"}}, BACKEND + ".port"),
    "another kind needs no port": ("HTTPRoute", {BACKEND: {"name": "a", "group": "x.y", "kind": "Service"}}, ()),
    "an XBackend has no port": (
        "HTTPRoute",
        {BACKEND: {"name": "a", "group": "gateway.networking.x-k8s.io", "kind": "XBackend", "port": 1}},
        BACKEND + ".port",
    ),
    # Rules
    "rule names are unique": (
        "HTTPRoute",
        {"spec.rules": [{"name": "a"}, {"name": "b"}, {"name": "a"}]},
        "spec.rules[2].name",
    ),
    "a route has at most 128 matches": (
        "HTTPRoute",
        {"spec.rules": [{"matches": [{}] * 64}] * 2 + [{"matches": [{}]}]},
        "spec.rules",
    ),
    "a route may have 128 matches": ("HTTPRoute", {"spec.rules": [{"matches": [{}] * 64}] * 2}, ()),
    "a rule has at most 64 matches": ("HTTPRoute", {RULE + ".matches": [{}] * 65}, RULE + ".matches"),
    "a route has at most 16 rules": ("HTTPRoute", {"spec.rules": [{}] * 17}, "spec.rules"),
    "an empty list of rules is none": ("HTTPRoute", {"spec.rules": []}, "spec.rules"),
    "match headers are unique": (
        "HTTPRoute",
        {RULE + ".matches[0].headers": [{"name": "a", "value": "b"}] * 2},
        RULE + ".matches[0].headers[1].name",
    ),
    "query parameters are unique": (
        "HTTPRoute",
        {RULE + ".matches[0].queryParams": [{"name": "a", "value": "b"}] * 2},
        RULE + ".matches[0].queryParams[1].name",
    ),
    # Timeouts, retries, sessions
    "a try is no longer than its request": (
        "HTTPRoute",
        {RULE + ".timeouts": {"request": "1s", "backendRequest": "1001ms"}},
        RULE + ".timeouts.backendRequest",
    ),
    "a request of 0s has no end": ("HTTPRoute", {RULE + ".timeouts": {"request": "0s", "backendRequest": "9s"}}, ()),
    "a try may be as long as its request": (
        "HTTPRoute",
        {RULE + ".timeouts": {"request": "1m", "backendRequest": "60s"}},
        (),
    ),
    "a timeout is a duration": (
        "HTTPRoute",
        {RULE + ".timeouts.request": "1.5s"},
        RULE + ".timeouts.request",
    ),
    "retry codes are errors": (
        "HTTPRoute",
        {RULE + ".retry": {"codes": [399, 500, 600]}},
        (RULE + ".retry.codes[0]", RULE + ".retry.codes[2]"),
    ),
    "a permanent cookie has an end": (
        "HTTPRoute",
        {RULE + ".sessionPersistence.cookie.lifetimeType": "Permanent"},
        RULE + ".sessionPersistence.absoluteTimeout",
    ),
    "a session by cookie has cookie": (
        "HTTPRoute",
        {RULE + ".sessionPersistence": {}},
        RULE + ".sessionPersistence.cookie",
    ),
    "a session by header has no cookie": (
        "HTTPRoute",
        {RULE + ".sessionPersistence": {"type": "Header", "header": {"name": "a"}, "cookie": {}}},
        RULE + ".sessionPersistence.cookie",
    ),
    # Parents
    "the same parent twice is one too many": ("HTTPRoute", parents({}, {}), "spec.parentRefs[1]"),
    "parents differ in their sections": ("HTTPRoute", parents({"sectionName": "a"}, {"sectionName": "b"}), ()),
    "parents differ in their ports": ("HTTPRoute", parents({"port": 1}, {"port": 2}), ()),
    "parents differ in their namespaces": ("HTTPRoute", parents({}, {"namespace": "other"}), ()),
    "a part and the whole do not go together": ("HTTPRoute", parents({}, {"sectionName": "a"}), "spec.parentRefs[1]"),
    "a port and the whole do not go together": ("HTTPRoute", parents({"port": 1}, {}), "spec.parentRefs[1]"),
    "sections are unique": (
        "HTTPRoute",
        parents({"sectionName": "a"}, {"sectionName": "b"}, {"sectionName": "a"}),
        "spec.parentRefs[2]",
    ),
}

OTHER_ROUTE_CASES: dict[str, Case] = {
    "a gRPC match has service or method": (
        "GRPCRoute",
        {RULE + ".matches[0].method": {}},
        RULE + ".matches[0].method",
    ),
    "a gRPC service is a name": (
        "GRPCRoute",
        {RULE + ".matches[0].method.service": "shop/Cart"},
        RULE + ".matches[0].method.service",
    ),
    "a gRPC method is a name": (
        "GRPCRoute",
        {RULE + ".matches[0].method.method": "Get Item"},
        RULE + ".matches[0].method.method",
    ),
    "a gRPC service may have packages": (
        "GRPCRoute",
        {RULE + ".matches[0].method": {"service": ".Shop.v1.Cart_2", "method": "_get"}},
        (),
    ),
    "a gRPC pattern may be anything": (
        "GRPCRoute",
        {RULE + ".matches[0].method": {"type": "RegularExpression", "service": "a/.*"}},
        (),
    ),
    "gRPC filters may not be repeated": (
        "GRPCRoute",
        {RULE + ".filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": HEADERS}] * 2},
        RULE + ".filters[1]",
    ),
    "a gRPC filter has the field of its type": (
        "GRPCRoute",
        {RULE + ".filters": [{"type": "ExtensionRef"}]},
        FILTER + ".extensionRef",
    ),
    "a gRPC backend has a port": ("GRPCRoute", {BACKEND: {"name": "a"}}, BACKEND + ".port"),
    "gRPC rule names are unique": ("GRPCRoute", {"spec.rules": [{"name": "a"}] * 2}, "spec.rules[1].name"),
    "a gRPC route may have no rules": ("GRPCRoute", {"spec.rules": GONE}, ()),
    "TLS routes have hosts": ("TLSRoute", {"spec.hostnames": GONE}, "spec.hostnames"),
    "TLS hosts are no addresses": ("TLSRoute", {"spec.hostnames": ["10.0.0.1"]}, "spec.hostnames[0]"),
    "TLS hosts may have a wildcard": ("TLSRoute", {"spec.hostnames": ["*.shop.example"]}, ()),
    "a TLS wildcard is the first label": ("TLSRoute", {"spec.hostnames": ["a.*.example"]}, "spec.hostnames[0]"),
    "a TLS route has one rule": ("TLSRoute", {"spec.rules[1].backendRefs": [{"name": "a", "port": 1}]}, "spec.rules"),
    "a TCP route has one rule": ("TCPRoute", {"spec.rules[1].backendRefs": [{"name": "a", "port": 1}]}, "spec.rules"),
    "a UDP route has one rule": ("UDPRoute", {"spec.rules[1].backendRefs": [{"name": "a", "port": 1}]}, "spec.rules"),
    "a TCP rule has backends": ("TCPRoute", {RULE + ".backendRefs": []}, RULE + ".backendRefs"),
    "a TCP backend has a port": ("TCPRoute", {BACKEND: {"name": "a"}}, BACKEND + ".port"),
    "TCP parents are unique": ("TCPRoute", parents({}, {}), "spec.parentRefs[1]"),
}

GATEWAY_CASES: dict[str, Case] = {
    "HTTP has no TLS": (
        "Gateway",
        {LISTENER + ".tls": {"certificateRefs": [{"name": "a"}]}},
        LISTENER + ".tls",
    ),
    "HTTPS ends TLS": (
        "Gateway",
        {LISTENER + ".protocol": "HTTPS", LISTENER + ".tls": {"mode": "Passthrough"}},
        LISTENER + ".tls.mode",
    ),
    "HTTPS may say nothing of TLS": ("Gateway", {LISTENER + ".protocol": "HTTPS"}, ()),
    "TLS says what it does": ("Gateway", {LISTENER + ".protocol": "TLS"}, LISTENER + ".tls"),
    "TCP knows no hosts": (
        "Gateway",
        {LISTENER + ".protocol": "TCP", LISTENER + ".hostname": "a.b"},
        LISTENER + ".hostname",
    ),
    "Terminate needs a certificate": (
        "Gateway",
        {LISTENER + ".protocol": "HTTPS", LISTENER + ".tls": {}},
        LISTENER + ".tls.certificateRefs",
    ),
    "options may stand for a certificate": (
        "Gateway",
        {LISTENER + ".protocol": "HTTPS", LISTENER + ".tls": {"options": {"a": "b"}}},
        (),
    ),
    "listener names are unique": (
        "Gateway",
        {"spec.listeners[1]": {"name": "http", "port": 81, "protocol": "HTTP"}},
        "spec.listeners[1].name",
    ),
    "listeners differ in port, protocol or host": (
        "Gateway",
        {"spec.listeners[1]": {"name": "b", "port": 80, "protocol": "HTTP"}},
        "spec.listeners[1]",
    ),
    "a host makes a listener another": (
        "Gateway",
        {"spec.listeners[1]": {"name": "b", "port": 80, "protocol": "HTTP", "hostname": "a.b"}},
        (),
    ),
    "listener filters need requests": (
        "Gateway",
        {LISTENER + ".protocol": "TCP", LISTENER + ".filters": {}},
        LISTENER + ".filters",
    ),
    "a listener filter has the field of its type": (
        "Gateway",
        {LISTENER + ".filters.requests": [{"type": "ExtensionRef"}]},
        LISTENER + ".filters.requests[0].extensionRef",
    ),
    "an address of type IPAddress is one": (
        "Gateway",
        {"spec.addresses": [{"value": "fe80::1%eth0"}, {"value": "1.2.3"}, {"value": "::1"}, {}]},
        ("spec.addresses[0].value", "spec.addresses[1].value"),
    ),
    "an address of type Hostname is one": (
        "Gateway",
        {"spec.addresses": [{"type": "Hostname", "value": "A.b"}]},
        "spec.addresses[0].value",
    ),
    "addresses are unique": (
        "Gateway",
        {"spec.addresses": [{"value": "10.0.0.1"}, {}, {"value": "10.0.0.1"}, {}]},
        "spec.addresses[2].value",
    ),
    "routability is Cluster or prefixed": (
        "Gateway",
        {
            "spec.addresses": [
                *({"routability": text} for text in ("", "Cluster", "a.b/c", "cluster", "k8s.io/a", "x.k8s.io/a", "a/"))
            ]
        },
        tuple(f"spec.addresses[{index}].routability" for index in (3, 4, 5, 6)),
    ),
    "infrastructure labels are labels": (
        "Gateway",
        {"spec.infrastructure": {"labels": {"-a": "b"}, "annotations": {"a/b/c": "d"}}},
        ('spec.infrastructure.labels["-a"]', 'spec.infrastructure.annotations["a/b/c"]'),
    ),
    "a ClusterTrustBundle is in no namespace": (
        "Gateway",
        {
            "spec.tls.frontend.default.validation.caCertificateRefs": [
                {"group": "certificates.k8s.io", "kind": "ClusterTrustBundle", "name": "a", "namespace": "b"}
            ]
        },
        "spec.tls.frontend.default.validation.caCertificateRefs[0].namespace",
    ),
    "ports of frontend TLS are unique": (
        "Gateway",
        {"spec.tls.frontend": {"default": {}, "perPort": [{"port": 1, "tls": {}}, {"port": 1, "tls": {}}]}},
        "spec.tls.frontend.perPort[1].port",
    ),
    "a ListenerSet's listeners follow the same rules": (
        "ListenerSet",
        {LISTENER + ".protocol": "TLS"},
        LISTENER + ".tls",
    ),
    "a ListenerSet's listeners differ": (
        "ListenerSet",
        {"spec.listeners[1]": {"name": "b", "port": 80, "protocol": "HTTP"}},
        "spec.listeners[1]",
    ),
}

POLICY_CASES: dict[str, Case] = {
    "a policy says which CAs it trusts": (
        "BackendTLSPolicy",
        {"spec.validation.wellKnownCACertificates": GONE},
        "spec.validation",
    ),
    "a policy says it once": (
        "BackendTLSPolicy",
        {"spec.validation.caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "a"}]},
        "spec.validation",
    ),
    "a target occurs once": (
        "BackendTLSPolicy",
        {"spec.targetRefs[1]": {"group": "", "kind": "Service", "name": "cart"}},
        "spec.targetRefs[1]",
    ),
    "a target and its part do not go together": (
        "BackendTLSPolicy",
        {"spec.targetRefs[1]": {"group": "", "kind": "Service", "name": "cart", "sectionName": "http"}},
        "spec.targetRefs[1]",
    ),
    "parts of a target are fine": (
        "BackendTLSPolicy",
        {
            "spec.targetRefs": [
                {"group": "", "kind": "Service", "name": "cart", "sectionName": name} for name in ("a", "b")
            ]
        },
        (),
    ),
    "an alternative name has the field of its type": (
        "BackendTLSPolicy",
        {"spec.validation.subjectAltNames": [{"type": "Hostname", "uri": "spiffe://a/b"}]},
        ("spec.validation.subjectAltNames[0].hostname", "spec.validation.subjectAltNames[0].uri"),
    ),
    "a URI has an authority": (
        "BackendTLSPolicy",
        {"spec.validation.subjectAltNames": [{"type": "URI", "uri": "urn:a"}]},
        "spec.validation.subjectAltNames[0].uri",
    ),
    "a grant names both sides": ("ReferenceGrant", {"spec.from": [], "spec.to": GONE}, ("spec.from", "spec.to")),
    "a controller has a domain": ("GatewayClass", {"spec.controllerName": "portway"}, "spec.controllerName"),
}

CASES = {**HTTP_ROUTE_CASES, **OTHER_ROUTE_CASES, **GATEWAY_CASES, **POLICY_CASES}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    kind, changes, fields = CASES[name]
    assert parsed_errors(kind, changes) == expect(fields)


OLDER_VERSIONS: dict[str, tuple[str, str, Mapping[str, object], str | tuple[str, ...]]] = {
    "v1alpha2 takes several rules": (
        "TCPRoute",
        "v1alpha2",
        {"spec.rules[1].backendRefs": [{"name": "a", "port": 1}]},
        (),
    ),
    "v1alpha2 wants unique rule names": (
        "TCPRoute",
        "v1alpha2",
        {"spec.rules": [{"name": "a", "backendRefs": [{"name": "a", "port": 1}]}] * 2},
        "spec.rules[1].name",
    ),
    "v1alpha2 takes no hosts": ("TLSRoute", "v1alpha2", {"spec.hostnames": GONE}, ()),
    "v1alpha2 takes addresses as hosts": ("TLSRoute", "v1alpha2", {"spec.hostnames": ["10.0.0.1"]}, ()),
    "v1alpha3 is as strict as v1": ("TLSRoute", "v1alpha3", {"spec.hostnames": GONE}, "spec.hostnames"),
    "v1beta1 is v1": ("HTTPRoute", "v1beta1", {PATH: "a"}, PATH),
}


@pytest.mark.parametrize("name", OLDER_VERSIONS)
def test_rule_of_an_older_version(name: str) -> None:
    kind, version, changes, fields = OLDER_VERSIONS[name]
    assert parsed_errors(kind, changes, version=version) == expect(fields)
