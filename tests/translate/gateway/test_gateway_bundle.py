"""What a GatewayClass says of the cluster's definitions of Gateway API."""

import pytest

from portway.model.handles import GATEWAY_DEFINITIONS, REPORT
from portway.objects.verdict import ObjectKey
from tests.translate.gateway.kit import conditions, new_engine, put, read

CLASS = ObjectKey("GatewayClass", "", "portway")
MANIFEST = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portway}
spec: {controllerName: portway.dev/gateway-controller}
"""
GATEWAYS, TCPROUTES = "gateways.gateway.networking.k8s.io", "tcproutes.gateway.networking.k8s.io"

CASES = {
    "the release": ({GATEWAYS: "v1.7.0"}, "True/SupportedVersion", "Gateway API v1.7.0"),
    "a patch of it, half installed": (
        {GATEWAYS: "v1.7.0", TCPROUTES: "v1.7.1"},
        "True/SupportedVersion",
        "Gateway API v1.7.0, v1.7.1",
    ),
    "an older one": ({GATEWAYS: "v1.4.1", TCPROUTES: "v1.4.1"}, "False/UnsupportedVersion", "are of v1.4.1; "),
    "a newer one": ({GATEWAYS: "v1.10.0"}, "False/UnsupportedVersion", "are of v1.10.0; Portway supports v1.7; "),
    "before the release": ({GATEWAYS: "v1.7.0-rc.1"}, "False/UnsupportedVersion", "are of v1.7.0-rc.1; "),
    "of a month": ({GATEWAYS: "monthly-2026.01"}, "False/UnsupportedVersion", "are of monthly-2026.01; "),
    "one left over": (
        {GATEWAYS: "v1.7.0", TCPROUTES: "v1.2.0"},
        "False/UnsupportedVersion",
        "are of v1.2.0 (tcproutes); ",
    ),
    "one without a version": ({GATEWAYS: ""}, "False/UnsupportedVersion", "are of no version that is named; "),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_said(case: str) -> None:
    installed, said, message = CASES[case]
    engine = new_engine()
    put(engine, read(MANIFEST))
    engine.set(GATEWAY_DEFINITIONS, None, installed)
    engine.settle()
    report = engine.get(REPORT, CLASS)
    # Whatever they are: what there is is served.
    assert conditions(report) == {"Accepted": "True/Accepted", "SupportedVersion": said}
    assert message in report.conditions[1].message
    assert ["UnsupportedVersion"] * said.startswith("False") == [verdict.reason for verdict in report.verdicts]


def test_nothing_is_said_where_nothing_is_known() -> None:
    engine = new_engine()
    put(engine, read(MANIFEST))
    engine.settle()
    assert conditions(engine.get(REPORT, CLASS)) == {"Accepted": "True/Accepted"}
