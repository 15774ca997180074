"""HTTP to one API server: sessions, TLS, proxies, bounded bodies. The one module that imports aiohttp: import it late.

One session for each TLS identity: when a client certificate or the CA is renewed, new requests take a new session, and
the old one is closed when its last request or watch has ended.
"""

import asyncio
import asyncio.sslproto
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol, cast, final
from urllib.parse import urlencode
from weakref import WeakSet

import aiohttp
from yarl import URL

from portway.kubernetes.connection import Connection, Identity, Tls
from portway.kubernetes.errors import ApiUnreachable, ConnectionProblem
from portway.kubernetes.forward_proxy import proxy_of

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for TCP and TLS."""
IDLE_CONNECTION: Final = 90.0
"""Seconds for which a connection is kept for the next request, as client-go does: leases are renewed, and status is
written, every few seconds."""
KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 3), (socket.TCP_KEEPCNT, 3))
"""A server whose machine is gone is noticed after 14 s, also by a watch in which nothing happens: proxies of a replica
that is cut off wait for that. It costs eight packets a second."""


CLOSING_TURNS: Final = 100
"""Turns of the event loop for what is left of a connection that has been cut; it takes three."""
READ_BUFFER: Final = 32 << 10
"""Bytes into which a TLS connection reads. asyncio would take 256 KiB for each, and there are forty: a watch is one."""
asyncio.sslproto.SSLProtocol.max_size = READ_BUFFER


class _Address(Protocol):
    """What `getaddrinfo` returns, of which a socket needs the first three."""

    def __getitem__(self, index: int, /) -> object: ...


@final
class Answer:
    """Status, headers and body of one answer."""

    def __init__(self, response: aiohttp.ClientResponse, server: str) -> None:
        self._response = response
        self._server = server
        self.status = response.status
        self.retry_after = response.headers.get("Retry-After", "")

    async def body(self, limit: int) -> bytes:
        """All of it.

        Raises:
            ApiUnreachable: it is longer than `limit` bytes, or was cut off.
        """
        parts: list[bytes] = []
        size = 0
        async for part in self.parts():
            parts.append(part)
            size += len(part)
            if size > limit:
                raise ApiUnreachable(f"{self._server}: an answer of more than {limit:,} bytes; it is not read")
        return b"".join(parts)

    async def parts(self) -> AsyncIterator[bytes]:
        """Bytes as they come. Raises ApiUnreachable when it is cut off, or silent for too long."""
        content = self._response.content
        try:
            while part := await content.readany():
                yield part
        except (aiohttp.ClientError, OSError) as error:
            raise ApiUnreachable(f"{self._server}: {why(error)}") from error


@final
class Sockets:
    """Makes the sockets of a session (`socket_factory`), and cuts those that it leaves. aiohttp forgets a connection
    whose request was given up before its answer began: it leaves it to TLS to end it politely, for which a server that
    is gone or busy is waited for half a minute."""

    def __init__(self) -> None:
        self._made: WeakSet[socket.socket] = WeakSet()

    def make(self, address: _Address) -> socket.socket:
        made = _kept_alive(address)
        self._made.add(made)
        return made

    async def cut(self) -> None:
        """End all connections that there are, at once."""
        for made in self._open():
            with suppress(OSError):  # it has not been connected, or not any more
                made.shutdown(socket.SHUT_RDWR)
        for _ in range(CLOSING_TURNS):
            if not self._open():
                break
            await asyncio.sleep(0)

    def _open(self) -> list[socket.socket]:
        return [made for made in self._made if made.fileno() >= 0]


@final
class _Session:
    def __init__(self, tls: Tls) -> None:
        self.tls = tls
        self._sockets = Sockets()
        # No limit: a watch takes a connection of its own, one for each kind and namespace.
        connector = aiohttp.TCPConnector(
            ssl=tls.context(),
            limit=0,
            socket_factory=self._sockets.make,
            ttl_dns_cache=30,
            keepalive_timeout=IDLE_CONNECTION,
        )
        self.client = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        self.uses = 0

    async def close(self) -> None:
        await self.client.close()
        await self._sockets.cut()


@final
class Transport:
    """Sends requests; belongs to one event loop."""

    def __init__(self, connection: Connection, user_agent: str) -> None:
        self._connection = connection
        self._user_agent = user_agent
        self._proxy = connection.proxy or proxy_of(connection.server, os.environ)
        self._sessions: list[_Session] = []
        """The last one is the current one."""

    @asynccontextmanager
    async def request(
        self,
        identity: Identity,
        method: str,
        path: str,
        params: Mapping[str, str],
        *,
        body: bytes = b"",
        content_type: str = "",
        accept: str,
        silence: float,
        total: float | None,
    ) -> AsyncIterator[Answer]:
        """Send a request; the answer is to be read inside.

        Args:
            silence: seconds without a byte after which the server counts as gone.
            total: seconds for all of it; None: as long as it takes.

        Raises:
            ApiUnreachable: no answer.
        """
        server = self._connection.server
        headers = {"Accept": accept, "Accept-Encoding": "identity", "User-Agent": self._user_agent}
        if identity.authorization:
            headers["Authorization"] = identity.authorization
        if content_type:
            headers["Content-Type"] = content_type
        try:
            session = await self._session(identity.tls)
        except ConnectionProblem as problem:
            raise ApiUnreachable(f"{server}: {problem}") from problem
        session.uses += 1
        try:
            async with session.client.request(
                method,
                URL(f"{server}{path}?{urlencode(params)}" if params else f"{server}{path}", encoded=True),
                data=body or None,
                headers=headers,
                # A redirect would take our token to somebody else.
                allow_redirects=False,
                proxy=self._proxy or None,
                server_hostname=self._connection.server_name or None,
                timeout=aiohttp.ClientTimeout(
                    total=total, connect=CONNECT_TIMEOUT, sock_connect=CONNECT_TIMEOUT, sock_read=silence
                ),
            ) as response:
                try:
                    yield Answer(response, server)
                finally:
                    _abandon(response)
        except (aiohttp.ClientError, OSError) as error:
            raise ApiUnreachable(f"{server}: {why(error)}") from error
        finally:
            session.uses -= 1
            await self._close_unused()

    async def close(self) -> None:
        for session in self._sessions:
            await session.close()
        self._sessions.clear()

    async def _session(self, tls: Tls) -> _Session:
        if not self._sessions or self._sessions[-1].tls != tls:
            self._sessions.append(_Session(tls))
            await self._close_unused()
        return self._sessions[-1]

    async def _close_unused(self) -> None:
        for session in [old for old in self._sessions[:-1] if not old.uses]:
            self._sessions.remove(session)
            await session.close()


def _abandon(response: aiohttp.ClientResponse) -> None:
    """Cut the connection of an answer that was not read to its end, a watch mostly. A TLS connection that is closed
    politely would wait half a minute for a server that may have gone."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()


def why(error: Exception) -> str:
    """What went wrong on the way, in a sentence."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
            return f"its certificate is not trusted ({reason}); give the right certificate authority"
        case aiohttp.ClientConnectorError():
            number = error.os_error.errno
            said = os.strerror(number) if number and number > 0 else error.os_error.strerror or error.os_error
            return f"cannot be connected ({said}); look whether it runs there"
        case aiohttp.ConnectionTimeoutError():
            return f"no connection within {CONNECT_TIMEOUT:.0f} s; look whether something blocks the way"
        case TimeoutError():
            return "does not answer in time"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | ConnectionError():
            return "ended the connection in the middle of an answer"
    return f"{type(error).__name__}: {error}"


def _kept_alive(address: _Address) -> socket.socket:
    family, kind, protocol = (cast("int", address[place]) for place in range(3))
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made
