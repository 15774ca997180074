"""Keeps web pages from asking the admin address through the browser of somebody who can reach it.

The admin address trusts whoever reaches it: a person at the machine, a scraper, a probe. A page in that person's
browser reaches it too, in two ways:

- *By DNS rebinding*: the page's own name is made to resolve to our address; to the browser page and answer are then of
  one origin, and the page reads all. What tells is the Host field: it is the page's name. An address in it is no
  name that could be rebound, so addresses are taken, whichever they are: behind a Service, a forwarded port or a
  container's network the client asks for another one than ours. So are `localhost` and names below it, which browsers
  resolve themselves (RFC 6761 §6.3), and the name that the operator wrote into `--admin-address`.
- *As it is*, as another origin: it cannot read the answer, but makes us work. What tells are Origin, which comes with
  every POST, and Sec-Fetch-Site, which comes where the address is a loopback one. A link that somebody follows is fine.

What is asked about decides how strict we are:

- `/healthz` and `/readyz` answer to any name: probes name us as they were told to, and read no more than a word,
  or what a start waits for.
- `/metrics` does so too, but for connections to a loopback address: scrapers name us by a Service or a machine, which
  we cannot know. It has names of Services, so a browser on this very machine shall not be led to it.
- All else has the names of all objects, or is work. People and commands ask for it, who can write an address.

In a cluster all pods reach the address, and proxies are pods: whoever writes an Ingress can have one ask us, with the
Host field that he likes (`upstream-vhost`, an address among them). So there, what is not for probes and scrapers is
answered over the loopback of our own pod alone, where `kubectl port-forward` and `kubectl exec` arrive.

Sources: RFC 9110 §7.2 (Host) and §15.5.20 (421), Fetch Metadata (W3C), "Resource isolation policy". Not here: who may
ask at all; the address is for loopback or a network of operators.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

PROBES = frozenset({"/healthz", "/readyz"})
METRICS = "/metrics"

MISDIRECTED = 421
FORBIDDEN = 403


class Refusal(NamedTuple):
    """Why a request is not answered."""

    status: int
    reason: str
    """A sentence with what to do."""


class Arrival(NamedTuple):
    """How a request came to us."""

    method: str
    path: str
    fields: Mapping[str, str]
    """Its header; names in any case are found (`CIMultiDict`)."""
    local_address: str
    """Our end of the connection."""


def refusal(arrival: Arrival, own_name: str, *, among_pods: bool = False) -> Refusal | None:
    """Whether a request is to be refused.

    Args:
        arrival: the request.
        own_name: the host of `--admin-address`; a name or an address.
        among_pods: whether proxies in a cluster may reach the address.
    """
    if arrival.path in PROBES:
        return None
    if among_pods and arrival.path != METRICS and not _is_loopback(arrival.local_address):
        return Refusal(
            FORBIDDEN,
            "in a cluster this is answered over the pod's own loopback only: use kubectl port-forward, or kubectl exec",
        )
    host = host_of(arrival.fields.get("host", ""))
    if not _is_ours(host, own_name) and (arrival.path != METRICS or _is_loopback(arrival.local_address)):
        return Refusal(
            MISDIRECTED,
            f"the Host field names {host or 'nobody'}, which may be the name of any web page for this address; "
            "ask by IP address or localhost, or give that name in --admin-address",
        )
    if _is_of_a_page(arrival):
        return Refusal(FORBIDDEN, "a page of another origin asks; open the address itself, or use a command")
    return None


def host_of(field: str) -> str:
    """The host of a Host field, without port and brackets, in lower case; empty if there is none."""
    if field.startswith("["):
        return field[1:].partition("]")[0].lower()
    return field.partition(":")[0].rstrip(".").lower()


def _is_ours(host: str, own_name: str) -> bool:
    if not host:
        return False
    return host in ("localhost", own_name.lower()) or host.endswith(".localhost") or _address(host) is not None


def _is_of_a_page(arrival: Arrival) -> bool:
    """Whether a page of another origin makes a browser send this."""
    fields = arrival.fields
    origin = fields.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != fields.get("host", "").lower():
        return True
    if fields.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return False
    followed = fields.get("sec-fetch-mode") == "navigate" and fields.get("sec-fetch-dest") == "document"
    return not (followed and arrival.method == "GET")


def _is_loopback(text: str) -> bool:
    address = _address(text)
    return address is not None and (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
