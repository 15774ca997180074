"""Made `skew/` once; kept to show how. `python -m tests.identity.make_skew` refuses to change what is there."""

from pathlib import Path

import msgspec

from portway.envoy.bootstrap import BootstrapSettings, ControlPlaneTls, build_bootstrap, encode_bootstrap
from portway.identity.certificates import make_key, make_request
from portway.identity.messages import CertificateRequest, IssuedCertificate
from tests.infra.material import self_signed

HERE = Path(__file__).parent / "skew"


def main() -> None:
    HERE.mkdir(exist_ok=True)
    request = CertificateRequest(
        request=make_request(make_key()).decode(), fleet="gateway/shop/public", node_name="node-1"
    )
    certificate, _ = self_signed("public-1")
    answer = IssuedCertificate(
        certificates=certificate.decode(), authorities=certificate.decode(), zone="zone-a", region="region-1"
    )
    bootstrap = BootstrapSettings(
        node_id="public-1",
        fleet="gateway/shop/public",
        zone="zone-a",
        region="region-1",
        metadata=(("namespace", "shop"), ("node", "node-1")),
        control_plane="127.0.0.1:18000",
        control_plane_tls=ControlPlaneTls(
            certificate_path="identity/own-certificate.json",
            authorities_path="identity/control-plane-authorities.json",
            server_name="control-plane.portway.internal",
        ),
        max_heap_bytes=1 << 30,
    )
    for name, content in {
        "request-1.json": msgspec.json.encode(request),
        "answer-1.json": msgspec.json.encode(answer),
        "bootstrap-1.json": encode_bootstrap(build_bootstrap(bootstrap)),
    }.items():
        with (HERE / name).open("xb") as file:
            file.write(content)


if __name__ == "__main__":
    main()
