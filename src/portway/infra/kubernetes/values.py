"""Objects as plain data, on their way into JSON."""

from collections.abc import Mapping
from typing import cast

import msgspec

from portway.objects.meta import Part
from portway.objects.scalars import encode_hook

Data = Mapping[str, object]
"""An object or a part of one."""


def plain(part: Part | None) -> dict[str, object]:
    """A struct as plain data; what is at its default is left out."""
    if part is None:
        return {}
    return cast("dict[str, object]", msgspec.to_builtins(part, enc_hook=encode_hook))


def given(**fields: object) -> dict[str, object]:
    """The fields that are not `None`."""
    return {name: value for name, value in fields.items() if value is not None}
