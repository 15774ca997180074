"""`explain` against a real Envoy: random configurations, random requests, one answer.

`explain` evaluates the model, Envoy what is built from it, so whatever differs is a bug in `explain` or in `envoy/`.
Where chance decides (weights, fractions) Envoy's answer must be one of those that `explain` lists.

    PORTWAY_DIFFERENTIAL_SEED=7 PORTWAY_DIFFERENTIAL_CONFIGURATIONS=400 pytest tests/e2e/test_differential.py

A failure tells the seed of its configuration, the smallest objects that still show it, the request and both answers.
"""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from random import Random
from typing import NamedTuple

import pytest
import yaml

from portway.explain.trace import Explanation, World, explain
from tests.explain.asking import Asker, Question, disagreement
from tests.explain.generated import Document, Generator
from tests.explain.live import Case, Live, live
from tests.explain.shrinking import smaller
from tests.kit.answer import Answer, ConnectionFailed
from tests.kit.answer import Failure as FailureKind
from tests.kit.connect import Endpoint, accept_any
from tests.kit.http1_client import Http1Connection
from tests.translate.ingress.kit import new_engine, objects_of, put

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SEED = int(os.environ.get("PORTWAY_DIFFERENTIAL_SEED", "20240611"))
CONFIGURATIONS = int(os.environ.get("PORTWAY_DIFFERENTIAL_CONFIGURATIONS", "80"))
REQUESTS = int(os.environ.get("PORTWAY_DIFFERENTIAL_REQUESTS", "90"))
"""Of each configuration."""
BATCH = 80
"""Configurations that one Envoy serves."""
CLIENTS = 8
TLS = accept_any(("http/1.1",))


class Failure(NamedTuple):
    seed: int
    documents: Sequence[Document]
    question: Question
    problem: str


async def test_explain_foresees_what_envoy_answers() -> None:
    failures: list[Failure] = []
    kinds: Counter[str] = Counter()
    for first in range(0, CONFIGURATIONS, BATCH):
        seeds = range(SEED + first, SEED + min(first + BATCH, CONFIGURATIONS))
        async for failure in _run(seeds, kinds):
            failures.append(failure)
    print(f"{CONFIGURATIONS} configurations, {kinds.total()} requests: {dict(kinds.most_common())}")  # noqa: T201
    assert not failures, await _told(failures)


async def _run(seeds: Iterable[int], kinds: Counter[str]) -> AsyncIterator[Failure]:
    configurations = {f"c{seed}": (seed, Generator(Random(seed)).configuration()) for seed in seeds}
    worlds = {name: _world(documents) for name, (_, documents) in configurations.items()}
    async with live(*(Case(name=name, engine=world.engine) for name, world in worlds.items())) as served:
        todo = [
            (name, question)
            for name, (seed, _) in configurations.items()
            for question in Asker(Random(seed), worlds[name]).questions(REQUESTS)
        ]
        found: list[Failure] = []

        async def work(share: Iterable[tuple[str, Question]]) -> None:
            for name, question in share:
                foreseen, answer = await _both(served, name, worlds[name], question)
                kinds[_kind(foreseen)] += 1
                problem = disagreement(foreseen, answer)
                if problem:
                    seed, documents = configurations[name]
                    found.append(Failure(seed, documents, question, problem))

        async with asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(work(todo[number::CLIENTS]))
    for failure in found:
        yield failure


def _world(documents: Sequence[Document]) -> World:
    engine = new_engine()
    for document in documents:
        with contextlib.suppress(ValueError):  # no valid object: a cluster would refuse it
            put(engine, objects_of(yaml.safe_dump(document)))
    return World(engine)


async def _both(served: Live, name: str, world: World, question: Question) -> tuple[Explanation, Answer]:
    foreseen = explain(world, question.request())
    port = served.port(name, question.port)
    if port is None:
        return foreseen, Answer(failure=FailureKind.REFUSED)
    secure = question.scheme == "https"
    endpoint = Endpoint(port=port, tls=TLS if secure else None, server_name=question.server_name)
    try:
        async with asyncio.timeout(20), AsyncExitStack() as stack:
            connection = await stack.enter_async_context(await Http1Connection.open(endpoint))
            answer = await connection.request(
                question.target, host=question.authority, method=question.method, headers=question.headers
            )
    except ConnectionFailed as error:
        return foreseen, Answer(failure=error.failure)
    return foreseen, answer


def _kind(foreseen: Explanation) -> str:
    first = foreseen.outcomes[0]
    if len(foreseen.outcomes) > 1:
        return "by chance"
    return str(first.status) if first.status else "forwarded" if first.upstream is not None else "closed"


async def _told(failures: Sequence[Failure]) -> str:
    """The failures, the first of each sort with the least objects that show it."""
    first = failures[0]
    documents = await smaller(first.documents, lambda some: _fails(some, first.question))
    lines = [f"{len(failures)} answers were not foreseen"]
    lines += [f"seed {failure.seed}: {failure.question}\n    {failure.problem}" for failure in failures[:40]]
    shown = [one for one in documents if one["kind"] not in ("EndpointSlice", "Service", "Secret")]
    lines += [f"the first one (seed {first.seed}) with the least objects:", yaml.safe_dump_all(shown)]
    return "\n".join(lines)


async def _fails(documents: Sequence[Document], question: Question) -> bool:
    world = _world(documents)
    async with live(Case(name="c", engine=world.engine)) as served:
        for _ in range(5 if len(explain(world, question.request()).outcomes) > 1 else 1):
            if disagreement(*await _both(served, "c", world, question)):
                return True
    return False
