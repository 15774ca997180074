"""The image of proxies is that of our own pod."""

import msgspec
import pytest

from portway.infra.kubernetes.own_pod import find_own_image
from portway.kubernetes.backoff import Backoff
from portway.kubernetes.errors import ApiUnreachable

PODS = {
    "ours among others": ([("istio-proxy", "mesh:1"), ("portway", "portway@sha256:1")], "portway@sha256:1"),
    "under another name": ([("controller", "portway:2")], "portway:2"),
}


class Server:
    """An API server that is away at first."""

    def __init__(self, containers: list[tuple[str, str]], outages: int) -> None:
        self._body = msgspec.json.encode(
            {"spec": {"containers": [{"name": name, "image": image} for name, image in containers]}}
        )
        self.outages = outages
        self.asked: list[str] = []

    async def get(self, path: str) -> bytes:
        self.asked.append(path)
        if len(self.asked) <= self.outages:
            raise ApiUnreachable("away")
        return self._body


@pytest.mark.parametrize("name", PODS)
async def test_image_is_asked_for_until_it_is_known(name: str) -> None:
    containers, image = PODS[name]
    server = Server(containers, outages=2)
    assert await find_own_image(server, "portway-system", "portway-1", wait=Backoff(first=0.001)) == image
    assert server.asked == ["/api/v1/namespaces/portway-system/pods/portway-1"] * 3
