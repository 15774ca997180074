"""Objects that make no sense, and objects, kinds, namespaces and rights that come and go: each costs what it is about,
is named where its owner looks, and takes nothing from its neighbours."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from portway.infra.kubernetes.applier import LINGER
from tests.cluster.binaries import ROOT
from tests.cluster.cluster import MiniCluster
from tests.cluster.outages import another_leader, kill_portway
from tests.cluster.portway_in import (
    CONTROL_PLANE,
    PROGRAMMED,
    PROXIES,
    SYSTEM,
    Object,
    Shop,
    gateway,
    install,
    logs,
    opened,
    route,
)
from tests.kit.answer import Failure
from tests.kit.certificates import Authority, KeyPair
from tests.kit.client import fetch

pytestmark = [pytest.mark.cluster, pytest.mark.disturbs, pytest.mark.timeout(300)]


class Case(msgspec.Struct, frozen=True):
    """Something that the API server accepts, and where its owner reads what is wrong with it."""

    manifest: str
    said: tuple[str, str, str, str] = ("", "", "", "")
    """Collection of the Gateway API, name, condition that is to be (`Accepted=False`), words in it; empty: nothing."""

    listener: str = ""
    """Whose condition it is; empty: the object's."""

    event: tuple[str, str] = ("", "")
    """Name of the object, words in an Event about it."""


def strange_route(name: str, rule: str) -> str:
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec: {{parentRefs: [{{name: edge}}], hostnames: [{name}.test], rules: [{rule}]}}
"""


def ingress(
    name: str, path: str = "/", backend: str = "{service: {name: a, port: {number: 80}}}", more: str = ""
) -> str:
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, annotations: {{{more}}}}}
spec:
  ingressClassName: portway
  rules:
  - host: {name}.test
    http: {{paths: [{{path: "{path}", pathType: ImplementationSpecific, backend: {backend}}}]}}
"""


def service(name: str, spec: str) -> str:
    return f"{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {spec}}}"


def endpoints(name: str, address: str, ports: str = "[{port: 8080}]") -> str:
    return f"""
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
endpoints: [{{addresses: [{address}], conditions: {{ready: true}}}}]
ports: {ports}
"""


TO_A = "backendRefs: [{name: a, port: 80}]"

