"""Objects as an API server has them: plain data, of which only the status is ours to write, and not all of that.

Whatever is not as the API says counts as absent: it came from a server, so there is nobody to tell. But what is no
object at all came from something else that answers in its place.
"""

from collections.abc import Mapping
from typing import Final, cast

import msgspec

from portway.kubernetes.errors import ApiUnreachable
from portway.kubernetes.watch_lines import MALFORMED

Raw = Mapping[str, object]
"""A JSON object."""

NOTHING: Final[Raw] = {}


def decoded(path: str, body: bytes | msgspec.Raw) -> Raw:
    """The object in an answer.

    Args:
        path: that was asked for.

    Raises:
        ApiUnreachable: it is none, as from a proxy between that answers in HTML, with status 200 even.
    """
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except MALFORMED as error:
        raise ApiUnreachable(f"{path}: the answer is no object ({error}); is this an API server?") from None


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
