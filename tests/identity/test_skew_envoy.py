"""The bootstrap of the first version, which a pod that was not updated still runs with, is served by today's control
plane: to a real Envoy, with mutual TLS."""

import asyncio
import contextlib
import datetime as dt
from pathlib import Path

import pytest

from portway.envoy.own_secrets import encode_authorities, encode_own_certificate
from portway.identity.authorisation import FleetAuthorization
from portway.identity.authorities import bundle, make_authority
from portway.identity.certificates import Subject, make_key, sign
from portway.identity.contract import workload_id
from portway.identity.issuer import Owner
from portway.identity.serving import ServingIdentity
from portway.infra.host import HostProxy
from portway.infra.state import StateFolder
from portway.xds.credentials import mutual_tls
from portway.xds.server import DiscoveryServer
from tests.app.proxies import serving
from tests.infra.running import BRISK, envoy
from tests.kit.backends import Backends
from tests.kit.client import fetch
from tests.kit.ports import Ports

FLEET = "gateway/shop/public"
FIRST = Path(__file__).parent / "skew" / "bootstrap-1.json"


@pytest.mark.e2e
async def test_the_first_bootstrap_is_served(tmp_path: Path) -> None:
    authority, now = make_authority(dt.datetime.now(dt.UTC)), dt.datetime.now(dt.UTC)
    identity = ServingIdentity()
    identity.use((authority,))
    owner = Owner(namespace="shop", service_account="public")
    server = DiscoveryServer(authorize=FleetAuthorization({FLEET: owner}.get))
    key = make_key()
    subject = Subject(common_name="public-1", uri=workload_id("shop", "public"), client=True)
    signed = (authority.certificate, authority.key)
    certificate, _ = sign(subject, key, signed, now=now, lifetime=dt.timedelta(hours=1))
    async with contextlib.AsyncExitStack() as stack:
        ports = stack.enter_context(Ports())
        backend = await (await stack.enter_async_context(Backends())).start("a")
        folder = stack.enter_context(StateFolder(tmp_path / "state")).proxy_folder(FLEET)
        stack.callback(folder.close)
        (folder.path / "identity").mkdir()
        folder.write("identity/own-certificate.json", encode_own_certificate(certificate, key))
        folder.write("identity/control-plane-authorities.json", encode_authorities(bundle([authority])))
        port = ports.take()
        server.apply(FLEET, serving(port, backend.port))
        server.mark_synced(FLEET)
        xds_port = await server.start("127.0.0.1:0", mutual_tls(identity.credentials))
        stack.push_async_callback(server.stop)
        bootstrap = FIRST.read_text().replace("18000", str(xds_port))
        proxy = HostProxy(folder, envoy(), bootstrap.encode(), BRISK)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(proxy.run())
            await proxy.wait_ready()
            assert (await fetch(f"http://shop.test:{port}/")).pod == "a"
            await proxy.stop()
