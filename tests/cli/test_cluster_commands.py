"""`check`, `explain`, `diff` and `status` of a cluster, with several people's rights, against a real API server."""

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from portway.cli import main
from tests.cluster.binaries import ROOT
from tests.cluster.control_plane import ControlPlane
from tests.kit.certificates import Authority
from tests.kit.manifests import http_route, secret
from tests.kit.ports import free_port
from tests.kubernetes.planes import plane

__all__ = ["plane"]
pytestmark = pytest.mark.cluster

RIGHTS = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules:
- {apiGroups: [""], resources: [namespaces, services, configmaps], verbs: [get, list, watch]}
- apiGroups: [discovery.k8s.io, networking.k8s.io, gateway.networking.k8s.io, portway.dev]
  resources: ["*"]
  verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
subjects: [{kind: User, name: reader, apiGroup: rbac.authorization.k8s.io}]
roleRef: {kind: ClusterRole, name: reader, apiGroup: rbac.authorization.k8s.io}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: shopper, namespace: shop}
subjects: [{kind: User, name: shopper, apiGroup: rbac.authorization.k8s.io}]
roleRef: {kind: ClusterRole, name: reader, apiGroup: rbac.authorization.k8s.io}
"""

CLASSES = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portway}
spec: {controllerName: portway.dev/gateway-controller}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: public}
spec: {controller: portway.dev/ingress-controller}
"""

SHOP = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web, namespace: shop}
spec:
  gatewayClassName: portway
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: web-tls}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: infra}
spec:
  gatewayClassName: portway
  listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-1, namespace: shop, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.5], conditions: {ready: true}}]
ports: [{port: 80, name: ""}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: inner, namespace: shop}
spec:
  parentRefs: [{name: edge, namespace: infra}]
  hostnames: [inner.test]
  rules: [{backendRefs: [{name: missing, port: 80}]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: cart, namespace: shop}
spec:
  ingressClassName: public
  tls: [{hosts: [cart.test], secretName: cart-tls}]
  rules:
  - host: cart.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}
"""

SERVICE = """
apiVersion: v1
kind: Service
metadata:
  name: portway-ingress-public
  namespace: portway-system
  labels: {app.kubernetes.io/managed-by: portway}
  annotations: {portway.dev/fleet: ingress/public}
