"""Carries what followers have to say to the leader: one WebSocket each, over mutual TLS, from follower to leader.

The leader's address stands in the Lease. Nothing is asked and nothing answered: who connects tells everything, then
what changes; so a new leader knows all after one round of connections, and a message that is lost costs a connection,
never the truth. What each side can send is bounded, and a leader that reads slowly makes a follower's news coalesce.

Why not otherwise: docs/design/status.md.
"""

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Final, Protocol, final

import aiohttp
import msgspec
import structlog
from aiohttp import WSMsgType, web

from portway.identity.listening import listen
from portway.kubernetes.backoff import Backoff
from portway.objects.verdict import ObjectKey
from portway.status.lease import Held
from portway.status.replicas import Replicas, Teller, decode_word

log = structlog.get_logger(__name__)

PATH: Final = "/acknowledgements"
PROTOCOL: Final = "portway.acknowledgements.v1"
"""WebSocket subprotocol. Fields may be added to a version, as who reads ignores what it does not know."""
MESSAGE_BYTES: Final = 8 << 20
"""Largest message. One of 500 claims has some 100 KB, with long refusals of every part a few MB."""
HEARTBEAT_S: Final = 3.0
"""A peer that is silent for so long, and half of it more, is gone."""
FORGET: Final = timedelta(seconds=10)
"""So long a follower that has left is believed: it restarts its connection at once, and its proxies, if it is gone
itself, take some seconds to find another replica."""
GATHER_S: Final = 0.02
"""News that come within this time travel together."""
PATIENT: Final = 3
"""Attempts without success that are nobody's business: a leader that restarts."""
NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")


class Peer(Protocol):
    """Whom the exchange learns the leader from: the `Elector`."""

    @property
    def held(self) -> Held: ...

    async def changed(self, since: Held) -> None: ...


class ExchangeStatistics(msgspec.Struct, frozen=True, kw_only=True):
    followers: int
    """Connected ones, while we lead."""
    leader: str
    """Whom we tell; empty: nobody."""
    words: int
    """Messages sent and received."""


