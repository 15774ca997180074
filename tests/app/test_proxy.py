"""`portway proxy` with a real Envoy: comes up, goes on, comes back, and knows whom it speaks with."""

import asyncio
import contextlib
import datetime as dt
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from portway.identity.authorities import make_authority
from portway.xds.ordering import Timing
from tests.app.proxies import ControlPlane, Proxy, bearer_of, control_plane, proxy, serving
from tests.kit.backends import Backend, Backends
from tests.kit.client import fetch
from tests.kit.ports import Ports

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with Backends() as running:
        yield await running.start("a")


@pytest.fixture
def ports() -> Iterator[Ports]:
    with Ports() as ports:
        yield ports


@pytest.fixture
async def plane(ports: Ports) -> AsyncIterator[ControlPlane]:
    async with control_plane(ports) as plane:
        yield plane


async def answers(pod: Proxy) -> bool:
    return (await fetch(f"http://shop.test:{pod.port}/")).pod == "a"


async def test_it_serves_what_its_control_plane_says(
    tmp_path: Path, plane: ControlPlane, ports: Ports, backend: Backend
) -> None:
    async with proxy(tmp_path / "one", "one", plane, ports, backend.port) as pod:
        await pod.wait_ready()
        assert await answers(pod)
        assert (await pod.health("/healthz")).status == 200
        metrics = (await pod.health("/metrics")).body.decode()
        assert "envoy_server_live" in metrics
        assert "portway_proxy_certificate_not_after_seconds" in metrics
        assert (await pod.health("/quitquitquit")).status == 404, "Envoy's admin interface is not passed through"
        (bootstrap,) = (tmp_path / "one/run/state/proxies/one").glob("bootstrap-*.json")
        assert '"zone": "zone-a"' in bootstrap.read_text(), "the control plane told it with the certificate"
        pod.signal()
        assert await pod.ended() == 0
        assert not pod.envoys


async def test_nothing_is_written_but_below_its_folder(
    tmp_path: Path, plane: ControlPlane, ports: Ports, backend: Backend
) -> None:
    """The image's root file system is read-only; what a process holds open for writing shows where it writes."""
    async with proxy(tmp_path / "one", "one", plane, ports, backend.port) as pod:
        await pod.wait_ready()
        places = {path for pid in pod.envoys for path in written_by(pid)}
        assert places, "it has log files open"
        outside = {path for path in places if not path.is_relative_to(pod.folder)}
        assert all(str(path).startswith(("/dev/", "/memfd:")) for path in outside), outside


def written_by(pid: int) -> set[Path]:
    """Files that a process has open for writing."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            flags = (entry.parent.parent / "fdinfo" / entry.name).read_text().split("flags:")[1].split()[0]
            target = entry.readlink()
            if int(flags, 8) & 0o3 and target.is_absolute():
                found.add(target)
    return found


async def test_it_goes_on_without_a_control_plane_and_follows_the_next_one(
    tmp_path: Path, plane: ControlPlane, ports: Ports, backend: Backend
) -> None:
    async with proxy(tmp_path / "one", "one", plane, ports, backend.port) as pod:
        await pod.wait_ready()
        await plane.stop()
        for _ in range(20):
            assert await answers(pod)
        assert await pod.is_ready()
        other = ports.take()
        plane.deltas["one"] = serving(other, backend.port)
        await plane.start()
        await pod.until(lambda: _answers_on(other), "served as the new control plane says")


async def _answers_on(port: int) -> bool:
    return (await fetch(f"http://shop.test:{port}/")).pod == "a"


async def test_a_replica_that_lags_does_not_take_it_back_in_time(
    tmp_path: Path, plane: ControlPlane, ports: Ports, backend: Backend
) -> None:
    async with proxy(tmp_path / "one", "one", plane, ports, backend.port) as pod:
        await pod.wait_ready()
        past, present = plane.deltas["one"], ports.take()
        plane.deltas["one"] = serving(present, backend.port)
        plane.see({"HTTPRoute": 5, "Service": 3})
        await pod.until(lambda: _answers_on(present), "served as declared")
        await plane.stop()
        plane.deltas["one"], plane.position = past, {"HTTPRoute": 4, "Service": 3}
        plane.timing = Timing(behind=0.5)
        plane.peers.clear()
        await plane.start()  # another replica, which has not seen the last change
        await pod.until(lambda: _connected(plane), "connected")
        for _ in range(30):
            assert await _answers_on(present)
            assert not await answers(pod), "the past is back"
            await asyncio.sleep(0.1)
        addresses = [peer.address for peer in plane.peers]
        assert len(addresses) > 2, "it is sent to look for another replica"
        assert len(set(addresses)) == len(addresses), "each time over another connection: who is sent away may find one"
        newest = ports.take()
        plane.deltas["one"] = serving(newest, backend.port)
        plane.see({"HTTPRoute": 6, "Service": 3})
        await pod.until(lambda: _answers_on(newest), "served as declared since")


async def test_a_container_that_starts_again_uses_the_certificate_that_it_has(
    tmp_path: Path, plane: ControlPlane, ports: Ports, backend: Backend
) -> None:
    """Also while the API server cannot be asked about its token."""
    async with proxy(tmp_path / "one", "one", plane, ports, backend.port) as pod:
        await pod.wait_ready()
        await pod.crash()
        plane.api.down = True
        await pod.start()
        await pod.wait_ready()
        assert await answers(pod)
        assert plane.issuer.statistics().issued == 1


async def test_while_it_has_no_certificate_it_is_alive_and_not_ready(
    tmp_path: Path, plane: ControlPlane, ports: Ports, backend: Backend
) -> None:
    plane.api.down = True
    async with proxy(tmp_path / "one", "one", plane, ports, backend.port) as pod:
        await pod.until(lambda: _says(pod, b"waiting for a certificate\n"), "waiting")
        assert (await pod.health("/healthz")).status == 200
        plane.api.down = False
        await pod.wait_ready()


async def _says(pod: Proxy, text: bytes) -> bool:
    return (await pod.health()).body == text


async def test_sigterm_before_it_has_a_certificate_ends_it(
    tmp_path: Path, plane: ControlPlane, ports: Ports, backend: Backend
) -> None:
    plane.api.down = True
    async with proxy(tmp_path / "one", "one", plane, ports, backend.port) as pod:
        await pod.until(lambda: _says(pod, b"waiting for a certificate\n"), "waiting")
        pod.signal()
        assert await pod.ended() == 0


async def test_a_certificate_of_another_fleet_opens_nothing(
    tmp_path: Path, plane: ControlPlane, ports: Ports, backend: Backend
) -> None:
    """A proxy with an honest certificate that asks for somebody else's configuration."""
    async with proxy(tmp_path / "one", "one", plane, ports, backend.port) as pod:
        await pod.wait_ready()
        await pod.crash()
        kept = tmp_path / "one/run/state/proxies/one/identity/certificate-of-last-run.json"
        folder = tmp_path / "one/run/state/proxies/two/identity"
        folder.mkdir(mode=0o700, parents=True)
        folder.parent.chmod(0o700)
        (folder / kept.name).write_bytes(kept.read_bytes())
        plane.serve("two", serving(ports.take(), backend.port))
        await pod.start("--fleet", "two")
        await pod.until(lambda: _denied(plane), "denied")
        assert not await pod.is_ready()
        assert {peer.fleet for peer in plane.peers} == {"one", "two"}