spec: {ports: [{port: 80}]}
"""
KEY = "PRIVATE KEY"


@pytest.fixture(scope="module")
def shop(plane: ControlPlane) -> ControlPlane:
    for name in ("shop", "infra", "portway-system"):
        plane.kubectl("create", "namespace", name)
    pair = Authority("shop").issue("shop.test")
    manifests = [RIGHTS, CLASSES, SHOP, SERVICE, secret("web-tls", pair.certificate, pair.key)]
    manifests.append(http_route("shop", "web", "shop.test", [("/", "a")]))
    plane.kubectl("apply", "--kustomize", str(ROOT / "deploy/crds"))
    plane.kubectl("apply", "-f", "-", stdin="---\n".join(manifests))
    set_status(plane, "shop", "web", "192.0.2.1", generation=1)
    for user in ("reader", "shopper", "nobody"):
        (plane.folder / f"{user}.kubeconfig").write_bytes(plane.user(user).kubeconfig(user, "shop"))
    return plane


def set_status(plane: ControlPlane, namespace: str, name: str, address: str, *, generation: int) -> None:
    condition = {
        "type": "Programmed",
        "status": "False",
        "reason": "Pending",
        "message": "1 of 2 proxies hold it",
        "observedGeneration": generation,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {"addresses": [{"type": "IPAddress", "value": address}], "conditions": [condition]}
    arguments = ("patch", "gateway", name, "--subresource=status", "--type=merge", "-p")
    plane.kubectl("-n", namespace, *arguments, json.dumps({"status": status}))


def run(plane: ControlPlane, command: Sequence[str], user: str = "admin") -> Result:
    """Run a command as a user; whatever it prints, no key is in it."""
    result = CliRunner().invoke(main, [*command, "--kubeconfig", str(plane.folder / f"{user}.kubeconfig")])
    assert KEY not in result.output
    return result


@pytest.fixture
def new(tmp_path: Path) -> str:
    """A route as somebody would apply it with `-n shop`."""
    file = tmp_path / "new.yaml"
    text = http_route("shop", "web", "shop.test", [("/", "a"), ("/pay", "pay")])
    file.write_text(text.replace(", namespace: shop", ""))
    return str(file)


# check.


def test_check_judges_all_that_is_there(shop: ControlPlane) -> None:
    result = run(shop, ["check", "--quiet"])
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "error: HTTPRoute shop/inner: spec.rules[0].backendRefs[0]: Service shop/missing does not exist; requests to "
        "it answer 500; create it, or name one that exists",
        "error: Ingress shop/cart: spec.tls[0].secretName: Secret shop/cart-tls does not exist; the default "
        "certificate is shown; create it with kubectl create secret tls, or name another Secret",
    ]


def test_check_warns_of_definitions_of_another_release(shop: ControlPlane) -> None:
    def declare(version: str) -> None:
        named = ("tcproutes.gateway.networking.k8s.io", f"gateway.networking.k8s.io/bundle-version={version}")
        shop.kubectl("annotate", "--overwrite", "customresourcedefinition", *named)

    said = (
        "warning: GatewayClass portway: the cluster's definitions of Gateway API are of v1.6.0 (tcproutes); Portway "
        "supports v1.7; what they declare is served as far as the two agree; install the definitions of Gateway API "
        "v1.7, and remove those that it does not have"
    )
    declare("v1.6.0")
    try:
        assert said in run(shop, ["check"]).stdout.splitlines()
        # Who may not read them is told what can be told.
        assert "v1.6.0" not in run(shop, ["check"], "reader").stdout
    finally:
        declare("v1.7.0")
    assert "v1.6.0" not in run(shop, ["check"]).stdout


def test_check_of_one_namespace(shop: ControlPlane) -> None:
    result = run(shop, ["check", "--quiet", "-n", "infra"])
    assert (result.exit_code, result.stdout) == (0, "")


def test_a_secret_that_may_not_be_read_is_not_missing(shop: ControlPlane) -> None:
    result = run(shop, ["check", "--quiet", "-o", "json"], "reader")
    found = json.loads(result.stdout)
    assert [one["object"] for one in found["verdicts"]] == ["HTTPRoute shop/inner"]
    assert found["notes"] == [
        "Secret shop/cart-tls and Secret shop/web-tls may not be read with these rights: the certificates count as "
        "there and good",
        "to know more, have a ClusterRole that allows to list and watch secrets (the core group)",
    ]


def test_rights_for_one_namespace_are_enough_for_it(shop: ControlPlane) -> None:
    result = run(shop, ["check"], "shopper")
    assert result.exit_code == 0
    assert (
        "info: HTTPRoute shop/inner: spec.parentRefs[0]: Gateway infra/edge may not be read with these rights, so what "
        "becomes of this is not known"
    ) in result.stdout.splitlines()
    assert "NotOurs" not in result.stdout
    for note in (
        "note: only namespace shop could be read: what is declared in others is not known, and their ReferenceGrants "
        "count as given",
        "note: GatewayClass, IngressClass and Namespace may not be read with these rights: every class counts as "
        "Portway's, Namespaces count as without labels",
    ):
        assert note in result.stderr.splitlines()


def test_without_any_right_it_says_what_would_be_needed(shop: ControlPlane) -> None:
    for command in (["check"], ["status"], ["explain", "GET", "http://shop.test/"]):
        result = run(shop, [*command, "-n", "shop"], "nobody")
        assert (result.exit_code, result.stdout) == (1, "")  # nothing is wrong in nothing, but that is no answer
        assert result.stderr == (
            f"Error: {shop.url}: nothing may be read with these rights; name a namespace in which you have more with "
            "-n, or have the ClusterRole portway-reader, which comes with Portway\n"
        )


def test_check_of_a_file_within_the_cluster(shop: ControlPlane, new: str) -> None:
    result = run(shop, ["check", "-n", "shop", "-f", new, "--quiet"])
    assert result.exit_code == 1
    # What else is wrong in the cluster is not this file's doing.
    assert [line.partition(": ")[2] for line in result.stdout.splitlines()] == [
        "error: HTTPRoute shop/shop: spec.rules[1].backendRefs[0]: Service shop/pay does not exist; requests to it "
        "answer 500; create it, or name one that exists"
    ]
    assert result.stderr == "1 object: 1 error, 0 warnings\n"


def test_what_a_file_does_to_others_is_told(shop: ControlPlane, tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    file.write_text("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 81}]}}")
    result = run(shop, ["check", "-n", "shop", "-f", str(file), "--quiet"])
    assert "HTTPRoute shop/shop: spec.rules[0].backendRefs[0].port: Service shop/a has no port 80" in result.stdout


# explain.

WAYS = {
    ("http://shop.test/", ()): ("Gateway shop/web", "only Gateway shop/web has something for shop.test"),
    ("http://inner.test/", ("--gateway", "shop/web")): ("Gateway shop/web", ""),
    ("http://192.0.2.1/", ("-H", "Host: shop.test")): ("Gateway shop/web", "192.0.2.1 is an address of Gateway"),
    ("http://other.test/", ("--listen-address", "192.0.2.1")): ("Gateway shop/web", "192.0.2.1 is an address"),
    ("http://portway-ingress-public.portway-system.svc/", ()): ("IngressClass public", "is an address of Ingress"),
}


@pytest.mark.parametrize(("url", "options"), WAYS)
def test_explain_finds_the_proxies(shop: ControlPlane, url: str, options: tuple[str, ...]) -> None:
    result = run(shop, ["explain", "GET", url, *options], "reader")
    fleet, hint = WAYS[url, options]
    assert f"  at        {fleet}" in result.stdout.splitlines(), result.output
    assert hint in result.stdout


def test_explain_does_not_guess(shop: ControlPlane) -> None:
    result = run(shop, ["explain", "GET", "http://nobody.test/"])
    assert result.exit_code == 2
    assert "say which is meant: --gateway infra/edge, --gateway shop/web (192.0.2.1), --class public (" in result.stderr


def test_explain_over_tls_with_a_certificate_that_may_not_be_read(shop: ControlPlane) -> None:
    result = run(shop, ["explain", "GET", "https://shop.test/"], "shopper")
    assert "→ forwarded to Service shop/a port 80 as shop.test/" in result.stdout
    assert "endpoints (1): 10.1.0.5:80" in result.stdout


def test_explain_with_a_file(shop: ControlPlane, new: str) -> None:
    result = run(shop, ["explain", "GET", "http://shop.test/pay", "-f", new, "-n", "shop"])
    assert "500: Service shop/pay does not exist" in result.stdout
    assert f"HTTPRoute shop/shop spec.rules[1].matches[0] ({new}:" in result.stdout


def test_on_one_machine_there_is_one_set_of_proxies(shop: ControlPlane) -> None:
    result = run(shop, ["explain", "GET", "http://inner.test/", "--infrastructure", "host"])
    assert "  at " not in result.stdout
    assert "  listener  0.0.0.0:80/tcp (gateway:" in result.stdout


# diff.


def test_diff_says_what_applying_would_change(shop: ControlPlane, new: str) -> None:
    result = run(shop, ["diff", "-f", new, "-n", "shop"], "reader")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "GET http://shop.test/pay at Gateway shop/web",
        "  - forwarded to Service shop/a port 80 as shop.test/pay",
        "  + 500: Service shop/pay does not exist",
    ]


def test_what_is_there_already_changes_nothing(shop: ControlPlane, tmp_path: Path) -> None:
    file = tmp_path / "same.yaml"
    file.write_text(f"{SHOP}---\n{http_route('shop', 'web', 'shop.test', [('/', 'a')])}")
    result = run(shop, ["diff", "-f", str(file)], "reader")
    assert (result.exit_code, result.stdout) == (0, "no request changes\n")


def test_an_applied_object_is_as_old_as_the_one_that_it_replaces(shop: ControlPlane, tmp_path: Path) -> None:
    # Of two routes for the same the older one wins: it goes on winning.
    file = tmp_path / "younger.yaml"
    again = http_route("again", "web", "shop.test", [("/", "pay")])
    file.write_text(f"{again}---\n{http_route('shop', 'web', 'shop.test', [('/', 'a')])}")
    result = run(shop, ["diff", "-f", str(file)])
    assert (result.exit_code, result.stdout) == (0, "no request changes\n")


# status.


def test_status_shows_what_stands_there(shop: ControlPlane) -> None:
    result = run(shop, ["status", "-n", "shop"], "reader")
    lines = result.stdout.splitlines()
    assert lines[0] == f"miniature: {shop.url}"
    assert "  Gateway shop/web   not programmed (Pending)  192.0.2.1" in lines
    assert "      Programmed=False Pending: 1 of 2 proxies hold it" in lines
    place = lines.index("  Ingress shop/cart", lines.index("  HTTPRoute shop/inner"))
    assert lines[place + 1] == "      warning: it has no address yet: no Portway has said where it is served"
    place = lines.index("  HTTPRoute shop/inner")
    assert lines[place + 1].startswith("      error: spec.rules[0].backendRefs[0]: Service shop/missing does not exist")
    assert result.stderr.splitlines()[-1] == (
        "note: no Portway has written the status yet of HTTPRoute shop/inner and HTTPRoute shop/shop: does one run for "
        "their class, and may it write?"
    )
    assert not any("infra/edge" in line for line in lines)


def test_a_status_that_is_about_an_older_object(shop: ControlPlane) -> None:
    shop.kubectl("-n", "infra", "label", "--overwrite", "gateway", "edge", "a=b")
    patch = {"spec": {"listeners": [{"name": "http", "port": 81, "protocol": "HTTP"}]}}
    set_status(shop, "infra", "edge", "192.0.2.2", generation=1)
    shop.kubectl("-n", "infra", "patch", "gateway", "edge", "--type=merge", "-p", json.dumps(patch))
    try:
        result = run(shop, ["status", "-n", "infra", "-o", "json"])
        found = msgspec.json.decode(result.stdout, type=dict[str, object])
        assert "its status is about generation 1, the object is at 2" in json.dumps(found["reports"])
    finally:
        shop.kubectl("apply", "-f", "-", stdin=SHOP)


# What can go wrong before.


def test_a_wrong_context_names_those_that_exist(shop: ControlPlane) -> None:
    result = run(shop, ["check", "--context", "prod"])
    assert result.exit_code == 1
    assert 'there is no context "prod"; choose one of miniature with --context' in result.stderr


def test_no_server(shop: ControlPlane, tmp_path: Path) -> None:
    access = shop.user("reader")
    nowhere = msgspec.structs.replace(access, server=f"https://127.0.0.1:{free_port()}")
    file = tmp_path / "config"
    file.write_bytes(nowhere.kubeconfig("reader"))
    for command in (["check"], ["explain", "GET", "http://a.test/"], ["status"]):
        result = CliRunner().invoke(main, [*command, "--kubeconfig", str(file)])
        assert result.exit_code == 1
        assert nowhere.server in result.stderr
        assert "refused" in result.stderr.lower()


def test_a_token_that_is_not_accepted(shop: ControlPlane, tmp_path: Path) -> None:
    file = tmp_path / "config"
    wrong = msgspec.structs.replace(shop.administrator, token="guessed")
    file.write_bytes(wrong.kubeconfig("admin"))
    result = CliRunner().invoke(main, ["check", "--kubeconfig", str(file)])
    assert result.exit_code == 1
    assert "401" in result.stderr
    assert "guessed" not in result.output


WRONG_USAGE = {
    (
        "check",
        "-f",
        "{new}",
        "-n",
        "shop",
    ): "-n is about a cluster: name it with --context, --kubeconfig or --kubernetes",
    ("check",): "give at least one -f PATH",
    ("diff", "--context", "x"): "what would be applied to the cluster is given with -f PATH, and nothing else",
    ("diff", "{new}"): "give two files or folders, A and B; or -f PATH with --context",
    ("status", "-f", "{new}"): "portway check -f PATH judges files",
}


@pytest.mark.parametrize("command", WRONG_USAGE)
def test_wrong_usage_says_what_would_do(new: str, command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [part.format(new=new) for part in command])
    assert result.exit_code == 2
    assert WRONG_USAGE[command] in " ".join(result.stderr.split())
