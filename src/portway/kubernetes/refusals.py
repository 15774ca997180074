"""What it means that an API server refuses a collection: its answer alone does not tell.

A server that starts knows neither its rules nor all its kinds, and refuses everything; nothing that it says then is
believed, however often. Where it says that it is ready, it means what it says. Where we may not ask it that, its
refusals are counted.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from portway.kubernetes.client import ApiClient
from portway.kubernetes.errors import ApiError, ApiUnreachable
from portway.kubernetes.paths import target_of
from portway.kubernetes.watch_lines import MALFORMED, resources_of

DENIALS: Final = 5
"""Refusals in a row, some seconds, that are believed of a server that does not tell us whether it is ready."""
_DOES_NOT_TELL: Final = (401, 403, 404)
"""Answers of servers that keep their readiness to themselves."""


class Refusal(StrEnum):
    """What one means."""

    ABSENT = "absent"
    """There is nothing at this path; whether the kind is gone, `is_gone` asks."""
    DENIED = "denied"
    """The rules do not let us read it, and the server is sure of them."""
    EXPIRED = "expired"
    """The version that was to be gone on from is too old."""
    BROKEN = "broken"
    """This kind alone does not work, such as by a webhook that converts it; the server is well."""
    OUTAGE = "outage"
    """The server is away, starts, or has too much to do."""


async def refusal_of(client: ApiClient, error: ApiError, *, failures: int) -> Refusal:
    """What an answer means; the server is asked what it does not say.

    Args:
        failures: in a row, before this one.
    """
    match error.status:
        case 404:
            return Refusal.ABSENT
        case 403:
            is_ready = await _is_ready(client)
            return Refusal.DENIED if is_ready or (is_ready is None and failures >= DENIALS) else Refusal.OUTAGE
        case 410:
            return Refusal.EXPIRED
        case 500 if failures >= DENIALS and await _is_ready(client):
            return Refusal.BROKEN
    return Refusal.OUTAGE


async def is_gone(client: ApiClient, paths: Iterable[str]) -> bool:
    """Whether the server is ready, and its discovery knows the kind in none of its versions.

    Args:
        paths: of the collection, one for each version.
    """
    if not await _is_ready(client):
        return False
    try:
        for path in paths:
            if await _is_discovered(client, path):
                return False
    except (ApiError, ApiUnreachable):
        return False
    return True


async def _is_ready(client: ApiClient) -> bool | None:
    """What the server says of itself; `None`: it does not tell us."""
    try:
        await client.get("/readyz")
    except ApiError as error:
        return None if error.status in _DOES_NOT_TELL else False
    except ApiUnreachable:
        return False
    return True


async def _is_discovered(client: ApiClient, path: str) -> bool:
    target = target_of(path)
    root = f"/apis/{target.group}/{target.version}" if target.group else f"/api/{target.version}"
    try:
        return target.resource in resources_of(await client.get(root))
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    except MALFORMED:
        return True
