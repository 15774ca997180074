"""The Kubernetes source against a real API server: Secrets, kinds and rights that come and go, outages."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from portway.kubernetes import reflector as reflector_module
from portway.kubernetes.backoff import Backoff
from portway.kubernetes.client import ApiClient, resource_path
from portway.kubernetes.events import State
from portway.objects.core_v1 import Secret
from portway.objects.kinds import KINDS, kind_of
from portway.objects.networking_v1 import Ingress, IngressClass
from portway.objects.verdict import ObjectKey
from portway.sources.kubernetes import material as material_module
from portway.sources.kubernetes import recovery as recovery_module
from portway.sources.kubernetes import source as source_module
from portway.sources.kubernetes.demand import References
from portway.sources.kubernetes.source import LINGER, KubernetesSource
from portway.store import Finding, Store
from portway.translate.key_material import REFERRING, key_material
from tests.cluster.control_plane import Component, ControlPlane
from tests.kubernetes.faulty import FaultyServer
from tests.kubernetes.planes import client_of, plane
from tests.sources.suite import TIMEOUT, Reader, reading

__all__ = ["plane"]
pytestmark = pytest.mark.cluster

REFERENCES: Final = References(kinds=REFERRING, of=key_material)


class Cluster:
    """Objects made by an administrator, removed at the end of the test."""

    def __init__(self, client: ApiClient) -> None:
        self.client = client
        self._made: dict[str, None] = {}

    async def apply(self, text: str) -> None:
        for document in filter(None, yaml.safe_load_all(text)):
            kind = kind_of(document["apiVersion"], document["kind"])
            assert kind is not None
            namespace = "shop" if kind.namespaced else ""
            version = document["apiVersion"].rpartition("/")[2]
            path = resource_path(kind.group, version, kind.plural, namespace, document["metadata"]["name"])
            self._made[path] = None
            await self.client.apply(path, msgspec.json.encode(document), manager="test")

    async def delete(self, kind: str, name: str) -> None:
        found = KINDS[kind]
        await self.client.delete(resource_path(found.group, found.versions[0], found.plural, "shop", name))

    async def clean(self) -> None:
        for path in self._made:
            await self.client.delete(path)


@pytest_asyncio.fixture
async def cluster(plane: ControlPlane) -> AsyncIterator[Cluster]:
    client = client_of(plane.administrator)
    body = b'{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}'
    await client.apply(resource_path("", "v1", "namespaces", "", "shop"), body, manager="test")
    cluster = Cluster(client)
    yield cluster
    await cluster.clean()
    await client.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seldom is soon."""
    monkeypatch.setattr(reflector_module, "MISSING_WAIT", 0.2)
    monkeypatch.setattr(reflector_module, "FORBIDDEN_WAIT", 0.2)
    monkeypatch.setattr(source_module, "LOOK_AGAIN", 0.1)


@asynccontextmanager
async def watching(
    client: ApiClient,
    *,
    namespaces: Sequence[str] = (),
    label_selector: str = "",
    doubt: float = 0.5,
    synced: bool = True,
) -> AsyncIterator[tuple[KubernetesSource, Reader]]:
    source = KubernetesSource(
        client, namespaces=namespaces, label_selector=label_selector, references=REFERENCES, doubt=doubt
    )
    async with reading(source, synced=synced) as reader:
        yield source, reader


def secret(name: str, text: str = "1") -> str:
    return f"{{apiVersion: v1, kind: Secret, metadata: {{name: {name}}}, stringData: {{text: '{text}'}}}}\n---\n"


def ingress(name: str, *secrets: str, service: str = "web", labels: str = "{}") -> str:
    tls = ", ".join(f"{{secretName: {one}}}" for one in secrets)
    backend = f"{{service: {{name: {service}, port: {{number: 80}}}}}}"
    return (
        f"{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: {name}, labels: {labels}}}, "
        f"spec: {{tls: [{tls}], defaultBackend: {backend}}}}}\n---\n"
    )


