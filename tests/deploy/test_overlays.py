"""Every way to install applies to a real API server, gives the rights it should, and leaves nothing when it goes."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import pytest
import yaml

from tests.cluster.api import Api, documents
from tests.cluster.control_plane import ControlPlane, run_kubectl, wait_established
from tests.deploy.kustomizations import OPERATOR_KINDS, kustomization
from tests.kubernetes.planes import running_plane
from tools.access import IN_A_CLUSTER
from tools.make_manifests import DEPLOY

pytestmark = pytest.mark.cluster

SYSTEM: Final = "portway-system"
SHOP: Final = "shop"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    for plane in running_plane(tmp_path_factory.mktemp("overlays"), "standard"):
        asyncio.run(_prepare(plane))
        yield plane


async def _prepare(plane: ControlPlane) -> None:
    async with Api(plane.administrator) as api:
        await api.apply(OPERATOR_KINDS)
        for name in (SHOP, SYSTEM):
            await api.apply(f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}")
        await api.apply(documents(sorted((DEPLOY / "crds").glob("*s.yaml"))))
        await wait_established(api)


@contextlib.contextmanager
def installed(plane: ControlPlane, folder: Path) -> Iterator[None]:
    """Apply a kustomization, delete it again."""
    try:
        plane.kubectl("apply", "--server-side", f"--kustomize={folder}")
        yield
    finally:
        plane.kubectl("delete", "--ignore-not-found", "--timeout=60s", f"--kustomize={folder}")


@contextlib.contextmanager
def allowed_by(plane: ControlPlane, folder: Path) -> Iterator[None]:
    """The roles of a kustomization for a while; without the rest, since the end of a namespace takes ten seconds."""
    built = [one for one in yaml.safe_load_all(plane.kubectl("kustomize", str(folder))) if one["kind"] in RIGHTS]
    text = yaml.safe_dump_all(built)
    try:
        plane.kubectl("apply", "--server-side", "--filename=-", stdin=text)
        yield
    finally:
        plane.kubectl("delete", "--ignore-not-found", "--filename=-", stdin=text)


def left(plane: ControlPlane) -> set[str]:
    """What of Portway is there, of all that its manifests may hold; but its definitions."""
    kinds = (
        "namespaces,clusterroles,clusterrolebindings,gatewayclasses,ingressclasses,roles,rolebindings,"
        "serviceaccounts,secrets,configmaps,services,deployments,poddisruptionbudgets,networkpolicies,leases"
    )
    found = plane.kubectl("get", kinds, "--all-namespaces", "--output=name", "--ignore-not-found")
    return {line for line in found.split() if "portway" in line}


RIGHTS: Final = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
WAYS: Final = ("base", "host-network", "nginx-adoption", "outside")
COMPONENTS: Final = tuple(sorted(path.name for path in (DEPLOY / "components").iterdir()))


class May(NamedTuple):
    """Whether Portway may do something."""

    verb: str
    resource: str
    namespace: str = ""
    """Empty: everywhere, or of no namespace."""
    name: str = ""


ALWAYS: Final = (
    May("watch", "gatewayclasses.gateway.networking.k8s.io"),
    May("watch", "ingressclasses.networking.k8s.io"),
    May("watch", "namespaces"),
    May("watch", "services", SHOP),
    May("list", "httproutes.gateway.networking.k8s.io", SHOP),
    May("watch", "backends.portway.dev", SHOP),
    May("update", "leases.coordination.k8s.io", SYSTEM),
)
NEVER: Final = (
    May("create", "secrets", SYSTEM),
    May("update", "secrets", SHOP),
    May("delete", "secrets", SYSTEM, "portway-ca"),
    May("update", "secrets", SYSTEM, "other"),
    May("create", "pods", SYSTEM),
    May("create", "pods/exec", SHOP),
    May("update", "httproutes.gateway.networking.k8s.io", SHOP),
    May("update", "ingresses.networking.k8s.io", SHOP),
    May("update", "services/status", SHOP),
    May("patch", "gateways.gateway.networking.k8s.io/status", SHOP),
    May("create", "clusterrolebindings.rbac.authorization.k8s.io"),
    May("create", "rolebindings.rbac.authorization.k8s.io", SYSTEM),
    May("update", "leases.coordination.k8s.io", "kube-system"),
    May("create", "customresourcedefinitions.apiextensions.k8s.io"),
    May("list", "customresourcedefinitions.apiextensions.k8s.io"),
    May("update", "customresourcedefinitions.apiextensions.k8s.io", name="gateways.gateway.networking.k8s.io"),
    May("get", "nodes/proxy"),
    May("create", "serviceaccounts/token", SYSTEM),
)
SECRETS: Final = (May("watch", "secrets", "other"), May("get", "secrets", SHOP))
STATUS: Final = (
    May("update", "httproutes.gateway.networking.k8s.io/status", SHOP),
    May("patch", "httproutes.gateway.networking.k8s.io/status", SHOP),
    May("update", "gatewayclasses.gateway.networking.k8s.io/status"),
    May("get", "customresourcedefinitions.apiextensions.k8s.io", name="gateways.gateway.networking.k8s.io"),
    May("update", "ingresses.networking.k8s.io/status", SHOP),
    May("create", "events.events.k8s.io", SHOP),
)
FLEETS: Final = (
    May("patch", "deployments.apps", SHOP),
    May("create", "services", SHOP),
    May("delete", "horizontalpodautoscalers.autoscaling", SHOP),
    May("create", "tokenreviews.authentication.k8s.io"),
    May("update", "secrets", SYSTEM, "portway-ca"),
)
ELSEWHERE: Final = (
    May("watch", "services", "other"),
    May("watch", "secrets", "other"),
    May("patch", "deployments.apps", "other"),
)


class Variant(NamedTuple):
    """A way to install, and what it allows beside `ALWAYS`."""

    base: str
    components: Sequence[str] = ()
    namespaces: Sequence[str] = ()
    allowed: Sequence[May] = ()
    refused: Sequence[May] = ()


VARIANTS: Final = {
    "everything": Variant("base", allowed=(*SECRETS, *STATUS, *FLEETS, *ELSEWHERE)),
    "outside": Variant("outside", allowed=(*SECRETS, *STATUS), refused=FLEETS),
    "without status": Variant("base", ["without-status"], allowed=(*SECRETS, *FLEETS), refused=STATUS),
    "named Secrets": Variant("base", ["named-secrets"], allowed=(*STATUS, *FLEETS), refused=SECRETS),
    "some namespaces": Variant("base", ["namespaced"], [SHOP], (*STATUS, *FLEETS, SECRETS[1]), ELSEWHERE),
    "some namespaces, named Secrets": Variant(
        "base", ["namespaced", "named-secrets"], (), (May("patch", "deployments.apps", SYSTEM),), (*SECRETS, *ELSEWHERE)
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
async def test_rights_are_those_of_the_variant_and_no_others(plane: ControlPlane, tmp_path: Path, variant: str) -> None:
    base, components, namespaces, allowed, refused = VARIANTS[variant]
    folder = kustomization(tmp_path, base, components, namespaces)
    seen_here = ALWAYS if "namespaced" not in components or namespaces else [one for one in ALWAYS if one[2] != SHOP]
    with allowed_by(plane, folder):
        async with Api(plane.administrator) as api:
            answers = {one: await may(api, one) for one in (*seen_here, *NEVER, *allowed, *refused)}
    assert {one for one, yes in answers.items() if yes} == {*seen_here, *allowed}


async def may(api: Api, asked: May) -> bool:
    """What the API server says of Portway's ServiceAccount."""
    resource, _, rest = asked.resource.partition(".")
    resource, _, subresource = resource.partition("/")
    group, _, after = rest.partition("/")
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{SYSTEM}:portway",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}", "system:authenticated"],
            "resourceAttributes": {
                "verb": asked.verb,
                "group": group,
                "resource": resource,
                "subresource": subresource or after,
                "namespace": asked.namespace,
                "name": asked.name,
            },
        },
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    answer = msgspec.json.decode(await api.request("POST", path, msgspec.json.encode(review)))
    return bool(answer["status"]["allowed"])


