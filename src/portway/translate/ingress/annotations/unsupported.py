"""The annotations of ingress-nginx that have no effect yet, by name.

They are known so that nobody takes them for working: `check` says what is missing and how risky that is. What protects
fails closed. Which ones do: those that decide who may call (`auth-*`, `auth-tls-*`, `satisfy`), the web application
firewall, and snippets with directives that decide it.
"""

import re
from typing import Final, TypeAlias

from portway.objects.problems import quoted
from portway.translate.ingress.annotations.entry import Group, Risk, Unsupported
from portway.translate.ingress.annotations.parsers import boolean

_L: Final = Risk.LOW
_M: Final = Risk.MEDIUM
_H: Final = Risk.HIGH
_C: Final = Risk.CRITICAL


_Row: TypeAlias = tuple[str, Risk, str, *tuple[str, ...]]
"""Name, risk, text, and the values that ask for what happens anyway."""


def _entries(
    group: Group, *rows: _Row, protects: bool = False, harmless: bool = False, belongs_to: str = ""
) -> tuple[Unsupported, ...]:
    return tuple(
        Unsupported(
            name=name,
            group=group,
            risk=risk,
            protects=protects,
            harmless=harmless,
            anyway=tuple(anyway),
            belongs_to=belongs_to,
            text=text,
        )
        for name, risk, text, *anyway in rows
    )


