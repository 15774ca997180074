"""Where the API server is and who we are, as it changes while we run. Nothing of it is ever shown."""

import ssl
from pathlib import Path

import pytest

from portway.kubernetes.connection import READ_AGAIN, FileCredentials, Identity, Tls, in_cluster
from portway.kubernetes.errors import ConnectionProblem
from tests.kit.certificates import Authority

ENVIRONMENT = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_text(Authority().certificate)
    (tmp_path / "namespace").write_text("portway-system")
    return tmp_path


async def test_a_pod_finds_its_server(folder: Path) -> None:
    connection = in_cluster(ENVIRONMENT, folder)
    assert (connection.server, connection.namespace) == ("https://10.96.0.1:443", "portway-system")
    assert (await connection.credentials.identity()).authorization == "Bearer first"
    assert in_cluster({**ENVIRONMENT, "KUBERNETES_SERVICE_HOST": "fd00::1"}, folder).server == "https://[fd00::1]:443"


def test_outside_a_pod_it_is_said_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ConnectionProblem, match="give --kubeconfig or --context"):
        in_cluster({}, tmp_path)


async def test_a_rotated_token_is_read_again(folder: Path) -> None:
    clock = Clock()
    credentials = FileCredentials(token=folder / "token", clock=clock)
    assert (await credentials.identity()).authorization == "Bearer first"
    (folder / "token").write_text("second")
    assert (await credentials.identity()).authorization == "Bearer first", "not on each request"
    clock.now += READ_AGAIN + 1
    assert (await credentials.identity()).authorization == "Bearer second"


async def test_a_refused_token_is_read_again_at_once(folder: Path) -> None:
    credentials = FileCredentials(token=folder / "token", clock=Clock())
    first = await credentials.identity()
    (folder / "token").write_text("second")
    credentials.refused(first)
    second = await credentials.identity()
    assert second.authorization == "Bearer second"
    credentials.refused(first)
    (folder / "token").write_text("third")
    assert await credentials.identity() == second, "an old one that was refused says nothing about the new one"


async def test_a_file_that_is_being_replaced_does_no_harm(folder: Path) -> None:
    clock = Clock()
    credentials = FileCredentials(token=folder / "token", clock=clock)
    first = await credentials.identity()
    (folder / "token").unlink()
    clock.now += READ_AGAIN + 1
    assert await credentials.identity() == first


async def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConnectionProblem, match="token: No such file"):
        await FileCredentials(token=tmp_path / "token").identity()
    (tmp_path / "token").touch()
    with pytest.raises(ConnectionProblem, match="token: is empty"):
        await FileCredentials(token=tmp_path / "token").identity()


def test_nothing_secret_is_shown() -> None:
    identity = Identity("Bearer abc", Tls(certificate=b"PEM", key=b"abc"))
    assert "abc" not in f"{identity!r} {identity} {identity.tls}"


def test_tls_is_1_2_or_newer_and_verified() -> None:
    authority = Authority()
    pair = authority.issue("joe")
    context = Tls(
        ca=authority.certificate.encode(), certificate=pair.certificate.encode(), key=pair.key.encode()
    ).context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_key_of_another_certificate_is_told_without_showing_it() -> None:
    authority = Authority()
    pair, other = authority.issue("joe"), authority.issue("ann")
    with pytest.raises(ConnectionProblem, match="belong together") as caught:
        Tls(certificate=pair.certificate.encode(), key=other.key.encode()).context()
    assert "PRIVATE" not in str(caught.value)