@pytest.mark.parametrize("way", WAYS)
def test_way_applies_and_leaves_nothing(plane: ControlPlane, tmp_path: Path, way: str) -> None:
    with installed(plane, DEPLOY / way):
        assert "namespace/portway-system" in left(plane)
        if way == "base":
            _expect_a_restricted_pod(plane)
        if way == "outside":
            _expect_the_recipe_makes_a_kubeconfig(plane, tmp_path)
    assert left(plane) == set()


def _expect_a_restricted_pod(plane: ControlPlane) -> None:
    # As a pod it is refused where as a part of a Deployment it is only warned of.
    deployment = msgspec.json.decode(plane.kubectl("get", "deployment", "portway", "-n", SYSTEM, "-o", "json"))
    template = deployment["spec"]["template"]
    metadata = {**template["metadata"], "name": "portway", "namespace": SYSTEM}
    pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": metadata}
    plane.kubectl("create", "--dry-run=server", "--filename=-", stdin=msgspec.json.encode(pod).decode())


def _expect_the_recipe_makes_a_kubeconfig(plane: ControlPlane, folder: Path) -> None:
    page = (DEPLOY.parent / "docs" / "outside-the-cluster.md").read_text()
    recipe = page.partition("```sh\n")[2].partition("```")[0]
    secret = ("get", "secret", "portway-token", "-n", SYSTEM)
    plane.kubectl("wait", "--for=jsonpath={.data.token}", "--timeout=20s", *secret[1:])
    environment = {
        **os.environ,
        "KUBECONFIG": str(plane.kubeconfig),
        "PATH": f"{plane.programs}:{os.environ['PATH']}",
        "HOME": str(folder),
    }
    subprocess.run(["sh", "-eu", "-c", recipe], cwd=folder, env=environment, check=True, capture_output=True)
    made = folder / "portway.kubeconfig"
    assert made.stat().st_mode & 0o077 == 0
    kubectl = plane.programs / "kubectl"
    assert run_kubectl(kubectl, made, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}") == (
        f"system:serviceaccount:{SYSTEM}:portway"
    )
    run_kubectl(kubectl, made, "get", "services", "--all-namespaces")