def service_manifest(name: str) -> str:
    return f"{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{ports: [{{port: 80}}]}}}}\n---\n"


def secrets_of(store: Store) -> dict[str, bytes]:
    """By name, the texts of the Secrets in memory."""
    found: dict[str, bytes] = {}
    for key in store.keys("Secret"):
        stored = store.get(key)
        assert stored is not None
        assert isinstance(stored.object, Secret)
        found[key.name] = stored.object.data["text"].reveal()
    return found


def forbidden(store: Store) -> list[Finding]:
    """What is said about rights that are missing."""
    return [one for one in store.findings() if one.verdict.reason == "Forbidden"]


def unreachable(store: Store) -> list[str]:
    """What is said about what cannot be followed."""
    return [one.verdict.problem for one in store.findings() if one.verdict.reason == "Unreachable"]


async def until(look: Callable[[], bool]) -> None:
    """Until the source is so, which tells nobody."""
    async with asyncio.timeout(TIMEOUT):
        while not look():  # noqa: ASYNC110 - it is asked now and then
            await asyncio.sleep(0.02)


def has(kind: str, name: str) -> ObjectKey:
    return ObjectKey(kind, "shop", name)


async def test_only_secrets_that_are_referred_to_are_kept(cluster: Cluster) -> None:
    await cluster.apply(secret("used") + secret("unused") + ingress("a", "used"))
    async with watching(cluster.client) as (source, reader):
        assert secrets_of(reader.store) == {"used": b"1"}
        await cluster.apply(secret("used", "2") + secret("unused", "2"))
        await reader.until(lambda store: secrets_of(store) == {"used": b"2"})
        await cluster.apply(ingress("b", "unused"))
        await reader.until(lambda store: secrets_of(store) == {"used": b"2", "unused": b"2"})
        await cluster.delete("Ingress", "a")
        await reader.until(lambda store: secrets_of(store) == {"unused": b"2"})
        assert source.statistics().wanted == 1


CLASS = (
    "{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: one}, spec: {controller: test/CONTROLLER}}"
)


async def test_a_class_that_is_deleted_and_made_anew_is_not_missed(cluster: Cluster) -> None:
    key = ObjectKey("IngressClass", "", "one")
    path = resource_path("networking.k8s.io", "v1", "ingressclasses", "", "one")
    now = 0.0
    source = KubernetesSource(cluster.client, clock=lambda: now)
    async with reading(source) as reader:

        def is_by(controller: str) -> Callable[[Store], bool]:
            def look(store: Store) -> bool:
                stored = store.get(key)
                assert stored is not None, "at no moment it is missing"
                assert isinstance(stored.object, IngressClass)
                return stored.object.spec.controller == f"test/{controller}"

            return look

        async def read_on(mark: str) -> None:
            await asyncio.sleep(0.5)
            await cluster.apply(secret(mark) + ingress(mark, mark))
            await reader.until(lambda store: store.get(has("Ingress", mark)) is not None)

        await cluster.apply(CLASS.replace("CONTROLLER", "a"))
        await reader.until(lambda store: store.get(key) is not None)
        await cluster.client.delete(path)
        await read_on("deleted")
        assert is_by("a")(reader.store)
        await cluster.apply(CLASS.replace("CONTROLLER", "b"))
        await reader.until(is_by("b"))
        now += 2 * LINGER
        await read_on("later")
        assert is_by("b")(reader.store)
        # For good.
        await cluster.client.delete(path)
        await read_on("for-good")
        assert is_by("b")(reader.store)
        now += LINGER
        await reader.until(lambda store: store.get(key) is None)


