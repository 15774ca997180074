"""`check`, `explain`, `diff` and `status` of a cluster in which things are missing that one counts on."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from portway.cli import main
from tests.cluster.control_plane import ControlPlane
from tests.kit.manifests import CLASS, GATEWAY_CLASS, gateway_with, http_route, ingress, service
from tests.kubernetes.planes import running_plane

pytestmark = pytest.mark.cluster

SHOP = f"{CLASS}---\n{service('a', [])}---\n{ingress('shop', 'shop.test', [('/', 'a')])}"
HTTP = ["name: http, port: 80, protocol: HTTP"]
NEW = f"{GATEWAY_CLASS}---\n{gateway_with('web', HTTP)}---\n{http_route('r', 'web', 'a.test', [('/', 'a')])}"
NOT_INSTALLED = "note: the cluster has no kind of gateway.networking.k8s.io ("


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Without Gateway API's definitions, and without Portway's."""
    for plane in running_plane(tmp_path_factory.mktemp("bare"), channel=""):
        plane.kubectl("create", "namespace", "shop")
        plane.kubectl("apply", "-f", "-", stdin=SHOP)
        yield plane


def run(plane: ControlPlane, *command: str) -> Result:
    return CliRunner().invoke(main, [*command, "--kubeconfig", str(plane.kubeconfig)])


ABOUT_A_NAMESPACE = (("check",), ("status",), ("explain", "GET", "http://shop.test/"))


@pytest.mark.parametrize("command", ABOUT_A_NAMESPACE, ids=lambda command: command[0])
def test_a_namespace_that_is_not_there_is_no_empty_one(bare: ControlPlane, command: tuple[str, ...]) -> None:
    result = run(bare, *command, "-n", "shpo")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == 'Error: there is no namespace "shpo"; did you mean shop?\n'


def test_definitions_that_are_not_installed_are_told_once(bare: ControlPlane) -> None:
    for command in (("check",), ("status",), ("explain", "GET", "http://shop.test/")):
        result = run(bare, *command)
        assert result.exit_code == 0, result.output
        notes = [line for line in result.stderr.splitlines() if line.startswith("note:")]
        assert len(notes) == 2
        assert notes[0].startswith(NOT_INSTALLED)
        assert notes[1].startswith("note: the cluster has no kind of portway.dev (")
        assert "the cluster has no" not in result.stdout


def test_files_that_could_not_be_applied_are_judged_all_the_same(bare: ControlPlane, tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text(NEW.replace("namespace: shop", "namespace: new"))
    expected = [
        "there is no namespace new: kubectl apply would refuse what is in it; create it first",
        *(
            f"the cluster has no {kind}: kubectl apply would refuse it; install the CustomResourceDefinition "
            f"{plural}.gateway.networking.k8s.io first"
            for kind, plural in {
                "Gateway": "gateways",
                "GatewayClass": "gatewayclasses",
                "HTTPRoute": "httproutes",
            }.items()
        ),
    ]
    checked = json.loads(run(bare, "check", "-f", str(tmp_path), "-o", "json").stdout)
    assert checked["notes"][2:] == expected
    assert [one["problem"] for one in checked["verdicts"] if one["severity"] == "error"] == [
        "Service new/a does not exist; requests to it answer 500"
    ]
    for command, said in {
        ("diff",): "0.0.0.0:80/tcp at Gateway new/web",
        ("explain", "GET", "http://a.test/", "--gateway", "new/web"): "500: Service new/a does not exist",
    }.items():
        result = run(bare, *command, "-f", str(tmp_path))
        assert [line for line in result.stderr.splitlines() if "kubectl" in line] == [
            f"note: {one}" for one in expected
        ]
        assert said in result.stdout
