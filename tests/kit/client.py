"""One request on a connection of its own: what a test asks for is sent as it is, what comes back is told as it came.

    answer = await fetch(f"http://shop.example:{port}/cart")
    assert (answer.status, answer.pod) == (200, "a")

For kept-alive connections see `http1_client.py` and `http2_client.py`; for WebSocket, TCP and UDP `stream_client.py`.
"""

import asyncio
import ssl
from collections.abc import Iterable
from urllib.parse import urlsplit

from tests.kit.answer import Answer, ConnectionFailed, Failure
from tests.kit.connect import Endpoint, accept_any
from tests.kit.http1_client import Http1Connection
from tests.kit.http2_client import Http2Connection

DEFAULT_SECONDS = 10.0  # a test that expects more silence than that says so
_DEFAULT_PORTS = {"http": 80, "https": 443}


async def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    address: str = "127.0.0.1",
    port: int | None = None,
    http2: bool = False,
    tls: ssl.SSLContext | None = None,
    proxy_header: bytes = b"",
    unix: str = "",
    seconds: float = DEFAULT_SECONDS,
) -> Answer:
    """Send one request; never raises for what the network or the server does.

    Args:
        url: scheme `http` or `https`; its host and port become the Host header (`:authority`) as they stand and its
            host, over TLS, the server name. Path and query are sent as they stand, not encoded and not cleaned.
        method: any token.
        headers: sent in this order after Host; a `host` among them replaces that of the URL.
        body: sent with a content-length when not empty.
        address: where to connect to; names are not resolved from the URL.
        port: where to connect to; `None`: the URL's port, or its scheme's.
        http2: over TLS by ALPN, else with prior knowledge.
        tls: for `https`; `None`: any certificate is accepted.
        proxy_header: sent before anything else (PROXY protocol).
        unix: path of a Unix socket to connect to instead.
        seconds: for everything together; afterwards the failure is TIMEOUT.
    """
    endpoint, host, target = parse_url(
        url, address=address, port=port, alpn="h2" if http2 else "http/1.1", tls=tls, preamble=proxy_header, unix=unix
    )
    try:
        async with asyncio.timeout(seconds):
            kind = Http2Connection if http2 else Http1Connection
            async with await kind.open(endpoint) as connection:
                return await connection.request(target, host=host, method=method, headers=headers, body=body)
    except TimeoutError:
        return Answer(failure=Failure.TIMEOUT)
    except ConnectionFailed as error:
        return Answer(failure=error.failure)


def parse_url(
    url: str,
    *,
    address: str = "127.0.0.1",
    port: int | None = None,
    alpn: str = "http/1.1",
    tls: ssl.SSLContext | None = None,
    preamble: bytes = b"",
    unix: str = "",
) -> tuple[Endpoint, str, str]:
    """Where to connect to for a URL, its Host header, and its request target; arguments as in `fetch`."""
    parts = urlsplit(url)
    context = None
    if parts.scheme in {"https", "wss"}:
        context = tls or accept_any((alpn,) if alpn else ())
    endpoint = Endpoint(
        host=address,
        port=port or parts.port or _DEFAULT_PORTS[parts.scheme],
        path=unix,
        tls=context,
        server_name=parts.hostname or "",
        preamble=preamble,
    )
    # Not `parts.path`: it would be the cleaned one for some inputs (`//a`), and a lone `?` would be lost.
    slash = url.find("/", url.index("://") + 3)
    return endpoint, parts.netloc, url[slash:] if slash >= 0 else "/"
