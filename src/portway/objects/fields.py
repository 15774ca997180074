"""Looks at the fields of structs, for what is derived from them once: readers, known names, plans of rules."""

from collections.abc import Mapping
from typing import cast

from msgspec import inspect

from portway.objects.meta import Part


def fields_of(struct: type[Part]) -> tuple[inspect.Field, ...]:
    """The fields of a struct, in its order."""
    return cast(inspect.StructType, inspect.type_info(struct)).fields


def bare(info: inspect.Type) -> tuple[inspect.Type, Mapping[str, object]]:
    """A field's type without `| None` and annotations, and the `extra` of the latter."""
    extra: Mapping[str, object] = {}
    while True:
        if isinstance(info, inspect.Metadata):
            extra = info.extra or extra
            info = info.type
        elif isinstance(info, inspect.UnionType) and len(info.types) == 2 and info.includes_none:
            info = next(option for option in info.types if not isinstance(option, inspect.NoneType))
        else:
            return info, extra


def struct_of(info: inspect.Type) -> tuple[type[Part] | None, bool]:
    """The struct that a field holds, and whether it holds a list of them; None if it holds no struct."""
    info, _ = bare(info)
    many = isinstance(info, inspect.VarTupleType)
    target = bare(info.item_type)[0] if isinstance(info, inspect.VarTupleType) else info
    return (cast(type[Part], target.cls) if isinstance(target, inspect.StructType) else None), many
