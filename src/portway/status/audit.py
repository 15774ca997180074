"""All objects of a kind as they stand, page by page."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final, NamedTuple, Protocol

import msgspec

from portway.kubernetes.paths import resource_path
from portway.objects.kinds import Kind
from portway.objects.verdict import ObjectKey
from portway.status.raw import Raw, as_map, as_text

PAGE: Final = 100
"""Objects a request: some 300 KB of routes, which take a few milliseconds to take apart."""


class Reading(Protocol):
    async def get(self, path: str, params: Mapping[str, str] = ..., /) -> bytes: ...


class Listed(NamedTuple):
    key: ObjectKey
    raw: Raw
    """The whole object; without `apiVersion` and `kind`, as lists have it."""


class _ListMeta(msgspec.Struct, frozen=True, rename={"next": "continue"}):
    next: str = ""


class _Page(msgspec.Struct, frozen=True):
    items: list[msgspec.Raw]
    metadata: _ListMeta = _ListMeta()


_PAGE: Final = msgspec.json.Decoder(_Page)


async def list_objects(api: Reading, kind: Kind, namespace: str = "") -> AsyncIterator[Listed]:
    """Every object of a kind.

    Args:
        namespace: empty: all of them at once.

    Raises:
        ApiError, ApiUnreachable: also in the middle, such as 410 when a listing takes too long.
    """
    path = resource_path(kind.group, kind.versions[0], kind.plural, namespace)
    next_ = ""
    while True:
        params = {"limit": str(PAGE), **({"continue": next_} if next_ else {})}
        page = _PAGE.decode(await api.get(path, params))
        for item in page.items:
            raw = msgspec.json.decode(item, type=dict[str, object])
            metadata = as_map(raw.get("metadata"))
            yield Listed(ObjectKey(kind.name, as_text(metadata.get("namespace")), as_text(metadata.get("name"))), raw)
        next_ = page.metadata.next
        if not next_:
            return
        await asyncio.sleep(0)
