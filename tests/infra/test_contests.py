"""Objects that somebody else keeps changing: how often they are put right, and who it is."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec
import pytest

from portway.infra.kubernetes.contests import CALM, LONGEST, Contests, say_contested
from portway.infra.kubernetes.data_plane import DataPlane
from portway.infra.kubernetes.manifests import DEPLOYMENT, SERVICE, Manifest, Ref, Resource, manifests_of
from portway.model.fleet import Fleet, FleetPort, gateway_fleet
from portway.model.names import Transport
from portway.objects.verdict import ObjectKey

WEB = ObjectKey("Gateway", "shop", "web")
REF = Ref(SERVICE, "shop", "portway-web")


def writes_in(seconds: float, contests: Contests, wish: bytes = b"wish", start: float = 0.0) -> list[float]:
    """When an object is written that somebody else changes at once, each time."""
    found, now = [], start
    while now < start + seconds:
        now = max(now, contests.due(REF, wish, now))
        contests.wrote(REF, wish, now)
        found.append(now)
    return found[:-1]


def test_what_is_changed_once_is_put_right_at_once_and_then_ever_more_rarely() -> None:
    assert writes_in(60, Contests()) == [0, 0, 1, 3, 7, 15, 31]


def test_it_never_ends_and_never_costs_much() -> None:
    found = writes_in(24 * 3600, Contests())
    assert len(found) < 24 * 3600 / LONGEST + 12
    assert max(later - former for former, later in pairwise(found)) == LONGEST


def test_all_is_forgotten_when_it_has_been_quiet() -> None:
    contests = Contests()
    last = writes_in(10, contests)[-1]
    soon, later = last + CALM - 20, contests.calm_at(REF)
    assert contests.due(REF, b"wish", soon) > soon - 20
    assert writes_in(5, contests, start=later) == [later, later, later + 1, later + 3]


def test_another_wish_is_no_contest() -> None:
    contests = Contests()
    writes_in(100, contests)
    assert contests.due(REF, b"wish", 100) > 100
    assert contests.due(REF, b"another", 100) == 100


def test_objects_do_not_wait_for_one_another() -> None:
    contests = Contests()
    writes_in(100, contests)
    assert contests.due(REF._replace(name="portway-other"), b"wish", 100) == 100


def manifest_of(resource: Resource) -> Manifest:
    fleet = Fleet(
        name=gateway_fleet(WEB),
        namespace="shop",
        owner=WEB,
        ports=(FleetPort(80, Transport.TCP), FleetPort(443, Transport.TCP)),
    )
    plane = DataPlane(image="portway:1", control_plane="portway:18000", authorities="PEM", controller="ours")
    (found,) = (each for each in manifests_of(fleet, plane) if each.ref.resource == resource)
    return found


def changed(manifest: Manifest, path: Sequence[str | int], value: object, fields: Mapping[str, object]) -> bytes:
    """An object in which `meddler` has changed something."""
    data = msgspec.json.decode(manifest.body)
    part = data
    for step in path[:-1]:
        part = part[step]
    if value is None:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    ours: dict[str, object] = {"f:spec": {"f:type": {}, "f:template": {}}}
    data["metadata"]["managedFields"] = [
        {"manager": "portway", "operation": "Apply", "fieldsV1": ours},
        {"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": {"f:status": {}}},
        {"manager": "meddler", "operation": "Update", "fieldsV1": fields},
    ]
    return msgspec.json.encode(data)


CONTAINER = 'k:{"name":"proxy"}'
CASES: dict[str, tuple[Resource, Sequence[str | int], object, Mapping[str, object], str, str]] = {
    # of, what is changed, into what, what the meddler has by that, the field as it is named, who is named
    "a field": (SERVICE, ["spec", "type"], "ClusterIP", {"f:spec": {"f:type": {}}}, "spec.type", "meddler"),
    "in a list with keys": (
        DEPLOYMENT,
        ["spec", "template", "spec", "containers", 0, "image"],
        "theirs",
        {"f:spec": {"f:template": {"f:spec": {"f:containers": {CONTAINER: {"f:image": {}}}}}}},
        "spec.template.spec.containers[0].image",
        "meddler",
    ),
    "a port, whose key is two fields": (
        SERVICE,
        ["spec", "ports", 1, "targetPort"],
        81,
        {"f:spec": {"f:ports": {'k:{"port":443,"protocol":"TCP"}': {"f:targetPort": {}}}}},
        "spec.ports[1].targetPort",
        "meddler",
    ),
    "something else than what it has": (
        SERVICE,
        ["spec", "type"],
        "ClusterIP",
        {"f:spec": {"f:ports": {}}},
        "spec.type",
        "somebody whose name",
    ),
    "a field that is taken away": (
        SERVICE,
        ["metadata", "labels", "app.kubernetes.io/name"],
        None,
        {"f:metadata": {"f:labels": {"f:theirs": {}}}},
        "metadata.labels.app.kubernetes.io/name",
        "somebody whose name",
    ),
    "a list of another length": (
        SERVICE,
        ["spec", "ports"],
        [],
        {"f:spec": {"f:ports": {}}},
        "spec.ports",
        "meddler",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_field_and_who_changes_it_are_named(case: str) -> None:
    resource, path, value, fields, field, who = CASES[case]
    manifest = manifest_of(resource)
    said = say_contested(manifest, None, changed(manifest, path, value, fields))
    assert said.startswith(f"{manifest.ref}: {field}: changed again and again by {who}")


def test_nothing_is_said_of_an_object_that_is_as_it_should_be() -> None:
    manifest = manifest_of(SERVICE)
    assert say_contested(manifest, None, changed(manifest, ["spec", "theirs"], 1, {"f:spec": {"f:theirs": {}}})) == ""
