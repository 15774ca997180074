"""The sockets of the admin address. Apart from the server, which is imported later: who asks meanwhile waits."""

import errno
import socket

from portway.identity import listening

_NO_SUCH_ADDRESS = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def listen(host: str, port: int) -> tuple[socket.socket, ...]:
    """Listen on every address of a name; on those that the machine has, if it lacks some (`localhost` without IPv6).

    Args:
        host: name or address, without brackets; empty or `::`: all addresses of both IP families.
        port: 0: any that is free.

    Raises:
        OSError: one of them cannot be had, or the machine has none.
    """
    if host in ("", "::"):
        return (listening.listen("::", port),)
    found: list[socket.socket] = []
    lacking: OSError | None = None
    # Duplicates are possible where a hosts file names an address twice.
    addresses = dict.fromkeys(
        (family, address[:2]) for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    )
    try:
        for family, (name, number) in addresses:
            try:
                found.append(socket.create_server((str(name), int(number)), family=family))
            except OSError as error:
                if error.errno not in _NO_SUCH_ADDRESS:
                    raise
                lacking = error
    except OSError:
        for one in found:
            one.close()
        raise
    if not found:
        assert lacking is not None  # noqa: S101 - getaddrinfo raises rather than to return nothing
        raise lacking
    return tuple(found)
