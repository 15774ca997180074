"""Fleets against a real API server, by a user who has the rights of `rbac.RULES` and may list owners, and no others."""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import NoReturn, cast

import msgspec
import pytest

from portway.infra.kubernetes.manifests import DEPLOYMENT, Ref
from portway.infra.kubernetes.owners import Owners
from portway.model.edge import Edge
from portway.model.fleet import Fleet, FleetAddress, FleetPort
from portway.model.names import Transport
from portway.objects.verdict import ObjectKey
from tests.cluster.control_plane import ControlPlane
from tests.cluster.fleet_world import COLLECTED, NAMESPACE, WHOLE, fleet, fleet_plane, part, portway
from tests.kubernetes.planes import client_of

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    yield from fleet_plane(tmp_path_factory.mktemp("fleets"))


async def test_a_fleet_is_made_and_then_left_alone(plane: ControlPlane) -> None:
    async with portway(plane, "made") as world:
        world.applier.want(fleet("made"))
        await world.settled()
        assert world.kinds("portway-made") == WHOLE
        assert part(world.get("deployment", "portway-made"), "spec", "replicas") == 2
        assert world.applier.statistics().failed == {}
    # Another replica leads now: it finds all as wanted.
    async with portway(plane, "made") as world:
        world.applier.want(fleet("made"))
        await world.settled()
        assert world.applier.statistics().applied == 0
        service = world.get("service", "portway-made")
        world.plane.kubectl(
            "patch", "service", "portway-made", "-n", NAMESPACE, "--subresource=status", "--type=merge",
            "-p", '{"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}}',
        )  # fmt: skip
        name = f"gateway/{NAMESPACE}/made"
        await world.until(lambda: world.observed[name].addresses == (FleetAddress("IPAddress", "192.0.2.7"),))
        # An address that comes is no reason to write.
        await world.settled()
        assert (service is not None, world.applier.statistics().applied) == (True, 0)


async def test_a_new_listener_touches_the_service_only(plane: ControlPlane) -> None:
    async with portway(plane, "listeners") as world:
        world.applier.want(fleet("ports"))
        await world.settled()
        applied = world.applier.statistics().applied
        generation = part(world.get("deployment", "portway-ports"), "metadata", "generation")
        world.applier.want(fleet("ports", 80, 443))
        await world.settled()
        assert world.applier.statistics().applied == applied + 1
        assert part(world.get("deployment", "portway-ports"), "metadata", "generation") == generation
        ports = part(world.get("service", "portway-ports"), "spec", "ports")
        assert [part(port, "port") for port in cast("list[object]", ports)] == [80, 443]
        world.applier.want(fleet("ports", 443))
        await world.settled()
        ports = part(world.get("service", "portway-ports"), "spec", "ports")
        assert [part(port, "port") for port in cast("list[object]", ports)] == [443]


async def test_who_scales_is_not_contradicted_unless_a_number_was_said(plane: ControlPlane) -> None:
    async with portway(plane, "scaled") as world:

        async def replicas() -> object:
            await world.settled()
            return part(world.get("deployment", "portway-scaled"), "spec", "replicas")

        world.applier.want(fleet("scaled"))
        assert await replicas() == 2
        world.plane.kubectl("scale", "deployment", "portway-scaled", "-n", NAMESPACE, "--replicas=3")
        world.applier.want(fleet("scaled", parameters={"pod": {"labels": {"a": "b"}}}))
        assert await replicas() == 3
        world.applier.want(fleet("scaled", parameters={"workload": {"replicas": 5}}))
        assert await replicas() == 5
        # Nobody says a number any more: nothing falls back to one.
        world.applier.want(fleet("scaled", parameters={"workload": {"autoscaling": {"maxReplicas": 9}}}))
        assert await replicas() == 5
        assert "horizontalpodautoscaler" in world.kinds("portway-scaled")
        world.applier.want(fleet("scaled"))
        assert await replicas() == 5
        assert world.kinds("portway-scaled") == WHOLE