_PATHS: Final = _entries(
    Group.PATHS,
    ("preserve-trailing-slash", _M, "HTTPS redirects drop one / at the end of the URI", "false"),
)
_REDIRECTS: Final = _entries(
    Group.REDIRECTS,
    ("use-port-in-redirects", _L, "HTTPS redirects name the port where it is not 443", "true", "false"),
    ("relative-redirects", _L, "redirects to a path name scheme and host", "false"),
)
_TLS: Final = (
    *_entries(
        Group.TLS,
        ("ssl-ciphers", _L, "cipher suites are set for the whole edge (setting `tls-cipher`)"),
        ("ssl-prefer-server-ciphers", _L, "the proxy's order of cipher suites holds", "true"),
        ("proxy-ssl-ciphers", _M, "cipher suites towards upstreams are the proxy's", "DEFAULT"),
        ("proxy-ssl-protocols", _M, "TLS 1.2 and 1.3 are spoken to upstreams", "TLSv1.2 TLSv1.3", "TLSv1.3 TLSv1.2"),
    ),
    *_entries(
        Group.TLS,
        ("auth-tls-secret", _M, "client certificates are not asked for; a Gateway's `frontendValidation` does that"),
        protects=True,
    ),
    *_entries(
        Group.TLS,
        ("auth-tls-verify-client", _M, "client certificates are not asked for", "off"),
        ("auth-tls-verify-depth", _L, "client certificates are not asked for"),
        ("auth-tls-error-page", _H, "client certificates are not asked for"),
        ("auth-tls-pass-certificate-to-upstream", _L, "client certificates are not asked for", "false"),
        ("auth-tls-match-cn", _H, "client certificates are not asked for"),
        protects=True,
        belongs_to="auth-tls-secret",
    ),
    *_entries(
        Group.TLS,
        ("proxy-ssl-secret", _M, "the upstream's certificate is not verified; a BackendTLSPolicy does that"),
    ),
    *_entries(
        Group.TLS,
        ("proxy-ssl-verify", _L, "the upstream's certificate is not verified; a BackendTLSPolicy does that", "off"),
        ("proxy-ssl-verify-depth", _L, "a BackendTLSPolicy says how the upstream is verified"),
        ("proxy-ssl-name", _H, "a BackendTLSPolicy says how the upstream is verified"),
        ("proxy-ssl-server-name", _L, "no server name is sent upstream; a BackendTLSPolicy says which", "off"),
        belongs_to="proxy-ssl-secret",
    ),
)
_AUTHENTICATION: Final = (
    *_entries(
        Group.AUTHENTICATION,
        ("auth-type", _L, "passwords are not asked for"),
        ("auth-url", _H, "no authentication service is asked"),
        ("satisfy", _L, "which of several checks must pass cannot be chosen"),
        protects=True,
    ),
    *_entries(
        Group.AUTHENTICATION,
        ("auth-secret", _M, "passwords are not asked for"),
        ("auth-secret-type", _L, "passwords are not asked for"),
        ("auth-realm", _M, "passwords are not asked for"),
        protects=True,
        belongs_to="auth-type",
    ),
    *_entries(
        Group.AUTHENTICATION,
        ("auth-method", _L, "no authentication service is asked"),
        ("auth-signin", _H, "no authentication service is asked"),
        ("auth-signin-redirect-param", _M, "no authentication service is asked"),
        ("auth-response-headers", _M, "no authentication service is asked"),
        ("auth-proxy-set-headers", _M, "no authentication service is asked"),
        ("auth-request-redirect", _M, "no authentication service is asked"),
        ("auth-always-set-cookie", _L, "no authentication service is asked", "false"),
        ("auth-cache-key", _M, "no authentication service is asked"),
        ("auth-cache-duration", _M, "no authentication service is asked"),
        ("auth-keepalive", _L, "no authentication service is asked"),
        ("auth-keepalive-share-vars", _L, "no authentication service is asked", "false"),
        ("auth-keepalive-requests", _L, "no authentication service is asked"),
        ("auth-keepalive-timeout", _L, "no authentication service is asked"),
        protects=True,
        belongs_to="auth-url",
    ),
    *_entries(Group.AUTHENTICATION, ("enable-global-auth", _L, "there is no global authentication yet", "false")),
)
_LIMITS: Final = _entries(
    # A limit keeps load away, not callers: the path is served without it, and the warning says just that.
    Group.LIMITS,
    ("limit-rps", _L, "requests are served and not limited", "0"),
    ("limit-rpm", _L, "requests are served and not limited", "0"),
    ("limit-burst-multiplier", _L, "requests are served and not limited"),
    ("limit-connections", _L, "connections of a client are served and not limited", "0"),
    ("limit-rate", _L, "answers are sent and their bandwidth is not limited", "0"),
    ("limit-rate-after", _L, "answers are sent and their bandwidth is not limited", "0"),
    ("limit-allowlist", _L, "requests are served and not limited, whoever sends them"),
    ("limit-whitelist", _L, "requests are served and not limited, whoever sends them"),
)
_MIRRORING: Final = (
    *_entries(
        Group.MIRRORING,
        ("mirror-target", _H, "nothing is mirrored; an HTTPRoute's `RequestMirror` filter does that"),
    ),
    *_entries(
        Group.MIRRORING,
        ("mirror-request-body", _L, "nothing is mirrored", "off"),
        ("mirror-host", _H, "nothing is mirrored"),
        belongs_to="mirror-target",
    ),
)
_ERRORS: Final = _entries(
    Group.ERRORS,
    ("custom-http-errors", _L, "the upstream's own error answers pass"),
    ("disable-proxy-intercept-errors", _L, "the upstream's own error answers pass anyway", "true", "false"),
)
_UPSTREAM: Final = (
    *_entries(
        Group.UPSTREAM,
        ("service-upstream", _L, "requests go to the endpoints, not to the Service's address", "false"),
        ("upstream-hash-by-subset", _L, "hashing chooses one endpoint, not a group", "false"),
        ("upstream-hash-by-subset-size", _L, "hashing chooses one endpoint, not a group"),
        ("proxy-http-version", _L, "HTTP/1.1 is spoken to upstreams, or HTTP/2 by `backend-protocol`", "1.1"),
        ("connection-proxy-header", _L, "the proxy decides about its connections to upstreams", "keep-alive"),
        ("fastcgi-index", _M, "FastCGI is not supported"),
        ("fastcgi-params-configmap", _M, "FastCGI is not supported"),
    ),
    *_entries(Group.UPSTREAM, ("http2-push-preload", _L, "browsers have dropped HTTP/2 push", "false"), harmless=True),
)
_STICKINESS: Final = _entries(
    Group.STICKINESS,
    ("affinity-canary-behavior", _L, "a client stays on the side, canary or not, that it reached first", "sticky"),
    ("session-cookie-conditional-samesite-none", _L, "SameSite=None is sent to every browser", "false"),
)
_BUFFERS: Final = (
    *_entries(
        Group.BUFFERS,
        ("client-body-buffer-size", _L, "proxies stream bodies; their buffers need no tuning"),
        ("proxy-buffers-number", _L, "proxies stream bodies; their buffers need no tuning"),
        ("proxy-busy-buffers-size", _L, "proxies stream bodies; their buffers need no tuning"),
        ("proxy-max-temp-file-size", _L, "proxies write no files"),
        ("proxy-buffer-size", _L, "proxies take larger header fields from upstreams anyway"),
        ("proxy-buffering", _L, "answers are streamed", "off"),
        harmless=True,
    ),
    *_entries(
        Group.BUFFERS,
        ("proxy-request-buffering", _L, "requests are streamed to the upstream as they arrive", "off"),
        ("proxy-cookie-domain", _M, "cookies of the upstream pass unchanged", "off"),
        ("proxy-cookie-path", _M, "cookies of the upstream pass unchanged", "off"),
        ("proxy-redirect-from", _M, "Location fields of the upstream pass unchanged", "off"),
        ("proxy-redirect-to", _M, "Location fields of the upstream pass unchanged", "off"),
    ),
)
_HEADERS: Final = (
    *_entries(
        Group.HEADERS,
        ("custom-headers", _M, "no fields are added; an HTTPRoute's `ResponseHeaderModifier` filter does that"),
        ("enable-access-log", _L, "the access log is set for the whole edge", "true"),
        ("enable-opentelemetry", _L, "tracing is set for the whole edge"),
        ("opentelemetry-trust-incoming-span", _L, "tracing is set for the whole edge", "true"),
        ("opentelemetry-operation-name", _M, "spans are named after the route"),
    ),
    *_entries(
        Group.HEADERS,
        ("enable-rewrite-log", _L, "`portway explain` says how a request is rewritten", "false"),
        harmless=True,
    ),
)
_FIREWALL: Final = (
    *_entries(
        Group.FIREWALL,
        ("enable-modsecurity", _L, "there is no web application firewall", "false", "off"),
        protects=True,
    ),
    *_entries(
        Group.FIREWALL,
        ("enable-owasp-core-rules", _L, "there is no web application firewall", "false", "off"),
        ("modsecurity-transaction-id", _H, "there is no web application firewall"),
        ("modsecurity-snippet", _C, "there is no web application firewall"),
        protects=True,
        belongs_to="enable-modsecurity",
    ),
)
_SNIPPETS: Final = (
    *_entries(
        Group.SNIPPETS,
        ("configuration-snippet", _C, "raw nginx configuration is never executed"),
        ("server-snippet", _C, "raw nginx configuration is never executed"),
        ("stream-snippet", _C, "raw nginx configuration is never executed"),
    ),
    *_entries(
        Group.SNIPPETS,
        ("auth-snippet", _C, "raw nginx configuration is never executed"),
        protects=True,
        belongs_to="auth-url",
    ),
)
_GONE: Final = _entries(
    Group.GONE,
    *(
        (name, _L, "ingress-nginx itself ignores it")
        for name in (
            "session-cookie-hash",
            "enable-influxdb",
            "influxdb-measurement",
            "influxdb-port",
            "influxdb-host",
            "influxdb-server-name",
            "secure-verify-ca-secret",
            "secure-backends",
            "grpc-backend",
            "enable-opentracing",
            "opentracing-operation-name",
            "opentracing-trust-incoming-span",
            "global-rate-limit",
            "global-rate-limit-window",
            "global-rate-limit-key",
            "global-rate-limit-ignored-cidrs",
            "add-base-url",
            "base-url-scheme",
        )
    ),
    harmless=True,
)

