"""Every parser of annotation values, as tables; and laws for all entries at once."""

import contextlib
from collections.abc import Callable
from datetime import timedelta

import pytest
import re2  # type: ignore[import-untyped]  # ships no stubs
from hypothesis import given
from hypothesis import strategies as st

from portway.model.edge import Edge
from portway.model.route import HashOn
from portway.objects.verdict import ObjectKey, Severity
from portway.translate.ingress.annotations import access, parsers, upstreams
from portway.translate.ingress.annotations.entry import Annotation, OnInvalid, Settings, Unsupported
from portway.translate.ingress.annotations.reading import Reading, read_annotations
from portway.translate.ingress.annotations.table import BY_NAME, SUPPORTED, UNSUPPORTED
from portway.translate.ingress.annotations.unsupported import changes_nothing, guarding_directive
from portway.translate.ingress.annotations.upstreams import UPSTREAM_HASH_BY, HashBy

INVALID = object()
KEY = ObjectKey("Ingress", "shop", "cart")
PREFIX = "nginx.ingress.kubernetes.io/"

CASES: list[tuple[Callable[[str], object], str, object]] = [
    # Go's ParseBool and nothing else.
    *((parsers.boolean, text, True) for text in ("1", "t", "T", "TRUE", "true", "True")),
    *((parsers.boolean, text, False) for text in ("0", "f", "F", "FALSE", "false", "False")),
    *((parsers.boolean, text, INVALID) for text in ("yes", "on", "tRUE", "", "2", " true")),
    # Go's Atoi: a sign, digits, no unit, no space.
    (parsers.integer(0), "10", 10),
    (parsers.integer(0), "+10", 10),
    (parsers.integer(0), "007", 7),
    (parsers.integer(0), "-1", INVALID),
    (parsers.integer(-5), "-1", -1),
    (parsers.integer(0), "1_0", INVALID),
    (parsers.integer(0), "\u0661", INVALID),  # an Arabic digit, which Python's int() would take
    (parsers.integer(0), "10s", INVALID),
    (parsers.integer(0), "9" * 30, INVALID),
    (parsers.seconds, "60", timedelta(seconds=60)),
    (parsers.seconds, "20s", INVALID),
    (parsers.seconds, "50k", INVALID),
    (parsers.size_bytes, "8m", 8 * 1024 * 1024),
    (parsers.size_bytes, "8M", 8 * 1024 * 1024),
    (parsers.size_bytes, "1k", 1024),
    (parsers.size_bytes, "1g", 1024**3),
    (parsers.size_bytes, "100", 100),
    (parsers.size_bytes, "0", 0),
    (parsers.size_bytes, "15r", INVALID),
    (parsers.size_bytes, "1.5m", INVALID),
    (parsers.size_bytes, "m", INVALID),
    (parsers.items, " a, ,b,", ("a", "b")),
    (parsers.token, "X-Canary", "X-Canary"),
    (parsers.token, "X Canary", INVALID),
    (parsers.token, "a:b", INVALID),
    (parsers.path_with_captures, "/$2", "/$2"),
    (parsers.path_with_captures, "new/backend", "new/backend"),
    (parsers.path_with_captures, "/a?b", INVALID),
    (parsers.path_with_captures, "/a;b", INVALID),
    (parsers.path_with_captures, "/a\n", INVALID),
    (parsers.absolute_path, "/app", "/app"),
    (parsers.absolute_path, "app", INVALID),
    (parsers.absolute_path, "//evil.example", INVALID),
    (parsers.absolute_path, "https://x.example/", INVALID),
    (parsers.url, "https://x.example/y?z=1&a=%20", "https://x.example/y?z=1&a=%20"),
    (parsers.url, "/new", "/new"),
    (parsers.url, "https://x.example/ {", INVALID),
    (parsers.url, 'https://x.example/"', INVALID),
    (parsers.url, "$request_uri", INVALID),
    (parsers.http_url, "HTTPS://x.example", "HTTPS://x.example"),
    (parsers.http_url, "/new", INVALID),
    (parsers.http_url, "ftp://x.example", INVALID),
    (parsers.hosts, "b.example, A.example,b.example", ("a.example", "b.example")),
    (parsers.hosts, "*.x.example,~^a[0-9]$", ("*.x.example", "~^a[0-9]$")),
    (parsers.hosts, "a b", INVALID),
    (parsers.hosts, "a.*.example", INVALID),
    (parsers.hosts, "x.example;", INVALID),
    (parsers.cidrs, "10.0.0.0/8, 192.0.2.7", ("10.0.0.0/8", "192.0.2.7/32")),
    (parsers.cidrs, "10.1.2.3/8", ("10.0.0.0/8",)),
    (parsers.cidrs, "::1, 2001:db8::/32", ("2001:db8::/32", "::1/128")),
    (parsers.cidrs, "10.0.0.0/33", INVALID),
    (parsers.cidrs, "10.0.0", INVALID),
    (parsers.cidrs, "10.0.0.0/8 10.1.0.0/16", INVALID),
    (parsers.cidrs, ",", INVALID),
    (parsers.upstream_host, "a.example:8080", "a.example:8080"),
    (parsers.upstream_host, "[::1]:80", "[::1]:80"),
    (parsers.upstream_host, "$host", ""),
    (parsers.upstream_host, "$service_name.example", INVALID),
    (parsers.upstream_host, "a b", INVALID),
    (parsers.service_name, "sorry-page", "sorry-page"),
    (parsers.service_name, "other/sorry", INVALID),
    (upstreams.PROXY_NEXT_UPSTREAM.parse, "error timeout", frozenset({"error", "timeout"})),
    (upstreams.PROXY_NEXT_UPSTREAM.parse, "error http_418", INVALID),
    (upstreams.PROXY_NEXT_UPSTREAM.parse, "error,timeout", INVALID),
    (upstreams.BACKEND_PROTOCOL.parse, "grpcs", upstreams.BackendProtocol.GRPCS),
    (upstreams.BACKEND_PROTOCOL.parse, "h2c", INVALID),
    (upstreams.LOAD_BALANCE.parse, "least_conn", INVALID),
    (UPSTREAM_HASH_BY.parse, "$request_uri", (HashBy(on=HashOn.HEADER, name=":path"),)),
    (UPSTREAM_HASH_BY.parse, "${http_x_user_id}", (HashBy(on=HashOn.HEADER, name="x-user-id"),)),
    (
        UPSTREAM_HASH_BY.parse,
        "$remote_addr-$cookie_user$arg_Id",
        (
            HashBy(on=HashOn.SOURCE_ADDRESS),
            HashBy(on=HashOn.COOKIE, name="user"),
            HashBy(on=HashOn.QUERY_PARAMETER, name="Id"),
        ),
    ),
    (UPSTREAM_HASH_BY.parse, "$binary_remote_addr$remote_addr", (HashBy(on=HashOn.SOURCE_ADDRESS),)),
    (UPSTREAM_HASH_BY.parse, "constant", INVALID),
    (UPSTREAM_HASH_BY.parse, "$upstream_addr", INVALID),
    (UPSTREAM_HASH_BY.parse, "$http_", INVALID),
    (
        access.CORS_ALLOW_ORIGIN.parse,
        "https://a.example, nonsense,https://B.example:8443",
        ("https://a.example", "https://b.example:8443"),
    ),
    (access.CORS_ALLOW_ORIGIN.parse, "https://a.example,*", ("*",)),
    (access.CORS_ALLOW_ORIGIN.parse, " , ", ("*",)),
    (access.CORS_ALLOW_ORIGIN.parse, "https://*.*.example", ()),
    (access.CORS_ALLOW_METHODS.parse, "GET, PO ST", INVALID),
    (access.CORS_ALLOW_HEADERS.parse, "X-A, X B", INVALID),
    (access.CORS_EXPOSE_HEADERS.parse, "*", "*"),
]


