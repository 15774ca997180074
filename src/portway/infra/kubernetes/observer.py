"""Follows our own objects in the cluster, and Nodes and pods as long as some fleet's addresses are theirs.

Only objects with our controller's label are asked for, so it costs what our fleets cost. Runs on every replica: each
tells its proxies' Gateways what addresses they have, and whoever becomes the leader knows what is there.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Final, final

import msgspec
import structlog

from portway.infra.kubernetes.addresses import read_node, read_pod
from portway.infra.kubernetes.inventory import Inventory
from portway.infra.kubernetes.manifests import RESOURCES, Ref, Resource
from portway.infra.kubernetes.names import CONTROLLER, INSTANCE
from portway.infra.kubernetes.seen import read_seen
from portway.kubernetes.client import ApiClient
from portway.kubernetes.errors import ApiError
from portway.kubernetes.events import Event, EventType
from portway.kubernetes.paths import resource_path
from portway.kubernetes.reflector import Reflector

log = structlog.get_logger(__name__)

ASK_NODES: Final = timedelta(seconds=1)
"""Between two looks whether Nodes have become interesting."""


@final
class FleetObserver:
    """Fills an inventory."""

    def __init__(
        self,
        client: ApiClient,
        inventory: Inventory,
        *,
        namespaces: Sequence[str] = (),
        needs_nodes: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        Args:
            namespaces: where fleets can be; empty: everywhere.
            needs_nodes: whether some fleet's addresses are those of Nodes (`FleetApplier.needs_nodes`). Once they are
                followed, that goes on.
        """
        self._client = client
        self._inventory = inventory
        self._namespaces = tuple(namespaces) or ("",)
        self._needs_nodes = needs_nodes
        self._selector = f"{CONTROLLER}={inventory.controller}"
        self._said: dict[str, str] = {}
        """Problems that the log names already, by collection."""
        self._to_list = {resource: len(self._namespaces) for resource in RESOURCES}

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for resource in RESOURCES:
                for namespace in self._namespaces:
                    tasks.create_task(self._follow(resource, namespace))
            while not self._needs_nodes():  # noqa: ASYNC110 - asked of the applier, which need not know who waits
                await asyncio.sleep(ASK_NODES.total_seconds())
            tasks.create_task(self._follow_nodes())
            for namespace in self._namespaces:
                tasks.create_task(self._follow_pods(namespace))

    async def _follow(self, resource: Resource, namespace: str) -> None:
        path = resource_path(resource.group, resource.version, resource.plural, namespace)
        is_listed = False
        async with aclosing(Reflector(self._client, (path,), label_selector=self._selector).events()) as events:
            async for event in events:
                match event.type:
                    case EventType.CHANGED:
                        self._changed(resource, event)
                    case EventType.DELETED:
                        self._inventory.forget(Ref(resource, event.namespace, event.name))
                    case EventType.SYNCED | EventType.MISSING:
                        self._said.pop(resource.plural, None)
                        if not is_listed:
                            is_listed = True
                            self._to_list[resource] -= 1
                        if self._to_list[resource] <= 0:
                            self._inventory.listed(resource)
                    case EventType.FAILED | EventType.DENIED:
                        self._failed(resource.plural, event)
                        if not is_listed:
                            refused = event.type is EventType.DENIED
                            self._inventory.not_listed(resource, str(event.error), refused=refused)

    def _failed(self, plural: str, event: Event) -> None:
        """Say what is wrong with one collection, once. Of a server that cannot be reached the source speaks."""
        if isinstance(event.error, ApiError) and self._said.get(plural) != (problem := str(event.error)):
            self._said[plural] = problem
            log.warning("own objects cannot be followed", resource=plural, problem=problem)

    def _changed(self, resource: Resource, event: Event) -> None:
        try:
            self._inventory.note(read_seen(resource, event.data))
        except msgspec.MsgspecError as error:
            log.warning("own object not understood", object=f"{event.namespace}/{event.name}", problem=str(error))

    async def _follow_nodes(self) -> None:
        async with aclosing(Reflector(self._client, (resource_path("", "v1", "nodes"),)).events()) as events:
            async for event in events:
                match event.type:
                    case EventType.CHANGED:
                        self._inventory.note_node(read_node(event.data))
                    case EventType.DELETED:
                        self._inventory.forget_node(event.name)
                    case EventType.FAILED | EventType.DENIED:
                        self._failed("nodes", event)
                    case EventType.SYNCED | EventType.MISSING:
                        self._said.pop("nodes", None)

    async def _follow_pods(self, namespace: str) -> None:
        path = resource_path("", "v1", "pods", namespace)
        async with aclosing(Reflector(self._client, (path,), label_selector=self._selector).events()) as events:
            async for event in events:
                match event.type:
                    case EventType.CHANGED:
                        self._inventory.note_pod(read_pod(event.data, INSTANCE))
                    case EventType.DELETED:
                        self._inventory.forget_pod(event.namespace, event.name)
                    case EventType.FAILED | EventType.DENIED:
                        self._failed("pods", event)
                    case EventType.SYNCED | EventType.MISSING:
                        self._said.pop("pods", None)
