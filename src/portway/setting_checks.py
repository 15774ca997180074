"""How the text of a setting becomes a value, and which values cannot be used.

Apart from `settings`, which is the tree. What is refused here would otherwise be found by Envoy, as a listener that it
refuses, or by nobody. Ranges are those of Envoy's API where it has one.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from ipaddress import ip_address, ip_network

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII)
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_NAMESPACED = re.compile(rf"{_LABEL}/{_LABEL}(?:\.{_LABEL})*")
_SERVICE_OR_NAMESPACE = re.compile(rf"{_LABEL}(?:/{_LABEL})?")
_SUBDOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_CIPHER_GROUP = re.compile(r"\[(.*)\]")
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]+):(\d{1,5})", re.ASCII)

INT32_MAX = (1 << 31) - 1
MAX_HEADER_BYTES = 8192 * 1024  # Envoy's bound of max_request_headers_kb.
MIN_WINDOW_BYTES = 65_535  # RFC 9113 §6.9.2; Envoy takes no smaller one.
MIN_HEAP_BYTES = 64 << 20
"""Against slips: with `512`, meant as MiB, Envoy would answer 503 to everything."""


def parse_duration(text: str) -> timedelta:
    """`1h30m`, `10s`, `500ms`; Gateway API's format (GEP-2257). Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        unit = f"; did you mean {text}s?" if text.isascii() and text.isdigit() else ""
        raise ValueError(f"is not a duration like 10s, 1m30s or 500ms{unit}")
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in match.groups())
    try:
        return timedelta(hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
    except OverflowError:
        raise ValueError("is too long for a duration") from None


_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _parse_boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError("is neither true nor false") from None


def _parse_integer(text: str) -> int:
    try:
        return int(text.replace("_", ""))
    except ValueError:
        raise ValueError("is not a whole number") from None


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("is not a number") from None


PARSERS: Mapping[object, Callable[[str], object]] = {
    str: str,
    int: _parse_integer,
    bool: _parse_boolean,
    float: _parse_number,
    timedelta: parse_duration,
}
"""By type. Each raises ValueError with what is wrong, to be put behind the value."""


def _choice(*allowed: str) -> Callable[[object], str]:
    return lambda value: "" if str(value) in allowed else f"is none of {', '.join(filter(None, allowed))}"


def _within(low: float, high: float) -> Callable[[object], str]:
    return lambda value: "" if low <= float(str(value)) <= high else f"is not between {low:.15g} and {high:.15g}"


def _at_least(low: int) -> Callable[[object], str]:
    return lambda value: "" if int(str(value)) >= low else f"is less than {low}"


def _port(value: object) -> str:
    return "" if 0 < int(str(value)) < 65536 else "is not a port (1 to 65535)"


def _address(value: object) -> str:
    try:
        ip_address(str(value))
    except ValueError:
        return "is not an IP address"
    return ""


def _network(value: object) -> str:
    try:
        ip_network(str(value))
    except ValueError:
        try:
            meant = ip_network(str(value), strict=False)
        except ValueError:
            return "is not a network like 10.0.0.0/8"
        return f"is not a network: bits are set behind its prefix; did you mean {meant}?"
    return ""


def _admin_address(value: object) -> str:
    """Port 0 is allowed: the kernel chooses."""
    return "" if not value else _host_and_port(value, lowest=0)


def _collector(value: object) -> str:
    return "" if not value else _host_and_port(value, lowest=1)


def _host_and_port(value: object, lowest: int) -> str:
    match = _HOST_AND_PORT.fullmatch(str(value))
    return "" if match is not None and lowest <= int(match[2]) < 65536 else "is not HOST:PORT"


def _like(pattern: re.Pattern[str], form: str) -> Callable[[object], str]:
    return lambda value: "" if not value or pattern.fullmatch(str(value)) else f"is not {form}"


def _field_value(value: object) -> str:
    return "" if str(value).isprintable() else "has control characters, which no header field may have"


def _cipher(value: object) -> str:
    """A suite, or a group of equally good ones: `[A|B]`."""
    from difflib import get_close_matches

    group = _CIPHER_GROUP.fullmatch(str(value))
    names = group[1].split("|") if group is not None else [str(value)]
    unknown = next((name for name in names if name not in CIPHERS), None)
    if unknown is None:
        return ""
    if unknown in TLS13_CIPHERS:
        return "is a cipher suite of TLS 1.3, which is not configured: leave it out"
    near = get_close_matches(unknown.upper(), CIPHERS, 1, 0.6)
    return f"is no cipher suite of Envoy; did you mean {near[0]}?" if near else f"is none of {', '.join(CIPHERS)}"


def _heap(value: object) -> str:
    return "" if value == 0 else _at_least(MIN_HEAP_BYTES)(value)


def _above_zero(value: object) -> str:
    return "" if isinstance(value, timedelta) and value > timedelta(0) else "is no time at all; write one like 5s"


CIPHERS = (
    *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    *("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
    *("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
    *("ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES128-SHA256"),
    *("ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA"),
    *("AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA", "DES-CBC3-SHA"),
)
"""Suites for certificates that Envoy 1.40 takes (`TlsParameters.cipher_suites`; `tests/envoy/test_bootstrap.py` asks
it). An unknown one would take down every HTTPS listener."""
TLS13_CIPHERS = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})

CHOICES: Mapping[str, tuple[str, ...]] = {
    "escaped_slashes": ("keep", "reject", "redirect"),
    "underscores_in_headers": ("allow", "drop", "reject"),
    "tls_min_version": ("1.2", "1.3"),
    "local_backends": ("auto", "yes", "no"),
    "redirect_status": ("301", "302", "307", "308"),
    "envoy_log_level": ("trace", "debug", "info", "warning", "error", "critical", "off"),
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("auto", "json", "human"),
    "infrastructure": ("host", "kubernetes"),
    "proxy_image_pull_policy": ("", "Always", "IfNotPresent", "Never"),
}
"""Settings that are one of a few words."""

CHECKS: Mapping[str, Callable[[object], str]] = {
    **{field: _choice(*allowed) for field, allowed in CHOICES.items()},
    "http_port": _port,
    "https_port": _port,
    "bind_addresses": _address,
    "trusted_proxies": _network,
    "admin_address": _admin_address,
    "health_address": lambda value: _host_and_port(value, lowest=0),
    "control_planes": _collector,
    "identity_services": _collector,
    "tracing_collector": _collector,
    "discovery_address": _collector,
    "system_namespace": _like(_SUBDOMAIN, "the name of a namespace"),
    "default_certificate": _like(_NAMESPACED, "of the form namespace/name"),
    "statistics_for": _like(_SERVICE_OR_NAMESPACE, "a namespace or a Service as namespace/name"),
    "annotation_prefix": _like(_SUBDOMAIN, "a prefix of annotations like nginx.ingress.kubernetes.io"),
    "server_header": _field_value,
    "tls_ciphers": _cipher,
    "tracing_percent": _within(0, 100),
    "max_connections": _within(1, INT32_MAX),
    "max_header_bytes": _within(1, MAX_HEADER_BYTES),
    "max_headers": _within(1, INT32_MAX),
    "http2_max_streams": _within(1, INT32_MAX),
    "http2_window_bytes": _within(MIN_WINDOW_BYTES, INT32_MAX),
    "connect_timeout": _above_zero,
    "status_writes_per_second": _within(1, 1000),
    "concurrency": _within(0, 1024),
    "max_heap_bytes": _heap,
}
"""What is wrong with a value of the right type, of settings with several values with each; empty if nothing."""

NORMAL_FORMS: Mapping[str, Callable[[str], str]] = {
    "bind_addresses": lambda text: str(ip_address(text)),
    "trusted_proxies": lambda text: str(ip_network(text)),
}
"""Of settings with several values whose values can be written in more than one way: Envoy refuses a listener that has
one of them twice."""