@pytest.mark.parametrize(("parse", "text", "expected"), CASES)
def test_parser(parse: Callable[[str], object], text: str, expected: object) -> None:
    found: object
    try:
        found = parse(text)
    except ValueError:
        found = INVALID
    assert found == expected


def test_the_first_fifty_annotations_are_there() -> None:
    wanted = (
        "rewrite-target use-regex app-root server-alias upstream-vhost x-forwarded-prefix "
        "default-backend ssl-redirect force-ssl-redirect permanent-redirect permanent-redirect-code "
        "temporal-redirect temporal-redirect-code from-to-www-redirect backend-protocol "
        "proxy-connect-timeout proxy-read-timeout proxy-send-timeout proxy-next-upstream "
        "proxy-next-upstream-tries proxy-next-upstream-timeout proxy-body-size load-balance "
        "upstream-hash-by ssl-passthrough affinity affinity-mode session-cookie-name session-cookie-path "
        "session-cookie-domain session-cookie-max-age session-cookie-expires session-cookie-samesite "
        "session-cookie-secure session-cookie-change-on-failure canary canary-weight canary-weight-total "
        "canary-by-header canary-by-header-value canary-by-header-pattern canary-by-cookie enable-cors "
        "cors-allow-origin cors-allow-methods cors-allow-headers cors-allow-credentials "
        "cors-expose-headers cors-max-age allowlist-source-range whitelist-source-range "
        "denylist-source-range "
    )
    assert set(BY_NAME) == set(wanted.split())