async def test_an_autoscaler_is_not_contradicted(plane: ControlPlane) -> None:
    """It writes to `scale`, and to nothing else."""
    scaling = {"workload": {"autoscaling": {"minReplicas": 2, "maxReplicas": 9}}}
    async with portway(plane, "autoscaled") as world:
        world.applier.want(fleet("autoscaled", parameters=scaling))
        await world.settled()
        applied = world.applier.statistics().applied
        ref = Ref(DEPLOYMENT, NAMESPACE, "portway-autoscaled")
        fleet_name = f"gateway/{NAMESPACE}/autoscaled"
        for number in (7, 3):
            world.plane.kubectl("scale", "deployment", ref.name, "-n", NAMESPACE, f"--replicas={number}")
            await world.until(lambda: world.inventory.of_fleet(fleet_name)[ref].wanted == number)  # noqa: B023 - at once
            await world.settled()
            assert part(world.get("deployment", ref.name), "spec", "replicas") == number
        assert world.applier.statistics().applied == applied
        # Nor when there is something to write, or by another leader.
        world.applier.want(fleet("autoscaled", parameters={**scaling, "pod": {"labels": {"a": "b"}}}))
        await world.settled()
        assert part(world.get("deployment", ref.name), "spec", "replicas") == 3
    async with portway(plane, "autoscaled") as world:
        world.applier.want(fleet("autoscaled", parameters=scaling))
        await world.settled()
        assert part(world.get("deployment", ref.name), "spec", "replicas") == 3


async def test_what_somebody_breaks_is_put_right(plane: ControlPlane) -> None:
    async with portway(plane, "broken") as world:
        world.applier.want(fleet("broken"))
        await world.settled()
        world.plane.kubectl(
            "patch",
            "service",
            "portway-broken",
            "-n",
            NAMESPACE,
            "--type=merge",
            "-p",
            '{"spec": {"type": "ClusterIP"}}',
        )
        world.plane.kubectl("delete", "serviceaccount", "portway-broken", "-n", NAMESPACE)
        await world.until(lambda: part(world.get("service", "portway-broken"), "spec", "type") == "LoadBalancer")
        await world.until(lambda: world.kinds("portway-broken") == WHOLE)
        # What others put beside ours stays.
        world.plane.kubectl("annotate", "service", "portway-broken", "-n", NAMESPACE, "their.example/note=1")
        world.applier.want(fleet("broken", 81))
        await world.settled()
        annotations = part(world.get("service", "portway-broken"), "metadata", "annotations")
        assert cast("Mapping[str, str]", annotations)["their.example/note"] == "1"


MARKS = {
    "the label is gone": ("label", "portway.dev/controller-"),
    "the fleet is gone": ("annotate", "portway.dev/fleet-"),
    "another fleet": ("annotate", "portway.dev/fleet=ingress/another"),
}


@pytest.mark.parametrize("case", MARKS)
async def test_whose_an_object_is_is_put_right(plane: ControlPlane, case: str) -> None:
    verb, change = MARKS[case]
    name = f"marred-{list(MARKS).index(case)}"
    made = f"portway-{name}"
    async with portway(plane, name) as world:
        world.applier.want(fleet(name))
        world.applier.complete()
        await world.settled()
        world.plane.kubectl("scale", "deployment", made, "-n", NAMESPACE, "--replicas=5")
        uid = part(world.get("deployment", made), "metadata", "uid")
        objects = {kind: world.get(kind, made) for kind in WHOLE}
        for kind in sorted(WHOLE):
            world.plane.kubectl(verb, kind, made, "-n", NAMESPACE, "--overwrite", change)

        def marks(kind: str, of: Mapping[str, object] | None) -> list[object]:
            metadata = cast("Mapping[str, Mapping[str, str]]", part(of, "metadata"))
            return [metadata["labels"].get("portway.dev/controller"), metadata["annotations"].get("portway.dev/fleet")]

        for kind, before in objects.items():
            await world.until(lambda: marks(kind, world.get(kind, made)) == marks(kind, before))  # noqa: B023 - at once
        await world.settled()
        deployment = world.get("deployment", made)
        assert (part(deployment, "metadata", "uid"), part(deployment, "spec", "replicas")) == (uid, 5)
        assert (world.applier.statistics().failed, world.applier.statistics().deleted) == ({}, 0)


