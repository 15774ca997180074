"""Replicas among themselves: both sides show a certificate that only replicas have."""

import asyncio
import datetime as dt
import ssl
from collections.abc import Mapping

import pytest

from portway.identity.authorities import Authority, bundle, make_authority
from portway.identity.certificates import Credentials, Subject, make_credentials, make_key, sign
from portway.identity.contract import REPLICA_NAME, workload_id
from portway.identity.serving import ServingIdentity, is_replica, show

NOW = dt.datetime.now(dt.UTC)
FIRST, SECOND = make_authority(NOW), make_authority(NOW + dt.timedelta(seconds=1))


def replica(*authorities: Authority) -> ServingIdentity:
    identity = ServingIdentity()
    identity.use(authorities)
    return identity


def proxy_context() -> ssl.SSLContext:
    """A proxy that tries to speak with replicas as one of them."""
    key = make_key()
    subject = Subject(common_name="pod", uri=workload_id("shop", "edge"), client=True)
    certificate, _ = sign(subject, key, (FIRST.certificate, FIRST.key), now=NOW, lifetime=dt.timedelta(hours=1))
    credentials: Credentials = make_credentials(certificate, key, bundle([FIRST]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=credentials.authorities.decode())
    show(context, credentials)
    return context


async def heard(server: ssl.SSLContext, client: ssl.SSLContext) -> bool | str:
    """Whether the server takes the client for a replica; or why there was no connection."""
    verdict: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: Mapping[str, object] | None = writer.get_extra_info("ssl_object").getpeercert()
        verdict.set_result(is_replica(peer))
        writer.close()

    listening = await asyncio.start_server(attend, "127.0.0.1", 0, ssl=server)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=REPLICA_NAME)
            writer.write(b"x")
            await reader.read()  # TLS 1.3: a refused client learns it when it reads
            writer.close()
        except (ssl.SSLError, ConnectionError) as error:
            return type(error).__name__
        return await verdict


async def test_replicas_of_one_authority_hear_one_another() -> None:
    server, _ = replica(FIRST).replica_contexts()
    _, client = replica(FIRST).replica_contexts()
    assert await heard(server, client) is True


async def test_a_proxy_is_not_taken_for_a_replica() -> None:
    server, _ = replica(FIRST).replica_contexts()
    assert await heard(server, proxy_context()) is False


async def test_contexts_follow_the_authorities() -> None:
    one, other = replica(FIRST), replica(FIRST)
    (server, _), (_, client) = one.replica_contexts(), other.replica_contexts()
    one.use((FIRST, SECOND))
    other.use((SECOND,))
    assert await heard(server, client) is True


async def test_strangers_are_refused() -> None:
    server, _ = replica(FIRST).replica_contexts()
    _, client = replica(SECOND).replica_contexts()
    assert await heard(server, client) == "SSLCertVerificationError"


@pytest.mark.parametrize("peer", [None, {}, {"subjectAltName": (("DNS", "spiffe://portway.internal/control-plane"),)}])
def test_only_a_uri_says_it(peer: Mapping[str, object] | None) -> None:
    assert not is_replica(peer)
