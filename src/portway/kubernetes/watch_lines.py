"""What stands in the lines of a watch and the pages of a list: as much as following a collection needs.

Source: Kubernetes docs, "API Concepts", "Efficient detection of changes", "Streaming lists"; KEP-956 (bookmarks),
KEP-3157 (streaming lists).
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from portway.kubernetes.versions import Name, number_of

INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"
"""Annotation of the bookmark that ends a streaming list."""


class Envelope(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Metadata of an object as far as following it needs."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    annotations: Mapping[str, str] | None = None

    @property
    def key(self) -> Name:
        return Name(self.namespace, self.name)

    @property
    def version(self) -> int:
        return number_of(self.resource_version)


class _Enveloped(msgspec.Struct, frozen=True, gc=False):
    metadata: Envelope = Envelope()


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line of a watch."""

    type: str
    """ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""
    object: msgspec.Raw


class _ListMeta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Page(msgspec.Struct, frozen=True):
    """One page of a list; the items are the objects' own bytes."""

    metadata: _ListMeta = _ListMeta()
    items: list[msgspec.Raw] | None = None


class _Listed(msgspec.Struct, frozen=True):
    metadata: _ListMeta = _ListMeta()


class _Resource(msgspec.Struct, frozen=True):
    name: str


class _Resources(msgspec.Struct, frozen=True):
    resources: list[_Resource] = []


_LINES: Final = msgspec.json.Decoder(Line)
_ENVELOPES: Final = msgspec.json.Decoder(_Enveloped)
_PAGES: Final = msgspec.json.Decoder(Page)
_LISTED: Final = msgspec.json.Decoder(_Listed)
_RESOURCES: Final = msgspec.json.Decoder(_Resources)

MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError)
"""Raised by all functions here for what is no such JSON."""


def line_of(data: bytes) -> Line:
    return _LINES.decode(data)


def envelope_of(data: bytes | msgspec.Raw) -> Envelope:
    return _ENVELOPES.decode(data).metadata


def page_of(data: bytes) -> Page:
    return _PAGES.decode(data)


def list_version_of(data: bytes) -> str:
    """`metadata.resourceVersion` of a list."""
    return _LISTED.decode(data).metadata.resource_version


def resources_of(data: bytes) -> frozenset[str]:
    """Plurals in the discovery document of a group's version (`APIResourceList`)."""
    return frozenset(one.name for one in _RESOURCES.decode(data).resources)
