"""The bootstrap: its text for the default settings, and that Envoy takes every variant of it."""

import base64
import json
import subprocess
from pathlib import Path

import pytest

from portway.envoy.bootstrap import (
    BootstrapSettings,
    ControlPlaneTls,
    build_bootstrap,
    encode_bootstrap,
    statistics_name,
)
from portway.envoy.own_secrets import encode_authorities, encode_own_certificate
from portway.infra.binary import packaged_envoy
from portway.model.checks import check_regex
from portway.setting_checks import CIPHERS, TLS13_CIPHERS
from tests.infra.material import self_signed
from tests.infra.serving import serving_bootstrap

GOLDEN = Path(__file__).parent / "bootstrap.json"
PLAIN = BootstrapSettings(node_id="host-1", fleet="default", zone="zone-a", max_heap_bytes=1 << 30)


def test_default_text() -> None:
    assert encode_bootstrap(build_bootstrap(PLAIN)).decode() == GOLDEN.read_text()


def test_equal_settings_give_equal_bytes() -> None:
    """Other bytes mean a hot restart, so nothing about them may be accidental."""
    runtime = (("a.b", True), ("c.d", 3), ("e.f", "x"))
    settings = BootstrapSettings(node_id="n", fleet="f", metadata=(("b", "1"), ("a", "2")), runtime=runtime)
    again = BootstrapSettings(node_id="n", fleet="f", metadata=(("a", "2"), ("b", "1")), runtime=runtime[::-1])
    assert encode_bootstrap(build_bootstrap(settings)) == encode_bootstrap(build_bootstrap(again))


NAMES = {
    # cluster, counted: alt_stat_name
    ("shop/cart:80", True): "on.shop/cart_80",
    ("shop/cart:80", False): "off",
    ("dns/api.example.com:443", True): "on.dns/api_example_com_443",  # a dot would end the label
}


@pytest.mark.parametrize(("cluster", "counted"), NAMES)
def test_statistics_name(cluster: str, counted: bool) -> None:
    assert statistics_name(cluster, counted=counted) == NAMES[cluster, counted]


def variants(folder: Path) -> dict[str, BootstrapSettings]:
    certificate, key = self_signed("portway.example")
    (folder / "certificate.json").write_bytes(encode_own_certificate(certificate, key))
    (folder / "authorities.json").write_bytes(encode_authorities(certificate))
    tls = ControlPlaneTls(
        certificate_path=str(folder / "certificate.json"),
        authorities_path=str(folder / "authorities.json"),
        server_name="portway.example",
    )
    return {
        "default": PLAIN,
        "no limits": BootstrapSettings(node_id="n", fleet="f", max_connections=None),
        "mutual TLS": BootstrapSettings(
            node_id="n", fleet="f", control_plane="localhost:18000", control_plane_tls=tls, region="r", zone="z"
        ),
        "IPv6 control plane": BootstrapSettings(node_id="n", fleet="f", control_plane="[::1]:18000"),
        "several control planes": BootstrapSettings(node_id="n", fleet="f", control_plane="a.example:1, [::1]:18000"),
        "resolvers and runtime": BootstrapSettings(
            node_id="n",
            fleet="f",
            dns_resolvers=(("127.0.0.53", 53), ("::1", 5353)),
            metadata=(("host", "a"),),
            runtime=(("upstream.use_http3", False),),
        ),
    }


def validated(bootstrap: bytes, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "bootstrap.json"
    path.write_bytes(bootstrap)
    command = [str(packaged_envoy()), "--mode", "validate", "-c", str(path), "-l", "warning"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.e2e
@pytest.mark.parametrize(("paths", "accepted"), [(20, True), (200, True), (1_000, False)])
def test_expressions_up_to_the_limit_are_accepted(paths: int, accepted: bool, tmp_path: Path) -> None:
    """What `model/checks.py` lets through, Envoy takes; and no more, or a check of ours were missing."""
    regex = "|".join(f"/path{number}/[a-z]+" for number in range(paths))
    assert (check_regex(regex) == "") is accepted
    run = validated(serving_bootstrap(18000, "x", match={"safe_regex": {"regex": regex}}), tmp_path)
    assert (run.returncode == 0) is accepted, run.stderr


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("ciphers", "accepted"),
    [(CIPHERS, True), ((f"[{'|'.join(CIPHERS)}]",), True), (("FOO",), False), (tuple(TLS13_CIPHERS), False)],
)
def test_cipher_suites_that_settings_take_are_accepted(
    ciphers: tuple[str, ...], accepted: bool, tmp_path: Path
) -> None:
    certificate, key = self_signed("portway.example")
    pair = {
        "certificate_chain": {"inline_bytes": _encoded(certificate)},
        "private_key": {"inline_bytes": _encoded(key)},
    }
    tls = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_params": {"cipher_suites": ciphers}, "tls_certificates": [pair]},
    }
    listener = {
        "name": "https",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"transport_socket": {"name": "tls", "typed_config": tls}}],
    }
    run = validated(json.dumps({"static_resources": {"listeners": [listener]}}).encode(), tmp_path)
    assert (run.returncode == 0) is accepted, run.stderr
    assert accepted or "Failed to initialize cipher suites" in run.stderr


def _encoded(pem: bytes) -> str:
    return base64.b64encode(pem).decode()


@pytest.mark.e2e
def test_envoy_accepts_every_variant(tmp_path: Path) -> None:
    for name, settings in variants(tmp_path).items():
        run = validated(encode_bootstrap(build_bootstrap(settings)), tmp_path)
        assert run.returncode == 0, f"{name}: {run.stdout}{run.stderr}"
        # Envoy warns about what is deprecated; a bootstrap that survives the next version holds none of it.
        assert "[warning]" not in run.stderr, f"{name}: {run.stderr}"
