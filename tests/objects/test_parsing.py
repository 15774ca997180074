"""From documents to objects: defaults, what the API server cleans, wording, keys."""

from datetime import UTC, date, datetime
from time import perf_counter
from typing import cast

import msgspec
import pytest

from portway.objects.core_v1 import ConfigMap, Namespace, Protocol, Secret, Service
from portway.objects.discovery_v1 import EndpointSlice
from portway.objects.gateway_v1 import Gateway, RouteFrom, TLSMode
from portway.objects.httproute_v1 import HTTPRoute, HTTPRouteMatch, PathMatchType
from portway.objects.kinds import KINDS, key_of
from portway.objects.meta import Part
from portway.objects.parsing import parse, parse_json
from portway.objects.scalars import SecretBytes, encode_hook
from portway.objects.verdict import ObjectKey, Severity
from tests.kit.verdicts import faults_of_all
from tests.objects.documents import GONE, document, errors_of


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read(kind: str) -> None:
    for api_version in KINDS[kind].api_versions:
        parsed = parse(document(kind) | {"apiVersion": api_version})
        assert parsed.verdicts == ()
        assert parsed.object is not None
        assert parsed.key == key_of(parsed.object)
        assert parsed.key == ObjectKey(kind, "default" if KINDS[kind].namespaced else "", "cart")


@pytest.mark.parametrize("kind", KINDS)
def test_json_gives_the_same(kind: str) -> None:
    raw = document(kind, {"metadata.generation": 3, "metadata.namespace": "shop"})
    from_data = parse(raw)
    from_json = parse_json(KINDS[kind], msgspec.json.encode(raw))
    assert from_json == from_data
    assert from_json.generation == 3


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read(kind: str) -> None:
    if kind == "Secret":
        return  # its values are never written
    found = cast(Part, parse(document(kind)).object)
    head = {"apiVersion": KINDS[kind].api_versions[0], "kind": kind}
    again = parse(head | cast(dict[str, object], msgspec.to_builtins(found, enc_hook=encode_hook)))
    assert cast(Part, again.object) == found


def test_defaults_of_an_http_route() -> None:
    found = parse(document("HTTPRoute", {"spec": {}})).object
    assert isinstance(found, HTTPRoute)
    assert len(found.spec.rules) == 1
    assert found.spec.rules[0].matches == (HTTPRouteMatch(),)
    assert found.spec.rules[0].matches[0].path.type is PathMatchType.PATH_PREFIX
    assert found.spec.rules[0].matches[0].path.value == "/"
    assert parse(document("HTTPRoute", {"spec": {"rules": [{"matches": [{"path": {}}]}]}})).object == found
    parent = parse(document("HTTPRoute", {"spec.parentRefs": [{"name": "a"}]})).object
    assert isinstance(parent, HTTPRoute)
    assert parent.spec.parent_refs[0].kind == "Gateway"
    assert parent.spec.rules[0].backend_refs[0].weight == 1


def test_no_matches_are_none() -> None:
    # An empty list is not an absent one: the default is for the latter.
    found = parse(document("HTTPRoute", {"spec.rules[0].matches": []})).object
    assert isinstance(found, HTTPRoute)
    assert found.spec.rules[0].matches == ()


def test_defaults_of_a_gateway() -> None:
    tls = {"certificateRefs": [{"name": "a"}]}
    found = parse(document("Gateway", {"spec.listeners[0].protocol": "HTTPS", "spec.listeners[0].tls": tls})).object
    assert isinstance(found, Gateway)
    listener = found.spec.listeners[0]
    assert listener.allowed_routes.namespaces.from_ is RouteFrom.SAME
    assert listener.tls is not None
    assert listener.tls.mode is TLSMode.TERMINATE
    assert listener.tls.certificate_refs[0].kind == "Secret"


