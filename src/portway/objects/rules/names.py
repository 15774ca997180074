"""Checks of names, addresses and ports that several groups' rules share.

Each returns what is wrong and what to write instead; `None` if nothing is wrong. Source:
`k8s.io/apimachinery/pkg/util/validation`.
"""

import functools
import ipaddress
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from portway.objects.problems import quoted
from portway.objects.scalars import DNS_LABEL, DNS_SUBDOMAIN, HOSTNAME, LABEL_VALUE, QUALIFIED_NAME

_DNS_LABEL: Final = re.compile(DNS_LABEL)
_DNS_SUBDOMAIN: Final = re.compile(DNS_SUBDOMAIN)
_HOSTNAME: Final = re.compile(HOSTNAME)
_QUALIFIED_NAME: Final = re.compile(QUALIFIED_NAME)
_LABEL_VALUE: Final = re.compile(LABEL_VALUE)
_PORT_NAME: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")
_CONFIG_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+\Z")
_SIZE: Final = 4096
_LONGEST: Final = 320
"""A qualified name has 253 + 1 + 63 characters; no name is longer."""


class Wrong(NamedTuple):
    """What is wrong with a name; the last two parts of a `Problem`."""

    problem: str
    remedy: str


NameCheck = Callable[[str], Wrong | None]


def remembered(check: NameCheck) -> NameCheck:
    """A check that remembers its results, since names recur in thousands of objects; not those of overlong texts, which
    would fill the memory and are wrong anyway."""
    cached = functools.lru_cache(_SIZE)(check)

    @functools.wraps(check)
    def remembering(text: str) -> Wrong | None:
        return cached(text) if len(text) <= _LONGEST else check(text)

    return remembering


def _misnamed(text: str, fits: Callable[[str], object], form: str, example: str) -> Wrong:
    """A name that is not of a form, with one of the form: made of it where that is easy, else an example."""
    changed = re.sub(r"[^a-z0-9.-]+", "-", text[:_LONGEST].lower()).strip("-.")
    write = next((name for name in (changed, changed.replace(".", "-")) if fits(name)), example)
    return Wrong(f"{quoted(text)} is not a name of {form}", f"write one such as {quoted(write)}")


@remembered
def wrong_dns_label(text: str) -> Wrong | None:
    """RFC 1123 label: namespaces, Services and their ports' names."""
    if _is_dns_label(text):
        return None
    return _misnamed(text, _is_dns_label, "at most 63 lower-case letters, digits and '-'", "shop")


def _is_dns_label(text: str) -> bool:
    return len(text) <= 63 and _DNS_LABEL.match(text) is not None


@remembered
def wrong_dns_subdomain(text: str) -> Wrong | None:
    """RFC 1123 subdomain: names of most objects, host names."""
    if _is_dns_subdomain(text):
        return None
    return _misnamed(text, _is_dns_subdomain, "at most 253 lower-case letters, digits, '-' and '.'", "shop.example")


def _is_dns_subdomain(text: str) -> bool:
    return len(text) <= 253 and _DNS_SUBDOMAIN.match(text) is not None


@remembered
def wrong_host(text: str) -> Wrong | None:
    """A host of an Ingress: a DNS name, perhaps with a wildcard as its first label, and no IP address."""
    if is_ip(text):
        return Wrong(f"{quoted(text)} is an IP address, not a DNS name", "write a DNS name, or no host for all of them")
    if "*" in text and (not text.startswith("*.") or "." not in text):
        problem = f"{quoted(text)} has its wildcard elsewhere than as the whole first label"
        return Wrong(problem, 'write it like "*.example.com"')
    if len(text) <= 253 and _HOSTNAME.match(text):
        return None
    name, colon, port = text.partition(":")
    if colon and port.isdigit() and not wrong_host(name):
        return Wrong(f"{quoted(text)} has a port, which no host of an Ingress has", f"write {quoted(name)}")
    if len(text) > 253:
        return Wrong(f"{quoted(text)} has {len(text)} characters, more than the 253 of a host name", "shorten it")
    if not text.isascii() and (encoded := punycode(text)):
        return Wrong(f"{quoted(text)} is not a host name as it is asked for", f"write {quoted(encoded)}")
    if text != text.lower() and not wrong_host(text.lower()):
        return Wrong(f"{quoted(text)} is not a lower-case host name", f"write {quoted(text.lower())}")
    return Wrong(f"{quoted(text)} is not a lower-case host name", 'write one such as "shop.example.com"')


def punycode(text: str) -> str:
    """The name as it is asked for in DNS and TLS (RFC 3492); empty: it has no such form."""
    try:
        return text.encode("idna").decode()
    except UnicodeError:
        return ""


@remembered
def wrong_qualified_name(text: str) -> Wrong | None:
    """Key of a label: an optional DNS prefix and a name."""
    prefix, slash, _ = text.rpartition("/")
    if len(text) <= _LONGEST and _QUALIFIED_NAME.match(text) and (not slash or len(prefix) <= 253):
        return None
    form = "at most 63 letters, digits, '-', '_', '.' after an optional domain and '/'"
    return Wrong(f"{quoted(text)} is not a name of {form}", "write one such as version or example.com/version")


@remembered
def wrong_label_value(text: str) -> Wrong | None:
    """Value of a label."""
    if len(text) <= 63 and _LABEL_VALUE.match(text):
        return None
    form = "at most 63 letters, digits, '-', '_' and '.' with a letter or digit at both ends"
    return Wrong(f"{quoted(text)} is not {form}", "write a shorter or plainer one; an annotation may hold any text")


def wrong_port_name(text: str) -> Wrong | None:
    """Name of a port as RFC 6335 §5.1 has it."""
    if len(text) <= 15 and _PORT_NAME.match(text) and not text.replace("-", "").isdigit():
        return None
    form = "at most 15 lower-case letters, digits and '-', with a letter in it"
    hint = f"write the number {text} without quotes" if text.isdigit() else "write one such as http"
    return Wrong(f"{quoted(text)} is not a port name of {form}", hint)


def wrong_port_number(number: int) -> Wrong | None:
    """Number of a port."""
    if 1 <= number <= 65535:
        return None
    return Wrong(f"{number} is not a port from 1 to 65535", "write a port such as 80")


def wrong_config_key(text: str) -> Wrong | None:
    """Key in a Secret or ConfigMap; it may become a file's name."""
    if len(text) <= 253 and _CONFIG_KEY.match(text) and text != "." and not text.startswith(".."):
        return None
    form = "at most 253 letters, digits, '-', '_' and '.'"
    return Wrong(f"{quoted(text)} is not a key of {form}", "write one such as tls.crt")


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IP address without zone; None if it is none."""
    if "%" in text or len(text) > _LONGEST:
        return None
    return _parse_ip(text)


@functools.lru_cache(_SIZE)
def _parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def is_ip(text: str) -> bool:
    """Is it an IP address without zone?"""
    return parse_ip(text) is not None


def is_plain_ip(text: str) -> bool:
    """Is it an IP address without zone, and not an IPv4 address in the clothes of IPv6 (`::ffff:192.0.2.1`), which the
    API server's CEL refuses, too?"""
    found = parse_ip(text)
    return found is not None and getattr(found, "ipv4_mapped", None) is None
