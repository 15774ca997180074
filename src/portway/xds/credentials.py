"""Mutual TLS for the discovery server, with credentials that may change while it runs.

gRPC asks at each handshake for what to show, so a renewed certificate or another authority counts from the next
connection on; those that exist go on. A connection is ended after a while (`MAX_CONNECTION_AGE` of `server.py`), so
that nobody stays longer than a certificate allows.

TLS 1.3 only: gRPC for Python has no option for that, but `portway.xds` leaves it no cipher for TLS 1.2 that goes with
our certificates.
"""

from collections.abc import Callable
from typing import Protocol, cast

import grpc


class Shown(Protocol):
    """What is needed of credentials, PEM throughout."""

    @property
    def certificates(self) -> bytes: ...

    @property
    def key(self) -> bytes: ...

    @property
    def authorities(self) -> bytes: ...


def mutual_tls(current: Callable[[], Shown]) -> grpc.ServerCredentials:
    """Credentials of a server whose clients must show a certificate of the authorities.

    Args:
        current: asked at each handshake, from gRPC's threads.

    Raises:
        LookupError: `current` has nothing yet.
    """
    shown: Shown | None = None

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        latest = current()
        if latest is shown:
            return None  # as before
        shown = latest
        return _configuration(latest)

    shown = current()
    # The stubs do not know that nothing new may be said by None.
    fetcher = cast("Callable[[], grpc.ServerCertificateConfiguration]", fetch)
    return grpc.dynamic_ssl_server_credentials(_configuration(shown), fetcher, require_client_authentication=True)


def _configuration(shown: Shown) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(shown.key, shown.certificates)], shown.authorities)