async def test_all_that_can_be_said_is_accepted_by_the_api_server(plane: ControlPlane) -> None:
    parameters = {
        "workload": {"type": "DaemonSet"},
        "pod": {"hostNetwork": True, "tolerations": [{"operator": "Exists"}], "nodeSelector": {"role": "edge"}},
        "service": {
            "type": "NodePort",
            "nodePorts": [{"port": 80, "nodePort": 30080}],
            "externalTrafficPolicy": "Local",
        },
        "proxy": {"logLevel": "info", "concurrency": 2, "drainTime": "1m"},
    }
    async with portway(plane, "accepted") as world:
        world.applier.want(fleet("edge", 80, 443, parameters=parameters))
        world.applier.want(fleet("hostports", parameters={"container": {"hostPorts": True}}))
        world.applier.want(fleet("two", requested=("192.0.2.1", "2001:db8::1")))
        world.applier.want(fleet("x" * 253))
        await world.settled()
        assert world.applier.statistics().failed == {}
        assert world.kinds("portway-edge") == {"serviceaccount", "configmap", "service", "daemonset"}
        assert world.kinds("portway-hostports") == WHOLE - {"service"}
        applied = world.applier.statistics().applied
    async with portway(plane, "accepted") as world:
        world.applier.want(fleet("edge", 80, 443, parameters=parameters))
        await world.settled()
        assert (applied > 0, world.applier.statistics().applied) == (True, 0)


async def test_a_held_fleet_stays_as_it_is(plane: ControlPlane) -> None:
    async with portway(plane, "held") as world:
        world.applier.want(fleet("held"))
        world.applier.complete()
        await world.settled()
        applied = world.applier.statistics().applied
        world.applier.want(fleet("held", 81, held="its parameters make no sense"))
        world.applier.want(fleet("never", held="its parameters make no sense"))
        await world.settled()
        statistics = world.applier.statistics()
        assert (statistics.applied, statistics.deleted, statistics.held) == (applied, 0, 2)
        assert (world.kinds("portway-held"), world.kinds("portway-never")) == (WHOLE, set())
        # What its pods cannot do without is no setting of anybody's.
        world.applier.use_plane(msgspec.structs.replace(world.data_plane, authorities="NEW", image="portway:new"))
        await world.until(lambda: part(world.get("configmap", "portway-held"), "data", "ca.crt") == "NEW")
        world.plane.kubectl("delete", "serviceaccount", "portway-held", "-n", NAMESPACE)
        await world.until(lambda: world.kinds("portway-held") == WHOLE)
        await world.settled()
        assert "portway:new" not in str(world.get("deployment", "portway-held"))
        assert world.applier.statistics().applied == applied + 2


async def test_a_fleet_that_nobody_wants_goes_when_that_is_certain(plane: ControlPlane) -> None:
    async with portway(plane, "gone") as world:
        world.applier.want(fleet("gone"))
        await world.settled()
    # A new leader, whose sources have not said all yet.
    async with portway(plane, "gone") as world:
        await world.settled()
        assert world.kinds("portway-gone") == WHOLE
        world.applier.want(fleet("stays"))
        world.applier.complete()
        await world.until(lambda: world.kinds("portway-gone") == set())
        await world.settled()
        assert world.kinds("portway-stays") == WHOLE


