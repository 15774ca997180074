"""All annotations in one table: those that Portway honours and those that it only knows."""

from collections.abc import Mapping
from typing import Final, cast

from portway.translate.ingress.annotations import access, canary, paths, redirects, stickiness, unsupported, upstreams
from portway.translate.ingress.annotations.entry import Annotation, Unsupported

SUPPORTED: Final = cast(
    "tuple[Annotation[object], ...]",  # each entry's own type is between the entry and who reads it
    (*paths.TABLE, *redirects.TABLE, *upstreams.TABLE, *stickiness.TABLE, *canary.TABLE, *access.TABLE),
)
"""In the order of the reference page."""
BY_NAME: Final[Mapping[str, Annotation[object]]] = {
    **{entry.name: entry for entry in SUPPORTED},
    **{entry.alias: entry for entry in SUPPORTED if entry.alias},
}
"""Aliases included."""
UNSUPPORTED: Final[Mapping[str, Unsupported]] = {entry.name: entry for entry in unsupported.TABLE}
NAMES: Final = tuple(sorted((*BY_NAME, *UNSUPPORTED)))
