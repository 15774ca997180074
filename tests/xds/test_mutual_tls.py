"""Who may speak with the discovery server over TCP."""

import asyncio
import datetime as dt
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import discovery_pb2 as discoveryv3

from portway.identity.authorisation import FleetAuthorization
from portway.identity.authorities import Authority, bundle, make_authority
from portway.identity.certificates import Subject, make_key, sign
from portway.identity.contract import CONTROL_PLANE_NAME, replica_id, workload_id
from portway.identity.issuer import Owner
from portway.identity.serving import ServingIdentity
from portway.model.resource import ResourceType
from portway.xds.credentials import mutual_tls
from portway.xds.server import SERVICE, DiscoveryServer

NOW = dt.datetime.now(dt.UTC)
FIRST, SECOND, STRANGER = (make_authority(NOW + dt.timedelta(seconds=number)) for number in range(3))
FLEETS = {
    "edge": Owner(namespace="shop", service_account="edge"),
    "vault": Owner(namespace="bank", service_account="v"),
}

Pair = tuple[bytes, bytes]


def certificate(
    authority: Authority, uri: str = workload_id("shop", "edge"), *, client: bool = True, server: bool = False
) -> Pair:
    key = make_key()
    subject = Subject(common_name="pod", uri=uri, client=client, server=server)
    made, _ = sign(subject, key, (authority.certificate, authority.key), now=NOW, lifetime=dt.timedelta(hours=1))
    return made, key


@asynccontextmanager
async def serving(*authorities: Authority) -> AsyncIterator[tuple[ServingIdentity, DiscoveryServer, int]]:
    identity = ServingIdentity()
    identity.use(authorities)
    server = DiscoveryServer(authorize=FleetAuthorization(FLEETS.get))
    for fleet in FLEETS:
        server.mark_synced(fleet)
    port = await server.start("127.0.0.1:0", mutual_tls(identity.credentials))
    try:
        yield identity, server, port
    finally:
        await server.stop()


async def asked(port: int, pair: Pair | None, believed: Authority = FIRST, fleet: str = "edge") -> str:
    """`served`, or gRPC's name of why not."""
    certificates, key = pair or (None, None)
    credentials = grpc.ssl_channel_credentials(bundle([believed]), key, certificates)
    options = [("grpc.ssl_target_name_override", CONTROL_PLANE_NAME)]
    request = discoveryv3.DeltaDiscoveryRequest(type_url=ResourceType.CLUSTER)
    request.node.id, request.node.cluster = "pod", fleet
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        call = channel.stream_stream(
            f"/{SERVICE}/DeltaAggregatedResources",
            request_serializer=discoveryv3.DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=discoveryv3.DeltaDiscoveryResponse.FromString,
        )()  # type: ignore[call-arg]  # the stub lacks the default
        try:
            async with asyncio.timeout(10):
                await call.write(request)
                answer = await call.read()
        except grpc.aio.AioRpcError as error:
            return error.code().name
        except asyncio.InvalidStateError:  # it ended before the request was written
            return (await call.code()).name
        call.cancel()
        return "served" if isinstance(answer, discoveryv3.DeltaDiscoveryResponse) else (await call.code()).name


CASES = {
    "its own fleet": (certificate(FIRST), "edge", "served"),
    "another fleet": (certificate(FIRST), "vault", "PERMISSION_DENIED"),
    "a fleet that is not known": (certificate(FIRST), "new", "PERMISSION_DENIED"),
    "the same name in another namespace": (
        certificate(FIRST, workload_id("bank", "edge")),
        "edge",
        "PERMISSION_DENIED",
    ),
    "a replica's certificate": (certificate(FIRST, replica_id()), "edge", "PERMISSION_DENIED"),
    "no certificate": (None, "edge", "UNAVAILABLE"),
    "a certificate of somebody else": (certificate(STRANGER), "edge", "UNAVAILABLE"),
    "a certificate for servers": (certificate(FIRST, client=False, server=True), "edge", "UNAVAILABLE"),
}


@pytest.mark.parametrize("who", CASES)
async def test_who_gets_what(who: str) -> None:
    pair, fleet, outcome = CASES[who]
    async with serving(FIRST) as (_, _, port):
        assert await asked(port, pair, fleet=fleet) == outcome


async def test_rotation_while_it_runs() -> None:
    async with serving(FIRST) as (identity, _, port):
        assert await asked(port, certificate(FIRST)) == "served"
        identity.use((FIRST, SECOND))
        assert await asked(port, certificate(FIRST)) == "served"
        assert await asked(port, certificate(SECOND)) == "served"
        identity.use((SECOND,))
        assert await asked(port, certificate(SECOND), believed=SECOND) == "served"
        assert await asked(port, certificate(FIRST), believed=SECOND) == "UNAVAILABLE"


def test_tls_1_3_only() -> None:
    """In a process of its own: gRPC takes its list of ciphers when it is loaded first."""
    run = subprocess.run([sys.executable, "-c", TLS_1_2], capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-2:] == ["TLSv1.2 refused", "TLSv1.3 taken"]


TLS_1_2 = """
import asyncio, datetime as dt, ssl
from portway.xds.server import DiscoveryServer
from portway.xds.credentials import mutual_tls
from portway.identity.authorities import make_authority
from portway.identity.serving import ServingIdentity

async def main():
    identity = ServingIdentity()
    identity.use((make_authority(dt.datetime.now(dt.UTC)),))
    server = DiscoveryServer()
    port = await server.start("127.0.0.1:0", mutual_tls(identity.credentials))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2"])
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        except (ssl.SSLError, ConnectionError):
            outcome = "refused"
        else:
            outcome = "taken"
            writer.transport.abort()
        print(version.name.replace("_", "."), outcome)
    await server.stop()

asyncio.run(main())
"""