async def test_a_fleet_whose_owner_cannot_be_read_stays(plane: ControlPlane) -> None:
    read = set[str]()
    moment = timedelta(seconds=0.1)
    async with portway(plane, "unread", linger=moment, is_certain=lambda fleet: fleet in read) as world:
        wanted = fleet("unread")
        world.applier.want(wanted)
        await world.settled()
        world.applier.want({}, tuple(wanted))
        world.applier.complete()
        await asyncio.sleep(1.0)
        assert world.applier.statistics().deleted == 0
        read |= wanted.keys()
        await world.until(lambda: world.kinds("portway-unread") == set())


async def test_a_fleet_that_is_gone_for_a_moment_stays(plane: ControlPlane) -> None:
    async with portway(plane, "moment", linger=timedelta(seconds=1)) as world:
        wanted = fleet("moment")
        world.applier.want(wanted)
        world.applier.complete()
        await world.settled()
        world.applier.want({}, tuple(wanted))
        await asyncio.sleep(0.3)
        world.applier.want(wanted)
        await asyncio.sleep(1.2)
        assert world.applier.statistics().deleted == 0
        world.applier.want({}, tuple(wanted))
        await world.until(lambda: world.kinds("portway-moment") == set())


GATEWAY = f"""
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: asked, namespace: {NAMESPACE}}}
spec: {{gatewayClassName: ours, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}
"""
GATEWAY_CLASS = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours}
spec: {controllerName: portway.dev/gateway-controller}
"""
INGRESS_CLASS = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: asked}
spec: {controller: portway.dev/ingress-controller}
"""
OF_CLASS = Fleet(
    name="ingress/asked",
    namespace=NAMESPACE,
    owner=ObjectKey("IngressClass", "", "asked"),
    ports=(FleetPort(80, Transport.TCP),),
)

ASKED_FOR = {
    # By what, and as what the API server is told last: then the fleet may go.
    "a Gateway and its class": (GATEWAY_CLASS, GATEWAY),
    "a Gateway, until its class is another's": (GATEWAY, GATEWAY_CLASS),
    "an IngressClass": (INGRESS_CLASS,),
}


@pytest.mark.parametrize("case", ASKED_FOR)
async def test_a_fleet_stays_as_long_as_its_owner_is_there(plane: ControlPlane, case: str) -> None:
    """Whatever we have heard: a watch hangs after a deletion, and the class is made anew meanwhile."""
    *others, last = manifests = ASKED_FOR[case]
    wanted = {OF_CLASS.name: OF_CLASS} if last is INGRESS_CLASS else fleet("asked")
    made = "portway-ingress-asked" if last is INGRESS_CLASS else "portway-asked"
    asked = ("list", "ingressclasses" if last is INGRESS_CLASS else "gatewayclasses")
    async with portway(plane, "asked", linger=timedelta(seconds=0.1)) as world:
        for manifest in manifests:
            world.plane.kubectl("apply", "-f", "-", stdin=manifest)
        world.applier.want(wanted)
        world.applier.complete()
        await world.settled()
        world.applier.want({}, tuple(wanted))
        await world.until(lambda: world.client.statistics().requests.get(asked, 0) >= 3)
        assert (world.applier.statistics().deleted, world.kinds(made)) == (0, WHOLE)
        world.plane.kubectl("delete", "-f", "-", stdin=last)
        await world.until(lambda: world.kinds(made) == set())
        for manifest in others:
            world.plane.kubectl("delete", "-f", "-", stdin=manifest)


async def test_a_fleet_whose_owner_is_another_controllers_goes(plane: ControlPlane) -> None:
    theirs = INGRESS_CLASS.replace("portway.dev/", "example.com/")
    async with portway(plane, "theirs") as world:
        world.applier.want({OF_CLASS.name: OF_CLASS})
        world.applier.complete()
        await world.settled()
        world.plane.kubectl("apply", "-f", "-", stdin=theirs)
        world.applier.want({}, (OF_CLASS.name,))
        await world.until(lambda: world.kinds("portway-ingress-asked") == set())
        world.plane.kubectl("delete", "-f", "-", stdin=theirs)


