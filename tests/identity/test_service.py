"""The identity service's door is open to every pod: what those without a token can do to it, and to others."""

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from portway.identity.authorities import bundle, make_authority
from portway.identity.certificates import make_key, make_request
from portway.identity.issuer import Issuer, Owner
from portway.identity.messages import CertificateRequest
from portway.identity.obtain import Obtained, Source, obtain
from portway.identity.service import IssuingService
from portway.identity.serving import ServingIdentity
from portway.identity.tokens import Bearer, TokenReviewer
from portway.identity.visitors import VisitorLimits
from tests.identity.fake_api import FakeApi

FLEET = "gateway/shop/public"
OWNER = Owner(namespace="shop", service_account="portway-public")
POD = Bearer(namespace="shop", service_account="portway-public", pod="public-1", pod_uid="u1")
STRANGER, OTHER = "127.0.0.2", "127.0.0.3"
"""Their addresses; the proxy comes from 127.0.0.1."""

Guest = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Door:
    """An identity service, who comes to it, and a clock that stands."""

    def __init__(self, folder: Path, limits: VisitorLimits) -> None:
        self.api = FakeApi()
        self.now = 0.0
        self.port = 0
        authority = make_authority(dt.datetime.now(dt.UTC))
        self._identity = ServingIdentity()
        issuer = Issuer(TokenReviewer(self.api), {FLEET: OWNER}.get)
        for part in (self._identity, issuer):
            part.use((authority,))
        self.service = IssuingService(
            issuer, self._identity.server_context(), limits=limits, monotonic=lambda: self.now
        )
        self._files = (folder / "token", folder / "ca.crt")
        self._files[0].write_text(self.api.token(POD))
        self._files[1].write_bytes(bundle([authority]))
        self._guests = AsyncExitStack()

    async def obtain(self) -> Obtained:
        """As a proxy does."""
        token, authorities = self._files
        source = Source(
            addresses=(f"127.0.0.1:{self.port}",), fleet=FLEET, token_file=token, authorities_file=authorities
        )
        return await obtain(source)

    async def come(self, address: str = STRANGER) -> Guest:
        """A TLS connection from an address of this machine."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, local_addr=(address, 0))
        self._guests.callback(lambda: writer.transport.abort())
        return reader, writer

    async def ask(self, token: str, address: str = STRANGER) -> str:
        """The answer's head and body."""
        reader, writer = await self.come(address)
        wanted = CertificateRequest(request=make_request(make_key()).decode(), fleet=FLEET)
        body = msgspec.json.encode(wanted)
        writer.write(head(len(body), token) + body)
        return (await reader.read()).decode()

    async def close(self) -> None:
        await self._guests.aclose()
        await self.service.stop()


def head(length: int, token: str = "x") -> bytes:  # noqa: S107 - no password
    lines = ("POST /v1/certificate HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", f"Content-Length: {length}")
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


@asynccontextmanager
async def opened(folder: Path, **limits: float) -> AsyncIterator[Door]:
    door = Door(folder, msgspec.convert(limits, VisitorLimits))
    door.port = await door.service.start("127.0.0.1", 0)
    try:
        async with asyncio.timeout(20):
            yield door
    finally:
        await door.close()


async def is_ended(guest: Guest) -> bool:
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(0.1):
            return not await guest[0].read()
    return guest[0].at_eof()


SILENT = {
    "says nothing": (b"", b""),
    "sends half a head": (head(10)[:40], b""),
    "sends a head": (head(60_000), b"HTTP/1.1 408 "),
    "sends half a body": (head(60_000) + b"{" * 30_000, b"HTTP/1.1 408 "),
}


@pytest.mark.parametrize("what", SILENT)
async def test_a_connection_ends_soon_of_one_who(what: str, tmp_path: Path) -> None:
    async with opened(tmp_path, lifetime_s=0.5, reading_s=0.2) as door:
        reader, writer = await door.come()
        sent, answer = SILENT[what]
        writer.write(sent)
        assert (await reader.read())[: len(b"HTTP/1.1 408 ")] == answer


async def test_a_connection_without_a_handshake_ends_soon(tmp_path: Path) -> None:
    async with opened(tmp_path, lifetime_s=0.3) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        assert await reader.read() == b""
        writer.close()


async def test_one_address_has_so_many_connections_and_all_others_get_theirs(tmp_path: Path) -> None:
    async with opened(tmp_path, per_address=4) as door:
        guests = [await door.come() for _ in range(4)]
        with pytest.raises(ConnectionError):
            await door.come()
        assert not any([await is_ended(guest) for guest in guests])
        await door.obtain()
        guests[0][1].close()
        while True:  # until it is noticed
            with suppress(ConnectionError):
                await door.come()
                break


async def test_whoever_has_most_makes_room_when_there_is_none(tmp_path: Path) -> None:
    async with opened(tmp_path, connections=4, per_address=3) as door:
        guests = [await door.come(address) for address in (OTHER, STRANGER, STRANGER, STRANGER)]
        await door.obtain()
        assert [await is_ended(guest) for guest in guests] == [False, True, False, False]


async def test_where_each_has_one_who_comes_waits(tmp_path: Path) -> None:
    async with opened(tmp_path, connections=2, lifetime_s=0.5) as door:
        for address in (OTHER, STRANGER):
            await door.come(address)
        await door.obtain()


async def test_made_up_tokens_cost_the_api_server_little_and_no_proxy_its_turn(tmp_path: Path) -> None:
    async with opened(tmp_path, credit=3, credit_s=10.0) as door:
        forged = [door.api.token(POD) for _ in range(20)]
        for token in forged:
            door.api.forget(token)
        answers = [await door.ask(token) for token in forged]
        assert [answer.split()[1] for answer in answers] == ["401"] * 3 + ["429"] * 17
        assert "Retry-After: 10\r\n" in answers[-1]
        assert door.api.reviews == 3
        await door.obtain()
        door.now += 10.0
        assert (await door.ask(forged[0])).split()[1] == "401", "one more"
        assert (await door.ask(forged[0])).split()[1] == "429"


async def test_proxies_behind_one_address_get_what_they_want(tmp_path: Path) -> None:
    async with opened(tmp_path, credit=2) as door:
        for number in range(6):
            pod = msgspec.structs.replace(POD, pod=f"public-{number}", pod_uid=f"u{number}")
            assert (await door.ask(door.api.token(pod))).startswith("HTTP/1.1 200 ")


async def test_a_request_that_is_broken_off_is_no_mistake_of_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path) as door:
        _, writer = await door.come()
        writer.write(head(60_000) + b"{" * 30_000)
        await writer.drain()
        await door.obtain()  # by now it has been read
        writer.transport.abort()
        await door.obtain()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