@final
class Exchange:
    """Both ends: listens while we lead, tells while somebody else does."""

    def __init__(
        self,
        replicas: Replicas,
        teller: Teller,
        *,
        identity: str,
        on_heard: Callable[[Iterable[ObjectKey]], None],
        on_change: Callable[[], None],
        authorize: Callable[[Mapping[str, object] | None], bool],
        client: ssl.SSLContext | None,
        server_name: str = "",
        clock: Callable[[], float] | None = None,
    ) -> None:
        """
        Args:
            replicas: gets what we hear.
            teller: has what we tell; call `news` when it has more.
            identity: ours, as in the Lease.
            on_heard: gets the objects that a follower spoke of.
            on_change: called when a follower, or a proxy of one, came or went.
            authorize: whether a verified peer certificate (`getpeercert()`) is a replica's: proxies have certificates
                of the same authority.
            client: for connections to the leader; `None`: plain, for tests.
            server_name: name that the leader's certificate must have.
            clock: seconds, never going back; by default the event loop's.
        """
        self._replicas = replicas
        self._teller = teller
        self._identity = identity
        self._on_heard = on_heard
        self._on_change = on_change
        self._authorize = authorize
        self._client = client
        self._server_name = server_name
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._leads = False
        self._followers: dict[str, web.WebSocketResponse] = {}
        self._news = asyncio.Event()
        self._leader = ""
        self._words = 0
        self._runner: web.AppRunner | None = None

    def statistics(self) -> ExchangeStatistics:
        return ExchangeStatistics(followers=len(self._followers), leader=self._leader, words=self._words)

    def news(self) -> None:
        """The teller has something to tell."""
        self._news.set()

    # Leading.

    async def start(self, host: str, port: int, server: ssl.SSLContext | None) -> int:
        """Listen; followers are turned away while we do not lead.

        Args:
            port: 0: any.
            server: asks for client certificates; `None`: plain, for tests.

        Returns:
            The port.
        """
        application = web.Application()
        application.router.add_get(PATH, self._attend)
        self._runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.SockSite(self._runner, listen(host, port), ssl_context=server)
        await site.start()
        address: tuple[str, int] = self._runner.addresses[0]
        return address[1]

    async def stop(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def lead(self) -> None:
        """Listen to followers until cancelled."""
        self._leads = True
        try:
            while True:
                await asyncio.sleep(1.0)
                if self._replicas.forget(self._clock() - FORGET.total_seconds()):
                    self._on_change()
        finally:
            self._leads = False
            followers, self._followers = self._followers, {}
            self._replicas.clear()
            self._on_change()
            for follower in followers.values():
                with suppress(OSError, RuntimeError):
                    await follower.close()

    async def _attend(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        if not self._authorize(tls.getpeercert() if tls is not None else None):
            return web.Response(status=403, text="replicas of the control plane only")
        name = request.query.get("replica", "")
        if not NAME.fullmatch(name):
            return web.Response(status=400, text="replica: a name is missing")
        if not self._leads:
            return web.Response(status=503, text="this replica does not lead; the Lease says which does")
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MESSAGE_BYTES, protocols=(PROTOCOL,))
        await socket.prepare(request)
        former = self._followers.get(name)
        self._followers[name] = socket
        self._replicas.joined(name)
        if former is not None:
            await former.close()
        log.info("replica has connected", replica=name)
        try:
            await self._hear(name, socket)
        finally:
            if self._followers.get(name) is socket:
                del self._followers[name]
                self._replicas.left(name, self._clock())
                log.info("replica has left", replica=name)
        return socket

    async def _hear(self, name: str, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                return
            if self._followers.get(name) is not socket:
                return  # its successor speaks
            try:
                word = decode_word(message.data)
                keys = self._replicas.heard(name, word)
            except (msgspec.DecodeError, ValueError) as error:
                log.warning("replica is not understood", replica=name, problem=str(error))
                await socket.close(code=1007, message=b"not understood")
                return
            self._words += 1
            if word.fleets is not None:
                self._on_change()
            self._on_heard(keys)

    # Following.

    async def follow(self, elector: Peer) -> None:
        """Tell whoever leads, while it is not us, until cancelled."""
        while True:
            held = elector.held
            if held.holder and held.holder != self._identity and held.address:
                await _until(elector.changed(held), self._tell_for_ever(held.address))
            else:
                await elector.changed(held)

    async def _tell_for_ever(self, address: str) -> None:
        backoff = Backoff(longest=2.0)
        scheme = "http" if self._client is None else "https"
        while True:
            try:
                async with aiohttp.ClientSession() as session:
                    await self._tell(session, f"{scheme}://{address}{PATH}", backoff)
            except* (aiohttp.ClientError, OSError) as problems:
                if backoff.failures == PATIENT:
                    log.warning("leader cannot be told", address=address, problem=str(problems.exceptions[0]))
            finally:
                self._leader = ""
            await asyncio.sleep(backoff.failed())

    async def _tell(self, session: aiohttp.ClientSession, url: str, backoff: Backoff) -> None:
        async with session.ws_connect(
            url,
            params={"replica": self._identity},
            protocols=(PROTOCOL,),
            heartbeat=HEARTBEAT_S,
            max_msg_size=MESSAGE_BYTES,
            ssl=self._client if self._client is not None else True,
            server_hostname=self._server_name or None,
        ) as socket:
            self._leader = url
            self._teller.begin()
            self._news.set()
            backoff.succeeded()
            await _until(_read(socket), self._send(socket))

    async def _send(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(GATHER_S)
            while (word := self._teller.take()) is not None:
                # Waits while the leader does not read; what comes meanwhile replaces what was to be said.
                await socket.send_str(msgspec.json.encode(word).decode())
                self._words += 1


async def _read(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Until the leader closes: it has nothing to say."""
    async for _ in socket:
        pass


async def _until(event: Awaitable[None], work: Awaitable[None]) -> None:
    """Work until it ends, or something else has happened."""

    async def wait() -> None:
        await event
        working.cancel()

    async def do() -> None:
        await work
        waiting.cancel()

    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(do())
        waiting = tasks.create_task(wait())