async def test_a_fleet_stays_if_nobody_can_say_whether_its_owner_is_there(plane: ControlPlane) -> None:
    nobody = client_of(plane.user("nobody"))
    try:
        async with portway(plane, "unsaid", is_asked_for=Owners(nobody, Edge()).want) as world:
            wanted = fleet("unsaid")
            world.applier.want(wanted)
            world.applier.complete()
            await world.settled()
            world.applier.want({}, tuple(wanted))
            await world.until(lambda: nobody.statistics().requests.get(("list", "gateways"), 0) >= 2)
            assert (world.applier.statistics().deleted, world.kinds("portway-unsaid")) == (0, WHOLE)
    finally:
        await nobody.close()


async def test_who_may_not_lead_any_more_writes_and_deletes_nothing(plane: ControlPlane) -> None:
    """A process that was stopped for a while wakes up with work at hand, and has not been told yet."""
    async with portway(plane, "stopped") as world:
        gone = fleet("gone-meanwhile")
        world.applier.want({**fleet("stopped"), **gone})
        world.applier.complete()
        await world.settled()
        before = world.applier.statistics()
        world.leads = False
        world.applier.want({**fleet("stopped", 80, 81), **fleet("new")}, tuple(gone))
        # It looks again, as it might lead after all.
        await world.until(lambda: world.client.statistics().requests.get(("list", "gateways"), 0) >= 2)
        now = world.applier.statistics()
        assert (now.applied, now.deleted, now.failed) == (before.applied, before.deleted, {})
        assert (world.kinds("portway-gone-meanwhile"), world.kinds("portway-new")) == (WHOLE, set())
        world.leads = True
        await world.until(lambda: world.kinds("portway-gone-meanwhile") == set())
        await world.until(lambda: world.kinds("portway-new") == WHOLE)


async def test_several_portways_never_touch_each_others_objects(plane: ControlPlane) -> None:
    async with portway(plane, "ours") as ours, portway(plane, "theirs") as theirs:
        ours.applier.want(fleet("mine"))
        await ours.settled()
        theirs.applier.complete()
        theirs.applier.want(fleet("mine", 81))
        name = f"gateway/{NAMESPACE}/mine"
        await theirs.until(lambda: "another Portway" in theirs.observed[name].failed)
        assert theirs.applier.statistics().applied == 0
        ours.plane.kubectl("create", "service", "clusterip", "portway-foreign", "--tcp=80", "-n", NAMESPACE)
        ours.applier.want(fleet("foreign"))
        await ours.until(lambda: bool(ours.observed[f"gateway/{NAMESPACE}/foreign"].failed))
        assert "not Portway's; rename or delete it" in ours.observed[f"gateway/{NAMESPACE}/foreign"].failed
        assert part(ours.get("service", "portway-foreign"), "spec", "type") == "ClusterIP"
        # It is tried again by itself.
        ours.plane.kubectl("delete", "service", "portway-foreign", "-n", NAMESPACE)
        await ours.until(lambda: not ours.observed[f"gateway/{NAMESPACE}/foreign"].failed)
        assert ours.kinds("portway-foreign") == WHOLE


