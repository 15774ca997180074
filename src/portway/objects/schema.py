"""Reads plain data against a struct's type and says all that does not fit.

msgspec stops at the first mistake and words it for programmers. So a document that it refuses is read once more here:
every mistake, with its path, the value and what is allowed instead. The bounds are those of the structs themselves
(`msgspec.inspect`), nothing is written twice.

Reading also cleans, as the API server does before it validates: a null counts as absent (structural schemas prune it),
keys that are numbers become strings (YAML to JSON). If nothing was wrong, what is left decodes.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol, cast

from msgspec import inspect

from portway.objects.leaves import UNSOUND, Extra, Report, leaf_check
from portway.objects.meta import Part
from portway.objects.problems import Path, is_text, shown

_SPREAD: Final = "remove some, or spread them over several objects"


class Reader(Protocol):
    """Reads values of one type."""

    def read(self, raw: object, path: Path, report: Report) -> object:
        """The cleaned value, or `UNSOUND` after telling `report` why."""

    def parts(self, value: object, path: Path) -> Iterator[tuple[type[Part], object, Path]]:
        """The structs that a cleaned value is or directly holds."""


def read(struct: type[Part], raw: object, report: Report) -> object:
    """Read a whole object.

    Args:
        struct: what it should be.
        raw: plain data.
        report: is told what is wrong.

    Returns:
        The cleaned data, which decodes as `struct`, or `UNSOUND`.
    """
    return reader_of(struct).read(raw, (), report)


@functools.cache
def reader_of(struct: type[Part]) -> "StructReader":
    """The reader of a struct, made once."""
    info = cast(inspect.StructType, inspect.type_info(struct))
    return StructReader(struct, info)


class StructReader:
    """Reads a mapping with known fields; unknown ones are left out, see `portway.objects.unknown`."""

    def __init__(self, struct: type[Part], info: inspect.StructType) -> None:
        self._struct = struct
        self._fields = tuple((field.encode_name, field.required, make_reader(field.type)) for field in info.fields)

    def read(self, raw: object, path: Path, report: Report) -> object:
        if not isinstance(raw, Mapping):
            return report.add(
                path, f"{shown(raw)} is not an object with fields", "write its fields as `name: value`, one per line"
            )
        values: dict[str, object] = {}
        missing = False
        for name, required, reader in self._fields:
            value = raw.get(name)
            if value is not None:
                values[name] = reader.read(value, (*path, name), report)
            elif required:
                missing = True
                report.add((*path, name), "is required, but not set", "set it")
        if not missing and UNSOUND not in values.values():
            return values
        for name, _, reader in self._fields:
            if values.get(name, UNSOUND) is not UNSOUND:
                report.sound.extend(reader.parts(values[name], (*path, name)))
        return UNSOUND

    def parts(self, value: object, path: Path) -> Iterator[tuple[type[Part], object, Path]]:
        yield self._struct, value, path


class ListReader:
    """Reads a list."""

    def __init__(self, item: Reader, info: inspect.VarTupleType) -> None:
        self._item = item
        self._least = info.min_length or 0
        self._most = info.max_length

    def read(self, raw: object, path: Path, report: Report) -> object:
        if not isinstance(raw, list | tuple):
            return report.add(path, f"{shown(raw)} is not a list", "write one entry per line, each after '- '")
        if self._most is not None and len(raw) > self._most:
            # The entries are not looked at: a list of a million mistakes would be a million verdicts.
            return report.add(path, f"has {len(raw)} entries, more than the {self._most} allowed", _SPREAD)
        values = [self._item.read(value, (*path, index), report) for index, value in enumerate(raw)]
        sound = UNSOUND not in values
        if len(raw) < self._least:
            sound = False
            report.add(path, f"has {len(raw)} entries, at least {self._least} needed", "add one")
        if sound:
            return values
        for index, value in enumerate(values):
            if value is not UNSOUND:
                report.sound.extend(self._item.parts(value, (*path, index)))
        return UNSOUND

    def parts(self, value: object, path: Path) -> Iterator[tuple[type[Part], object, Path]]:
        for index, item in enumerate(cast(list[object], value)):
            yield from self._item.parts(item, (*path, index))


class MapReader:
    """Reads a map of strings to values of one type."""

    def __init__(self, value: Reader, info: inspect.DictType, secret: bool) -> None:
        self._value = value
        self._most = info.max_length
        self._secret = secret

    def read(self, raw: object, path: Path, report: Report) -> object:
        if not isinstance(raw, Mapping):
            found = "the value" if self._secret else shown(raw)
            return report.add(path, f"{found} is not a map of names to values", "write `name: value`, one per line")
        if self._most is not None and len(raw) > self._most:
            return report.add(path, f"has {len(raw)} entries, more than the {self._most} allowed", _SPREAD)
        values: dict[str, object] = {}
        for key, value in raw.items():
            # As the conversion of YAML to JSON does: a key such as 8080 or true is a name all the same.
            name = key if isinstance(key, str) else shown(key)
            if not is_text(name):
                values[name] = report.add((*path, name), "has a name that is no Unicode text", "write it in UTF-8")
            elif value is not None:
                values[name] = self._value.read(value, (*path, name), report)
        return UNSOUND if UNSOUND in values.values() else values

    def parts(self, value: object, path: Path) -> Iterator[tuple[type[Part], object, Path]]:
        return iter(())


class LeafReader:
    """Reads a value without parts."""

    def __init__(self, check: Callable[[object, Path, Report], object]) -> None:
        self._check = check

    def read(self, raw: object, path: Path, report: Report) -> object:
        return self._check(raw, path, report)

    def parts(self, value: object, path: Path) -> Iterator[tuple[type[Part], object, Path]]:
        return iter(())


def make_reader(info: inspect.Type, extra: Extra = Extra()) -> Reader:  # noqa: B008 - frozen
    """Make the reader of a type.

    Args:
        info: the type.
        extra: what the annotations around it say besides bounds.

    Raises:
        NotImplementedError: a type that no object has so far; a mistake in a struct.
    """
    match info:
        case inspect.Metadata():
            return make_reader(info.type, extra.merged(info))
        case inspect.StructType():
            return reader_of(cast(type[Part], info.cls))
        case inspect.VarTupleType():
            return ListReader(make_reader(info.item_type), info)
        case inspect.DictType():
            return MapReader(make_reader(info.value_type, extra), info, extra.secret)
        case inspect.UnionType():
            # An optional value is read as the value itself: a null was left out before.
            options = tuple(option for option in info.types if not isinstance(option, inspect.NoneType))
            return make_reader(options[0], extra) if len(options) == 1 else LeafReader(leaf_check(info, extra))
        case _:
            return LeafReader(leaf_check(info, extra))
