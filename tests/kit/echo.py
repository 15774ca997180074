"""What an echo backend answers, free of I/O: one request in, one answer out.

The answers are those of the Gateway API conformance suite's echo program, so that our own e2e tests and the suite speak
of the same thing, plus a few paths of ours: `/slow?chunks=&interval=`, `/bytes/N`, `/body` (the request's),
`/truncated`.
Every answer carries `x-echo-pod`, the name of the backend, so that a client need not parse a body to know who answered.
The shells that speak HTTP/1.1 and HTTP/2 are `http1_backend.py` and `http2_backend.py`.
"""

import json
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import msgspec

POD_HEADER = "x-echo-pod"

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?|\.\d+)(h|ms|m|us|s))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(h|ms|m|us|s)")


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a backend says it is."""

    pod: str
    namespace: str = ""
    service: str = ""
    ingress: str = ""


class TlsFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the backend saw of its TLS connection."""

    version: str
    server_name: str = ""
    negotiated_protocol: str = ""
    cipher_suite: str = ""
    peer_certificates: tuple[str, ...] = ()
    """PEM; empty without a client certificate."""


class EchoRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it arrived."""

    method: str
    target: str
    """Raw request target with the query, not decoded."""
    protocol: str
    """HTTP/1.1 or HTTP/2.0."""
    authority: str
    headers: tuple[tuple[str, str], ...] = ()
    """In the order of arrival, without Host and pseudo-headers."""
    body: bytes = b""
    tls: TlsFacts | None = None


class EchoAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the shell has to do, in the order of the fields."""

    delay: timedelta = timedelta()
    """Wait that long first."""
    reset: bool = False
    """Reset the connection (HTTP/2: the stream) and send nothing at all."""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    chunks: tuple[bytes, ...] = ()
    """The body; more than one chunk is sent without a content-length."""
    interval: timedelta = timedelta()
    """Pause before each chunk."""
    truncate: bool = False
    """Announce twice the length, send the body, then reset."""


