"""What is said about ports that cannot be opened, from real sockets."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from portway.infra import ports
from portway.infra.ports import PortReason, can_bind
from tests.infra.serving import free_port


def test_free_port() -> None:
    assert can_bind("127.0.0.1", free_port()) is None
    assert can_bind("127.0.0.1", free_port(), udp=True) is None
    assert can_bind("::1", free_port()) is None


def test_port_of_another_process_is_named_though_it_could_be_shared() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for address in ("127.0.0.1", "0.0.0.0"):
            found = can_bind(address, port)
            assert found is not None
            assert found.reason is PortReason.IN_USE
            assert f"(process {os.getpid()})" in found.problem
        assert can_bind("127.0.0.1", port, ours={os.getpid()}) is None
        assert can_bind("127.0.0.2", port) is None
        assert can_bind("127.0.0.1", port, udp=True) is None


def test_udp_port_in_use() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("::1", 0))
        found = can_bind("::1", other.getsockname()[1], udp=True)
    assert found is not None
    assert found.reason is PortReason.IN_USE
    assert str(os.getpid()) in found.problem


def test_address_of_another_machine() -> None:
    found = can_bind("192.0.2.1", free_port())  # RFC 5737: nobody has it
    assert found is not None
    assert found.reason is PortReason.NOT_LOCAL
    assert "192.0.2.1" in found.problem


def test_privileged_port_without_the_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    threshold = tmp_path / "ip_unprivileged_port_start"
    threshold.write_text("1024\n")
    monkeypatch.setattr(ports, "UNPRIVILEGED_FROM", threshold)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = can_bind("127.0.0.1", 443)
    assert found is not None
    assert found.reason is PortReason.PRIVILEGED
    assert "port 443" in found.problem
    assert "ip_unprivileged_port_start=443" in found.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_privileged_port_as_an_ordinary_user() -> None:
    """The real thing: a process of another user asks, with and without an ambient capability."""
    code = "from portway.infra.ports import can_bind; print(getattr(can_bind('127.0.0.1', 997), 'reason', 'free'))"
    plain = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", code]
    # It may lie in somebody's home; the loader of a shared libpython then says "not found" and not "denied".
    probe = subprocess.run([*plain[:-1], "import portway.infra.ports"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"another user cannot run this interpreter: {probe.stderr.strip()[-200:]}")
    ambient = ["setpriv", "--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service", *plain[1:]]
    answers = [subprocess.run(command, capture_output=True, text=True, check=False) for command in (plain, ambient)]
    assert [answer.stdout.strip() for answer in answers] == ["Privileged", "free"]
