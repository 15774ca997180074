"""Tokens and the authorities' Secret, as a real API server judges them. Portway has its own user with few rights."""

import asyncio
import base64
import datetime as dt
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
import pytest_asyncio

from portway.identity.authorities import Authority, make_authority
from portway.identity.certificates import make_key, make_request
from portway.identity.issuer import Issuer, Owner
from portway.identity.keeper import AuthorityKeeper
from portway.identity.messages import CertificateRequest, Place
from portway.identity.places import Places
from portway.identity.tokens import Bearer, TokenRefused, TokenReviewer
from portway.kubernetes.client import ApiClient, ApiError, connect
from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

WORLD = """
{apiVersion: v1, kind: Namespace, metadata: {name: portway}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: portway-public, namespace: shop}}
---
{apiVersion: v1, kind: Node, metadata: {name: node-1, labels: {topology.kubernetes.io/zone: zone-a,
  topology.kubernetes.io/region: region-1}}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: portway-identity},
  rules: [{apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create]},
    {apiGroups: [""], resources: [nodes], verbs: [list, watch]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: portway-identity},
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: portway-identity},
  subjects: [{kind: User, name: portway, apiGroup: rbac.authorization.k8s.io}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: portway-ca, namespace: portway},
  rules: [{apiGroups: [""], resources: [secrets], verbs: [create]},
    {apiGroups: [""], resources: [secrets], resourceNames: [portway-ca], verbs: [get, update]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: portway-ca, namespace: portway},
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: portway-ca},
  subjects: [{kind: User, name: portway, apiGroup: rbac.authorization.k8s.io}]}
"""

POD = """
{apiVersion: v1, kind: Pod, metadata: {name: NAME, namespace: shop}, spec: {serviceAccountName: portway-public,
  nodeName: node-1, containers: [{name: proxy, image: portway}]}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(tmp_path_factory.mktemp("identity")) as plane:
        async with Api(plane.administrator) as api:
            await api.apply(WORLD)
        yield plane


@pytest_asyncio.fixture(loop_scope="module")
async def client(plane: ControlPlane) -> AsyncIterator[ApiClient]:
    client = ApiClient(await connect(str(plane.write_kubeconfig(plane.user("portway"), "portway"))))
    yield client
    await client.close()


class _Metadata(msgspec.Struct):
    uid: str = ""


class _Pod(msgspec.Struct):
    metadata: _Metadata


class _Status(msgspec.Struct):
    token: str


class _TokenRequest(msgspec.Struct):
    status: _Status


async def token_of(
    plane: ControlPlane, pod: str, audiences: Sequence[str] = ("portway",), *, bound: bool = True
) -> str:
    """A token as the kubelet asks for it on behalf of a projected volume. The pod is made if need be."""
    async with Api(plane.administrator) as api:
        await api.apply(POD.replace("NAME", pod))
        made = await api.get(f"/api/v1/namespaces/shop/pods/{pod}", _Pod)
        spec: dict[str, object] = {"audiences": list(audiences), "expirationSeconds": 3600}
        if bound:
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": made.metadata.uid}
        path = "/api/v1/namespaces/shop/serviceaccounts/portway-public/token"
        return msgspec.json.decode(
            await api.request("POST", path, msgspec.json.encode({"spec": spec})), type=_TokenRequest
        ).status.token


async def test_a_bound_token_says_which_pod_on_which_node(plane: ControlPlane, client: ApiClient) -> None:
    bearer = await TokenReviewer(client).review(await token_of(plane, "public-1"))
    assert msgspec.structs.replace(bearer, pod_uid="") == Bearer(
        namespace="shop", service_account="portway-public", pod="public-1", node="node-1"
    )
    assert bearer.pod_uid


async def test_a_proxy_is_told_the_zone_of_its_node(plane: ControlPlane, client: ApiClient) -> None:
    """By its token alone, whatever it says of its Node; as its manifests have no zone before Kubernetes 1.35."""
    owner = Owner(namespace="shop", service_account="portway-public")
    issuer = Issuer(TokenReviewer(client), {"gateway/shop/public": owner}.get, Places(client).of)
    issuer.use((make_authority(dt.datetime.now(dt.UTC)),))
    wanted = CertificateRequest(
        request=make_request(make_key()).decode(), fleet="gateway/shop/public", node_name="another"
    )
    issued = await issuer.issue(await token_of(plane, "public-1"), wanted)
    assert (issued.zone, issued.region) == ("zone-a", "region-1")
    assert await Places(client).of("nobody") == Place()


async def test_a_token_for_the_api_server_is_refused(plane: ControlPlane, client: ApiClient) -> None:
    """By us, from what it says of itself, and by the API server, if it is asked all the same."""
    token = await token_of(plane, "public-1", ["https://kubernetes.default.svc.cluster.local"])
    reviewer = TokenReviewer(client)
    with pytest.raises(TokenRefused, match="not for portway"):
        await reviewer.review(token)
    reviewer._look = lambda token: None  # type: ignore[method-assign]  # what the API server itself says
    with pytest.raises(TokenRefused, match=r"the API server refuses the token: .*audience"):
        await reviewer.review(token)


async def test_a_token_without_a_pod_is_refused(plane: ControlPlane, client: ApiClient) -> None:
    with pytest.raises(TokenRefused, match="shop/portway-public is bound to no pod"):
        await TokenReviewer(client).review(await token_of(plane, "public-1", bound=False))


async def test_a_forged_token_is_refused(plane: ControlPlane, client: ApiClient) -> None:
    """One that says of itself that it is another ServiceAccount's, and one whose signature is damaged."""
    header, payload, signature = (await token_of(plane, "public-1")).split(".")
    claims = base64.urlsafe_b64decode(payload + "==").replace(b"portway-public", b"portway-vaults")
    forged = base64.urlsafe_b64encode(claims).decode().rstrip("=")
    for token in (f"{header}.{forged}.{signature}", f"{header}.{payload}.{signature[:-8]}AAAAAAAA"):
        with pytest.raises(TokenRefused, match="the API server refuses the token"):
            await TokenReviewer(client).review(token)


