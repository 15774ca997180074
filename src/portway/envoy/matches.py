"""Which requests a route fits, in Envoy's words. Sources: `envoy.config.route.v3.RouteMatch`, `HeaderMatcher`."""

import re2  # type: ignore[import-untyped]  # ships no stubs
from envoy.config.route.v3 import route_components_pb2 as routev3
from envoy.type.matcher.v3 import regex_pb2 as regexv3
from envoy.type.matcher.v3 import string_pb2 as stringv3

from portway.envoy.messages import runtime_fraction
from portway.model.route import PathKind, PathMatch, RouteMatch, ValueKind, ValueMatch


def regex(pattern: str) -> regexv3.RegexMatcher:
    return regexv3.RegexMatcher(regex=pattern)


def escaped(text: str) -> str:
    """The text as a regular expression that fits just it."""
    return str(re2.escape(text))


def build_match(match: RouteMatch) -> routev3.RouteMatch:
    """The match of one route. Everything that is not asked for is left out."""
    built = routev3.RouteMatch()
    _set_path(built, match.path)
    if match.method:
        built.headers.append(method_matcher(match.method))
    built.headers.extend(header_matcher(header) for header in match.headers)
    built.headers.extend(_cookie_matcher(cookie) for cookie in match.cookies)
    built.query_parameters.extend(_query_matcher(parameter) for parameter in match.query)
    if match.share is not None:
        built.runtime_fraction.CopyFrom(runtime_fraction(match.share))
    if match.grpc:
        built.grpc.SetInParent()
    return built


def prefix_of(path: PathMatch) -> str:
    """The prefix without the slash at its end, which means nothing to a whole-segment match; empty for `/`."""
    return path.value.removesuffix("/")


def path_pattern(path: PathMatch) -> str:
    """A regular expression that fits what the path match calls its prefix."""
    mode = "(?i)" if path.ignore_case else ""
    return f"{mode}^{escaped(prefix_of(path) if path.kind is PathKind.PREFIX else path.value)}"


def _set_path(built: routev3.RouteMatch, path: PathMatch) -> None:
    if path.kind is PathKind.REGEX:
        # `case_sensitive` does not reach regular expressions.
        built.safe_regex.regex = f"(?i){path.value}" if path.ignore_case else path.value
        return
    if path.kind is PathKind.EXACT:
        built.path = path.value
    elif path.kind is PathKind.TEXT_PREFIX or not prefix_of(path):
        built.prefix = path.value
    elif prefix_of(path).endswith("/"):
        # Envoy refuses a separated prefix that ends with a slash.
        built.safe_regex.regex = f"{path_pattern(path)}(?:/.*)?"
        return
    else:
        built.path_separated_prefix = prefix_of(path)
    if path.ignore_case:
        built.case_sensitive.value = False


def method_matcher(method: str) -> routev3.HeaderMatcher:
    return routev3.HeaderMatcher(name=":method", string_match=stringv3.StringMatcher(exact=method))


def header_matcher(match: ValueMatch) -> routev3.HeaderMatcher:
    """A header match; several fields of one name are joined with commas by Envoy."""
    built = routev3.HeaderMatcher(name=match.name)
    if match.kind is ValueKind.PRESENT:
        built.present_match = True
    else:
        built.string_match.CopyFrom(_string_matcher(match))
        if match.invert:
            # Without it an absent field fits neither the match nor its inverse.
            built.treat_missing_header_as_empty = True
    if match.invert:
        built.invert_match = True
    return built


def _string_matcher(match: ValueMatch) -> stringv3.StringMatcher:
    if match.kind is ValueKind.REGEX:
        return stringv3.StringMatcher(safe_regex=regex(match.value))
    return stringv3.StringMatcher(exact=match.value)


def _query_matcher(match: ValueMatch) -> routev3.QueryParameterMatcher:
    if match.kind is ValueKind.PRESENT:
        return routev3.QueryParameterMatcher(name=match.name, present_match=True)
    return routev3.QueryParameterMatcher(name=match.name, string_match=_string_matcher(match))


def _cookie_matcher(match: ValueMatch) -> routev3.HeaderMatcher:
    """A cookie is found in the joined `cookie` field by a regular expression; `RouteMatch` has no field for it."""
    value = {
        ValueKind.EXACT: escaped(match.value),
        ValueKind.REGEX: f"(?:{match.value})",
        ValueKind.PRESENT: "[^;]*",
    }[match.kind]
    pattern = f"(?:.*;\\s*)?{escaped(match.name)}={value}(?:\\s*;.*)?"
    return header_matcher(ValueMatch(name="cookie", kind=ValueKind.REGEX, value=pattern, invert=match.invert))
