"""Cross-origin rules.

Envoy's filter gives what Gateway API asks for (held by tests/envoy/test_cors.py): origins are echoed, never `*`, which
is right with and without credentials; `*` for methods and headers echoes what the preflight asks for; a preflight of a
refused origin is answered with 200 and no allow-origin once `forward_not_matching_preflights` is false; exposed fields
are sent on preflights too. It takes its lists as one string each. It looks at routes that forward only.
"""

from envoy.extensions.filters.http.cors.v3 import cors_pb2 as corsv3
from envoy.type.matcher.v3 import string_pb2 as stringv3

from portway.envoy.matches import escaped, regex
from portway.model.route import CorsPolicy

NAME = "cors"


def base() -> corsv3.Cors:
    return corsv3.Cors()


def build_cors(policy: CorsPolicy) -> corsv3.CorsPolicy:
    """The policy of a route."""
    built = corsv3.CorsPolicy(
        allow_methods=", ".join(policy.allow_methods),
        allow_headers=", ".join(policy.allow_headers),
        expose_headers=", ".join(policy.expose_headers),
        max_age=str(int(policy.max_age.total_seconds())),
    )
    built.allow_origin_string_match.extend(map(origin_matcher, policy.allow_origins))
    # Absent and false are the same to the filter: no field is sent.
    if policy.allow_credentials:
        built.allow_credentials.value = True
    built.forward_not_matching_preflights.value = False
    return built


def origin_matcher(origin: str) -> stringv3.StringMatcher:
    """One allowed origin: `*`, an exact one, or one whose host begins with `*.`, which stands for one label or more."""
    if origin == "*":
        return stringv3.StringMatcher(safe_regex=regex(".*"))
    if "*" not in origin:
        # Browsers send origins in lower case (RFC 6454 §6.1).
        return stringv3.StringMatcher(exact=origin.lower())
    pattern = r"[a-z0-9-]+(?:\.[a-z0-9-]+)*".join(escaped(part) for part in origin.lower().split("*"))
    return stringv3.StringMatcher(safe_regex=regex(pattern))
