"""`portway explain`, `diff` and `check` as a user runs them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from portway.cli import main
from tests.explain.manifests import CLASS, SERVICES, gateway, ingress, route, service
from tests.kit.manifests import gateway as web_gateway
from tests.kit.manifests import service as shop_service

SHOP = "\n---\n".join((CLASS, SERVICES, ingress("shop", "shop.test", {"/": "a", "/cart": "b"})))


HTTP = [("http", 80, "HTTP")]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    file = tmp_path / "shop.yaml"
    file.write_text(SHOP)
    return file


def test_explain_tells_the_whole_way(shop: Path) -> None:
    result = run("explain", "GET", "http://shop.test/cart/1?q=2", "-f", str(shop))
    assert result.exit_code == 0, result.output
    line = 1 + SHOP.splitlines().index("      - backend:", 1 + SHOP.splitlines().index("      - backend:"))
    assert result.stdout.splitlines() == [
        "GET http://shop.test/cart/1?q=2",
        "  listener  0.0.0.0:80/tcp (http)",
        "  host      shop.test",
        "  routes, in the order in which they are tried",
        f"    ✓ Ingress default/shop spec.rules[0].http.paths[1] ({shop}:{line})",
        "  → forwarded to Service default/b port 80 as shop.test/cart/1?q=2",
        "      endpoints (1): 10.0.0.1:80",
        "  on the way",
        "    by default",
        "      retries: up to 2 more tries on failed connections",
    ]


TWICE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: shop}
spec:
  parentRefs: [{name: web}, {name: edge}]
  hostnames: [shop.test]
  rules:
  - matches:
    - {path: {type: PathPrefix, value: /pay}, method: POST}
    - {path: {type: PathPrefix, value: /cart}}
    backendRefs: [{name: a, port: 80}]
  - filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-a, value: b}]}}
    backendRefs:
    - {name: a, port: 80}
    - {name: b, port: 80}
    - {name: gone, port: 80, weight: 2}
"""


def test_explain_says_everything_once(tmp_path: Path) -> None:
    (tmp_path / "gateways.yaml").write_text(f"{web_gateway('web', HTTP)}---\n{web_gateway('edge', HTTP)}")
    (tmp_path / "services.yaml").write_text(f"{shop_service('a', [8001])}---\n{shop_service('b', [])}")
    (tmp_path / "route.yaml").write_text(TWICE)
    url, asked = "http://shop.test/pay", ("--infrastructure", "kubernetes", "--gateway", "shop/web")
    result = run("explain", "GET", url, "-f", str(tmp_path), *asked)
    assert result.stdout.replace(f"{tmp_path}/", "").splitlines() == [
        "GET http://shop.test/pay",
        "  at        Gateway shop/web",
        "  listener  0.0.0.0:80/tcp (gateway:shop:web:80)",
        "  host      shop.test",
        "  routes, in the order in which they are tried",
        "    ✗ HTTPRoute shop/shop spec.rules[0].matches[1] (route.yaml:10): path /pay is not below /cart",
        "    ✗ HTTPRoute shop/shop spec.rules[0].matches[0] (route.yaml:9): method GET is not POST",
        "    ✓ HTTPRoute shop/shop spec.rules[1].matches[0] (route.yaml:12)",
        "  → 25.0% forwarded to Service shop/a port 80 as shop.test/pay",
        "      by spec.rules[1].backendRefs[0] (route.yaml:15)",
        "      endpoints (1): 127.0.0.1:8001",
        "  → 25.0% 503: Service shop/b port 80 has no endpoints (it would be sent shop.test/pay)",
        "      by spec.rules[1].backendRefs[1] (route.yaml:16)",
        "  → 50.0% 500: Service shop/gone does not exist",
        "      by spec.rules[1].backendRefs[2] (route.yaml:17)",
        "  on the way",
        "    request headers: sets x-a: b",
        "    by default",
        "      retries: up to 2 more tries on failed connections",
    ]


def test_explain_says_why_others_lost(shop: Path) -> None:
    result = run("explain", "GET", "http://shop.test/cartoon", "-f", str(shop))
    lost = [line for line in result.output.splitlines() if line.startswith("    ✗ Ingress default/shop ")]
    assert [line.rpartition("): ")[2] for line in lost] == ["path /cartoon is not below /cart"]
    assert "→ forwarded to Service default/a port 80 as shop.test/cartoon" in result.output