TABLE: Final = (
    *_PATHS,
    *_REDIRECTS,
    *_UPSTREAM,
    *_STICKINESS,
    *_TLS,
    *_AUTHENTICATION,
    *_LIMITS,
    *_MIRRORING,
    *_ERRORS,
    *_BUFFERS,
    *_HEADERS,
    *_FIREWALL,
    *_SNIPPETS,
    *_GONE,
)

_GUARDING: Final = re.compile(
    r"(?:^|[\s;{}])(deny|allow|auth_[a-z_]+|limit_[a-z_]+|satisfy|return)(?=[\s;]|$)", re.MULTILINE
)


def changes_nothing(entry: Unsupported, value: str) -> bool:
    """Whether the value asks for what happens anyway."""
    try:
        spelled = str(boolean(value)).lower()
    except ValueError:
        spelled = value
    return value in entry.anyway or spelled in entry.anyway


def guarding_directive(entry: Unsupported, value: str) -> str:
    """Why ignoring this annotation with this value would let requests pass that should not; empty: it would not.

    Snippets are judged by the nginx directives that they hold, comments left out.
    """
    if entry.protects:
        return "it protects the path"
    if entry.group is not Group.SNIPPETS:
        return ""
    found = _GUARDING.search(re.sub(r"#[^\n]*", "", value))
    return f"its directive {quoted(found[1])} may protect the path" if found else ""
