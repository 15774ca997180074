"""The part of Portway that makes fleets, against a real API server, by a user who has the rights of `rbac.RULES` and,
as our source has it, that to list owners, and no others."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import cast

import msgspec
import yaml

from portway.infra.kubernetes import rbac
from portway.infra.kubernetes.applier import FleetApplier
from portway.infra.kubernetes.data_plane import DataPlane
from portway.infra.kubernetes.inventory import Inventory
from portway.infra.kubernetes.manifests import DEPLOYMENT
from portway.infra.kubernetes.observer import FleetObserver
from portway.infra.kubernetes.owners import Owners
from portway.infra.kubernetes.seen import Seen
from portway.kubernetes.client import ApiClient
from portway.model.edge import Edge
from portway.model.fleet import Fleet, FleetAddress, FleetPort, ObservedFleet, gateway_fleet
from portway.model.names import Transport
from portway.objects.fleets_v1alpha1 import FleetParametersSpec, joined
from portway.objects.kinds import KINDS
from portway.objects.scalars import decode_hook
from portway.objects.verdict import ObjectKey
from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane
from tests.kubernetes.planes import client_of, running_plane

NAMESPACE = "fleets"
ROLE = "fleets"
LIMIT = 20.0
"""Seconds for anything to happen."""
COLLECTED = 90.0
"""The same for the garbage collector, which looks for kinds that are new to it twice a minute."""


def fleet_plane(folder: Path) -> Iterator[ControlPlane]:
    """A control plane with that user and a namespace."""
    for plane in running_plane(folder, "standard"):
        asyncio.run(_prepare(plane))
        yield plane


async def _prepare(plane: ControlPlane) -> None:
    rules = [
        {"apiGroups": list(rule.groups), "resources": list(rule.resources), "verbs": list(rule.verbs)}
        for rule in rbac.RULES
    ]
    for kind in (KINDS[name] for name in ("Gateway", "GatewayClass", "IngressClass")):
        rules.append({"apiGroups": [kind.group], "resources": [kind.plural], "verbs": ["list"]})
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": ROLE}, "rules": rules}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": ROLE},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": ROLE},
        "subjects": [{"kind": "User", "name": "portway", "apiGroup": group}],
    }
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    async with Api(plane.administrator) as api:
        await api.apply(yaml.safe_dump_all([space, role, binding]))


class World:
    """One Portway's part that makes fleets, and what comes of it."""

    def __init__(
        self,
        plane: ControlPlane,
        client: ApiClient,
        controller: str,
        linger: timedelta,
        image: str,
        is_certain: Callable[[str], bool],
        is_asked_for: Callable[[str], Awaitable[bool]] | None,
    ) -> None:
        self.plane = plane
        self.ahead = 0.0
        """Seconds by which the applier's clock is ahead."""
        self.client = client
        self.observed: dict[str, ObservedFleet] = {}
        self.data_plane = DataPlane(
            image=image, control_plane="portway:18000", authorities="PEM", controller=controller
        )
        self.leads = True
        inventory = Inventory(controller)
        self.applier = FleetApplier(
            client,
            inventory,
            self.data_plane,
            self._publish,
            clock=self._clock,
            linger=linger,
            may_write=lambda: self.leads,
            is_certain=is_certain,
            is_asked_for=is_asked_for or Owners(client, Edge()).want,
        )
        self.observer = FleetObserver(client, inventory, needs_nodes=lambda: self.applier.needs_nodes)
        self.inventory = inventory

    def _clock(self) -> float:
        return time.monotonic() + self.ahead

    def _publish(self, name: str, observed: ObservedFleet) -> None:
        self.observed[name] = observed

    async def until(self, condition: Callable[[], bool], *, seconds: float = LIMIT) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - of several parts, in a test
                await asyncio.sleep(0.02)

    async def settled(self) -> None:
        """Until all is as wanted, and has been heard of."""
        await self.until(lambda: self.inventory.is_listed and self.applier.statistics().waiting == 0)

    def workloads(self) -> list[Seen]:
        return [
            seen
            for name in self.inventory.fleets()
            for ref, seen in self.inventory.of_fleet(name).items()
            if ref.resource == DEPLOYMENT
        ]

    def get(self, kind: str, name: str) -> Mapping[str, object] | None:
        """An object, as the administrator sees it."""
        text = self.plane.kubectl("get", kind, name, "-n", NAMESPACE, "-o", "json", "--ignore-not-found")
        return cast("Mapping[str, object]", msgspec.json.decode(text)) if text.strip() else None

    def kinds(self, name: str) -> set[str]:
        """Kinds of the objects with this name."""
        every = "serviceaccount,configmap,service,deployment,daemonset,hpa,pdb"
        text = self.plane.kubectl("get", every, "-n", NAMESPACE, "-o", "name")
        return {line.split("/")[0].partition(".")[0] for line in text.split() if line.endswith(f"/{name}")}


@asynccontextmanager
async def portway(
    plane: ControlPlane,
    controller: str,
    linger: timedelta = timedelta(0),
    image: str = "portway:test",
    is_certain: Callable[[str], bool] = lambda fleet: True,
    is_asked_for: Callable[[str], Awaitable[bool]] | None = None,
) -> AsyncIterator[World]:
    client = client_of(plane.user("portway"))
    world = World(plane, client, controller, linger, image, is_certain, is_asked_for)
    tasks = [asyncio.ensure_future(run()) for run in (world.observer.run, world.applier.run)]  # noqa: TID251 - ended below
    try:
        yield world
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()


def fleet(
    name: str,
    *ports: int,
    parameters: Mapping[str, object] | None = None,
    of_class: Mapping[str, object] | None = None,
    uid: str = "",
    held: str = "",
    requested: Sequence[str] = (),
) -> Mapping[str, Fleet]:
    owner = ObjectKey("Gateway", NAMESPACE, name)
    own, shared = (
        msgspec.convert(said or {}, FleetParametersSpec, dec_hook=decode_hook) for said in (parameters, of_class)
    )
    made = Fleet(
        name=gateway_fleet(owner),
        namespace=NAMESPACE,
        owner=owner,
        owner_uid=uid,
        ports=tuple(FleetPort(port, Transport.TCP) for port in ports or (80,)),
        parameters=joined(shared, own),
        own_parameters=own,
        requested=tuple(FleetAddress("IPAddress", address) for address in requested),
        held=held,
    )
    return {made.name: made}


WHOLE = {"serviceaccount", "configmap", "service", "deployment", "poddisruptionbudget"}


def part(found: object, *path: str) -> object:
    """A field of an object."""
    for step in path:
        assert isinstance(found, dict)
        found = found[step]
    return found