async def test_who_has_seen_more_of_a_kind_has_it_listed_anew(cluster: Cluster) -> None:
    await cluster.apply(ingress("one"))
    async with watching(cluster.client) as (source, reader):
        await reader.until(lambda store: store.get(has("Ingress", "one")) is not None)
        read, before, now = source.handed_out()["Ingress"], source.as_of(), time.monotonic()
        there = {"Ingress", "Service", "Secret"}  # kinds that are missing are asked for again all the time
        assert set(before) >= there
        assert max(before.values()) < now
        source.list_since("Ingress", read, now)  # that is known
        source.list_since("Service", read + 1_000_000, now)
        source.list_since("Service", read + 1_000_000, now)
        async with asyncio.timeout(20):
            while source.as_of().get("Service", 0.0) < now:  # noqa: ASYNC110 - nothing is reported
                await asyncio.sleep(0.02)
        after = source.as_of()
        assert {kind for kind in there if after[kind] != before[kind]} == {"Service"}
        lists = {one.path: one.lists for one in source.statistics().collections}
        assert lists[resource_path("", "v1", "services")] == 2


async def test_who_refers_to_a_secret_comes_together_with_it(cluster: Cluster) -> None:
    await cluster.apply(secret("first") + secret("second"))
    async with watching(cluster.client) as (_, reader):
        await cluster.apply(ingress("a", "first"))
        await reader.until(lambda store: store.get(has("Ingress", "a")) is not None)
        assert secrets_of(reader.store) == {"first": b"1"}
        await cluster.apply(ingress("a", "second"))

        def is_second(store: Store) -> bool:
            # At no moment without the Secret that it refers to.
            stored = store.get(has("Ingress", "a"))
            assert stored is not None
            assert isinstance(stored.object, Ingress)
            name = stored.object.spec.tls[0].secret_name
            assert set(secrets_of(store)) == {name}
            return name == "second"

        await reader.until(is_second)


async def test_nobody_waits_for_a_secret_that_does_not_exist(cluster: Cluster) -> None:
    async with watching(cluster.client) as (source, reader):
        await cluster.apply(ingress("a", "later"))
        await reader.until(lambda store: store.get(has("Ingress", "a")) is not None)
        assert source.statistics().held == 0
        await cluster.apply(secret("later"))
        await reader.until(lambda store: secrets_of(store) == {"later": b"1"})
        await cluster.delete("Secret", "later")
        await reader.until(lambda store: secrets_of(store) == {})


async def test_a_secret_that_cannot_be_fetched_holds_nobody_for_long(
    plane: ControlPlane, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "HOLD", 0.3)
    await cluster.apply(secret("stuck"))
    async with FaultyServer(plane.administrator) as faulty:
        client = ApiClient(faulty.connection)
        async with watching(client) as (_, reader):
            faulty.intercept = lambda request: (
                web.Response(status=503) if request.path.endswith("/secrets/stuck") else None
            )
            await cluster.apply(ingress("a", "stuck"))
            await reader.until(lambda store: store.get(has("Ingress", "a")) is not None)
            assert secrets_of(reader.store) == {}
            faulty.intercept = lambda request: None
            await reader.until(lambda store: secrets_of(store) == {"stuck": b"1"})
        await client.close()


