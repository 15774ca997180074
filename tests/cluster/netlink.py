"""Netlink: how one asks the Linux kernel for devices, addresses, routes and packet filters.

Written out here because `ip` and `nft` cost a process for each change, and `nft` is missing on most machines; and
because a socket made inside a namespace works on it from outside. Sources: netlink(7), rtnetlink(7), and the kernel's
uapi headers `linux/netlink.h`, `if_link.h`, `veth.h`.
"""

import array
import fcntl
import ipaddress
import os
import socket
import struct
from typing import final

REQUEST, ACK, EXCLUSIVE, CREATE, APPEND = 0x1, 0x4, 0x200, 0x400, 0x800
NESTED = 0x8000

_NLMSG_ERROR = 2
_NEWLINK, _SETLINK, _NEWADDR, _NEWROUTE = 16, 19, 20, 24
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_NET_NS_FD, _IFLA_INFO_KIND, _IFLA_INFO_DATA = 3, 18, 28, 1, 2
_VETH_INFO_PEER = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 4, 5, 7
_IFF_UP = 1
_SIOCETHTOOL, _ETHTOOL_GLINK = 0x8946, 0x0A
_TABLE_MAIN, _TABLE_LOCAL = 254, 255
_PROTOCOL_BOOT, _SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_HOST = 3, 0, 253, 254
_UNICAST, _LOCAL = 1, 2

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute: length, type, value, padded to 4 bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NESTED, b"".join(attributes))


def text(value: str) -> bytes:
    """A string as attributes hold it."""
    return value.encode() + b"\0"


@final
class Netlink:
    """A socket to the kernel, in the network namespace in which it was made. Requests wait for their outcome."""

    def __init__(self, family: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        self._socket.bind((0, 0))
        # Batches of rules are one datagram each.
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, 8 << 20)
        self._sequence = 0

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def message(self, kind: int, flags: int, body: bytes) -> bytes:
        """A message with its header and a sequence number of its own."""
        self._sequence += 1
        return struct.pack("=IHHII", 16 + len(body), kind, flags | REQUEST, self._sequence, 0) + body

    def send(self, messages: bytes, expected: int = 1) -> None:
        """Send messages in one datagram and wait for as many acknowledgements.

        Raises:
            OSError: the kernel refused one of them.
        """
        self._socket.send(messages)
        while expected:
            answer = self._socket.recv(1 << 20)
            offset = 0
            while offset + 16 <= len(answer):
                length, kind = struct.unpack_from("=IH", answer, offset)
                if kind == _NLMSG_ERROR:
                    expected -= 1
                    (code,) = struct.unpack_from("=i", answer, offset + 16)
                    if code:
                        self._drain()
                        raise OSError(-code, os.strerror(-code))
                offset += (length + 3) & ~3

    def _drain(self) -> None:
        """Throw away the other acknowledgements of a refused batch."""
        self._socket.setblocking(False)
        try:
            while self._socket.recv(1 << 20):
                pass
        except BlockingIOError:
            return
        finally:
            self._socket.setblocking(True)


@final
class Links:
    """Devices, addresses and routes of one network namespace."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETLINK_ROUTE)

    def close(self) -> None:
        """Give the socket back."""
        self._netlink.close()

    def add_veth(self, name: str, peer: str, peer_namespace: int) -> None:
        """A pair of devices that are joined by a cable: one here, the other in that namespace."""
        header = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)
        other = attribute(_IFLA_IFNAME, text(peer)) + attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_namespace))
        self._ask(
            _NEWLINK,
            CREATE | EXCLUSIVE,
            header
            + attribute(_IFLA_IFNAME, text(name))
            + nested(
                _IFLA_LINKINFO,
                attribute(_IFLA_INFO_KIND, text("veth")),
                nested(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, header + other)),
            ),
        )

    def set_up(self, name: str, *, up: bool = True) -> None:
        """Switch a device on or off. Off: its routes are gone, too."""
        self._ask(_SETLINK, 0, struct.pack("=BxHiII", socket.AF_UNSPEC, 0, _index(name), int(up) * _IFF_UP, _IFF_UP))

    def settle(self, name: str) -> None:
        """Wait until packets pass: a device whose other end has just been switched on drops the first ones, and who
        sent them tries again after a second."""
        # Asked for the state of a link the kernel does now what it would do in the background: `ethtool_op_get_link`.
        answer = array.array("I", [_ETHTOOL_GLINK, 0])
        request = struct.pack("16sP16x", name.encode(), answer.buffer_info()[0])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            fcntl.ioctl(asking, _SIOCETHTOOL, request)

    def add_address(self, name: str, address: str) -> None:
        """Give a device an address of its own, without a network around it."""
        packed = ipaddress.IPv4Address(address).packed
        body = struct.pack("=BBBBI", socket.AF_INET, 32, 0, _SCOPE_UNIVERSE, _index(name))
        body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
        self._ask(_NEWADDR, CREATE | EXCLUSIVE, body)

    def add_route(self, network: str, name: str, *, gateway: str = "", source: str = "") -> None:
        """Send packets for this network out of a device; through a gateway on it, with this source address."""
        scope = _SCOPE_UNIVERSE if gateway else _SCOPE_LINK
        body = _route(network, _TABLE_MAIN, scope, _UNICAST) + attribute(_RTA_OIF, struct.pack("=I", _index(name)))
        for kind, address in ((_RTA_GATEWAY, gateway), (_RTA_PREFSRC, source)):
            if address:
                body += attribute(kind, ipaddress.IPv4Address(address).packed)
        self._ask(_NEWROUTE, CREATE, body)

    def add_local_network(self, network: str, *, source: str) -> None:
        """Treat all addresses of a network as this namespace's own: who dials one without a listener is refused.

        Args:
            network: as `10.97.0.0/16`.
            source: the address from which our own processes dial them.
        """
        body = _route(network, _TABLE_LOCAL, _SCOPE_HOST, _LOCAL) + attribute(_RTA_OIF, struct.pack("=I", _index("lo")))
        self._ask(_NEWROUTE, CREATE, body + attribute(_RTA_PREFSRC, ipaddress.IPv4Address(source).packed))

    def _ask(self, kind: int, flags: int, body: bytes) -> None:
        self._netlink.send(self._netlink.message(kind, flags | ACK, body))


def _index(name: str) -> int:
    # By the calling thread's namespace: a `Links` of another namespace is used inside of it.
    return socket.if_nametoindex(name)


def _route(network: str, table: int, scope: int, kind: int) -> bytes:
    destination = ipaddress.IPv4Network(network)
    header = struct.pack(
        "=BBBBBBBBI", socket.AF_INET, destination.prefixlen, 0, 0, table, _PROTOCOL_BOOT, scope, kind, 0
    )
    return header + (attribute(_RTA_DST, destination.network_address.packed) if destination.prefixlen else b"")
