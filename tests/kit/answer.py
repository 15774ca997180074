"""What a client saw: a typed answer, or the way in which there was none."""

from enum import StrEnum

import msgspec

from tests.kit.echo import POD_HEADER


class Failure(StrEnum):
    """How a request or connection failed."""

    REFUSED = "refused"
    """The connection was refused, or the Unix socket is not there."""
    UNREACHABLE = "unreachable"
    """There is no way to the address: in a cluster, of a pod that has gone."""
    TLS = "tls"
    """The handshake failed."""
    RESET = "reset"
    """RST on the connection, or RST_STREAM on the stream, before the answer was complete."""
    CLOSED = "closed"
    """The peer closed before the first byte of the answer."""
    TRUNCATED = "truncated"
    """The peer closed in the middle of the answer."""
    UNPROCESSED = "unprocessed"
    """HTTP/2: GOAWAY said that this stream was not touched; a client repeats it elsewhere."""
    PROTOCOL = "protocol"
    """What came is no HTTP."""
    TIMEOUT = "timeout"


class ConnectionFailed(Exception):
    """No connection: nothing was sent."""

    def __init__(self, failure: Failure, text: str = "") -> None:
        super().__init__(f"{failure}: {text}")
        self.failure = failure


class Tls(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """TLS as the backend saw it."""

    version: str = ""
    server_name: str = ""
    negotiated_protocol: str = ""
    cipher_suite: str = ""
    peer_certificates: tuple[str, ...] = ()


class Echoed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The request as the backend received it."""

    path: str
    host: str
    method: str
    proto: str
    headers: dict[str, tuple[str, ...]]
    """Names in canonical case (`X-Forwarded-For`)."""
    namespace: str
    ingress: str
    service: str
    pod: str
    body_bytes: int = 0
    tls: Tls | None = None

    def header(self, name: str) -> str | None:
        """The first value of a header, its name in any case; `None` when absent."""
        canonical = "-".join(part.capitalize() for part in name.split("-"))
        return self.headers.get(canonical, (None,))[0]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, complete or not."""

    status: int = 0
    """0: no status line arrived."""
    headers: tuple[tuple[str, str], ...] = ()
    """As received, in order."""
    body: bytes = b""
    trailers: tuple[tuple[str, str], ...] = ()
    informational: tuple[int, ...] = ()
    """Statuses below 200 that came before (100, 103); not 101."""
    failure: Failure | None = None
    """`None`: the answer is complete."""

    def header(self, name: str) -> str | None:
        """The first value of a response header, its name in any case; `None` when absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def header_values(self, name: str) -> tuple[str, ...]:
        """All values of a response header, in order (`set-cookie`)."""
        return tuple(value for key, value in self.headers if key.lower() == name.lower())

    @property
    def pod(self) -> str | None:
        """Which backend answered; `None`: no backend of ours, so the proxy itself."""
        return self.header(POD_HEADER)

    def echoed(self) -> Echoed:
        """The body of an echo.

        Raises:
            msgspec.DecodeError: the body is no echo.
        """
        return msgspec.json.decode(self.body, type=Echoed)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")
