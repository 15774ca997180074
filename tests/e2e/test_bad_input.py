"""Bad input, file by file, to one running Portway: each gets its verdict, and the good objects are served throughout.

The verdicts are compared word for word, as `portway check` and `portway status` show them; places are those of the file
that is written. Load runs on the good host all the time: not one answer may be another.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import msgspec
import pytest

from portway.app.checking import check_files
from portway.settings import Settings
from tests.kit.backends import Backends
from tests.kit.certificates import Authority
from tests.kit.load import LoadProcess, LoadSpec
from tests.kit.manifests import CLASS, gateway, ingress, secret, service
from tests.kit.portway import Portway, portway
from tests.kit.verdicts import faults_of_all

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

AUTHORITY = Authority()


class Case(msgspec.Struct, frozen=True):
    """What somebody writes into `zz.yaml`, and what is said about it."""

    text: str | bytes
    said: tuple[str, ...]
    """As `check` prints it, without the folder's name; `%` at the end stands for the rest of the line."""
    file: str = "zz.yaml"


def bad(host: str = "bad.test", path: str = "/", backend: str = "a", annotation: str = "", value: str = "") -> str:
    """An Ingress to be spoiled; it comes last by name, so that it takes nothing from older ones."""
    text = ingress("zz", host, [(path, backend)], annotations={annotation: "VALUE"} if annotation else None)
    return text.replace("'VALUE'", value)


def route(rule: str, hosts: str = "[bad.test]") -> str:
    """A Gateway that nothing else uses, and a route of one rule; the rule begins in line 20."""
    return (
        gateway("zz", [("http", 8081, "HTTP")])
        + f"""\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: zz, namespace: shop}}
spec:
  parentRefs: [{{name: zz}}]
  hostnames: {hosts}
  rules:
{rule}
    backendRefs: [{{name: a, port: 80}}]
"""
    )


def matching(expression: str) -> str:
    return route(f"  - matches: [{{path: {{type: RegularExpression, value: '{expression}'}}}}]")


def setting(name: str, value: str) -> str:
    return route(
        "  - filters: [{type: RequestHeaderModifier, "
        f'requestHeaderModifier: {{set: [{{name: "{name}", value: "{value}"}}]}}}}]'
    )


def with_certificate(kind: str) -> str:
    pair = AUTHORITY.issue_expired("bad.test") if kind == "expired" else AUTHORITY.issue_mismatching("bad.test")
    return ingress("zz", "bad.test", [("/", "a")], tls="zz") + "---\n" + secret("zz", pair.certificate, pair.key)


def listener_set(name: str, parent: str) -> str:
    return f"""\
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {{name: {name}, namespace: shop}}
spec:
  parentRef: {{kind: ListenerSet, name: {parent}}}
  listeners: [{{name: http, port: 8082, protocol: HTTP}}]
"""


