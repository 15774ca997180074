"""Followers and a leader on the wire, with the certificates of replicas and of proxies."""

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Callable, Iterable

import aiohttp
import msgspec
import pytest

from portway.identity.authorities import bundle, make_authority
from portway.identity.certificates import Subject, make_credentials, make_key, sign
from portway.identity.contract import REPLICA_NAME, workload_id
from portway.identity.serving import ServingIdentity, is_replica, show
from portway.objects.verdict import ObjectKey
from portway.status.exchange import PATH, PROTOCOL, Exchange
from portway.status.lease import Held
from portway.status.replicas import Claim, Replicas, Teller, Word
from portway.status.tally import is_complete

NOW = dt.datetime.now(dt.UTC)
AUTHORITY = make_authority(NOW)
FLEET = "gateway/shop/web"
ROUTE = ObjectKey("HTTPRoute", "shop", "cart")


class Known:
    """Who leads, as somebody says."""

    def __init__(self) -> None:
        self.held = Held()
        self._changed = asyncio.Event()

    def say(self, holder: str, port: int) -> None:
        self.held = Held(holder=holder, address=f"127.0.0.1:{port}")
        self._changed.set()

    async def changed(self, since: Held) -> None:
        while self.held == since:
            self._changed.clear()
            await self._changed.wait()


def identity() -> ServingIdentity:
    made = ServingIdentity()
    made.use((AUTHORITY,))
    return made


class Replica:
    """One end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.replicas, self.teller, self.lease = Replicas(), Teller(), Known()
        self.heard: list[ObjectKey] = []
        self.changes = 0
        self.server, client = identity().replica_contexts()
        self.exchange = Exchange(
            self.replicas,
            self.teller,
            identity=name,
            on_heard=self._hear,
            on_change=self._change,
            authorize=is_replica,
            client=client,
            server_name=REPLICA_NAME,
        )

    def _hear(self, keys: Iterable[ObjectKey]) -> None:
        self.heard.extend(keys)

    def _change(self) -> None:
        self.changes += 1

    def complete(self, generation: int) -> bool:
        """Whether its followers, some, hold the route."""
        tallies = tuple(self.replicas.tallies(ROUTE, generation, "parent/0", (FLEET,)))
        return bool(tallies) and all(map(is_complete, tallies))

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        port = await self.exchange.start("127.0.0.1", 0, self.server)
        leading = asyncio.ensure_future(self.exchange.lead())  # noqa: TID251 - ended below
        try:
            yield port
        finally:
            leading.cancel()
            await asyncio.wait([leading])
            await self.exchange.stop()

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self.exchange.follow(self.lease))  # noqa: TID251 - ended below
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - several parts are asked
            await asyncio.sleep(0.005)


async def test_a_follower_tells_the_leader_and_then_the_next() -> None:
    first, second, follower = Replica("first"), Replica("second"), Replica("follower")
    follower.teller.claim(Claim(object=ROUTE, generation=1))
    follower.teller.count({FLEET: 2})
    async with follower.following():
        async with first.listening() as port:
            follower.lease.say("first", port)
            await until(lambda: first.complete(1))
            assert not first.complete(2)
            follower.teller.claim(Claim(object=ROUTE, generation=2))
            follower.exchange.news()
            await until(lambda: first.complete(2))
            assert first.heard == [ROUTE, ROUTE]
        async with second.listening() as port:
            follower.lease.say("second", port)
            await until(lambda: second.complete(2))
        follower.lease.say("follower", port)
        await until(lambda: follower.exchange.statistics().leader == "")


async def test_a_leader_that_comes_back_hears_everything_again() -> None:
    leader, follower = Replica("leader"), Replica("follower")
    follower.teller.claim(Claim(object=ROUTE, generation=1))
    follower.teller.count({FLEET: 2})
    async with follower.following():
        async with leader.listening() as port:
            follower.lease.say("leader", port)
            await until(lambda: leader.complete(1))
        assert leader.replicas.statistics() == ()
        again = Replica("leader")
        port = await again.exchange.start("127.0.0.1", 0, again.server)
        follower.lease.say("leader", port)
        # It listens, and does not lead yet: nobody is heard.
        await asyncio.sleep(0.3)
        assert again.replicas.statistics() == ()
        leading = asyncio.ensure_future(again.exchange.lead())  # noqa: TID251 - ended below
        await until(lambda: again.complete(1))
        leading.cancel()
        await asyncio.wait([leading])
        await again.exchange.stop()


def of_proxy() -> ssl.SSLContext:
    """What a proxy can show: a certificate of the same authority."""
    key = make_key()
    subject = Subject(common_name="pod", uri=workload_id("shop", "edge"), client=True)
    certificate, _ = sign(subject, key, (AUTHORITY.certificate, AUTHORITY.key), now=NOW, lifetime=dt.timedelta(hours=1))
    credentials = make_credentials(certificate, key, bundle([AUTHORITY]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=credentials.authorities.decode())
    show(context, credentials)
    return context


async def test_a_proxy_is_turned_away() -> None:
    leader = Replica("leader")
    async with leader.listening() as port, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(
                f"https://127.0.0.1:{port}{PATH}?replica=x", ssl=of_proxy(), server_hostname=REPLICA_NAME
            )
        assert refused.value.status == 403


@pytest.mark.parametrize("word", ["no JSON", '{"claims": 3}', '{"claims": [{"object": ["a"], "generation": 1}]}'])
async def test_what_is_not_understood_ends_the_connection(word: str) -> None:
    leader = Replica("leader")
    _, client = identity().replica_contexts()
    async with leader.listening() as port, aiohttp.ClientSession() as session:
        url = f"https://127.0.0.1:{port}{PATH}?replica=x"
        async with session.ws_connect(url, ssl=client, server_hostname=REPLICA_NAME, protocols=(PROTOCOL,)) as socket:
            await socket.send_str(msgspec.json.encode(Word(fleets={FLEET: 1})).decode())
            await until(lambda: leader.changes > 0)
            await socket.send_str(word)
            message = await socket.receive()
            assert message.type is aiohttp.WSMsgType.CLOSE
    assert leader.heard == []


async def test_many_objects_travel_in_bounded_messages() -> None:
    leader, follower = Replica("leader"), Replica("follower")
    for number in range(5_000):
        follower.teller.claim(Claim(object=ObjectKey("HTTPRoute", "shop", f"route-{number}"), generation=1))
    follower.teller.claim(Claim(object=ROUTE, generation=1))
    follower.teller.count({FLEET: 1})
    async with follower.following(), leader.listening() as port:
        follower.lease.say("leader", port)
        await until(lambda: leader.complete(1))
        assert leader.exchange.statistics().words == 11
