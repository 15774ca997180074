"""Connections from kubeconfig files, exec plugins included."""

import asyncio
import json
import os
import stat
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
import yaml

from portway.kubernetes.client import ConnectionProblem, connect
from portway.kubernetes.connection import Connection
from portway.kubernetes.kubeconfig import KubeconfigCredentials, from_kubeconfig
from tests.cluster.api import Access
from tests.kit.certificates import Authority

SECRET = "do-not-show-me"


def write(path: Path, user: object, **cluster: object) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "there", "cluster": {"server": "https://there.example:6443/", **cluster}}],
        "users": [{"name": "joe", "user": user}],
        "contexts": [{"name": "prod", "context": {"cluster": "there", "user": "joe", "namespace": "shop"}}],
        "current-context": "prod",
    }
    path.write_text(yaml.safe_dump(config))
    return str(path)


async def authorization(connection: Connection) -> str:
    return (await connection.credentials.identity()).authorization


async def test_a_token_and_what_the_cluster_says(tmp_path: Path) -> None:
    file = write(
        tmp_path / "config", {"token": "abc"}, **{"tls-server-name": "inside", "proxy-url": "http://proxy:3128"}
    )
    connection = await connect(file)
    assert connection.server == "https://there.example:6443"
    assert (connection.server_name, connection.proxy) == ("inside", "http://proxy:3128")
    assert (connection.namespace, connection.origin) == ("shop", "prod")
    assert await authorization(connection) == "Bearer abc"


async def test_certificates_as_data_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    authority = Authority()
    access = Access(
        server="https://there.example", authority=authority.certificate, certificate=authority.issue_user("joe", [])
    )
    (tmp_path / "config").write_bytes(access.kubeconfig())
    connection = await connect(str(tmp_path / "config"))
    for _ in range(2):
        tls = (await connection.credentials.identity()).tls
        assert tls.ca == authority.certificate.encode()
        assert b"PRIVATE KEY" in tls.key
        tls.context()
    assert os.listdir(tmp_path) == ["config"]  # noqa: PTH208 - in a coroutine


async def test_files_are_found_beside_the_kubeconfig_and_read_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first")
    now = [0.0]
    credentials = KubeconfigCredentials(
        write(tmp_path / "config", {"tokenFile": "token"}), "", clock=lambda: now[0], wall_clock=lambda: now[0]
    )
    assert (await credentials.identity()).authorization == "Bearer first"
    (tmp_path / "token").write_text("second")
    now[0] += 61
    assert (await credentials.identity()).authorization == "Bearer second"


async def test_several_files_are_merged(tmp_path: Path) -> None:
    first = write(tmp_path / "first", {"token": "abc"})
    other = {
        "contexts": [{"name": "test", "context": {"cluster": "there", "user": "ann"}}],
        "users": [{"name": "ann", "user": {"token": "xyz"}}],
    }
    (tmp_path / "second").write_text(yaml.safe_dump(other))
    both = f"{first}:{tmp_path / 'second'}"
    assert await authorization(await from_kubeconfig(both, "")) == "Bearer abc"
    assert await authorization(await from_kubeconfig(both, "test")) == "Bearer xyz"


def plugin(folder: Path, status: object) -> dict[str, object]:
    """A user with an exec plugin that answers with a status and counts how often it was asked."""
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    (folder / "answer").write_text(json.dumps(answer))
    program = folder / "plugin"
    program.write_text(f"#!/bin/sh\necho once >> {folder}/asked\ncat {folder}/answer\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(program),
            "interactiveMode": "Never",
        }
    }


def asked(folder: Path) -> int:
    return len((folder / "asked").read_text().split())


async def test_a_plugin_is_asked_before_its_token_ends(tmp_path: Path) -> None:
    now = datetime.now(UTC).timestamp()
    clock = [0.0]
    ends = datetime.fromtimestamp(now + 600, UTC)
    user = plugin(tmp_path, {"token": "first", "expirationTimestamp": ends.strftime("%Y-%m-%dT%H:%M:%SZ")})
    credentials = KubeconfigCredentials(
        write(tmp_path / "config", user), "", clock=lambda: clock[0], wall_clock=lambda: now + clock[0]
    )
    assert (await credentials.identity()).authorization == "Bearer first"
    clock[0] = 500
    await credentials.identity()
    assert asked(tmp_path) == 1
    later = ends + timedelta(seconds=600)
    plugin(tmp_path, {"token": "second", "expirationTimestamp": later.strftime("%Y-%m-%dT%H:%M:%SZ")})
    clock[0] = 545
    assert (await credentials.identity()).authorization == "Bearer second"
    assert asked(tmp_path) == 2