CASES = {
    "a regular expression that is none": Case(
        strange_route("regex", f"{{matches: [{{path: {{type: RegularExpression, value: '/(['}}}}], {TO_A}}}"),
        ("httproutes", "regex", "Accepted=False", "no RE2 expression"),
    ),
    "a look-ahead, which RE2 has not": Case(
        strange_route(
            "ahead", f"{{matches: [{{headers: [{{type: RegularExpression, name: x, value: 'a(?!b)'}}]}}], {TO_A}}}"
        ),
        ("httproutes", "ahead", "Accepted=False", "no RE2 expression"),
    ),
    "a Service that is not there": Case(
        strange_route("nobody", "{backendRefs: [{name: nobody, port: 80}]}"),
        ("httproutes", "nobody", "ResolvedRefs=False", "BackendNotFound"),
    ),
    "a port that the Service has not": Case(
        strange_route("port", "{backendRefs: [{name: a, port: 81}]}"),
        ("httproutes", "port", "ResolvedRefs=False", "81"),
    ),
    "a backend of a kind that nobody knows": Case(
        strange_route("kind", "{backendRefs: [{group: example.com, kind: Teapot, name: a, port: 80}]}"),
        ("httproutes", "kind", "ResolvedRefs=False", "InvalidKind"),
    ),
    "nobody gets anything": Case(strange_route("weight", "{backendRefs: [{name: a, port: 80, weight: 0}]}")),
    "a filter of a kind that nobody knows": Case(
        strange_route(
            "filter",
            "{filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: Teapot, name: a}}], "
            + TO_A
            + "}",
        ),
        ("httproutes", "filter", "ResolvedRefs=False", "Teapot"),
    ),
    "a parent that does not exist": Case(route("orphan", ("/", "a"), parent="nobody")),
    "a Service that leads to the proxy itself": Case(
        service("inward", "{type: ExternalName, externalName: localhost, ports: [{port: 80}]}")
        + "\n---\n"
        + strange_route("inward", "{backendRefs: [{name: inward, port: 80}]}"),
        ("httproutes", "inward", "ResolvedRefs=False", "localhost"),
    ),
    "a Service without selector whose endpoints have another port": Case(
        service("lost", "{ports: [{name: web, port: 80}]}")
        + "\n---\n"
        + endpoints("lost", "10.244.200.200", "[{name: other, port: 8080}]")
        + "\n---\n"
        + strange_route("lost", "{backendRefs: [{name: lost, port: 80}]}")
    ),
    "an endpoint without a port": Case(
        service("portless", "{ports: [{port: 80}]}")
        + "\n---\n"
        + endpoints("portless", "10.244.200.201", "[]")
        + "\n---\n"
        + strange_route("portless", "{backendRefs: [{name: portless, port: 80}]}")
    ),
    "a certificate that is none": Case(
        "{apiVersion: v1, kind: Secret, metadata: {name: junk}, type: kubernetes.io/tls, "
        "stringData: {tls.crt: hello, tls.key: world}}\n---\n"
        + gateway("junk", "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: junk}]}}"),
        ("gateways", "junk", "ResolvedRefs=False", "InvalidCertificateRef"),
        listener="https",
    ),
    "listeners that cannot share a port": Case(
        gateway("clash", "{name: a, port: 80, protocol: HTTP}", "{name: b, port: 80, protocol: TCP}"),
        ("gateways", "clash", "Conflicted=True", "ProtocolConflict"),
        listener="b",
    ),
    "a Gateway whose parameters do not exist": Case(
        gateway("wild").replace(
            "spec: {",
            "spec: {infrastructure: {parametersRef: {group: example.com, kind: Teapot, name: x}}, ",
        ),
        ("gateways", "wild", "Accepted=False", "InvalidParameters"),
    ),
    "a Gateway of a class that nobody has": Case(gateway("stray", of_class="nobodys")),
    "an Ingress to a Service that is not there": Case(
        ingress("ingress-nobody", backend="{service: {name: nobody, port: {number: 80}}}"),
        event=("ingress-nobody", "nobody"),
    ),
    "an Ingress to no Service": Case(
        ingress("ingress-resource", backend="{resource: {apiGroup: example.com, kind: Teapot, name: a}}"),
        event=("ingress-resource", "Teapot"),
    ),
    "an Ingress with an annotation that makes no sense": Case(
        ingress("ingress-annotation", more="nginx.ingress.kubernetes.io/proxy-read-timeout: soon"),
        event=("ingress-annotation", "soon"),
    ),
}


async def restarts(cluster: MiniCluster) -> list[int]:
    """How often the control plane's containers started again."""
    return sorted(pod.status.restarts for pod in await cluster.pods(SYSTEM, CONTROL_PLANE))


async def test_objects_that_make_no_sense(cluster: MiniCluster) -> None:
    async with opened(cluster) as shop:
        await shop.apply(route("web", ("/", "a"), hosts=["shop.test"]))
        await shop.until_served(by="a")
        before = await restarts(cluster)
        async with shop.load("a"):
            for case in CASES.values():
                await shop.apply(case.manifest)
            wrong = []
            for name, case in CASES.items():
                try:
                    if case.said[0]:
                        collection, object_, condition, words = case.said
                        where = {"listener": case.listener, "has": words}
                        await shop.until(collection, object_, *condition.split("="), **where, seconds=20)
                    if case.event[0]:
                        await shop.until_event(*case.event)
                except AssertionError as error:
                    wrong.append(f"{name}: {error}")
            assert not wrong, "\n".join(wrong)
            await shop.apply(route("after", ("/", "a"), hosts=["after.test"]))
            await shop.until_served("/", "after.test", by="a")
            await shop.until("httproutes", "after", PROGRAMMED)
        assert await restarts(cluster) == before
        assert "Traceback" not in await asyncio.to_thread(logs, cluster, lines=1_000)


def tls_secret(pair: KeyPair, *, type_: str = "kubernetes.io/tls") -> str:
    data = {"tls.crt": pair.certificate, "tls.key": pair.key}
    encoded = ", ".join(f"{key}: {base64.b64encode(text.encode()).decode()}" for key, text in data.items())
    return f"{{apiVersion: v1, kind: Secret, metadata: {{name: cert}}, type: {type_}, data: {{{encoded}}}}}"


