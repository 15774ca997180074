"""Whether somebody wants a fleet, from what an API server has of its owner."""

from collections.abc import Mapping

import msgspec
import pytest

from portway.infra.kubernetes.owners import Owners
from portway.kubernetes.errors import ApiError
from portway.model.edge import Edge

GROUP = "/apis/gateway.networking.k8s.io"
GATEWAY, CLASS = f"{GROUP}/v1/namespaces/shop/gateways", f"{GROUP}/v1/gatewayclasses"
OLD_GATEWAY, OLD_CLASS = (path.replace("v1", "v1beta1") for path in (GATEWAY, CLASS))
INGRESS_CLASS = "/apis/networking.k8s.io/v1/ingressclasses"
OURS, THEIRS = "portway.dev/gateway-controller", "example.com/gateway-controller"
INGRESS_OURS, INGRESS_THEIRS = "portway.dev/ingress-controller", "k8s.io/ingress-nginx"
WEB = "gateway/shop/web"
OF_EDGE = {"web": {"gatewayClassName": "edge", "listeners": "of no kind that we know"}}


Collections = Mapping[str, Mapping[str, object]]
"""By path; `spec` of the objects by name."""


class Server:
    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    async def get(self, path: str, params: Mapping[str, str]) -> bytes:
        if path not in self._collections:
            raise ApiError("list", path, 404, "", "404 page not found")
        found = self._collections[path]
        items = [{"spec": spec} for name, spec in found.items() if params == {"fieldSelector": f"metadata.name={name}"}]
        return msgspec.json.encode({"items": items})


CASES: Mapping[str, tuple[str, Collections, bool]] = {
    "ours": (WEB, {GATEWAY: OF_EDGE, CLASS: {"edge": {"controllerName": OURS}}}, True),
    "of a class of somebody else": (WEB, {GATEWAY: OF_EDGE, CLASS: {"edge": {"controllerName": THEIRS}}}, False),
    "of a class that is not there": (WEB, {GATEWAY: OF_EDGE, CLASS: {"other": {"controllerName": OURS}}}, False),
    "another Gateway": (WEB, {GATEWAY: {"other": {"gatewayClassName": "edge"}}}, False),
    "older definitions": (WEB, {OLD_GATEWAY: OF_EDGE, OLD_CLASS: {"edge": {"controllerName": OURS}}}, True),
    "an IngressClass": ("ingress/pub", {INGRESS_CLASS: {"pub": {"controller": INGRESS_OURS}}}, True),
    "somebody else's IngressClass": ("ingress/pub", {INGRESS_CLASS: {"pub": {"controller": INGRESS_THEIRS}}}, False),
    "nobody's IngressClass": ("ingress/pub", {INGRESS_CLASS: {"pub": {}}}, False),
    "no IngressClass": ("ingress/pub", {INGRESS_CLASS: {}}, False),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_fleet_is_wanted_by_an_owner_that_is_there_and_ours(case: str) -> None:
    fleet, collections, wanted = CASES[case]
    assert await Owners(Server(collections), Edge()).want(fleet) is wanted


async def test_every_class_is_ours_where_all_are() -> None:
    there = {GATEWAY: OF_EDGE, INGRESS_CLASS: {"pub": {"controller": INGRESS_THEIRS}}}
    owners = Owners(Server(there), Edge(all_classes=True))
    assert [await owners.want(fleet) for fleet in (WEB, "ingress/pub", "ingress/none")] == [True, True, False]


async def test_a_kind_that_is_not_served_says_nothing_of_its_objects() -> None:
    """While an API server starts, it has no path of a CustomResourceDefinition."""
    with pytest.raises(ApiError):
        await Owners(Server({CLASS: {}}), Edge()).want(WEB)


async def test_an_answer_that_is_no_list_says_nothing() -> None:
    class LoadBalancer:
        async def get(self, path: str, params: Mapping[str, str]) -> bytes:
            return b"{}"

    with pytest.raises(msgspec.MsgspecError):
        await Owners(LoadBalancer(), Edge()).want(WEB)
