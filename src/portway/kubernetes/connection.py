"""Where an API server is and who we are: in a pod, from a kubeconfig, or as somebody says.

Credentials are asked before each request, since they change while we run: a pod's token is rotated every hour, client
certificates are renewed in place, exec plugins give tokens that expire. Reading them again is cheap and rare: files
once a minute and after a 401.
"""

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, Protocol, final

import msgspec

from portway.kubernetes.errors import ConnectionProblem

READ_AGAIN: Final = 60.0
"""Seconds after which files are looked at again. client-go reads a token file at most this often; the kubelet renews a
token when a fifth of its time is left, many minutes before it ends."""
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts a pod's token, CA and namespace."""


class Tls(NamedTuple):
    """What a TLS connection is made of. Holds a private key: never logged, never in a message."""

    ca: bytes = b""
    """PEM; empty: the machine's own trusted certificates."""
    certificate: bytes = b""
    """PEM of our certificate and its chain; empty: none."""
    key: bytes = b""
    """PEM."""
    verify: bool = True

    def __repr__(self) -> str:
        return f"Tls(verify={self.verify}, certificate={bool(self.certificate)})"

    def context(self) -> ssl.SSLContext:
        """A context for TLS 1.2 or newer.

        Raises:
            ConnectionProblem: a certificate or key cannot be used.
        """
        try:
            context = ssl.create_default_context(cadata=self.ca.decode("ascii") if self.ca else None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if not self.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.certificate:
                _load_pair(context, self.certificate, self.key)
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise ConnectionProblem(
                f"the CA, client certificate or client key for the API server cannot be used ({reason}); "
                f"look whether they are PEM and belong together"
            ) from None
        return context


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # OpenSSL's Python binding takes files only. One in memory: a key that came in a kubeconfig touches no disk.
    handle = os.memfd_create("client", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(handle), "wb") as file:
            file.write(certificate + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


class Identity(NamedTuple):
    """Who we are at one moment. Secret: see `Tls`."""

    authorization: str = ""
    """Value of the header; empty: none, the client certificate says it."""
    tls: Tls = Tls()

    def __repr__(self) -> str:
        return f"Identity(authorization={'<redacted>' if self.authorization else 'none'}, {self.tls!r})"


class Credentials(Protocol):
    """Who we are, as it changes."""

    async def identity(self) -> Identity:
        """Who we are now; asked before each request, so mostly from memory.

        Raises:
            ConnectionProblem: it cannot be told.
        """
        ...

    def refused(self, identity: Identity) -> None:
        """The server answered 401 to that identity: the next one is made anew."""
        ...


@final
class FixedCredentials:
    """One identity for ever."""

    def __init__(self, *, token: str = "", tls: Tls = Tls()) -> None:  # noqa: B008 - a tuple, which nobody can change
        self._identity = Identity(f"Bearer {token}" if token else "", tls)

    async def identity(self) -> Identity:
        return self._identity

    def refused(self, identity: Identity) -> None:
        """There is no other one."""


@final
class FileCredentials:
    """Token, CA and client certificate in files, each read again as it is renewed."""

    def __init__(
        self,
        *,
        token: Path | None = None,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token = token
        self._ca = ca
        self._certificate = certificate
        self._key = key
        self._clock = clock
        self._known: Identity | None = None
        self._read_at = 0.0

    async def identity(self) -> Identity:
        if self._known is None or self._clock() - self._read_at > READ_AGAIN:
            try:
                self._known = await asyncio.to_thread(self._read)
            except ConnectionProblem:
                if self._known is None:
                    raise
                # A file that is being replaced: what we have is good for a while, a 401 would tell otherwise.
            self._read_at = self._clock()
        return self._known

    def refused(self, identity: Identity) -> None:
        if identity == self._known:
            self._read_at = -READ_AGAIN

    def _read(self) -> Identity:
        token = _read_file(self._token).decode(errors="replace").strip()
        tls = Tls(ca=_read_file(self._ca), certificate=_read_file(self._certificate), key=_read_file(self._key))
        return Identity(f"Bearer {token}" if token else "", tls)


def _read_file(path: Path | None) -> bytes:
    if path is None:
        return b""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConnectionProblem(f"{path}: {error.strerror}; it is needed to reach the API server") from None
    if not data.strip():
        raise ConnectionProblem(f"{path}: is empty; it is needed to reach the API server")
    return data


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """One API server, and how to speak with it."""

    server: str
    """URL without a slash at its end: `https://10.96.0.1:443`."""
    credentials: Credentials = msgspec.field(default_factory=FixedCredentials)
    namespace: str = ""
    """The namespace that we run in, or that the kubeconfig's context names; empty: neither says one."""
    server_name: str = ""
    """Name in the server's certificate, if it is not that of the URL."""
    proxy: str = ""
    """URL of an HTTP proxy between; empty: none."""
    origin: str = ""
    """Where this comes from, for messages: `in-cluster`, or the kubeconfig's context."""


def is_in_cluster(environment: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT) -> bool:
    """Whether we are in a pod that may speak with its API server."""
    return bool(environment.get("KUBERNETES_SERVICE_HOST")) and (folder / "token").exists()


def in_cluster(environment: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT) -> Connection:
    """The connection that the kubelet gave to our pod.

    Raises:
        ConnectionProblem: we are in no pod, or its service account token is not mounted.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (folder / "token").exists():
        raise ConnectionProblem(
            "neither a kubeconfig is given nor is this a pod with a service account token "
            "(automountServiceAccountToken); give --kubeconfig or --context"
        )
    try:
        namespace = (folder / "namespace").read_text().strip()
    except OSError:
        namespace = ""  # only a convenience: POD_NAMESPACE or a flag can say it
    return Connection(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        credentials=FileCredentials(token=folder / "token", ca=folder / "ca.crt"),
        namespace=namespace,
        origin="in-cluster",
    )


async def connect(kubeconfig: str = "", context: str = "") -> Connection:
    """The connection that the user asked for.

    Args:
        kubeconfig: file, or several with `:` between; empty: `KUBECONFIG`, else `~/.kube/config`.
        context: in the kubeconfig; empty: its current one.

    Returns:
        With neither argument, and in a pod: the pod's own.

    Raises:
        ConnectionProblem: there is no such file, context or credential.
    """
    if not kubeconfig and not context and is_in_cluster():
        return in_cluster()
    # Late: the library takes 0.3 s and 40 MB, and a pod does not need it.
    from portway.kubernetes.kubeconfig import from_kubeconfig

    return await from_kubeconfig(kubeconfig, context)