def test_explain_hints_at_what_may_be_meant(shop: Path) -> None:
    result = run("explain", "GET", "http://shp.test/", "-f", str(shop))
    assert "  hint: did you mean shop.test?" in result.output.splitlines()


def test_explain_shows_routes_that_nobody_declared_only_where_they_act(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    lists = ingress("admin", "shop.test", {"/admin": "b"}, whitelist_source_range="10.0.0.0/8")
    file.write_text("\n---\n".join((CLASS, SERVICES, ingress("shop", "shop.test", {"/": "a"}), lists)))
    past = run("explain", "GET", "http://shop.test/cart", "-f", str(file)).output.splitlines()
    start = past.index("  routes, in the order in which they are tried") + 1
    assert [line.replace(f"{file}:", "") for line in past[start:] if line.startswith(("    ✗", "    ✓"))] == [
        "    ✗ Ingress default/admin spec.rules[0].http.paths[0] (111): path /cart is not below /admin",
        "    ✓ Ingress default/shop spec.rules[0].http.paths[0] (90)",
    ]
    for path, guarded in {
        "//admin": " keeps off other spellings of /admin",
        "/x%2f..%2fadmin": " keeps off paths that a server may take for others",
    }.items():
        lines = run("explain", "GET", f"http://shop.test{path}", "-f", str(file)).output.splitlines()
        assert any(line.startswith("    ✓") and line.endswith(guarded) for line in lines), lines
    routes = json.loads(run("explain", "GET", "http://shop.test/cart", "-f", str(file), "-o", "json").output)["routes"]
    assert [one["guard"] for one in routes] == [
        "paths that a server may take for others",
        "",
        "other spellings of /admin",
        "",
    ]


def test_explain_as_json(shop: Path) -> None:
    result = run("explain", "GET", "http://shop.test/cart", "-H", "X-A: 1", "-f", str(shop), "-o", "json")
    report = json.loads(result.output)
    assert list(report) == [
        "request",
        "fleet",
        "listener",
        "chain",
        "table",
        "virtual_host",
        "routes",
        "results",
        "applied",
        "hints",
    ]
    found = report["results"][0]
    assert (found["share"], found["status"], found["upstream"]) == (1.0, 0, "default/b:80")
    assert (found["host"], found["target"]) == ("shop.test", "/cart")
    assert ["x-a", "1"] in found["request_headers"]
    assert found["place"]["object"] == "Ingress default/shop"
    assert found["place"]["file"] == str(shop)
    assert found["place"]["line"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("GET", "shop.test/x"), '"shop.test/x" is no URL of the form http://HOST/PATH'),
        (("FOO BAR", "http://shop.test/"), '"FOO BAR" is no HTTP method like GET'),
        (("GET", f"http://{'ü' * 64}.test/"), '.test" is no host name'),
        (("GET", "http://shop.test/", "-H", "nonsense"), '-H "nonsense" is not of the form NAME: VALUE'),
    ],
)
def test_wrong_usage_is_said(arguments: tuple[str, ...], said: str, shop: Path) -> None:
    result = run("explain", *arguments, "-f", str(shop))
    assert result.exit_code == 2
    assert said in result.output


def test_diff_tells_an_example_and_exits_with_1(shop: Path, tmp_path: Path) -> None:
    after = tmp_path / "after.yaml"
    after.write_text("\n---\n".join((CLASS, SERVICES, ingress("shop", "shop.test", {"/": "a", "/cart": "c"}))))
    result = run("diff", str(shop), str(after))
    assert result.exit_code == 1, result.output
    lines = result.output.splitlines()
    assert lines[:3] == [
        "GET http://shop.test/cart",
        "  - forwarded to Service default/b port 80 as shop.test/cart",
        "  + forwarded to Service default/c port 80 as shop.test/cart",
    ]
    assert json.loads(run("diff", str(shop), str(after), "-o", "json").stdout)["changes"][0]["kind"] == "request"


def test_diff_of_the_same_is_silent(shop: Path) -> None:
    result = run("diff", str(shop), str(shop))
    assert (result.exit_code, result.stdout) == (0, "no request changes\n")
    assert result.stderr == "0 changes; 0 hosts with other routes, 0 requests compared\n"


