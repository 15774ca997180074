"""Paths through a real Envoy: what matches, what is forwarded, where redirects lead."""

import msgspec
import pytest

from portway.model.route import (
    PathKind,
    PathMatch,
    PathRewrite,
    PathRewriteKind,
    Redirect,
    Respond,
    Route,
    RouteMatch,
    ValueKind,
    ValueMatch,
)
from tests.envoy.world import host, hosts, prefix, route, to

pytestmark = pytest.mark.e2e


def path(kind: PathKind, value: str, *, ignore_case: bool = False) -> RouteMatch:
    return RouteMatch(path=PathMatch(kind=kind, value=value, ignore_case=ignore_case))


MATCHES = {
    # declared: (requests that fit, requests that do not)
    path(PathKind.PREFIX, "/foo"): (("/foo", "/foo/", "/foo/x", "/foo?q"), ("/foobar", "/FOO", "/", "/a/foo")),
    path(PathKind.PREFIX, "/foo/"): (("/foo", "/foo/", "/foo/x"), ("/foobar",)),
    path(PathKind.PREFIX, "/foo//"): (("/foo/", "/foo//", "/foo//x"), ("/foo", "/foo/x")),
    path(PathKind.PREFIX, "/"): (("/", "/x", "//x"), ()),
    path(PathKind.PREFIX, "/foo", ignore_case=True): (("/FOO", "/foo/x"), ("/foobar",)),
    path(PathKind.TEXT_PREFIX, "/foo"): (("/foo", "/foobar"), ("/FOO", "/fo")),
    path(PathKind.TEXT_PREFIX, "/foo", ignore_case=True): (("/FOOBAR",), ("/fo",)),
    path(PathKind.EXACT, "/foo"): (("/foo", "/foo?x=/y"), ("/foo/", "/Foo", "/foox")),
    path(PathKind.EXACT, "/foo", ignore_case=True): (("/FOO",), ("/FOO/",)),
    path(PathKind.REGEX, "/v[0-9]+/.*"): (("/v1/", "/v12/x?y"), ("/v1", "/x/v1/")),
    path(PathKind.REGEX, "/foo", ignore_case=True): (("/FoO",), ("/foo/",)),
    path(PathKind.EXACT, "/a.b"): (("/a.b",), ("/aXb",)),  # no regex by accident
}


async def test_paths_match() -> None:
    declared = [host(f"h{number}.test", route(match, Respond(status=200))) for number, match in enumerate(MATCHES)]
    async with hosts(*declared) as proxy:
        for number, (match, (fitting, others)) in enumerate(MATCHES.items()):
            for target in fitting:
                assert (await proxy.get(f"h{number}.test", target)).status == 200, (match.path, target)
            for target in others:
                assert (await proxy.get(f"h{number}.test", target)).status == 404, (match.path, target)


