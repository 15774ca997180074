"""Whether the owner of a fleet wants it, by the word of the API server itself.

What we have read may be of before: a watch hangs after it told of a deletion, a process was stopped while somebody made
the class anew. So before a fleet goes its owner is looked for once more, and the class of a Gateway.

Not looked for are Ingresses that name a class which nobody declared: there may be thousands.
"""

from collections.abc import Mapping
from typing import Protocol, final

import msgspec

from portway.kubernetes.errors import ApiError
from portway.kubernetes.paths import resource_path
from portway.model.edge import Edge
from portway.model.fleet import owner_of
from portway.objects.kinds import KINDS
from portway.objects.verdict import ObjectKey


class Lister(Protocol):
    """What is needed of `portway.kubernetes.client.ApiClient`."""

    async def get(self, path: str, params: Mapping[str, str], /) -> bytes: ...


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    """What makes an owner ours, of any of the kinds; an object that we would refuse has it, too."""

    gateway_class_name: str = ""
    """Of a Gateway."""
    controller_name: str = ""
    """Of a GatewayClass."""
    controller: str = ""
    """Of an IngressClass."""


class _Object(msgspec.Struct, frozen=True):
    spec: _Spec = _Spec()


class _List(msgspec.Struct, frozen=True):
    items: tuple[_Object, ...]
    """No default: what is no list says nothing of what there is."""


@final
class Owners:
    """Gateways and IngressClasses, as they are now."""

    def __init__(self, client: Lister, edge: Edge) -> None:
        self._client = client
        self._edge = edge

    async def want(self, fleet: str) -> bool:
        """Whether the owner of a fleet is there, and ours. One that was made anew is the same to its clients.

        Raises:
            ApiError, ApiUnreachable, msgspec.MsgspecError: nobody knows.
        """
        owner = owner_of(fleet)
        found = None if owner is None else await self._find(owner)
        if owner is None or found is None:
            return False
        if self._edge.all_classes:
            return True
        if owner.kind == "IngressClass":
            return found.controller == self._edge.controller_class
        of_class = await self._find(ObjectKey("GatewayClass", "", found.gateway_class_name))
        return of_class is not None and of_class.controller_name == self._edge.gateway_controller

    async def _find(self, key: ObjectKey) -> _Spec | None:
        """Not by its name: all that is needed so is the right to list, which our source has."""
        kind = KINDS[key.kind]
        collections = [resource_path(kind.group, each, kind.plural, key.namespace) for each in kind.versions]
        for path in collections:
            try:
                answer = await self._client.get(path, {"fieldSelector": f"metadata.name={key.name}"})
            except ApiError as error:
                if error.status != 404 or path == collections[-1]:
                    raise
                continue  # not in this version
            items = msgspec.json.decode(answer, type=_List).items
            return items[0].spec if items else None
        return None