def test_explain_and_diff_say_what_files_hold_and_they_did_not_take(shop: Path, tmp_path: Path) -> None:
    after = tmp_path / "after"
    after.mkdir()
    (after / "shop.yaml").write_text(SHOP)
    (after / "broken.yaml").write_text("kind: [")
    for index in range(11):
        (after / f"wrong-{index}.yaml").write_text(
            f"apiVersion: v1\nkind: Service\nmetadata: {{name: w{index}}}\nspec: 5\n"
        )
    compared = run("diff", str(shop), str(after))
    assert (compared.exit_code, compared.stdout) == (0, "no request changes\n")
    explained = run("explain", "GET", "http://shop.test/", "-f", str(after))
    for result in (compared, explained):
        told = [line for line in result.stderr.splitlines() if line.startswith("left out: ")]
        assert told[0].startswith(f"left out: {after}/broken.yaml:2: column 1: a value was expected here")
        assert told[1].startswith(f"left out: {after}/wrong-0.yaml:4: Service default/w0: spec: 5 is not an object")
        assert told[10] == "left out: 2 more, which portway check tells"


def test_check_finds_what_would_not_work(tmp_path: Path) -> None:
    file = tmp_path / "route.yaml"
    rules = "[{backendRefs: [{name: gone, port: 80}]}]"
    file.write_text("\n---\n".join((CLASS, service("a"), gateway(), route("r", rules))))
    result = run("check", "-f", str(file))
    assert result.exit_code == 1, result.output
    assert f"{file}:" in result.stdout
    assert "HTTPRoute default/r: spec.rules[0].backendRefs[0]: Service default/gone does not exist" in result.stdout
    assert "1 error, 0 warnings" in result.stderr


def test_check_is_content_with_what_works(shop: Path) -> None:
    result = run("check", "-f", str(shop))
    assert result.exit_code == 0, result.output
    assert "0 errors, 0 warnings" in result.stderr


FOREIGN = "\n---\n".join(
    (
        SERVICES,
        ingress("shop", "shop.test", {"/": "a"}).replace("ingressClassName: portway", "ingressClassName: nginx"),
    )
)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    file = tmp_path / "foreign.yaml"
    file.write_text(FOREIGN)
    return file


def test_a_comparison_of_nothing_is_told_from_one_without_changes(foreign: Path) -> None:
    result = run("diff", str(foreign), str(foreign))
    assert f"hint: {foreign}: no port is open: nothing is declared, or only for other classes" in result.stderr
    assert "hint:" not in run("diff", "--all-classes", str(foreign), str(foreign)).output


def test_check_says_how_many_objects_it_left_out(foreign: Path) -> None:
    result = run("check", "--quiet", "-f", str(foreign))
    assert result.stderr.splitlines()[-1] == "hint: 1 object of other classes not checked; --all-classes checks all"
    assert "hint:" not in run("check", "--all-classes", "-f", str(foreign)).output


def test_all_settings_of_routes_are_taken_although_help_is_short(foreign: Path) -> None:
    told = run("explain", "GET", "http://shop.test/", "-f", str(foreign), "--all-classes", "--trusted-proxies", "::/0")
    assert told.exit_code == 0, told.output
    shown = run("explain", "--help").output
    assert "--trusted-proxies" not in shown
    assert "All other options of `portway run`" in shown


ODD_QUESTIONS = {
    ("-f", "/no/such/folder"): "/no/such/folder: there is no such file or folder; create it, or correct the path",
    ("--client", "localhost"): '--client: "localhost" is not an IP address',
    ("--listen-address", "lo"): '--listen-address: "lo" is not an IP address',
    (
        "--admin-address",
        "",
    ): "the admin address is empty, so no Portway can be asked; give files with -f, a cluster with",
    ("--admin-address", "127.0.0.1:1"): "no Portway answers at 127.0.0.1:1: Connection refused; give files with -f",
}


@pytest.mark.parametrize("options", ODD_QUESTIONS)
def test_odd_questions(options: tuple[str, str]) -> None:
    result = run("explain", "GET", "http://shop.test/", *options)
    assert result.exit_code != 0
    assert ODD_QUESTIONS[options] in result.stderr


def test_a_route_of_portway_itself_is_shown_where_it_acts(shop: Path) -> None:
    result = run("explain", "GET", "http://other.test/healthz", "-f", str(shop))
    assert "    ✓ Portway itself (healthz)" in result.output.splitlines()
    result = run("explain", "GET", "http://other.test/", "-f", str(shop))
    assert result.stdout.splitlines()[2:] == ["  host      *", "  → 404: there is no route for other.test"]
