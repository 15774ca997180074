"""Packet filter rules by netlink: the few kinds that the cluster's network needs.

Without the program `nft`, which is missing on most machines and would have to be started for each change of an
endpoint; a batch here takes effect as a whole in less than a millisecond. Numbers: the kernel's uapi header
`linux/netfilter/nf_tables.h`; what the rules look like is what `nft --debug=netlink` prints.
"""

import ipaddress
import struct
from enum import IntEnum
from typing import final

from tests.cluster.netlink import ACK, APPEND, CREATE, NETLINK_NETFILTER, Netlink, attribute, nested, text

_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 16, 17
_NEWTABLE, _NEWCHAIN, _DELCHAIN, _NEWRULE, _DELRULE, _NEWSET, _NEWSETELEM, _DELSETELEM = 0, 3, 5, 6, 8, 9, 12, 14
_FAMILY = 2  # IPv4
_MAP = 8
_VERDICT_TYPE = 0xFFFFFF00
_GOTO, _DROP = -4 & 0xFFFFFFFF, 0
_VERDICT_REGISTER, _FIRST = 0, 8  # NFT_REG_VERDICT, NFT_REG32_00
_L4_PROTOCOL = 16
_DESTINATION_NAT = 1
_BATCH = 400
"""Messages in one datagram at most, so that it fits a socket buffer."""


class Hook(IntEnum):
    """Where in the path of a packet a chain sits."""

    PREROUTING = 0
    INPUT = 1
    FORWARD = 2
    OUTPUT = 3
    POSTROUTING = 4


@final
class Table:
    """One table of rules. Changes are collected, and take effect together with `commit`."""

    def __init__(self, name: str) -> None:
        self._netlink = Netlink(NETLINK_NETFILTER)
        self._name = attribute(1, text(name))
        self._sets = 0
        self._pending: list[tuple[int, int, bytes]] = [(_NEWTABLE, CREATE, self._name)]

    def close(self) -> None:
        """Give the socket back; the rules stay."""
        self._netlink.close()

    def add_base_chain(self, name: str, kind: str, hook: Hook, priority: int) -> None:
        """A chain that packets pass at a hook; `kind` is `filter` or `nat`."""
        place = nested(4, _number(1, hook), attribute(2, struct.pack(">i", priority)))
        self._add(_NEWCHAIN, CREATE, attribute(3, text(name)), place, attribute(7, text(kind)))

    def add_chain(self, name: str) -> None:
        """A chain that only rules and maps lead to."""
        self._add(_NEWCHAIN, CREATE, attribute(3, text(name)))

    def remove_chain(self, name: str) -> None:
        """Remove a chain with its rules; nothing may lead to it any more."""
        self.empty_chain(name)
        self._add(_DELCHAIN, 0, attribute(3, text(name)))

    def empty_chain(self, name: str) -> None:
        """Remove all rules of a chain."""
        self._add(_DELRULE, 0, attribute(2, text(name)))

    def add_rule(self, chain: str, *expressions: bytes) -> None:
        """A rule at the end of a chain: what the functions below make, in order."""
        listed = nested(4, *(nested(1, expression) for expression in expressions))
        self._add(_NEWRULE, CREATE | APPEND, attribute(2, text(chain)), listed)

    def add_set(self, name: str, key_bytes: int, *, verdicts: bool = False) -> None:
        """A set of keys; with `verdicts` a map from keys to chains."""
        self._sets += 1
        fields = [attribute(2, text(name)), _number(3, _MAP * verdicts), _number(4, 0), _number(5, key_bytes)]
        if verdicts:
            fields += [_number(6, _VERDICT_TYPE), _number(7, 0)]
        self._add(_NEWSET, CREATE, *fields, _number(10, self._sets))

    def add_element(self, name: str, key: bytes, chain: str = "") -> None:
        """A key of a set, or of a map that then leads to a chain."""
        self._add(_NEWSETELEM, CREATE, *_element(name, key, chain))

    def remove_element(self, name: str, key: bytes) -> None:
        """The end of `add_element`."""
        self._add(_DELSETELEM, 0, *_element(name, key, ""))

    def commit(self) -> None:
        """Let all collected changes take effect, in batches of which each does so as a whole.

        Raises:
            OSError: the kernel refused one; its batch had no effect.
        """
        pending, self._pending = self._pending, []
        for start in range(0, len(pending), _BATCH):
            self._send(pending[start : start + _BATCH])

    def _send(self, messages: list[tuple[int, int, bytes]]) -> None:
        message = self._netlink.message
        frame = struct.pack(">BBH", 0, 0, _SUBSYSTEM)
        datagram = [message(_BATCH_BEGIN, 0, frame)]
        for number, (kind, flags, body) in enumerate(messages, 1):
            # Only the last one is acknowledged; errors come for any.
            wanted = ACK if number == len(messages) else 0
            header = struct.pack(">BBH", _FAMILY, 0, 0)
            datagram.append(message(_SUBSYSTEM << 8 | kind, flags | wanted, header + body))
        datagram.append(message(_BATCH_END, 0, frame))
        self._netlink.send(b"".join(datagram))

    def _add(self, kind: int, flags: int, *fields: bytes) -> None:
        self._pending.append((kind, flags, self._name + b"".join(fields)))