def test_all_components_apply_together_and_leave_nothing(plane: ControlPlane, tmp_path: Path) -> None:
    folder = kustomization(tmp_path, components=COMPONENTS, environment={"PORTWAY_WATCH_NAMESPACE": f"{SYSTEM},{SHOP}"})
    with installed(plane, folder):
        assert {
            "networkpolicy.networking.k8s.io/portway",
            "clusterrole.rbac.authorization.k8s.io/portway-status",
        } <= left(plane)
        found = msgspec.json.decode(plane.kubectl("get", "deployment", "portway", "-n", SYSTEM, "-o", "json"))
        (container,) = found["spec"]["template"]["spec"]["containers"]
        environment = {one["name"]: one.get("value") for one in container["env"]}
        assert environment["PORTWAY_CONTROLLER_CLASS"] == "k8s.io/ingress-nginx"
        assert environment["PORTWAY_WRITE_STATUS"] == "false"
        assert environment["PORTWAY_WATCH_NAMESPACE"] == f"{SYSTEM},{SHOP}"
    assert left(plane) == set()


def test_each_role_of_the_table_is_bound() -> None:
    text = (DEPLOY / "base" / "access.yaml").read_text()
    assert all(f"name: {role.name}\nsubjects:" in text for role in IN_A_CLUSTER)
