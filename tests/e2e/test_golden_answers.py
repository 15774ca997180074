"""The requests of all golden cases, through a real Envoy that was given what the cases compile to.

One Envoy serves all cases of an area, each on ports of its own. Not looked at here: shares (only who may answer), the
addresses of clients (it is always 127.0.0.1), and what no client can see.
"""

import asyncio
import re
import ssl
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import cast

import msgspec
import pytest

from portway.explain.trace import World
from portway.model.names import Transport
from tests.explain.asking import disagreement
from tests.explain.live import Case, Live, live
from tests.golden.answering import METHODS, expected_of, explained, same_location
from tests.golden.compiled import CASES, Entry, authority, compile_case, edge_of, entries_of, name_of
from tests.kit.answer import Answer, ConnectionFailed, Failure
from tests.kit.backends import Kind
from tests.kit.certificates import client_context
from tests.kit.client import fetch
from tests.kit.connect import Endpoint, accept_any
from tests.kit.stream_client import LineConnection, ask_udp

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

AREAS: Mapping[str, tuple[Path, ...]] = {
    area: tuple(case for case in CASES if case.parent.name == area and entries_of(case))
    for area in sorted({case.parent.name for case in CASES})
}
CLIENT = "127.0.0.1"
SIDE = re.compile(r"[^=;]+-side=")
"""Beginning of the cookie that keeps a client on its side of a canary."""
SILENCE_S = 0.5
"""How long a datagram's answer is waited for where none is expected."""


@pytest.mark.parametrize("area", [area for area, cases in AREAS.items() if cases])
async def test_answers_on_envoy(area: str) -> None:
    worlds = {f"g{number}": (case, compile_case(case)) for number, case in enumerate(AREAS[area])}
    cases = [
        Case(
            name=name,
            engine=world.engine,
            edge=edge_of(case),
            passed_to=_passed_to(case),
            authority=authority(),
            always_endpoints=True,
        )
        for name, (case, world) in worlds.items()
    ]
    problems: list[str] = []
    async with live(*cases) as served:
        for name, (case, world) in worlds.items():
            for entry in entries_of(case):
                if entry.get("client", CLIENT) == CLIENT:
                    found = await _ask(served, name, world, entry)
                    problems += [f"{name_of(case)}: {dict(entry)}: {problem}" for problem in found]
    assert problems == []


def _passed_to(case: Path) -> Kind:
    """Where TLS is passed through to: what the case asks about, streams or HTTP."""
    return Kind.TCP if any("tcp" in entry for entry in entries_of(case)) else Kind.HTTP1


async def _ask(served: Live, name: str, world: World, entry: Entry) -> list[str]:
    if "udp" in entry:
        return await _datagram(served, name, entry)
    if "tcp" in entry:
        return await _stream(served, name, entry)
    method = next(word for word in METHODS if word in entry)
    url = str(entry[method])
    headers = {key.lower(): str(value) for key, value in cast("Mapping[str, object]", entry.get("headers", {})).items()}
    scheme, _, rest = url.partition("://")
    named, slash, path = rest.partition("/")
    host, _, number = named.partition(":")
    if "tls" in entry:
        headers.setdefault("host", named)
        host = str(entry["tls"])
        url = f"{scheme}://{host}{slash}{path}"
    declared = int(number or (443 if scheme == "https" else 80))
    port = served.port(name, declared, address=str(entry.get("address", "")))
    if port is None:
        answer = Answer(failure=Failure.REFUSED)
    else:
        answer = await fetch(url, method=method.upper(), headers=headers.items(), port=port, tls=_client_tls())
    return [*_judged(entry, answer), *_foreseen(world, entry, answer)]


@cache
def _client_tls() -> ssl.SSLContext:
    """With a certificate, in case one is asked for."""
    return client_context(None, alpn=("http/1.1",), pair=authority().issue("client.test"))


def _foreseen(world: World, entry: Entry, answer: Answer) -> Iterable[str]:
    # Endpoints are there for all of them here, so `explain` must not say that there are none.
    found = explained(world, entry)
    if any(outcome.status == 503 and outcome.upstream is not None for outcome in found.outcomes):
        return ()
    if any(outcome.upstream is not None and not outcome.target for outcome in found.outcomes):
        return ()  # passed through: nobody reads HTTP on the way
    problem = disagreement(found, answer)
    return (problem,) if problem else ()