def test_defaults_of_a_service() -> None:
    found = parse(document("Service", {"spec.sessionAffinity": "ClientIP"})).object
    assert isinstance(found, Service)
    assert found.spec.ports[0].protocol is Protocol.TCP
    assert found.spec.ports[0].target_port == 80
    assert found.spec.session_affinity_config is not None
    assert found.spec.session_affinity_config.client_ip is not None
    assert found.spec.session_affinity_config.client_ip.timeout_seconds == 10800


def test_defaults_of_an_endpoint_slice() -> None:
    found = parse(document("EndpointSlice", {"ports": [{"port": 80}]})).object
    assert isinstance(found, EndpointSlice)
    assert (found.ports[0].name, found.ports[0].protocol) == ("", Protocol.TCP)
    conditions = found.endpoints[0].conditions
    assert (conditions.is_ready, conditions.is_serving, conditions.is_terminating) == (True, True, False)


def test_a_namespace_has_its_name_as_label() -> None:
    found = parse(document("Namespace", {"metadata.labels": {"a": "b"}})).object
    assert isinstance(found, Namespace)
    assert found.metadata.labels == {"a": "b", "kubernetes.io/metadata.name": "cart"}


def test_string_data_is_merged_into_data() -> None:
    found = parse(document("Secret", {"stringData": {"key": "new", "other": "é"}})).object
    assert isinstance(found, Secret)
    assert found.data == {"key": SecretBytes(b"new"), "other": SecretBytes("é".encode())}
    assert found.string_data == {}


def test_a_secret_shows_nothing() -> None:
    found = parse(document("Secret", {"stringData": {"key": "hunter2" * 300}})).object
    assert isinstance(found, Secret)
    assert "<redacted, 2,100 bytes>" in repr(found)
    assert "hunter2" not in repr(found) + msgspec.json.encode(found, enc_hook=encode_hook).decode()
    assert found.data["key"].reveal() == b"hunter2" * 300


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"a": 12345}},
        {"data": {"a": "hunter2%"}},
        {"data": "hunter2"},
        {"stringData": {"a": 12345}},
        {"stringData": {"a": ["hunter2"]}},
        {"stringData": ["hunter2"]},
        {"stringData": 12345},
    ],
)
def test_a_wrong_secret_shows_nothing(changes: dict[str, object]) -> None:
    parsed = parse(document("Secret", changes))
    assert parsed.object is None
    assert parsed.verdicts
    assert not any(secret in str(parsed.verdicts) for secret in ("hunter2", "12345"))


def test_nulls_count_as_absent() -> None:
    raw = document("HTTPRoute", {"metadata.creationTimestamp": None, "metadata.labels": None, "spec.rules": None})
    parsed = parse(raw)
    assert parsed.verdicts == ()
    assert parsed.object == parse(document("HTTPRoute", {"spec": {}})).object


def test_a_null_in_a_list_is_wrong() -> None:
    assert errors_of(parse(document("HTTPRoute", {"spec.hostnames": [None]}))) == ["spec.hostnames[0]"]


def test_keys_of_maps_become_strings() -> None:
    # As the conversion of YAML to JSON does it: ConfigMaps of ingress-nginx have ports as keys.
    raw: dict[str, object] = document("ConfigMap")
    raw["data"] = {9000: "shop/cart:8080", True: "x"}
    found = parse(raw).object
    assert isinstance(found, ConfigMap)
    assert found.data == {"9000": "shop/cart:8080", "true": "x"}


def test_equality_does_not_see_what_the_server_counts() -> None:
    one = parse(document("Service", {"metadata.resourceVersion": "1", "metadata.generation": 1, "status": {}}))
    two = parse(document("Service", {"metadata.resourceVersion": "2", "metadata.generation": 2}))
    assert one.object == two.object
    assert (one.generation, two.generation) == (1, 2)


def test_a_cluster_scoped_object_is_in_no_namespace() -> None:
    assert parse(document("GatewayClass", {"metadata.namespace": "shop"})).key == ObjectKey("GatewayClass", "", "cart")


