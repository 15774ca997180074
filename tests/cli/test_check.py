"""`portway check` as its user meets it: what it prints, and its exit codes."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from portway.cli import main
from tests.kit.manifests import CLASS, ingress, service

GOOD = "---\n".join((CLASS, service("web", [8080]), ingress("shop", "shop.test", [("/", "web")])))
MISTAKES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "a misspelt path type, and fields of an older version": (
        """\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  ingressClassName: portway
  rules:
  - host: shop.test
    http:
      paths:
      - path: /
        pathType: Prefx
        backend:
          serviceName: web
""",
        (
            "FILE:11: error: Ingress default/shop: spec.rules[0].http.paths[0].pathType: "
            '"Prefx" is none of Exact, Prefix, ImplementationSpecific; it is not served; did you mean Prefix?',
            "FILE:12: error: Ingress default/shop: spec.rules[0].http.paths[0].backend: "
            "has neither a service nor a resource; it is not served; set one of the two",
            "FILE:13: warning: Ingress default/shop: spec.rules[0].http.paths[0].backend.serviceName: "
            "is not a field of this object and has no effect; did you mean service?",
        ),
    ),
    "an API version that is gone": (
        "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: old}\n",
        (
            'FILE:1: error: Ingress default/old: apiVersion: "extensions/v1beta1" is no version of Ingress that is '
            "still served (Kubernetes 1.22 removed it); it is not served; write networking.k8s.io/v1",
        ),
    ),
    "a misspelt kind": (
        "apiVersion: networking.k8s.io/v1\nkind: Ingres\nmetadata: {name: typo}\n",
        (
            'FILE:2: warning: Ingres default/typo: kind: "Ingres" is no kind of "networking.k8s.io/v1"; '
            "the object is ignored; did you mean Ingress?",
        ),
    ),
    "a kind that is somebody else's": (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n",
        ("FILE:1: info: Deployment default/web: apps/v1 Deployment is not read by Portway",),
    ),
    "a number in quotes": (
        """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
  - backendRefs:
    - name: web
      port: "80"
""",
        (
            'FILE:9: error: HTTPRoute default/shop: spec.rules[0].backendRefs[0].port: "80" is not a whole number; '
            "it is not served; write 80 without quotes",
        ),
    ),
    "a brace that is not closed": (
        "apiVersion: v1\nkind: Service\nmetadata: {name: web\nspec: {}\n",
        (
            "FILE:4: error: column 5: a { has no }, or a comma is missing; it is not served; "
            "close it, or quote a value that begins with {",
        ),
    ),
    "a tab": (
        "apiVersion: v1\nkind: Service\nmetadata:\n\tname: web\n",
        ("FILE:4: error: column 1: a tab where a value or a key should begin; it is not served; indent with spaces",),
    ),
}


def run(*arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(main, ["check", *arguments], input=given)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_remedy(tmp_path: Path, mistake: str) -> None:
    text, expected = MISTAKES[mistake]
    file = tmp_path / "a.yaml"
    file.write_text(text)
    result = run("-f", str(file))
    assert tuple(result.stdout.replace(str(file), "FILE").splitlines()) == expected
    assert result.exit_code == int(any(": error: " in line for line in expected))


def test_good_objects(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    result = run("-f", str(tmp_path))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "4 objects: 0 errors, 0 warnings\n")


def test_refused_objects_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD + "---\n" + MISTAKES["a number in quotes"][0])
    result = run("-f", str(tmp_path))
    assert (result.exit_code, result.stderr) == (1, "4 of 5 objects taken: 1 error, 0 warnings\n")


def test_strict_minds_warnings(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MISTAKES["a misspelt kind"][0])
    assert run("-f", str(tmp_path)).exit_code == 0
    assert run("-f", str(tmp_path), "--strict").exit_code == 1


def test_quiet_leaves_out_what_is_only_worth_knowing(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MISTAKES["a kind that is somebody else's"][0])
    assert run("-f", str(tmp_path), "--quiet").stdout == ""
    assert json.loads(run("-f", str(tmp_path), "--quiet", "-o", "json").stdout)["verdicts"] == []


def test_standard_input() -> None:
    result = run("-f", "-", given=MISTAKES["a tab"][0])
    assert (result.exit_code, result.stdout.partition(": ")[0]) == (1, "<stdin>:4")
    assert run("-f", "-", given=GOOD).exit_code == 0


def test_findings_about_standard_input_stand_on_the_line_of_their_field() -> None:
    ingress = """\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  defaultBackend:
    service:
      name: not-there
      port: {number: 80}
"""
    result = run("-f", "-", "--all-classes", given=ingress)
    assert result.stdout.startswith("<stdin>:7: error: Ingress default/shop: spec.defaultBackend.service.name: ")


def test_json(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(MISTAKES["a number in quotes"][0])
    result = run("-f", str(file), "-o", "json")
    assert result.exit_code == 1
    assert result.stderr == ""
    assert json.loads(result.stdout) == {
        "objects": 0,
        "refused": 1,
        "errors": 1,
        "warnings": 0,
        "verdicts": [
            {
                "file": str(file),
                "line": 9,
                "severity": "error",
                "reason": "Invalid",
                "object": "HTTPRoute default/shop",
                "kind": "HTTPRoute",
                "namespace": "default",
                "name": "shop",
                "field": "spec.rules[0].backendRefs[0].port",
                "problem": '"80" is not a whole number; it is not served',
                "remedy": "write 80 without quotes",
            }
        ],
        "notes": [],
    }


def test_nothing_to_check_is_no_success(tmp_path: Path) -> None:
    result = run("-f", str(tmp_path), "--strict")
    assert result.exit_code == 1
    assert "there is no object in it" in result.stdout
    missing = run("-f", str(tmp_path / "nowhere"))
    assert missing.exit_code == 1
    assert "there is no such file or folder" in missing.stdout


@pytest.mark.parametrize(
    "arguments", [(), ("-f", ".", "--bogus"), ("-f", ".", "--http-port", "x"), ("-f", ".", "more")]
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours(tmp_path: Path, environment: dict[str, str], coloured: bool) -> None:
    (tmp_path / "a.yaml").write_text(MISTAKES["a tab"][0])
    terminal, inside = pty.openpty()
    plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    subprocess.run(
        [sys.executable, "-m", "portway", "check", "-f", str(tmp_path)],
        stdout=inside,
        stderr=subprocess.DEVNULL,
        env={**plain, **environment},
        check=False,
        timeout=60,
    )
    os.close(inside)
    shown = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert "error:" in shown
    assert ("\x1b[31merror:\x1b[0m" in shown) is coloured


def test_output_stays_one_line_per_finding_whatever_objects_hold(tmp_path: Path) -> None:
    hostile = "a\x1b[2Jb\r\nc"
    text = json.dumps(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {
                "name": "shop",
                "annotations": {"nginx.ingress.kubernetes.io/affinity": hostile, hostile: "x"},
            },
            "spec": {
                "ingressClassName": hostile,
                "defaultBackend": {"service": {"name": hostile, "port": {"number": 80}}},
            },
        }
    )
    (tmp_path / "a.json").write_text(text)
    result = run("-f", str(tmp_path), "--all-classes")
    lines = result.stdout.split("\n")
    assert lines.pop() == ""
    assert lines
    assert all(line.isprintable() and line.startswith(str(tmp_path)) for line in lines)
