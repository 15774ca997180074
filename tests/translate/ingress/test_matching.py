"""Paths and hosts to matches: tables, and a law about order."""

from random import Random

import pytest
import re2  # type: ignore[import-untyped]  # ships no stubs
from hypothesis import given
from hypothesis import strategies as st

from portway.model.checks import check_regex
from portway.model.route import PathKind, PathMatch
from portway.objects.networking_v1 import IngressBackend
from portway.translate.ingress.cors import origin_patterns
from portway.translate.ingress.matching import (
    alternatives,
    in_match_order,
    outside,
    path_key,
    path_match,
    rewrite_pattern,
    search_pattern,
    substitution,
)
from portway.translate.ingress.shares import Location


def location(path: str, *, exact: bool = False) -> Location:
    return Location(path=path, exact=exact, backend=IngressBackend(), field="")


SEARCHES = {
    # declared, requested: does nginx's `~* "^PATH"` find it?
    ("/foo", "/foobar"): True,
    ("/foo", "/FOO"): True,
    ("/foo", "/x/foo"): False,
    ("/a.b", "/aXb"): True,  # ordinary characters become those of a regular expression
    ("/id/[0-9]+$", "/id/12"): True,
    ("/id/[0-9]+$", "/id/12a"): False,
    ("/foo(/|$)(.*)", "/foo"): True,
    ("/a|/b", "/x/b"): True,  # `^` binds to the first alternative only
    ("/a|/b", "/x/a"): False,
    ("/x(a|b)", "/xb/y"): True,
}


@pytest.mark.parametrize(("declared", "requested"), SEARCHES)
def test_a_pattern_is_searched_from_the_beginning(declared: str, requested: str) -> None:
    assert bool(re2.fullmatch(search_pattern(declared), requested)) is SEARCHES[declared, requested]


REWRITES = {
    # path, target, requested: sent on
    ("/something", "/", "/something/x"): "/",
    ("/foo(/|$)(.*)", "/$2", "/foo/a/b"): "/a/b",
    ("/foo(/|$)(.*)", "/$2", "/foo"): "/",
    ("/foo/(.+)", "/x/$1/y", "/FOO/bar"): "/x/bar/y",
    ("/foo/(.+)", "/x/${1}y", "/foo/bar"): "/x/bary",
    ("/foo", "/$1", "/foo/x"): "/",
    ("/(a)|/(b)", "/$1$2", "/x/b"): "/b",
}


@pytest.mark.parametrize(("path", "target", "requested"), REWRITES)
def test_a_rewrite_replaces_everything(path: str, target: str, requested: str) -> None:
    groups = re2.compile(path).groups
    assert re2.sub(rewrite_pattern(path), substitution(target, groups), requested) == REWRITES[path, target, requested]


HOSTS = {
    # wildcard host, authority: is it outside?
    ("*.foo.com", "a.foo.com"): False,
    ("*.foo.com", "A.FOO.com:8080"): False,
    ("*.foo.com", "a_b-1.foo.com"): False,
    ("*.foo.com", "a.b.foo.com"): True,
    ("*.foo.com", "foo.com"): True,
    ("*.foo.com", "axfoo.com"): True,
    ("*.foo.com", "alias.example"): False,
    ("*.foo.com", "a.b.alias.example"): False,
}


@pytest.mark.parametrize(("host", "authority"), HOSTS)
def test_a_wildcard_is_one_label(host: str, authority: str) -> None:
    (match,) = outside(host, ("*.alias.example", "alias.example"))
    assert match.invert
    assert (not re2.fullmatch(match.value, authority)) is HOSTS[host, authority]


def test_many_aliases_are_several_patterns() -> None:
    aliases = tuple(f"alias-{number}.example" for number in range(1_000))
    matches = outside("*.foo.com", aliases)
    assert len(matches) > 1
    assert not [problem for match in matches if (problem := check_regex(match.value))]
    for authority, is_outside in (("alias-0.example", False), ("alias-999.example:80", False), ("other", True)):
        assert all(not re2.fullmatch(match.value, authority) for match in matches) is is_outside


@given(st.lists(st.text("ab.", min_size=1), max_size=30))
def test_alternatives_are_all_there(patterns: list[str]) -> None:
    assert "|".join(alternatives(patterns)) == "|".join(patterns)


def test_a_prefix_loses_its_last_slash() -> None:
    assert path_match(location("/foo/"), regex_mode=False) == PathMatch(kind=PathKind.PREFIX, value="/foo")
    assert path_match(location("/"), regex_mode=False) == PathMatch(kind=PathKind.PREFIX, value="/")
    assert path_match(location("/foo/", exact=True), regex_mode=False) == PathMatch(kind=PathKind.EXACT, value="/foo/")


PATHS = st.lists(st.tuples(st.text("ab/", max_size=5).map(lambda text: "/" + text), st.booleans()), max_size=12)


@given(PATHS, st.randoms(use_true_random=False), st.booleans())
def test_order_does_not_depend_on_arrival(paths: list[tuple[str, bool]], random: Random, regex_mode: bool) -> None:
    keys = [path_key(location(path, exact=exact), regex_mode=regex_mode) for path, exact in paths]
    shuffled = keys.copy()
    random.shuffle(shuffled)

    def ordered(given_keys: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
        return sorted(set(given_keys), key=lambda key: in_match_order(key, regex_mode=regex_mode))

    assert ordered(shuffled) == ordered(keys)


def test_a_long_list_of_origins_is_several_patterns() -> None:
    origins = tuple(f"https://tenant-{number}.customers.example.com:8443" for number in range(500))
    patterns = list(origin_patterns((*origins, "https://*.own.example")))
    assert not [problem for pattern in patterns if (problem := check_regex(pattern))]
    for origin in (*origins, "HTTPS://tenant-7.customers.example.com:8443", "https://a.own.example"):
        assert sum(bool(re2.fullmatch(pattern, origin)) for pattern in patterns) == 1
    assert not any(re2.fullmatch(pattern, "https://tenant-7xcustomers.example.com:8443") for pattern in patterns)
