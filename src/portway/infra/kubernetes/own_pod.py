"""The image that we run ourselves, which our proxies run, too: as the API server says of our own pod.

So one place names it, the manifest of the control plane, whatever changes it there: a registry of one's own, a digest,
`kubectl set image`.
"""

import asyncio
from typing import Final, Protocol

import msgspec
import structlog

from portway.kubernetes.backoff import Backoff
from portway.kubernetes.errors import ApiError, ApiUnreachable
from portway.kubernetes.paths import resource_path

CONTAINER: Final = "portway"
"""Ours in the pod, beside what others inject; if none is called so, the first."""
LONGEST: Final = 30.0
"""Seconds between two questions: somebody has to mend a right, or the API server is away."""

log = structlog.get_logger(__name__)


class Reader(Protocol):
    """What is needed of `portway.kubernetes.client.ApiClient`."""

    async def get(self, path: str) -> bytes: ...


class _Container(msgspec.Struct, frozen=True):
    name: str
    image: str


class _Spec(msgspec.Struct, frozen=True):
    containers: tuple[_Container, ...]


class _Pod(msgspec.Struct, frozen=True):
    spec: _Spec


async def find_own_image(client: Reader, namespace: str, pod: str, *, wait: Backoff | None = None) -> str:
    """The image of our own pod; asks until it is answered.

    Args:
        namespace, pod: where we run.
        wait: between two questions.
    """
    backoff = wait or Backoff(longest=LONGEST)
    told = ""
    while True:
        try:
            return _image_of(await client.get(resource_path("", "v1", "pods", namespace, pod)))
        except (ApiError, ApiUnreachable, msgspec.DecodeError) as error:
            if str(error) != told:
                told = str(error)
                log.warning("own image not known, so no proxies are made; --proxy-image says it", problem=told)
            await asyncio.sleep(backoff.failed(error if not isinstance(error, msgspec.DecodeError) else None))


def _image_of(body: bytes) -> str:
    containers = msgspec.json.decode(body, type=_Pod).spec.containers
    return next((one.image for one in containers if one.name == CONTAINER), containers[0].image)