async def test_a_secret_comes_late_is_renewed_changes_its_type_and_vanishes(cluster: MiniCluster) -> None:
    authority = Authority()
    https = "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}"
    async with opened(cluster) as shop:
        await shop.apply(gateway("edge", "{name: http, port: 80, protocol: HTTP}", https), route("web", ("/", "a")))
        await shop.until("gateways", "edge", "ResolvedRefs", "False", listener="https", has="does not exist")
        await shop.until_served(by="a")
        secret = f"/api/v1/namespaces/{shop.namespace}/secrets/cert"

        async def shows(pair: KeyPair) -> None:
            async def look() -> bool:
                return await shop.certificate_serials() == {pair.serial()}

            await cluster.wait_for("the certificate", look)

        async with shop.load("a"):
            first, second, third = (authority.issue("shop.test") for _ in range(3))
            await shop.apply(tls_secret(first))
            await shows(first)
            await shop.until("gateways", "edge", "Programmed", listener="https")
            await shop.apply(tls_secret(second))
            await shows(second)
            # The type of a Secret cannot be changed in place.
            await cluster.api.delete(secret)
            await shop.apply(tls_secret(second, type_="Opaque"))
            said = await shop.until(
                "gateways", "edge", "ResolvedRefs", "False", listener="https", has="is of type Opaque"
            )
            assert said.reason == "InvalidCertificateRef"
            await shop.until("gateways", "edge", "Programmed", "False", listener="https")

            async def unserved() -> bool:
                answer = await fetch("https://shop.test/", address=shop.address)
                assert answer.failure is Failure.REFUSED, answer
                return True

            await cluster.wait_for("port 443 closed", unserved)
            await cluster.api.delete(secret)
            await shop.until("gateways", "edge", "ResolvedRefs", "False", listener="https", has="does not exist")
            await shop.apply(tls_secret(third))
            await shows(third)
            await shop.until("gateways", "edge", "Programmed")


GRPC = """
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: grpc}
spec: {parentRefs: [{name: edge}], hostnames: [grpc.test], rules: [{backendRefs: [{name: a, port: 80}]}]}
"""


async def test_a_definition_is_deleted_and_made_again(cluster: MiniCluster) -> None:
    name = "grpcroutes.gateway.networking.k8s.io"
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
    async with opened(cluster) as shop:
        await shop.apply(route("web", ("/", "a")), GRPC)
        await shop.until_served(by="a")
        await shop.until("grpcroutes", "grpc", PROGRAMMED)
        definition = msgspec.json.decode(await cluster.api.request("GET", path), type=dict[str, object])
        async with shop.load("a"):
            try:
                await cluster.api.delete(path)
                await cluster.wait_gone(path)
                await shop.apply(route("after", ("/", "a"), hosts=["after.test"]))
                await shop.until_served("/", "after.test", by="a")
                await shop.until("httproutes", "after", PROGRAMMED)
            finally:
                kept = {key: definition[key] for key in ("apiVersion", "kind", "spec")}
                metadata = definition["metadata"]
                assert isinstance(metadata, dict)
                body = {**kept, "metadata": {"name": name, "annotations": metadata["annotations"]}}
                collection = path.rpartition("/")[0]
                await cluster.api.request("POST", collection, msgspec.json.encode(body))

            async def again() -> bool:
                await shop.apply(GRPC)
                return True

            await cluster.wait_for("the kind is served again", again)
            await shop.until("grpcroutes", "grpc", PROGRAMMED)


CLASSES = (
    "/apis/gateway.networking.k8s.io/v1/gatewayclasses/portway",
    "/apis/networking.k8s.io/v1/ingressclasses/portway",
)


async def test_classes_are_deleted_and_made_again(cluster: MiniCluster) -> None:
    """As `helm upgrade` and GitOps tools do; the proxies are the same ones afterwards."""

    async def proxies(namespace: str) -> set[str]:
        return {pod.metadata.uid for pod in await cluster.pods(namespace, PROXIES)}

    async with opened(cluster) as shop:
        await shop.apply(route("web", ("/", "a"), hosts=["shop.test"]), ingress("web"))
        await shop.until_served(by="a")
        ingresses = Shop(cluster, shop.namespace)
        ingresses.address = await cluster.load_balancer(SYSTEM, "portway-ingress-portway")
        await ingresses.until_served("/", "web.test", by="a")
        before = await proxies(shop.namespace), await proxies(SYSTEM)
        async with shop.load("a"), ingresses.load("a", host="web.test"):
            for path in CLASSES:
                await cluster.api.delete(path)
                await cluster.wait_gone(path)
            await asyncio.sleep(6)
            # Meanwhile all goes on as before.
            await shop.apply(route("while", ("/", "a"), hosts=["while.test"]))
            await shop.until_served("/", "while.test", by="a")
            await cluster.api.apply((ROOT / "deploy/classes/classes.yaml").read_text())

            async def accepted() -> bool:
                found = (await cluster.api.get(CLASSES[0], Object)).find("Accepted")
                assert found.status == "True", str(found)
                return True

            await cluster.wait_for("the class accepted", accepted)
            await shop.apply(route("after", ("/", "a"), hosts=["after.test"]))
            await shop.until_served("/", "after.test", by="a")
            await shop.until("gateways", "edge", "Programmed")
        assert (await proxies(shop.namespace), await proxies(SYSTEM)) == before


