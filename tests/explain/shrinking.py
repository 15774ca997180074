"""The least objects that still show something: what a person wants to read of a random configuration that failed."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from copy import deepcopy

from tests.explain.generated import Document

MOST_TRIALS = 40
"""Each trial starts an Envoy."""


async def smaller(
    documents: Sequence[Document], shows: Callable[[Sequence[Document]], Awaitable[bool]]
) -> Sequence[Document]:
    """Leave out what can be left out: objects first, then entries of lists and maps below `metadata.annotations` and
    `spec`."""
    least = list(documents)
    trials = 0
    progress = True
    while progress and trials < MOST_TRIALS:
        progress = False
        for candidate in _without_one(least):
            trials += 1
            if trials > MOST_TRIALS:
                break
            try:
                shown = await shows(candidate)
            except ValueError:
                continue  # what is left is no valid object
            if shown:
                least, progress = candidate, True
                break
    return least


def _without_one(documents: Sequence[Document]) -> Iterator[list[Document]]:
    for number, document in enumerate(documents):
        if document["kind"] not in ("IngressClass", "GatewayClass", "EndpointSlice"):
            yield [*documents[:number], *documents[number + 1 :]]
    for number, document in enumerate(documents):
        if document["kind"] in ("Ingress", "Gateway", "HTTPRoute", "GRPCRoute"):
            for changed in thinned(document):
                yield [*documents[:number], changed, *documents[number + 1 :]]


def thinned(document: Document) -> Iterator[Document]:
    """The object without one of its annotations, list entries or optional fields."""
    paths = list(_places(document["spec"], ("spec",)))
    metadata = document["metadata"]
    assert isinstance(metadata, dict)
    paths += [("metadata", "annotations", name) for name in metadata.get("annotations", {})]
    for path in paths:
        changed = deepcopy(document)
        holder: object = changed
        for step in path[:-1]:
            holder = holder[step]  # type: ignore[index]  # a path of this very document
        del holder[path[-1]]  # type: ignore[attr-defined]  # likewise
        yield changed


def _places(value: object, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    """Paths of list entries and optional keys, the larger things first."""
    if isinstance(value, list):
        for number in range(len(value)):
            if len(value) > 1:
                yield (*path, number)
        for number, entry in enumerate(value):
            yield from _places(entry, (*path, number))
    elif isinstance(value, dict):
        for key in value:
            if key in ("filters", "matches", "hostnames", "tls", "defaultBackend", "sectionName", "headers"):
                yield (*path, key)
        for key, entry in value.items():
            yield from _places(entry, (*path, key))
