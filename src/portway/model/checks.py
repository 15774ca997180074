"""What a proxy accepts as regular expression, header field, host name and path, checked before anything is sent.

Envoy voids a whole response for one bad field, often without naming anybody, so translators ask here first and make a
verdict of the answer. Each check returns what is wrong as the middle of a sentence (`is empty`, `has ...`), empty if
nothing is. Sources: Envoy's field rules (`envoy.config.route.v3`, `HeaderUtility`), RFC 9110 §5, RFC 1123 §2.1, RE2.

Not here: what Kubernetes or Gateway API demand beyond that; `objects/` does it.
"""

import re
from functools import lru_cache
from ipaddress import ip_address

import re2  # type: ignore[import-untyped]  # ships no stubs

MAX_REGEX_PROGRAM = 4_000
"""Largest RE2 program that proxies take; the bootstrap sets the same limit (`BootstrapSettings.regex_program_size`)."""

MAX_HEADER_VALUE_BYTES = 16_384
"""Longest value of a header edit (Envoy: `HeaderValue.value.max_bytes`)."""

CORRECT_REGEX = "correct or shorten it (RE2's syntax, without look-around and back-references)"
"""What to do about a pattern that `check_regex` objects to."""

CORRECT_PATH = "write a path that begins with /, without ?, # and control characters"
"""What to do about a path that `check_path` objects to."""

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 §5.6.2."""

FRAMING = frozenset(
    {
        *("content-length", "transfer-encoding", "trailer", "te"),
        *("connection", "keep-alive", "proxy-connection", "upgrade"),
    }
)
"""Fields of the transfer and of one connection (RFC 9110 §7.6.1, RFC 9112 §6). Edited, they would let a request end in
the middle of the next one on the same upstream connection, which may be another tenant's."""

# Control characters but the tab; Envoy itself refuses only NUL, CR and LF, and HTTP/2 peers reset for the others.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

# Underscores are not in RFC 1123 but in many a cluster's names; Envoy takes them.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    return options


_OPTIONS = _options()


def _is_closed(pattern: str) -> bool:
    """Whether the pattern stays one expression within a larger one. In RE2 an open `\\Q` reaches to the end: it would
    quote the rest of a larger pattern, that of other tenants too."""
    try:
        re2.compile(f"(?:{pattern})", options=_OPTIONS)
    except re2.error:
        return False
    return True


@lru_cache(maxsize=4096)
def check_regex(pattern: str) -> str:
    """Whether proxies take this RE2 pattern, alone and as a part of a larger one: syntax and size of its program."""
    if not pattern:
        return "is empty"
    try:
        compiled = re2.compile(pattern, options=_OPTIONS)
    except re2.error as error:
        reason = error.args[0]
        return f"is no RE2 expression: {reason.decode(errors='replace') if isinstance(reason, bytes) else reason}"
    if not _is_closed(pattern):
        return r"has a \Q without \E: it would quote what proxies put behind it"
    if compiled.programsize > MAX_REGEX_PROGRAM:
        return (
            f"is too large: its program has {compiled.programsize:,} steps, at most {MAX_REGEX_PROGRAM:,} are allowed"
        )
    return ""


def check_substitution(pattern: str, substitution: str) -> str:
    r"""Whether `substitution` (with `\0` to `\9` for groups, `\\` for a backslash) suits the pattern."""
    problem = check_regex(pattern)
    if problem:
        return problem
    groups = re2.compile(pattern, options=_OPTIONS).groups
    position = 0
    while (position := substitution.find("\\", position)) >= 0:
        escaped = substitution[position + 1 : position + 2]
        if escaped.isascii() and escaped.isdigit():
            if int(escaped) > groups:
                return f"refers to group {escaped}, but {pattern!r} has {groups}"
        elif escaped != "\\":
            return "has a backslash that is followed by neither a digit nor a backslash"
        position += 2
    return check_header_value(substitution)


def check_header_name(name: str) -> str:
    """Whether this can be the name of a header field that is matched on; `:authority`, `:path` and `:method` can."""
    if not name:
        return "is empty"
    if name in {":authority", ":method", ":path", ":scheme"}:
        return ""
    if not TOKEN.fullmatch(name):
        return "is no header name (RFC 9110 §5.1: letters, digits and !#$%&'*+-.^_`|~)"
    return ""


def check_edited_header(name: str) -> str:
    """Whether a header field of this name may be set, added or removed."""
    if name.startswith(":") or name.lower() == "host":
        return "cannot be edited as a header; hosts and paths are rewritten"
    if name.lower() in FRAMING:
        return "cannot be edited: it says where a message ends or is about one connection"
    return check_header_name(name)


def check_header_value(value: str) -> str:
    """Whether this can be sent as the value of a header field."""
    found = _CONTROL.search(value)
    if found:
        return f"has the control character U+{ord(found[0]):04X} at position {found.start()}"
    size = len(value.encode(errors="surrogatepass"))
    if size > MAX_HEADER_VALUE_BYTES:
        return f"has {size:,} bytes, at most {MAX_HEADER_VALUE_BYTES:,} are allowed"
    return check_text(value)


def check_domain(domain: str) -> str:
    """Whether this can be a domain of a virtual host or a server name: a host name, `*.` and a host name, or `*`."""
    if domain == "*":
        return ""
    name = domain.removeprefix("*.")
    if not name:
        return "is empty"
    if domain != domain.lower():
        return "has upper-case letters"
    if len(name) > 253:
        return f"has {len(name)} characters, at most 253 are allowed"
    for label in name.split("."):
        if not _LABEL.fullmatch(label):
            return f"has {label!r} between its dots, which is no label of a host name (RFC 1123)"
    return ""


_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)")


_METADATA = frozenset(
    (
        "metadata.google.internal",  # Google Cloud
        "metadata.goog",
        "metadata",  # by search domain
        "fd20:ce::254",
        "instance-data",  # AWS, by search domain
        "instance-data.ec2.internal",
        "fd00:ec2::254",
        "168.63.129.16",  # Azure's wire server
        "100.100.100.200",  # Alibaba Cloud
        "192.0.0.192",  # Oracle Cloud's older one
    )
)
"""Where clouds hand a machine its credentials, beside the link-local address that nearly all have."""


def is_this_machine(name: str) -> bool:
    """Whether a DNS name can mean the proxy's own machine without any look-up, where its and Portway's own ports are:
    `localhost` and names below it (RFC 6761 §6.3), and addresses in place of a name, which the resolver takes as such:
    loopback, unspecified, link-local, and whatever else ends in a number but is no plain address (`0`, `127.1`,
    `0x7f.1`; resolvers differ in what these mean). A cloud's metadata counts as part of the machine."""
    host = name.rstrip(".").lower()
    if not host or host == "localhost" or host.endswith(".localhost") or host.strip("[]") in _METADATA:
        return True
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return ":" in host or _NUMBER.fullmatch(host.rpartition(".")[2]) is not None
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified or mapped.is_link_local or str(mapped) in _METADATA)


def check_path(path: str) -> str:
    """Whether this can be an exact or prefix path match: starts with `/`, no query, no fragment, no control
    character."""
    if not path.startswith("/"):
        return "does not start with /"
    for mark in "?#":
        if mark in path:
            return f"has {mark}, which never is in the path of a request"
    return check_header_value(path)


def check_text(text: str) -> str:
    """Whether this can be sent as UTF-8 at all: lone surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"has a lone surrogate at position {error.start}, which is no text"
    return ""
