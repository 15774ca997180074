"""The cases of `test_ingress_cases.py`, through a real Envoy that was given what they compile to.

The ports of the model are replaced by free ones and its endpoints by backends that tell their Service's name; all else
is as in production. Not looked at here: shares (only who may answer), the client's address (it is always 127.0.0.1) and
what a client cannot see (retries, limits).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from portway.incremental import Engine
from portway.model.edge import Edge
from portway.model.handles import (
    LISTENER,
    SECRET,
    SECRET_USES,
    SOCKETS,
    TABLE,
    TABLES,
    UPSTREAM,
    UPSTREAM_USES,
    VIRTUAL_HOST,
    VIRTUAL_HOSTS,
)
from portway.model.upstream import Discovery, Endpoint, Endpoints, Protocol
from portway.store import Stored
from tests.envoy.world import World, serving
from tests.kit.answer import Answer
from tests.kit.backends import Backend, Backends, Kind
from tests.kit.client import fetch
from tests.kit.ports import Ports
from tests.translate.ingress.answering import METHODS
from tests.translate.ingress.kit import AUTHORITY, edge_of, new_engine, objects_of, put
from tests.translate.ingress.test_ingress_cases import CASES
from tests.translate.ingress.test_ingress_laws import BASE, TLS_SECRET, ingresses

pytestmark = pytest.mark.e2e

KINDS = {Protocol.HTTP1: Kind.HTTP1, Protocol.HTTP2: Kind.HTTP2, Protocol.TCP: Kind.HTTP1}
CLIENT = "127.0.0.1"
SIDE = re.compile(r"[^=;]+-side=")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
async def test_case_on_envoy(case: Path) -> None:
    answers = case / "answers.yaml"
    if not answers.exists():
        pytest.skip("the case is about verdicts only")
    declared = case / "settings.yaml"
    edge = edge_of(declared.read_text()) if declared.exists() else Edge()
    engine = new_engine(edge)
    put(engine, objects_of((case / "in.yaml").read_text()))
    problems: list[str] = []
    async with live(engine, edge) as ports:
        for entry in cast("list[Mapping[str, object]]", yaml.safe_load(answers.read_text())):
            if entry.get("client", CLIENT) == CLIENT:
                answer = await ask(entry, ports)
                problems += [f"{entry}: {problem}" for problem in judge(entry, answer)]
    assert problems == []


@settings(max_examples=25, deadline=None)
@given(st.lists(ingresses, min_size=3, max_size=6, unique_by=lambda stored: stored.key))
def test_envoy_takes_whatever_is_generated(some: list[Stored]) -> None:
    engine = new_engine()
    put(engine, [*BASE, TLS_SECRET, *some])

    async def start() -> None:
        async with live(engine, Edge()):
            pass  # `serving` has seen that nothing was refused and that everything listens

    asyncio.run(start())


@asynccontextmanager
async def live(engine: Engine, edge: Edge) -> AsyncIterator[Mapping[int, int]]:
    """Run an Envoy with what an engine has compiled; gives the real port for each declared one."""
    with Ports() as free:
        ports = {key.port: free.take() for key in sorted(engine.groups(SOCKETS))}
        async with Backends() as backends:
            upstreams = {}
            running: dict[str, Backend] = {}
            for _, key in sorted(engine.groups(UPSTREAM_USES)):
                upstream = engine.get(UPSTREAM, key)
                assert upstream is not None
                wants_tls = upstream.tls is not None or upstream.protocol is Protocol.TCP
                kind = KINDS.get(upstream.protocol, Kind.HTTP1)
                backend = await _backend(backends, running, key.name, kind, tls=wants_tls)
                endpoints = Endpoints(endpoints=(Endpoint(address=backend.host, port=backend.port),))
                upstreams[key] = msgspec.structs.replace(upstream, discovery=Discovery.ENDPOINTS), endpoints
            listeners = []
            for socket in sorted(engine.groups(SOCKETS)):
                listener = engine.get(LISTENER, socket)
                assert listener is not None
                where = socket._replace(address=CLIENT, port=ports[socket.port])
                listeners.append(msgspec.structs.replace(listener, key=where))
            tables = {
                table: tuple(
                    host
                    for key in sorted(engine.groups(VIRTUAL_HOSTS))
                    if key.table == table and (host := engine.get(VIRTUAL_HOST, key)) is not None
                )
                for table in engine.groups(TABLES)
            }
            secrets = {key: secret for _, key in engine.groups(SECRET_USES) if (secret := engine.get(SECRET, key))}
            world = World(
                listeners=tuple(listeners),
                tables=tables,
                table=engine.get(TABLE, next(iter(tables))),
                upstreams=upstreams,
                secrets=secrets,
                edge=edge,
            )
            async with serving(world):
                yield ports


async def _backend(backends: Backends, running: dict[str, Backend], service: str, kind: Kind, *, tls: bool) -> Backend:
    """The backend of a Service; one per way of speaking to it."""
    name = f"{service}/{kind}/{tls}"
    if name not in running:
        running[name] = await backends.start(name, kind, tls=AUTHORITY.issue("backend.test") if tls else None)
    return running[name]


async def ask(entry: Mapping[str, object], ports: Mapping[int, int]) -> Answer:
    """Send the request of an entry."""
    method = next(name for name in METHODS if name in entry)
    url = str(entry[method])
    headers = {
        name.lower(): str(value) for name, value in cast("Mapping[str, object]", entry.get("headers", {})).items()
    }
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    name, _, number = authority.partition(":")
    if "tls" in entry:
        headers.setdefault("host", authority)
        name = str(entry["tls"])
        url = f"{scheme}://{name}{slash}{path}"
    declared = int(number or (443 if scheme == "https" else 80))
    return await fetch(url, method=method.upper(), headers=headers.items(), port=ports[declared])


def judge(entry: Mapping[str, object], answer: Answer) -> list[str]:
    """Where an answer is not what the entry expects."""
    found: dict[str, object] = {"status": answer.status, "location": answer.header("location")}
    backend = (answer.pod or "").partition("/")[0] or None
    problems = []
    for word in ("status", "location"):
        if word in entry and entry[word] != found[word]:
            problems.append(f"{word} is {found[word]!r}")
    if "status" in entry and backend is not None:
        problems.append(f"{backend} answered, with {answer.status}")
    wanted = entry.get("from")
    if wanted is not None and (backend not in wanted if isinstance(wanted, dict) else backend != wanted):
        problems.append(f"{backend} answered, with {answer.status}, {answer.failure}, {answer.text[:200]}")
        return problems
    for name, value in cast("Mapping[str, object]", entry.get("response_headers", {})).items():
        if answer.header_values(name) != (() if value is None else (value,)):
            problems.append(f"{name} is {answer.header_values(name)}")
    if "cookie" in entry:
        session = tuple(value for value in answer.header_values("set-cookie") if not SIDE.match(value))
        problems += _cookie(cast("str | None", entry["cookie"]), session)
    if "side_cookie" in entry:
        side = [value for value in answer.header_values("set-cookie") if SIDE.match(value)]
        if side != ([entry["side_cookie"]] if entry["side_cookie"] else []):
            problems.append(f"the cookie of the side is {side}")
    return [*problems, *_upstream(entry, answer)] if backend is not None else problems


def _cookie(expected: str | None, found: tuple[str, ...]) -> list[str]:
    if expected is None:
        return [f"set-cookie is {found}"] if found else []
    name, *attributes = expected.split("; ")
    if len(found) != 1 or not found[0].startswith(f"{name}="):
        return [f"set-cookie is {found}"]
    said = {part.strip().lower() for part in found[0].split(";")[1:]}
    wanted = {attribute.lower() for attribute in attributes}
    return [] if said == wanted else [f"set-cookie is {found}, which differs in {sorted(said ^ wanted)}"]


def _upstream(entry: Mapping[str, object], answer: Answer) -> list[str]:
    if entry.keys().isdisjoint({"upstream_path", "upstream_host", "upstream_headers", "upstream_tls"}):
        return []
    echoed = answer.echoed()
    problems = []
    if entry.get("upstream_path", echoed.path) != echoed.path:
        problems.append(f"the upstream saw the path {echoed.path}")
    if entry.get("upstream_host", echoed.host) != echoed.host:
        problems.append(f"the upstream saw the host {echoed.host}")
    if entry.get("upstream_tls", echoed.tls is not None) != (echoed.tls is not None):
        problems.append(f"the upstream saw {echoed.tls}")
    for name, value in cast("Mapping[str, object]", entry.get("upstream_headers", {})).items():
        if echoed.header(name) != value:
            problems.append(f"the upstream saw {name}: {echoed.header(name)}")
    return problems
