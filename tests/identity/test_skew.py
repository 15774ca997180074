"""Control plane and proxies one version apart.

`skew/` holds what the first version of each message was. Files there are never changed: when one of these tests fails,
today's code would not understand a proxy, or a control plane, that was not updated yet.
"""

from pathlib import Path

import msgspec

from portway.envoy.bootstrap import BootstrapSettings, ControlPlaneTls, build_bootstrap, encode_bootstrap
from portway.identity import contract
from portway.identity.certificates import parse_request
from portway.identity.messages import PATH, CertificateRequest, IssuedCertificate, Problem

HERE = Path(__file__).parent / "skew"


def test_the_first_request_is_understood() -> None:
    request = msgspec.json.decode((HERE / "request-1.json").read_bytes(), type=CertificateRequest)
    assert (request.fleet, request.node_name) == ("gateway/shop/public", "node-1")
    parse_request(request.request.encode())


def test_a_request_of_a_later_version_is_understood() -> None:
    later = msgspec.json.decode((HERE / "request-1.json").read_bytes(), type=dict[str, object]) | {"new": {"x": [1]}}
    assert msgspec.json.decode(msgspec.json.encode(later), type=CertificateRequest).fleet == "gateway/shop/public"


def test_the_first_answer_is_understood() -> None:
    answer = msgspec.json.decode((HERE / "answer-1.json").read_bytes(), type=IssuedCertificate)
    assert answer.certificates.startswith("-----BEGIN CERTIFICATE")
    assert (answer.zone, answer.region) == ("zone-a", "region-1")


def test_an_answer_without_what_came_later_is_understood() -> None:
    assert msgspec.json.decode(b'{"certificates": "x"}', type=IssuedCertificate).zone == ""
    assert msgspec.json.decode(b'{"new": 1}', type=Problem).problem == ""


def test_what_old_pods_were_told_still_holds() -> None:
    """Manifests of running pods name these; they are changed by nobody when the control plane is."""
    assert (contract.XDS_PORT, contract.IDENTITY_PORT, contract.REPLICA_PORT) == (18000, 18001, 18002)
    assert (PATH, contract.AUDIENCE) == ("/v1/certificate", "portway")
    assert contract.CONTROL_PLANE_NAME == "control-plane.portway.internal"
    assert contract.workload_id("ns", "sa") == "spiffe://portway.internal/ns/ns/sa/sa"


def test_todays_bootstrap_names_nothing_that_a_control_plane_must_serve() -> None:
    """But for clusters and listeners, which every one of them does: an older control plane serves newer proxies."""
    tls = ControlPlaneTls(certificate_path="c.json", authorities_path="a.json", server_name="x")
    bootstrap = build_bootstrap(BootstrapSettings(node_id="n", fleet="f", control_plane="x:1", control_plane_tls=tls))
    assert encode_bootstrap(bootstrap).count(b'"ads"') == 2
    assert bootstrap.dynamic_resources.cds_config.HasField("ads")
    assert bootstrap.dynamic_resources.lds_config.HasField("ads")
    assert not bootstrap.dynamic_resources.cds_resources_locator
