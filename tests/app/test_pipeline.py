"""When statuses give way: while something is made that proxies wait for, and while they make it theirs."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from portway.app.compiler import make_engine
from portway.app.fallback import make_fallback_certificate
from portway.app.pipeline import ABSORBED, Pipeline
from portway.model.resource import ResourceDelta, ResourceType
from portway.settings import Edge
from portway.store import ChangeSet
from tests.translate.ingress.kit import objects_of

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: portway}
spec: {controller: portway.dev/ingress-controller}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  ingressClassName: portway
  rules:
  - host: web.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{port: 80}]}
"""
ENDPOINTS = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
ports: [{name: '', port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.0.0.1]}]
"""


class Told:
    """A source that says what it is told to."""

    def __init__(self) -> None:
        self.queue = asyncio.Queue[ChangeSet]()

    def tell(self, text: str) -> None:
        self.queue.put_nowait(ChangeSet(changed=tuple(objects_of(text)), synced=True))

    async def changes(self) -> AsyncIterator[ChangeSet]:
        while True:
            yield await self.queue.get()


@pytest.mark.usefixtures("collector_as_it_was")
async def test_a_route_is_busy_until_proxies_have_it_and_endpoints_are_not() -> None:
    source, published, now = Told(), asyncio.Queue[ResourceDelta](), [0.0]
    pipeline = Pipeline(
        make_engine(Edge(), make_fallback_certificate()),
        [source],
        lambda _, delta: published.put_nowait(delta),
        mark_synced=lambda _: None,
        fleets=[Edge().fleet],
        clock=lambda: now[0],
    )

    def is_busy() -> bool:  # a type checker does not ask a property again
        return pipeline.is_busy

    running = asyncio.ensure_future(pipeline.run())  # noqa: TID251 - the test is its parent
    try:
        source.tell(INGRESS)
        sent = await published.get()
        assert any(resource.key.type is ResourceType.VIRTUAL_HOST for resource in sent.changed)
        await pipeline.caught_up()
        assert is_busy()
        now[0] += ABSORBED.total_seconds()
        assert not is_busy()
        source.tell(ENDPOINTS)
        sent = await published.get()
        assert {resource.key.type for resource in sent.changed} == {ResourceType.ENDPOINTS}
        await pipeline.caught_up()
        assert not is_busy()
    finally:
        running.cancel()
        await asyncio.wait([running])
