"""Which proxy the environment names for a server: as every other client in the cluster takes it, so as Go's do. Pure.

`NO_PROXY` is a list, with commas, of networks (`10.0.0.0/8`), addresses and names, both with a port or without, or `*`.
A name stands for itself and all names below it, one that begins with a dot for those below it only. The machine itself
is never asked for through a proxy.

Python's `urllib` knows suffixes of names only: in a pod whose `NO_PROXY` names the network of Services, all requests to
the API server would go to the proxy.

Source: golang.org/x/net/http/httpproxy.
"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

_PORTS: Final = {"http": 80, "https": 443}


def proxy_of(server: str, environment: Mapping[str, str]) -> str:
    """The URL of the proxy for a server.

    Args:
        server: its URL.

    Returns:
        Empty: it is to be asked directly.
    """
    parts = urlsplit(server)
    proxy = _either(environment, f"{parts.scheme}_proxy")
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    if not proxy or any(_fits(entry, host, str(port)) for entry in _direct(environment)):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _either(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name.upper()) or environment.get(name, "")


def _direct(environment: Mapping[str, str]) -> Iterator[str]:
    yield from ("localhost", "127.0.0.0/8", "::1")
    for entry in _either(environment, "no_proxy").lower().split(","):
        yield entry.strip()


def _fits(entry: str, host: str, port: str) -> bool:
    """Whether an entry of `NO_PROXY` is about a server.

    Args:
        host: in lower case.
    """
    address = _address(host)
    if "/" in entry:
        return address is not None and _is_in(address, entry)
    name, wanted_port = _split(entry)
    if not name or wanted_port not in ("", port):
        return False
    if name == "*":
        return not wanted_port
    if address is not None:
        return address == _address(name)
    name = name.removeprefix("*")
    return host == name or host.endswith(name if name.startswith(".") else f".{name}")


def _split(entry: str) -> tuple[str, str]:
    """Host and port, which may be missing. The colons of an IPv6 address are no port's."""
    host, colon, port = entry.rpartition(":")
    if colon and (":" not in host or host.endswith("]")):
        return host.strip("[]"), port
    return entry.strip("[]"), ""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _is_in(address: IPv4Address | IPv6Address, network: str) -> bool:
    try:
        return address in ip_network(network, strict=False)
    except ValueError:
        return False
