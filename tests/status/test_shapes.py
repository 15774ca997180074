"""`status` in the fields and spelling of the CRDs."""

import msgspec
import pytest

from portway.model.condition import Condition, ListenerReport, ObjectReport, ParentReport
from portway.objects.verdict import ObjectKey
from portway.status.shapes import make_kubernetes_status

GATEWAY = ObjectKey("Gateway", "shop", "web")
GROUP = "gateway.networking.k8s.io"
GOOD = Condition(type="Accepted", status=True, reason="Accepted")
CONDITION = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""}
LISTENER = ListenerReport(name="http", supported_kinds=((GROUP, "HTTPRoute"),), conditions=(GOOD,))
REFERENCE = {"group": GROUP, "kind": "Gateway", "namespace": "shop", "name": "web"}

CASES = {
    "a Gateway, its counts also where they are 0": (
        ObjectReport(object=GATEWAY, conditions=(GOOD,), listeners=(LISTENER,), addresses=(("IPAddress", "10.0.0.1"),)),
        {
            "addresses": [{"type": "IPAddress", "value": "10.0.0.1"}],
            "conditions": [CONDITION],
            "listeners": [
                {
                    "name": "http",
                    "supportedKinds": [{"group": GROUP, "kind": "HTTPRoute"}],
                    "attachedRoutes": 0,
                    "conditions": [CONDITION],
                }
            ],
            "attachedListenerSets": 0,
        },
    ),
    "a ListenerSet has neither addresses nor sets": (
        ObjectReport(object=ObjectKey("ListenerSet", "shop", "more"), conditions=(GOOD,)),
        {"conditions": [CONDITION], "listeners": []},
    ),
    "a route speaks of each parent": (
        ObjectReport(
            object=ObjectKey("HTTPRoute", "shop", "cart"),
            parents=(
                ParentReport(parent=GATEWAY, conditions=(GOOD,)),
                ParentReport(parent=GATEWAY, section="http", port=80, conditions=(GOOD,)),
            ),
        ),
        {
            "parents": [
                {"parentRef": REFERENCE, "controllerName": "portway.dev/x", "conditions": [CONDITION]},
                {
                    "parentRef": {**REFERENCE, "sectionName": "http", "port": 80},
                    "controllerName": "portway.dev/x",
                    "conditions": [CONDITION],
                },
            ]
        },
    ),
    "a policy of ancestors": (
        ObjectReport(
            object=ObjectKey("BackendTLSPolicy", "shop", "tls"),
            parents=(ParentReport(parent=GATEWAY, conditions=(GOOD,)),),
        ),
        {"ancestors": [{"ancestorRef": REFERENCE, "controllerName": "portway.dev/x", "conditions": [CONDITION]}]},
    ),
    "a class of its features": (
        ObjectReport(object=ObjectKey("GatewayClass", "", "portway"), supported_features=("Gateway", "HTTPRoute")),
        {"supportedFeatures": [{"name": "Gateway"}, {"name": "HTTPRoute"}]},
    ),
    "an Ingress, of which there is nothing to say": (ObjectReport(object=ObjectKey("Ingress", "shop", "web")), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_status_as_kubernetes_has_it(case: str) -> None:
    report, expected = CASES[case]
    assert msgspec.json.decode(msgspec.json.encode(make_kubernetes_status(report, "portway.dev/x"))) == expected