def _judged(entry: Entry, answer: Answer) -> list[str]:
    """Where an answer is not what the entry expects."""
    expected = expected_of(entry)
    backend = (answer.pod or "").partition("/")[0] or None
    if expected.get("closed"):
        return [] if answer.failure is not None else [f"{backend} answered with {answer.status}"]
    if answer.failure is not None:
        return [f"the connection failed: {answer.failure}"]
    problems: list[str] = []
    if "status" in expected and (backend is not None or not _is_status(expected["status"], answer)):
        problems.append(f"{backend} answered with {answer.status}")
    wanted = expected.get("from")
    if wanted is not None:
        names = cast("Mapping[object, object]", wanted) if isinstance(wanted, dict) else {wanted: 1}
        if (backend if backend is not None else answer.status) not in names:
            return [f"{backend} answered with {answer.status}: {answer.text[:100]}"]
    if "location" in expected and same_location(answer.header("location")) != expected["location"]:
        problems.append(f"location is {answer.header('location')!r}")
    for name, value in _branch(expected, "response_headers", backend):
        if answer.header_values(name) != (() if value is None else (str(value),)):
            problems.append(f"{name} of the answer is {answer.header_values(name)}")
    if backend is not None and str(next(iter(entry))) != "head":
        problems += _received(expected, backend, answer)
        if entry.get("upstream_tls") not in (None, answer.echoed().tls is not None):
            problems.append(f"upstream_tls is {answer.echoed().tls}")
    return [*problems, *_cookies(entry, answer)]


def _cookies(entry: Entry, answer: Answer) -> Iterable[str]:
    """Where the proxy's own cookies, of the session and of the side of a canary, are not what the entry expects."""
    found: dict[str, list[str]] = {"cookie": [], "side_cookie": []}
    for value in answer.header_values("set-cookie"):
        found["side_cookie" if SIDE.match(value) else "cookie"].append(value)
    for word, values in found.items():
        if word not in entry:
            continue
        seen = [_without_value(value) if word == "cookie" else _attributes(value) for value in values]
        if seen != ([] if entry[word] is None else [_attributes(str(entry[word]))]):
            yield f"{word} is {values}"


def _attributes(cookie: str) -> tuple[str, frozenset[str]]:
    """Name (with its value, if it has one) and attributes, whose names are the same in any case."""
    name, *attributes = cookie.split(";")
    return name, frozenset(attribute.strip().lower() for attribute in attributes)


def _without_value(cookie: str) -> tuple[str, frozenset[str]]:
    """A session's value names the endpoint and is Envoy's own."""
    name, attributes = _attributes(cookie)
    return name.partition("=")[0], attributes


def _is_status(status: object, answer: Answer) -> bool:
    return answer.status == status or answer.header("grpc-status") is not None


def _branch(expected: Mapping[str, object], word: str, backend: str | None) -> Iterable[tuple[str, object]]:
    """Fields that are expected; those of the backend that answered, where they depend on it."""
    fields = cast("Mapping[object, object]", expected.get(word) or {})
    if any(isinstance(value, dict) for value in fields.values()):
        fields = cast("Mapping[object, object]", fields.get(backend) or {})
    return [(str(name), value) for name, value in fields.items()]


def _received(expected: Mapping[str, object], backend: str, answer: Answer) -> list[str]:
    echoed = answer.echoed()
    problems = []
    for word, seen in (("upstream_path", echoed.path), ("upstream_host", echoed.host)):
        wanted = expected.get(word, seen)
        wanted = wanted.get(backend, seen) if isinstance(wanted, dict) else wanted
        if wanted != seen:
            problems.append(f"{word} is {seen}")
    received = {name.lower(): ",".join(values) for name, values in echoed.headers.items()}
    for name, value in _branch(expected, "upstream_headers", backend):
        if received.get(name.lower()) != value:
            problems.append(f"the upstream saw {name}: {received.get(name.lower())}")
    return problems


async def _stream(served: Live, name: str, entry: Entry) -> list[str]:
    host, _, number = str(entry["tcp"]).rpartition(":")
    port = served.port(name, int(number), address=str(entry.get("address", "")))
    tls = accept_any() if "tls" in entry else None
    endpoint = Endpoint(port=port or 0, tls=tls, server_name=str(entry.get("tls", host)))
    line: str | None = None
    try:
        async with asyncio.timeout(5), await LineConnection.open(endpoint) as connection:
            await connection.read_line()
            line = await connection.ask("TEST")
    except ConnectionFailed:
        line = None
    return _who(entry, line)


async def _datagram(served: Live, name: str, entry: Entry) -> list[str]:
    number = int(str(entry["udp"]).rpartition(":")[2])
    port = served.port(name, number, address=str(entry.get("address", "")), transport=Transport.UDP)
    line: str | None = None
    try:
        async with asyncio.timeout(SILENCE_S if entry.get("closed") else 5):
            line = (await ask_udp(b"hello", port=port or 1)).decode()
    except (TimeoutError, ConnectionFailed):
        line = None
    return _who(entry, line)


def _who(entry: Entry, line: str | None) -> list[str]:
    """Whether a line of JSON of a backend is of the right one."""
    if entry.get("closed"):
        return [] if line is None else [f"there was an answer: {line}"]
    if line is None:
        return ["there was no answer"]
    backend = msgspec.json.decode(line, type=dict[str, object]).get("pod", "")
    service = str(backend).partition("/")[0]
    wanted = entry.get("from")
    names = wanted if isinstance(wanted, dict) else {wanted}
    return [] if service in names else [f"{service} answered"]