class Echo:
    """One backend's answers. Its only state: the counters of `/retry` and the last requests seen."""

    def __init__(self, identity: Identity, *, http_port: str = "3000") -> None:
        self.identity = identity
        self.seen: deque[EchoRequest] = deque(maxlen=10_000)
        """The last requests, oldest first, as they arrived (mirrored ones too)."""
        self._http_port = http_port
        self._failed: Counter[str] = Counter()

    def answer(self, request: EchoRequest) -> EchoAnswer:
        """The answer to one request; never raises for what a client sends."""
        self.seen.append(request)
        url = urlsplit("//x" + request.target if request.target.startswith("/") else request.target)
        path = re.sub("/{2,}", "/", url.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        for prefix, make in self._paths.items():
            if path == prefix or (prefix.endswith("/") and path.startswith(prefix)):
                return self._named(make(self, request, path.removeprefix(prefix), query))
        return self._named(self._echo(request, query))

    def _named(self, answer: EchoAnswer) -> EchoAnswer:
        return msgspec.structs.replace(answer, headers=(*answer.headers, (POD_HEADER, self.identity.pod)))

    def _health(self, request: EchoRequest, rest: str, query: Mapping[str, str]) -> EchoAnswer:
        return _text(200, b"OK")

    def _status(self, request: EchoRequest, rest: str, query: Mapping[str, str]) -> EchoAnswer:
        if not re.fullmatch(r"[2-5]\d\d", rest):
            return _text(400, b"the path wants to be /status/<three digits>")
        return EchoAnswer(status=int(rest), delay=_duration(query.get("delay", "")) or timedelta())

    def _retry(self, request: EchoRequest, rest: str, query: Mapping[str, str]) -> EchoAnswer:
        uuid, times = query.get("uuid"), query.get("succeedAfter", "")
        if not uuid or not times.isdecimal():
            return _text(400, b"uuid and succeedAfter are needed")
        if self._failed[uuid] >= int(times):
            return self._echo(request, query)
        self._failed[uuid] += 1
        delay = _duration(query.get("delayRetry", "")) or timedelta()
        code = query.get("responseCode", "")
        if code.isdecimal():
            return EchoAnswer(delay=delay, status=int(code))
        return EchoAnswer(delay=delay, reset=True)

    def _slow(self, request: EchoRequest, rest: str, query: Mapping[str, str]) -> EchoAnswer:
        chunks = max(2, int(query.get("chunks", "10")))
        interval = _duration(query.get("interval", "")) or timedelta(milliseconds=100)
        return EchoAnswer(headers=(("content-type", "text/plain"),), chunks=(b"x",) * chunks, interval=interval)

    def _bytes(self, request: EchoRequest, rest: str, query: Mapping[str, str]) -> EchoAnswer:
        if not rest.isdecimal():
            return _text(400, b"the path wants to be /bytes/<number>")
        return EchoAnswer(headers=(("content-type", "application/octet-stream"),), chunks=(b"x" * int(rest),))

    def _body(self, request: EchoRequest, rest: str, query: Mapping[str, str]) -> EchoAnswer:
        return EchoAnswer(headers=(("content-type", "application/octet-stream"),), chunks=(request.body,))

    def _truncated(self, request: EchoRequest, rest: str, query: Mapping[str, str]) -> EchoAnswer:
        return EchoAnswer(headers=(("content-type", "text/plain"),), chunks=(b"half of it",), truncate=True)

    def _echo(self, request: EchoRequest, query: Mapping[str, str]) -> EchoAnswer:
        delay = timedelta()
        if "delay" in query:
            parsed = _duration(query["delay"])
            if parsed is None:
                return _text(400, b"delay is no duration")
            delay = parsed
        base = {"content-type": "application/json", "x-content-type-options": "nosniff"}
        for header, value in request.headers:
            if header.lower() == "x-echo-set-header":
                _set_headers(base, value)
        body = json.dumps(self.echoed(request)).encode()
        return EchoAnswer(delay=delay, headers=tuple(base.items()), chunks=(body,))

    def echoed(self, request: EchoRequest) -> dict[str, object]:
        """The JSON object that describes a request, in the shape of the conformance suite's echo program."""
        headers: dict[str, list[str]] = {}
        for name, value in request.headers:
            headers.setdefault(_canonical(name), []).append(value)
        echoed: dict[str, object] = {
            "path": request.target,
            "host": request.authority,
            "method": request.method,
            "proto": request.protocol,
            "headers": headers,
            "httpPort": self._http_port,
            "namespace": self.identity.namespace,
            "ingress": self.identity.ingress,
            "service": self.identity.service,
            "pod": self.identity.pod,
            "bodyBytes": len(request.body),
        }
        if request.tls is not None:
            echoed["tls"] = {name: value for name, value in _tls(request.tls).items() if value}
        return echoed

    _paths: Mapping[str, Callable[["Echo", EchoRequest, str, Mapping[str, str]], EchoAnswer]] = {
        "/health": _health,
        "/status/": _status,
        "/retry": _retry,
        "/retry/": _retry,
        "/slow": _slow,
        "/bytes/": _bytes,
        "/body": _body,
        "/truncated": _truncated,
    }


def _tls(tls: TlsFacts) -> dict[str, object]:
    return {
        "version": tls.version,
        "peerCertificates": list(tls.peer_certificates),
        "serverName": tls.server_name,
        "negotiatedProtocol": tls.negotiated_protocol,
        "cipherSuite": tls.cipher_suite,
    }


def _text(status: int, body: bytes) -> EchoAnswer:
    return EchoAnswer(status=status, headers=(("content-type", "text/plain"),), chunks=(body,))


def _set_headers(headers: dict[str, str], wanted: str) -> None:
    """Apply one X-Echo-Set-Header: comma-separated `name:value`; a name seen before gets a further value."""
    for item in wanted.split(","):
        name, colon, value = item.partition(":")
        if not colon or not name.strip():
            continue
        key, value = name.strip(), value.strip()
        same = next((known for known in headers if known.lower() == key.lower()), None)
        if same is None:
            headers[key] = value
        else:
            headers[same] += "," + value


def _canonical(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))


def _duration(text: str) -> timedelta | None:
    """A Go duration (`1s`, `300ms`, `1m30s`, `0.1s`); `None` for anything else."""
    if not _DURATION.fullmatch(text):
        return None
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text)))