def test_times_have_a_zone() -> None:
    found = parse(document("Service", {"metadata.creationTimestamp": "2026-01-31T12:00:00Z"})).object
    assert found is not None
    assert found.metadata.creation_timestamp == datetime(2026, 1, 31, 12, tzinfo=UTC)


MESSAGES: dict[str, tuple[str, dict[str, object], str]] = {
    # One change, the whole verdict.
    "an enum": (
        "Ingress",
        {"spec.rules[0].http.paths[0].pathType": "Prefx"},
        'Ingress default/cart: spec.rules[0].http.paths[0].pathType: "Prefx" is none of Exact, Prefix, '
        "ImplementationSpecific; did you mean Prefix?",
    ),
    "a number in quotes": (
        "Service",
        {"spec.ports[0].port": "80"},
        'Service default/cart: spec.ports[0].port: "80" is not a whole number; write 80 without quotes',
    ),
    "a number out of range": (
        "Service",
        {"spec.ports[0].port": 65536},
        "Service default/cart: spec.ports[0].port: 65536 is out of range; allowed is from 1 to 65535",
    ),
    "a string without quotes": (
        "HTTPRoute",
        {"metadata.labels": {"version": 2}},
        'HTTPRoute default/cart: metadata.labels.version: 2 is not a string; quote it: "2"',
    ),
    "a date without quotes": (
        "ConfigMap",
        {"data": {"since": date(2026, 1, 31)}},
        'ConfigMap default/cart: data.since: a date is not a string; quote it: "2026-01-31"',
    ),
    "a boolean in quotes": (
        "Service",
        {"spec.publishNotReadyAddresses": "yes"},
        'Service default/cart: spec.publishNotReadyAddresses: "yes" is not true or false; '
        "write true or false, without quotes",
    ),
    "a list that is none": (
        "HTTPRoute",
        {"spec.hostnames": "shop.example"},
        'HTTPRoute default/cart: spec.hostnames: "shop.example" is not a list; '
        "write one entry per line, each after '- '",
    ),
    "an object that is none": (
        "HTTPRoute",
        {"spec": []},
        "HTTPRoute default/cart: spec: a list is not an object with fields; "
        "write its fields as `name: value`, one per line",
    ),
    "a required field": ("HTTPRoute", {"spec": GONE}, "HTTPRoute default/cart: spec: is required, but not set; set it"),
    "a duration": (
        "HTTPRoute",
        {"spec.rules[0].timeouts.request": "10"},
        'HTTPRoute default/cart: spec.rules[0].timeouts.request: "10" is no duration; '
        "write numbers with the units h, m, s, ms, such as 10s or 1m30s",
    ),
    "a name with other characters": (
        "Service",
        {"metadata.name": "Cart_Service"},
        'Service default/Cart_Service: metadata.name: "Cart_Service" is not a name of at most 63 lower-case letters, '
        "digits and '-'; write one such as \"cart-service\"",
    ),
    "a host with a port": (
        "Ingress",
        {"spec.rules[0].host": "shop.test:8080"},
        'Ingress default/cart: spec.rules[0].host: "shop.test:8080" has a port, which no host of an Ingress has; '
        'write "shop.test"',
    ),
    "a host in another script": (
        "Ingress",
        {"spec.rules[0].host": "bücher.test"},
        'Ingress default/cart: spec.rules[0].host: "bücher.test" is not a host name as it is asked for; '
        'write "xn--bcher-kva.test"',
    ),
    "a long value": (
        "HTTPRoute",
        {"spec.hostnames": ["A" * 200]},
        f'HTTPRoute default/cart: spec.hostnames[0]: "{"A" * 77}..." is not a valid value; '
        "allowed is a lower-case host name, optionally with '*.' as its first label",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_message(name: str) -> None:
    kind, changes, message = MESSAGES[name]
    parsed = parse(document(kind, changes))
    assert [str(verdict) for verdict in parsed.verdicts] == [message]
    assert faults_of_all(parsed.verdicts) == []
    assert parsed.verdicts[0].severity is Severity.ERROR


def test_all_mistakes_are_told_at_once() -> None:
    # A wrong type, and rules in parts that are sound although something beside them is not.
    raw = document(
        "HTTPRoute",
        {
            "spec.hostnames": ["A"],
            "spec.rules[0].matches[0].path.value": "a//b",
            "spec.rules[0].backendRefs": [{"name": "a"}, {"name": "b", "port": "80"}],
        },
    )
    assert errors_of(parse(raw)) == [
        "spec.hostnames[0]",
        "spec.rules[0].backendRefs[1].port",
        "spec.rules[0].backendRefs[0].port",
        "spec.rules[0].matches[0].path.value",  # no slash at the beginning
        "spec.rules[0].matches[0].path.value",  # two in the middle
    ]


def test_a_refused_object_still_has_its_key_and_generation() -> None:
    parsed = parse(document("HTTPRoute", {"metadata.generation": 7, "metadata.namespace": "shop", "spec": 1}))
    assert parsed.key == ObjectKey("HTTPRoute", "shop", "cart")
    assert parsed.generation == 7


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (None, [""]),
        ([], [""]),
        ("text", [""]),
        ({}, ["apiVersion", "kind"]),
        ({"kind": "Service"}, ["apiVersion"]),
        ({"apiVersion": "v1", "kind": 5}, ["kind"]),
    ],
)
def test_a_document_that_does_not_say_what_it_is(raw: object, fields: list[str]) -> None:
    parsed = parse(raw)
    assert parsed.key is None
    assert errors_of(parsed) == fields


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff", b'{"metadata": 1}', b"[" * 99_999, b'{"a":' * 9_999]
)
def test_json_that_is_no_object(data: bytes) -> None:
    parsed = parse_json(KINDS["HTTPRoute"], data)
    assert parsed.object is None
    assert errors_of(parsed)


