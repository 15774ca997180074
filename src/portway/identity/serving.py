"""What a control plane shows of itself and asks of others, as it follows the authorities.

Its certificates are made in memory, by each replica for itself: it can sign, so it needs nobody. They are renewed long
before they end, and at once when the authorities change. TLS contexts take the new ones in place: connections that
exist go on, new ones see them.

    to proxies (discovery)      gRPC: `credentials()`, asked at each handshake (`portway.xds.credentials`)
    to proxies (certificates)   `server_context()`: the server alone shows a certificate
    among replicas              `replica_contexts()`: both show one that only replicas have
"""

import asyncio
import datetime as dt
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

import structlog

from portway.identity.authorities import Authority, bundle, signer
from portway.identity.certificates import Credentials, Subject, make_credentials, make_key, sign
from portway.identity.contract import CONTROL_PLANE_NAME, REPLICA_NAME, replica_id

LIFETIME = dt.timedelta(days=7)
RENEWED_AFTER = dt.timedelta(days=2)
LOOK = dt.timedelta(hours=1)

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@final
class ServingIdentity:
    """Of one replica of the control plane. Usable once it was told the authorities.

    Args:
        names: DNS names under which proxies may look for it besides `CONTROL_PLANE_NAME`: those of its Service.
        clock: the time of day.
    """

    def __init__(
        self,
        names: Sequence[str] = (),
        *,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._names = tuple(dict.fromkeys((CONTROL_PLANE_NAME, REPLICA_NAME, *names)))
        self._clock = clock
        self._authorities: tuple[Authority, ...] = ()
        self._credentials: Credentials | None = None
        self._made = dt.datetime.min.replace(tzinfo=dt.UTC)
        self._server = _context(ssl.PROTOCOL_TLS_SERVER)
        self._replica_server = _context(ssl.PROTOCOL_TLS_SERVER)
        self._replica_server.verify_mode = ssl.CERT_REQUIRED
        self._replica_client = _context(ssl.PROTOCOL_TLS_CLIENT)
        self._known = asyncio.Event()

    def use(self, authorities: tuple[Authority, ...]) -> None:
        """Believe these from now on, and show certificates that they signed."""
        self._authorities = authorities
        self._renew()
        self._known.set()

    def credentials(self) -> Credentials:
        """What to show now and whom to believe. May be asked by any thread.

        Raises:
            LookupError: no authorities are known yet.
        """
        if self._credentials is None:
            raise LookupError("no authorities are known yet")
        return self._credentials

    async def wait_known(self) -> None:
        """Until there is something to show."""
        await self._known.wait()

    def server_context(self) -> ssl.SSLContext:
        """For a server whose clients show no certificate."""
        return self._server

    def replica_contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """For server and client among replicas: TLS 1.3, both sides show a certificate of our authorities.

        The server must also ask `is_replica` about each connection: proxies have certificates, too. The client gives
        `server_hostname=REPLICA_NAME`, a name that no proxy's certificate has.
        """
        return self._replica_server, self._replica_client

    async def run(self) -> None:
        """Renew in time. Until cancelled."""
        while True:
            await asyncio.sleep(LOOK.total_seconds())
            if self._authorities and not dt.timedelta(0) <= self._clock() - self._made < RENEWED_AFTER:
                self._renew()

    def _renew(self) -> None:
        now = self._clock()
        chosen = signer(self._authorities, now)
        key = make_key()
        subject = Subject(
            common_name="Portway control plane", uri=replica_id(), dns_names=self._names, server=True, client=True
        )
        certificate, _ = sign(subject, key, (chosen.certificate, chosen.key), now=now, lifetime=LIFETIME)
        made = make_credentials(certificate, key, bundle(self._authorities))
        for context in (self._server, self._replica_server, self._replica_client):
            show(context, made)
            # Those believed before stay so in these contexts until the next start: they cannot be taken out.
            context.load_verify_locations(cadata=made.authorities.decode())
        self._credentials, self._made = made, now
        log.info("serving certificate made", authority=chosen.name, until=f"{made.not_after:%Y-%m-%dT%H:%M:%SZ}")


def show(context: ssl.SSLContext, credentials: Credentials) -> None:
    """Make a context show these from the next handshake on. They never touch a disk: OpenSSL wants files, so it gets
    one in memory."""
    descriptor = os.memfd_create("credentials", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, credentials.certificates + credentials.key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


_URI: Final = "URI"


def is_replica(peer: Mapping[str, object] | None) -> bool:
    """Whether a verified peer certificate is a replica's.

    Args:
        peer: as `ssl.SSLSocket.getpeercert()` gives it (`transport.get_extra_info("peercert")`).
    """
    names = peer.get("subjectAltName", ()) if peer else ()
    return isinstance(names, tuple) and (_URI, replica_id()) in names
