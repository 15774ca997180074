"""What has to be done so that a fleet's objects are as wanted; and by which addresses it is reached."""

from collections.abc import Mapping, Sequence
from typing import cast

import msgspec
import pytest

from portway.infra.kubernetes.addresses import NodeView, PodView, observe
from portway.infra.kubernetes.data_plane import DataPlane
from portway.infra.kubernetes.manifests import (
    BUDGET,
    DAEMON_SET,
    DEPLOYMENT,
    SERVICE,
    Manifest,
    Ref,
    Resource,
    encode,
    manifests_of,
)
from portway.infra.kubernetes.reconciling import Act, Settled, Update, shown_of, steps_of, why_foreign
from portway.infra.kubernetes.seen import Seen, read_seen
from portway.infra.kubernetes.values import Data
from portway.model.fleet import Fleet, FleetAddress, FleetPort, gateway_fleet
from portway.model.names import Transport
from portway.objects.fleets_v1alpha1 import FleetParametersSpec, joined
from portway.objects.verdict import ObjectKey

WEB = ObjectKey("Gateway", "shop", "web")
PLANE = DataPlane(image="portway:1", control_plane="portway:18000", authorities="PEM", controller="ours")


def fleet_of(
    parameters: Mapping[str, object] | None = None,
    *,
    ports: Sequence[int] = (80,),
    of_class: Mapping[str, object] | None = None,
) -> Fleet:
    own, shared = (msgspec.convert(said or {}, FleetParametersSpec) for said in (parameters, of_class))
    return Fleet(
        name=gateway_fleet(WEB),
        namespace="shop",
        owner=WEB,
        owner_uid="uid",
        ports=tuple(FleetPort(port, Transport.TCP) for port in ports),
        parameters=joined(shared, own),
        own_parameters=own,
    )


