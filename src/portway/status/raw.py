"""Objects as an API server has them: plain data, of which only the status is ours to write, and not all of that.

Whatever is not as the API says counts as absent: it came from a server, so there is nobody to tell.
"""

from collections.abc import Mapping
from typing import Final, cast

Raw = Mapping[str, object]
"""A JSON object."""

NOTHING: Final[Raw] = {}


def as_map(value: object) -> Raw:
    """The JSON object, or an empty one."""
    return cast("Raw", value) if isinstance(value, dict) else NOTHING


def as_list(value: object) -> list[object]:
    """The JSON array, or an empty one."""
    return cast("list[object]", value) if isinstance(value, list) else []


def as_text(value: object) -> str:
    """The string, or an empty one."""
    return value if isinstance(value, str) else ""


def as_number(value: object) -> int:
    """The whole number, or 0."""
    return value if isinstance(value, int) else 0


def generation_of(current: Raw) -> int:
    """`metadata.generation`."""
    return as_number(as_map(current.get("metadata")).get("generation"))


def uid_of(current: Raw) -> str:
    """`metadata.uid`."""
    return as_text(as_map(current.get("metadata")).get("uid"))


def version_of(current: Raw) -> str:
    """`metadata.resourceVersion`."""
    return as_text(as_map(current.get("metadata")).get("resourceVersion"))
