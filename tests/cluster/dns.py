"""The cluster's DNS: names of Services, and of pods behind headless ones. Nothing else resolves.

Source of names: Kubernetes docs, "DNS for Services and Pods"; of the format: RFC 1035 §4.
"""

import asyncio
import contextlib
import ipaddress
import struct
from collections.abc import Iterable, Iterator
from typing import cast, final

from tests.cluster.loadbalancer import LoadBalancer
from tests.cluster.objects import EndpointSlice

ZONE = "cluster.local"
_A, _ANY = 1, 255
_NO_SUCH_NAME = 3
_TTL_S = 1


@final
class NameServer(asyncio.DatagramProtocol):
    """Answers by UDP."""

    def __init__(self, services: LoadBalancer) -> None:
        self._services = services
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self, address: str) -> None:
        """Listen on port 53 of an address."""
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=(address, 53))

    def close(self) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        with contextlib.suppress(IndexError, struct.error):  # cut off: no answer, as to any noise
            if answer := self.answer(data):
                self._transport.sendto(answer, addr)

    def answer(self, query: bytes) -> bytes:
        """The answer to one query with one question; empty for what is no query."""
        if len(query) < 17 or query[2] & 0x80:
            return b""
        identifier, flags = struct.unpack_from(">HH", query)
        labels, offset = _read_name(query)
        question = query[12 : offset + 4]
        (kind,) = struct.unpack_from(">H", query, offset)
        addresses = self.addresses(".".join(labels).lower())
        records = [] if addresses is None or kind not in (_A, _ANY) else addresses
        code = _NO_SUCH_NAME if addresses is None else 0
        # Authoritative, recursion "available": resolvers complain otherwise.
        header = struct.pack(">HHHHHH", identifier, 0x8480 | flags & 0x0100 | code, 1, len(records), 0, 0)
        body = b"".join(
            struct.pack(">HHHIH", 0xC00C, _A, 1, _TTL_S, 4) + ipaddress.IPv4Address(address).packed
            for address in records
        )
        return header + question + body

    def addresses(self, name: str) -> list[str] | None:
        """The IPv4 addresses of a name; `None` if there is no such name."""
        if not name.endswith(f".svc.{ZONE}"):
            return None
        parts = name.removesuffix(f".svc.{ZONE}").split(".")
        if len(parts) not in (2, 3):
            return None
        key = f"{parts[-1]}/{parts[-2]}"
        service = self._services.services.get(key)
        if service is None:
            return None
        if service.spec.cluster_ip not in ("", "None"):
            return [service.spec.cluster_ip] if len(parts) == 2 else None
        host = parts[0] if len(parts) == 3 else ""
        return list(_headless(self._services.slices[key].values(), host)) or (None if host else [])


def _headless(slices: Iterable[EndpointSlice], host: str) -> Iterator[str]:
    for endpoints in slices:
        for endpoint in endpoints.endpoints or ():
            if endpoint.conditions.ready is not False and host in ("", endpoint.hostname):
                yield from endpoint.addresses


def _read_name(query: bytes) -> tuple[list[str], int]:
    """The labels of the first question, and where its type stands."""
    labels, offset = [], 12
    while length := query[offset]:
        labels.append(query[offset + 1 : offset + 1 + length].decode("ascii", "replace"))
        offset += 1 + length
    return labels, offset + 1