async def _denied(plane: ControlPlane) -> bool:
    return plane.server.statistics().streams_denied > 1


async def test_the_stream_after_a_rotation_shows_the_new_certificate(
    tmp_path: Path, plane: ControlPlane, ports: Ports, backend: Backend
) -> None:
    """The authority is replaced altogether: only a proxy that has both, the new bundle and a new certificate, is let
    in. Envoy is the same process before and after."""
    async with proxy(tmp_path / "one", "one", plane, ports, backend.port) as pod:
        await pod.wait_ready()
        before = pod.envoys
        successor = make_authority(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1))
        pod.believe(*plane.authorities, successor)
        plane.use(successor)
        pod.believe(successor)
        await pod.until(lambda: _issued(plane, 2), "a new certificate", seconds=40)
        await plane.stop()
        await plane.start()
        await pod.until(lambda: _connected(plane), "connected again")
        assert pod.envoys == before
        assert await answers(pod)


async def _issued(plane: ControlPlane, count: int) -> bool:
    return plane.issuer.statistics().issued >= count


async def _connected(plane: ControlPlane) -> bool:
    return plane.server.statistics().streams == 1


async def test_a_certificate_is_renewed_before_it_ends(
    tmp_path: Path, plane: ControlPlane, ports: Ports, backend: Backend
) -> None:
    await plane.stop()
    plane.lifetime = dt.timedelta(seconds=15)
    await plane.start()
    async with proxy(tmp_path / "one", "one", plane, ports, backend.port) as pod:
        await pod.wait_ready()
        await pod.until(lambda: _issued(plane, 3), "renewed twice", seconds=60)
        assert await answers(pod)
        assert not [one for one in pod.records() if one.get("level") == "error"]


async def test_with_files_of_somebody_else(tmp_path: Path, plane: ControlPlane, ports: Ports, backend: Backend) -> None:
    async with proxy(tmp_path / "one", "one", plane, ports, backend.port) as pod:
        await pod.wait_ready()
        pod.signal(signal.SIGINT)
        assert await pod.ended() == 0
        certificate, key = given_certificate(plane)
        (tmp_path / "c.pem").write_bytes(certificate)
        (tmp_path / "k.pem").write_bytes(key)
        (tmp_path / "one/token").unlink()
        given = ("--xds-certificate", str(tmp_path / "c.pem"), "--xds-key", str(tmp_path / "k.pem"))
        await pod.start(*given)
        await pod.wait_ready()
        assert await answers(pod)


def given_certificate(plane: ControlPlane) -> tuple[bytes, bytes]:
    """Made by whoever has the authority's key."""
    from portway.identity.certificates import Subject, make_key, sign
    from portway.identity.contract import workload_id

    bearer, authority, key = bearer_of("one"), plane.authorities[0], make_key()
    subject = Subject(common_name="x", uri=workload_id(bearer.namespace, bearer.service_account), client=True)
    signed = (authority.certificate, authority.key)
    certificate, _ = sign(subject, key, signed, now=dt.datetime.now(dt.UTC), lifetime=dt.timedelta(hours=1))
    return certificate, key


async def test_a_second_sigterm_cuts_the_drain_short(
    tmp_path: Path, plane: ControlPlane, ports: Ports, backend: Backend
) -> None:
    async with proxy(tmp_path / "one", "one", plane, ports, backend.port) as pod:
        await pod.wait_ready()
        slow = asyncio.ensure_future(fetch(f"http://shop.test:{pod.port}/slow?chunks=600&interval=100ms", seconds=70))  # noqa: TID251 - beside
        await asyncio.sleep(0.3)
        pod.signal()
        await pod.until(lambda: _says(pod, b"stopping\n"), "stopping")
        assert await answers(pod), "it goes on for now"
        pod.signal()
        assert await pod.ended(5) == 0
        assert (await slow).failure is not None