INGRESS = "Ingress shop/zz: "
ROUTE = "HTTPRoute shop/zz: "
HOST = f"zz.yaml:9: error: {INGRESS}spec.rules[0].host: "
SECRET = f"{INGRESS}spec.tls[0].secretName: "
WILDCARD = 'has its wildcard elsewhere than as the whole first label; it is not served; write it like "*.example.com"'
MEANWHILE = "the default certificate is shown"
CASES: Mapping[str, Case] = {
    "malformed YAML": Case(
        "apiVersion: v1\nkind: Service\nmetadata: {name: x\nspec: {}\n",
        (
            "zz.yaml:4: error: column 5: a { has no }, or a comma is missing; it is not served; "
            "close it, or quote a value that begins with {",
        ),
    ),
    "a wrong type": Case(
        bad().replace("number: 80", "number: eighty"),
        (
            f"zz.yaml:12: error: {INGRESS}spec.rules[0].http.paths[0].backend.service.port.number: "
            '"eighty" is not a whole number; it is not served; write digits only',
        ),
    ),
    "an unknown kind": Case(
        "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: zz}\n",
        ("zz.yaml:1: info: Gadget default/zz: example.com/v1 Gadget is not read by Portway",),
    ),
    "a missing Service": Case(
        bad(backend="gone"),
        (
            f"zz.yaml:12: error: {INGRESS}spec.rules[0].http.paths[0].backend.service.name: "
            "Service shop/gone does not exist; requests to it answer 503; create it, or name one that exists",
        ),
    ),
    "a missing Secret": Case(
        ingress("zz", "bad.test", [("/", "a")], tls="gone"),
        (
            f"zz.yaml:8: error: {SECRET}Secret shop/gone does not exist; {MEANWHILE}; "
            "create it with kubectl create secret tls, or name another Secret",
        ),
    ),
    "a certificate that does not match its key": Case(
        with_certificate("mismatching"),
        (
            f"zz.yaml:8: error: {SECRET}Secret shop/zz: tls.key does not belong to the first certificate of tls.crt; "
            f"{MEANWHILE}; put the key there that the certificate was made for, and the leaf first into tls.crt",
        ),
    ),
    "an expired certificate": Case(
        with_certificate("expired"),
        (f"zz.yaml:8: warning: {SECRET}the certificate in Secret shop/zz expired on %",),
    ),
    "a regular expression that does not compile": Case(
        matching("/a("),
        (
            f"zz.yaml:21: error: {ROUTE}spec.rules[0].matches[0].path.value: "
            "the value is no RE2 expression: missing ): /a(; the match is left out; "
            "correct or shorten it (RE2's syntax, without look-around and back-references)",
        ),
    ),
    "a regular expression that is too large": Case(
        matching("/[a-z]{900}[0-9]{900}(abc|def){900}"),
        (f"zz.yaml:21: error: {ROUTE}spec.rules[0].matches[0].path.value: the value is too large: its program has %",),
    ),
    "a regular expression of an Ingress": Case(
        bad(path='"/a("', annotation="use-regex", value='"true"'),
        (f'zz.yaml:14: error: {INGRESS}spec.rules[0].http.paths[0].path: "/a(" is no RE2 expression: %',),
    ),
    "a header value with a line break": Case(
        setting("x", "a\\r\\nb: c"),
        (
            f"zz.yaml:21: error: {ROUTE}spec.rules[0].filters[0].requestHeaderModifier.set[0].value: "
            '"a\\r\\nb: c" is not a valid value; it is not served; '
            "allowed is visible ASCII characters, with single spaces or tabs between them",
        ),
    ),
    "a header value with a line break in an annotation": Case(
        bad(annotation="upstream-vhost", value='"a\\r\\nb: c"'),
        (
            f'zz.yaml:7: error: {INGRESS}metadata.annotations["nginx.ingress.kubernetes.io/upstream-vhost"]: '
            '"a\\r\\nb: c" is not a host name, with or without a port (it has the control character U+000D at '
            "position 1); %",
        ),
    ),
    "a huge header name": Case(
        setting("x" * 300, "a"),
        (
            f"zz.yaml:21: error: {ROUTE}spec.rules[0].filters[0].requestHeaderModifier.set[0].name: "
            f'"{"x" * 77}..." has 300 characters, more than the 256 allowed; it is not served; shorten it',
        ),
    ),
    "10,000 rules on one host": Case(ingress("zz", "bad.test", [(f"/p{number}", "a") for number in range(10_000)]), ()),
    "annotations of 1 MB": Case(
        bad(annotation="app-root", value="/" + "x" * (1 << 20)),
        (
            f"zz.yaml:6: error: {INGRESS}metadata.annotations: have 1,048,613 bytes together, "
            "more than the 262,144 allowed; it is not served; move large texts into a ConfigMap",
        ),
    ),
    "a value of 200 kB": Case(
        bad(annotation="app-root", value="/" + "x" * 200_000),
        (f'zz.yaml:7: error: {INGRESS}metadata.annotations["nginx.ingress.kubernetes.io/app-root"]: "/xxx%',),
    ),
    "a host and path that somebody has": Case(
        bad(host="good.test", backend="b"),
        (
            f'zz.yaml:12: warning: {INGRESS}spec.rules[0].http.paths[0]: the path "/" of good.test is served by '
            "Ingress shop/good, spec.rules[0].http.paths[0]; this one gets no requests; "
            "the older Ingress keeps a path; remove one of them",
        ),
    ),
    "an object that is there already": Case(
        ingress("good", "good.test", [("/", "b")]),
        (
            "zz.yaml:1: error: Ingress shop/good: declared twice: good.yaml:1 comes first and is served, this one is "
            "not; remove or rename one of the two",
        ),
    ),
    "references in a circle": Case(
        listener_set("zz", "zzz") + "---\n" + listener_set("zzz", "zz"),
        tuple(
            f"zz.yaml:{line}: error: ListenerSet shop/{name}: spec.parentRef: names no Gateway; its listeners are not "
            "served; name one, as ListenerSets add to Gateways only"
            for line, name in ((5, "zz"), (12, "zzz"))
        ),
    ),
    "aliases in a circle": Case(
        ingress("zz", "one.test", [("/", "a")], annotations={"server-alias": "two.test"})
        + "---\n"
        + ingress("zzz", "two.test", [("/", "b")], annotations={"server-alias": "one.test"}),
        (
            f'zz.yaml:7: warning: {INGRESS}metadata.annotations["nginx.ingress.kubernetes.io/server-alias"]: '
            "the alias two.test is not used: an Ingress has it as host; remove the alias here, or the name there",
            'zz.yaml:22: warning: Ingress shop/zzz: metadata.annotations["nginx.ingress.kubernetes.io/server-alias"]: '
            "the alias one.test is not used: an Ingress has it as host; remove the alias here, or the name there",
        ),
    ),
    "a Gateway on the port of Ingress": Case(
        gateway("zz", [("http", 80, "HTTP")]),
        ("zz.yaml:12: error: Gateway shop/zz: spec.listeners[0].port: 0.0.0.0:80/tcp belongs to Ingress, %",),
    ),
    "listeners that cannot share a port": Case(
        gateway("zz", [("http", 8081, "HTTP"), ("tcp", 8081, "TCP")]),
        (
            "zz.yaml:12: error: Gateway shop/zz: spec.listeners[0].protocol: HTTP cannot share port 8081 with "
            "listener tcp of Gateway shop/zz; this one is not served; give one of them another port",
            "zz.yaml:13: error: Gateway shop/zz: spec.listeners[1].protocol: TCP cannot share port 8081 with "
            "listener http of Gateway shop/zz; this one is not served; give one of them another port",
        ),
    ),
    "a NUL byte": Case(
        bad() + "# \0\n",
        (
            "zz.yaml:13: error: character U+0000 may not stand in YAML; it is not served; "
            'write it as an escape in "..." quotes, or remove it',
        ),
    ),
    "an escaped NUL": Case(
        bad(path='"/a\\0b"'),
        (
            f'zz.yaml:12: error: {INGRESS}spec.rules[0].http.paths[0].path: "/a\\x00b" has the control character '
            "U+0000 at position 2; requests are routed as if this path were not there; "
            "write a path that begins with /, without ?, # and control characters",
        ),
    ),
    "invalid UTF-8": Case(
        b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: zz}\ndata: {a: '\xff\xfe'}\n",
        ("zz.yaml:4: error: column 12: byte 0xFF is not UTF-8; it is not served; save the file as UTF-8",),
    ),
    "an extremely long host": Case(
        bad(host="x" * 5_000 + ".test"),
        (f'{HOST}"{"x" * 77}..." has 5005 characters, more than the 253 of a host name; it is not served; shorten it',),
    ),
    "a long label": Case(
        bad(host="x" * 64 + ".test"),
        (f"{HOST}%",),
    ),
    "a host in another script": Case(
        bad(host="bücher.test"),
        (f'{HOST}"bücher.test" is not a host name as it is asked for; it is not served; write "xn--bcher-kva.test"',),
    ),
    "punycode": Case(bad(host="xn--bcher-kva.test"), ()),
    "a wildcard alone": Case(bad(host='"*"'), (f'{HOST}"*" {WILDCARD}',)),
    "a wildcard in the middle": Case(
        bad(host='"a.*.test"'),
        (f'{HOST}"a.*.test" {WILDCARD}',),
    ),
    "a wildcard in part of a label": Case(
        bad(host='"a*.test"'),
        (f'{HOST}"a*.test" {WILDCARD}',),
    ),
    "two wildcards": Case(
        bad(host='"*.*.test"'),
        (f'{HOST}"*.*.test" is not a lower-case host name; it is not served; write one such as "shop.example.com"',),
    ),
    "YAML that is 64 deep": Case(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: zz}\nspec: " + "[" * 64 + "]" * 64 + "\n",
        (
            "zz.yaml:4: error: Ingress default/zz: spec: a list is not an object with fields; it is not served; "
            "write its fields as `name: value`, one per line",
        ),
    ),
    "YAML that is 100,000 deep": Case(
        "spec: " + "[" * 100_000 + "]" * 100_000 + "\n",
        ("zz.yaml:1: error: column 1005: more than 200 collections are nested, or an alias refers to %",),
    ),
    "aliases that multiply": Case(
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{one}: &{one} [{','.join(['*' + other] * 9)}]\n"
            for other, one in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        (
            "zz.yaml:1: error: column 10: aliases make more than 100,000 values of this document; it is not served; "
            "write the values out, or split the document",
        ),
    ),
    "JSON that is 100,000 deep": Case(
        '{"spec":' + "[" * 100_000 + "]" * 100_000 + "}",
        (
            "zz.json:1: error: more than 200 objects and lists are nested; it is not served; "
            "nest less, no Kubernetes object needs that",
        ),
        file="zz.json",
    ),
}


