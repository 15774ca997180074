"""What the Kubernetes source decides without a cluster: scope, demand, batches."""

from portway.objects.core_v1 import Service
from portway.objects.discovery_v1 import AddressType, EndpointSlice
from portway.objects.kinds import KINDS
from portway.objects.meta import Meta, Object
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.sources.kubernetes.batch import Batch
from portway.sources.kubernetes.demand import Demand, References
from portway.sources.kubernetes.scope import followed
from portway.store import Finding, Stored

SLICE = ObjectKey("EndpointSlice", "shop", "a")
SERVICE = ObjectKey("Service", "shop", "a")
META = Meta(name="a", namespace="shop")


def stored(key: ObjectKey, generation: int = 0) -> Stored:
    obj: Object = (
        EndpointSlice(metadata=META, address_type=AddressType.IPV4)
        if key.kind == "EndpointSlice"
        else Service(metadata=META)
    )
    return Stored(key, obj, generation)


def test_over_all_namespaces_each_kind_is_one_collection() -> None:
    found = followed(KINDS.values(), (), "")
    assert len(found) == len(KINDS)
    routes = next(one for one in found if one.kind.name == "TLSRoute")
    assert routes.paths == tuple(
        f"/apis/gateway.networking.k8s.io/{version}/tlsroutes" for version in ("v1", "v1alpha3", "v1alpha2")
    )


def test_restricted_to_namespaces_roles_in_them_are_enough() -> None:
    found = followed(KINDS.values(), ("shop", "pay", "shop"), "")
    for one in found:
        if one.kind.namespaced:
            assert all(f"/namespaces/{one.namespace}/" in path for path in one.paths)
    namespaces = [one.field_selector for one in found if one.kind.name == "Namespace"]
    assert namespaces == ["metadata.name=pay", "metadata.name=shop"]
    assert sum(one.kind.name == "Service" for one in found) == 2
    assert sum(one.kind.name == "GatewayClass" for one in found) == 1


def test_a_label_selector_chooses_what_routes_and_not_what_it_refers_to() -> None:
    selected = {one.kind.name for one in followed(KINDS.values(), (), "team=shop") if one.label_selector}
    assert selected == {"Ingress", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"}


A, B = (ObjectKey("Ingress", "shop", name) for name in "ab")
X, Y, Z = (ObjectKey("Secret", "shop", name) for name in "xyz")


def test_what_is_referred_to_is_wanted_until_the_last_reference_is_handed_out() -> None:
    demand = Demand(References())
    assert demand.arrived(A, frozenset({X, Y})) == {X, Y}
    assert demand.handed_out(A, frozenset({X, Y})) == set()
    assert demand.arrived(B, frozenset({Y})) == set()
    demand.handed_out(B, frozenset({Y}))
    assert demand.arrived(A, frozenset({Z})) == {Z}
    assert demand.is_wanted(X), "the version before is still served"
    assert demand.handed_out(A, frozenset({Z})) == {X}
    assert demand.handed_out(B, frozenset()) == {Y}
    assert set(demand.wanted) == {Z}


def test_some_are_always_wanted() -> None:
    demand = Demand(References(always=frozenset({X})))
    demand.arrived(A, frozenset({X}))
    assert demand.handed_out(A, frozenset()) == set()
    assert demand.is_wanted(X)


def test_endpoints_are_handed_out_first_and_only_the_newest() -> None:
    batch = Batch()
    batch.put(stored(SERVICE, 1))
    batch.put(stored(SLICE))
    batch.put(stored(SERVICE, 2))
    first, second = batch.take()
    assert [one.key for one in first.changed] == [SLICE]
    assert [one.generation for one in second.changed] == [2]
    assert list(batch.take()) == []


def test_an_object_is_changed_or_removed_never_both() -> None:
    batch = Batch()
    batch.put(stored(SERVICE))
    batch.remove(SERVICE)
    (only,) = batch.take()
    assert (list(only.changed), list(only.removed)) == ([], [SERVICE])
    batch.remove(SERVICE)
    batch.put(stored(SERVICE))
    (only,) = batch.take()
    assert ([one.key for one in only.changed], list(only.removed)) == ([SERVICE], [])


def test_what_was_said_is_taken_back_once() -> None:
    verdict = Verdict(object=SERVICE, severity=Severity.ERROR, reason="Invalid", problem="wrong", remedy="mend it")
    batch = Batch()
    batch.say("a", [Finding(verdict)])
    (only,) = batch.take()
    assert only.findings == {"a": (Finding(verdict),)}
    batch.say("a")
    batch.say("b")
    (only,) = batch.take()
    assert only.findings == {"a": ()}
    batch.say("a")
    assert not len(batch)


def test_the_end_of_the_load_is_told_even_if_there_is_nothing() -> None:
    (only,) = Batch().take(synced=True)
    assert only.synced
