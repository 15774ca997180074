"""What an operator reads when the API server says no."""

import pytest

from portway.kubernetes.backoff import Backoff, is_transient
from portway.kubernetes.client import resource_path
from portway.kubernetes.errors import ApiError, ApiUnreachable, error_of
from portway.kubernetes.paths import Target, target_of

ROUTES = resource_path("gateway.networking.k8s.io", "v1", "httproutes")

PATHS = {
    ("", "v1", "secrets", "", "", ""): "/api/v1/secrets",
    ("", "v1", "secrets", "shop", "", ""): "/api/v1/namespaces/shop/secrets",
    ("", "v1", "secrets", "shop", "crt", ""): "/api/v1/namespaces/shop/secrets/crt",
    ("", "v1", "namespaces", "", "shop", ""): "/api/v1/namespaces/shop",
    ("", "v1", "namespaces", "", "shop", "status"): "/api/v1/namespaces/shop/status",
    ("apps", "v1", "deployments", "shop", "web", "scale"): "/apis/apps/v1/namespaces/shop/deployments/web/scale",
    ("gateway.networking.k8s.io", "v1", "gatewayclasses", "", "a", "status"): (
        "/apis/gateway.networking.k8s.io/v1/gatewayclasses/a/status"
    ),
}


@pytest.mark.parametrize("parts", PATHS)
def test_paths_are_made_and_read(parts: tuple[str, str, str, str, str, str]) -> None:
    path = PATHS[parts]
    assert resource_path(*parts) == path
    group, version, plural, namespace, name, subresource = parts
    assert target_of(path) == Target(path, group, version, namespace, plural, name, subresource)


def test_a_path_that_is_no_resource_has_no_target() -> None:
    assert target_of("/readyz") == Target("/readyz")
    assert target_of("/apis/gateway.networking.k8s.io/v1").resource == ""


REMEDIES = {
    ("list", ROUTES): (
        'add the rule {apiGroups: ["gateway.networking.k8s.io"], resources: ["httproutes"], '
        'verbs: ["list", "watch"]} to a ClusterRole that is bound to this user'
    ),
    ("update", resource_path("", "v1", "services", "shop", "a", "status")): (
        'add the rule {apiGroups: [""], resources: ["services/status"], verbs: ["update"]} '
        "to a Role in the namespace shop that is bound to this user"
    ),
    ("get", "/metrics"): 'add the rule {nonResourceURLs: ["/metrics"], verbs: ["get"]} to a ClusterRole of this user',
}


@pytest.mark.parametrize(("verb", "path"), REMEDIES)
def test_forbidden_names_the_rule_that_is_missing(verb: str, path: str) -> None:
    error = error_of(verb, path, 403, "", b'{"kind":"Status","reason":"Forbidden","message":"no"}')
    assert str(error) == f"{verb} {path}: 403 Forbidden: no; {REMEDIES[verb, path]}"


ABSENT = {
    # of an object, of its subresource: the API server's words
    (f"{ROUTES}/cart", 'httproutes.gateway.networking.k8s.io "cart" not found'): True,
    (f"{ROUTES}/cart/status", 'httproutes.gateway.networking.k8s.io "cart" not found'): True,
    (f"{ROUTES}/cart", "404 page not found"): False,  # a version that is not served
    (f"{ROUTES}/cart", "the server could not find the requested resource"): False,
    (ROUTES, "404 page not found"): False,
}


@pytest.mark.parametrize(("path", "message"), ABSENT)
def test_no_such_object_is_not_no_such_kind(path: str, message: str) -> None:
    assert ApiError("get", path, 404, "NotFound", message).is_of_absent_object is ABSENT[path, message]


WAITS = {
    # header, body: seconds
    ("7", b""): 7.0,
    ("", b'{"details":{"retryAfterSeconds":3}}'): 3.0,
    ("", b"{}"): None,
    ("Wed, 21 Oct 2026 07:28:00 GMT", b""): None,
}


@pytest.mark.parametrize(("header", "body"), WAITS)
def test_the_time_that_a_server_asks_for_is_read(header: str, body: bytes) -> None:
    assert error_of("list", ROUTES, 429, header, body).retry_after == WAITS[header, body]


def test_an_answer_that_is_no_status_is_shown_and_cut() -> None:
    error = error_of("list", ROUTES, 502, "", b"<html>\n" + b"x" * 100_000)
    assert "502: <html> xxx" in str(error)
    assert len(str(error)) < 1_000


def test_what_is_tried_again() -> None:
    assert is_transient(ApiUnreachable("no answer"))
    assert [is_transient(ApiError("get", "/", status, "", "")) for status in (408, 429, 500, 503)] == [True] * 4
    assert [is_transient(ApiError("get", "/", status, "", "")) for status in (400, 403, 404, 409, 422)] == [False] * 5
    assert not is_transient(KeyError("x"))


def test_waits_grow_with_jitter_and_end_with_success() -> None:
    backoff = Backoff(first=1, longest=10, chance=lambda: 1.0)
    assert [backoff.failed() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.succeeded()
    assert backoff.failed() == 1
    assert Backoff(first=1, chance=lambda: 0.0).failed() == 0.5


def test_a_server_is_never_asked_before_its_time() -> None:
    backoff = Backoff(chance=lambda: 0.0)
    assert backoff.failed(ApiError("list", ROUTES, 429, "", "", retry_after=20)) > 20
    assert backoff.failed(ApiError("list", ROUTES, 429, "", "", retry_after=1e9)) < 200


def test_nobody_is_told_to_mend_a_namespace_that_goes() -> None:
    message = (
        'services "web" is forbidden: unable to create new content in namespace shop because it is being terminated'
    )
    error = ApiError("create", resource_path("", "v1", "services", "shop"), 403, reason="Forbidden", message=message)
    assert error.is_of_ending_namespace
    assert "add the rule" not in str(error)
    gone = ApiError(
        "patch", resource_path("", "v1", "services", "shop", "web"), 404, "NotFound", 'namespaces "shop" not found'
    )
    assert gone.is_of_ending_namespace
    assert "CustomResourceDefinition" not in str(gone)
    missing = ApiError("get", ROUTES, 404, "NotFound", "the server could not find the requested resource")
    assert not missing.is_of_ending_namespace