SEEN: dict[str, tuple[RouteMatch, tuple[tuple[tuple[str, ...], bool], ...]]] = {
    # host: match, then (method, target, headers...) and whether it fits
    "method.test": (
        msgspec.structs.replace(prefix("/"), method="POST"),
        ((("POST", "/"), True), (("GET", "/"), False)),
    ),
    "exact.test": (
        msgspec.structs.replace(prefix("/"), headers=(ValueMatch(name="x-a", value="1"),)),
        ((("GET", "/", "x-a: 1"), True), (("GET", "/", "X-A: 1"), True), (("GET", "/", "x-a: 11"), False)),
    ),
    "several.test": (
        # Each field of the name is looked at, they are not joined.
        msgspec.structs.replace(prefix("/"), headers=(ValueMatch(name="x-a", value="2"),)),
        ((("GET", "/", "x-a: 1", "x-a: 2"), True), (("GET", "/", "x-a: 1,2"), False)),
    ),
    "regex.test": (
        msgspec.structs.replace(prefix("/"), headers=(ValueMatch(name="x-a", kind=ValueKind.REGEX, value="a.*"),)),
        ((("GET", "/", "x-a: abc"), True), (("GET", "/", "x-a: xabc"), False), (("GET", "/"), False)),
    ),
    "present.test": (
        msgspec.structs.replace(prefix("/"), headers=(ValueMatch(name="x-a", kind=ValueKind.PRESENT),)),
        ((("GET", "/", "x-a: "), True), (("GET", "/"), False)),
    ),
    "absent.test": (
        msgspec.structs.replace(prefix("/"), headers=(ValueMatch(name="x-a", kind=ValueKind.PRESENT, invert=True),)),
        ((("GET", "/", "x-a: 1"), False), (("GET", "/"), True)),
    ),
    "not.test": (
        msgspec.structs.replace(prefix("/"), headers=(ValueMatch(name="x-a", value="1", invert=True),)),
        (
            (("GET", "/", "x-a: 1"), False),
            (("GET", "/", "x-a: 2", "x-a: 1"), False),
            (("GET", "/", "x-a: 2"), True),
            (("GET", "/"), True),
        ),
    ),
    "query.test": (
        msgspec.structs.replace(prefix("/"), query=(ValueMatch(name="Q", value="1"),)),
        (
            (("GET", "/?Q=1"), True),
            (("GET", "/?q=1"), False),
            (("GET", "/?Q=1&Q=2"), True),
            (("GET", "/?Q=2&Q=1"), False),
        ),
    ),
    "cookie.test": (
        msgspec.structs.replace(prefix("/"), cookies=(ValueMatch(name="c.d", value="always"),)),
        (
            (("GET", "/", "cookie: c.d=always"), True),
            (("GET", "/", "cookie: a=b; c.d=always; e=f"), True),
            (("GET", "/", "cookie: a=b;c.d=always"), True),
            (("GET", "/", "cookie: xc.d=always"), False),
            (("GET", "/", "cookie: c.d=always2"), False),
            (("GET", "/", "cookie: c-d=always"), False),
            (("GET", "/"), False),
        ),
    ),
    "no-cookie.test": (
        msgspec.structs.replace(prefix("/"), cookies=(ValueMatch(name="c", value="never", invert=True),)),
        ((("GET", "/", "cookie: c=never"), False), (("GET", "/", "cookie: c=x"), True), (("GET", "/"), True)),
    ),
}


async def test_everything_else_matches() -> None:
    declared = [host(name, route(match, Respond(status=200))) for name, (match, _) in SEEN.items()]
    async with hosts(*declared) as proxy:
        for name, (_, requests) in SEEN.items():
            for (method, target, *lines), fits in requests:
                headers = [(line.partition(": ")[0], line.partition(": ")[2]) for line in lines]
                answer = await proxy.get(name, target, *headers, method=method)
                assert answer.status == (200 if fits else 404), (name, method, target, lines)


PREFIX_REWRITES = {
    # Source: the table at Gateway API `HTTPPathModifier.replacePrefixMatch`, and a few beyond it.
    # match, replacement: (requested, forwarded)...
    ("/foo", "/xyz"): (("/foo/bar", "/xyz/bar"), ("/foo", "/xyz"), ("/foo/", "/xyz/"), ("/foo?a=/b", "/xyz?a=/b")),
    ("/foo", "/xyz/"): (("/foo/bar", "/xyz/bar"),),
    ("/foo/", "/xyz"): (("/foo/bar", "/xyz/bar"),),
    ("/foo/", "/xyz/"): (("/foo/bar", "/xyz/bar"),),
    ("/foo", ""): (("/foo/bar", "/bar"), ("/foo/", "/"), ("/foo", "/"), ("/foo?q=1", "/?q=1")),
    ("/foo", "/"): (("/foo/bar", "/bar"), ("/foo/", "/"), ("/foo", "/"), ("/foo//x", "//x")),
    ("/", "/xyz"): (("/", "/xyz/"), ("/bar", "/xyz/bar")),
    ("/", "/"): (("/", "/"), ("/bar", "/bar")),
    ("/a.b", "/"): (("/a.b/c", "/c"),),
    ("/foo", r"/\1"): (("/foo/bar", r"/\1/bar"),),
}


def rewriting(match: RouteMatch, rewrite: PathRewrite) -> Route:
    return route(match, msgspec.structs.replace(to("a"), path=rewrite))


async def test_prefix_rewrites_keep_one_slash() -> None:
    declared = []
    for number, (matched, value) in enumerate(PREFIX_REWRITES):
        rewrite = PathRewrite(kind=PathRewriteKind.PREFIX, value=value)
        declared.append(host(f"forward{number}.test", rewriting(prefix(matched), rewrite)))
        redirect = Redirect(status=302, path=rewrite)
        declared.append(host(f"redirect{number}.test", route(matched, redirect)))
    async with hosts(*declared) as proxy:
        for number, (case, requests) in enumerate(PREFIX_REWRITES.items()):
            for requested, expected in requests:
                answer = await proxy.get(f"forward{number}.test", requested)
                assert answer.echoed().path == expected, (case, requested)
                answer = await proxy.get(f"redirect{number}.test", requested)
                assert answer.header("location") == f"http://redirect{number}.test{expected}", (case, requested)