def load_source(register: int = 0) -> bytes:
    """Expression: the packet's source address."""
    return _payload(1, 12, 4, register)


def load_destination(register: int = 0) -> bytes:
    """Expression: the packet's destination address."""
    return _payload(1, 16, 4, register)


def load_protocol(register: int) -> bytes:
    """Expression: the number of the transport protocol."""
    return _expression("meta", _number(1, _FIRST + register), _number(2, _L4_PROTOCOL))


def load_destination_port(register: int) -> bytes:
    """Expression: the port of TCP and UDP packets."""
    return _payload(2, 2, 2, register)


def is_in(name: str) -> bytes:
    """Expression: go on only if what was loaded from register 0 on is in that set."""
    return _expression("lookup", attribute(1, text(name)), _number(2, _FIRST))


def goto_by(name: str) -> bytes:
    """Expression: go to the chain that the map has for what was loaded from register 0 on."""
    return _expression("lookup", attribute(1, text(name)), _number(2, _FIRST), _number(3, _VERDICT_REGISTER))


def one_of(count: int) -> tuple[bytes, ...]:
    """Expressions: go on for one packet of so many, at random."""
    number = _expression("numgen", _number(1, _FIRST), _number(2, count), _number(3, 1))
    return number, _expression("cmp", _number(1, _FIRST), _number(2, 0), nested(3, attribute(1, bytes(4))))


def drop() -> bytes:
    """Expression: the packet's end."""
    return _expression("immediate", _number(1, _VERDICT_REGISTER), nested(2, nested(2, _number(1, _DROP))))


def masquerade() -> bytes:
    """Expression: send in this machine's name."""
    return _expression("masq")


def send_to(address: str, port: int) -> tuple[bytes, ...]:
    """Expressions: this destination instead, for the whole connection."""
    values = (ipaddress.IPv4Address(address).packed, struct.pack(">H", port))
    loads = (
        _expression("immediate", _number(1, _FIRST + place), nested(2, attribute(1, value)))
        for place, value in enumerate(values)
    )
    kind = (_number(1, _DESTINATION_NAT), _number(2, _FAMILY))
    return *loads, _expression("nat", *kind, _number(3, _FIRST), _number(5, _FIRST + 1))


def service_key(address: str, protocol: int, port: int) -> bytes:
    """What `load_destination(0)`, `load_protocol(1)`, `load_destination_port(2)` make of a packet."""
    return ipaddress.IPv4Address(address).packed + struct.pack(">B3xH2x", protocol, port)


def pair_key(source: str, destination: str) -> bytes:
    """What `load_source(0)`, `load_destination(1)` make of a packet."""
    return ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(destination).packed


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def _expression(name: str, *fields: bytes) -> bytes:
    return attribute(1, text(name)) + nested(2, *fields)


def _payload(base: int, offset: int, length: int, register: int) -> bytes:
    place = (_number(2, base), _number(3, offset), _number(4, length))
    return _expression("payload", _number(1, _FIRST + register), *place)


def _element(name: str, key: bytes, chain: str) -> tuple[bytes, ...]:
    parts = [nested(1, attribute(1, key))]
    if chain:
        parts.append(nested(2, nested(2, _number(1, _GOTO), attribute(2, text(chain)))))
    return attribute(2, text(name)), nested(3, nested(1, *parts))