@pytest.mark.slow
async def test_a_namespace_is_deleted_under_traffic(cluster: MiniCluster) -> None:
    listener = "{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}"
    async with opened(cluster) as shop, opened(cluster) as other:
        await shop.apply(gateway("edge", listener), route("web", ("/", "a")))
        await other.apply(
            route("web", ("/", "a")),
            route("guest", ("/", "a"), hosts=["guest.test"]).replace(
                "parentRefs: [{name: edge}]", f"parentRefs: [{{name: edge, namespace: {shop.namespace}}}]"
            ),
        )
        await shop.until_served(by="a")
        await shop.until_answer(lambda answer: answer.status == 200, "/", "guest.test")
        path = f"/api/v1/namespaces/{other.namespace}"
        async with shop.load("a"):
            await cluster.api.delete(path)
            await cluster.wait_gone(path)
            # What is left of the guest's host is the route without a host.
            await shop.until_served("/", "guest.test", by="a")
            await shop.apply(route("after", ("/", "a"), hosts=["after.test"]))
            await shop.until_served("/", "after.test", by="a")
            await shop.until("gateways", "edge", "Programmed")


class _Role(msgspec.Struct, frozen=True):
    rules: list[dict[str, list[str]]]


@asynccontextmanager
async def without_right(cluster: MiniCluster, resource: str) -> AsyncIterator[None]:
    """Portway, started anew, may not list and watch one of the Gateway API's kinds."""
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/portway-routes"
    role = msgspec.json.decode(await cluster.api.request("GET", path), type=_Role)
    lessened = [{**rule, "resources": [one for one in rule["resources"] if one != resource]} for rule in role.rules]
    try:
        await cluster.api.patch(path, {"rules": lessened})
        await kill_portway(cluster)

        async def named() -> bool:
            text = await asyncio.to_thread(logs, cluster)
            assert all(
                any(word in line for line in text.splitlines() if resource in line)
                for word in ("portway-system", "list", "watch", "gateway.networking.k8s.io", "ClusterRole")
            ), text
            return True

        await cluster.wait_for("the missing right named", named)
        await install(cluster)
        yield
    finally:
        await cluster.api.patch(path, {"rules": role.rules})


async def test_a_right_that_is_missing_is_named_and_the_rest_works(cluster: MiniCluster) -> None:
    async with opened(cluster) as shop:
        await shop.apply(route("web", ("/", "a")))
        await shop.until_served(by="a")
        async with shop.load("a"), without_right(cluster, "tlsroutes"):
            await shop.apply(route("after", ("/", "a"), hosts=["after.test"]))
            await shop.until_served("/", "after.test", by="a")
            await shop.until("httproutes", "after", PROGRAMMED)


def uids(shop: Shop) -> str:
    """Of what is there of its fleets."""
    every = "deployments,services,configmaps,serviceaccounts,poddisruptionbudgets"
    return shop.cluster.kubectl("get", every, "-n", shop.namespace, "-o", "jsonpath={.items[*].metadata.uid}")


@pytest.mark.slow
async def test_what_cannot_be_read_takes_no_fleet_and_no_status_away(cluster: MiniCluster) -> None:
    async with opened(cluster) as shop:
        await shop.apply(route("web", ("/", "a")))
        await shop.until_served(by="a")
        await shop.until("httproutes", "web", PROGRAMMED)
        before, objects = await shop.read("httproutes", "web"), uids(shop)
        async with shop.load("a"):
            async with without_right(cluster, "gateways"):
                await another_leader(cluster, "")
                await asyncio.sleep(LINGER.total_seconds() + 10)  # in which whoever is not in doubt deletes
                assert await shop.read("httproutes", "web") == before
                assert uids(shop) == objects
            await shop.apply(route("after", ("/", "a"), hosts=["after.test"]))
            await shop.until_served("/", "after.test", by="a")
            await shop.until("httproutes", "after", PROGRAMMED)
