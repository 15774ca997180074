"""Files judged without a cluster as one would judge them: `--infrastructure kubernetes` for CI pipelines."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from portway.cli import main
from tests.kit.manifests import (
    CLASS,
    GATEWAY_CLASS,
    backend,
    gateway_with,
    http_route,
    ingress,
    resource_ingress,
    service,
)

HTTP = "name: http, port: 80, protocol: HTTP"
WEB = gateway_with("web", [HTTP])
EDGE = gateway_with("edge", [HTTP])
SHOP = http_route("shop", "web", "shop.test", [("/", "a")])
LOCAL = backend("local", "addresses: [{address: 127.0.0.1, port: 9000}]")
PARAMETERS = "infrastructure: {parametersRef: {group: portway.dev, kind: FleetParameters, name: gone}}"


def run(command: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, [command, *arguments])


def written(folder: Path, *manifests: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "all.yaml").write_text("---\n".join((CLASS, GATEWAY_CLASS, service("a", [8001]), *manifests)))
    return str(folder)


ADDRESS = "  addresses: [{type: IPAddress, value: 192.0.2.1}]"
CASES = {
    # what: manifests, said of one machine, said of a cluster
    "Gateways with the same port": (
        (WEB, gateway_with("edge", [HTTP], more=ADDRESS)),
        ("Gateway shop/web: spec.listeners[0].port: 0.0.0.0:80/tcp belongs to Gateway shop/edge",),
        (),
    ),
    "a Gateway and an Ingress with the same port": (
        (WEB, ingress("cart", "cart.test", [("/", "a")])),
        ("Gateway shop/web: spec.listeners[0].port: 0.0.0.0:80/tcp belongs to Ingress",),
        (),
    ),
    "a Backend on the machine of the proxies": (
        (LOCAL, resource_ingress("cart", "cart.test", "local")),
        (),
        ("Backend shop/local: spec.addresses[0].address: 127.0.0.1 is on the machine of the proxies",),
    ),
    "parameters of proxies that are not there": (
        (gateway_with("web", [HTTP], more=f"  {PARAMETERS}"),),
        ("FleetParameters shop/gone does not exist; the Gateway is not served",),
        ("FleetParameters shop/gone does not exist; the Gateway's proxies stay as they are",),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("infrastructure", ["host", "kubernetes"])
def test_check_judges_by_where_the_proxies_run(tmp_path: Path, case: str, infrastructure: str) -> None:
    manifests, on_a_machine, in_a_cluster = CASES[case]
    expected = on_a_machine if infrastructure == "host" else in_a_cluster
    result = run("check", "-f", written(tmp_path, *manifests), "--infrastructure", infrastructure, "--quiet")
    lines = result.stdout.splitlines()
    assert len(lines) == len(expected), result.stdout
    for line, part in zip(lines, expected, strict=True):
        assert part in line
    assert result.exit_code == bool(expected)


def test_explain_asks_the_proxies_of_one_gateway(tmp_path: Path) -> None:
    files = written(tmp_path, WEB, EDGE, SHOP)
    of = ("explain", "GET", "http://shop.test/", "-f", files, "--infrastructure", "kubernetes")
    assert "  → forwarded to Service shop/a port 80 as shop.test/" in run(*of).stdout.splitlines()
    assert "  → 404: no virtual host for shop.test" in run(*of, "--gateway", "shop/edge").stdout.splitlines()
    missing = run(*of, "--gateway", "shop/other")
    assert missing.exit_code == 2
    assert "say which is meant: --gateway shop/edge, --gateway shop/web" in " ".join(missing.stderr.split())


def test_diff_says_at_which_proxies(tmp_path: Path) -> None:
    before, after = written(tmp_path / "a", WEB, EDGE, SHOP), written(tmp_path / "b", WEB, EDGE)
    result = run("diff", before, after, "--infrastructure", "kubernetes")
    assert result.stdout.splitlines() == [
        "GET http://shop.test/ at Gateway shop/web",
        "  - forwarded to Service shop/a port 80 as shop.test/",
        "  + 404: no virtual host for shop.test",
    ]


def test_the_settings_file_says_it_too(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("infrastructure: kubernetes")
    files = written(tmp_path / "files", LOCAL, resource_ingress("cart", "cart.test", "local"))
    result = run("check", "-f", files, "--settings", str(tmp_path / "settings.yaml"))
    assert "127.0.0.1 is on the machine of the proxies" in result.stdout