def stored(manifest: Manifest, **changes: object) -> Seen:
    """A manifest as the API server shows it: with its own additions, and with something that it writes otherwise."""
    data = cast("dict[str, dict[str, object]]", msgspec.json.decode(manifest.body))
    data["metadata"] |= {
        "uid": "1",
        "resourceVersion": "5",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    data.setdefault("spec", {})["defaulted"] = True
    for path, value in changes.items():
        data[path] = cast("dict[str, object]", value)
    return read_seen(manifest.ref.resource, encode(cast("Data", data)))


def with_replicas(manifest: Manifest, count: int, manager: str) -> Seen:
    seen = stored(manifest)
    data = cast("dict[str, dict[str, object]]", dict(seen.data))
    data["spec"] = {**data["spec"], "replicas": count}
    fields = {"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    data["metadata"] = {**data["metadata"], "uid": "1", "managedFields": [fields]}
    return read_seen(manifest.ref.resource, encode(cast("Data", data)))


def everything(wanted: Sequence[Manifest]) -> dict[Ref, Seen]:
    """All is there as wanted."""
    return {
        each.ref: stored(each) if each.initial is None else with_replicas(each, 2, "portway-initial") for each in wanted
    }


def acts(
    wanted: Sequence[Manifest], seen: Mapping[Ref, Seen], settled: Mapping[Ref, Settled] | None = None
) -> list[tuple[str, str]]:
    return [(step.act.value, step.ref.resource.kind) for step in steps_of(wanted, seen, settled or {})]


def one(wanted: Sequence[Manifest], resource: Resource) -> Manifest:
    (found,) = (each for each in wanted if each.ref.resource == resource)
    return found


def test_a_new_fleet_is_made_in_order() -> None:
    assert acts(manifests_of(fleet_of(), PLANE), {}) == [
        ("apply", "ServiceAccount"),
        ("apply", "ConfigMap"),
        ("apply", "Service"),
        ("apply", "Deployment"),
        ("set initial", "Deployment"),
        ("apply", "PodDisruptionBudget"),
    ]


def test_nothing_is_written_that_is_there() -> None:
    wanted = manifests_of(fleet_of(), PLANE)
    assert acts(wanted, everything(wanted)) == []


def test_what_somebody_changed_is_put_right() -> None:
    wanted = manifests_of(fleet_of(), PLANE)
    service = one(wanted, SERVICE)
    seen = everything(wanted) | {service.ref: stored(service, spec={"type": "ClusterIP"})}
    assert acts(wanted, seen) == [("apply", "Service")]


def test_what_the_server_writes_in_another_way_is_written_once() -> None:
    wanted = manifests_of(fleet_of({"container": {"resources": {"requests": {"cpu": "0.5"}}}}), PLANE)
    deployment = one(wanted, DEPLOYMENT)
    seen = everything(wanted)
    shown = msgspec.json.decode(seen[deployment.ref].body.replace(b'"0.5"', b'"500m"'))
    shown["metadata"]["managedFields"] = [
        {"manager": "portway-initial", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
    ]
    seen[deployment.ref] = read_seen(DEPLOYMENT, msgspec.json.encode(shown))
    assert acts(wanted, seen) == [("apply", "Deployment")]
    settled = {
        deployment.ref: Settled(body=deployment.body, shown=shown_of(deployment, seen[deployment.ref])),
    }
    assert acts(wanted, seen, settled) == []
    # Something else is wanted: what it looked like before says nothing.
    other = manifests_of(fleet_of({"container": {"resources": {"requests": {"cpu": "0.6"}}}}), PLANE)
    assert acts(other, seen, settled) == [("apply", "Deployment")]


def test_a_field_that_is_not_wanted_any_more_is_noticed() -> None:
    before = manifests_of(fleet_of({"pod": {"priorityClassName": "high"}}), PLANE)
    after = manifests_of(fleet_of(), PLANE)
    assert acts(after, everything(before)) == [("apply", "Deployment")]


OTHERS = msgspec.structs.replace(PLANE, image="portway:2")
ON_NODES = {"container": {"hostPorts": True}}
HIGH = {"pod": {"priorityClassName": "high"}}
BEFORE = fleet_of({"workload": {"replicas": 2}}, of_class=ON_NODES)
UPDATES: dict[str, tuple[Fleet, DataPlane, Mapping[str, object], list[tuple[str, Update | None]]]] = {
    # what the fleet is to be now, all proxies, what somebody made of the Deployment: what is written of workloads, and
    # whose wish it is that pods are made anew
    "another version": (BEFORE, OTHERS, {}, [("Deployment", Update.SHARED)]),
    "its owner says something else": (
        fleet_of({"workload": {"replicas": 2}, **HIGH}, of_class=ON_NODES),
        PLANE,
        {},
        [("Deployment", Update.OWN)],
    ),
    "it has another listener": (
        fleet_of({"workload": {"replicas": 2}}, of_class=ON_NODES, ports=(80, 81)),
        PLANE,
        {},
        [("Deployment", Update.OWN)],
    ),
    "its class says something else": (
        fleet_of({"workload": {"replicas": 2}}, of_class={**ON_NODES, **HIGH}),
        PLANE,
        {},
        [("Deployment", Update.SHARED)],
    ),
    "its class wants its ports no more on Nodes": (
        fleet_of({"workload": {"replicas": 2}}),
        PLANE,
        {},
        [("Deployment", Update.SHARED)],
    ),
    "both": (
        fleet_of({"workload": {"replicas": 2}, **HIGH}, of_class=ON_NODES),
        OTHERS,
        {},
        [("Deployment", Update.OWN)],
    ),
    "its class wants another kind of workload": (
        fleet_of({"workload": {"replicas": 2}}, of_class={**ON_NODES, "workload": {"type": "DaemonSet"}}),
        PLANE,
        {},
        [("DaemonSet", Update.SHARED)],
    ),
    # No pod is made anew.
    "its class wants another pace": (
        fleet_of({"workload": {"replicas": 2}}, of_class={**ON_NODES, "workload": {"maxUnavailable": 2}}),
        PLANE,
        {},
        [("Deployment", None)],
    ),
    "its owner wants more of them": (
        fleet_of({"workload": {"replicas": 3}}, of_class=ON_NODES),
        PLANE,
        {},
        [("Deployment", None)],
    ),
    # They are, but not by us.
    "somebody has changed it": (BEFORE, PLANE, {"template": {}}, [("Deployment", None)]),
}


@pytest.mark.parametrize("case", UPDATES)
def test_whose_wish_it_is_that_pods_are_made_anew(case: str) -> None:
    fleet, plane, changed, expected = UPDATES[case]
    before = manifests_of(BEFORE, PLANE)
    seen = everything(before)
    deployment = one(before, DEPLOYMENT)
    data = cast("dict[str, dict[str, object]]", dict(seen[deployment.ref].data))
    data["spec"] = {**data["spec"], **changed}
    seen[deployment.ref] = read_seen(DEPLOYMENT, encode(cast("Data", data)))
    steps = steps_of(manifests_of(fleet, plane), seen, {})
    found = [(step.ref.resource.kind, step.update) for step in steps if step.ref.resource in (DEPLOYMENT, DAEMON_SET)]
    assert found == expected


def test_a_workload_that_says_nothing_of_its_owner_is_of_another_version() -> None:
    before = manifests_of(fleet_of(), PLANE)
    seen = everything(before)
    ref = one(before, DEPLOYMENT).ref
    seen[ref] = msgspec.structs.replace(seen[ref], declared="", template="")
    steps = steps_of(manifests_of(fleet_of(), OTHERS), seen, {})
    assert [(step.ref.resource.kind, step.update) for step in steps] == [("Deployment", Update.SHARED)]


def test_ports_of_a_class_are_a_setting_of_all() -> None:
    owner = ObjectKey("IngressClass", "", "public")
    before = msgspec.structs.replace(fleet_of(of_class=ON_NODES), owner=owner, name="ingress/public")
    after = msgspec.structs.replace(before, ports=(FleetPort(81, Transport.TCP),))
    steps = steps_of(manifests_of(after, PLANE), everything(manifests_of(before, PLANE)), {})
    assert [(step.ref.resource.kind, step.update) for step in steps] == [("Deployment", Update.SHARED)]


REPLICAS = {
    # who set how many, wanted by parameters: what is done
    ("portway-initial", 2, None): [],
    ("kube-controller-manager", 7, None): [],  # an autoscaler of the users' own
    ("portway", 5, None): [("set initial", "Deployment"), ("apply", "Deployment")],  # said before, and now not any more
    ("portway", 5, 5): [],
    ("kube-controller-manager", 7, 5): [("apply", "Deployment")],
}


@pytest.mark.parametrize("case", REPLICAS)
def test_the_number_of_proxies_is_ours_only_if_it_was_said(case: tuple[str, int, int | None]) -> None:
    manager, count, said = case
    before = fleet_of({"workload": {"replicas": 5}} if manager == "portway" else {"workload": {"replicas": said}})
    wanted = manifests_of(fleet_of({"workload": {"replicas": said}}), PLANE)
    seen = everything(wanted)
    deployment = one(manifests_of(before, PLANE), DEPLOYMENT)
    seen[deployment.ref] = with_replicas(deployment, count, manager)
    assert acts(wanted, seen) == REPLICAS[case]
    for step in steps_of(wanted, seen, {}):
        if step.act is Act.SET_INITIAL:
            assert b'"replicas":5' in step.body


def test_of_a_kind_that_is_not_known_nothing_is_written_or_deleted() -> None:
    wanted = manifests_of(fleet_of(), PLANE)
    unlisted = {DEPLOYMENT, DAEMON_SET, BUDGET, SERVICE}
    made = steps_of(wanted, {}, {}, unlisted=unlisted)
    assert {step.ref.resource.kind for step in made} == {"ServiceAccount", "ConfigMap"}
    seen = everything(manifests_of(fleet_of({"workload": {"replicas": 3}}), PLANE))
    fewer = manifests_of(fleet_of({"workload": {"replicas": 1}, "service": {"type": "None"}}), PLANE)
    assert steps_of(fewer, seen, {}, unlisted=unlisted) == []


def test_what_is_too_much_goes() -> None:
    seen = everything(manifests_of(fleet_of(), PLANE))
    wanted = manifests_of(fleet_of({"workload": {"replicas": 1}, "service": {"type": "None"}}), PLANE)
    assert ("delete", BUDGET.kind) in acts(wanted, seen)
    assert ("delete", SERVICE.kind) in acts(wanted, seen)


def test_a_workload_goes_when_its_successor_is_ready() -> None:
    before, after = fleet_of(), fleet_of({"workload": {"type": "DaemonSet"}})
    seen = everything(manifests_of(before, PLANE))
    wanted = manifests_of(after, PLANE)
    assert ("delete", "Deployment") not in acts(wanted, seen)
    daemon_set = one(wanted, DAEMON_SET)
    status = {"desiredNumberScheduled": 2, "numberReady": 1, "updatedNumberScheduled": 2, "observedGeneration": 1}
    seen |= everything(wanted) | {daemon_set.ref: stored(daemon_set, status=status)}
    assert acts(wanted, seen) == [("delete", "PodDisruptionBudget")]
    seen[daemon_set.ref] = stored(daemon_set, status={**status, "numberReady": 2})
    assert ("delete", "Deployment") in acts(wanted, seen)


FOREIGN = {
    "of nobody": ({}, {}, "rename or delete it"),
    "of another Portway": (
        {"app.kubernetes.io/managed-by": "portway", "portway.dev/controller": "theirs"},
        {"portway.dev/fleet": "gateway/shop/a.b"},
        "another Portway",
    ),
    "of another fleet": (
        {"app.kubernetes.io/managed-by": "portway", "portway.dev/controller": "ours"},
        {"portway.dev/fleet": "gateway/shop/a-b-95e3c1ff"},
        "fleet gateway/shop/a-b-95e3c1ff",
    ),
    "of us": (
        {"app.kubernetes.io/managed-by": "portway", "portway.dev/controller": "ours"},
        {"portway.dev/fleet": "gateway/shop/a.b"},
        "",
    ),
    "of us, without label": ({}, {"portway.dev/fleet": "gateway/shop/a.b"}, ""),
    "of us, without annotation": ({"portway.dev/controller": "ours"}, {}, ""),
    "of us, and named after a fleet that has other names": (
        {"portway.dev/controller": "ours"},
        {"portway.dev/fleet": "ingress/web"},
        "",
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_objects_of_others_are_not_ours(case: str) -> None:
    labels, annotations, said = FOREIGN[case]
    metadata = {"name": "portway-a-b-95e3c1ff", "namespace": "shop", "labels": labels, "annotations": annotations}
    found = why_foreign(
        read_seen(SERVICE, msgspec.json.encode({"metadata": metadata})), "ours", fleet="gateway/shop/a.b"
    )
    assert said in ("" if found is None else found.reason)
    assert bool(said) == (found is not None)
    assert (found is not None and found.of_portway) == ("another Portway" in said)


NODES = (
    NodeView(name="b", is_usable=True, internal=("10.0.0.2",)),
    NodeView(name="a", is_usable=True, internal=("10.0.0.1",)),
    NodeView(name="c", is_usable=False, internal=("10.0.0.3",)),
)
PUBLIC = (*NODES, NodeView(name="d", is_usable=True, external=("192.0.2.4",), internal=("10.0.0.4",)))
PODS = (
    PodView(namespace="shop", name="1", instance="portway-web", node="b", is_ready=True),
    PodView(namespace="shop", name="2", instance="portway-web", node="a", is_ready=False),
    PodView(namespace="other", name="1", instance="portway-web", node="a", is_ready=True),
)
LOAD_BALANCER = {"loadBalancer": {"ingress": [{"ip": "192.0.2.7", "ipMode": "VIP"}, {"hostname": "lb.example"}]}}
ADDRESSES: dict[str, tuple[Mapping[str, object], Mapping[str, object], tuple[NodeView, ...], list[str]]] = {
    "a load balancer's": ({}, {"status": LOAD_BALANCER}, (), ["192.0.2.7", "lb.example"]),
    "the cluster's own": (
        {"service": {"type": "ClusterIP"}},
        {"spec": {"clusterIPs": ["10.96.0.9", "fd00::9"]}},
        (),
        ["10.96.0.9", "fd00::9"],
    ),
    "the Nodes'": ({"service": {"type": "NodePort"}}, {}, NODES, ["10.0.0.1", "10.0.0.2"]),
    "the Nodes' outer ones": ({"service": {"type": "NodePort"}}, {}, PUBLIC, ["192.0.2.4"]),
    "of Nodes with a proxy": (
        {"service": {"type": "NodePort", "externalTrafficPolicy": "Local"}},
        {},
        NODES,
        ["10.0.0.2"],
    ),
    "of Nodes whose network is used": ({"pod": {"hostNetwork": True}}, {}, NODES, ["10.0.0.2"]),
    "as said": ({"addresses": [{"type": "Hostname", "value": "a.example"}]}, {}, (), ["a.example"]),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_addresses(case: str) -> None:
    parameters, service, nodes, expected = ADDRESSES[case]
    fleet = fleet_of(parameters)
    seen = {
        each.ref: stored(each, **service) if each.ref.resource == SERVICE else stored(each)
        for each in manifests_of(fleet, PLANE)
    }
    found = observe(fleet, seen, nodes, PODS)
    assert ([address.value for address in found.addresses], found.pending) == (expected, "")


def test_why_there_is_no_address() -> None:
    fleet = fleet_of()
    assert observe(fleet, {}).pending == "its Service has not been made yet"
    wanted = manifests_of(fleet, PLANE)
    seen = everything(wanted)
    assert observe(fleet, seen).pending == (
        "Service shop/portway-web has not got an address from the cluster's load balancer yet; 0 of 2 proxies are ready"
    )
    failure = {"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "Quota", "message": "too many"}]}
    deployment = one(wanted, DEPLOYMENT)
    seen[deployment.ref] = stored(deployment, status=failure)
    assert observe(fleet, seen).pending.endswith("; Deployment shop/portway-web: Quota: too many")
    asked = msgspec.structs.replace(fleet, requested=(FleetAddress("IPAddress", "192.0.2.9"),))
    assert "has not got 192.0.2.9 from" in observe(asked, seen).pending
    assert observe(fleet, seen, failed="refused").failed == "refused"