async def test_what_the_api_server_refuses_is_told_and_hurts_no_other(plane: ControlPlane) -> None:
    bad = {"pod": {"affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "not a key"}]}}}}  # fmt: skip
    async with portway(plane, "refused") as world:
        world.applier.want({**fleet("refused", parameters=bad), **fleet("fine")})
        name = f"gateway/{NAMESPACE}/refused"
        await world.until(lambda: "topologyKey" in world.observed[name].failed)
        await world.until(lambda: world.kinds("portway-fine") == WHOLE)
        world.applier.want(fleet("refused"))
        await world.until(lambda: not world.observed[name].failed)
        assert world.kinds("portway-refused") == WHOLE


class Unforeseen(dict[str, str]):
    """Labels that end in a mistake of ours."""

    def items(self) -> NoReturn:
        raise RuntimeError("nobody foresaw this")


async def test_a_fleet_that_nobody_foresaw_hurts_no_other(plane: ControlPlane) -> None:
    async with portway(plane, "unforeseen") as world:
        sound = fleet("unforeseen")
        broken = {name: msgspec.structs.replace(made, labels=Unforeseen()) for name, made in sound.items()}
        world.applier.want({**broken, **fleet("beside")})
        (name,) = broken
        await world.until(lambda: "RuntimeError: nobody foresaw this" in world.observed[name].failed)
        await world.until(lambda: world.kinds("portway-beside") == WHOLE)
        assert world.applier.statistics().failed.keys() == {name}
        world.applier.want(sound)
        await world.until(lambda: world.kinds("portway-unforeseen") == WHOLE)
        await world.until(lambda: not world.observed[name].failed)


async def test_a_namespace_that_is_gone_is_no_mistake_of_a_gateway(plane: ControlPlane) -> None:
    of_gateway = {name: msgspec.structs.replace(made, namespace="nowhere") for name, made in fleet("lost").items()}
    owner = ObjectKey("IngressClass", "", "lost")
    of_class = {
        "ingress/lost": Fleet(
            name="ingress/lost", namespace="nowhere", owner=owner, ports=of_gateway[f"gateway/{NAMESPACE}/lost"].ports
        )
    }
    async with portway(plane, "nowhere") as world:
        world.applier.want({**of_gateway, **of_class})
        # Portway's own namespace goes with nobody.
        await world.until(lambda: bool(world.observed["ingress/lost"].failed))
        assert "create the namespace" in world.observed["ingress/lost"].failed
        await asyncio.sleep(1)
        assert world.applier.statistics().failed.keys() == {"ingress/lost"}


async def test_proxies_are_made_though_their_service_is_refused(plane: ControlPlane) -> None:
    taken = {"service": {"type": "NodePort", "nodePorts": [{"port": 80, "nodePort": 1}]}}
    async with portway(plane, "serviceless") as world:
        world.applier.want(fleet("serviceless", parameters=taken))
        name = f"gateway/{NAMESPACE}/serviceless"
        await world.until(lambda: world.kinds("portway-serviceless") == WHOLE - {"service"})
        await world.until(lambda: "nodePort" in world.observed[name].failed)
        world.applier.want(fleet("serviceless"))
        await world.until(lambda: not world.observed[name].failed)
        await world.until(lambda: world.kinds("portway-serviceless") == WHOLE)


async def test_a_service_becomes_of_another_type_than_its_class_says(plane: ControlPlane) -> None:
    of_class = {
        "loadBalancerClass": "example.com/lb",
        "loadBalancerSourceRanges": ["192.0.2.0/24"],
        "allocateLoadBalancerNodePorts": False,
        "externalTrafficPolicy": "Local",
        "nodePorts": [{"port": 80, "nodePort": 30081}],
    }
    async with portway(plane, "types") as world:
        for kind in ("LoadBalancer", "NodePort", "ClusterIP", "LoadBalancer"):
            world.applier.want(fleet("types", parameters={"service": {**of_class, "type": kind}}))
            await world.settled()
            assert world.applier.statistics().failed == {}
            assert part(world.get("service", "portway-types"), "spec", "type") == kind


async def test_objects_go_with_their_gateway(plane: ControlPlane) -> None:
    gateway = f"""
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: owner, namespace: {NAMESPACE}}}
spec: {{gatewayClassName: portway, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}
"""
    async with portway(plane, "owner", linger=timedelta(hours=1)) as world:
        world.plane.kubectl("apply", "-f", "-", stdin=gateway)
        uid = part(world.get("gateway", "owner"), "metadata", "uid")
        wanted = fleet("owner", uid=str(uid))
        world.applier.want(wanted)
        await world.settled()
        assert world.kinds("portway-owner") == WHOLE
        world.plane.kubectl("delete", "gateway", "owner", "-n", NAMESPACE)
        world.applier.want({}, tuple(wanted))
        await world.until(lambda: world.kinds("portway-owner") == set(), seconds=COLLECTED)
