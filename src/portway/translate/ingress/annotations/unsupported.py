"""The annotations of ingress-nginx that have no effect yet, by name.

They are known so that nobody takes them for working: `check` says what is missing and how risky that is. What protects
fails closed. Which ones do: those that decide who may call (`auth-*`, `auth-tls-*`, `satisfy`), the web application
firewall, and snippets with directives that decide it.
"""

import re
from typing import Final

from portway.objects.problems import quoted
from portway.translate.ingress.annotations.entry import Group, Risk, Unsupported

_L: Final = Risk.LOW
_M: Final = Risk.MEDIUM
_H: Final = Risk.HIGH
_C: Final = Risk.CRITICAL


def _entries(group: Group, *rows: tuple[str, Risk, str], protects: bool = False) -> tuple[Unsupported, ...]:
    return tuple(
        Unsupported(name=name, group=group, risk=risk, protects=protects, text=text) for name, risk, text in rows
    )


def _harmless(group: Group, *rows: tuple[str, Risk, str]) -> tuple[Unsupported, ...]:
    return tuple(Unsupported(name=name, group=group, risk=risk, harmless=True, text=text) for name, risk, text in rows)


_PATHS: Final = _entries(
    Group.PATHS,
    ("preserve-trailing-slash", _M, "HTTPS redirects drop one / at the end of the URI"),
)
_REDIRECTS: Final = _entries(
    Group.REDIRECTS,
    ("use-port-in-redirects", _L, "HTTPS redirects name the port where it is not 443"),
    ("relative-redirects", _L, "redirects to a path name scheme and host"),
)
_TLS: Final = (
    *_entries(
        Group.TLS,
        ("ssl-ciphers", _L, "cipher suites are set for the whole edge (setting `tls_ciphers`)"),
        ("ssl-prefer-server-ciphers", _L, "the proxy's order of cipher suites holds"),
        ("proxy-ssl-ciphers", _M, "cipher suites towards upstreams are the proxy's"),
        ("proxy-ssl-protocols", _M, "TLS 1.2 and 1.3 are spoken to upstreams"),
    ),
    *_entries(
        Group.TLS,
        ("auth-tls-secret", _M, "client certificates are not asked for; a Gateway's `frontendValidation` does that"),
        ("auth-tls-verify-client", _M, "client certificates are not asked for"),
        ("auth-tls-verify-depth", _L, "client certificates are not asked for"),
        ("auth-tls-error-page", _H, "client certificates are not asked for"),
        ("auth-tls-pass-certificate-to-upstream", _L, "client certificates are not asked for"),
        ("auth-tls-match-cn", _H, "client certificates are not asked for"),
        protects=True,
    ),
    *_entries(
        Group.TLS,
        ("proxy-ssl-secret", _M, "the upstream's certificate is not verified; a BackendTLSPolicy does that"),
        ("proxy-ssl-verify", _L, "the upstream's certificate is not verified; a BackendTLSPolicy does that"),
        ("proxy-ssl-verify-depth", _L, "a BackendTLSPolicy says how the upstream is verified"),
        ("proxy-ssl-name", _H, "a BackendTLSPolicy says how the upstream is verified"),
        ("proxy-ssl-server-name", _L, "no server name is sent upstream; a BackendTLSPolicy says which"),
    ),
)
_AUTHENTICATION: Final = (
    *_entries(
        Group.AUTHENTICATION,
        ("auth-type", _L, "passwords are not asked for"),
        ("auth-secret", _M, "passwords are not asked for"),
        ("auth-secret-type", _L, "passwords are not asked for"),
        ("auth-realm", _M, "passwords are not asked for"),
        ("auth-url", _H, "no authentication service is asked"),
        ("auth-method", _L, "no authentication service is asked"),
        ("auth-signin", _H, "no authentication service is asked"),
        ("auth-signin-redirect-param", _M, "no authentication service is asked"),
        ("auth-response-headers", _M, "no authentication service is asked"),
        ("auth-proxy-set-headers", _M, "no authentication service is asked"),
        ("auth-request-redirect", _M, "no authentication service is asked"),
        ("auth-always-set-cookie", _L, "no authentication service is asked"),
        ("auth-cache-key", _M, "no authentication service is asked"),
        ("auth-cache-duration", _M, "no authentication service is asked"),
        ("auth-keepalive", _L, "no authentication service is asked"),
        ("auth-keepalive-share-vars", _L, "no authentication service is asked"),
        ("auth-keepalive-requests", _L, "no authentication service is asked"),
        ("auth-keepalive-timeout", _L, "no authentication service is asked"),
        ("satisfy", _L, "which of several checks must pass cannot be chosen"),
        protects=True,
    ),
    *_entries(Group.AUTHENTICATION, ("enable-global-auth", _L, "there is no global authentication yet")),
)
_LIMITS: Final = _entries(
    Group.LIMITS,
    ("limit-rps", _L, "requests are not limited"),
    ("limit-rpm", _L, "requests are not limited"),
    ("limit-burst-multiplier", _L, "requests are not limited"),
    ("limit-connections", _L, "connections of a client are not limited"),
    ("limit-rate", _L, "bandwidth is not limited"),
    ("limit-rate-after", _L, "bandwidth is not limited"),
    ("limit-allowlist", _L, "requests are not limited"),
    ("limit-whitelist", _L, "requests are not limited"),
)
_MIRRORING: Final = _entries(
    Group.MIRRORING,
    ("mirror-target", _H, "nothing is mirrored; an HTTPRoute's `RequestMirror` filter does that"),
    ("mirror-request-body", _L, "nothing is mirrored"),
    ("mirror-host", _H, "nothing is mirrored"),
)
_ERRORS: Final = _entries(
    Group.ERRORS,
    ("custom-http-errors", _L, "the upstream's own error answers pass"),
    ("disable-proxy-intercept-errors", _L, "the upstream's own error answers pass anyway"),
)
_UPSTREAM: Final = (
    *_entries(
        Group.UPSTREAM,
        ("service-upstream", _L, "requests go to the endpoints, not to the Service's address"),
        ("upstream-hash-by-subset", _L, "hashing chooses one endpoint, not a group"),
        ("upstream-hash-by-subset-size", _L, "hashing chooses one endpoint, not a group"),
        ("proxy-http-version", _L, "HTTP/1.1 is spoken to upstreams, or HTTP/2 by `backend-protocol`"),
        ("connection-proxy-header", _L, "the proxy decides about its connections to upstreams"),
        ("fastcgi-index", _M, "FastCGI is not supported"),
        ("fastcgi-params-configmap", _M, "FastCGI is not supported"),
    ),
    *_harmless(Group.UPSTREAM, ("http2-push-preload", _L, "browsers have dropped HTTP/2 push")),
)
_STICKINESS: Final = _entries(
    Group.STICKINESS,
    ("affinity-canary-behavior", _L, "a client stays on the side, canary or not, that it reached first"),
    ("session-cookie-conditional-samesite-none", _L, "SameSite=None is sent to every browser"),
)
_BUFFERS: Final = (
    *_harmless(
        Group.BUFFERS,
        ("client-body-buffer-size", _L, "proxies stream bodies; their buffers need no tuning"),
        ("proxy-buffers-number", _L, "proxies stream bodies; their buffers need no tuning"),
        ("proxy-busy-buffers-size", _L, "proxies stream bodies; their buffers need no tuning"),
        ("proxy-max-temp-file-size", _L, "proxies write no files"),
        ("proxy-buffer-size", _L, "proxies take larger header fields from upstreams anyway"),
        ("proxy-buffering", _L, "answers are streamed"),
    ),
    *_entries(
        Group.BUFFERS,
        ("proxy-request-buffering", _L, "requests are streamed to the upstream as they arrive"),
        ("proxy-cookie-domain", _M, "cookies of the upstream pass unchanged"),
        ("proxy-cookie-path", _M, "cookies of the upstream pass unchanged"),
        ("proxy-redirect-from", _M, "Location fields of the upstream pass unchanged"),
        ("proxy-redirect-to", _M, "Location fields of the upstream pass unchanged"),
    ),
)
_HEADERS: Final = (
    *_entries(
        Group.HEADERS,
        ("custom-headers", _M, "no fields are added; an HTTPRoute's `ResponseHeaderModifier` filter does that"),
        ("enable-access-log", _L, "the access log is set for the whole edge"),
        ("enable-opentelemetry", _L, "tracing is set for the whole edge"),
        ("opentelemetry-trust-incoming-span", _L, "tracing is set for the whole edge"),
        ("opentelemetry-operation-name", _M, "spans are named after the route"),
    ),
    *_harmless(Group.HEADERS, ("enable-rewrite-log", _L, "`portway explain` says how a request is rewritten")),
)
_FIREWALL: Final = _entries(
    Group.FIREWALL,
    ("enable-modsecurity", _L, "there is no web application firewall"),
    ("enable-owasp-core-rules", _L, "there is no web application firewall"),
    ("modsecurity-transaction-id", _H, "there is no web application firewall"),
    ("modsecurity-snippet", _C, "there is no web application firewall"),
    protects=True,
)
_SNIPPETS: Final = (
    *_entries(
        Group.SNIPPETS,
        ("configuration-snippet", _C, "raw nginx configuration is never executed"),
        ("server-snippet", _C, "raw nginx configuration is never executed"),
        ("stream-snippet", _C, "raw nginx configuration is never executed"),
    ),
    *_entries(Group.SNIPPETS, ("auth-snippet", _C, "raw nginx configuration is never executed"), protects=True),
)
_GONE: Final = _harmless(
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
_OFF: Final = frozenset({"0", "f", "F", "FALSE", "false", "False", "off"})


def guarding_directive(entry: Unsupported, value: str) -> str:
    """Why ignoring this annotation with this value would let requests pass that should not; empty: it would not.

    Snippets are judged by the nginx directives that they hold, comments left out; a firewall that is switched off
    protects nobody.
    """
    if entry.group is Group.SNIPPETS and not entry.protects:
        code = re.sub(r"#[^\n]*", "", value)
        found = _GUARDING.search(code)
        return f"its directive {quoted(found[1])} may protect the path" if found else ""
    if not entry.protects:
        return ""
    if entry.name in _SWITCHES and value.strip() in _OFF:
        return ""
    return "it protects the path"


_SWITCHES: Final = frozenset(
    {"enable-modsecurity", "enable-owasp-core-rules", "auth-tls-verify-client"}
    | {"auth-always-set-cookie", "auth-keepalive-share-vars", "auth-tls-pass-certificate-to-upstream"}
)
