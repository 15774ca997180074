"""`::` means everybody, whatever IP family they speak."""

import socket

import pytest

from portway.identity.listening import listen


@pytest.mark.parametrize(("host", "heard"), [("::", True), ("127.0.0.1", True), ("0.0.0.0", True), ("::1", False)])
def test_who_speaks_ipv4_is_heard(host: str, heard: bool) -> None:
    try:
        listening = listen(host, 0)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with listening:
        port = listening.getsockname()[1]
        with socket.socket() as client:
            assert (client.connect_ex(("127.0.0.1", port)) == 0) is heard
