"""Requests as proxies read them: what `test_differential.py` found out, one by one."""

import pytest

from portway.explain.paths import normalise_path
from portway.explain.request import RequestError, make_request

PATHS = {
    "/a/../b": "/b",
    "/a/./b": "/a/b",
    "/a/..": "/",
    "/..": "/",
    "/a/.": "/a/",
    "//a": "//a",
    "//..": "/",
    "/%41": "/A",
    "/%2e%2E/x": "/x",
    "/a%2Fb": "/a%2Fb",
    "/a%2fb": "/a%2fb",  # the case of an escape is kept
    "/%zz": "/%zz",
    "/%": "/%",
    "/a\\b": "/a/b",
    "/a|b": "/a%7Cb",
    "/a b": "/a%20b",
    "/%00": None,
    "/%%34%31": "/%2541",  # not `%41`: decoding shall not make an escape
    "/%%341": "/%2541",
    "/%%34x": "/%4x",
    "/x;a=b": "/x;a=b",
}


@pytest.mark.parametrize("path", PATHS)
def test_paths_are_normalised(path: str) -> None:
    assert normalise_path(path) == PATHS[path]


AUTHORITIES = {
    # URL, Host field: (host, authority, port)
    ("http://shop.test/", ""): ("shop.test", "shop.test", 80),
    ("http://Shop.Test:8080/", ""): ("shop.test", "shop.test:8080", 8080),
    ("http://shop.test:80/", ""): ("shop.test", "shop.test", 80),
    ("http://x.test:8080/", "Shop.Test.:81"): ("shop.test", "Shop.Test:81", 8080),
    ("http://shop.test./", ""): ("shop.test", "shop.test", 80),
    ("http://[::1]:8080/", ""): ("::1", "[::1]:8080", 8080),
    ("https://shop.test/", "a:b"): ("a:b", "a:b", 443),
}


@pytest.mark.parametrize(("url", "host"), AUTHORITIES)
def test_authorities_are_read(url: str, host: str) -> None:
    request = make_request("GET", url, [("Host", host)] if host else [])
    assert (request.host, request.named, request.port) == AUTHORITIES[url, host]


def test_fields_keep_their_order_and_may_repeat() -> None:
    headers = [("X-A", "1"), ("x-b", "2"), ("x-a", "3"), ("X-Forwarded-For", "1.2.3.4"), ("x-forwarded-proto", "https")]
    request = make_request("get", "http://shop.test/x?#part", headers)
    assert request.fields("x-a") == ("1", "3")
    origins = [("origin", "http://a.test"), ("Origin", "http://b.test")]
    assert make_request("get", "http://shop.test/", origins).fields("origin") == ("http://a.test,http://b.test",)
    assert request.headers == (("x-a", "1"), ("x-b", "2"), ("x-a", "3"))
    assert request.field("x-forwarded-proto") == "http"
    assert (request.method, request.target, request.query) == ("GET", "/x?", "")


@pytest.mark.parametrize("url", ["shop.test/x", "ftp://shop.test", "http://", "http://a:b/", "http://shop.test/%00"])
def test_what_is_no_request_is_refused(url: str) -> None:
    with pytest.raises(RequestError, match=r".+"):
        make_request("GET", url)


def test_text_beyond_ascii_is_sent_as_clients_do() -> None:
    assert make_request("GET", "http://shop.test/é x?q=ü").target == "/%C3%A9%20x?q=%C3%BC"


def test_host_names_are_asked_for_in_ascii() -> None:
    request = make_request("GET", "https://Bücher.example:8443/", server_name="bücher.example")
    assert (request.host, request.server_name) == ("xn--bcher-kva.example", "xn--bcher-kva.example")
    assert request.authority == "xn--bcher-kva.example:8443"
    named = make_request("GET", "http://shop.test/", [("Host", "bücher.example:81")])
    assert (named.host, named.authority) == ("xn--bcher-kva.example", "xn--bcher-kva.example:81")