async def test_other_rewrites() -> None:
    full = PathRewrite(kind=PathRewriteKind.FULL, value=r"/one\1")
    regex = PathRewrite(kind=PathRewriteKind.REGEX, pattern=r"^/something(/|$)(.*)", value=r"/\2")
    ignoring = PathRewrite(kind=PathRewriteKind.PREFIX, value="/")
    async with hosts(
        host("full.test", rewriting(prefix("/"), full)),
        host("regex.test", rewriting(prefix("/"), regex)),
        host("case.test", rewriting(path(PathKind.PREFIX, "/foo", ignore_case=True), ignoring)),
        host(
            "redirect.test", route("/", Redirect(status=301, path=PathRewrite(kind=PathRewriteKind.FULL, value="/x")))
        ),
        host("strip.test", route("/", Redirect(status=301, host="b.test", strip_query=True))),
    ) as proxy:
        assert (await proxy.get("full.test", "/a/b?q=1")).echoed().path == r"/one\1?q=1"
        assert (await proxy.get("regex.test", "/something/new?q")).echoed().path == "/new?q"
        assert (await proxy.get("regex.test", "/something")).echoed().path == "/"
        assert (await proxy.get("case.test", "/FOO/x")).echoed().path == "/x"
        assert (await proxy.get("redirect.test", "/a?q=1")).header("location") == "http://redirect.test/x?q=1"
        assert (await proxy.get("strip.test", "/a?q=1")).header("location") == "http://b.test/a"


REDIRECTS = {
    # redirect: (Host of the request, Location)...
    Redirect(status=308, scheme="https"): (("r.test", "https://r.test/p"), ("r.test:8080", "https://r.test/p")),
    Redirect(status=308, scheme="https", port=8443): (("r.test:8080", "https://r.test:8443/p"),),
    Redirect(status=302, host="b.test"): (("r.test", "http://b.test/p"), ("r.test:8080", "http://b.test/p")),
    Redirect(status=303, port=81): (("r.test", "http://r.test:81/p"), ("r.test:8080", "http://r.test:81/p")),
    Redirect(status=307): (("r.test:8080", "http://r.test:8080/p"),),
    Redirect(status=307, scheme="http"): (("r.test:8080", "http://r.test/p"),),
    Redirect(status=301, host="b.test", scheme="https"): (("r.test:8080", "https://b.test/p"),),
}


async def test_redirects_name_the_right_port() -> None:
    declared = [host(f"r{number}.test", route("/", redirect)) for number, redirect in enumerate(REDIRECTS)]
    wild = host("*.wild.test", route("/", Redirect(status=301, scheme="https")))
    async with hosts(*declared, wild) as proxy:
        for number, (redirect, requests) in enumerate(REDIRECTS.items()):
            for authority, location in requests:
                answer = await proxy.get(authority.replace("r.", f"r{number}."), "/p")
                wanted = (redirect.status, location.replace("r.", f"r{number}."))
                assert (answer.status, answer.header("location")) == wanted, (redirect, authority)
        assert (await proxy.get("a.wild.test:8080", "/p")).header("location") == "https://a.wild.test:443/p"
        assert (await proxy.get("a.wild.test", "/p")).header("location") == "https://a.wild.test/p"


async def test_the_target_is_normalised_before_it_is_matched() -> None:
    async with hosts(host("n.test", route("/a", to("a")), route("/b", to("b")))) as proxy:
        assert (await proxy.get("n.test", "/b/../a/x")).echoed().path == "/a/x"
        assert (await proxy.get("n.test", "/b/%2e%2e/a/x")).echoed().path == "/a/x"
        assert (await proxy.get("n.test", "/a%2Fb")).status == 404
        assert (await proxy.get("n.test", "/a/x%2Fy//z")).echoed().path == "/a/x%2Fy//z"
        assert (await proxy.get("N.TEST.", "/a")).pod == "a"
        assert (await proxy.get("n.test:1234", "/a")).pod == "a"