def test_no_annotation_is_in_both_tables() -> None:
    assert not set(BY_NAME) & set(UNSUPPORTED)


@pytest.mark.parametrize("entry", SUPPORTED, ids=lambda entry: entry.name)
def test_an_example_is_an_example(entry: Annotation[object]) -> None:
    entry.parse(entry.example)


@pytest.mark.parametrize("entry", SUPPORTED, ids=lambda entry: entry.name)
@given(text=st.text(st.characters(codec="utf-8"), max_size=60))
def test_a_parser_raises_nothing_but_its_own_error(entry: Annotation[object], text: str) -> None:
    with contextlib.suppress(ValueError):
        entry.parse(text)


SNIPPETS = {
    "deny all;": "deny",
    "more_set_headers 'X: y';\n  allow 10.0.0.0/8;": "allow",
    "location /x { return 403; }": "return",
    "if ($x) {return 403;}": "return",
    "auth_basic off;": "auth_basic",
    "limit_req zone=x;": "limit_req",
    "satisfy any;": "satisfy",
    "# deny all;": "",
    "add_header X-Return yes;": "",
    "proxy_set_header Allow-It yes;": "",
}


@pytest.mark.parametrize("name", ["configuration-snippet", "server-snippet", "stream-snippet"])
@pytest.mark.parametrize("code", SNIPPETS)
def test_a_snippet_is_judged_by_its_directives(name: str, code: str) -> None:
    why = guarding_directive(UNSUPPORTED[name], code)
    assert bool(why) is bool(SNIPPETS[code])
    assert SNIPPETS[code] in why


PROTECTING = [
    entry
    for entry in UNSUPPORTED.values()
    if entry.name.startswith(("auth-", "enable-modsecurity", "modsecurity-", "enable-owasp")) or entry.name == "satisfy"
]


@pytest.mark.parametrize("entry", PROTECTING, ids=lambda entry: entry.name)
def test_what_protects_is_refused_until_the_operator_allows_it(entry: Unsupported) -> None:
    declared = {f"{PREFIX}{entry.name}": "whatever"}
    refused = read_annotations(KEY, declared, Edge())
    assert refused.settings.denied == (f"annotation {entry.name} is not supported",)
    assert [verdict.severity for verdict in refused.verdicts] == [Severity.ERROR]
    allowed = read_annotations(KEY, declared, Edge(allow_unsupported=frozenset({entry.name})))
    assert allowed.settings.denied == ()
    assert [verdict.severity for verdict in allowed.verdicts] == [Severity.WARNING]


def test_of_a_login_one_annotation_is_judged() -> None:
    declared = {
        f"{PREFIX}auth-url": "https://auth.example/oauth2/auth",
        f"{PREFIX}auth-signin": "https://auth.example/oauth2/start?rd=$escaped_request_uri",
        f"{PREFIX}auth-response-headers": "X-Auth-Request-User",
        f"{PREFIX}auth-snippet": "proxy_set_header X-Y z;",
    }
    refused = read_annotations(KEY, declared, Edge())
    assert refused.settings.denied == ("annotation auth-url is not supported",)
    (error,) = (verdict for verdict in refused.verdicts if verdict.severity is Severity.ERROR)
    assert "the paths of this Ingress answer 503" in error.problem
    assert error.remedy == (
        "only if something else protects these paths, remove it together with auth-response-headers, auth-signin,"
        " auth-snippet, or let the operator ignore it with --allow-unsupported auth-url"
    )
    others = [verdict for verdict in refused.verdicts if verdict is not error]
    assert [verdict.severity for verdict in others] == [Severity.INFO] * 3
    allowed = read_annotations(KEY, declared, Edge(allow_unsupported=frozenset({"auth-url"})))
    assert allowed.settings.denied == ()
    assert sum(verdict.severity is Severity.WARNING for verdict in allowed.verdicts) == 1


def test_what_belongs_to_a_switched_off_annotation_is_judged_itself() -> None:
    declared = {f"{PREFIX}enable-modsecurity": "false", f"{PREFIX}modsecurity-snippet": "SecRuleEngine On"}
    reading = read_annotations(KEY, declared, Edge())
    assert reading.settings.denied == ("annotation modsecurity-snippet is not supported",)