def test_an_item_of_a_list_does_not_say_its_kind() -> None:
    raw = document("TLSRoute", {"spec.hostnames": GONE, "apiVersion": GONE, "kind": GONE})
    parsed = parse_json(KINDS["TLSRoute"], msgspec.json.encode(raw))
    assert errors_of(parsed) == ["spec.hostnames"]  # judged as the preferred version


@pytest.mark.parametrize("path", ["metadata.name", "metadata.annotations", "spec.hostnames"])
def test_text_that_cannot_be_written_is_refused(path: str) -> None:
    value = {"metadata.annotations": {"a": "\ud800"}, "spec.hostnames": ["\ud800"]}.get(path, "\ud800")
    parsed = parse(document("HTTPRoute", {path: value}))
    (field,) = errors_of(parsed)
    assert field.startswith(path)
    assert str(parsed.verdicts).encode()


def test_hostile_values_cost_no_time() -> None:
    # Patterns of the definitions, taken as they are, would need exponential time for these in Python.
    values = ["a" * 4095 + "\n", "a-" * 126 + "!", "a." * 126 + "!", "!" * 4096 + "\x00", "%2" * 500]
    started = perf_counter()
    for value in values:
        headers = [{"name": "a", "value": value}]
        changes = {
            "spec.rules[0].matches[0]": {"headers": headers, "path": {"value": value}},
            "spec.hostnames": [value],
        }
        assert errors_of(parse(document("HTTPRoute", changes)))
        assert errors_of(parse(document("Service", {"metadata.labels": {value * 100: value}})))
        assert errors_of(parse(document("EndpointSlice", {"endpoints": [{"addresses": [value * 100]}]})))
        assert errors_of(
            parse(document("Gateway", {"spec.listeners[0].protocol": value, "spec.addresses": [{"type": value}]}))
        )
    assert perf_counter() - started < 2