def good(ports: Mapping[str, int]) -> dict[str, str]:
    """What has to be served all the time."""
    return {
        "class.yaml": CLASS,
        "good.yaml": ingress("good", "good.test", [("/", "a")]),
        "services.yaml": "---\n".join(service(name, [port]) for name, port in ports.items()),
    }


def put(folder: Path, case: Case) -> None:
    """Write the file as editors do."""
    data = case.text if isinstance(case.text, bytes) else case.text.encode()
    temporary = folder / f".{case.file}.new"
    temporary.write_bytes(data)
    temporary.replace(folder / case.file)


def is_said(line: str, expected: str) -> bool:
    return line.startswith(expected[:-1]) if expected.endswith("%") else line == expected


@pytest.mark.parametrize("name", CASES)
async def test_check_says_it(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    for file, text in good({"a": 8001, "b": 8002}).items():
        (tmp_path / file).write_text(text)
    put(tmp_path, case)
    result = await check_files([str(tmp_path)], Settings())
    assert faults_of_all(result.verdicts) == []
    said = [str(remark).replace(f"{tmp_path}/", "") for remark in result.verdicts]
    assert len(said) == len(case.said), said
    for line, expected in zip(said, case.said, strict=True):
        assert is_said(line, expected), f"{line}\n{expected}"


async def test_the_good_objects_are_served_all_the_time(tmp_path: Path) -> None:
    async with Backends() as backends:
        ports = {name: (await backends.start(name)).port for name in "ab"}
        async with portway(tmp_path, good(ports)) as running:
            spec = LoadSpec(url=f"http://good.test:{running.http_port}/", rate=50)
            async with LoadProcess(spec) as load:
                for number, case in enumerate(CASES.values()):
                    put(running.files, on_its_port(case, running.http_port))
                    await marked(running, number)
                    (running.files / case.file).unlink()
                await marked(running, len(CASES))
            report = load.report()
            assert not report.wrong({"a"}), report.summary()
            assert len(report.samples) > 50
            assert await running.stop() == 0
            assert "query failed" not in running.log.read_text()


def on_its_port(case: Case, http_port: int) -> Case:
    """The case with the port that Ingress has there instead of 80."""
    if isinstance(case.text, bytes):
        return case
    return msgspec.structs.replace(case, text=case.text.replace("port: 80,", f"port: {http_port},"))


async def marked(running: Portway, number: int) -> None:
    """Until a good object that was written after the bad one is served: the bad one has been taken in by then."""
    running.write("marker.yaml", ingress("marker", f"marker{number}.test", [("/", "b")]))

    await running.until(
        lambda: is_served(running, f"marker{number}.test", "b"), f"served after case {number}", seconds=20
    )


STRICT = "{layered_runtime: {layers: [{name: strict, static_layer: {re2.max_program_size.error_level: 100}}]}}"
"""For an Envoy that takes no larger regular expressions: it refuses some that Portway takes for good."""


async def test_what_envoy_refuses_is_named_and_hurts_nobody(tmp_path: Path) -> None:
    envoy = tmp_path / "strict-envoy"
    real = Path(sys.executable).with_name("envoy")
    envoy.write_text(f"""#!/bin/sh
case "$*" in *--version*|*--hot-restart-version*) exec {real} "$@";; esac
exec {real} "$@" --config-yaml '{STRICT}'
""")
    envoy.chmod(0o755)
    async with Backends() as backends:
        ports = {name: (await backends.start(name)).port for name in "ab"}
        async with portway(tmp_path, good(ports), "--envoy-binary", str(envoy)) as running:
            running.write("zz.yaml", bad())
            await running.until(lambda: is_served(running, "bad.test", "a"), "served")
            spec = LoadSpec(url=f"http://good.test:{running.http_port}/", rate=50)
            async with LoadProcess(spec) as load:
                # Passes our checks, not this Envoy's; everything of the same change is delivered all the same.
                poisoned = bad(path='"/(a|b|c){50}[a-z]{100}"', backend="b", annotation="use-regex", value='"true"')
                running.write("zz.yaml", poisoned)
                await marked(running, 1)
                await running.until(lambda: is_refused(running), "refused")
                status = await running.status()
                (refusal,) = cast("list[dict[str, object]]", status["refusals"])
                assert refusal["origins"] == ["Ingress shop/zz"]
                assert "regex" in str(refusal["message"])
                assert await is_served(running, "bad.test", "a"), "the last good version stays"
                running.write("zz.yaml", bad(backend="b"))
                await running.until(lambda: is_served(running, "bad.test", "b"), "mended")
                assert (await running.status())["refusals"] == []
            report = load.report()
            assert not report.wrong({"a"}), report.summary()


async def is_served(running: Portway, host: str, pod: str) -> bool:
    return (await running.get(f"http://{host}/")).pod == pod


async def is_refused(running: Portway) -> bool:
    return bool((await running.status())["refusals"])