async def test_a_token_ends_with_its_pod(plane: ControlPlane, client: ApiClient) -> None:
    token = await token_of(plane, "public-2")
    await TokenReviewer(client).review(token)
    async with Api(plane.administrator) as api:
        await api.delete("/api/v1/namespaces/shop/pods/public-2", grace_s=0)
    async with asyncio.timeout(60):  # the API server remembers what it judged a moment ago for some seconds
        while True:
            try:
                await TokenReviewer(client).review(token)
            except TokenRefused:
                return
            await asyncio.sleep(0.5)


async def test_an_expired_token_is_refused(plane: ControlPlane, client: ApiClient) -> None:
    """Its shortest life is ten minutes, so our clock goes ahead."""
    token = await token_of(plane, "public-1")
    later = TokenReviewer(client, clock=lambda: dt.datetime.now(dt.UTC) + dt.timedelta(hours=2))
    with pytest.raises(TokenRefused, match="expired"):
        await later.review(token)


async def test_replicas_that_start_together_agree_on_the_authorities(plane: ControlPlane, client: ApiClient) -> None:
    told: list[tuple[Authority, ...]] = []
    keepers = [AuthorityKeeper(client, "portway", told.append) for _ in range(4)]
    await asyncio.gather(*(keeper.look() for keeper in keepers))
    assert len(told) == 4
    assert told[0] == told[1] == told[2] == told[3]


async def test_one_of_several_replaces_them(plane: ControlPlane, client: ApiClient) -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=400)
    told: list[tuple[Authority, ...]] = []
    keepers = [AuthorityKeeper(client, "portway", told.append, clock=lambda: later) for _ in range(4)]
    await asyncio.gather(*(keeper.look() for keeper in keepers))
    assert len(told[0]) == 2
    assert told[0] == told[1] == told[2] == told[3]


async def test_it_cannot_do_more_than_that(plane: ControlPlane, client: ApiClient) -> None:
    with pytest.raises(ApiError, match="403"):
        await client.get("/api/v1/namespaces/shop/secrets")