ANYWAY = [(entry.name, value) for entry in UNSUPPORTED.values() for value in entry.anyway]


@pytest.mark.parametrize(("name", "value"), ANYWAY)
def test_nothing_is_said_about_a_value_that_asks_for_what_happens_anyway(name: str, value: str) -> None:
    assert read_annotations(KEY, {f"{PREFIX}{name}": value}, Edge()) == Reading(settings=Settings())


SPELLINGS = {
    # annotation, value: asks for what happens anyway?
    ("service-upstream", "F"): True,
    ("service-upstream", "true"): False,
    ("enable-modsecurity", "0"): True,
    ("enable-modsecurity", "t"): False,
    ("limit-rps", "0"): True,
    ("limit-rps", "false"): False,
    ("proxy-http-version", "1.0"): False,
    ("proxy-ssl-verify", "false"): False,  # on or off, in nginx
    ("auth-tls-verify-client", "off"): True,
    ("auth-tls-verify-client", "false"): False,  # invalid in nginx, which then asks for a certificate
}


@pytest.mark.parametrize(("name", "value"), SPELLINGS)
def test_values_that_change_nothing_are_spelled_as_nginx_takes_them(name: str, value: str) -> None:
    assert changes_nothing(UNSUPPORTED[name], value) is SPELLINGS[name, value]


@pytest.mark.parametrize("name", ["limit-rps", "limit-rpm", "limit-connections", "limit-whitelist"])
def test_a_limit_that_is_not_kept_is_said_and_the_path_served(name: str) -> None:
    reading = read_annotations(KEY, {f"{PREFIX}{name}": "5"}, Edge())
    assert reading.settings.denied == ()
    (verdict,) = reading.verdicts
    assert verdict.severity is Severity.WARNING
    assert "served and not limited" in verdict.problem


@pytest.mark.parametrize("entry", SUPPORTED, ids=lambda entry: entry.name)
def test_a_value_that_makes_no_sense_is_said_and_has_its_consequence(entry: Annotation[object]) -> None:
    reading = read_annotations(KEY, {f"{PREFIX}{entry.name}": "\x01"}, Edge())
    assert not reading.settings.has(entry)
    assert bool(reading.settings.denied) is (entry.on_invalid is OnInvalid.DENY)
    (verdict,) = (verdict for verdict in reading.verdicts if verdict.reason == "InvalidAnnotation")
    assert verdict.severity is Severity.ERROR
    assert verdict.field == f'metadata.annotations["{PREFIX}{entry.name}"]'
    assert entry.form in verdict.problem


NAMES_LIKE = {
    # `~` name of a server, authority of a request: does nginx find the one in the other, without its port?
    (r"^api[0-9]+\.example$", "api7.example"): True,
    (r"^api[0-9]+\.example$", "API7.example:8080"): True,
    (r"^api[0-9]+\.example$", "api7.example.org:8080"): False,
    (r"^a\.example$|^b\.example$", "a.example:80"): True,
    (r"^(a|b$)", "b:80"): True,
    (r"example", "x.example.org:80"): True,
    (r"^[$a]$", "a:80"): True,
    (r"^[]$]\$\Q$\E", "a:80"): False,
}


@pytest.mark.parametrize(("pattern", "authority"), NAMES_LIKE)
def test_a_pattern_of_names_does_not_see_the_port(pattern: str, authority: str) -> None:
    assert bool(re2.fullmatch(parsers.named_like([pattern]), authority)) is NAMES_LIKE[pattern, authority]


def test_the_first_name_wins_over_its_alias() -> None:
    declared = {f"{PREFIX}whitelist-source-range": "bad", f"{PREFIX}allowlist-source-range": "10.0.0.0/8"}
    reading = read_annotations(KEY, declared, Edge())
    assert reading.settings.get(access.ALLOWLIST_SOURCE_RANGE) == ("10.0.0.0/8",)
    assert [verdict.reason for verdict in reading.verdicts] == ["AnnotationIgnored"]


def test_an_empty_value_is_an_absent_one() -> None:
    assert read_annotations(KEY, {f"{PREFIX}canary": " \n ", f"{PREFIX}nonsense": ""}, Edge()).verdicts == ()


def test_a_megabyte_is_not_read() -> None:
    reading = read_annotations(KEY, {f"{PREFIX}server-alias": "a.example," * 100_000}, Edge())
    assert len(reading.verdicts[0].problem) < 500