async def test_a_secret_that_a_server_refuses_while_it_starts_is_fetched_later(
    plane: ControlPlane, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(material_module, "DENIALS", 1)
    await cluster.apply(secret("late"))
    stuck = resource_path("", "v1", "secrets", "shop", "late")
    answers = {stuck: 403, "/readyz": 500}
    async with FaultyServer(plane.administrator) as faulty:
        client = ApiClient(faulty.connection)
        async with watching(client) as (_, reader):
            faulty.intercept = lambda request: (
                web.Response(status=answers[request.path]) if request.path in answers else None
            )
            await cluster.apply(ingress("a", "late"))
            async with asyncio.timeout(TIMEOUT):
                while faulty.paths().count(stuck) < 4:  # noqa: ASYNC110 - it is asked now and then
                    await asyncio.sleep(0.02)
            answers.clear()
            await reader.until(lambda store: secrets_of(store) == {"late": b"1"})
            assert not forbidden(reader.store)
        await client.close()


NAMED_ONLY = """
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: narrow}, rules: [
  {apiGroups: ["", discovery.k8s.io, networking.k8s.io, gateway.networking.k8s.io, portway.dev],
   resources: [namespaces, services, configmaps, endpointslices, ingresses, ingressclasses, gatewayclasses, gateways,
               listenersets, httproutes, grpcroutes, tlsroutes, tcproutes, udproutes, referencegrants,
               backendtlspolicies, backends, upstreampolicies, fleetparameters], verbs: [list, watch]},
  {apiGroups: [""], resources: [secrets], resourceNames: [mine], verbs: [get, list, watch]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: narrow},
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: narrow},
  subjects: [{kind: User, name: narrow, apiGroup: rbac.authorization.k8s.io}]}
"""


async def test_without_a_right_to_all_secrets_each_has_a_watch(plane: ControlPlane, cluster: Cluster) -> None:
    plane.kubectl("apply", "-f", "-", stdin=NAMED_ONLY)
    await cluster.apply(secret("mine") + secret("theirs") + ingress("a", "mine") + ingress("b", "theirs"))
    client = client_of(plane.user("narrow"))
    async with watching(client) as (source, reader):
        assert secrets_of(reader.store) == {"mine": b"1"}
        (finding,) = forbidden(reader.store)
        assert finding.verdict.problem.startswith("Secret shop/theirs cannot be read: ")
        assert 'resources: ["secrets"], verbs: ["list", "watch"]' in finding.verdict.remedy
        assert 'resourceNames: ["theirs"]' in finding.verdict.remedy
        await cluster.apply(secret("mine", "2"))
        await reader.until(lambda store: secrets_of(store) == {"mine": b"2"})
        await cluster.delete("Ingress", "a")
        await reader.until(lambda store: secrets_of(store) == {})
        assert forbidden(reader.store) == [finding]
        # Nobody wants to read it any more.
        await cluster.delete("Ingress", "b")
        await reader.until(lambda store: not forbidden(store))
        assert source.forbidden() == frozenset()
        await cluster.apply(ingress("b", "theirs"))
        await reader.until(lambda store: forbidden(store) == [finding])
    await client.close()


async def test_a_secret_that_may_be_listed_and_not_fetched_is_named_for_as_long_as_it_is_so(
    plane: ControlPlane, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(material_module, "DENIALS", 1)
    plane.kubectl(
        *("apply", "-f", "-"),
        stdin=NAMED_ONLY.replace("narrow", "lister").replace("resourceNames: [mine], verbs: [get, ", "verbs: ["),
    )
    await cluster.apply(secret("one") + secret("two"))
    client = client_of(plane.user("lister"))
    async with watching(client) as (source, reader):
        await cluster.apply(ingress("a", "one") + ingress("b", "two"))
        await reader.until(lambda store: len(forbidden(store)) == 2)
        assert {str(one) for one in source.forbidden()} == {"Secret shop/one", "Secret shop/two"}
        await cluster.apply(secret("one", "2"))
        await reader.until(lambda store: secrets_of(store) == {"one": b"2"} and len(forbidden(store)) == 1)
        await cluster.delete("Ingress", "b")
        await reader.until(lambda store: not forbidden(store))
        assert source.forbidden() == frozenset()
    await client.close()


async def test_a_kind_that_may_not_be_read_is_named_and_the_rest_works(plane: ControlPlane, cluster: Cluster) -> None:
    plane.kubectl("apply", "-f", "-", stdin=NAMED_ONLY.replace("ingresses, ", "").replace("narrow", "narrower"))
    await cluster.apply("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}")
    await cluster.apply(ingress("a"))
    client = client_of(plane.user("narrower"))
    async with watching(client) as (source, reader):
        assert reader.store.get(has("Service", "web")) is not None
        (finding,) = forbidden(reader.store)
        assert finding.verdict.problem.startswith("Ingress cannot be read: ")
        assert 'resources: ["ingresses"]' in finding.verdict.remedy
        assert source.statistics().synced
        assert source.has_read("Service")
        assert not source.has_read("Ingress")
        plane.kubectl("create", "clusterrole", "late", "--verb=list,watch", "--resource=ingresses.networking.k8s.io")
        plane.kubectl("create", "clusterrolebinding", "late", "--clusterrole=late", "--user=narrower")
        await reader.until(lambda store: store.get(has("Ingress", "a")) is not None)
        await reader.until(lambda store: not forbidden(store))
        assert source.has_read("Ingress")
    await client.close()


async def test_where_nobody_looks_nothing_is_known_to_be_absent(cluster: Cluster) -> None:
    async with watching(cluster.client, namespaces=["shop"]) as (source, _):
        assert source.has_read("Ingress")
        assert source.has_read("Ingress", "shop")
        assert not source.has_read("Ingress", "default")
        assert source.has_read("IngressClass")


async def test_a_right_that_comes_a_moment_after_the_start_is_waited_for(plane: ControlPlane, cluster: Cluster) -> None:
    """As when an image is rolled out before its ClusterRole: no world without that kind is told."""
    await cluster.apply(ingress("a"))
    path = resource_path("networking.k8s.io", "v1", "ingresses")
    async with FaultyServer(plane.administrator) as faulty:
        faulty.intercept = lambda request: web.Response(status=403) if request.path == path else None
        client = ApiClient(faulty.connection)
        async with watching(client, doubt=TIMEOUT, synced=False) as (source, reader):
            await reader.until(lambda store: bool(forbidden(store)))
            assert not source.statistics().synced
            faulty.intercept = lambda request: None
            await reader.synced()
            assert reader.store.get(has("Ingress", "a")) is not None
            assert not forbidden(reader.store)
        await client.close()


async def test_a_right_to_secrets_that_comes_a_moment_after_the_start_is_waited_for(
    plane: ControlPlane, cluster: Cluster
) -> None:
    await cluster.apply(secret("one") + ingress("a", "one"))
    path = resource_path("", "v1", "secrets")
    async with FaultyServer(plane.administrator) as faulty:

        def once(request: web.Request) -> web.Response | None:
            return web.Response(status=403) if request.path == path and faulty.paths().count(path) == 1 else None

        faulty.intercept = once
        client = ApiClient(faulty.connection)
        async with watching(client, doubt=TIMEOUT) as (_, reader):
            assert faulty.paths().count(path) > 1
            assert secrets_of(reader.store) == {"one": b"1"}
            assert not forbidden(reader.store)
            assert not faulty.paths(fieldSelector="metadata.name=one"), "none has a watch of its own"
        await client.close()


async def test_a_right_to_all_secrets_that_comes_late_takes_over_from_the_watches_of_each(
    plane: ControlPlane, cluster: Cluster
) -> None:
    await cluster.apply(secret("one") + secret("two") + secret("three"))
    await cluster.apply(ingress("a", "one", "two") + ingress("b", "three"))
    path = resource_path("", "v1", "secrets")

    def may_not(request: web.Request) -> web.Response | None:
        is_third = request.query.get("fieldSelector") == "metadata.name=three"
        return web.Response(status=403) if is_third or (request.path == path and not may_read_all) else None

    may_read_all = False
    async with FaultyServer(plane.administrator) as faulty:
        faulty.intercept = may_not
        client = ApiClient(faulty.connection)
        async with watching(client, doubt=0.0) as (_, reader):
            assert secrets_of(reader.store) == {"one": b"1", "two": b"1"}
            assert [one.verdict.problem.partition(" cannot")[0] for one in forbidden(reader.store)] == [
                "Secret shop/three"
            ]
            reader.seen.clear()
            may_read_all = True
            await reader.until(lambda store: "three" in secrets_of(store) and not forbidden(store))
            assert secrets_of(reader.store) == {"one": b"1", "two": b"1", "three": b"1"}
            await cluster.apply(secret("one", "2") + ingress("c", "new") + secret("new"))
            await reader.until(lambda store: secrets_of(store).get("one") == b"2" and "new" in secrets_of(store))
            assert not any(change.removed for change in reader.seen)
            await cluster.delete("Secret", "one")
            await reader.until(lambda store: "one" not in secrets_of(store))
        await client.close()


async def test_kinds_that_the_cluster_does_not_have_keep_nobody_waiting(cluster: Cluster) -> None:
    async with watching(cluster.client) as (source, reader):
        assert {"Backend", "UpstreamPolicy"} <= set(source.statistics().missing)
        assert "HTTPRoute" not in source.statistics().missing
        said = [one.verdict for one in reader.store.findings()]
        assert all(verdict.reason == "KindMissing" and verdict.severity == "info" for verdict in said)


async def test_a_label_selector_leaves_out_what_routes_elsewhere(cluster: Cluster) -> None:
    await cluster.apply(ingress("ours", labels="{team: a}") + ingress("theirs", labels="{team: b}"))
    await cluster.apply("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}")
    async with watching(cluster.client, label_selector="team=a") as (_, reader):
        assert reader.store.keys("Ingress") == {has("Ingress", "ours")}
        assert has("Service", "web") in reader.store.keys("Service")
        await cluster.apply(ingress("ours", labels="{team: b}"))
        await reader.until(lambda store: not store.keys("Ingress"))


async def test_generations_are_told(cluster: Cluster) -> None:
    await cluster.apply(ingress("a", service="one"))
    async with watching(cluster.client) as (_, reader):
        stored = reader.store.get(has("Ingress", "a"))
        assert stored is not None
        assert stored.generation == 1
        await cluster.apply(ingress("a", service="two"))
        await reader.until(
            lambda store: (found := store.get(has("Ingress", "a"))) is not None and found.generation == 2
        )


async def test_nothing_is_synced_before_the_server_answers(
    plane: ControlPlane, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "TELL_AFTER", 2)
    await cluster.apply(ingress("a"))
    async with FaultyServer(plane.administrator) as faulty:
        faulty.intercept = lambda request: web.Response(status=500, text="no")
        client = ApiClient(faulty.connection)
        async with watching(client, synced=False) as (source, reader):
            await reader.until(lambda store: bool(unreachable(store)))
            assert not source.statistics().synced
            assert "500" in source.statistics().error
            faulty.intercept = lambda request: None
            await reader.synced()
            assert reader.store.get(has("Ingress", "a")) is not None
            await reader.until(lambda store: not unreachable(store))
        await client.close()


async def test_a_kind_that_it_waits_for_is_named_with_the_last_error(
    plane: ControlPlane, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "TELL_AFTER", 2)
    services = resource_path("", "v1", "services")
    async with FaultyServer(plane.administrator) as faulty:
        faulty.intercept = lambda request: web.Response(status=500, text="no") if request.path == services else None
        client = ApiClient(faulty.connection)
        async with watching(client, synced=False) as (source, reader):
            assert len(source.awaited()) > 1
            await reader.until(lambda store: bool(unreachable(store)))
            assert unreachable(reader.store)[0].startswith("Service cannot be followed: ")
            await until(lambda: len(source.awaited()) == 1)
            (waiting,) = source.awaited()
            assert waiting.name == "Service"
            assert f"{services}: 500: no" in waiting.error
            faulty.intercept = lambda request: None
            await reader.synced()
            assert not source.awaited()
            await reader.until(lambda store: not unreachable(store))
        await client.close()


async def test_a_secret_that_it_waits_for_alone_is_named_too(plane: ControlPlane, cluster: Cluster) -> None:
    await cluster.apply(secret("good") + secret("bad") + ingress("a", "good", "bad"))
    every = resource_path("", "v1", "secrets")

    def fail(request: web.Request) -> web.Response | None:
        is_bad = request.query.get("fieldSelector") == "metadata.name=bad"
        if is_bad and is_broken:
            return web.Response(status=500, text="no")
        return web.Response(status=403) if request.path == every else None

    is_broken = True
    async with FaultyServer(plane.administrator) as faulty, asyncio.TaskGroup() as tasks:
        faulty.intercept = fail
        client = ApiClient(faulty.connection)
        async with watching(client, doubt=0.0, synced=False) as (source, reader):
            going_on = tasks.create_task(reader.synced())
            await until(lambda: [one.name for one in source.awaited()] == ["Secret shop/bad"])
            await until(lambda: "500: no" in source.awaited()[0].error)
            is_broken = False
            await going_on
            assert set(secrets_of(reader.store)) == {"good", "bad"}
            assert not source.awaited()
        await client.close()


async def test_an_outage_deletes_nothing_and_is_told_and_taken_back(
    plane: ControlPlane, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "TELL_AFTER", 2)
    await cluster.apply(ingress("a") + secret("s") + ingress("b", "s"))
    async with watching(cluster.client) as (_, reader):
        before = {kind: reader.store.keys(kind) for kind in ("Ingress", "Secret", "Namespace")}
        await plane.kill(Component.API_SERVER)
        await reader.until(lambda store: bool(unreachable(store)))
        await plane.restart(Component.API_SERVER)
        await reader.until(lambda store: not unreachable(store))
        assert {kind: reader.store.keys(kind) for kind in before} == before
        assert not any(change.removed for change in reader.seen)


async def test_it_is_cut_off_when_nothing_can_be_read_any_more(plane: ControlPlane, cluster: Cluster) -> None:
    async with FaultyServer(plane.administrator) as faulty:
        client = ApiClient(faulty.connection)
        async with watching(client) as (source, _):

            def failing() -> set[str]:
                return {one.path for one in source.statistics().collections if one.state is State.FAILING}

            assert not source.is_cut_off, "kinds that the cluster does not have are nothing that fails"
            services = resource_path("", "v1", "services")
            faulty.intercept = lambda request: web.Response(status=500) if request.path == services else None
            faulty.cut()
            await until(lambda: failing() == {services})
            assert not source.is_cut_off, "one kind is a matter of its own"
            faulty.intercept = lambda request: web.Response(status=500)
            faulty.cut()
            await until(lambda: source.is_cut_off)
            faulty.intercept = lambda request: None
            await until(lambda: not source.is_cut_off)
        await client.close()


async def test_after_an_outage_no_kind_waits_longer_than_another(
    plane: ControlPlane, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Backoff] = []

    def make(chance: Callable[[], float]) -> Backoff:
        made.append(Backoff(chance=chance))
        return made[-1]

    monkeypatch.setattr(reflector_module, "Backoff", make)
    async with FaultyServer(plane.administrator) as faulty:
        client = ApiClient(faulty.connection)
        async with watching(client) as (source, reader):
            for patient in made[1:]:  # waits for longer than any test
                monkeypatch.setattr(patient, "_first", 600.0)
                monkeypatch.setattr(patient, "_longest", 600.0)
            faulty.intercept = lambda request: web.Response(status=500)
            faulty.cut()
            await until(lambda: source.is_cut_off and made[0].failures > 1)
            await cluster.apply(ingress("a") + service_manifest("b"))
            faulty.intercept = lambda request: None
            await reader.until(lambda store: has("Ingress", "a") in store.keys("Ingress"))
            assert has("Service", "b") in reader.store.keys("Service")
            await until(lambda: source.is_current)
        await client.close()


async def test_what_kinds_bring_after_an_outage_is_handed_out_together(
    plane: ControlPlane, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A route that is read before its Service would be answered with 500."""
    services = resource_path("", "v1", "services")
    async with FaultyServer(plane.administrator) as faulty, asyncio.TaskGroup() as tasks:
        client = ApiClient(faulty.connection)
        async with watching(client) as (source, reader):

            async def outage(*, seconds: float) -> None:
                monkeypatch.setattr(recovery_module, "GATHER", seconds)
                faulty.intercept = lambda request: web.Response(status=500)
                faulty.cut()
                await until(lambda: source.is_cut_off)
                faulty.intercept = lambda request: web.Response(status=500) if request.path == services else None

            def states() -> dict[str, State]:
                return {one.path: one.state for one in source.statistics().collections}

            await outage(seconds=600)
            await cluster.apply(ingress("a") + service_manifest("a"))
            step = tasks.create_task(reader.step())
            await until(lambda: [path for path, state in states().items() if state is State.FAILING] == [services])
            await asyncio.sleep(0.3)
            assert not step.done()
            faulty.intercept = lambda request: None
            await step
            await reader.until(lambda store: has("Ingress", "a") in store.keys("Ingress"))
            assert has("Service", "a") in reader.store.keys("Service")

            await outage(seconds=0.5)
            await cluster.apply(ingress("b"))
            await reader.until(lambda store: has("Ingress", "b") in store.keys("Ingress"))
            assert states()[services] is State.FAILING, "who fails alone holds the others for a moment only"
        await client.close()


async def test_objects_that_make_no_sense_to_us_are_refused_alone(plane: ControlPlane, cluster: Cluster) -> None:
    """An object that was stored under the rules of an older CRD."""
    await cluster.apply(ingress("good") + ingress("old"))

    def spoil(line: bytes) -> list[bytes]:
        return [line.replace(b'"number":80', b'"number":-1') if b'"name":"old"' in line else line]

    async with FaultyServer(plane.administrator) as faulty:
        client = ApiClient(faulty.connection)
        async with watching(client) as (_, reader):
            faulty.edit = spoil
            await cluster.apply(ingress("old", service="new"))
            await reader.until(lambda store: any(one.verdict.object.name == "old" for one in store.findings()))
            assert reader.store.keys("Ingress") == {has("Ingress", "good"), has("Ingress", "old")}
            stays = [one.verdict for one in reader.store.findings() if one.verdict.reason == "LastGood"]
            assert [verdict.object for verdict in stays] == [has("Ingress", "old")]
            faulty.edit = lambda line: (line,)
            await cluster.apply(ingress("old", service="newer"))
            await reader.until(lambda store: not any(one.verdict.object.name == "old" for one in store.findings()))
        faulty.edit = spoil
        async with watching(client) as (_, reader):
            assert reader.store.keys("Ingress") == {has("Ingress", "good")}
        await client.close()


async def test_a_namespace_that_is_deleted_takes_its_objects_along(cluster: Cluster) -> None:
    body = b'{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"doomed"}}'
    path = resource_path("", "v1", "namespaces", "", "doomed")
    await cluster.client.apply(path, body, manager="test")
    service = b'{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"ports":[{"port":80}]}}'
    await cluster.client.create(resource_path("", "v1", "services", "doomed"), service)
    async with watching(cluster.client) as (_, reader):
        assert ObjectKey("Service", "doomed", "web") in reader.store.keys("Service")
        await cluster.client.delete(path)
        await reader.until(lambda store: ObjectKey("Namespace", "", "doomed") not in store.keys("Namespace"))
        assert ObjectKey("Service", "doomed", "web") not in reader.store.keys("Service")


async def test_a_burst_is_few_change_sets(cluster: Cluster) -> None:
    async with watching(cluster.client) as (source, reader):
        before = source.statistics().change_sets
        await asyncio.gather(*(cluster.apply(ingress(f"burst-{number}")) for number in range(60)))
        await reader.until(lambda store: len(store.keys("Ingress")) == 60)
        assert source.statistics().change_sets - before < 60