async def test_a_plugin_is_asked_again_when_its_token_is_refused(tmp_path: Path) -> None:
    clock = [0.0]
    credentials = KubeconfigCredentials(
        write(tmp_path / "config", plugin(tmp_path, {"token": "first"})), "", clock=lambda: clock[0]
    )
    first = await credentials.identity()
    clock[0] = 100_000
    await credentials.identity()
    assert asked(tmp_path) == 1, "it named no end"
    plugin(tmp_path, {"token": "second"})
    credentials.refused(first)
    assert (await credentials.identity()).authorization == "Bearer second"


async def test_a_plugin_that_fails_does_not_take_a_token_that_is_good(tmp_path: Path) -> None:
    now = datetime.now(UTC).timestamp()
    clock = [0.0]
    ends = datetime.fromtimestamp(now + 600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    user = plugin(tmp_path, {"token": "first", "expirationTimestamp": ends})
    credentials = KubeconfigCredentials(
        write(tmp_path / "config", user), "", clock=lambda: clock[0], wall_clock=lambda: now + clock[0]
    )
    await credentials.identity()
    (tmp_path / "plugin").write_text("#!/bin/sh\necho no network >&2\nexit 3\n")
    clock[0] = 545
    assert (await credentials.identity()).authorization == "Bearer first"
    clock[0] = 700
    with pytest.raises(ConnectionProblem, match="no network"):
        await credentials.identity()


BROKEN: dict[str, object] = {
    "no such file": None,
    "no YAML": f"users: [{SECRET}",
    "a list": [SECRET],
    "no contexts": {"users": [{"name": "joe", "user": {"token": SECRET}}]},
    "no user of that name": {
        "clusters": [{"name": "there", "cluster": {"server": "https://x"}}],
        "contexts": [{"name": "prod", "context": {"cluster": "nowhere", "user": "joe"}}],
        "current-context": "prod",
        "users": [{"name": "joe", "user": {"token": SECRET}}],
    },
    "a malformed plugin": {
        "clusters": [{"name": "there", "cluster": {"server": "https://x"}}],
        "contexts": [{"name": "prod", "context": {"cluster": "there", "user": "joe"}}],
        "current-context": "prod",
        "users": [{"name": "joe", "user": {"exec": {"env": [{"name": "A", "value": SECRET}]}}}],
    },
    "an oidc provider without what it needs": {
        "clusters": [{"name": "there", "cluster": {"server": "https://x"}}],
        "contexts": [{"name": "prod", "context": {"cluster": "there", "user": "joe"}}],
        "current-context": "prod",
        "users": [
            {
                "name": "joe",
                "user": {"auth-provider": {"name": "oidc", "config": {"refresh-token": SECRET, "client-id": "a"}}},
            }
        ],
    },
    "certificates that are no base64": {
        "clusters": [{"name": "there", "cluster": {"server": "https://x"}}],
        "contexts": [{"name": "prod", "context": {"cluster": "there", "user": "joe"}}],
        "current-context": "prod",
        "users": [
            {"name": "joe", "user": {"client-certificate-data": SECRET, "client-key-data": SECRET + "=é"}},
        ],
    },
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_file_is_named_and_nothing_in_it_shown(case: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    content = BROKEN[case]
    if content is not None:
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(ConnectionProblem, match=str(path)) as caught:
        await connect(str(path))
    assert SECRET not in str(caught.value)


async def test_a_missing_context_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "config", {"token": SECRET})
    with pytest.raises(ConnectionProblem, match="staging") as caught:
        await connect(file, "staging")
    assert SECRET not in str(caught.value)


def test_a_context_of_a_missing_cluster_is_named(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(yaml.safe_dump(BROKEN["no user of that name"]))
    with pytest.raises(ConnectionProblem, match='the context names "nowhere", which is not there; mend the kubeconfig'):
        asyncio.run(connect(str(tmp_path / "config")))


async def test_the_environment_names_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", write(tmp_path / "config", {"token": "abc"}))
    assert await authorization(await connect(context="prod")) == "Bearer abc"


@pytest.mark.filterwarnings("ignore:datetime.datetime.utc:DeprecationWarning")  # of the library
async def test_an_oidc_token_that_is_good_is_taken_and_never_refreshed(tmp_path: Path) -> None:
    def token(expires: float) -> str:
        import base64

        body = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).decode().rstrip("=")
        return f"head.{body}.tail"

    def user(expires: float) -> object:
        settings = {"id-token": token(expires), "refresh-token": SECRET, "client-id": "a", "client-secret": SECRET}
        config = cast("object", settings | {"idp-issuer-url": "https://127.0.0.1:1"})
        return {"auth-provider": {"name": "oidc", "config": config}}

    now = datetime.now(UTC).timestamp()
    good = write(tmp_path / "good", user(now + 3600))
    assert (await authorization(await connect(good))).startswith("Bearer head.")
    with pytest.raises(ConnectionProblem, match=r"id-token .* has expired: log in again"):
        await connect(write(tmp_path / "old", user(now - 10)))
