"""What proxies accept, case by case; that Envoy agrees is held in tests/envoy/test_accepted.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.envoy.bootstrap import BootstrapSettings
from portway.model import checks

REGEXES = {
    "/api/v[0-9]+/.*": "",
    "": "is empty",
    "a(": "is no RE2 expression: missing ): a(",
    "(?=a)": "is no RE2 expression: invalid perl operator: (?=",
    r"(a)\1": "is no RE2 expression: invalid escape sequence: \\1",
    r"\Qa.b\E": "",
    r"\Qa": r"has a \Q without \E: it would quote what proxies put behind it",
    r"\Qa)": r"has a \Q without \E: it would quote what proxies put behind it",
    "a{1000}b{1000}c{1000}d{1000}": "is too large: its program has 4,004 steps, at most 4,000 are allowed",
}


@pytest.mark.parametrize("pattern", REGEXES)
def test_regex(pattern: str) -> None:
    assert checks.check_regex(pattern) == REGEXES[pattern]


def test_the_bootstrap_has_the_same_limit() -> None:
    assert BootstrapSettings(node_id="n", fleet="f").regex_program_size == checks.MAX_REGEX_PROGRAM


SUBSTITUTIONS = {
    ("/(a)/(b)", r"/\2/\1"): "",
    ("/(a)", r"\0"): "",
    ("/(a)", r"/\2"): "refers to group 2, but '/(a)' has 1",
    ("/(a)", r"/\\2"): "",
    ("/(a)", "/\\"): "has a backslash that is followed by neither a digit nor a backslash",
    ("/(a)", r"/\x"): "has a backslash that is followed by neither a digit nor a backslash",
    ("/(a", "/"): "is no RE2 expression: missing ): /(a",
    ("/a", "/\n"): "has the control character U+000A at position 1",
}


@pytest.mark.parametrize(("pattern", "substitution"), SUBSTITUTIONS)
def test_substitution(pattern: str, substitution: str) -> None:
    assert checks.check_substitution(pattern, substitution) == SUBSTITUTIONS[pattern, substitution]


HEADER_NAMES = {
    # name: usable in a match?, usable in an edit?
    "X-Request-Id": (True, True),
    "x_under": (True, True),
    ":authority": (True, False),
    ":method": (True, False),
    ":status": (False, False),
    "host": (True, False),
    "HOST": (True, False),
    "Content-Length": (True, False),
    "transfer-encoding": (True, False),
    "Connection": (True, False),
    "": (False, False),
    "a b": (False, False),
    "a:b": (False, False),
    "ä": (False, False),
}


@pytest.mark.parametrize("name", HEADER_NAMES)
def test_header_names(name: str) -> None:
    assert (not checks.check_header_name(name), not checks.check_edited_header(name)) == HEADER_NAMES[name]


HEADER_VALUES = {
    "plain, with \t tab and %": "",
    "": "",
    "ümlaut": "",
    "a\r\nb: c": "has the control character U+000D at position 1",
    "\x00": "has the control character U+0000 at position 0",
    "\ud800": "has a lone surrogate at position 0, which is no text",
    "x" * 20_000: "has 20,000 bytes, at most 16,384 are allowed",
}


@pytest.mark.parametrize("value", HEADER_VALUES, ids=lambda value: ascii(value[:20]))
def test_header_values(value: str) -> None:
    assert checks.check_header_value(value) == HEADER_VALUES[value]


DOMAINS = {
    "example.com": True,
    "*.example.com": True,
    "*": True,
    "localhost": True,
    "10.0.0.1": True,
    "a_b.example": True,
    "": False,
    "*.": False,
    "*example.com": False,
    "a.*.com": False,
    "Example.com": False,
    "example.com:80": False,
    "example..com": False,
    "example.com.": False,
    "-a.example": False,
    "a" * 64 + ".example": False,
    ".".join(["a" * 63] * 4): False,
}


@pytest.mark.parametrize("domain", DOMAINS)
def test_domains(domain: str) -> None:
    assert (not checks.check_domain(domain)) is DOMAINS[domain]


PATHS = {"/": True, "/a/b%2F": True, "/ä": True, "": False, "a": False, "/a?b": False, "/a#b": False, "/\n": False}


@pytest.mark.parametrize("path", PATHS)
def test_paths(path: str) -> None:
    assert (not checks.check_path(path)) is PATHS[path]


@given(st.text())
def test_no_text_makes_a_check_raise(text: str) -> None:
    for check in (
        checks.check_regex,
        checks.check_header_name,
        checks.check_edited_header,
        checks.check_header_value,
        checks.check_domain,
        checks.check_path,
    ):
        assert isinstance(check(text), str)
    assert isinstance(checks.check_substitution(r"(a)", text), str)


NAMES = {
    "localhost": True,
    "LOCALHOST.": True,
    "a.localhost": True,
    "": True,
    "127.0.0.1": True,
    "0.0.0.0": True,
    "0": True,
    "127.1": True,
    "0x7f.1": True,
    "0177.0.0.1": True,
    "2130706433": True,
    "169.254.169.254": True,
    "::1": True,
    "[::]": True,
    "::ffff:127.0.0.1": True,
    "metadata.google.internal.": True,
    "[fd00:ec2:0::254]": True,
    "100.100.100.200": True,
    "metadata.example": False,
    "10.0.0.1": False,
    "2001:db8::1": False,
    "db.internal": False,
    "localhost.example": False,
    "1.example": False,
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_this_machine(name: str) -> None:
    assert checks.is_this_machine(name) is NAMES[name]
