"""Rules of FleetParameters, and how two of them are joined."""

from collections.abc import Mapping

import msgspec
import pytest
import yaml

from portway.objects.fleets_v1alpha1 import FleetParametersSpec, joined
from tests.objects.documents import expect, parsed_errors

KIND = "FleetParameters"

CASES: dict[str, tuple[Mapping[str, object], str | tuple[str, ...]]] = {
    "nothing need be said": ({"spec": {}}, ()),
    "a DaemonSet counts its Nodes": (
        {"spec.workload": {"type": "DaemonSet", "replicas": 2, "autoscaling": {"maxReplicas": 3}}},
        ("spec.workload.replicas", "spec.workload.autoscaling"),
    ),
    "autoscaling begins below its end": (
        {"spec.workload": {"autoscaling": {"minReplicas": 5, "maxReplicas": 3}}},
        "spec.workload.autoscaling.minReplicas",
    ),
    "a budget says one thing": (
        {"spec.workload.disruptionBudget": {"minAvailable": 1, "maxUnavailable": "25%"}},
        "spec.workload.disruptionBudget",
    ),
    "a budget says something": ({"spec.workload.disruptionBudget": {}}, "spec.workload.disruptionBudget"),
    "a share is at most all": (
        {"spec.workload.disruptionBudget": {"maxUnavailable": "101%"}},
        "spec.workload.disruptionBudget.maxUnavailable",
    ),
    "an update has room": (
        {"spec.workload": {"maxSurge": 0, "maxUnavailable": 0}},
        "spec.workload.maxUnavailable",
    ),
    "amounts have units": (
        {"spec.container": {"resources": {"requests": {"cpu": "500m", "memory": "1.5Gi"}, "limits": {"cpu": 2}}}},
        (),
    ),
    "amounts have units of Kubernetes": (
        {"spec.container": {"resources": {"limits": {"memory": "128MB", "cpu": "two"}}}},
        ("spec.container.resources.limits.memory", "spec.container.resources.limits.cpu"),
    ),
    "labels fit": ({"spec.pod": {"labels": {"team": "a b"}}}, "spec.pod.labels.team"),
    "our labels are ours": (
        {"spec.pod": {"labels": {"app.kubernetes.io/name": "x"}}},
        'spec.pod.labels["app.kubernetes.io/name"]',
    ),
    "a toleration of everything exists": ({"spec.pod": {"tolerations": [{}]}}, "spec.pod.tolerations[0].operator"),
    "a toleration": ({"spec.pod": {"tolerations": [{"operator": "Exists"}, {"key": "a", "value": "b"}]}}, ()),
    "only load balancers have a class": (
        {"spec.service": {"type": "NodePort", "loadBalancerClass": "a.b/c", "externalTrafficPolicy": "Local"}},
        "spec.service.loadBalancerClass",
    ),
    "cluster IPs have no Node ports": (
        {"spec.service": {"type": "ClusterIP", "nodePorts": [{"port": 80, "nodePort": 30080}]}},
        "spec.service.nodePorts",
    ),
    "one Node port per port": (
        {"spec.service": {"nodePorts": [{"port": 80, "nodePort": 1}, {"port": 80, "nodePort": 2}]}},
        "spec.service.nodePorts[1]",
    ),
    "source ranges are networks": (
        {"spec.service": {"loadBalancerSourceRanges": ["192.0.2.0/24", "192.0.2.1", "x"]}},
        ("spec.service.loadBalancerSourceRanges[1]", "spec.service.loadBalancerSourceRanges[2]"),
    ),
    "addresses are complete": (
        {
            "spec.addresses": [
                {"type": "Hostname", "value": "a.example"},
                {"value": "192.0.2.1"},
                {"type": "NamedAddress", "value": "a"},
                {"value": "a.example"},
                {},
            ]
        },
        ("spec.addresses[2].type", "spec.addresses[3].value", "spec.addresses[4].value"),
    ),
    "a level is known": ({"spec.proxy": {"logLevel": "loud"}}, "spec.proxy.logLevel"),
    "a drain time has a unit": ({"spec.proxy": {"drainTime": "30"}}, "spec.proxy.drainTime"),
}


@pytest.mark.parametrize("case", CASES)
def test_rules(case: str) -> None:
    changes, fields = CASES[case]
    assert parsed_errors(KIND, changes) == expect(fields)


def spec(text: str) -> FleetParametersSpec:
    return msgspec.convert(yaml.safe_load(text), FleetParametersSpec)


def test_upper_parameters_win_field_by_field() -> None:
    lower = spec("""
workload: {replicas: 2, disruptionBudget: {minAvailable: 1}}
pod: {labels: {team: a, cost: shared}, tolerations: [{operator: Exists}]}
service: {type: NodePort}
""")
    upper = spec("""
workload: {replicas: 5, disruptionBudget: {maxUnavailable: 1}}
pod: {labels: {team: b}}
container: {resources: {limits: {memory: 1Gi}}}
""")
    assert joined(lower, upper) == spec("""
workload: {replicas: 5, disruptionBudget: {maxUnavailable: 1}}
pod: {labels: {team: b, cost: shared}, tolerations: [{operator: Exists}]}
container: {resources: {limits: {memory: 1Gi}}}
service: {type: NodePort}
""")
    assert joined(lower, FleetParametersSpec()) == joined(FleetParametersSpec(), lower) == lower
