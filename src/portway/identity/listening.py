"""A socket to listen on. What asyncio makes of `::` hears IPv6 only: in a cluster of IPv4 it would hear nobody."""

import socket

BACKLOG = 1024
"""All proxies come at once after a restart."""


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address; on `::` for both IP families, for IPv4 alone where the machine has no IPv6.

    Args:
        port: 0: any that is free.

    Raises:
        OSError: it cannot be had.
    """
    if host == "::" and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"  # noqa: S104 - what `::` means here
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=host == "::")
